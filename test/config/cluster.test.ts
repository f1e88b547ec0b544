/** What clusters run with, what SHOW CONFIG prints, and what a reload would change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clusterSettings } from '../../src/config/cluster.ts';
import { diffConfigs } from '../../src/config/diff.ts';
import { loadConfig } from '../../src/config/load.ts';
import { settingRows } from '../../src/config/rows.ts';
import { afterLine, load, SMALL, withLine } from './files.ts';

const full = () => loadConfig(`${import.meta.dirname}/../fixtures/full-pgcat.toml`, {}).config;

test('the shortest file takes every default', () => {
  assert.deepEqual(clusterSettings(load(SMALL).config), [
    {
      database: 'db',
      username: 'alice',
      password: 'wonder',
      auth_type: 'md5',
      auth_query: undefined,
      server_username: 'alice',
      server_password: 'wonder',
      pool_mode: 'transaction',
      pool_size: 5,
      min_pool_size: 0,
      statement_timeout: 0,
      connect_timeout: 1000,
      idle_timeout: 600_000,
      server_lifetime: 3_600_000,
      healthcheck_timeout: 1000,
      healthcheck_delay: 30_000,
      ban_time: 60,
      server_round_robin: true,
      load_balancing_mode: 'random',
      multiplexing: 'auto',
      multiplexing_max_depth: 32,
      multiplexing_max_wait: 10,
      default_role: 'any',
      query_parser_enabled: false,
      query_parser_max_length: undefined,
      read_write_splitting: false,
      primary_reads_enabled: false,
      cleanup_server_connections: true,
      log_client_parameter_status_changes: false,
      prepared_statements_cache_size: 500,
      checkout_failure_limit: undefined,
      idle_client_in_transaction_timeout: 0,
      default_shard: 0,
      sharding: {
        function: 'pg_bigint_hash',
        automatic_key: undefined,
        key_regex: undefined,
        id_regex: undefined,
        regex_search_limit: 1000,
      },
      activity: { enabled: false, init_delay: 100, ttl: 900, mutation_ttl: 50 },
      write_functions: [],
      read_functions: [],
      catalog_ttl: 60_000,
      limits: {
        max_pool_clients: 0,
        max_user_clients: 0,
        query_wait_timeout: undefined,
        query_wait_notify: 5000,
        query_timeout: 0,
        transaction_timeout: 0,
        client_idle_timeout: 0,
        max_client_prepared_statements: 10_000,
        max_reply_memory: 8 * 2 ** 20,
        max_waiting_clients: 0,
        reserve_pool_size: 0,
        reserve_pool_timeout: 5000,
        max_server_connections: 0,
        max_db_connections: 0,
        max_user_connections: 0,
        server_login_retry: 1000,
      },
      log_min_duration_statement: -1,
      log_statement_as: 'template',
      shards: [
        { number: 0, database: 'postgres', servers: [{ host: '10.0.0.1', port: 5432, role: 'primary', weight: 1 }] },
      ],
      server_tls: { mode: 'disable', ca: undefined, certificate: undefined, private_key: undefined },
      server_require_auth: undefined,
      server_scram_iterations_max: 100_000,
    },
  ]);
});

test('a user overrides its pool, and a pool [general]', () => {
  const [own, inherited, simple] = clusterSettings(full());
  const times = ['connect_timeout', 'idle_timeout', 'server_lifetime'] as const;
  assert.deepEqual(
    times.map(key => own?.[key]),
    [1500, 50000, 70000],
  );
  assert.deepEqual(
    times.map(key => inherited?.[key]),
    [3000, 40000, 60000],
  );
  assert.deepEqual(
    times.map(key => simple?.[key]),
    [5000, 30000, 86400000],
  );
  assert.deepEqual([own?.pool_mode, inherited?.pool_mode], ['session', 'transaction']);
  assert.deepEqual([own?.server_username, own?.server_password], ['server_user', 'server_pass']);
  assert.deepEqual([inherited?.server_username, inherited?.password], ['other_user', undefined]);
  assert.deepEqual([own?.ban_time, own?.checkout_failure_limit, own?.query_parser_max_length], [30, 7, 65536]);
});

test('mirrors are no servers, brackets around an IPv6 address go, and shards stand in the order of their numbers', () => {
  const [sharded] = clusterSettings(full());
  assert.deepEqual(sharded?.shards, [
    {
      number: 0,
      database: 'shard0',
      servers: [
        { host: '127.0.0.1', port: 5432, role: 'primary', weight: 1 },
        { host: 'localhost', port: 5433, role: 'replica', weight: 1 },
      ],
    },
    { number: 1, database: 'shard1', servers: [{ host: '::1', port: 5432, role: 'primary', weight: 1 }] },
  ]);
});

test('a server has the weight that its list or table says, and 1 otherwise', () => {
  const servers = [
    '["a", 1, "primary", 0]',
    '["b", 1, "replica"]',
    '{ host = "c", port = 1, role = "replica", weight = 7 }',
    '{ host = "d", port = 1, role = "replica" }',
  ];
  const [cluster] = clusterSettings(load(withLine(12, `servers = [${servers.join(', ')}]`)).config);
  assert.deepEqual(
    cluster?.shards[0]?.servers.map(({ host, weight }) => [host, weight]),
    [
      ['a', 0],
      ['b', 1],
      ['c', 7],
      ['d', 1],
    ],
  );
});

test('sharding, activity and lists of functions reach the cluster', () => {
  const [sharded] = clusterSettings(full());
  assert.deepEqual(sharded?.sharding, {
    function: 'sha1',
    automatic_key: 'data.id',
    key_regex: '/\\* sharding_key: (\\d+) \\*/',
    id_regex: '(?i)/\\* shard_id: (?P<shard>\\d+) \\*/',
    regex_search_limit: 500,
  });
  assert.deepEqual(sharded?.activity, { enabled: true, init_delay: 200, ttl: 800, mutation_ttl: 60 });
  const lines = ['write_functions = ["a", "s.b"]', 'read_functions = ["c"]', 'catalog_ttl = 5000'];
  const [cluster] = clusterSettings(load(afterLine(4, ...lines)).config);
  assert.deepEqual(
    [cluster?.write_functions, cluster?.read_functions, cluster?.catalog_ttl],
    [['a', 's.b'], ['c'], 5000],
  );
});

