/** node-postgres, pg-cursor and pg-copy-streams with their default options, through a pool in transaction mode. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { after, before, suite, test } from 'node:test';
import { Client, DatabaseError, type Notification, Pool, type PoolClient } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import { cancel } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
let proxy: TestProxy;
let client: Client;
before(async () => {
  cluster = await startCluster();
  proxy = await TestProxy.start(cluster, { user: { pool_size: 3 } });
  client = await proxy.connect();
  await client.query('CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL)');
});
after(async () => {
  await client?.end();
  await proxy?.stop();
  await cluster?.stop();
});

/** A node-postgres client straight to PostgreSQL, as the same user. */
async function direct(): Promise<Client> {
  const straight = new Client({ ...proxy.config(), port: cluster.primary.port });
  await straight.connect();
  return straight;
}

/** The error that a query ends in. */
async function errorOf(query: Promise<unknown>): Promise<DatabaseError> {
  const outcome = await query.then(
    () => 'no error',
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof DatabaseError, String(outcome));
  return outcome;
}

suite('queries', () => {
  const TYPES = `SELECT 1::int2 AS int2, (-2147483648)::int4 AS int4, 9223372036854775807::int8 AS int8,
    1.5::float8 AS float8, 'NaN'::float4 AS nan, 12345678901234567890.123456789::numeric AS numeric,
    true AS yes, 'Gr\u00fc\u00dfe \u{1F600}'::text AS text, 'x'::char(3) AS padded, NULL::int AS nothing,
    ARRAY[1, NULL, 3] AS ints, ARRAY[['a', 'b'], ['c"', NULL]] AS texts, '{}'::int[] AS empty,
    '{"a": [1, {"b": null}]}'::json AS json, '{"z": 1, "a": 2}'::jsonb AS jsonb,
    '\\x00ff10'::bytea AS bytea, '2024-02-29'::date AS date, '2024-02-29 12:34:56.789'::timestamp AS local,
    '2024-02-29 12:34:56.789012+02'::timestamptz AS instant, '1 day 02:03:04'::interval AS interval,
    'e0f7a1de-0000-4000-8000-000000000001'::uuid AS uuid, '10.0.0.0/8'::cidr AS cidr, int4range(1, 5) AS range,
    ROW(1, 'two') AS row, point(1, 2) AS point`;

  test('every type comes as it does without pglynx, in both protocols', async () => {
    const straight = await direct();
    for (const values of [[], [5]]) {
      const query = { text: values.length === 0 ? TYPES : `${TYPES}, $1::int AS parameter`, values };
      const [expected, got] = [await straight.query(query), await client.query(query)];
      assert.deepEqual(got.rows, expected.rows);
      assert.deepEqual(
        got.fields.map(({ name, dataTypeID, format }) => [name, dataTypeID, format]),
        expected.fields.map(({ name, dataTypeID, format }) => [name, dataTypeID, format]),
      );
    }
    const [row] = (await client.query(TYPES)).rows;
    assert.equal(row.numeric, '12345678901234567890.123456789');
    assert.deepEqual(row.bytea, Buffer.from([0, 255, 16]));
    assert.equal(row.text, 'Gr\u00fc\u00dfe \u{1F600}');
    await straight.end();
  });

  test('parameters of every type come back as they were sent', async () => {
    const instant = new Date('2024-02-29T10:34:56.789Z');
    const values = [1, "a'b\\c", null, true, Buffer.from([0, 1, 255]), instant, [1, null, 2], { a: ['b'] }, '1e-30'];
    const { rows } = await client.query(
      `SELECT $1::int AS a, $2::text AS b, $3::text AS c, $4::bool AS d, $5::bytea AS e, $6::timestamptz AS f,
         $7::int[] AS g, $8::jsonb AS h, $9::numeric AS i`,
      values,
    );
    assert.deepEqual(Object.values(rows[0]).slice(0, 8), values.slice(0, 8));
    assert.equal(rows[0].i, '0.000000000000000000000000000001');
  });

  test('empty texts, several statements in one text, and rows as arrays', async () => {
    assert.equal((await client.query('')).command, null);
    assert.equal((await client.query('-- nothing')).rowCount, null);
    assert.deepEqual((await client.query({ text: '', values: [] })).rows, []);
    const results: unknown = await client.query(
      "INSERT INTO items VALUES (1, 'one'), (2, 'two'); SELECT name FROM items ORDER BY id; DELETE FROM items",
    );
    assert.ok(Array.isArray(results));
    assert.deepEqual(
      results.map(({ command, rowCount }) => [command, rowCount]),
      [
        ['INSERT', 2],
        ['SELECT', 2],
        ['DELETE', 2],
      ],
    );
    assert.deepEqual((await client.query({ text: 'SELECT 1 AS a, 2 AS a', rowMode: 'array' })).rows, [[1, 2]]);
  });

  test('large results and large parameters arrive whole', async () => {
    const many = await client.query("SELECT i, repeat('x', 1000) AS filler FROM generate_series(1, 20000) AS i");
    assert.equal(many.rows.length, 20_000);
    assert.equal(many.rows[19_999].i, 20_000);
    const parameter = 'abcdefghij'.repeat(2_000_000);
    const { rows } = await client.query('SELECT $1::text AS back, length($1::text) AS length', [parameter]);
    assert.equal(rows[0].length, parameter.length);
    assert.ok(rows[0].back === parameter);
    const literal = await client.query(`SELECT length('${parameter}') AS length`);
    assert.equal(literal.rows[0].length, parameter.length);
  });

  test('50 at a time over a pool of clients share 3 server connections', async () => {
    const pool = new Pool({ ...proxy.config(), max: 50 });
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => (await pool.query('SELECT $1::int * 2 AS n', [i])).rows[0].n),
    );
    assert.deepEqual(
      answers,
      Array.from({ length: 50 }, (_, i) => i * 2),
    );
    assert.ok((await cluster.activity()).filter(({ usename }) => usename === 'alice').length <= 3);
    await pool.end();
  });

  test('a client with many queries queued gets its answers in order', async () => {
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => (i % 5 === 4 ? failing(i) : client.query('SELECT $1::int AS n', [i]))),
    );
    assert.deepEqual(
      answers.map(answer => (answer instanceof DatabaseError ? answer.code : answer.rows[0].n)),
      Array.from({ length: 50 }, (_, i) => (i % 5 === 4 ? '22012' : i)),
    );
  });

  function failing(i: number): Promise<DatabaseError> {
    return errorOf(client.query(`SELECT ${i} / $1::int`, [0]));
  }
});

