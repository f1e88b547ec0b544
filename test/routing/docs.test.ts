/** docs/ROUTING.md lists the reason codes that the code has, and its sample is what EXPLAIN ROUTE says. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { routingPage } from '../../docs/routing.ts';
import { explainText, parseConfig } from '../../src/index.ts';
import { ROUTE_REASONS, SHARD_REASONS } from '../../src/routing/route.ts';
import { EFFECT, REASONS } from '../../src/sql/statement.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/ROUTING.md'), 'utf8');

test('the page is what npm run docs writes', () => assert.equal(page, routingPage()));

test('the page has the codes of each table in their order, with their words, and no others', () => {
  const [, ...tables] = page.split('| Code | Meaning |\n| --- | --- |\n');
  const listed = tables.map(text => {
    const [rows = ''] = text.split('\n\n');
    return [...rows.matchAll(/^\| `(\w+)` \| (.+) \|$/gm)].map(([, code, words]) => [code, words]);
  });
  const [reasons, roles, shards, effects] = listed;
  assert.equal(listed.length, 4);
  assert.deepEqual(reasons, Object.entries(REASONS));
  assert.deepEqual(roles, Object.entries(ROUTE_REASONS));
  assert.deepEqual(shards, Object.entries(SHARD_REASONS));
  assert.deepEqual(
    effects.map(([code]) => code),
    Object.keys(EFFECT),
  );
  for (const [code, words] of listed.flat()) assert.ok(words.length > 3, code);
});

const SHARD = `database = "db"
servers = [["10.0.0.1", 5432, "primary"], ["10.0.0.2", 5432, "replica"]]`;

/** The database of the sample. */
const CONFIG = `
[general]
admin_username = "admin"
admin_password = "secret"
[pools.db]
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = false
automatic_sharding_key = "data.id"
[pools.db.users.0]
username = "alice"
password = "secret"
pool_size = 5
${[0, 1, 2].map(shard => `[pools.db.shards.${shard}]\n${SHARD}`).join('\n')}`;

test('the sample is what EXPLAIN ROUTE says', async () => {
  const [, statement = '', answer = ''] = /\n=> EXPLAIN ROUTE (.*)\n([^`]*)```/.exec(page) ?? [];
  const sample = answer
    .trimEnd()
    .split('\n')
    .map(line => /^ (.*?) +\| (.*)$/.exec(line)?.slice(1) ?? [line]);
  const said = await explainText(parseConfig(CONFIG, 'pgcat.toml', {}), statement, {});
  const told = (rows: readonly (readonly string[])[]) => rows.filter(([name]) => name !== 'server');
  const servers = (rows: readonly (readonly string[])[]) =>
    rows.filter(([name]) => name === 'server').map(([, words = '']) => words.replace(/: .*/, ''));
  assert.ok(sample.length > 10, page);
  assert.deepEqual(told(sample), told(said));
  // How busy they are is not known here.
  assert.deepEqual(servers(sample), servers(said));
});
