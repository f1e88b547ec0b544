/** Limits of server connections: who waits for them, the reserve, and caps that several pools share. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

const start = (options: ProxyOptions) => TestProxy.start(cluster, options);
const sessions = async (...users: string[]) =>
  (await cluster.activity()).filter(({ usename }) => users.length === 0 || users.includes(usename)).length;
const login = (proxy: TestProxy, user: 'alice' | 'bob', database = DATABASE) =>
  RawClient.connect({ port: proxy.port, user, database, password: PASSWORDS[user] });
const said = async (client: RawClient, text: string) => errorOf(await client.query(text));
/** A second pool on the same server. */
const other = (keys = '') => `[pools.other]
[pools.other.users.0]
username = "alice"
password = ${JSON.stringify(PASSWORDS.alice)}
pool_size = 5
${keys}
[pools.other.shards.0]
database = "${DATABASE}"
servers = [["127.0.0.1", ${cluster.primary.port}, "primary"]]
`;

suite('max_waiting_clients', () => {
  test('one more is refused at once with 53300, and those who wait are served', async () => {
    await using proxy = await start({
      user: { pool_size: 1 },
      pool: { max_waiting_clients: 2, connect_timeout: 10_000 },
    });
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    const waiting = [await proxy.raw(), await proxy.raw()];
    for (const client of waiting) client.send(frontend.query('SELECT 1'));
    await using late = await proxy.raw();
    await eventually('both wait', () => [...proxy.proxy.clusters()].some(({ pools }) => pools[0]?.waiting === 2));
    const began_ms = performance.now();
    const error = await said(late, 'SELECT 1');
    assert.ok(performance.now() - began_ms < 1000);
    assert.deepEqual([error?.severity, error?.code], ['ERROR', '53300']);
    assert.match(error?.message ?? '', /2 statements wait already \(max_waiting_clients\)/);
    await holder.query('COMMIT');
    for (const client of waiting) assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    assert.equal(await said(late, 'SELECT 1'), undefined);
    await Promise.all(waiting.map(client => client.close()));
  });

  test('counts nobody for whom a connection is being opened', async () => {
    await using proxy = await start({ user: { pool_size: 5 }, pool: { max_waiting_clients: 1 } });
    const clients = await Promise.all(Array.from({ length: 6 }, () => proxy.raw()));
    const errors = await Promise.all(clients.slice(0, 5).map(client => said(client, 'BEGIN')));
    assert.deepEqual(errors, Array(5).fill(undefined));
    await Promise.all(clients.map(client => client.close()));
  });
});

suite('reserve_pool_size', () => {
  test('connections are opened for who has waited reserve_pool_timeout, so many, and closed when nobody uses them', async () => {
    const general = { reserve_pool_size: 1, reserve_pool_timeout: 300, connect_timeout: 1500 };
    await using proxy = await start({ general, users: ['alice'], user: { pool_size: 1 } });
    const [holder, second, third] = await Promise.all([proxy.raw(), proxy.raw(), proxy.raw()]);
    await holder.query('BEGIN');
    const began_ms = performance.now();
    assert.equal(await said(second, 'BEGIN'), undefined);
    const waited_ms = performance.now() - began_ms;
    assert.ok(waited_ms >= 300 && waited_ms < 1500, `it waited ${waited_ms} ms`);
    assert.equal(await sessions('alice'), 2);
    assert.equal((await said(third, 'SELECT 1'))?.code, '58000', 'there is no more than that');
    await Promise.all([holder.query('COMMIT'), second.query('COMMIT')]);
    await eventually('one is left', async () => (await sessions('alice')) === 1, 5000);
    for (const client of [holder, second, third]) await client.close();
  });
});

