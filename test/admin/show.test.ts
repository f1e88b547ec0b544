/** The SHOW tables: PgCat's columns, and what each says of a process. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { TABLES } from '../../src/admin/show.ts';
import { client, TestControl } from './control.ts';

/** PgBouncer's columns of a connection, behind those that PgCat has. */
const END = [
  'replication text',
  'addr text',
  'port int4',
  'local_addr text',
  'local_port int4',
  'connect_time text',
  'request_time text',
  'wait int4',
  'wait_us int4',
  'close_needed int4',
  'ptr text',
  'link text',
  'remote_pid int4',
  'tls text',
  'prepared_statements int4',
  'id int4',
];

/** The columns of PgCat 1.3 by type, in its order; behind them what it does not have. */
const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  CONFIG: ['key text', 'value text', 'default text', 'changeable text'],
  DATABASES: [
    'name text',
    'host text',
    'port text',
    'database text',
    'force_user text',
    'pool_size int4',
    'min_pool_size int4',
    'reserve_pool int4',
    'pool_mode text',
    'max_connections int4',
    'current_connections int4',
    'paused int4',
    'disabled int4',
    'server_lifetime numeric',
    'load_balance_hosts text',
    'max_client_connections int4',
    'current_client_connections int4',
  ],
  POOLS: [
    'database text',
    'user text',
    'pool_mode text',
    'cl_idle numeric',
    'cl_active numeric',
    'cl_waiting numeric',
    'cl_cancel_req numeric',
    'sv_active numeric',
    'sv_idle numeric',
    'sv_used numeric',
    'sv_tested numeric',
    'sv_login numeric',
    'maxwait numeric',
    'maxwait_us numeric',
    'sv_shared numeric',
    'depth numeric',
    'expected_wait_us numeric',
    'cl_active_cancel_req numeric',
    'cl_waiting_cancel_req numeric',
    'sv_active_cancel numeric',
    'sv_being_canceled numeric',
    'load_balance_hosts text',
    'paused int4',
  ],
  CLIENTS: [
    'client_id text',
    'database text',
    'user text',
    'application_name text',
    'state text',
    'transaction_count numeric',
    'query_count numeric',
    'error_count numeric',
    'age_seconds numeric',
    'maxwait numeric',
    'maxwait_us numeric',
    'type text',
    ...END,
  ],
  SERVERS: [
    'server_id text',
    'database_name text',
    'user text',
    'address_id text',
    'application_name text',
    'state text',
    'transaction_count numeric',
    'query_count numeric',
    'bytes_sent numeric',
    'bytes_received numeric',
    'age_seconds numeric',
    'prepare_cache_hit numeric',
    'prepare_cache_miss numeric',
    'prepare_cache_eviction numeric',
    'prepare_cache_size numeric',
    'type text',
    ...END,
  ],
  SOCKETS: [
    'type text',
    'user text',
    'database text',
    'state text',
    'application_name text',
    ...END,
    'send_remain numeric',
  ],
  USERS: [
    'name text',
    'pool_mode text',
    'database text',
    'pool_size int4',
    'current_connections int4',
    'max_user_client_connections int4',
    'current_client_connections int4',
    'reserve_pool_size int4',
    'max_user_connections int4',
  ],
  VERSION: ['version text'],
  LISTS: ['list text', 'items int4'],
  STATS: [
    'instance text',
    'database text',
    'user text',
    'total_xact_count numeric',
    'total_query_count numeric',
    'total_received numeric',
    'total_sent numeric',
    'total_xact_time numeric',
    'total_query_time numeric',
    'total_wait_time numeric',
    'total_errors numeric',
    'avg_xact_count numeric',
    'avg_query_count numeric',
    'avg_recv numeric',
    'avg_sent numeric',
    'avg_errors numeric',
    'avg_xact_time numeric',
    'avg_query_time numeric',
    'avg_wait_time numeric',
    'total_shared_count numeric',
    'total_leased_count numeric',
    'total_moved_count numeric',
    'total_write_count numeric',
  ],
  STATS_TOTALS: [
    'database text',
    'server_assignment_count numeric',
    'xact_count numeric',
    'query_count numeric',
    'bytes_received numeric',
    'bytes_sent numeric',
    'xact_time numeric',
    'query_time numeric',
    'wait_time numeric',
    'server_parse_count numeric',
    'client_login_count numeric',
    'errors numeric',
  ],
  STATS_AVERAGES: [
    'database text',
    'xact_count numeric',
    'query_count numeric',
    'bytes_received numeric',
    'bytes_sent numeric',
    'xact_time numeric',
    'query_time numeric',
    'wait_time numeric',
    'errors numeric',
  ],
  TOTALS: ['name text', 'value numeric'],
  MEM: ['name text', 'size int4', 'used numeric', 'free numeric', 'memtotal numeric'],
  STATE: ['key text', 'value text'],
  DNS_HOSTS: ['hostname text', 'ttl int4', 'addrs text'],
  BANS: [
    'db text',
    'user text',
    'role text',
    'host text',
    'reason text',
    'ban_time text',
    'ban_duration_seconds text',
    'ban_remaining_seconds text',
  ],
  ROUTES: [
    'database text',
    'user text',
    'template text',
    'times numeric',
    'class text',
    'role text',
    'reason text',
    'shard_rule text',
    'shareable text',
    'replays numeric',
    'mean_time numeric',
  ],
};