suite('named statements', () => {
  test('are prepared once and executed again and again, on whichever connection is free', async () => {
    const others = await Promise.all([proxy.connect(), proxy.connect()]);
    for (let round = 0; round < 20; round++) {
      const answers = await Promise.all(
        [client, ...others].map((each, i) =>
          each.query({ name: 'same name', text: `SELECT $1::int + ${i} AS n`, values: [round] }),
        ),
      );
      assert.deepEqual(
        answers.map(({ rows }) => rows[0].n),
        [round, round + 1, round + 2],
      );
    }
    await Promise.all(others.map(other => other.end()));
  });

  test('see a table change under them as they do without pglynx', async () => {
    await client.query('CREATE TABLE shape (a int); INSERT INTO shape VALUES (1)');
    const star = { name: 'star', text: 'SELECT * FROM shape' };
    assert.deepEqual((await client.query(star)).rows, [{ a: 1 }]);
    await client.query('ALTER TABLE shape ADD b int DEFAULT 2');
    assert.deepEqual((await client.query(star)).rows, [{ a: 1, b: 2 }]);
  });

  test('that cannot be prepared may be tried again', async () => {
    const missing = { name: 'missing', text: 'SELECT * FROM later' };
    assert.equal((await errorOf(client.query(missing))).code, '42P01');
    await client.query('CREATE TABLE later (n int)');
    assert.deepEqual((await client.query(missing)).rows, []);
  });
});

