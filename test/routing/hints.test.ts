/** The commands that stand in SQL's place: every spelling they have, and nothing that merely looks like one. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type Hint, mayBeHint, parseHint } from '../../src/routing/hints.ts';
import { CORPUS } from '../sql/corpus.ts';

/** Reads a text that lies between others, as in a client's message; the quick look must not hide what is a command. */
function read(text: string): Hint | undefined {
  const bytes = Buffer.from(`'${text}'`);
  const hint = parseHint(bytes, 1, bytes.length - 1);
  if (hint !== undefined) assert.ok(mayBeHint(bytes, 1, bytes.length - 1), text);
  return hint;
}

const short = (text: string) => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);

const SPELLINGS: readonly (readonly [string, Hint])[] = [
  ["SET SERVER ROLE TO 'primary'", { command: 'set_server_role', value: 'primary' }],
  [" SET SERVER ROLE TO 'replica';   ", { command: 'set_server_role', value: 'replica' }],
  ["set server role to 'ANY'  ;  ", { command: 'set_server_role', value: 'any' }],
  ['Set Server Role To auto', { command: 'set_server_role', value: 'auto' }],
  ["set server role to 'deFaUlt'", { command: 'set_server_role', value: 'default' }],
  ['set server role = primary', { command: 'set_server_role', value: 'primary' }],
  ['SHOW SERVER ROLE', { command: 'show_server_role' }],
  ['  show server role ; ', { command: 'show_server_role' }],
  ["SET PRIMARY READS TO 'on'", { command: 'set_primary_reads', value: 'on' }],
  ['set primary reads to OFF', { command: 'set_primary_reads', value: 'off' }],
  ["set primary reads to 'deFaUlt'", { command: 'set_primary_reads', value: 'default' }],
  ['SHOW PRIMARY READS;', { command: 'show_primary_reads' }],
  ['\n\tSET  SERVER\nROLE TO primary', { command: 'set_server_role', value: 'primary' }],
  ["SET SHARDING KEY TO '1'", { command: 'set_sharding_key', value: '1' }],
  ['  SET SHARDING KEY TO 11235  ; ', { command: 'set_sharding_key', value: '11235' }],
  ['set sharding key to -5', { command: 'set_sharding_key', value: '-5' }],
  ['set sharding key to\n-- a comment\n-5--b', { command: 'set_sharding_key', value: '-5' }],
  ['set sharding key=99999999999999999999', { command: 'set_sharding_key', value: '99999999999999999999' }],
  [
    "set sharding key to 'it''s \"é\"; /* no -- comment'",
    { command: 'set_sharding_key', value: 'it\'s "é"; /* no -- comment' },
  ],
  ['set sharding key to "a ""b"""', { command: 'set_sharding_key', value: 'a "b"' }],
  ["set sharding key to ''", { command: 'set_sharding_key', value: '' }],
  ["SET SHARD TO '1'", { command: 'set_shard', value: 1 }],
  ['set shard to 007', { command: 'set_shard', value: 7 }],
  ['SET SHARD TO any', { command: 'set_shard', value: 'any' }],
  ["set shard to 'ANY'", { command: 'set_shard', value: 'any' }],
  ['set shard to default', { command: 'set_shard', value: 'default' }],
  ['SHOW SHARD', { command: 'show_shard' }],
  ['SHOW/**/SHARD;;', { command: 'show_shard' }],
  ['-- lead\r\n/* a /* nested */ one */ SHOW SHARD -- tail', { command: 'show_shard' }],
  ['explain route select 1', { command: 'explain_route', from: 15 }],
  ['EXPLAIN ROUTE', { command: 'explain_route', from: 14 }],
  ['EXPLAIN ROUTE -- nothing\n ;', { command: 'explain_route', from: 15 }],
  ['EXPLAIN/**/ROUTE \n /* pglynx: shard=1 */ x', { command: 'explain_route', from: 20 }],
  ['EXPLAIN ROUTE(SELECT 1)', { command: 'explain_route', from: 14 }],
  [`EXPLAIN ROUTE SELECT '${'x'.repeat(10_000)}'`, { command: 'explain_route', from: 15 }],
];

for (const [text, hint] of SPELLINGS) {
  test(`${short(text)} is a command`, () => assert.deepEqual(read(text), hint));
}

const shard = 'SET SHARD TO takes the number of a shard, ANY or DEFAULT';
const key = 'SET SHARDING KEY TO takes a whole number, or any text in quotes';
const role = 'SET SERVER ROLE TO takes primary, replica, any, auto or default';

