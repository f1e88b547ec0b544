/** Exchanges at their seams: what pglynx puts in front of them, what ends them early, and messages cut in the middle. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Exchange, OWED, STEP } from '../../src/server/exchange.ts';
import { SilentOwner } from '../../src/server/silent.ts';
import { BACKEND } from '../../src/wire/protocol.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const { close, flush, parse, query, sync } = frontend;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster.stop());

const startProxy = (options: Parameters<typeof TestProxy.start>[1] = {}) =>
  TestProxy.start(cluster, { ...options, user: { pool_size: 1, ...options.user } });

suite('what pglynx answers itself, behind settings that it puts in front', () => {
  for (const [what, messages, answer] of [
    ['a Parse of a statement that the server has', [parse('t', 'SELECT 1')], '1'],
    ['a Close', [close('S', 's')], '3'],
  ] as const) {
    test(`${what} is answered at Flush`, async () => {
      await using proxy = await startProxy();
      await using one = await proxy.raw({ TimeZone: 'Asia/Tokyo' });
      one.send(parse('s', 'SELECT 1'), sync());
      await one.ready();
      await using two = await proxy.raw({ TimeZone: 'Europe/Berlin' });
      await two.query('SELECT 1');
      one.send(...messages, flush());
      assert.equal((await one.message(2000)).type, answer);
    });
  }
});

test('a simple EXECUTE whose plan has changed its result type is an ordinary error', async () => {
  await cluster.sql('CREATE TABLE shifting (a int); GRANT ALL ON shifting TO PUBLIC');
  await using proxy = await startProxy({ pool: { pool_mode: 'session' } });
  await using client = await proxy.raw();
  await client.query('PREPARE p AS SELECT * FROM shifting');
  await client.query('EXECUTE p');
  await cluster.sql('ALTER TABLE shifting ADD COLUMN b int');
  const messages = await client.query('EXECUTE p');
  assert.equal(errorOf(messages)?.code, '0A000');
  assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
});

test('a connection that is lost before a statement is repeated has nothing else repeated', async () => {
  await cluster.sql('CREATE TABLE healing (a int); CREATE TABLE once (n int); GRANT ALL ON healing, once TO PUBLIC');
  // Cuts the connection between the error, after which the statement would be repeated, and its ReadyForQuery.
  const relay = createServer(client => {
    const server = connect(cluster.primary.port, '127.0.0.1');
    client.on('error', () => {}).on('close', () => server.destroy());
    server.on('error', () => {}).on('close', () => client.destroy());
    client.pipe(server);
    server.on('data', chunk => {
      const error = chunk.indexOf('RevalidateCachedQuery');
      if (error === -1) client.write(chunk);
      else client.end(chunk.subarray(0, chunk.indexOf('Z', error)));
    });
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  const address = relay.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  try {
    await using proxy = await TestProxy.start({ servers: [{ host: '127.0.0.1', port }] }, { user: { pool_size: 1 } });
    await using client = await proxy.raw();
    client.send(parse('s', 'SELECT * FROM healing'), frontend.bind('', 's'), frontend.execute(), sync());
    await client.ready();
    await cluster.sql('ALTER TABLE healing ADD COLUMN b int');
    client.send(frontend.bind('', 's'), frontend.execute(), sync());
    assert.equal(errorOf(await client.ready())?.code?.slice(0, 2), '08');
    await client.query('INSERT INTO once VALUES (1)');
    assert.deepEqual(rowsOf(await client.query('SELECT count(*) FROM once')), [['1']]);
  } finally {
    relay.close();
  }
});

suite('a message that is cut', () => {
  /** A client in the middle of a long row of which the rest does not come. */
  async function inRow(proxy: TestProxy): Promise<RawClient> {
    const client = await proxy.raw();
    client.send(query("SELECT repeat('x', 100000000)"));
    await client.until('T');
    client.pause();
    return client;
  }

  /** What came after the row's description: the head of one row and nothing else. */
  async function rest(client: RawClient): Promise<Buffer> {
    client.resume();
    while (!client.closed) await sleep(20);
    return client.bytes(client.unread_bytes);
  }

  test('is not completed with an error when pglynx stops', async () => {
    const proxy = await startProxy();
    const client = await inRow(proxy);
    await sleep(200);
    await proxy.stop();
    const bytes = await rest(client);
    assert.equal(bytes.toString('latin1', 0, 1), 'D');
    assert.ok(
      bytes.subarray(11).every(byte => byte === 0x78),
      'nothing but the value',
    );
  });

  test('is not completed with an error when the server is lost', async () => {
    await using proxy = await startProxy();
    const client = await inRow(proxy);
    await sleep(200);
    await cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'");
    const bytes = await rest(client);
    assert.ok(
      bytes.subarray(11).every(byte => byte === 0x78),
      `nothing but the value, not ${bytes.toString('latin1').slice(-200)}`,
    );
    client.destroy();
  });
});

test('an error longer than what is held whole arrives whole when statement_timeout is its cause', async () => {
  await cluster.sql(`CREATE FUNCTION sleep_in(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1; END $$`);
  await using proxy = await startProxy({ user: { statement_timeout: 300 } });
  await using client = await proxy.raw();
  const messages = await client.query(`SELECT sleep_in('SELECT pg_sleep(10) /* ' || repeat('x', 200000) || ' */')`);
  assert.equal(errorOf(messages)?.code, '57014');
  assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
});

test('a batch that never ends is not remembered whole', () => {
  const exchange = new Exchange(new SilentOwner(() => {}), true);
  const heap = () => process.memoryUsage().heapUsed;
  const before = heap();
  for (let count = 0; count < 1_000_000; count++) {
    exchange.owe(OWED.bind);
    exchange.owe(OWED.execute);
    for (const type of [BACKEND.bindComplete, BACKEND.commandComplete]) {
      assert.equal(exchange.step(type), STEP.settle);
      exchange.settle();
    }
  }
  assert.ok(exchange.settled);
  const grown_bytes = heap() - before;
  assert.ok(grown_bytes < 16e6, `${grown_bytes} bytes`);
});

test('a long query that gets no connection is refused as a short one is', async () => {
  await using proxy = await startProxy({ general: { connect_timeout: 300 } });
  await using holder = await proxy.raw();
  await using client = await proxy.raw();
  await holder.query('BEGIN');
  for (const length of [10, 100_000, 1_000_000]) {
    const error = errorOf(await client.query(`SELECT 1 /* ${'x'.repeat(length)} */`));
    assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000']);
  }
  await holder.query('COMMIT');
  assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
});
