/** Activity routing through pglynx: reads of what was just written go to the primary, whoever wrote it and however. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

const { bind, copyData, copyDone, describe, execute, parse, query } = frontend;
const SYNC = frontend.sync();

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  const tables = ['items', 'others', 'east.items', 'west.items'];
  await cluster.sql(`CREATE SCHEMA east; CREATE SCHEMA west; GRANT ALL ON SCHEMA east, west TO PUBLIC;
    ${tables.map(table => `CREATE TABLE ${table} (n int); GRANT ALL ON ${table} TO PUBLIC;`).join('')}
    ALTER TABLE items OWNER TO alice; CREATE SEQUENCE ids; GRANT ALL ON SEQUENCE ids TO PUBLIC;
    CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO items VALUES (1) RETURNING n';
    CREATE FUNCTION counts() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM items';
    CREATE PROCEDURE changes() LANGUAGE sql AS 'INSERT INTO items VALUES (1)'`);
  await cluster.caughtUp();
});
after(() => cluster?.stop());

/** How long a table counts as written here; long enough for a busy machine to read it meanwhile. */
const TTL_MS = 1500;

/** A pglynx that has been active for long, and knows the catalog. */
async function start(options: ProxyOptions = {}): Promise<TestProxy> {
  const proxy = await TestProxy.start(cluster, {
    ...options,
    pool: {
      query_parser_enabled: true,
      db_activity_based_routing: true,
      db_activity_init_delay: 1,
      table_mutation_cache_ms_ttl: TTL_MS,
      ...options.pool,
    },
  });
  for (const { schema } of proxy.proxy.clusters()) {
    schema.start();
    await schema.ready;
  }
  await using client = await proxy.raw();
  await reads(client, 'items');
  await sleep(10);
  return proxy;
}

/** Where a read of this table goes. */
async function reads(client: RawClient, table: string, more = ''): Promise<string> {
  const messages = await client.query(`SELECT pg_is_in_recovery(), count(*)${more} FROM ${table}`);
  const [row] = rowsOf(messages);
  return row === undefined ? `${errorOf(messages)?.message}` : row[0] === 't' ? 'replica' : 'primary';
}

async function runs(client: RawClient, ...messages: Buffer[]): Promise<void> {
  client.send(...messages);
  assert.equal(errorOf(await client.ready()), undefined);
}

test('it is off unless it is asked for', async () => {
  await using proxy = await start({ pool: { db_activity_based_routing: false } });
  await using client = await proxy.raw();
  await runs(client, query('INSERT INTO items VALUES (1)'));
  assert.equal(await reads(client, 'items'), 'replica');
});

test('a table goes to the primary for table_mutation_cache_ms_ttl after a write, and others to replicas', async () => {
  await using proxy = await start();
  await using client = await proxy.raw();
  assert.equal(await reads(client, 'items'), 'replica');
  const since_ms = performance.now();
  await runs(client, query('INSERT INTO items VALUES (1)'));
  const places: string[] = [];
  while (places.at(-1) !== 'replica') {
    places.push(await reads(client, 'items'));
    assert.equal(await reads(client, 'others'), 'replica');
  }
  assert.ok(places.length > 1, 'it went to the primary');
  assert.ok(performance.now() - since_ms >= TTL_MS);
  assert.equal(await reads(client, 'items'), 'replica');
});

suite('what writes a table', () => {
  const write = 'INSERT INTO items VALUES (1)';
  const ways: Readonly<Record<string, Buffer[]>> = {
    UPDATE: [query('UPDATE items SET n = n')],
    DELETE: [query('DELETE FROM items')],
    MERGE: [query('MERGE INTO items USING others ON false WHEN MATCHED THEN DELETE')],
    TRUNCATE: [query('TRUNCATE items')],
    'a WITH query': [query('WITH gone AS (DELETE FROM items RETURNING n) SELECT * FROM gone')],
    'one of several statements': [query('SELECT 1; INSERT INTO items VALUES (1); SELECT 2')],
    'EXPLAIN ANALYZE': [query(`EXPLAIN ANALYZE ${write}`)],
    COPY: [query('COPY items FROM STDIN'), copyData('1\n'), copyDone()],
    'an unnamed statement': [parse('', write), bind('', ''), execute(), SYNC],
    'a named statement': [parse('w', write), describe('S', 'w'), bind('', 'w'), execute(), SYNC],
    'the last of many in one batch': [
      ...Array.from({ length: 80 }, () => [parse('', 'SELECT 1'), bind('', ''), execute()]).flat(),
      ...[parse('', write), bind('', ''), execute(), SYNC],
    ],
    DDL: [query('ALTER TABLE items SET (fillfactor = 100)')],
  };
  for (const [name, messages] of Object.entries(ways)) {
    test(name, async () => {
      await using proxy = await start();
      await using client = await proxy.raw();
      await runs(client, ...messages);
      assert.equal(await reads(client, 'items'), 'primary');
      // Of a batch that is too long to be remembered one by one, anything is possible.
      assert.equal(await reads(client, 'others'), name.startsWith('the last of many') ? 'primary' : 'replica');
    });
  }

  test('by a client that chose the primary', async () => {
    await using proxy = await start();
    await using writer = await proxy.raw();
    await using client = await proxy.raw();
    await runs(writer, query("SET SERVER ROLE TO 'primary'"));
    await runs(writer, query(write));
    assert.equal(await reads(client, 'items'), 'primary');
    assert.equal(await reads(client, 'others'), 'replica');
  });

  test('by another user of the pool', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    const bob = await proxy.connect({ user: 'bob', password: PASSWORDS.bob, database: DATABASE });
    await bob.query(write);
    assert.equal(await reads(client, 'items'), 'primary');
    assert.equal(await reads(client, 'others'), 'replica');
    await bob.end();
  });

  test('but not by being prepared only, or by being about another table', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    await runs(client, parse('w', write), describe('S', 'w'), SYNC);
    await runs(client, query('INSERT INTO others SELECT n FROM items'));
    assert.equal(await reads(client, 'items'), 'replica');
    assert.equal(await reads(client, 'others'), 'primary');
  });
});

