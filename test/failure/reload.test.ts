/** Reloads while clients are at work: what changed holds from the next statement on, and nobody's work is lost. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { backendPid, settled, wholePool } from './backends.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster?.stop());

const pool = { connect_timeout: 5000 };
const start = (options: ProxyOptions) => TestProxy.start(cluster, { pool, ...options });
/** Writes a configuration with these options, and has it reloaded. */
const reload = (proxy: TestProxy, options: ProxyOptions) => {
  proxy.rewrite(configText(cluster, { pool, ...options }));
  return proxy.proxy.reload();
};

function connectAs(proxy: TestProxy, user: 'alice' | 'bob'): Promise<RawClient> {
  return RawClient.connect({ port: proxy.port, user, database: DATABASE, password: PASSWORDS[user] });
}

suite('a changed pool', () => {
  test('has its new size for the next statement of every client', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    assert.deepEqual(await reload(proxy, { user: { pool_size: 3 } }), [
      `pools.${DATABASE}.users.0.pool_size`,
      `pools.${DATABASE}.users.1.pool_size`,
    ]);
    await client.query('BEGIN');
    assert.equal((await wholePool(proxy, 2)).length, 2);
    await client.query('COMMIT');
    await reload(proxy, { user: { pool_size: 1 } });
    assert.equal((await wholePool(proxy, 1)).length, 1);
  });

  test('lets transactions and statements under way end where they are', async () => {
    await using proxy = await start({ user: { pool_size: 2 } });
    await using inTransaction = await proxy.raw();
    await inTransaction.query("BEGIN; INSERT INTO kept VALUES ('kept')");
    const pid = await backendPid(inTransaction);
    await using running = await proxy.raw();
    running.send(frontend.query("SELECT 'done' FROM pg_sleep(0.3)"));
    await sleep(50);
    await reload(proxy, { user: { pool_size: 1 } });
    assert.equal(await backendPid(inTransaction), pid);
    assert.deepEqual(rowsOf(await running.ready()), [['done']]);
    assert.deepEqual(tagsOf(await inTransaction.query('COMMIT')), ['COMMIT']);
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 'kept' }]);
    assert.notEqual(await backendPid(inTransaction), pid);
    await eventually('the old connections are gone', async () => {
      const sessions = await cluster.activity();
      return sessions.filter(({ usename }) => usename === 'alice').length === 1;
    });
  });

  test('serves those who wait for it', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    const waiting = await Promise.all([proxy.raw(), proxy.raw()]);
    for (const client of waiting) client.send(frontend.query('SELECT 42'));
    await sleep(50);
    await reload(proxy, { user: { pool_size: 2 } });
    await holder.query('COMMIT');
    for (const client of waiting) assert.deepEqual(rowsOf(await client.ready()), [['42']]);
    await Promise.all(waiting.map(client => client.close()));
    await settled(cluster);
  });

  test('takes the rest of a batch that a reload falls into, and knows what it prepares', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using client = await proxy.raw();
    client.send(frontend.parse('s', 'SELECT $1::int + 1'), frontend.bind('', 's', ['41']));
    await sleep(50);
    await reload(proxy, { user: { pool_size: 2 }, shards: [DATABASE, DATABASE], pool: { default_shard: 'shard_1' } });
    client.send(frontend.execute(), frontend.close('S', 's'), frontend.parse('s', 'SELECT 7'), frontend.sync());
    assert.deepEqual(rowsOf(await client.ready()), [['42']]);
    client.send(frontend.bind('', 's'), frontend.execute(), frontend.sync());
    assert.deepEqual(rowsOf(await client.ready()), [['7']]);
    client.send(frontend.parse('s', 'SELECT 8'), frontend.sync());
    assert.equal(errorOf(await client.ready())?.code, '42P05');
  });

  test('knows the statements that clients prepared before', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using client = await proxy.raw();
    client.send(frontend.parse('s', 'SELECT $1::int + 1'), frontend.sync());
    await client.ready();
    await reload(proxy, { user: { pool_size: 2 } });
    client.send(frontend.bind('', 's', ['41']), frontend.execute(), frontend.sync());
    assert.deepEqual(rowsOf(await client.ready()), [['42']]);
  });

  test('applies new time limits to clients that are there', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    await reload(proxy, { user: { pool_size: 1, statement_timeout: 100 } });
    assert.equal(errorOf(await client.query('SELECT pg_sleep(100)'))?.code, '57014');
    await reload(proxy, { user: { pool_size: 1 }, general: { idle_client_in_transaction_timeout: 100 } });
    await client.query('BEGIN');
    await sleep(300);
    assert.match(errorOf(await client.query('COMMIT'))?.message ?? '', /idle transaction timeout/);
  });

  test('leaves a client of session mode its connection', async () => {
    const session = { pool: { pool_mode: 'session' } };
    await using proxy = await start({ user: { pool_size: 1 }, ...session });
    const client = await proxy.raw();
    await client.query('CREATE TEMP TABLE mine AS SELECT 42 AS n');
    const pid = await backendPid(client);
    await reload(proxy, { user: { pool_size: 2 }, ...session });
    assert.deepEqual(rowsOf(await client.query('SELECT n FROM mine')), [['42']]);
    await client.close();
    await eventually('its connection is gone', async () => {
      const sessions = await cluster.activity();
      return !sessions.some(session => session.pid === pid);
    });
  });
});

