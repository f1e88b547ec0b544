/** Cancel requests: they reach the statement that they are for, or nothing, whatever happens at the same time. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChaosProxy } from '../chaos/proxy.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, type RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { backendPid, settled, wholePool } from './backends.ts';

const SLEEP = 'SELECT pg_sleep(100)';

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
  proxy = await TestProxy.start(cluster, { user: { pool_size: 2 }, users: ['alice'], pool: { connect_timeout: 5000 } });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

/** Waits until so many statements with this text run on the server. */
async function running(text: string, count = 1): Promise<void> {
  await eventually(`${count} x ${text}`, async () => {
    const sessions = await cluster.activity();
    return sessions.filter(({ state, query }) => state === 'active' && query.includes(text)).length === count;
  });
}

/** Starts a statement that ends only when it is cancelled. */
async function sleeping(client: RawClient, tag: string): Promise<void> {
  client.send(frontend.query(`${SLEEP} /* ${tag} */`));
  await running(`/* ${tag} */`);
}

suite('a cancel request', () => {
  test('ends the statement of the client whose key it has, and no other', async () => {
    await using first = await proxy.raw();
    await using second = await proxy.raw();
    await sleeping(first, 'first');
    await sleeping(second, 'second');
    await cancel(proxy, second);
    const error = errorOf(await second.ready());
    assert.deepEqual([error?.severity, error?.code], ['ERROR', '57014']);
    assert.ok(await first.silent(100));
    await running('/* first */');
    await cancel(proxy, first);
    assert.equal(errorOf(await first.ready())?.code, '57014');
    for (const client of [first, second]) assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
  });

  test('ends a statement in a transaction, which keeps its connection', async () => {
    await using client = await proxy.raw();
    await client.query('BEGIN');
    const pid = await backendPid(client);
    await client.query('SAVEPOINT s');
    await sleeping(client, 'in a transaction');
    await cancel(proxy, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
    await client.query('ROLLBACK TO SAVEPOINT s');
    assert.equal(await backendPid(client), pid);
    await client.query('COMMIT');
  });

  test('ends an extended statement, and a COPY', async () => {
    await using client = await proxy.raw();
    client.send(frontend.parse('', `${SLEEP} /* extended */`), frontend.bind('', ''), frontend.execute());
    client.send(frontend.flush());
    await running('/* extended */');
    await cancel(proxy, client);
    assert.equal(errorOf(await client.until('E'))?.code, '57014');
    client.send(frontend.sync());
    await client.ready();
    client.send(frontend.query(`COPY (${SLEEP} /* copy */) TO STDOUT`));
    await running('/* copy */');
    await cancel(proxy, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
  });

  test('with a wrong secret, a wrong number or a key of nobody reaches nothing', async () => {
    await using client = await proxy.raw();
    await sleeping(client, 'safe');
    const { pid, secret } = client;
    const wrong = Buffer.from(secret);
    wrong[wrong.length - 1] ^= 1;
    for (const key of [
      { pid, secret: wrong },
      { pid, secret: Buffer.alloc(secret.length) },
      { pid, secret: secret.subarray(0, 3) },
      { pid, secret: Buffer.concat([secret, secret]) },
      { pid, secret: Buffer.alloc(0) },
      { pid: pid + 1, secret },
      { pid: 0, secret },
    ])
      await cancel(proxy, key);
    // Nor does the server's own key, which no client has seen, help: here with a guess at its number.
    for (const session of await cluster.activity()) await cancel(proxy, { pid: session.pid, secret });
    assert.ok(await client.silent(100));
    await running('/* safe */');
    await cancel(proxy, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
  });

  test('for a client that left reaches nothing', async () => {
    const gone = await proxy.raw();
    await gone.query('SELECT 1');
    await gone.close();
    await using client = await proxy.raw();
    await sleeping(client, 'next');
    await cancel(proxy, gone);
    assert.ok(await client.silent(100));
    await cancel(proxy, client);
    await client.ready();
  });

  test('for a client that runs nothing is harmless', async () => {
    await using client = await proxy.raw();
    await cancel(proxy, client);
    assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
    await client.query('BEGIN');
    await cancel(proxy, client);
    assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
    assert.equal(errorOf(await client.query('COMMIT')), undefined);
    await using other = await proxy.raw();
    await sleeping(other, 'other');
    await cancel(proxy, client);
    assert.ok(await other.silent(100));
    await cancel(proxy, other);
    await other.ready();
  });

  test('for a client that waits for a connection ends the wait', async () => {
    const holders = await Promise.all([proxy.raw(), proxy.raw()]);
    await Promise.all(holders.map(holder => holder.query('BEGIN')));
    await using client = await proxy.raw();
    for (const messages of [
      [frontend.query("INSERT INTO kept VALUES ('never')")],
      [
        frontend.parse('', "INSERT INTO kept VALUES ('never')"),
        frontend.bind('', ''),
        frontend.execute(),
        frontend.sync(),
      ],
    ]) {
      client.send(...messages);
      assert.ok(await client.silent(50));
      await cancel(proxy, client);
      const reply = await client.ready();
      assert.deepEqual(
        reply.map(({ type }) => type),
        ['E', 'Z'],
      );
      assert.equal(errorOf(reply)?.code, '57014');
    }
    await Promise.all(holders.map(holder => holder.query('COMMIT')));
    assert.deepEqual(rowsOf(await client.query('SELECT count(*) FROM kept')), [['0']]);
    await Promise.all(holders.map(holder => holder.close()));
  });

  test('is as good as 100 of them, while others run short statements on the same connections', async () => {
    const victim = await proxy.raw();
    let over = false;
    const others = Array.from({ length: 4 }, async (_, number) => {
      await using client = await proxy.raw();
      let count = 0;
      for (; !over; count++) {
        const tag = `${number}.${count}`;
        const messages = await client.query(`SELECT '${tag}' FROM pg_sleep(0.001)`);
        assert.deepEqual(rowsOf(messages), [[tag]], `${errorOf(messages)?.message}`);
      }
      return count;
    });
    let canceled = 0;
    const finish = async () => {
      for (let count = 0; count < 100; count++) {
        // Half of them come when the statement has most likely ended.
        victim.send(frontend.query(`SELECT 'victim' FROM pg_sleep(${count % 2 === 0 ? 0.02 : 0.001})`));
        await sleep(count % 10);
        const request = cancel(proxy, victim);
        const messages = await victim.ready();
        const error = errorOf(messages);
        if (error === undefined) assert.deepEqual(rowsOf(messages), [['victim']]);
        else assert.equal(error.code, '57014');
        canceled += error === undefined ? 0 : 1;
        await request;
      }
    };
    await finish().finally(() => {
      over = true;
    });
    const counts = await Promise.all(others);
    assert.ok(canceled > 10, `${canceled} of 100 came in time`);
    assert.ok(Math.min(...counts) > 10, `${counts}`);
    await victim.close();
    await settled(cluster);
  });
});

suite('while a cancel request is under way', () => {
  /** Connections of clients pass at once; from then on whatever is new is slow: that is the cancel's. */
  let network: ChaosProxy;
  let far: TestProxy;
  before(async () => {
    network = await ChaosProxy.start(cluster.primary);
    const pool = { connect_timeout: 5000 };
    far = await TestProxy.start({ servers: [network] }, { user: { pool_size: 1 }, users: ['alice'], pool });
  });
  after(async () => {
    await far?.stop();
    await network?.stop();
  });

  test('its connection serves nobody else', async () => {
    const [pid] = await wholePool(far, 1);
    await using first = await far.raw();
    await using second = await far.raw();
    for (let count = 0; count < 5; count++) {
      first.send(frontend.query("SELECT 'first' FROM pg_sleep(0.05)"));
      await running("'first'");
      network.faults = { latency_ms: 100 };
      const request = cancel(far, first);
      await sleep(5);
      // The statement ends before the cancel comes; the next client's must not be hit by it.
      second.send(frontend.query("SELECT 'second' FROM pg_sleep(0.2)"));
      assert.deepEqual(rowsOf(await first.ready()), [['first']]);
      const messages = await second.ready();
      assert.deepEqual(rowsOf(messages), [['second']], errorOf(messages)?.message);
      network.faults = {};
      await request;
    }
    assert.deepEqual(await wholePool(far, 1), [pid]);
  });

  test('the next statement of the same transaction waits', async () => {
    await using client = await far.raw();
    await client.query('BEGIN');
    client.send(frontend.query("SELECT 'first' FROM pg_sleep(0.05)"));
    await running("'first'");
    network.faults = { latency_ms: 100 };
    const request = cancel(far, client);
    await sleep(5);
    assert.deepEqual(rowsOf(await client.ready()), [['first']]);
    assert.deepEqual(rowsOf(await client.query("SELECT 'second' FROM pg_sleep(0.3)")), [['second']]);
    network.faults = {};
    await request;
    assert.equal(errorOf(await client.query('COMMIT')), undefined);
  });

  test('that the server does not answer, its connection is closed rather than used', async () => {
    const pool = { connect_timeout: 300 };
    await using near = await TestProxy.start(
      { servers: [network] },
      { user: { pool_size: 1 }, users: ['alice'], pool },
    );
    await using first = await near.raw();
    await using second = await near.raw();
    first.send(frontend.query("SELECT 'first' FROM pg_sleep(0.5)"));
    await running("'first'");
    network.faults = { latency_ms: 1000 };
    await cancel(near, first);
    await sleep(50);
    network.faults = {};
    assert.match(errorOf(await first.ready())?.message ?? '', /a cancel request could not be settled/);
    // The cancel arrives while this runs.
    assert.deepEqual(rowsOf(await second.query("SELECT 'second' FROM pg_sleep(1)")), [['second']]);
    await settled(cluster);
  });

  test('that cannot be sent, the statement and its connection go on', async () => {
    await using client = await far.raw();
    const pid = await backendPid(client);
    client.send(frontend.query("SELECT 'first' FROM pg_sleep(0.05)"));
    await running("'first'");
    network.refuse();
    try {
      await cancel(far, client);
      assert.deepEqual(rowsOf(await client.ready()), [['first']]);
    } finally {
      await network.accept();
    }
    assert.equal(await backendPid(client), pid);
  });
});