const INVALID: readonly (readonly [string, string])[] = [
  ["SET SERVER ROLE TO 'nobody'", `${role}, not "nobody"`],
  ['SET SERVER ROLE TO', role],
  ['SET SERVER ROLE', role],
  ['SET SERVER ROLE primary', role],
  ["SET SERVER ROLE TO 'primary'; SELECT 1", `${role}, and nothing may follow`],
  ['SET SERVER ROLE TO primary, replica', `${role}, not "primary,"`],
  ['SET PRIMARY READS TO maybe', 'SET PRIMARY READS TO takes on, off or default, not "maybe"'],
  ['SET SHARD TO x', `${shard}, not "x"`],
  ['SET SHARD TO é', `${shard}, not "é"`],
  ['SET SHARD TO -1', `${shard}, not "-1"`],
  ['SET SHARD TO 1.0', `${shard}, not "1.0"`],
  ["SET SHARD TO ''", `${shard}, not ""`],
  ["SET SHARD TO '1", shard],
  ["SET SHARD TO 1'", `${shard}, and nothing may follow`],
  ['SET SHARD TO 1 2', `${shard}, and nothing may follow`],
  ['SET SHARD TO 1 /* open', `${shard}, and nothing may follow`],
  ['SET SHARD TO 99999999999999999999', `${shard}, not "99999999999999999999"`],
  [`SET SHARD TO ${'x'.repeat(100)}`, `${shard}, not "${'x'.repeat(60)}..."`],
  [`SET SHARD TO 1${' '.repeat(5_000)}`, `${shard}, and nothing may follow`],
  [`SET SHARD TO 1 /*${' '.repeat(5_000)}*/`, `${shard}, and nothing may follow`],
  ['SET SHARDING KEY TO abc', `${key}, not "abc"`],
  ['SET SHARDING KEY TO 1.5', `${key}, not "1.5"`],
  ['SET SHARDING KEY TO - 5', `${key}, not "-"`],
  ["SET SHARDING KEY TO E'a'", `${key}, not "E"`],
  ['SHOW SHARD 1', 'nothing may follow SHOW SHARD'],
  ['SHOW SERVER ROLE; SELECT 1', 'nothing may follow SHOW SERVER ROLE'],
];

for (const [text, message] of INVALID) {
  test(`${short(text)} is refused in words`, () => assert.deepEqual(read(text), { command: 'invalid', message }));
}

test('a key that is no UTF-8, or has a NUL, is refused', () => {
  for (const byte of [0xff, 0xe9, 0]) {
    const bytes = Buffer.from([...Buffer.from("SET SHARDING KEY TO 'a"), byte, 0x27]);
    assert.deepEqual(parseHint(bytes, 0, bytes.length), { command: 'invalid', message: key });
  }
});

const OTHERS = [
  '',
  ' ',
  's',
  'set',
  'SET SHARDING',
  'SET SHARDS TO 1',
  'SET SHARD_ID TO 1',
  'SETSHARD TO 1',
  'SET shard.setting TO 1',
  'SET shard . setting TO 1',
  'SET "shard" TO 1',
  'SET SESSION shard TO 1',
  'SHOW shard.setting',
  'SHOW shard_something',
  'SHOW server_version',
  'SHOW SERVER ROLES',
  'SHOW SERVER',
  'SHOW ALL',
  'SET role TO primary',
  'SET search_path TO server',
  "SET primary_reads TO 'on'",
  "SELECT 'SET SERVER ROLE TO primary'",
  '-- SET SERVER ROLE TO primary',
  '/* SET SHARD TO 1 */',
  '/* open SET SHARD TO 1',
  'EXPLAIN SELECT 1',
  'EXPLAIN (ANALYZE) SELECT route FROM routes',
  'EXPLAIN routes',
  'EXPLAINROUTE SELECT 1',
  'EXECUTE route',
  '; SHOW SHARD',
  '\0SHOW SHARD',
  `${' '.repeat(5_000)}SHOW SHARD`,
  `/*${' '.repeat(5_000)}*/SHOW SHARD`,
  `SET ${' '.repeat(5_000)}SHARD TO 1`,
];

for (const text of OTHERS) {
  test(`${short(text)} is not a command`, () => assert.equal(read(text), undefined));
}

test('no statement of the corpus is a command, but the one that is', () => {
  const found = CORPUS.filter(({ sql }) => read(sql) !== undefined).map(({ sql }) => sql);
  assert.deepEqual(found, ['SHOW SERVER ROLE']);
});

