/** Pools: how many connections, for whom and for how long, and that every client finds its connection clean. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { backendPid, forgetStatements, settled, statementCalls, wholePool } from '../failure/backends.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); CREATE TABLE numbers (n int)');
  await cluster.sql('GRANT ALL ON kept, numbers TO PUBLIC');
});
after(() => cluster?.stop());

const start = (options: ProxyOptions) => TestProxy.start(cluster, options);
/** How many sessions of alice the server has. */
const sessions = async () => (await cluster.activity()).filter(({ usename }) => usename === 'alice').length;
const types = (messages: readonly { type: string }[]) => messages.map(({ type }) => type).join('');

suite('the size of a pool', () => {
  test('is never exceeded, however many clients there are', async () => {
    await using proxy = await start({ user: { pool_size: 4 }, pool: { connect_timeout: 10_000 } });
    const clients = await Promise.all(Array.from({ length: 50 }, () => proxy.raw()));
    let most = 0;
    const work = Promise.all(
      clients.map(async (client, number) => {
        for (let count = 0; count < 10; count++) {
          const messages = await client.query(`SELECT '${number}.${count}' FROM pg_sleep(0.002)`);
          assert.deepEqual(rowsOf(messages), [[`${number}.${count}`]]);
        }
      }),
    );
    let working = true;
    const watch = async () => {
      while (working) most = Math.max(most, await sessions());
    };
    await Promise.all([work.finally(() => (working = false)), watch()]);
    assert.equal(most, 4);
    await Promise.all(clients.map(client => client.close()));
  });

  test('is no smaller after clients came and went', async () => {
    await using proxy = await start({ user: { pool_size: 3 } });
    const first = await wholePool(proxy, 3);
    assert.deepEqual(await wholePool(proxy, 3), first);
  });

  test('min_pool_size connections are there before anybody asks, and again after they are lost', async () => {
    await using _ = await start({ user: { pool_size: 5, min_pool_size: 3 } });
    await eventually('three connections', async () => (await sessions()) === 3);
    await cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'");
    await eventually('three new connections', async () => (await sessions()) === 3);
  });
});

suite('server_round_robin', () => {
  const served = async (server_round_robin: boolean) => {
    await using proxy = await start({ general: { server_round_robin }, user: { pool_size: 3 } });
    await wholePool(proxy, 3);
    await using client = await proxy.raw();
    const pids: number[] = [];
    for (let count = 0; count < 9; count++) pids.push(await backendPid(client));
    return pids;
  };

  test('takes the connection that was idle longest', async () => {
    const pids = await served(true);
    assert.equal(new Set(pids.slice(0, 3)).size, 3);
    assert.deepEqual(pids.slice(3), pids.slice(0, 6));
  });

  test('when off takes the one that was idle shortest', async () => {
    assert.equal(new Set(await served(false)).size, 1);
  });
});

suite('a server with fewer connections than pool_size', () => {
  before(() => cluster.sql('ALTER ROLE alice CONNECTION LIMIT 2'));
  after(() => cluster.sql('ALTER ROLE alice CONNECTION LIMIT -1'));
  const refusals = async () => (await cluster.primary.logText()).split('too many connections for role').length - 1;

  test('serves all clients with what it has, without being asked for more all the while', async () => {
    await using proxy = await start({ users: ['alice'], user: { pool_size: 10 }, pool: { connect_timeout: 5000 } });
    const before = await refusals();
    const clients = await Promise.all(Array.from({ length: 8 }, () => proxy.raw()));
    await Promise.all(
      clients.map(async client => {
        for (let count = 0; count < 40; count++) {
          assert.equal(errorOf(await client.query('SELECT pg_sleep(0.002)')), undefined);
        }
      }),
    );
    assert.equal(await sessions(), 2);
    const asked = (await refusals()) - before;
    assert.ok(asked > 0 && asked < 20, `it refused ${asked} connections`);
    await Promise.all(clients.map(client => client.close()));
  });

  test('is named as the reason when a client has waited in vain', async () => {
    await using proxy = await start({ users: ['alice'], user: { pool_size: 10 }, pool: { connect_timeout: 300 } });
    const holders = await Promise.all([proxy.raw(), proxy.raw()]);
    await Promise.all(holders.map(holder => holder.query('BEGIN')));
    await using client = await proxy.raw();
    const error = errorOf(await client.query('SELECT 1'));
    assert.equal(error?.code, '58000');
    assert.match(error?.message ?? '', /too many connections for role "alice"/);
    await Promise.all(holders.map(holder => holder.close()));
  });
});

