/** The time that clients may take: each limit ends what it is meant for, on the server too, and nothing else. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { backendPid, settled } from '../failure/backends.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster?.stop());

/** To open connections takes longer than these limits when the machine is busy. */
const start = ({ general, ...options }: ProxyOptions) =>
  TestProxy.start(cluster, { ...options, general: { connect_timeout: 10_000, ...general } });
/** A client, as soon as a connection was there for its login. */
const join = async (proxy: TestProxy): Promise<RawClient> => {
  let client: RawClient | undefined;
  await eventually('a client is let in', async () => {
    client = await proxy.raw().catch(() => undefined);
    return client !== undefined;
  });
  return client ?? proxy.raw();
};
const types = (messages: readonly Message[]) => messages.map(({ type }) => type).join('');
const said = (messages: readonly Message[]) => {
  const error = errorOf(messages);
  return [error?.severity, error?.code];
};
/** Tests run side by side, and look at the server one after the other. */
let turn: Promise<unknown> = Promise.resolve();
const inTurn = <Result>(look: () => Promise<Result>): Promise<Result> => {
  const mine = turn.then(look);
  turn = mine.catch(() => undefined);
  return mine;
};
const atRest = () => inTurn(() => settled(cluster));
const kept = () => inTurn(async () => (await cluster.sql('SELECT line FROM kept')).length);
/** One connection, that a client holds in a transaction. */
const held = async (options: ProxyOptions) => {
  const proxy = await start({ ...options, user: { pool_size: 1, ...options.user } });
  try {
    const holder = await join(proxy);
    await eventually('it has a transaction', async () => errorOf(await holder.query('BEGIN')) === undefined);
    return { proxy, holder, [Symbol.asyncDispose]: () => proxy.stop() };
  } catch (error) {
    await proxy.stop();
    throw error;
  }
};

suite('waits', { concurrency: true }, () => {
  suite('query_wait_timeout', { concurrency: true }, () => {
    test('is how long a statement waits, whatever connect_timeout says', async () => {
      await using pool = await held({ general: { query_wait_timeout: 1500, connect_timeout: 1000 } });
      await using client = await join(pool.proxy);
      const began_ms = performance.now();
      const messages = await client.query('SELECT 1');
      assert.ok(performance.now() - began_ms >= 1500);
      assert.deepEqual(said(messages), ['ERROR', '58000']);
      assert.match(
        errorOf(messages)?.message ?? '',
        /could not get connection from the pool .*query_wait_timeout \(1500 ms\)/,
      );
      await pool.holder.query('COMMIT');
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
    });

    test('holds while the pool is paused too', async () => {
      await using proxy = await start({ general: { query_wait_timeout: 600, query_wait_notify: 100 } });
      await using client = await proxy.raw();
      const admin = await proxy.admin();
      await admin.query('PAUSE');
      const messages = await client.query('SELECT 1');
      assert.equal(types(messages), 'NEZ');
      assert.deepEqual(said(messages), ['ERROR', '58000']);
      await admin.query('RESUME');
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
      await admin.end();
    });

    test('0 is as long as it takes', async () => {
      await using pool = await held({ general: { query_wait_timeout: 0, connect_timeout: 1000 } });
      await using client = await join(pool.proxy);
      client.send(frontend.query('SELECT 1'));
      assert.ok(await client.silent(1400));
      await pool.holder.query('COMMIT');
      assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    });

    test('of a user comes before that of the pool, and that before [general]', async () => {
      for (const options of [
        { pool: { query_wait_timeout: 600 } },
        { pool: { query_wait_timeout: 60_000 }, user: { query_wait_timeout: 600 } },
      ]) {
        await using pool = await held({ general: { query_wait_timeout: 60_000 }, ...options });
        await using client = await join(pool.proxy);
        assert.match(errorOf(await client.query('SELECT 1'))?.message ?? '', /query_wait_timeout \(600 ms\)/);
      }
    });
  });

  suite('query_wait_notify', { concurrency: true }, () => {
    test('tells a client once that it waits, in front of its reply', async () => {
      await using pool = await held({ general: { query_wait_notify: 100, connect_timeout: 10_000 } });
      await using client = await join(pool.proxy);
      for (const messages of [
        [frontend.query('SELECT 1')],
        [frontend.parse('', 'SELECT 1'), frontend.bind('', ''), frontend.execute(), frontend.sync()],
      ]) {
        client.send(...messages);
        const [notice] = await client.until('N');
        const decoded = notice === undefined ? undefined : decode(notice);
        assert.ok(decoded?.name === 'NoticeResponse');
        assert.match(decoded.fields.message ?? '', /no server connection is free/);
        assert.ok(await client.silent(300));
        await pool.holder.query('COMMIT');
        assert.deepEqual(rowsOf(await client.ready()), [['1']]);
        await pool.holder.query('BEGIN');
      }
      await pool.holder.query('COMMIT');
      assert.equal(types(await client.query('SELECT pg_sleep(0.4)')), 'TDCZ', 'who is served hears nothing');
    });

    test('0 is never', async () => {
      await using pool = await held({ general: { query_wait_notify: 0, connect_timeout: 1000 } });
      await using client = await join(pool.proxy);
      assert.equal(types(await client.query('SELECT 1')), 'EZ');
    });
  });
});