suite('a pool that did not change', () => {
  test('keeps its connections', async () => {
    await using proxy = await start({ user: { pool_size: 2 } });
    const before = await wholePool(proxy, 2);
    await using bob = await connectAs(proxy, 'bob');
    const pid = await backendPid(bob);
    assert.deepEqual(await proxy.proxy.reload(), []);
    assert.deepEqual([await wholePool(proxy, 2), await backendPid(bob)], [before, pid]);
    const text = configText(cluster, { pool, user: { pool_size: 2 } });
    proxy.rewrite(text.replace(/(username = "bob"\n.*\npool_size = )2/, '$14'));
    assert.deepEqual(await proxy.proxy.reload(), [`pools.${DATABASE}.users.1.pool_size`]);
    assert.deepEqual(await wholePool(proxy, 2), before);
    assert.notEqual(await backendPid(bob), pid);
  });
});

suite('a user who is taken out', () => {
  test('is told so at the next statement, and cannot log in again', async () => {
    await using proxy = await start({});
    const idle = await connectAs(proxy, 'bob');
    await idle.query('SELECT 1');
    const busy = await connectAs(proxy, 'bob');
    await busy.query("BEGIN; INSERT INTO kept VALUES ('kept')");
    await reload(proxy, { users: ['alice'] });
    await assert.rejects(connectAs(proxy, 'bob'), /28P01/);
    assert.deepEqual(tagsOf(await busy.query('COMMIT')), ['COMMIT']);
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 'kept' }]);
    for (const client of [idle, busy]) {
      client.send(frontend.query('SELECT 1'));
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '58000']);
      assert.match(error?.message ?? '', /No pool configured for database: bench, user: bob/);
    }
    await reload(proxy, {});
    await using back = await connectAs(proxy, 'bob');
    assert.deepEqual(rowsOf(await back.query('SELECT current_user')), [['bob']]);
  });
});

suite('a file with mistakes', () => {
  test('changes nothing, and says what is wrong', async () => {
    await using proxy = await start({ user: { pool_size: 2 } });
    const before = await wholePool(proxy, 2);
    for (const [text, complaint] of [
      ['this is not TOML', /pgcat\.toml:1:/],
      [configText(cluster, { user: { pool_size: 0 } }), /pool_size/],
      ['', /general/],
    ] as const) {
      proxy.rewrite(text);
      await assert.rejects(proxy.proxy.reload(), complaint);
      const admin = await proxy.admin();
      await assert.rejects(admin.query('RELOAD'), complaint);
      await admin.end();
      assert.deepEqual(await wholePool(proxy, 2), before);
    }
  });
});

suite('RELOAD', () => {
  test('in the admin database is the same', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    const admin = await proxy.admin();
    proxy.rewrite(configText(cluster, { pool, user: { pool_size: 3 } }));
    assert.equal((await admin.query('RELOAD')).command, 'RELOAD');
    assert.equal((await wholePool(proxy, 3)).length, 3);
    await admin.end();
  });

  test('a hundred times under load fails nobody, and no login', async () => {
    await using proxy = await start({ user: { pool_size: 2 } });
    const clients = await Promise.all(Array.from({ length: 6 }, () => proxy.raw()));
    let over = false;
    const work = clients.map(async (client, number) => {
      for (let count = 0; !over; count++) {
        const tag = `${number}.${count}`;
        const messages = await client.query(`SELECT '${tag}'`);
        assert.deepEqual(rowsOf(messages), [[tag]], errorOf(messages)?.message);
      }
    });
    const logins = async () => {
      while (!over) {
        await using client = await proxy.raw();
        assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
      }
    };
    work.push(logins());
    for (let count = 0; count < 100; count++) {
      await reload(proxy, { user: { pool_size: 2 + (count % 3) } });
      await sleep(5);
    }
    over = true;
    await Promise.all(work);
    await Promise.all(clients.map(client => client.close()));
    const size = 2 + (99 % 3);
    assert.equal((await wholePool(proxy, size)).length, size);
    await eventually('only the last pools have connections', async () => {
      const sessions = await cluster.activity();
      return sessions.filter(({ usename }) => usename === 'alice').length === size;
    });
  });

  test('happens by itself with autoreload', async () => {
    const general = { autoreload: 50 };
    await using proxy = await start({ user: { pool_size: 1 }, general });
    await sleep(150);
    proxy.rewrite(configText(cluster, { pool, general, user: { pool_size: 2 } }));
    await eventually('the pool has grown', () => [...proxy.proxy.clusters()][0].settings.pool_size === 2);
    assert.equal((await wholePool(proxy, 2)).length, 2);
  });
});
