/** What SHOW says of the connections and figures of a running pglynx. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from 'pg';
import { DATABASE, eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
let proxy: TestProxy;
let admin: Client;

before(async () => {
  cluster = await startCluster();
  const { port } = cluster.primary;
  proxy = await TestProxy.start({ servers: [{ host: 'localhost', port }] }, { general: { dns_cache_enabled: true } });
  admin = await proxy.admin();
});

after(async () => {
  await admin?.end();
  await proxy?.stop();
  await cluster?.stop();
});

async function show(table: string): Promise<Record<string, unknown>[]> {
  return (await admin.query(`SHOW ${table}`)).rows;
}

test('connections have both addresses, and say who serves whom', async t => {
  const client = await proxy.connect({ application_name: 'shown' });
  t.after(() => client.end());
  await client.query('BEGIN');
  const { rows } = await client.query('SELECT inet_client_port() AS port, pg_backend_pid() AS pid');
  const [shown] = (await show('CLIENTS')).filter(row => row.application_name === 'shown');
  const [server] = (await show('SERVERS')).filter(row => row.application_name === 'shown');
  assert.deepEqual([shown?.addr, shown?.local_addr, shown?.local_port], ['127.0.0.1', '127.0.0.1', proxy.port]);
  assert.match(String(shown?.connect_time), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/);
  assert.ok(Math.abs(Date.parse(String(shown?.request_time)) - Date.now()) < 60_000);
  assert.deepEqual(
    [server?.port, server?.local_port, server?.remote_pid, server?.link, server?.application_name],
    [cluster.primary.port, rows[0].port, rows[0].pid, shown?.ptr, 'shown'],
  );
  assert.equal(shown?.link, server?.ptr);
  const sockets = await show('SOCKETS');
  assert.equal(sockets.filter(({ type }) => type === 'C').length, 2);
  assert.deepEqual(
    sockets.filter(({ type }) => type === 'S').map(({ ptr }) => ptr),
    (await show('SERVERS')).map(({ ptr }) => ptr),
  );
  // RECONNECT, and a reload, have it replaced when it is free.
  assert.equal(server?.close_needed, 0);
  await admin.query('RECONNECT');
  const needed = async () =>
    (await show('SERVERS')).filter(row => row.remote_pid === rows[0].pid).map(row => row.close_needed);
  assert.deepEqual(await needed(), [1]);
  await admin.query(`SET pools.${DATABASE}.users.0.pool_size = 4`);
  assert.deepEqual(await needed(), [1]);
  await client.query('COMMIT');
  await eventually('it is gone', async () => (await needed()).length === 0);
  await admin.query('RELOAD');
});

test('totals count exactly, and are the same in each table', async () => {
  const before = (await show('STATS_TOTALS'))[0];
  const client = await proxy.connect();
  for (let time = 0; time < 3; time++) await client.query('SELECT 1');
  await client.query('BEGIN');
  await client.query('SELECT 2');
  await client.query('COMMIT');
  await client.query({ name: 'named', text: 'SELECT 3' });
  await client.end();
  const after = (await show('STATS_TOTALS'))[0];
  const counted = (name: string) => Number(after?.[name]) - Number(before?.[name]);
  assert.deepEqual([counted('client_login_count'), counted('xact_count'), counted('query_count')], [1, 5, 7]);
  assert.ok(counted('server_assignment_count') >= 5);
  assert.ok(counted('bytes_received') > 100 && counted('bytes_sent') > 100 && counted('query_time') > 0);
  const totals = new Map((await show('TOTALS')).map(({ name, value }) => [name, value]));
  for (const [name, value] of Object.entries(after ?? {})) {
    if (name !== 'database') assert.equal(totals.get(`total_${name}`), value, name);
  }
  const averages = Object.keys((await show('STATS_AVERAGES'))[0] ?? {}).filter(name => name !== 'database');
  assert.deepEqual(
    [...totals.keys()].filter(name => String(name).startsWith('avg_')),
    averages.map(name => `avg_${name}`),
  );
});

test('STATE, MEM, DNS_HOSTS, USERS, DATABASES and LISTS tell how things are', async t => {
  const client = await proxy.connect();
  t.after(() => client.end());
  const state = async () => Object.fromEntries((await show('STATE')).map(({ key, value }) => [key, value]));
  assert.deepEqual(await state(), { active: 'yes', paused: 'no', suspended: 'no', draining: 'no' });
  await admin.query('PAUSE');
  assert.deepEqual(await state(), { active: 'no', paused: 'yes', suspended: 'no', draining: 'no' });
  await admin.query('RESUME; SUSPEND');
  assert.deepEqual(await state(), { active: 'no', paused: 'no', suspended: 'yes', draining: 'no' });
  await admin.query('RESUME');
  assert.deepEqual(await state(), { active: 'yes', paused: 'no', suspended: 'no', draining: 'no' });
  const memory = new Map((await show('MEM')).map(row => [row.name, row]));
  assert.equal(memory.get('clients')?.used, '2');
  assert.ok(Number(memory.get('heap')?.used) > 1_000_000);
  const [host, ...more] = await show('DNS_HOSTS');
  assert.deepEqual([host?.hostname, more], ['localhost', []]);
  assert.match(String(host?.addrs), /127\.0\.0\.1/);
  const users = (await show('USERS')).map(row => [
    row.name,
    row.database,
    row.pool_size,
    row.current_client_connections,
  ]);
  assert.deepEqual(users, [
    ['alice', DATABASE, 5, 1],
    ['bob', DATABASE, 5, 0],
  ]);
  assert.deepEqual(
    (await show('DATABASES')).map(row => row.current_client_connections),
    [1, 1],
  );
  const lists = new Map((await show('LISTS')).map(({ list, items }) => [list, items]));
  assert.deepEqual([lists.get('dns_names'), lists.get('login_clients'), lists.get('dns_pending')], [1, 0, 0]);
});