suite('query_timeout', { concurrency: true }, () => {
  test('cancels on the server what takes longer, in both protocols and in a transaction, and the client goes on', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, general: { query_timeout: 200 } });
    await using client = await proxy.raw();
    const slow = 'SELECT pg_sleep(100)';
    for (const messages of [
      [frontend.query(slow)],
      [frontend.parse('', slow), frontend.bind('', ''), frontend.execute(), frontend.sync()],
    ]) {
      client.send(...messages);
      const reply = await client.ready();
      assert.deepEqual(said(reply), ['ERROR', '57014']);
      assert.match(errorOf(reply)?.message ?? '', /query_timeout \(200 ms\)/);
      await atRest();
      assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
    }
    await client.query('BEGIN');
    assert.deepEqual(said(await client.query(slow)), ['ERROR', '57014']);
    assert.equal(errorOf(await client.query('SELECT 1'))?.code, '25P02');
    assert.equal(types(await client.query('ROLLBACK')), 'CZ');
  });

  test('counts the wait for a connection, and nothing of a write that waits takes place', async () => {
    await using pool = await held({ general: { query_timeout: 200, connect_timeout: 10_000 } });
    await using client = await join(pool.proxy);
    const reply = await client.query("INSERT INTO kept VALUES ('never')");
    assert.deepEqual(said(reply), ['ERROR', '57014']);
    await pool.holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
    assert.equal(await kept(), 0);
  });

  test('gives each of two statements that are sent together its own time', async () => {
    await using pool = await held({ general: { query_timeout: 500, connect_timeout: 10_000 } });
    await using client = await join(pool.proxy);
    client.send(frontend.query('SELECT 1'), frontend.query('SELECT 2'));
    assert.deepEqual(said(await client.ready()), ['ERROR', '57014']);
    await sleep(200);
    await pool.holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.ready()), [['2']]);
  });

  test('is not the time between statements, of a transaction, or of what was flushed before', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { query_timeout: 600 } });
    await using client = await proxy.raw();
    await client.query('BEGIN');
    for (let count = 0; count < 3; count++) {
      assert.equal(errorOf(await client.query('SELECT pg_sleep(0.1)')), undefined);
      await sleep(350);
    }
    await client.query('COMMIT');
    for (let count = 0; count < 4; count++) {
      const nap = [frontend.parse('', 'SELECT pg_sleep(0.1)'), frontend.bind('', ''), frontend.execute()];
      client.send(...nap, frontend.flush());
      await client.until('C');
      await sleep(150);
    }
    client.send(frontend.sync());
    assert.equal(types(await client.ready()), 'Z');
  });

  test('of a user comes before that of the pool, and that before [general]; a reload changes it', async () => {
    const limits = {
      general: { query_timeout: 60_000 },
      pool: { query_timeout: 50_000 },
      user: { query_timeout: 800 },
    };
    await using proxy = await start(limits);
    await using client = await proxy.raw();
    assert.match(errorOf(await client.query('SELECT pg_sleep(100)'))?.message ?? '', /query_timeout \(800 ms\)/);
    client.send(frontend.query('SELECT pg_sleep(2)'));
    proxy.rewrite(configText(cluster, { ...limits, user: {} }));
    await proxy.proxy.reload();
    assert.equal(errorOf(await client.ready()), undefined, 'also for what is under way');
  });

  for (const [name, user] of [
    ['query_timeout', { pool_size: 3, query_timeout: 800 }],
    ['statement_timeout', { pool_size: 1, statement_timeout: 500 }],
  ] as const) {
    test(`${name} hits one client of those who share connections, and the others get their own answers`, async () => {
      await using proxy = await start({ user, users: ['alice'], pool: { connect_timeout: 10_000 } });
      const clients = await Promise.all(Array.from({ length: 6 }, () => proxy.raw()));
      const work = clients.map(async (client, number) => {
        for (let count = 0; count < 60; count++) {
          const tag = `${number}.${count}`;
          // The same template is fast as a rule, so that others are sent behind it when it is not.
          const isSlow = number === 0 && count % 20 === 19;
          const reply = await client.query(`SELECT '${tag}', pg_sleep(${isSlow ? 100 : 0})`);
          if (isSlow) assert.deepEqual(said(reply), ['ERROR', '57014'], tag);
          else assert.deepEqual(rowsOf(reply), [[tag, '']], `${tag}: ${errorOf(reply)?.message}`);
        }
      });
      await Promise.all(work);
      await atRest();
      await Promise.all(clients.map(client => client.close()));
    });
  }
});

