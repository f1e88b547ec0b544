/** Who shares a connection with whom: behind what nothing is sent, what is moved, and when another connection is opened. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf } from '../client/backend.ts';
import { query } from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

/** Whatever waits behind something slow must not wait longer, in milliseconds; twenty times what it takes when all is quiet. */
const SOON_MS = 400;
/** What is slow takes much longer. */
const SLOW_S = 2;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql(`
    CREATE TABLE rows (id int PRIMARY KEY, n int); INSERT INTO rows SELECT id, 0 FROM generate_series(1, 10) AS id;
    CREATE TABLE lines (id int); GRANT ALL ON rows, lines TO PUBLIC`);
});
after(() => cluster?.stop());

/** A pglynx that knows its catalog, and so shares. */
async function sharing(pool_size: number, pool: ProxyOptions['pool'] = {}): Promise<TestProxy> {
  const proxy = await TestProxy.start(cluster, {
    users: ['alice'],
    user: { pool_size },
    pool: { query_parser_enabled: true, connect_timeout: 10_000, ...pool },
  });
  await using client = await proxy.raw();
  const shared = async () => {
    await client.query('SELECT 1');
    return counters(proxy).shared_count > 0;
  };
  if (pool?.multiplexing !== 'off') await eventually('statements share connections', shared);
  return proxy;
}

function poolOf(proxy: TestProxy) {
  const [pool] = [...proxy.proxy.clusters()].flatMap(({ pools }) => pools);
  return pool;
}

const counters = (proxy: TestProxy) => poolOf(proxy).account.totals();

/** Sends a statement often enough that pglynx takes it for short. */
async function known(client: RawClient, text: string): Promise<void> {
  for (let count = 0; count < 20; count++) assert.equal(errorOf(await client.query(text)), undefined);
}

/** Milliseconds that an answer took, which must be right. */
async function timed(client: RawClient, text: string, rows: readonly unknown[]): Promise<number> {
  const since = performance.now();
  const messages = await client.query(text);
  assert.equal(errorOf(messages), undefined);
  assert.deepEqual(rowsOf(messages), rows);
  return performance.now() - since;
}

suite('behind a statement that was short so far and is slow now', () => {
  for (const pool_size of [1, 2]) {
    test(`a read does not wait, pool_size ${pool_size}`, async () => {
      await using proxy = await sharing(pool_size);
      await using slow = await proxy.raw();
      await using reader = await proxy.raw();
      await known(slow, 'SELECT 7 FROM pg_sleep(0)');
      await known(reader, 'SELECT 1');
      slow.send(query(`SELECT 7 FROM pg_sleep(${SLOW_S})`));
      assert.ok((await timed(reader, 'SELECT 2', [['2']])) < SOON_MS);
      assert.deepEqual(rowsOf(await slow.ready()), [['7']]);
    });
  }

  test('a transaction gets a connection of its own, pool_size 2', async () => {
    await using proxy = await sharing(2);
    await using slow = await proxy.raw();
    await using owner = await proxy.raw();
    await known(slow, 'SELECT 7 FROM pg_sleep(0)');
    slow.send(query(`SELECT 7 FROM pg_sleep(${SLOW_S})`));
    assert.ok((await timed(owner, 'BEGIN', [])) < SOON_MS);
    assert.equal(errorOf(await owner.query('COMMIT')), undefined);
    assert.deepEqual(rowsOf(await slow.ready()), [['7']]);
  });

  test('a write does not wait, and each is done once', async () => {
    await using proxy = await sharing(1);
    await using slow = await proxy.raw();
    await using writer = await proxy.raw();
    await cluster.sql('TRUNCATE lines');
    await known(slow, 'INSERT INTO lines SELECT 0 FROM pg_sleep(0)');
    await known(writer, 'INSERT INTO lines VALUES (0)');
    slow.send(query(`INSERT INTO lines SELECT 1 FROM pg_sleep(${SLOW_S})`));
    assert.ok((await timed(writer, 'INSERT INTO lines VALUES (2)', [])) < SOON_MS);
    assert.equal(errorOf(await slow.ready()), undefined);
    assert.deepEqual(await cluster.sql('SELECT id FROM lines WHERE id > 0 ORDER BY id'), [{ id: 1 }, { id: 2 }]);
    assert.ok(counters(proxy).moved_count > 0);
  });

  test('clients who wait for each other outside the database are not tied together', async () => {
    await using proxy = await sharing(2);
    const [holder, blocked, other] = await Promise.all([proxy.raw(), proxy.raw(), proxy.raw()]);
    await known(blocked, 'UPDATE rows SET n = n + 0 WHERE id = 1');
    await known(other, 'INSERT INTO lines VALUES (0)');
    await holder.query('BEGIN; UPDATE rows SET n = n + 1 WHERE id = 1');
    blocked.send(query('UPDATE rows SET n = n + 10 WHERE id = 1'));
    // The holder of the lock commits only once the other has written.
    assert.ok((await timed(other, 'INSERT INTO lines VALUES (3)', [])) < SOON_MS);
    await holder.query('COMMIT');
    assert.equal(errorOf(await blocked.ready()), undefined);
    assert.deepEqual(await cluster.sql('SELECT n FROM rows WHERE id = 1'), [{ n: 11 }]);
    await Promise.all([holder, blocked, other].map(client => client.close()));
  });
});

