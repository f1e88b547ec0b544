/** SHOW ROUTES after some traffic: one row for each template of each user, how often it went where, why, and how long it took. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Client } from 'pg';
import { bind, execute, parse, query, sync } from '../client/frontend.ts';
import { DATABASE, eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

type Row = Readonly<Record<string, string>>;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE data (id bigint, x int)');
  await cluster.sql('GRANT ALL ON data TO PUBLIC');
  await cluster.sql(
    "CREATE FUNCTION liar() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN PERFORM txid_current(); RETURN 1; END'",
  );
  await cluster.caughtUp();
});
after(() => cluster?.stop());

function start({ pool, ...options }: ProxyOptions = {}): Promise<TestProxy> {
  return TestProxy.start(cluster, {
    ...options,
    general: { connect_timeout: 10_000 },
    pool: {
      query_parser_enabled: true,
      query_parser_read_write_splitting: true,
      primary_reads_enabled: false,
      default_role: 'any',
      ...pool,
    },
  });
}

/** All rows, with these columns of each, in their order. */
async function routes(proxy: TestProxy, ...columns: string[]): Promise<string[]> {
  const { rows } = await (await admin(proxy)).query<Row>('SHOW ROUTES');
  return rows.map(row => columns.map(column => row[column]).join(' | '));
}

const admins = new WeakMap<TestProxy, Client>();

async function admin(proxy: TestProxy): Promise<Client> {
  const client = admins.get(proxy) ?? (await proxy.admin());
  admins.set(proxy, client);
  return client;
}

async function rowOf(proxy: TestProxy, template: string): Promise<Row> {
  const { rows } = await (await admin(proxy)).query<Row>('SHOW ROUTES');
  const found = rows.filter(row => row.template === template);
  assert.equal(found.length, 1, `${template}: ${JSON.stringify(rows)}`);
  return found[0];
}