suite('transactions', () => {
  const names = async () => (await client.query('SELECT name FROM items ORDER BY id')).rows.map(row => row.name);

  test('commit and roll back', async () => {
    await client.query('BEGIN');
    await client.query('INSERT INTO items VALUES ($1, $2)', [1, 'kept']);
    assert.deepEqual(await cluster.sql('SELECT count(*)::int AS n FROM items'), [{ n: 0 }]);
    await client.query('COMMIT');
    await client.query('BEGIN');
    await client.query('INSERT INTO items VALUES ($1, $2)', [2, 'dropped']);
    await client.query('ROLLBACK');
    assert.deepEqual(await names(), ['kept']);
    await client.query('DELETE FROM items');
  });

  test('an error inside fails what follows until ROLLBACK', async () => {
    await client.query('BEGIN');
    await client.query("INSERT INTO items VALUES (1, 'a')");
    assert.equal((await errorOf(client.query('SELECT 1 / 0'))).code, '22012');
    assert.equal((await errorOf(client.query('SELECT 1'))).code, '25P02');
    assert.equal((await errorOf(client.query('SELECT $1::int', [1]))).code, '25P02');
    assert.equal((await client.query('COMMIT')).command, 'ROLLBACK');
    assert.deepEqual(await names(), []);
  });

  test('savepoints', async () => {
    await client.query('BEGIN');
    await client.query("INSERT INTO items VALUES (1, 'a')");
    await client.query('SAVEPOINT here');
    assert.equal((await errorOf(client.query("INSERT INTO items VALUES (1, 'twice')"))).code, '23505');
    await client.query('ROLLBACK TO here');
    await client.query("INSERT INTO items VALUES (2, 'b')");
    await client.query('RELEASE here');
    await client.query('COMMIT');
    assert.deepEqual(await names(), ['a', 'b']);
    await client.query('DELETE FROM items');
  });

  test('of clients of a pool, one after another and at the same time', async () => {
    const pool = new Pool(proxy.config());
    await Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const one: PoolClient = await pool.connect();
        await one.query('BEGIN');
        const pid = async () => (await one.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
        const first = await pid();
        await one.query('INSERT INTO items VALUES ($1, $2)', [i, `n${i}`]);
        assert.equal(await pid(), first);
        await one.query(i % 2 === 0 ? 'COMMIT' : 'ROLLBACK');
        one.release();
      }),
    );
    await pool.end();
    assert.deepEqual(await names(), ['n0', 'n2', 'n4', 'n6', 'n8']);
    await client.query('DELETE FROM items');
  });
});

suite('errors', () => {
  test('carry SQLSTATE, detail, hint, position and names', async () => {
    const syntax = await errorOf(client.query('SELECT * FRM items'));
    assert.deepEqual([syntax.severity, syntax.code, syntax.position], ['ERROR', '42601', '10']);
    const column = await errorOf(client.query('SELECT nme FROM items WHERE id = $1', [1]));
    assert.equal(column.hint, 'Perhaps you meant to reference the column "items.name".');
    await client.query("INSERT INTO items VALUES (7, 'x')");
    const twice = await errorOf(client.query('INSERT INTO items VALUES ($1, $2)', [7, 'y']));
    assert.deepEqual(
      [twice.code, twice.detail, twice.schema, twice.table, twice.constraint],
      ['23505', 'Key (id)=(7) already exists.', 'public', 'items', 'items_pkey'],
    );
    const empty = await errorOf(client.query('INSERT INTO items VALUES (8, NULL)'));
    assert.deepEqual([empty.code, empty.column], ['23502', 'name']);
    await client.query('DELETE FROM items');
    const raised = await errorOf(
      client.query("DO $$ BEGIN RAISE 'no' USING ERRCODE = 'P0099', HINT = 'try', DETAIL = 'why'; END $$"),
    );
    assert.deepEqual([raised.message, raised.code, raised.hint, raised.detail], ['no', 'P0099', 'try', 'why']);
  });

  test('notices arrive with their fields', async () => {
    const notices: unknown[] = [];
    const listener = ({
      severity,
      code,
      message,
    }: {
      severity?: string | undefined;
      code?: string | undefined;
      message?: string | undefined;
    }) => {
      notices.push([severity, code, message]);
    };
    client.on('notice', listener);
    await client.query('DROP TABLE IF EXISTS nowhere');
    await client.query("DO $$ BEGIN RAISE WARNING 'careful'; RAISE NOTICE 'so'; END $$");
    client.off('notice', listener);
    assert.deepEqual(notices, [
      ['NOTICE', '00000', 'table "nowhere" does not exist, skipping'],
      ['WARNING', '01000', 'careful'],
      ['NOTICE', '00000', 'so'],
    ]);
  });

  test('a statement that outlasts the statement_timeout of the user is ended, and the client goes on', async () => {
    await using hasty = await TestProxy.start(cluster, { user: { statement_timeout: 300 } });
    const one = await hasty.connect();
    const late = await errorOf(one.query('SELECT pg_sleep($1)', [20]));
    assert.equal(late.code, '57014');
    assert.match(late.message, /pool statement timeout.*statement_timeout \(300 ms\)/);
    assert.deepEqual((await one.query('SELECT 1 AS n')).rows, [{ n: 1 }]);
    await one.end();
  });

  test('a CancelRequest with the key of a client ends its query and nobody else’s', async () => {
    const victim = await proxy.connect();
    const bystander = client.query('SELECT pg_sleep(0.3) IS NULL AS slept');
    const sleeping = errorOf(victim.query('SELECT pg_sleep(20)'));
    await eventually('the query runs', async () =>
      (await cluster.activity()).some(({ query, state }) => query.includes('pg_sleep(20)') && state === 'active'),
    );
    await cancel({ port: proxy.port }, keyOf(victim));
    assert.equal((await sleeping).code, '57014');
    assert.deepEqual((await bystander).rows, [{ slept: false }]);
    assert.deepEqual((await victim.query('SELECT 1 AS n')).rows, [{ n: 1 }]);
    await victim.end();
  });
});

