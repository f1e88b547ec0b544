/** The database's own functions, views and tables decide routes: when they are known, when not yet, and when they change. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

const { bind, execute, parse } = frontend;
const SYNC = frontend.sync();

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  const f = (name: string, kind: string, body = 'SELECT 1') =>
    `CREATE OR REPLACE FUNCTION ${name} RETURNS int LANGUAGE sql ${kind} AS '${body}';`;
  await cluster.sql(`CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO PUBLIC;
    CREATE TABLE items AS SELECT 1 AS n; CREATE TABLE kept (n int); CREATE UNLOGGED TABLE fast AS SELECT 1 AS n;
    CREATE SEQUENCE ids; CREATE TABLE parent (n int); CREATE UNLOGGED TABLE child () INHERITS (parent);
    ${f('volatile()', 'VOLATILE', 'INSERT INTO kept VALUES (1) RETURNING n')}
    ${f('stable()', 'STABLE')} ${f('immutable()', 'IMMUTABLE')} ${f('idle()', 'VOLATILE')}
    ${f('app.idle()', 'VOLATILE')} ${f('app.stable()', 'STABLE')}
    ${f('twofold(int)', 'STABLE')} ${f('twofold(text)', 'VOLATILE')}
    ${f("hidden(n int DEFAULT nextval('ids')::int)", 'STABLE')}
    CREATE VIEW calm AS SELECT n, stable() FROM items; CREATE VIEW writing AS SELECT n, volatile() FROM items;
    CREATE VIEW nested AS SELECT n FROM writing; CREATE VIEW locking AS SELECT n FROM items FOR UPDATE;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON SEQUENCE ids TO PUBLIC`);
  await cluster.caughtUp();
});
after(() => cluster?.stop());

async function start({ pool, ...options }: ProxyOptions = {}): Promise<TestProxy> {
  const splitting = { query_parser_enabled: true, catalog_ttl: 600_000 };
  return TestProxy.start(cluster, { users: ['alice'], ...options, pool: { ...splitting, ...pool } });
}

/** The same, when it knows the catalog. */
async function knowing(options: ProxyOptions = {}): Promise<TestProxy> {
  const proxy = await start(options);
  await known(proxy);
  return proxy;
}

async function known({ proxy }: TestProxy): Promise<void> {
  for (const { schema } of proxy.clusters()) await schema.ready;
}

type Place = 'primary' | 'replica';

/** Where a select list runs, as a simple query. */
async function where(client: RawClient, words: string): Promise<Place> {
  return placeOf(await client.query(`SELECT pg_is_in_recovery(), ${words}`), words);
}

function placeOf(messages: Awaited<ReturnType<RawClient['query']>>, words: string): Place {
  const [row] = rowsOf(messages);
  assert.ok(row !== undefined, `${words}: ${errorOf(messages)?.message}`);
  return row[0] === 't' ? 'replica' : 'primary';
}

/** The same in every protocol, where all must agree. */
async function whereAlways(client: RawClient, words: string): Promise<Place> {
  const text = `SELECT pg_is_in_recovery(), ${words}`;
  const place = await where(client, words);
  for (const name of ['', 'named']) {
    client.send(parse(name, text), bind('', name), execute(), SYNC);
    assert.equal(placeOf(await client.ready(), words), place, `${words}, ${name || 'unnamed'}`);
  }
  client.send(bind('', 'named'), execute(), SYNC);
  assert.equal(placeOf(await client.ready(), words), place, `${words}, executed later`);
  client.send(frontend.close('S', 'named'), SYNC);
  await client.ready();
  return place;
}

const replays = (proxy: TestProxy) =>
  [...proxy.proxy.clusters()].flatMap(({ routes }) => [...routes.uses]).reduce((sum, use) => sum + use.replays, 0);

test('functions, views and tables go where they can run, in every protocol', async () => {
  const places: Readonly<Record<string, Place>> = {
    'stable()': 'replica',
    'immutable()': 'replica',
    'public.stable()': 'replica',
    'app.stable()': 'replica',
    'volatile()': 'primary',
    'idle()': 'primary',
    'twofold(1)': 'primary',
    'hidden(1)': 'primary',
    'n FROM items': 'replica',
    'n FROM calm': 'replica',
    'n FROM writing': 'primary',
    'n FROM public.nested': 'primary',
    'n FROM locking': 'primary',
    'n FROM fast': 'primary',
    'count(*) FROM parent': 'primary',
    '(SELECT max(stable()) FROM calm WHERE n = immutable())': 'replica',
    '(SELECT max(n) FROM items WHERE n IN (SELECT volatile()))': 'primary',
  };
  await using proxy = await knowing();
  await using client = await proxy.raw();
  for (const [words, place] of Object.entries(places)) assert.equal(await whereAlways(client, words), place, words);
  assert.equal(replays(proxy), 0);
});