test('the tables have the columns of PgCat', () => {
  const columns = [...TABLES].map(([name, table]) => [
    name,
    table.columns.map(column => `${column.name} ${column.type}`),
  ]);
  assert.deepEqual(Object.fromEntries(columns), COLUMNS);
  assert.deepEqual(
    [...TABLES].filter(([, { tag }]) => tag !== 'SHOW').map(([name, { tag }]) => [name, tag]),
    [['BANS', 'SHOW BANS']],
  );
});

suite('rows', () => {
  test('POOLS has a row for each database and user, with its clients only, in the order of the names', () => {
    const control = new TestControl();
    control.sessions = [
      client(5, 'bob', 'idle'),
      client(2, 'bob', 'active'),
      client(3, 'bob', 'waiting', { wait_ms: 1500.25 }),
      client(4, 'bob', 'waiting', { wait_ms: 700 }),
      client(1, 'bob', 'active', { database: 'events' }),
      client(6, 'admin', 'idle', { database: 'pgcat' }),
    ];
    const { pool } = control.pool('events', 'bob', 'events_shard_1_primary');
    Object.defineProperty(pool, 'opening', { value: 2 });
    assert.deepEqual(rows(control, 'POOLS', 'database', 'user', 'pool_mode', 'cl_idle', 'cl_active', 'cl_waiting'), [
      ['events', 'bob', 'transaction', '0', '1', '0'],
      ['shop', 'alice', 'session', '0', '0', '0'],
      ['shop', 'bob', 'transaction', '1', '1', '2'],
    ]);
    assert.deepEqual(rows(control, 'POOLS', 'sv_login', 'maxwait', 'maxwait_us'), [
      ['2', '0', '0'],
      ['0', '0', '0'],
      ['0', '1', '500250'],
    ]);
  });

  test('DATABASES has a row for each server of each user, and says which are banned', () => {
    const control = new TestControl();
    const { cluster, pool } = control.pool('shop', 'bob', 'shop_shard_0_replica_1');
    cluster.bans.ban(pool, 'FailedHealthCheck', 'it is gone', Date.now());
    assert.deepEqual(rows(control, 'DATABASES', 'name', 'host', 'port', 'database', 'force_user', 'disabled'), [
      ['events_shard_0_primary', 'db3', '5432', 'events_0', 'bob', '0'],
      ['events_shard_1_primary', 'db4', '5432', 'events_1', 'bob', '0'],
      ['shop_shard_0_primary', 'db0', '5432', 'shop_on_server', 'alice', '0'],
      ['shop_shard_0_replica_0', 'db1', '5433', 'shop_on_server', 'alice', '0'],
      ['shop_shard_0_replica_1', 'db2', '5434', 'shop_on_server', 'alice', '0'],
      ['shop_shard_0_primary', 'db0', '5432', 'shop_on_server', 'bob', '0'],
      ['shop_shard_0_replica_0', 'db1', '5433', 'shop_on_server', 'bob', '0'],
      ['shop_shard_0_replica_1', 'db2', '5434', 'shop_on_server', 'bob', '1'],
    ]);
    const [, , alice, , , bob] = rows(
      control,
      'DATABASES',
      'pool_size',
      'min_pool_size',
      'max_connections',
      'pool_mode',
    );
    assert.deepEqual(alice, ['3', '0', '3', 'session']);
    assert.deepEqual(bob, ['7', '2', '7', 'transaction']);
  });

  test('BANS has those that are not over yet', () => {
    const control = new TestControl();
    const now = Date.now();
    const first = control.pool('shop', 'bob', 'shop_shard_0_replica_0');
    const second = control.pool('shop', 'bob', 'shop_shard_0_replica_1');
    first.cluster.bans.ban(first.pool, 'FailedCheckout', 'refused', now - 60_000);
    second.cluster.bans.ban(second.pool, 'FailedHealthCheck', 'silent', now - 50_000);
    const [ban, ...more] = rows(control, 'BANS');
    assert.deepEqual(more, []);
    assert.deepEqual(ban.slice(0, 5), ['shop', 'bob', 'replica', 'db2', 'FailedHealthCheck']);
    assert.equal(Date.parse(`${ban[5].replace(' ', 'T')}Z`), Math.floor((now - 50_000) / 1000) * 1000);
    assert.equal(ban[6], '60');
    assert.ok(ban[7] === '10' || ban[7] === '9', ban[7]);
    assert.equal(
      rows(control, 'DATABASES', 'disabled')
        .flat()
        .filter(value => value === '1').length,
      1,
    );
  });

  test('CLIENTS is in the order of the logins and has the longest wait of each, a present one included', () => {
    const control = new TestControl();
    control.sessions = [
      client(0x1abc, 'bob', 'waiting', { wait_ms: 2500, counters: { wait_max_us: 100 } }),
      client(1, 'alice', 'idle', {
        age_ms: 3900,
        counters: { xact_count: 4, query_count: 7, error_count: 1, wait_max_us: 1_000_001 },
      }),
    ];
    assert.deepEqual(
      rows(control, 'CLIENTS').map(row => row.slice(0, 11)),
      [
        ['0x00000001', 'shop', 'alice', 'app 1', 'idle', '4', '7', '1', '3', '1', '1'],
        ['0x00001ABC', 'shop', 'bob', 'app 6844', 'waiting', '0', '0', '0', '0', '2', '500000'],
      ],
    );
    assert.deepEqual(
      rows(control, 'CLIENTS', 'type', 'addr', 'port', 'local_port', 'wait', 'wait_us', 'ptr', 'id', 'link', 'tls'),
      [
        ['C', '10.0.0.1', '4001', '6432', '0', '0', '0x00000001', '1', '', ''],
        ['C', '10.0.0.1', '10844', '6432', '2', '500000', '0x00001ABC', '6844', '', ''],
      ],
    );
  });

  test('SERVERS has a row for a connection that is being opened', () => {
    const control = new TestControl();
    const { pool } = control.pool('shop', 'bob', 'shop_shard_0_replica_0');
    Object.defineProperty(pool, 'opening', { value: 1 });
    assert.deepEqual(rows(control, 'SERVERS', 'server_id', 'user', 'address_id', 'application_name', 'state'), [
      ['0x00000000', 'bob', 'shop_shard_0_replica_0', 'Undefined', 'login'],
    ]);
  });

  test('STATS has times of statements in milliseconds, waits in microseconds, and averages with decimals', () => {
    const control = new TestControl();
    const { pool } = control.pool('shop', 'bob', 'shop_shard_0_primary');
    Object.assign(pool.counters, {
      xact_count: 3,
      query_count: 6,
      received_bytes: 1500,
      sent_bytes: 300,
      xact_time_us: 9_000_400,
      query_time_us: 6_001_600,
      wait_time_us: 750.4,
      errors: 2,
      shared_count: 5,
      leased_count: 1,
      moved_count: 4,
      write_count: 7,
    });
    pool.account.averages.roll(pool.account.totals(), 15);
    const row = rows(control, 'STATS').find(([name, , user]) => name === 'shop_shard_0_primary' && user === 'bob');
    assert.deepEqual(row, [
      ...['shop_shard_0_primary', 'shop', 'bob'],
      ...['3', '6', '1500', '300', '9000', '6002', '750', '2'],
      ...['0.2', '0.4', '100', '20', '0.133', '3000.133', '1000.267', '250.133'],
      ...['5', '1', '4', '7'],
    ]);
    assert.equal(rows(control, 'STATS').length, 8);
  });

  test('LISTS counts the admin database too', () => {
    const control = new TestControl();
    control.sessions = [client(1, 'bob', 'active'), client(2, 'bob', 'idle'), client(3, 'bob', 'waiting')];
    assert.deepEqual(Object.fromEntries(rows(control, 'LISTS')), {
      databases: '9',
      users: '4',
      pools: '9',
      free_clients: '1',
      used_clients: '1',
      login_clients: '0',
      free_servers: '0',
      used_servers: '0',
      dns_names: '0',
      dns_zones: '0',
      dns_queries: '0',
      dns_pending: '0',
    });
  });

  test('USERS, VERSION and CONFIG', () => {
    const control = new TestControl();
    assert.deepEqual(rows(control, 'USERS', 'name', 'pool_mode'), [
      ['bob', 'transaction'],
      ['alice', 'session'],
      ['bob', 'transaction'],
    ]);
    assert.deepEqual(rows(control, 'VERSION'), [['pglynx 1.2.3']]);
    const settings = rows(control, 'CONFIG');
    assert.deepEqual(
      settings.find(([key]) => key === 'port')?.filter((_, index) => index !== 2),
      ['port', '6432', 'no'],
    );
    assert.ok(settings.some(([key]) => key === 'pools."events".shard_count'));
    assert.ok(!settings.flat().includes('secret'), 'a password is shown');
  });
});

/** The rows of a table, cut to these columns when some are named. */
function rows(control: TestControl, name: string, ...wanted: string[]): string[][] {
  const table = TABLES.get(name);
  assert.ok(table, name);
  const names = table.columns.map(column => column.name);
  const places = (wanted.length === 0 ? names : wanted).map(column => names.indexOf(column));
  return table.rows(control).map(row => places.map(place => row[place]));
}