suite('caps that pools share', () => {
  for (const [setting, options] of [
    ['max_db_connections', { pool: { max_db_connections: 2 } }],
    ['max_db_connections of [general]', { general: { max_db_connections: 2 } }],
    ['max_server_connections', { general: { max_server_connections: 2 } }],
  ] as const) {
    test(`${setting}: never more, and everybody is served, in transactions and without`, async () => {
      await using proxy = await start({ ...options, pool: { connect_timeout: 10_000, ...Object(options).pool } });
      const users = (['alice', 'bob'] as const).flatMap(user => Array<'alice' | 'bob'>(5).fill(user));
      const clients = await Promise.all(users.map(user => login(proxy, user)));
      let most = 0;
      let isOver = false;
      const watch = async () => {
        while (!isOver) most = Math.max(most, await sessions('alice', 'bob'));
      };
      const work = clients.map(async (client, number) => {
        for (let count = 0; count < 10; count++) {
          if (number % 2 === 0) assert.equal(await said(client, 'BEGIN'), undefined);
          assert.deepEqual(rowsOf(await client.query(`SELECT '${number}', current_user`)), [
            [`${number}`, users[number]],
          ]);
          if (number % 2 === 0) assert.equal(await said(client, 'COMMIT'), undefined);
        }
      });
      await Promise.all([Promise.all(work).finally(() => (isOver = true)), watch()]);
      assert.equal(most, 2);
      await Promise.all(clients.map(client => client.close()));
    });
  }

  test('max_user_connections: of one user in all pools, not of others', async () => {
    const user = { max_user_connections: 1 };
    await using proxy = await start({
      user,
      general: { query_wait_timeout: 600 },
      more: other('max_user_connections = 1'),
    });
    await using here = await login(proxy, 'alice');
    await using there = await login(proxy, 'alice', 'other');
    await using stranger = await login(proxy, 'bob');
    assert.equal(await said(here, 'BEGIN'), undefined);
    assert.equal(await said(stranger, 'SELECT 1'), undefined);
    const error = await said(there, 'SELECT 1');
    assert.equal(error?.code, '58000');
    assert.match(
      error?.message ?? '',
      /pool exhausted: .*has no connection.*max_user_connections \(1\) allows no more/,
    );
    assert.equal(await said(here, 'COMMIT'), undefined);
    assert.equal(await said(there, 'SELECT 1'), undefined);
    assert.equal(await sessions('alice'), 1);
  });

  test('an idle connection of another pool is closed to make room, and none when nobody needs it', async () => {
    await using proxy = await start({ general: { max_server_connections: 1 } });
    await using alice = await login(proxy, 'alice');
    await using bob = await login(proxy, 'bob');
    const ends = () => proxy.log.filter(({ cause }) => cause === 'its place is needed by another pool').length;
    const before = ends();
    for (const client of [alice, bob, alice]) {
      assert.equal(await said(client, 'SELECT 1'), undefined);
      assert.equal(await sessions('alice', 'bob'), 1);
    }
    assert.ok(ends() >= before + 2);
    const now = ends();
    for (let count = 0; count < 5; count++) assert.equal(await said(alice, 'SELECT 1'), undefined);
    assert.equal(ends(), now);
  });

  test('min_pool_size above a cap opens as many as there may be, and closes none for it', async () => {
    await using proxy = await start({
      general: { max_server_connections: 2 },
      user: { min_pool_size: 3, pool_size: 5 },
    });
    await eventually('two are open', async () => (await sessions('alice', 'bob')) === 2);
    await sleep(1200);
    assert.equal(await sessions('alice', 'bob'), 2);
    const ended = proxy.log.filter(({ msg }) => /^Server connection closed/.test(String(msg)));
    assert.deepEqual(ended, []);
  });

  const busy: Readonly<Record<string, (client: RawClient) => Promise<unknown>>> = {
    'statements that share a connection': client => client.query("SELECT 'busy'"),
    transactions: async client => {
      await client.query('BEGIN');
      await client.query('SELECT 1');
      await client.query('COMMIT');
    },
  };
  for (const [name, act] of Object.entries(busy)) {
    test(`a pool without a connection is served though another is never idle with ${name}; and that goes on`, async () => {
      await using proxy = await start({
        general: { max_server_connections: 1, connect_timeout: 10_000 },
        pool: { multiplexing_max_depth: 2 },
      });
      const crowd = await Promise.all(Array.from({ length: 24 }, () => login(proxy, 'alice')));
      let isOver = false;
      const work = crowd.map(async client => {
        while (!isOver) await act(client);
      });
      await using bob = await login(proxy, 'bob');
      for (let count = 0; count < 5; count++) {
        const began_ms = performance.now();
        assert.deepEqual(rowsOf(await bob.query('SELECT current_user')), [['bob']]);
        const waited_ms = performance.now() - began_ms;
        assert.ok(waited_ms < 5000, `it waited ${waited_ms} ms`);
      }
      isOver = true;
      await Promise.all(work);
      for (const client of crowd) assert.equal(await said(client, 'SELECT 1'), undefined);
      await Promise.all(crowd.map(client => client.close()));
    });
  }

  test('who needs room under two caps gets it though others take each in turn', async () => {
    // alice of the other pool needs the server's and her own; bob and alice keep one each busy.
    const general = { max_server_connections: 2, max_user_connections: 1, connect_timeout: 10_000 };
    await using proxy = await start({ general, more: other() });
    let isOver = false;
    const crowd = await Promise.all((['alice', 'alice', 'bob', 'bob', 'bob'] as const).map(user => login(proxy, user)));
    const work = crowd.map(async client => {
      while (!isOver) {
        await client.query('BEGIN');
        await client.query('COMMIT');
      }
    });
    await using needy = await login(proxy, 'alice', 'other');
    for (let count = 0; count < 3; count++) {
      const began_ms = performance.now();
      assert.equal(await said(needy, 'SELECT 1'), undefined);
      assert.ok(performance.now() - began_ms < 5000);
    }
    isOver = true;
    await Promise.all(work);
    await Promise.all(crowd.map(client => client.close()));
  });
});