test('before the catalog is known, functions go to the primary, and what replicas refuse is run there', async () => {
  const blocker = await cluster.connect();
  await blocker.query('BEGIN; LOCK TABLE pg_policy IN ACCESS EXCLUSIVE MODE');
  try {
    await using proxy = await start();
    await using client = await proxy.raw();
    const places = async () => [await where(client, 'stable()'), await where(client, 'immutable()')];
    assert.deepEqual(await places(), ['primary', 'primary']);
    assert.equal(await where(client, 'n FROM items'), 'replica');
    assert.equal(replays(proxy), 0);
    for (const [count, view] of ['n FROM writing', 'n FROM fast', 'count(*) FROM parent'].entries()) {
      assert.equal(await whereAlways(client, view), 'primary');
      assert.equal(replays(proxy), count + 1, view);
    }
    await blocker.query('COMMIT');
    await known(proxy);
    assert.deepEqual(await places(), ['replica', 'replica']);
  } finally {
    await blocker.end();
  }
});

suite('DDL through pglynx changes routes soon', () => {
  const define = (kind: string, body: string) =>
    `CREATE OR REPLACE FUNCTION app.changing() RETURNS int LANGUAGE sql ${kind} AS '${body}'`;
  const CALM = define('STABLE', 'SELECT 1');
  const WRITES = define('VOLATILE', 'INSERT INTO kept VALUES (2) RETURNING n');
  const runs = async (client: RawClient, text: string) => {
    assert.equal(errorOf(await client.query(text)), undefined, text);
  };
  const soon = (client: RawClient, words: string, place: Place) =>
    eventually(`${words} goes to the ${place}`, async () => (await where(client, words)) === place, 5000);

  test('of functions, back and forth; meanwhile what a replica refuses is run on the primary', async () => {
    await using proxy = await knowing();
    await using client = await proxy.raw();
    await using other = await proxy.raw();
    await runs(client, CALM);
    await soon(other, 'app.changing()', 'replica');
    other.send(parse('early', 'SELECT pg_is_in_recovery(), app.changing(), 1'), SYNC);
    await other.ready();
    await runs(client, WRITES);
    await cluster.caughtUp();
    for (let count = 0; count < 20; count++) {
      assert.equal(await where(other, `app.changing(), ${'1,'.repeat(count)} 1`), 'primary');
    }
    let columns = 20;
    await eventually('it is known to write', async () => {
      const before = replays(proxy);
      await where(other, `app.changing(), ${'1,'.repeat(columns++)} 1`);
      return replays(proxy) === before;
    });
    other.send(bind('', 'early'), execute(), SYNC);
    assert.equal(placeOf(await other.ready(), 'early'), 'primary');
    await runs(client, CALM);
    await soon(other, 'app.changing() AS calm', 'replica');
  });

  test('that is part of a transaction, when it has committed', async () => {
    await using proxy = await knowing();
    await using client = await proxy.raw();
    await using other = await proxy.raw();
    await runs(client, 'BEGIN');
    await runs(client, "CREATE FUNCTION app.later() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'");
    await sleep(300);
    await runs(client, 'COMMIT');
    await cluster.caughtUp();
    await soon(other, 'app.later()', 'replica');
    await runs(client, 'BEGIN; DROP FUNCTION app.later(); COMMIT');
  });

  test('by a prepared statement, and of views', async () => {
    await using proxy = await knowing();
    await using client = await proxy.raw();
    await using other = await proxy.raw();
    client.send(parse('', 'CREATE VIEW app.view AS SELECT n FROM items'), bind('', ''), execute(), SYNC);
    assert.equal(errorOf(await client.ready()), undefined);
    await cluster.caughtUp();
    assert.equal(await where(other, 'count(*) FROM app.view'), 'replica');
    await runs(client, 'CREATE OR REPLACE VIEW app.view AS SELECT n FROM items WHERE volatile() > 0');
    await soon(other, 'count(*), 1 FROM app.view', 'primary');
    await runs(client, 'DROP VIEW app.view');
  });

  test('and without pglynx, when catalog_ttl is over', async () => {
    await using proxy = await knowing({ pool: { catalog_ttl: 1000 } });
    await using client = await proxy.raw();
    await cluster.sql("CREATE FUNCTION app.foreign() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'");
    await cluster.caughtUp();
    assert.equal(await where(client, 'app.foreign()'), 'primary');
    await soon(client, 'app.foreign()', 'replica');
  });
});

suite('write_functions and read_functions', () => {
  const cases: readonly [pool: NonNullable<ProxyOptions['pool']>, places: Record<string, Place>][] = [
    [{ read_functions: ['idle'] }, { 'idle()': 'replica', 'app.idle()': 'replica', 'volatile()': 'primary' }],
    [{ read_functions: ['app.idle'] }, { 'idle()': 'primary', 'app.idle()': 'replica', 'public.idle()': 'primary' }],
    [{ write_functions: ['stable'] }, { 'stable()': 'primary', 'n FROM calm': 'primary', 'immutable()': 'replica' }],
    [{ write_functions: ['app.stable'] }, { 'public.stable()': 'replica', 'app.stable()': 'primary' }],
    [{ write_functions: ['pg_catalog.now'] }, { 'now()': 'primary', 'clock_timestamp()': 'replica' }],
    [{ read_functions: ['idle'], write_functions: ['idle'] }, { 'idle()': 'primary' }],
  ];
  for (const [pool, places] of cases) {
    test(JSON.stringify(pool), async () => {
      await using proxy = await knowing({ pool });
      await using client = await proxy.raw();
      for (const [words, place] of Object.entries(places)) assert.equal(await whereAlways(client, words), place, words);
      assert.equal(replays(proxy), 0);
    });
  }
});