suite('clients that wait', () => {
  test('are served in the order in which they came', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { connect_timeout: 10_000 } });
    await cluster.sql('TRUNCATE numbers');
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    const clients: RawClient[] = [];
    for (let number = 0; number < 20; number++) {
      const client = await proxy.raw();
      clients.push(client);
      client.send(frontend.query(`INSERT INTO numbers VALUES (${number})`));
      await eventually('it waits', () => waiters(proxy) === number + 1);
    }
    await holder.query('COMMIT');
    for (const client of clients) await client.ready();
    const rows = await cluster.sql<{ n: number }>('SELECT n FROM numbers ORDER BY xmin::text::bigint');
    assert.deepEqual(
      rows.map(({ n }) => n),
      clients.map((_, number) => number),
    );
    await Promise.all(clients.map(client => client.close()));
  });

  test('get 58000 after connect_timeout that names the pool, and go on', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { connect_timeout: 300 } });
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    await using client = await proxy.raw();
    const began_ms = performance.now();
    const error = errorOf(await client.query('SELECT 1'));
    const waited_ms = performance.now() - began_ms;
    assert.ok(waited_ms > 250 && waited_ms < 1000, `it waited ${waited_ms} ms`);
    assert.equal(error?.code, '58000');
    assert.equal(error?.severity, 'ERROR');
    assert.match(error?.message ?? '', /could not get connection from the pool .*exhausted.*bench_shard_0_primary/);
    assert.match(error?.message ?? '', /all 1 connections .*connect_timeout \(300 ms\)/);
    assert.deepEqual(
      proxy.log.filter(({ msg }) => String(msg).startsWith('Banning')),
      [],
    );
    await holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
  });

  test('get the error as the answer to an unfinished batch, whose rest is ignored', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { connect_timeout: 100 } });
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    await using client = await proxy.raw();
    client.send(frontend.parse('', "INSERT INTO kept VALUES ('never')"), frontend.bind('', ''), frontend.flush());
    assert.equal(errorOf(await client.until('E'))?.code, '58000');
    client.send(frontend.execute(), frontend.flush());
    assert.ok(await client.silent(50));
    client.send(frontend.sync());
    assert.equal(types(await client.ready()), 'Z');
    await holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.query('SELECT count(*) FROM kept')), [['0']]);
  });

  test('are disconnected after checkout_failure_limit failures', async () => {
    const pool = { connect_timeout: 200, checkout_failure_limit: 2 };
    await using proxy = await start({ user: { pool_size: 1 }, pool });
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    const client = await proxy.raw();
    assert.equal(errorOf(await client.query('SELECT 1'))?.code, '58000');
    client.send(frontend.query('SELECT 2'));
    const last = await client.untilClosed();
    assert.equal(types(last), 'EZE');
    const fatal = errorOf(last.slice(2));
    assert.deepEqual([fatal?.code, fatal?.severity], ['58000', 'FATAL']);
    assert.match(fatal?.message ?? '', /checkout failure limit reached \(2 \/ 2\)/);
  });
});

