/** Whole files: what loads, what it means, and what it warns of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { UNBUILT } from '../../src/config/unbuilt.ts';
import { afterLine, load, SMALL } from './files.ts';

const fixture = (name: string) => `${import.meta.dirname}/../fixtures/${name}`;

test('the file of 2022 loads as it stands', () => {
  const path = fixture('seed-pgcat.toml');
  const { config, warnings } = loadConfig(path, {});
  assert.equal(config.general.port, 6432);
  assert.equal(config.general.autoreload, undefined);
  const pool = config.pools.sharded_db;
  assert.equal(pool?.automatic_sharding_key, '*.id');
  assert.deepEqual(
    Object.values(pool?.users ?? {}).map(user => [user.username, user.pool_size, user.statement_timeout]),
    [
      ['sharding_user', 9, 0],
      ['other_user', 21, 15000],
    ],
  );
  assert.deepEqual(pool?.shards['2']?.servers[1], { host: 'localhost', port: 5433, role: 'replica', weight: 1 });
  assert.deepEqual(warnings, []);
});

test("a file in the style of PgCat's own, with every key, loads", () => {
  const { config } = loadConfig(fixture('full-pgcat.toml'), {});
  assert.equal(config.general.admin_auth_type, 'md5');
  assert.equal(config.general.autoreload, 20000);
  assert.deepEqual(config.plugins?.intercept?.queries['0']?.result, [[`\${DATABASE}`, '{public}']]);
  const pool = config.pools.sharded_db;
  assert.equal(pool?.load_balancing_mode, 'loc');
  assert.equal(pool?.sharding_function, 'sha1');
  assert.equal(pool?.automatic_sharding_key, 'data.id');
  assert.equal(pool?.users['0']?.pool_mode, 'session');
  assert.deepEqual(pool?.shards['0']?.mirrors, [{ host: 'localhost', port: 5435, mirroring_target_index: 0 }]);
  assert.deepEqual(pool?.shards['1']?.servers, [{ host: '::1', port: 5432, role: 'primary', weight: 1 }]);
});

test('every key that is not built warns once, by name and line, and no other key does', () => {
  const path = fixture('full-pgcat.toml');
  const warned = loadConfig(path, {}).warnings.map(line => {
    const [, number, key, message] = /^.*full-pgcat\.toml:(\d+):\d+: ([\w.]+): (.*)$/.exec(line) ?? [];
    assert.ok(Number(number) > 0 && message !== undefined, line);
    return key ?? '';
  });
  const expected = [...UNBUILT.keys()]
    .map(key => key.replace('pools.', 'pools.sharded_db.').replace('shards.', 'pools.sharded_db.shards.0.'))
    .filter(key => !key.includes('tls_c') && !key.includes('tls_p') && !key.includes('_file'));
  expected.push('pool.sharded_db.plugins', 'pools.simple_db.plugins.query_logger');
  assert.deepEqual(warned.toSorted(), expected.toSorted());
});

test('keys that are not built and ask for nothing give no warning', () => {
  const general = ['worker_threads = 4'];
  general.push('dns_cache_enabled = false', 'dns_max_ttl = 5', 'server_tls = false', 'tcp_keepalives_count = 5');
  const text = [afterLine(1, ...general), '[plugins.query_logger]', 'enabled = false'].join('\n');
  assert.deepEqual(load(text).warnings, []);
});

test('autoreload is off, every 15 s, or every so many ms', () => {
  const autoreload = (value: string) => load(afterLine(1, `autoreload = ${value}`)).config.general.autoreload;
  assert.equal(autoreload('false'), undefined);
  assert.equal(autoreload('true'), 15000);
  assert.equal(autoreload('250'), 250);
  assert.equal(load(SMALL).config.general.autoreload, undefined);
});

test('a sharding key without a table means any table', () => {
  const key = (written: string) =>
    load(afterLine(4, `automatic_sharding_key = '${written}'`)).config.pools.db?.automatic_sharding_key;
  assert.equal(key('id'), '*.id');
  assert.equal(key('*.w_id'), '*.w_id');
  assert.equal(key('"Data"."Id"'), 'data.id');
  assert.equal(key('Public.Data.Id'), 'public.data.id');
});

test('misspellings of the documents are read as the right key', () => {
  const { config, warnings } = load(
    afterLine(4, 'db_activity_based_ms_init_delay = 7', 'table_mutation_cache_ttl = 8', 'db_activity_ttl = 900'),
  );
  assert.equal(config.pools.db?.db_activity_init_delay, 7);
  assert.equal(config.pools.db?.table_mutation_cache_ms_ttl, 8);
  assert.deepEqual(warnings, [
    'f.toml:5:1: pools.db.db_activity_based_ms_init_delay: is read as db_activity_init_delay, its right name',
    'f.toml:6:1: pools.db.table_mutation_cache_ttl: is read as table_mutation_cache_ms_ttl, its right name',
  ]);
});

test('the right name wins over its misspelling', () => {
  const { config, warnings } = load(afterLine(4, 'table_mutation_cache_ttl = 8', 'table_mutation_cache_ms_ttl = 9'));
  assert.equal(config.pools.db?.table_mutation_cache_ms_ttl, 9);
  assert.match(warnings.join('\n'), /^f\.toml:5:1: pools\.db\.table_mutation_cache_ttl: has no effect beside/);
});

test('keys of the documents that PgCat never read are warnings', () => {
  const { warnings } = load(
    afterLine(1, 'verify_config = true', 'sync_server_parameters = true', 'prepared_statements = true') +
      '\n[pool.db.plugins]\n[pool.db.plugins.intercept]\nenabled = true',
  );
  assert.deepEqual(
    warnings.map(line => line.replace(/: has no effect.*/, '')),
    [
      'f.toml:2:1: general.verify_config',
      'f.toml:3:1: general.sync_server_parameters',
      'f.toml:4:1: general.prepared_statements',
      'f.toml:16:10: pool.db.plugins',
    ],
  );
  assert.deepEqual(
    load(afterLine(4, 'dns_cache_enabled = true')).warnings.map(line => line.replace(/: has no effect.*/, '')),
    ['f.toml:5:1: pools.db.dns_cache_enabled'],
  );
});

