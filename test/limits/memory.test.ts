/** What one client may keep in memory: prepared statements, and replies that it does not read. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster?.stop());

const types = (messages: readonly Message[]) => messages.map(({ type }) => type).join('');

suite('max_client_prepared_statements', () => {
  const { bind, close, execute, parse, sync } = frontend;
  const run = (name: string) => [bind('', name), execute(), sync()];

  test('one more fails with 53400, nothing of its batch takes place, and the others stay', async () => {
    await using proxy = await TestProxy.start(cluster, { general: { max_client_prepared_statements: 3 } });
    await using client = await proxy.raw();
    for (const name of ['a', 'b', 'c']) {
      client.send(parse(name, `SELECT '${name}'`), sync());
      assert.equal(types(await client.ready()), '1Z');
    }
    const insert = [parse('', "INSERT INTO kept VALUES ('never')"), bind('', ''), execute()];
    for (const inTransaction of [false, true]) {
      if (inTransaction) await client.query('BEGIN');
      client.send(...insert, parse('d', 'SELECT 1'), bind('', 'd'), execute(), sync());
      const messages = await client.ready();
      assert.equal(types(messages), 'EZ');
      const error = errorOf(messages);
      assert.deepEqual([error?.severity, error?.code], ['ERROR', '53400']);
      assert.match(error?.message ?? '', /max_client_prepared_statements allows \(3\)/);
      if (inTransaction) {
        assert.equal(errorOf(await client.query('SELECT 1'))?.code, '25P02', 'the transaction has failed');
        await client.query('ROLLBACK');
      }
      for (const name of ['a', 'b', 'c']) {
        client.send(...run(name));
        assert.deepEqual(rowsOf(await client.ready()), [[name]]);
      }
    }
    assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
    client.send(parse('', 'SELECT 7'), ...run(''));
    assert.deepEqual(rowsOf(await client.ready()), [['7']], 'one without a name is no more');
    client.send(close('S', 'a'), parse('d', "SELECT 'd'"), ...run('d'));
    assert.deepEqual(rowsOf(await client.ready()), [['d']], 'the place of one that was closed is free');
    await using other = await proxy.raw();
    other.send(parse('a', 'SELECT 1'), sync());
    assert.equal(types(await other.ready()), '1Z', 'another client has its own');
  });

  test('0 is any number', async () => {
    await using proxy = await TestProxy.start(cluster, { general: { max_client_prepared_statements: 0 } });
    await using client = await proxy.raw();
    client.send(...Array.from({ length: 200 }, (_, number) => parse(`s${number}`, 'SELECT 1')), sync());
    assert.equal(types(await client.ready()), `${'1'.repeat(200)}Z`);
  });
});

suite('max_reply_memory', () => {
  test('is what waits for a client who does not read while writes wait for its connection: then 53400 ends it', async () => {
    const options = { users: ['alice'], user: { pool_size: 1 }, pool: { connect_timeout: 10_000 } } as const;
    await using proxy = await TestProxy.start(cluster, { ...options, general: { max_reply_memory: 65_536 } });
    const writers = await Promise.all(Array.from({ length: 4 }, () => proxy.raw()));
    const text = (rows: number) =>
      frontend.query(`SELECT repeat('x', 10000) AS unread FROM generate_series(1, ${rows})`);
    const unread = () => {
      const ends = proxy.log.flatMap(({ cause }) => /of which (\d+) bytes wait/.exec(String(cause))?.[1] ?? []);
      return ends.map(Number);
    };
    let isOver = false;
    const work = writers.map(async writer => {
      while (!isOver) assert.equal(errorOf(await writer.query("INSERT INTO kept VALUES ('a')")), undefined);
    });
    await eventually('a client is ended', async () => {
      await using client = await proxy.raw();
      for (let seen = 0; seen < 20; seen++) {
        client.send(text(0));
        await client.ready();
      }
      client.send(text(5000));
      await client.until('T');
      client.pause();
      await new Promise(resolve => setTimeout(resolve, 200));
      client.destroy();
      return unread().length > 0;
    });
    isOver = true;
    await Promise.all(work);
    assert.ok(
      unread().every(bytes => bytes < 2 ** 21),
      `${unread()} bytes waited`,
    );
    await Promise.all(writers.map(writer => writer.close()));
  });
});

suite('query_timeout', () => {
  test('ends a client who does not read its reply, and frees its connection', async () => {
    await using proxy = await TestProxy.start(cluster, {
      users: ['alice'],
      user: { pool_size: 1, query_timeout: 500 },
    });
    const client = await proxy.raw();
    client.send(frontend.query("BEGIN; SELECT repeat('x', 10000) FROM generate_series(1, 100000)"));
    await client.until('T');
    client.pause();
    await using other = await proxy.raw();
    await eventually('another is served', async () => errorOf(await other.query('SELECT 1')) === undefined, 20_000);
    client.destroy();
  });
});