suite('nothing is sent behind a statement', () => {
  /** The exchanges under way on one connection at most, while eight clients run a text. */
  async function deepest(proxy: TestProxy, text: (n: number) => string): Promise<number> {
    const clients = await Promise.all(Array.from({ length: 8 }, () => proxy.raw()));
    let depth = 0;
    const work = clients.map(async (client, n) => {
      for (let count = 0; count < 20; count++) {
        client.send(query(text(n * 20 + count)));
        await sleep(1);
        for (const { load } of poolOf(proxy).connections) depth = Math.max(depth, load.depth);
        assert.equal(errorOf(await client.ready()), undefined);
      }
    });
    await Promise.all(work);
    await Promise.all(clients.map(client => client.close()));
    return depth;
  }

  test('that is slow', async () => {
    await using proxy = await sharing(2);
    await using client = await proxy.raw();
    for (let count = 0; count < 5; count++) await client.query('SELECT 1 FROM pg_sleep(0.01)');
    assert.equal(await deepest(proxy, () => 'SELECT 1 FROM pg_sleep(0.01)'), 1);
  });

  test('that is large', async () => {
    await using proxy = await sharing(2);
    await using client = await proxy.raw();
    await client.query("SELECT repeat('x', 100000)");
    assert.equal(await deepest(proxy, () => "SELECT repeat('x', 100000)"), 1);
  });

  test('that was never seen', async () => {
    await using proxy = await sharing(2);
    assert.equal(await deepest(proxy, n => `SELECT 1 AS a${n}`), 1);
  });

  test('beyond multiplexing_max_depth', async () => {
    await using proxy = await sharing(1, { multiplexing_max_depth: 3 });
    assert.ok((await deepest(proxy, () => 'SELECT 1')) <= 3);
  });
});

test('a client who wants a connection for itself gets one among many who share', async () => {
  await using proxy = await sharing(2);
  let working = true;
  const clients = await Promise.all(Array.from({ length: 8 }, () => proxy.raw()));
  const work = clients.map(async client => {
    while (working) await timed(client, 'SELECT 1', [['1']]);
  });
  await using owner = await proxy.raw();
  for (let count = 0; count < 20; count++) {
    const since = performance.now();
    for (const text of ['BEGIN', 'SELECT 5', 'COMMIT']) assert.equal(errorOf(await owner.query(text)), undefined);
    assert.ok(performance.now() - since < SOON_MS);
  }
  working = false;
  await Promise.all(work);
  await Promise.all(clients.map(client => client.close()));
});

suite('connections are opened', () => {
  test('not because one is busy at the moment', async () => {
    await using proxy = await sharing(20);
    const clients = await Promise.all(Array.from({ length: 4 }, () => proxy.raw()));
    await known(clients[0], 'SELECT 1');
    for (let count = 0; count < 50; count++) {
      await Promise.all(clients.map(client => timed(client, 'SELECT 1', [['1']])));
    }
    // On a busy machine some of them take so long that another is opened.
    assert.ok(poolOf(proxy).connections.size < 10, `${poolOf(proxy).connections.size} connections`);
    await Promise.all(clients.map(client => client.close()));
  });

  test('for statements that keep others waiting', async () => {
    await using proxy = await sharing(4);
    const clients = await Promise.all(Array.from({ length: 4 }, () => proxy.raw()));
    const all = clients.map(client => client.query('SELECT 1 FROM pg_sleep(0.2)'));
    await eventually('four of them', () => poolOf(proxy).connections.size === 4);
    await Promise.all(all);
    await Promise.all(clients.map(client => client.close()));
  });
});

test('multiplexing = "off" leases a connection for everything, and so does session mode', async () => {
  for (const pool of [{ multiplexing: 'off' }, { pool_mode: 'session' }]) {
    await using proxy = await sharing(2, { ...pool, multiplexing: 'off' });
    await using client = await proxy.raw();
    for (let count = 0; count < 5; count++) await client.query('SELECT 1');
    assert.equal(counters(proxy).shared_count, 0);
  }
});