test('the statement cache size in [general] holds for pools without their own', () => {
  const text = afterLine(1, 'prepared_statements_cache_size = 0');
  const { config, warnings } = load(text);
  assert.equal(config.pools.db?.prepared_statements_cache_size, 0);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /^f\.toml:2:1: general\.prepared_statements_cache_size: belongs in \[pools\.NAME\]/);
  const own = load(text.replace('pool_mode = "transaction"', 'prepared_statements_cache_size = 9'));
  assert.equal(own.config.pools.db?.prepared_statements_cache_size, 9);
  assert.equal(load(SMALL).config.pools.db?.prepared_statements_cache_size, 500);
});

test('a repeated user and a pool with the name of the admin database are warnings', () => {
  const again = '\n[pools.db.users.1]\nusername = "alice"\npassword = "other"\npool_size = 1';
  assert.deepEqual(load(SMALL + again).warnings, [
    'f.toml:6:17: pools.db.users.0: has no effect: users.1 has the same username, and the last one counts',
  ]);
  assert.match(
    load(SMALL.replaceAll('pools.db', 'pools.pgbouncer')).warnings.join(),
    /pools\.pgbouncer: cannot be reached/,
  );
});

test('times past the longest timer of Node count as that', () => {
  assert.equal(load(afterLine(1, 'idle_timeout = 99999999999')).config.general.idle_timeout, 2147483647);
});

test('a byte order mark, CRLF line ends, dotted keys and inline tables load, with right places', () => {
  assert.equal(load(`\uFEFF${SMALL.replaceAll('\n', '\r\n')}`).config.general.port, 5432);
  const whole = '[general]\nadmin_username="a"\nadmin_password="b"\nworker_threads=2\n[pools]\n';
  const pool =
    'db = { users.0 = { username = "bob", password = "b", pool_size = 2 }, shards = { 0 = { database = "d", servers = [["h", 1, "primary"]] } } }';
  const { config, warnings } = load(`\uFEFF${whole}${pool}`);
  assert.equal(config.pools.db?.users['0']?.username, 'bob');
  assert.match(warnings.join(), /^f\.toml:4:1: general\.worker_threads/);
});

test('a file that is not there, or no text, is an error that says so', () => {
  assert.throws(() => loadConfig(fixture('nowhere.toml'), {}), {
    name: 'ConfigError',
    message: /nowhere\.toml: cannot be read: ENOENT/,
  });
  assert.throws(() => loadConfig(process.execPath, {}), { name: 'ConfigError', message: /cannot be read: .*utf-8/i });
});