suite('SHOW ROUTES', () => {
  test('has a row for each template, the one used most first', async () => {
    await using proxy = await start();
    assert.deepEqual(await routes(proxy, 'template'), []);
    await using client = await proxy.raw();
    for (let id = 0; id < 3; id++) await client.query(`SELECT x FROM data WHERE id = ${id} -- number ${id}`);
    for (let id = 0; id < 2; id++) await client.query(`INSERT INTO data VALUES (${id}, 1)`);
    await client.query("SET work_mem = '5MB'");
    await client.query('SELEC 1');
    const columns = ['template', 'times', 'class', 'role', 'reason', 'shard_rule', 'shareable', 'replays'];
    assert.deepEqual(await routes(proxy, 'database', 'user', ...columns), [
      `${DATABASE} | alice | SELECT x FROM data WHERE id = 1 | 3 | only reads | replica | read | only_shard | yes | 0`,
      `${DATABASE} | alice | INSERT INTO data VALUES (1, 1) | 2 | writes: INSERT | primary | write | only_shard | yes | 0`,
      `${DATABASE} | alice | SET work_mem = '_' | 1 | changes a setting, or asks whether the session can write: work_mem | primary | write | only_shard | no | 0`,
      `${DATABASE} | alice | SELEC 1 | 1 | was not parsed: syntax error at or near "SELEC" | primary | write | only_shard | no | 0`,
    ]);
  });

  test('tells the mean of the times that statements took alone', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    for (let time = 0; time < 5; time++) {
      await client.query('SELECT pg_sleep(0.04)');
      await client.query('SELECT 1');
    }
    const [slow, fast] = [await rowOf(proxy, 'SELECT pg_sleep(1.5)'), await rowOf(proxy, 'SELECT 1')];
    assert.ok(Number(slow.mean_time) >= 40_000 && Number(slow.mean_time) < 2_000_000, slow.mean_time);
    assert.ok(Number(fast.mean_time) > 0 && Number(fast.mean_time) < Number(slow.mean_time), fast.mean_time);
    assert.match(slow.mean_time, /^\d+$/);
  });

  test('keeps users apart, in the order of their names', async () => {
    await using proxy = await start();
    const bob = await proxy.connect({ user: 'bob' });
    await bob.query('SELECT 1');
    await bob.query('SELECT 1');
    await bob.end();
    await using alice = await proxy.raw();
    await alice.query('SELECT 1');
    assert.deepEqual(await routes(proxy, 'user', 'template', 'times'), ['alice | SELECT 1 | 1', 'bob | SELECT 1 | 2']);
  });

  test('tells the last route, and says nothing of what was not inspected', async () => {
    await using proxy = await start({ pool: { multiplexing: 'off' } });
    await using client = await proxy.raw();
    const route = async () => {
      await client.query('SELECT 1');
      const { role, reason } = await rowOf(proxy, 'SELECT 1');
      return `${role} ${reason}`;
    };
    assert.equal(await route(), 'replica read');
    await client.query('SET PRIMARY READS TO on');
    assert.equal(await route(), 'any read');
    await client.query("SET SERVER ROLE TO 'primary'");
    await client.query('DELETE FROM data WHERE id = 0');
    assert.deepEqual(await routes(proxy, 'template', 'times'), ['SELECT 1 | 2']);
    await client.query("SET SERVER ROLE TO 'auto'");
    await client.query('/* pglynx: role=primary */ SELECT 1');
    assert.deepEqual(await routes(proxy, 'template', 'times', 'reason'), ['SELECT 1 | 3 | comment']);
    // What is only explained is not sent.
    await client.query('EXPLAIN ROUTE SELECT 2, 3');
    assert.equal((await routes(proxy)).length, 1);
  });

  test('tells how the shard was found', async () => {
    await using proxy = await start({
      pool: { automatic_sharding_key: 'data.id' },
      shards: [DATABASE, DATABASE, DATABASE],
    });
    await using client = await proxy.raw();
    for (const sql of ['SELECT 1', 'SELECT x FROM data WHERE id = 5', 'SELECT 2, 2 /* pglynx: shard=1 */']) {
      await client.query(sql);
    }
    await client.query('SET SHARD TO 1');
    await client.query('SELECT 3, 3, 3');
    // What is refused goes nowhere.
    await client.query('DELETE FROM data WHERE id IN (5, 6)');
    assert.deepEqual((await routes(proxy, 'template', 'shard_rule')).sort(), [
      'SELECT 1 | default',
      'SELECT 1, 1 | comment',
      'SELECT 1, 1, 1 | chosen',
      'SELECT x FROM data WHERE id = 1 | key',
    ]);
  });

  test('counts what a replica refused and the primary ran', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    await eventually('the catalog is known', async () => {
      await client.query('SELECT liar() AS known');
      return (await rowOf(proxy, 'SELECT liar() AS known')).reason === 'replayed';
    });
    await client.query('SELECT liar()');
    const columns = ['template', 'times', 'role', 'reason', 'replays'] as const;
    const told = async () => {
      const row = await rowOf(proxy, 'SELECT liar()');
      return columns.map(column => row[column]).join(' | ');
    };
    // Sent twice, to a replica and to the primary.
    assert.equal(await told(), 'SELECT liar() | 2 | primary | replayed | 1');
    await client.query('SELECT liar()');
    assert.equal(await told(), 'SELECT liar() | 3 | primary | write | 1');
    assert.equal((await rowOf(proxy, 'SELECT liar()')).class, 'was refused by a replica as a write');
  });

  test('keeps the 1,000 templates that came last', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    const texts = Array.from({ length: 1100 }, (_, n) => `SELECT 1 AS column_${n}`);
    for (let at = 0; at < texts.length; at += 100) {
      client.send(...texts.slice(at, at + 100).map(text => query(text)));
      for (let n = 0; n < 100; n++) await client.ready();
    }
    const kept = await routes(proxy, 'template');
    assert.deepEqual(new Set(kept), new Set(texts.slice(100)));
    assert.equal(kept.length, 1000);
  });

  test('cuts a long template', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    const text = `SELECT ${Array.from({ length: 200 }, (_, n) => `x AS column_${n}`).join(', ')} FROM data`;
    await client.query(text);
    assert.deepEqual(await routes(proxy, 'template'), [`${text.slice(0, 500)}...`]);
  });

  test('counts each execution once, whatever the protocol', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    client.send(parse('', 'SELECT 1'), bind('', ''), execute(), sync());
    await client.ready();
    const row = await rowOf(proxy, 'SELECT 1');
    assert.equal(row.times, '1');
    assert.ok(Number(row.mean_time) > 0);
    client.send(parse('later', 'SELECT 1, 1'), sync());
    await client.ready();
    for (let time = 0; time < 3; time++) {
      client.send(bind('', 'later'), execute(), sync());
      await client.ready();
    }
    assert.equal((await rowOf(proxy, 'SELECT 1, 1')).times, '3');
  });

  test('has one row for a text that does not parse', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    for (let time = 0; time < 3; time++) await client.query('SELEC 1');
    assert.equal((await rowOf(proxy, 'SELEC 1')).times, '3');
  });
});