test('splitting follows the parser unless the file says otherwise', () => {
  const splitting = (...lines: string[]) =>
    clusterSettings(load(afterLine(4, ...lines)).config)[0]?.read_write_splitting;
  assert.equal(splitting(), false);
  assert.equal(splitting('query_parser_enabled = true'), true);
  assert.equal(splitting('query_parser_enabled = true', 'query_parser_read_write_splitting = false'), false);
});

test('a checkout limit of 0 is off', () => {
  const [cluster] = clusterSettings(load(afterLine(4, 'checkout_failure_limit = 0')).config);
  assert.equal(cluster?.checkout_failure_limit, undefined);
});

test('default_shard is a number, random or random_healthy', () => {
  const defaultShard = (written: string) => {
    const second = '[pools.db.shards.1]\ndatabase = "b"\nservers = [["h", 1, "replica"]]';
    return clusterSettings(load(`${afterLine(4, `default_shard = "${written}"`)}\n${second}`).config)[0]?.default_shard;
  };
  assert.deepEqual(['shard_1', 'random', 'random_healthy'].map(defaultShard), [1, 'random', 'random_healthy']);
});

test('of two users with one name the last counts', () => {
  const again = '\n[pools.db.users.1]\nusername = "alice"\npassword = "other"\npool_size = 1';
  assert.deepEqual(
    clusterSettings(load(SMALL + again).config).map(cluster => cluster.password),
    ['other'],
  );
});

