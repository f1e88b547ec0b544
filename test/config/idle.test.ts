/** What a file asks for and does not get in the company it is in, is told. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.ts';

function warningsOf(pool: string, shards: number): string[] {
  const text = [
    '[general]\nhost = "h"\nport = 1\nadmin_username = "a"\nadmin_password = "b"\n[pools.db]',
    pool,
    '[pools.db.users.0]\nusername = "u"\npassword = "p"\npool_size = 1',
    ...Array.from(
      { length: shards },
      (_, n) => `[pools.db.shards.${n}]\ndatabase = "d"\nservers = [["h", 5432, "primary"]]`,
    ),
  ].join('\n');
  return parseConfig(text, 'f.toml', {}).warnings.map(line => line.replace(/^f\.toml:\d+:\d+: pools\.db\./, ''));
}

test('what needs the parser has no effect without it', () => {
  const pool = 'automatic_sharding_key = "data.id"\ndb_activity_based_routing = true';
  assert.deepEqual(warningsOf(pool, 2).sort(), [
    'automatic_sharding_key: has no effect without query_parser_enabled',
    'db_activity_based_routing: has no effect without query_parser_enabled',
  ]);
  assert.deepEqual(warningsOf(`query_parser_enabled = true\n${pool}`, 2), []);
  assert.deepEqual(warningsOf('db_activity_based_routing = false', 2), []);
});

test('what finds shards has no effect where there is one', () => {
  const pool = 'query_parser_enabled = true\nautomatic_sharding_key = "data.id"\nshard_id_regex = "(\\\\d+)"';
  assert.deepEqual(warningsOf(pool, 1).sort(), [
    'automatic_sharding_key: has no effect without a second shard',
    'shard_id_regex: has no effect without a second shard',
  ]);
  assert.deepEqual(warningsOf(pool, 2), []);
});

test('an auth_query that reads passwords and not their end is told of', () => {
  const who = 'auth_query_user = "u"\nauth_query_password = "p"\nauth_query = ';
  for (const query of [
    "SELECT usename, passwd FROM pg_shadow WHERE usename='$1'",
    'SELECT * FROM PG_AUTHID WHERE rolname = $1',
  ]) {
    const [warning, ...others] = warningsOf(`${who}"${query}"`, 1);
    assert.match(warning ?? '', /^auth_query: lets in users whose password has expired/);
    assert.deepEqual(others, []);
  }
  for (const query of [
    "SELECT * FROM lookup('$1')",
    'SELECT usename, CASE WHEN valuntil < now() THEN NULL ELSE passwd END FROM pg_shadow WHERE usename = $1',
    'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND rolvaliduntil > now()',
  ]) {
    assert.deepEqual(warningsOf(`${who}"${query}"`, 1), []);
  }
});
