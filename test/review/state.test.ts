/** What one client does to a server connection, and what the next one finds. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

const { bind, execute, parse, query, sync } = frontend;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE items (n int, s text)');
  await cluster.sql("INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 5) AS n");
  await cluster.sql('GRANT ALL ON items TO PUBLIC');
  await cluster.caughtUp();
});
after(() => cluster.stop());

const startProxy = (options: ProxyOptions = {}, servers = [cluster.primary]) =>
  TestProxy.start({ servers }, { ...options, user: { pool_size: 1, ...options.user } });

const run = (statement: string, ...values: string[]) => [bind('', statement, values), execute()];

test('a session authorization does not pass to the next client', async () => {
  await cluster.sql('ALTER ROLE alice SUPERUSER');
  try {
    await using proxy = await startProxy();
    await using one = await proxy.raw();
    await using two = await proxy.raw();
    await one.query('SET SESSION AUTHORIZATION bob');
    assert.deepEqual(rowsOf(await two.query('SELECT session_user, current_user')), [['alice', 'alice']]);
  } finally {
    await cluster.sql('ALTER ROLE alice NOSUPERUSER');
  }
});

test('a client whose role was taken away does nothing as somebody else', async () => {
  await cluster.sql('GRANT bob TO alice; CREATE TABLE deeds (who text); GRANT ALL ON deeds TO PUBLIC');
  await using proxy = await startProxy();
  await using one = await proxy.raw({ options: '-c role=bob' });
  await using two = await proxy.raw();
  await one.query('INSERT INTO deeds SELECT current_user');
  assert.deepEqual(rowsOf(await two.query('SELECT * FROM deeds')), [['bob']]);
  await cluster.sql('REVOKE bob FROM alice');
  const refused = errorOf(await one.query('INSERT INTO deeds SELECT current_user'));
  assert.deepEqual(await cluster.sql('SELECT who FROM deeds'), [{ who: 'bob' }]);
  assert.equal(refused?.code, '42501');
  assert.deepEqual(rowsOf(await two.query('SELECT current_user')), [['alice']]);
});

suite("a client that deallocates statements by the server's names", () => {
  for (const sql of ['DEALLOCATE %', 'BEGIN; DEALLOCATE %; COMMIT', "DO $$ BEGIN EXECUTE 'DEALLOCATE %'; END $$"]) {
    test(`by ${sql}, harms nobody else`, async () => {
      await using proxy = await startProxy();
      await using one = await proxy.raw();
      await using two = await proxy.raw();
      one.send(parse('s', 'SELECT s FROM items WHERE n = $1'), ...run('s', '1'), sync());
      await one.ready();
      const [[name]] = rowsOf(await two.query("SELECT name FROM pg_prepared_statements WHERE name ~ '^pglynx_'"));
      await two.query(sql.replace('%', String(name)));
      one.send(...run('s', '2'), sync());
      const messages = await one.ready();
      assert.equal(errorOf(messages), undefined);
      assert.deepEqual(rowsOf(messages), [['item 2']]);
    });
  }
});

test('a DEALLOCATE ALL in the middle of a batch leaves what is prepared behind it', async () => {
  await using proxy = await startProxy();
  await using one = await proxy.raw();
  await using two = await proxy.raw();
  one.send(
    parse('', 'DEALLOCATE ALL'),
    ...run(''),
    parse('s', 'SELECT s FROM items WHERE n = $1'),
    ...run('s', '1'),
    sync(),
  );
  assert.deepEqual(rowsOf(await one.ready()), [['item 1']]);
  for (const client of [one, two, one]) {
    if (client === two) client.send(parse('s', 'SELECT s FROM items WHERE n = $1'));
    client.send(...run('s', '2'), sync());
    const messages = await client.ready();
    assert.equal(errorOf(messages), undefined);
    assert.deepEqual(rowsOf(messages), [['item 2']]);
  }
});

test("a client cannot make its statement pass for another's", async () => {
  await using proxy = await startProxy();
  await using one = await proxy.raw();
  await using two = await proxy.raw({ TimeZone: 'Asia/Tokyo' });
  // What stands for another's settings as its text, and what stands for another's text as its parameter types.
  const dialect = JSON.stringify([['timezone', 'Asia/Tokyo']]);
  one.send(frontend.message('P', Buffer.from(`\0${dialect}\0SELECT 7\0\0\0`)), sync());
  assert.notEqual(errorOf(await one.ready()), undefined);
  for (let round = 0; round < 2; round++) {
    two.send(parse('', 'SELECT 7'), ...run(''), sync());
    assert.deepEqual(rowsOf(await two.ready()), [['7']]);
  }
});

suite('settings that a client changed before it vanished', () => {
  test('by a function are taken back', async () => {
    await cluster.sql(
      `CREATE FUNCTION turn() RETURNS void LANGUAGE plpgsql AS
       $$ BEGIN PERFORM set_config('TimeZone', 'Asia/Tokyo', false); PERFORM pg_sleep(0.3); END $$`,
    );
    await using proxy = await startProxy();
    const one = await proxy.raw();
    await using two = await proxy.raw();
    const [usual] = rowsOf(await two.query('SHOW TimeZone'));
    one.send(query('SELECT turn()'), query('SELECT 1'));
    await one.ready();
    one.send(query('BEGIN; SELECT turn(); COMMIT; SELECT pg_sleep(0.2)'));
    await sleep(400);
    one.destroy();
    assert.deepEqual(rowsOf(await two.query('SHOW TimeZone')), [usual]);
  });
});

test('a client is told that it is not on a standby, whichever server was reached last', async () => {
  const [primary, replica] = [cluster.primary, cluster.replica(0)];
  for (const servers of [
    [primary, replica],
    [replica, primary],
  ]) {
    await using proxy = await startProxy({}, servers);
    await eventually('both servers are connected', () => {
      const opened = proxy.log.filter(({ msg }) => String(msg).startsWith('Creating a new server connection'));
      return opened.length >= 4;
    });
    for (const parameters of [{}, { TimeZone: 'Asia/Tokyo' }]) {
      await using client = await proxy.raw(parameters);
      assert.equal(client.parameters.get('in_hot_standby'), 'off');
    }
  }
});