suite('the quick look', () => {
  test('passes over all that begins otherwise', () => {
    for (const text of [
      'SELECT 1',
      'INSERT INTO t VALUES (1)',
      'BEGIN',
      'EXECUTE p',
      'sexy',
      '-',
      '/ *',
      '',
      ' ',
      's',
    ]) {
      const bytes = Buffer.from(`${text}\0\0`);
      assert.equal(mayBeHint(bytes, 0, text.length), false, text);
    }
  });

  test('never reads past the end of its text', () => {
    const bytes = Buffer.from('SHOW SHARD; SET SHARD TO 1-- /**/');
    for (let end = 0; end < 10; end++) assert.equal(parseHint(bytes, 0, end), undefined);
    for (const end of [10, 11]) assert.deepEqual(parseHint(bytes, 0, end), { command: 'show_shard' });
    assert.deepEqual(parseHint(bytes, 12, 26), { command: 'set_shard', value: 1 });
    assert.deepEqual(parseHint(bytes, 12, 27), { command: 'invalid', message: `${shard}, not "1-"` });
  });
});

suite('properties', () => {
  const blank = fc.constantFrom(
    ' ',
    '\t',
    '\n',
    '\r\n',
    '\f',
    '  ',
    '/**/',
    '/* a; */',
    "-- it's\n",
    '/* x /* y */ */',
  );
  const blanks = fc.array(blank, { minLength: 1, maxLength: 4 }).map(list => list.join(''));
  const maybe = fc.array(blank, { maxLength: 4 }).map(list => list.join(''));
  const cased = (word: string) =>
    fc
      .array(fc.boolean(), { minLength: word.length, maxLength: word.length })
      .map(upper => [...word].map((letter, n) => (upper[n] ? letter.toUpperCase() : letter)).join(''));
  const quoted = (value: string) => [value, `'${value}'`, `"${value}"`];
  const spelt = (words: readonly string[], values: readonly string[]) =>
    fc
      .tuple(
        fc.tuple(...words.map(word => fc.tuple(cased(word), blanks))),
        values.length === 0 ? fc.constant('') : fc.oneof(...values.flatMap(quoted).map(cased)),
        maybe,
        fc.tuple(maybe, fc.constantFrom('', ';', ' ; ', ';\n;'), maybe),
      )
      .map(([head, value, lead, tail]) => lead + head.flat().join('') + value + tail.join(''));

  const COMMANDS: readonly (readonly [string, readonly string[], (hint: Hint | undefined) => boolean])[] = [
    [
      'set server role to',
      ['primary', 'replica', 'any', 'auto', 'default'],
      hint => hint?.command === 'set_server_role',
    ],
    ['set primary reads to', ['on', 'off', 'default'], hint => hint?.command === 'set_primary_reads'],
    ['set shard to', ['0', '12', 'any'], hint => hint?.command === 'set_shard'],
    ['set sharding key to', ['1', '-7', '11235'], hint => hint?.command === 'set_sharding_key'],
    ['show shard', [], hint => hint?.command === 'show_shard'],
    ['show server role', [], hint => hint?.command === 'show_server_role'],
    ['show primary reads', [], hint => hint?.command === 'show_primary_reads'],
  ];

  for (const [words, values, isIt] of COMMANDS) {
    test(`any spelling of ${words} is that command`, () => {
      fc.assert(fc.property(spelt(words.split(' '), values), text => isIt(read(text))));
    });
  }

  test('any text in quotes is a key as it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), value => {
        fc.pre(!value.includes('\0'));
        assert.deepEqual(read(`SET SHARDING KEY TO '${value.replaceAll("'", "''")}'`), {
          command: 'set_sharding_key',
          value: Buffer.from(value).toString(),
        });
      }),
    );
  });

  test('any bytes are read without a fault, and what is a command passes the quick look', () => {
    const piece = fc.constantFrom(
      'set',
      'show',
      'shard',
      'explain',
      'route',
      ' ',
      '\n',
      '--',
      '/*',
      '*/',
      "'",
      '"',
      ';',
      '1',
      '=',
    );
    const text = fc.oneof(
      fc.array(piece).map(list => Buffer.from(list.join(''))),
      fc.uint8Array().map(Buffer.from),
    );
    fc.assert(
      fc.property(text, bytes => {
        if (parseHint(bytes, 0, bytes.length) !== undefined) assert.ok(mayBeHint(bytes, 0, bytes.length));
      }),
      { numRuns: 2_000 },
    );
  });
});