suite('other times', { concurrency: true }, () => {
  suite('statement_timeout', { concurrency: true }, () => {
    test('is the time of the server alone: who waits behind others is not hit, nor who waits for a connection', async () => {
      await using pool = await held({ user: { statement_timeout: 200 }, pool: { connect_timeout: 10_000 } });
      await using client = await join(pool.proxy);
      client.send(frontend.query('SELECT 1'));
      assert.ok(await client.silent(500));
      await pool.holder.query('COMMIT');
      assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    });

    test('ends what stood behind something that was canceled, and does not run it again', async () => {
      await using proxy = await start({
        user: { pool_size: 1, statement_timeout: 300 },
        pool: { connect_timeout: 10_000 },
      });
      const [first, second] = await Promise.all([proxy.raw(), proxy.raw()]);
      await cluster.sql('CREATE SEQUENCE IF NOT EXISTS runs; GRANT ALL ON runs TO PUBLIC');
      const text = (time_s: number) => `INSERT INTO kept SELECT 'never' FROM pg_sleep(${time_s}) WHERE ${time_s} > 0`;
      for (let count = 0; count < 30; count++) assert.equal(errorOf(await first.query(text(0))), undefined);
      first.send(frontend.query(text(100)));
      second.send(frontend.query(text(100)));
      const [one, other] = await Promise.all([first.ready(), second.ready(3000)]);
      for (const reply of [one, other]) {
        assert.deepEqual(said(reply), ['ERROR', '57014']);
        assert.match(errorOf(reply)?.message ?? '', /statement_timeout \(300 ms\)/);
      }
      await atRest();
      assert.equal(await kept(), 0);
      await Promise.all([first.close(), second.close()]);
    });
  });

  suite('transaction_timeout', { concurrency: true }, () => {
    const begun = async (proxy: TestProxy): Promise<RawClient> => {
      const client = await proxy.raw();
      await client.query("BEGIN; INSERT INTO kept VALUES ('never')");
      return client;
    };
    const check = async (client: RawClient) => {
      const messages = await client.untilClosed();
      assert.deepEqual(said(messages), ['FATAL', '25P04']);
      assert.match(errorOf(messages)?.message ?? '', /transaction_timeout \(300 ms\)/);
      await atRest();
      assert.equal(await kept(), 0);
      client.destroy();
    };

    test('ends a transaction between statements, and while one runs', async () => {
      await using proxy = await start({ user: { pool_size: 1 }, pool: { transaction_timeout: 300 } });
      await check(await begun(proxy));
      const busy = await begun(proxy);
      busy.send(frontend.query('SELECT pg_sleep(100)'));
      await check(busy);
      const failed = await begun(proxy);
      await failed.query('nonsense');
      await check(failed);
    });

    test('leaves alone transactions that are short, one after the other, and what is no transaction', async () => {
      await using proxy = await start({
        user: { pool_size: 1 },
        pool: { pool_mode: 'session', transaction_timeout: 300 },
      });
      await using client = await proxy.raw();
      for (let count = 0; count < 4; count++) {
        await client.query('BEGIN');
        await sleep(100);
        await client.query('COMMIT');
      }
      await sleep(500);
      assert.equal(errorOf(await client.query('SELECT pg_sleep(0.5)')), undefined);
    });
  });

  suite('client_idle_timeout', { concurrency: true }, () => {
    test('disconnects who is silent outside a transaction, in every mode of the pool', async () => {
      for (const pool_mode of ['transaction', 'session']) {
        await using proxy = await start({ pool: { pool_mode, client_idle_timeout: 600 } });
        const [silent, fresh] = [await proxy.raw(), await proxy.raw()];
        await silent.query('SELECT 1');
        for (const client of [silent, fresh]) {
          const messages = await client.untilClosed();
          assert.deepEqual(said(messages), ['FATAL', '57P05']);
          assert.match(errorOf(messages)?.message ?? '', /client_idle_timeout \(600 ms\)/);
          client.destroy();
        }
        await eventually('both have left', () => [...proxy.proxy.clients()].length === 0);
      }
    });

    test('leaves alone who waits for a reply, is in a transaction, or says something now and then', async () => {
      await using pool = await held({ pool: { client_idle_timeout: 300, connect_timeout: 10_000 } });
      await using waits = await join(pool.proxy);
      waits.send(frontend.query('SELECT 1'));
      await sleep(700);
      await pool.holder.query('COMMIT');
      assert.deepEqual(rowsOf(await waits.ready()), [['1']]);
      for (let count = 0; count < 4; count++) {
        await sleep(150);
        await waits.query('SELECT 1');
      }
      assert.equal(errorOf(await waits.query('SELECT pg_sleep(0.6)')), undefined);
    });

    test('that a reload brings holds for who is idle already', async () => {
      await using proxy = await start({ user: { pool_size: 1 } });
      const client = await proxy.raw();
      const pid = await backendPid(client);
      proxy.rewrite(
        configText(cluster, {
          general: { connect_timeout: 10_000 },
          user: { pool_size: 1 },
          pool: { client_idle_timeout: 100 },
        }),
      );
      await proxy.proxy.reload();
      assert.deepEqual(said(await client.untilClosed()), ['FATAL', '57P05']);
      client.destroy();
      await using next = await proxy.raw();
      assert.equal(await backendPid(next), pid, 'the connections to the server stay');
    });
  });
});