/** The key that a CancelRequest for this client needs. */
function keyOf(of: Client): { pid: number; secret: Buffer } {
  const pid: unknown = Reflect.get(of, 'processID');
  const key: unknown = Reflect.get(of, 'secretKey');
  assert.ok(typeof pid === 'number' && typeof key === 'number', 'node-postgres keeps the key elsewhere now');
  const secret = Buffer.alloc(4);
  secret.writeInt32BE(key);
  return { pid, secret };
}

suite('cursors', () => {
  test('fetch a result in portions, also half of it, in a transaction and without', async () => {
    for (const [begin, end] of [
      ['BEGIN', 'COMMIT'],
      ['SELECT 1', 'SELECT 1'],
    ]) {
      await client.query(begin);
      const cursor = client.query(new Cursor<{ n: number }>('SELECT n FROM generate_series(1, $1) AS n', [1000]));
      for (let from = 1; from < 500; from += 100) {
        const rows = await cursor.read(100);
        assert.deepEqual(
          rows.map(row => row.n),
          Array.from({ length: 100 }, (_, i) => from + i),
        );
      }
      await cursor.close();
      await client.query(end);
    }
    const whole = client.query(new Cursor<{ n: number }>('SELECT n FROM generate_series(1, 10) AS n'));
    assert.equal((await whole.read(100)).length, 10);
    assert.deepEqual(await whole.read(100), []);
    await whole.close();
    assert.deepEqual((await client.query('SELECT 5 AS n')).rows, [{ n: 5 }]);
  });

  test('tell an error, and the client goes on', async () => {
    const cursor = client.query(new Cursor('SELECT 10 / (5 - n) FROM generate_series(1, 10) AS n'));
    assert.equal((await cursor.read(3)).length, 3);
    assert.equal((await errorOf(cursor.read(3))).code, '22012');
    assert.deepEqual((await client.query('SELECT 6 AS n')).rows, [{ n: 6 }]);
  });
});

suite('COPY', () => {
  test('in and out, of many rows', async () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => `${i}\tname ${i}\n`);
    await pipeline(Readable.from(rows), client.query(copyFrom('COPY items FROM STDIN')));
    assert.equal((await client.query('SELECT count(*)::int AS n FROM items')).rows[0].n, 20_000);
    const out = await text(client.query(copyTo('COPY (SELECT * FROM items ORDER BY id) TO STDOUT')));
    assert.ok(out === rows.join(''));
    await client.query('DELETE FROM items');
  });

  test('in that PostgreSQL refuses, and in that the client breaks off', async () => {
    const bad = pipeline(Readable.from(['1\tok\n', 'nonsense\n']), client.query(copyFrom('COPY items FROM STDIN')));
    const error = await errorOf(bad);
    assert.equal(error.code, '22P02');
    assert.match(error.where ?? '', /COPY items, line 2/);
    const stream = client.query(copyFrom('COPY items FROM STDIN'));
    stream.write('1\tok\n');
    const broken = once(stream, 'error');
    stream.destroy(new Error('changed my mind'));
    await broken;
    assert.equal((await client.query('SELECT count(*)::int AS n FROM items')).rows[0].n, 0);
  });
});

suite('a pool in session mode', () => {
  test('LISTEN and NOTIFY, settings, temporary tables and prepared statements live as long as the client', async () => {
    await using session = await TestProxy.start(cluster, { pool: { pool_mode: 'session' } });
    const listener = await session.connect();
    const heard: Notification[] = [];
    listener.on('notification', notification => heard.push(notification));
    await listener.query('LISTEN news');
    await listener.query("CREATE TEMP TABLE mine (n int); SET statement_timeout = '7s'");
    await listener.query('PREPARE mine AS INSERT INTO mine VALUES ($1)');
    await listener.query('EXECUTE mine(3)');
    const other = await session.connect();
    await other.query("NOTIFY news, 'first'");
    await other.query('SELECT pg_notify($1, $2)', ['news', 'second']);
    await eventually('both have come', () => heard.length === 2);
    assert.deepEqual(
      heard.map(({ channel, payload }) => [channel, payload]),
      [
        ['news', 'first'],
        ['news', 'second'],
      ],
    );
    assert.deepEqual((await listener.query('SELECT n FROM mine')).rows, [{ n: 3 }]);
    assert.deepEqual((await listener.query('SHOW statement_timeout')).rows, [{ statement_timeout: '7s' }]);
    await other.end();
    await listener.end();
  });
});