suite('a connection that is old or idle', () => {
  test('is closed after idle_timeout, down to min_pool_size', async () => {
    await using proxy = await start({ user: { pool_size: 3, min_pool_size: 1 }, pool: { idle_timeout: 300 } });
    assert.equal((await wholePool(proxy, 3)).length, 3);
    await eventually('one is left', async () => (await sessions()) === 1, 5000);
    await sleep(1200);
    assert.equal(await sessions(), 1);
  });

  test('is closed after server_lifetime', async () => {
    await using proxy = await start({ user: { pool_size: 3 }, pool: { server_lifetime: 300 } });
    await wholePool(proxy, 3);
    await eventually('none is left', async () => (await sessions()) === 0, 5000);
  });

  test('is replaced after server_lifetime though clients are busy all the time, each at a time of its own', async () => {
    await using proxy = await start({ user: { pool_size: 10 }, users: ['alice'], pool: { server_lifetime: 1000 } });
    const before = await wholePool(proxy, 10);
    const ends = () => proxy.log.filter(({ cause }) => cause === 'server_lifetime is over');
    const busy = async () => {
      await using client = await proxy.raw();
      while (ends().length < 10) assert.equal(errorOf(await client.query('SELECT pg_sleep(0.005)')), undefined);
    };
    await Promise.all(Array.from({ length: 12 }, busy));
    const ages = ends().map(({ duration_ms }) => Number(duration_ms));
    const [youngest, oldest] = [Math.min(...ages), Math.max(...ages)];
    assert.ok(youngest >= 900 && oldest - youngest > 20 && oldest < 3000, `${ages}`);
    const now = await wholePool(proxy, 10);
    assert.ok(
      before.every(pid => !now.includes(pid)),
      `${now} after ${before}`,
    );
  });

  test('in a transaction lives until that ends', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { server_lifetime: 100 } });
    await using client = await proxy.raw();
    await client.query('BEGIN');
    const pid = await backendPid(client);
    await sleep(1300);
    assert.equal(await backendPid(client), pid);
    await client.query('COMMIT');
    assert.notEqual(await backendPid(client), pid);
  });
});

suite('a connection that comes back', () => {
  const cleanups = 'RESET|DEALLOCATE|ROLLBACK|DISCARD|UNLISTEN|CLOSE|advisory';
  const cases: Readonly<Record<string, { run: string[]; expected: Record<string, number>; options?: ProxyOptions }>> = {
    'five SET': {
      run: Array(5).fill('SET statement_timeout TO 1000'),
      expected: { 'RESET ROLE': 5, 'RESET ALL': 5 },
    },
    'plain queries': {
      run: ['SELECT 1', 'INSERT INTO numbers VALUES (1)', 'SELECT 2', 'DELETE FROM numbers'],
      expected: {},
    },
    'a transaction': { run: ['BEGIN', 'INSERT INTO numbers VALUES (1)', 'COMMIT'], expected: {} },
    'SET without cleanup_server_connections': {
      run: Array(5).fill('SET statement_timeout TO 1000'),
      expected: {},
      options: { pool: { cleanup_server_connections: false } },
    },
    'SET LOCAL': { run: ['BEGIN', 'SET LOCAL statement_timeout TO 1000', 'SELECT 1', 'COMMIT'], expected: {} },
    'SET in a transaction': {
      run: ['BEGIN', 'SET statement_timeout TO 1000', 'SELECT 1', 'SET lock_timeout TO 1000', 'COMMIT'],
      expected: { 'RESET ROLE': 1, 'RESET ALL': 1 },
    },
    'SET ROLE': { run: ['SET ROLE alice'], expected: { 'RESET ROLE': 1, 'RESET ALL': 1 } },
    PREPARE: { run: ['PREPARE p AS SELECT 1'], expected: { 'DEALLOCATE ALL': 1 } },
    'SET and PREPARE': {
      run: ['BEGIN', 'SET statement_timeout TO 1000', 'PREPARE p AS SELECT 1', 'COMMIT'],
      expected: { 'RESET ROLE': 1, 'RESET ALL': 1, 'DEALLOCATE ALL': 1 },
    },
    LISTEN: { run: ['LISTEN news'], expected: { 'UNLISTEN *': 1 } },
    'a cursor WITH HOLD': {
      run: ['BEGIN', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'COMMIT'],
      expected: { 'CLOSE ALL': 1 },
    },
    'a temporary table': { run: ['CREATE TEMP TABLE t (a int)'], expected: { 'DISCARD TEMP': 1 } },
    'an advisory lock': {
      run: ['SELECT pg_advisory_lock(1)'],
      expected: { 'SELECT pg_advisory_lock($1)': 1, 'SELECT pg_catalog.pg_advisory_unlock_all()': 1 },
    },
  };
  for (const [name, { run, expected, options }] of Object.entries(cases)) {
    test(`after ${name} is cleaned as much as it must be`, async () => {
      await using proxy = await start({ user: { pool_size: 1 }, ...options });
      await using client = await proxy.raw();
      await forgetStatements(cluster);
      for (const sql of run) assert.equal(errorOf(await client.query(sql)), undefined, sql);
      // The next lease waits for the cleanup.
      await client.query('SELECT 1');
      assert.deepEqual(await statementCalls(cluster, cleanups), expected);
    });
  }

  test('has nothing of what the client before it did', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using first = await proxy.raw();
    for (const sql of [
      'SET statement_timeout TO 4711',
      "SELECT set_config('lock_timeout', '4711', false)",
      'CREATE TEMP TABLE mine AS SELECT 4711 AS n',
      'PREPARE mine AS SELECT 4711',
      'SELECT pg_advisory_lock(4711)',
      'BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 4711; COMMIT',
      'LISTEN mine',
      "SET search_path TO 'mine'",
    ])
      assert.equal(errorOf(await first.query(sql)), undefined, sql);
    await using second = await proxy.raw();
    assert.deepEqual(rowsOf(await second.query('SHOW statement_timeout')), [['0']]);
    assert.deepEqual(rowsOf(await second.query('SHOW lock_timeout')), [['0']]);
    assert.deepEqual(rowsOf(await second.query('SHOW search_path')), [['"$user", public']]);
    const left = ['pg_prepared_statements', 'pg_cursors', 'pg_listening_channels()'];
    for (const view of left) assert.deepEqual(rowsOf(await second.query(`SELECT * FROM ${view}`)), [], view);
    assert.equal(errorOf(await second.query('SELECT * FROM mine'))?.code, '42P01');
    const locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert.deepEqual(rowsOf(await second.query(locks)), [['0']]);
  });

  test('is whole after a COPY that failed while its client was in the middle of a message', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using other = await proxy.raw();
    for (const length of [1_000, 50_000, 1_000_000]) {
      await using client = await proxy.raw();
      client.send(frontend.query('COPY numbers FROM STDIN'));
      await client.until('G');
      const row = frontend.copyData('1\n'.repeat(length / 2));
      client.send(frontend.copyData('not a number\n'), row.subarray(0, length / 2));
      assert.equal(errorOf(await client.ready())?.code, '22P02');
      for (let count = 0; count < 5; count++) {
        assert.deepEqual(rowsOf(await other.query(`SELECT ${count}`)), [[`${count}`]]);
      }
      client.send(row.subarray(length / 2), frontend.copyDone());
      assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
    }
  });
});

