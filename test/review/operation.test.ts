/** What limits, reloads and the end of a process do to clients whose statement ends otherwise than with its reply. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lease } from '../../src/pool/lease.ts';
import { WaitQueue } from '../../src/pool/queue.ts';
import { ProfileCatalog } from '../../src/server/parameters.ts';
import { ChaosProxy } from '../chaos/proxy.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';

const { bind, execute, flush, parse, query } = frontend;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster?.stop());

/** A write that takes long, and what makes the server end it. */
const SLOW_WRITE = "INSERT INTO kept SELECT 'slow' FROM pg_sleep(100)";
const slowWrites = async (what: 'pid' | 'pg_terminate_backend(pid)') =>
  cluster.sql(
    `SELECT ${what} FROM pg_stat_activity WHERE query LIKE 'INSERT % pg_sleep(100)' AND pid <> pg_backend_pid()`,
  );
const slowWriteRuns = () => eventually('it runs', async () => (await slowWrites('pid')).length === 1);
const said = (messages: Parameters<typeof errorOf>[0]) => {
  const error = errorOf(messages);
  return [error?.severity, error?.code];
};
const poolOf = (proxy: TestProxy) => {
  const [pool] = [...proxy.proxy.clusters()].flatMap(({ pools }) => pools);
  return pool;
};

suite('a process that drains', () => {
  const general = { shutdown_timeout: 60_000 };

  test('sends away whose transaction is over since he said nothing', async () => {
    await using proxy = await TestProxy.start(cluster, {
      general: { ...general, idle_client_in_transaction_timeout: 300 },
    });
    await using client = await proxy.raw();
    await client.query('BEGIN');
    const drained = proxy.proxy.drain();
    assert.deepEqual(said(await client.untilClosed()), ['FATAL', '57P01']);
    await drained;
  });

  test('sends away whose write was lost with its connection', async () => {
    await using proxy = await TestProxy.start(cluster, { general });
    await using client = await proxy.raw();
    client.send(query(SLOW_WRITE));
    await slowWriteRuns();
    const drained = proxy.proxy.drain();
    await slowWrites('pg_terminate_backend(pid)');
    assert.deepEqual(said(await client.ready()), ['ERROR', '08007']);
    assert.deepEqual(said(await client.untilClosed()), ['FATAL', '57P01']);
    await drained;
  });
});

suite('limits', () => {
  test('query_timeout does not keep idle_client_in_transaction_timeout from who is silent after a Flush', async () => {
    const general = { query_timeout: 200, idle_client_in_transaction_timeout: 600 };
    await using proxy = await TestProxy.start(cluster, { general, user: { pool_size: 1 } });
    await using client = await proxy.raw();
    client.send(parse('', "INSERT INTO kept VALUES ('flushed')"), bind('', ''), execute(), flush());
    await client.until('C');
    assert.deepEqual(said(await client.until('E')), ['ERROR', '58000']);
    await using other = await proxy.raw();
    assert.deepEqual(rowsOf(await other.query("SELECT count(*) FROM kept WHERE line = 'flushed'")), [['0']]);
  });

  test('client_idle_timeout begins when a write was lost with its connection, not when it was sent', async () => {
    await using proxy = await TestProxy.start(cluster, { general: { client_idle_timeout: 1500 } });
    await using client = await proxy.raw();
    client.send(query(SLOW_WRITE));
    await sleep(1600);
    await slowWriteRuns();
    await slowWrites('pg_terminate_backend(pid)');
    assert.deepEqual(said(await client.ready()), ['ERROR', '08007']);
    assert.ok(await client.silent(500));
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
  });
});

suite('SUSPEND', () => {
  test('is no silence of clients, who are not read from', async () => {
    const general = { client_idle_timeout: 1000, idle_client_in_transaction_timeout: 1000 };
    await using proxy = await TestProxy.start(cluster, { general });
    await using idle = await proxy.raw();
    await using inTransaction = await proxy.raw();
    const admin = await proxy.admin();
    await inTransaction.query('BEGIN');
    await admin.query('SUSPEND');
    for (const client of [idle, inTransaction]) client.send(query('SELECT 1'));
    await sleep(1500);
    await admin.query('RESUME');
    for (const client of [idle, inTransaction]) assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    await admin.end();
  });
});

suite('claims', () => {
  test('are all served when a server takes logins again, not one a second', async () => {
    await using network = await ChaosProxy.start(cluster.primary);
    const general = { connect_timeout: 10_000 };
    await using proxy = await TestProxy.start({ servers: [network] }, { general, user: { pool_size: 4 } });
    const clients = await Promise.all(Array.from({ length: 4 }, () => proxy.raw()));
    // A server that is lost amid a transaction is expected back soon.
    const lost = await proxy.raw();
    await lost.query('BEGIN');
    network.refuse();
    network.reset();
    await eventually('no connection is left', () => poolOf(proxy).connections.size === 0);
    for (const client of clients) client.send(query('BEGIN'));
    await eventually('all wait, and it was in vain', () => {
      const { waiting, unreachable } = poolOf(proxy);
      return waiting === 4 && unreachable !== undefined;
    });
    await network.accept();
    await Promise.race(clients.map(client => client.ready()));
    const { connections, opening } = poolOf(proxy);
    assert.equal(connections.size + opening, 4);
    for (const client of [lost, ...clients]) client.destroy();
  });

  test('that wait for a connection which never opens have no second wait after a reload', async () => {
    await using network = await ChaosProxy.start(cluster.primary);
    const options: ProxyOptions = { general: { connect_timeout: 2000 }, users: ['alice'] };
    await using proxy = await TestProxy.start({ servers: [network] }, options);
    await using client = await proxy.raw();
    const holders = [await proxy.raw()];
    for (const holder of holders) {
      await holder.query('BEGIN');
      if (poolOf(proxy).idle + poolOf(proxy).opening > 0) holders.push(await proxy.raw());
    }
    network.faults = { silent: true };
    const began_ms = performance.now();
    client.send(query('BEGIN'));
    await eventually('a connection is being opened', () => poolOf(proxy).opening === 1);
    // The new pool may open none meanwhile, and so does not find out that it would be in vain.
    const general = { ...options.general, max_server_connections: holders.length + 1 };
    proxy.rewrite(configText({ servers: [network] }, { ...options, general }));
    await proxy.proxy.reload();
    assert.deepEqual(said(await client.ready()), ['ERROR', '58000']);
    const waited_ms = performance.now() - began_ms;
    assert.ok(waited_ms < 3500, `it waited ${waited_ms} ms`);
    network.faults = {};
    for (const holder of holders) holder.destroy();
  });

  test('that a reload passes on end in time behind others whose time is over later', async () => {
    const ended: string[] = [];
    const queue = new WaitQueue(60_000, lease => ended.push(names.get(lease) ?? ''));
    const now = performance.now();
    const { defaults } = new ProfileCatalog();
    const names = new Map<Lease, string>();
    for (const [name, until] of Object.entries({ late: 60_000, second: 150, first: 50, third: 150 })) {
      const lease = new Lease({ leased: () => {}, leaseFailed: () => {} }, defaults);
      lease.begin(now);
      lease.until = now + until;
      names.set(lease, name);
      queue.push(lease, now);
    }
    await eventually('they have ended', () => queue.length === 1);
    queue.stop();
    assert.deepEqual(ended, ['first', 'second', 'third']);
    assert.deepEqual(
      queue.list().map(lease => names.get(lease)),
      ['late'],
    );
  });
});