suite('a server that refuses logins', () => {
  const refusals = async () =>
    (await cluster.primary.logText()).split('password authentication failed for user "bob"').length - 1;

  test('is asked now and then; clients get its own message and SQLSTATE, and it is found as soon as it takes them', async () => {
    await using proxy = await start({ general: { server_login_retry: 400 }, users: ['bob'] });
    await using here = await login(proxy, 'bob');
    assert.equal(await said(here, 'SELECT 1'), undefined);
    await cluster.sql("ALTER ROLE bob PASSWORD 'changed'");
    const before = await refusals();
    const began_ms = performance.now();
    try {
      await cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bob'");
      await eventually('the client is told', async () => (await said(here, 'SELECT 1'))?.code === '28P01');
      const error = await said(here, 'SELECT 1');
      assert.deepEqual([error?.severity, error?.code], ['ERROR', '28P01']);
      assert.match(error?.message ?? '', /could not get connection.*password authentication failed for user "bob"/);
      assert.match(error?.hint ?? '', /refused a login of pglynx, not that of the client/);
      for (let count = 0; count < 100; count++) {
        assert.equal((await said(here, 'SELECT 1'))?.code, '28P01');
        await sleep(2);
      }
      const asked = (await refusals()) - before;
      const most = 8 + (performance.now() - began_ms) / 50;
      assert.ok(asked > 0 && asked < most, `it was asked ${asked} times`);
    } finally {
      await cluster.sql(`ALTER ROLE bob PASSWORD '${PASSWORDS.bob}'`);
    }
    await eventually('it is served', async () => (await said(here, 'SELECT 1')) === undefined, 3000);
  });

  test('at the login of a client ends it with FATAL, and all who wait at that moment hear of it', async () => {
    await cluster.sql("ALTER ROLE bob PASSWORD 'changed'");
    try {
      await using proxy = await start({ users: ['bob'] });
      const before = await refusals();
      const failed = await Promise.all(
        Array.from({ length: 40 }, () => login(proxy, 'bob').catch((error: unknown) => error)),
      );
      for (const error of failed) {
        assert.ok(error instanceof LoginError);
        assert.deepEqual([error.fields.severity, error.fields.code], ['FATAL', '28P01']);
      }
      const asked = (await refusals()) - before;
      assert.ok(asked < 20, `it was asked ${asked} times`);
    } finally {
      await cluster.sql(`ALTER ROLE bob PASSWORD '${PASSWORDS.bob}'`);
    }
  });
});