test('SHOW CONFIG has the rows of PgCat and hides passwords', () => {
  const rows = settingRows(full());
  const find = (key: string) => rows.find(row => row.key === key);
  assert.deepEqual(find('port'), { key: 'port', value: '6433', default: '5432', changeable: 'no' });
  assert.deepEqual(find('ban_time'), { key: 'ban_time', value: '30', default: '60', changeable: 'yes' });
  assert.equal(find('pools.sharded_db.load_balancing_mode')?.value, 'loc');
  assert.equal(find('pools.sharded_db.query_parser_read_write_splitting')?.value, 'false');
  assert.equal(find('pools.simple_db.query_parser_read_write_splitting')?.value, 'true');
  assert.equal(find('pools.simple_db.query_parser_max_length')?.value, 'unlimited');
  assert.equal(find('pools."sharded_db".shard_count')?.value, '2');
  assert.equal(find('pools."sharded_db".users')?.value, 'sharding_user, other_user');
  assert.equal(find('admin_password')?.value, '********');
  assert.deepEqual(find('pools.simple_db.users.0.pool_size')?.value, '5');
  assert.deepEqual(find('pools.simple_db.users.0.password')?.value, '********');
  assert.match(find('pools.simple_db.shards.0.servers')?.value ?? '', /^\[.*"port":5432/);
  assert.deepEqual(find('pools.simple_db.idle_timeout'), {
    key: 'pools.simple_db.idle_timeout',
    value: '-',
    default: '-',
    changeable: 'yes',
  });
  assert.equal(find('host')?.value, '127.0.0.1');
  const values = rows.map(({ value }) => value).join('\n');
  assert.doesNotMatch(values, /admin_pass|secret|sharding_pass|server_pass|simple_pass/);
  assert.equal(new Set(rows.map(row => row.key)).size, rows.length);
});

test('two loads of one file do not differ', () => {
  assert.deepEqual(diffConfigs(full(), full()), { keys: [], restart: [], added: [], removed: [], changed: [] });
});

test('a change of a pool concerns its users, a change of a user that user alone', () => {
  const bob = '\n[pools.db.users.1]\nusername = "bob"\npassword = "b"\npool_size = 1';
  const before = load(SMALL + bob).config;
  const pool = diffConfigs(before, load(withLine(5, 'pool_mode = "session"') + bob).config);
  assert.deepEqual(pool.keys, ['pools.db.pool_mode']);
  assert.deepEqual(pool.changed, [
    { database: 'db', username: 'alice' },
    { database: 'db', username: 'bob' },
  ]);
  const user = diffConfigs(before, load(withLine(9, 'pool_size = 6') + bob).config);
  assert.deepEqual(user, {
    keys: ['pools.db.users.0.pool_size'],
    restart: [],
    added: [],
    removed: [],
    changed: [{ database: 'db', username: 'alice' }],
  });
});

test('a change of [general] reaches the pools that inherit it', () => {
  const change = diffConfigs(full(), { ...full(), general: { ...full().general, connect_timeout: 77 } });
  assert.deepEqual(change.keys, ['general.connect_timeout']);
  assert.deepEqual(change.changed, [{ database: 'simple_db', username: 'simple_user' }]);
});

test('pools that come and go, keys that need a restart, and servers as one value', () => {
  const before = load(SMALL).config;
  const renamed = diffConfigs(before, load(SMALL.replaceAll('pools.db', 'pools.new')).config);
  assert.deepEqual(renamed.added, [{ database: 'new', username: 'alice' }]);
  assert.deepEqual(renamed.removed, [{ database: 'db', username: 'alice' }]);
  assert.deepEqual(renamed.changed, []);
  assert.ok(
    renamed.keys.includes('pools.new.users.0.pool_size') && renamed.keys.includes('pools.db.users.0.pool_size'),
  );
  const moved = diffConfigs(before, load(afterLine(1, 'port = 1', 'log_client_connections = true')).config);
  assert.deepEqual([moved.keys, moved.restart], [['general.port', 'general.log_client_connections'], ['general.port']]);
  const servers = diffConfigs(before, load(SMALL.replace('10.0.0.1', '10.0.0.9')).config);
  assert.deepEqual(servers.keys, ['pools.db.shards.0.servers']);
});