suite('what names no table', () => {
  const nothing = ['BEGIN', 'COMMIT', 'SET LOCAL work_mem = 100', "SELECT nextval('ids')", 'LISTEN a', 'DISCARD ALL'];
  for (const text of [...nothing, 'SELECT n FROM others FOR UPDATE', 'SELECT pg_advisory_lock(1)']) {
    test(`and writes none: ${text}`, async () => {
      await using proxy = await start();
      await using client = await proxy.raw();
      await runs(client, query(text));
      await runs(client, query('COMMIT'));
      assert.equal(await reads(client, 'items'), 'replica');
    });
  }
  const anything = ["DO 'BEGIN INSERT INTO items VALUES (1); END'", 'CALL changes()', 'SELECT writes()', 'SELEC'];
  for (const text of [...anything, `SELECT writes() /* ${'x'.repeat(100_000)} */`]) {
    test(`and may write any: ${text.slice(0, 30)}`, async () => {
      await using proxy = await start();
      await using client = await proxy.raw();
      await client.query(text);
      assert.equal(await reads(client, 'items'), 'primary');
      assert.equal(await reads(client, 'others'), 'primary');
    });
  }

  test('and was taken for a read until a replica refused it', async () => {
    await using proxy = await start({ pool: { read_functions: ['writes'] } });
    await using client = await proxy.raw();
    await runs(client, query('SELECT writes()'));
    assert.equal(await reads(client, 'items'), 'primary');
  });

  test('but reads what a function reads', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    assert.equal(await reads(client, 'others', ', counts()'), 'replica');
    await runs(client, query('INSERT INTO items VALUES (1)'));
    assert.equal(await reads(client, 'others', ', counts()'), 'primary');
    assert.equal(await reads(client, 'others'), 'replica');
  });
});

suite('a transaction', () => {
  const bodies: Readonly<Record<string, Buffer[]>> = {
    'simple queries': [query('INSERT INTO items VALUES (1)')],
    'prepared statements': [parse('', 'INSERT INTO items VALUES (1)'), bind('', ''), execute(), SYNC],
    'more than can be inspected': [query(`INSERT INTO items VALUES (1) /* ${'x'.repeat(100_000)} */`)],
  };
  for (const [name, messages] of Object.entries(bodies)) {
    test(`of ${name} counts when it writes and again when it ends`, async () => {
      await using proxy = await start();
      await using writer = await proxy.raw();
      await using client = await proxy.raw();
      await runs(writer, query('BEGIN'));
      await runs(writer, ...messages);
      assert.equal(await reads(client, 'items'), 'primary');
      await sleep(TTL_MS);
      assert.equal(await reads(client, 'items'), 'replica');
      await runs(writer, query('COMMIT'));
      assert.equal(await reads(client, 'items'), 'primary');
    });
  }
});

test('a name without a schema may be of any; names with one are told apart', async () => {
  await using proxy = await start();
  await using client = await proxy.raw();
  await runs(client, query('INSERT INTO east.items VALUES (1)'));
  const places: string[] = [];
  for (const table of ['east.items', '"east"."items"', 'items', 'west.items']) places.push(await reads(client, table));
  assert.deepEqual(places, ['primary', 'primary', 'primary', 'replica']);
  await runs(client, query('INSERT INTO Items VALUES (1)'));
  assert.equal(await reads(client, 'west.items'), 'primary');
  assert.equal(await reads(client, 'others'), 'replica');
});

test('all reads go to the primary for db_activity_init_delay after a silence of db_activity_ttl', async () => {
  const pool = { db_activity_init_delay: TTL_MS, db_activity_ttl: 2, table_mutation_cache_ms_ttl: 1 };
  const since_ms = performance.now();
  await using proxy = await start({ pool });
  await using client = await proxy.raw();
  const active = async (since_ms: number) => {
    assert.equal(await reads(client, 'others'), 'primary');
    while ((await reads(client, 'others')) === 'primary') await sleep(20);
    assert.ok(performance.now() - since_ms >= TTL_MS);
    assert.equal(await reads(client, 'items'), 'replica');
  };
  await active(since_ms);
  await sleep(2100);
  await active(performance.now());
});

test('EXPLAIN ROUTE and SHOW ROUTES give the reason', async () => {
  await using proxy = await start({ users: ['alice'] });
  await using client = await proxy.raw();
  await runs(client, query('INSERT INTO items VALUES (1)'));
  const reason = async (text: string) =>
    Object.fromEntries(rowsOf(await client.query(`EXPLAIN ROUTE ${text}`)))['role reason']?.split(' ')[0];
  assert.equal(await reason('SELECT n FROM items'), 'recently_written');
  assert.equal(await reason('SELECT counts()'), 'recently_written');
  assert.equal(await reason('SELECT n FROM others'), 'read');
  await client.query('SELECT n FROM items');
  const admin = await proxy.admin();
  const { rows } = await admin.query<{ template: string; role: string; reason: string }>('SHOW ROUTES');
  await admin.end();
  const found = rows.find(({ template }) => template === 'SELECT n FROM items');
  assert.deepEqual([found?.role, found?.reason], ['primary', 'recently_written']);
});