suite('session mode', () => {
  const options = { user: { pool_size: 2 }, pool: { pool_mode: 'session', connect_timeout: 300 } };

  test('keeps the connection until the client leaves, and cleans it then', async () => {
    await using proxy = await start({ ...options, user: { pool_size: 1 } });
    const first = await proxy.raw();
    const pid = await backendPid(first);
    for (const sql of ['SET statement_timeout TO 4711', 'CREATE TEMP TABLE mine (a int)', 'LISTEN mine']) {
      await first.query(sql);
    }
    assert.deepEqual(rowsOf(await first.query('SHOW statement_timeout')), [['4711ms']]);
    assert.equal(await backendPid(first), pid);
    await using second = await proxy.raw();
    assert.equal(errorOf(await second.query('SELECT 1'))?.code, '58000');
    await forgetStatements(cluster);
    await first.close();
    assert.equal(await backendPid(second), pid);
    assert.deepEqual(rowsOf(await second.query('SHOW statement_timeout')), [['0']]);
    assert.deepEqual(await statementCalls(cluster, 'RESET|DISCARD|UNLISTEN|DEALLOCATE|CLOSE'), {
      'RESET ROLE': 1,
      'RESET ALL': 1,
      'DISCARD TEMP': 1,
      'UNLISTEN *': 1,
    });
  });

  test('gives startup settings connections of their own, so that RESET returns to them', async () => {
    await using proxy = await start(options);
    const parameters = { options: '-c statement_timeout=1234', search_path: 'pg_catalog' };
    const first = await proxy.raw(parameters);
    await first.query('SET statement_timeout TO 99');
    await first.query('RESET statement_timeout');
    assert.deepEqual(rowsOf(await first.query('SHOW statement_timeout')), [['1234ms']]);
    assert.deepEqual(rowsOf(await first.query('SHOW search_path')), [['pg_catalog']]);
    const pid = await backendPid(first);
    await using plain = await proxy.raw();
    assert.deepEqual(rowsOf(await plain.query('SHOW statement_timeout')), [['0']]);
    assert.notEqual(await backendPid(plain), pid);
    await first.query("SET search_path TO 'public'");
    await first.close();
    await using same = await proxy.raw(parameters);
    assert.equal(await backendPid(same), pid);
    assert.deepEqual(rowsOf(await same.query('SHOW search_path')), [['pg_catalog']]);
  });

  test('makes room for other startup settings by closing an idle connection', async () => {
    await using proxy = await start(options);
    await wholePool(proxy, 2);
    await using client = await proxy.raw({ statement_timeout: '1234' });
    assert.deepEqual(rowsOf(await client.query('SHOW statement_timeout')), [['1234ms']]);
    await eventually('two connections', async () => (await sessions()) === 2);
  });

  test('tells an idle client that its connection was lost', async () => {
    await using proxy = await start(options);
    const client = await proxy.raw();
    const pid = await backendPid(client);
    await cluster.sql('SELECT pg_terminate_backend($1)', [pid]);
    const error = errorOf(await client.untilClosed());
    assert.deepEqual([error?.severity, error?.code], ['FATAL', '08006']);
    assert.match(error?.message ?? '', /terminating connection due to administrator command/);
  });
});

