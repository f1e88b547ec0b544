/** PgCat's routing commands: every spelling it takes, and nothing that merely looks like one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayBeHint, parseHint } from '../../src/routing/hints.ts';

const SPELLINGS = [
  ["SET SERVER ROLE TO 'primary'", { command: 'set_server_role', value: 'primary' }],
  [" SET SERVER ROLE TO 'replica';   ", { command: 'set_server_role', value: 'replica' }],
  ["set server role to 'ANY'  ;  ", { command: 'set_server_role', value: 'any' }],
  ['Set Server Role To auto', { command: 'set_server_role', value: 'auto' }],
  ["set server role to 'deFaUlt'", { command: 'set_server_role', value: 'default' }],
  ['SHOW SERVER ROLE', { command: 'show_server_role' }],
  ['  show server role ; ', { command: 'show_server_role' }],
  ["SET PRIMARY READS TO 'on'", { command: 'set_primary_reads', value: 'on' }],
  ['set primary reads to OFF', { command: 'set_primary_reads', value: 'off' }],
  ["set primary reads to 'deFaUlt'", { command: 'set_primary_reads', value: 'default' }],
  ['SHOW PRIMARY READS;', { command: 'show_primary_reads' }],
  ['\n\tSET  SERVER\nROLE TO primary', { command: 'set_server_role', value: 'primary' }],
] as const;

for (const [text, hint] of SPELLINGS) {
  test(`${JSON.stringify(text)} is a command`, () => {
    assert.deepEqual(parseHint(text), hint);
    const bytes = Buffer.from(text);
    assert.ok(mayBeHint(bytes, 0, bytes.length));
  });
}

const OTHERS = [
  "SET SERVER ROLE TO 'nobody'",
  'SET SERVER ROLE',
  "SELECT 'SET SERVER ROLE TO primary'",
  "SET SERVER ROLE TO 'primary'; SELECT 1",
  '-- SET SERVER ROLE TO primary',
  'SET search_path TO server',
  'SHOW server_version',
  'SHOW SERVER ROLES',
  `SET SERVER ROLE TO ${' '.repeat(500)}'primary'`,
  '',
];

for (const text of OTHERS) {
  test(`${JSON.stringify(text.slice(0, 60))} is not a command`, () => assert.equal(parseHint(text), undefined));
}

test('only texts that begin with SET or SHOW are looked at closely', () => {
  for (const text of ['SELECT 1', 'INSERT INTO t VALUES (1)', '', ' ', 's', 'se', 'BEGIN']) {
    const bytes = Buffer.from(text);
    assert.equal(mayBeHint(bytes, 0, bytes.length), false, text);
  }
});