suite('time limits', () => {
  test('statement_timeout cancels the statement on the server', async () => {
    await using proxy = await start({ user: { pool_size: 1, statement_timeout: 200 } });
    await using client = await proxy.raw();
    const pid = await backendPid(client);
    const error = errorOf(await client.query('SELECT pg_sleep(100)'));
    assert.deepEqual([error?.severity, error?.code], ['ERROR', '57014']);
    assert.match(error?.message ?? '', /pool statement timeout/);
    await settled(cluster);
    assert.equal(await backendPid(client), pid);
    await client.query('BEGIN');
    assert.equal(errorOf(await client.query('SELECT pg_sleep(100)'))?.code, '57014');
    assert.equal(types(await client.query('ROLLBACK')), 'CZ');
  });

  test('statement_timeout leaves alone what is fast, and the time between statements', async () => {
    await using proxy = await start({ user: { pool_size: 1, statement_timeout: 200 } });
    await using client = await proxy.raw();
    await client.query('BEGIN');
    for (let count = 0; count < 3; count++) {
      assert.equal(errorOf(await client.query('SELECT pg_sleep(0.05)')), undefined);
      await sleep(150);
    }
    assert.deepEqual(tagsOf(await client.query('COMMIT')), ['COMMIT']);
  });

  const limits = {
    general: { idle_client_in_transaction_timeout: 200 },
    user: { pool_size: 1 },
    pool: { connect_timeout: 5000 },
  };

  test('idle_client_in_transaction_timeout rolls back and gives the connection to others', async () => {
    await using proxy = await start(limits);
    await using client = await proxy.raw();
    await client.query("BEGIN; INSERT INTO kept VALUES ('never')");
    const pid = await backendPid(client);
    await using other = await proxy.raw();
    assert.equal(await backendPid(other), pid);
    assert.deepEqual(rowsOf(await other.query('SELECT * FROM kept')), []);
  });

  const replies: Readonly<Record<string, { send: Buffer[]; expected: string }>> = {
    'a query': { send: [frontend.query('COMMIT')], expected: 'EZ' },
    'a batch': {
      send: [frontend.parse('', 'COMMIT'), frontend.bind('', ''), frontend.execute(), frontend.sync()],
      expected: 'EZ',
    },
    'a Sync': { send: [frontend.sync()], expected: 'EZ' },
  };
  for (const [name, { send, expected }] of Object.entries(replies)) {
    test(`idle_client_in_transaction_timeout is the reply to ${name}, and nothing shifts`, async () => {
      await using proxy = await start(limits);
      await using client = await proxy.raw();
      await client.query('BEGIN');
      await sleep(400);
      assert.ok(await client.silent(0), 'nothing is said before the client asks');
      client.send(...send);
      const messages = [];
      while (messages.length < expected.length) messages.push(await client.message());
      assert.equal(types(messages), expected);
      const error = errorOf(messages);
      assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000']);
      assert.match(error?.message ?? '', /idle transaction timeout/);
      assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
    });
  }

  test('idle_client_in_transaction_timeout ends a client who has sent more: it was meant for the transaction', async () => {
    await using proxy = await start(limits);
    for (const begin of [
      [frontend.query("INSERT INTO kept VALUES ('never')")],
      [
        frontend.parse('', "INSERT INTO kept VALUES ('never')"),
        frontend.bind('', ''),
        frontend.execute(),
        frontend.sync(),
      ],
    ]) {
      const client = await proxy.raw();
      await client.query('BEGIN');
      await sleep(400);
      client.send(...begin, ...begin, frontend.query('COMMIT'));
      const error = errorOf(await client.untilClosed());
      assert.equal(error?.code, '58000');
      assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
    }
  });

  test('idle_client_in_transaction_timeout forgets a batch that was begun', async () => {
    await using proxy = await start(limits);
    await using client = await proxy.raw();
    await client.query('BEGIN');
    client.send(frontend.parse('', 'SELECT 1'), frontend.bind('', ''));
    await sleep(400);
    client.send(frontend.execute(), frontend.sync());
    assert.equal(types(await client.ready()), 'EZ');
    assert.equal(types(await client.query('SELECT 42')), 'TDCZ');
  });

  test('idle_client_in_transaction_timeout rolls back a batch that its client leaves open', async () => {
    await using proxy = await start(limits);
    await using client = await proxy.raw();
    const insert = frontend.parse('', "INSERT INTO kept VALUES ('never')");
    client.send(insert, frontend.bind('', ''), frontend.execute(), frontend.flush());
    await client.until('C');
    await using other = await proxy.raw();
    assert.deepEqual(rowsOf(await other.query('SELECT * FROM kept')), []);
    client.send(frontend.execute(), frontend.sync());
    const messages = await client.ready();
    assert.equal(types(messages), 'EZ');
    assert.match(errorOf(messages)?.message ?? '', /idle transaction timeout/);
    assert.equal(types(await client.query('SELECT 42')), 'TDCZ');
  });

  const copies: Readonly<Record<string, readonly Buffer[]>> = {
    'a COPY': [frontend.query('COPY kept FROM STDIN')],
    'an extended COPY': [frontend.parse('', 'COPY kept FROM STDIN'), frontend.bind('', ''), frontend.execute()],
  };
  for (const [name, messages] of Object.entries(copies)) {
    test(`idle_client_in_transaction_timeout ends ${name} whose client sends nothing`, async () => {
      await using proxy = await start(limits);
      await using client = await proxy.raw();
      client.send(...messages, frontend.flush());
      await client.until('G');
      for (let count = 0; count < 5; count++) {
        client.send(frontend.copyData('never\n'));
        await sleep(100);
      }
      assert.ok(await client.silent(0), 'it goes on as long as data comes');
      client.send(frontend.copyData(`${'never '.repeat(100)}\n`).subarray(0, 50));
      const error = errorOf(await client.until('E'));
      assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000']);
      assert.match(error?.message ?? '', /idle transaction timeout/);
      client.send(frontend.copyData(`${'never '.repeat(100)}\n`).subarray(50), frontend.copyDone(), frontend.sync());
      await client.ready();
      await using other = await proxy.raw();
      assert.deepEqual(rowsOf(await other.query('SELECT * FROM kept')), []);
    });

    test(`statement_timeout ends ${name}`, async () => {
      await using proxy = await start({ user: { pool_size: 1, statement_timeout: 200 } });
      await using client = await proxy.raw();
      client.send(...messages, frontend.flush());
      await client.until('G');
      client.send(frontend.copyData('never\n'));
      const error = errorOf(await client.until('E'));
      assert.deepEqual([error?.severity, error?.code], ['ERROR', '57014']);
      assert.match(error?.message ?? '', /pool statement timeout/);
      client.send(frontend.copyDone(), frontend.sync());
      await client.ready();
      assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
    });
  }
});

/** How many clients wait for a connection to the primary now. */
function waiters(proxy: TestProxy): number {
  let count = 0;
  for (const { pools } of proxy.proxy.clusters()) for (const pool of pools) count += pool.waiting;
  return count;
}
