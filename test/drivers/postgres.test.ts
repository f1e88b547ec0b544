/** postgres.js with its default options (it pipelines, and prepares everything), through a pool in transaction mode. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { after, before, suite, test } from 'node:test';
import postgres, { type Notice, type Sql } from 'postgres';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
let proxy: TestProxy;
let sql: Sql;
before(async () => {
  cluster = await startCluster();
  proxy = await TestProxy.start(cluster, { user: { pool_size: 3 } });
  sql = connect(proxy);
  await sql`CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL)`;
});
after(async () => {
  await sql?.end();
  await proxy?.stop();
  await cluster?.stop();
});

/** What a test changes of postgres.js's default options. */
interface DriverOptions {
  readonly port?: number;
  readonly max?: number;
  readonly ssl?: 'prefer';
  readonly onnotice?: (notice: Notice) => void;
}

function connect(to: TestProxy, options: DriverOptions = {}): Sql {
  const login = { user: 'alice', password: PASSWORDS.alice, database: DATABASE };
  return postgres({ host: '127.0.0.1', port: to.port, ...login, ...options });
}

/** The error that a query ends in. */
async function errorOf(query: PromiseLike<unknown>): Promise<postgres.PostgresError> {
  const outcome = await query.then(
    () => 'no error',
    (error: unknown) => error,
  );
  assert.ok(outcome instanceof postgres.PostgresError, String(outcome));
  return outcome;
}

suite('queries', () => {
  const TYPES = `SELECT 1::int2 AS int2, 9223372036854775807::int8 AS int8, 1.5::float8 AS float8,
    12345678901234567890.123456789::numeric AS numeric, true AS yes, 'Gr\u00fc\u00dfe \u{1F600}'::text AS text,
    NULL::int AS nothing, ARRAY[1, 2, 3] AS ints, ARRAY[['a', 'b'], ['c"', NULL]] AS texts,
    '{"a": [1, {"b": null}]}'::json AS json, '{"z": 1}'::jsonb AS jsonb, '\\x00ff10'::bytea AS bytea,
    '2024-02-29'::date AS date, '2024-02-29 12:34:56.789+02'::timestamptz AS instant, '1 day'::interval AS interval`;

  test('every type comes as it does without pglynx, in both protocols', async () => {
    const straight = connect(proxy, { port: cluster.primary.port });
    assert.deepEqual([...(await sql.unsafe(TYPES))], [...(await straight.unsafe(TYPES))]);
    const prepared = [`${TYPES}, $1::int AS parameter`, [5]] as const;
    const [row] = await sql.unsafe(prepared[0], [...prepared[1]]);
    assert.deepEqual(row, (await straight.unsafe(prepared[0], [...prepared[1]]))[0]);
    assert.deepEqual(row.ints, [1, 2, 3]);
    assert.equal(row.numeric, '12345678901234567890.123456789');
    await straight.end();
  });

  test('parameters of every type come back as they were sent', async () => {
    const instant = new Date('2024-02-29T10:34:56.789Z');
    const bytes = Buffer.from([0, 1, 255]);
    const [row] = await sql`SELECT ${1}::int AS a, ${"a'b\\c"} AS b, ${null}::text AS c, ${true}::bool AS d,
      ${bytes}::bytea AS e, ${instant}::timestamptz AS f, ${[1, 2]}::int[] AS g, ${sql.json({ a: ['b'] })} AS h,
      ${sql.array(['x', 'y,z'])} AS i`;
    assert.deepEqual(row, {
      a: 1,
      b: "a'b\\c",
      c: null,
      d: true,
      e: bytes,
      f: instant,
      g: [1, 2],
      h: { a: ['b'] },
      i: ['x', 'y,z'],
    });
  });

  test('empty texts, and several statements in one text', async () => {
    assert.deepEqual([...(await sql.unsafe(''))], []);
    const [inserted, selected] = await sql
      .unsafe("INSERT INTO items VALUES (1, 'one'); SELECT name FROM items; DELETE FROM items")
      .simple();
    assert.deepEqual([inserted.count, [...selected]], [1, [{ name: 'one' }]]);
  });

  test('large results and large parameters arrive whole', async () => {
    const many = await sql`SELECT i, repeat('x', 1000) AS filler FROM generate_series(1, 20000) AS i`;
    assert.deepEqual([many.length, many[19_999].i], [20_000, 20_000]);
    const parameter = 'abcdefghij'.repeat(1_000_000);
    const [row] = await sql`SELECT ${parameter}::text AS back`;
    assert.ok(row.back === parameter);
  });

  test('a thousand at a time, pipelined over 10 clients and 3 server connections', async () => {
    const answers = await Promise.all(
      Array.from({ length: 1000 }, (_, i) =>
        i % 7 === 3
          ? errorOf(sql`SELECT ${i}::int / 0`)
          : i % 2 === 0
            ? sql`SELECT ${i}::int AS n`
            : sql`SELECT ${i} AS t`,
      ),
    );
    for (const [i, answer] of answers.entries()) {
      if (answer instanceof postgres.PostgresError) assert.equal(answer.code, '22012');
      else assert.deepEqual([...answer], [i % 2 === 0 ? { n: i } : { t: String(i) }]);
    }
    assert.equal(answers.filter(answer => answer instanceof postgres.PostgresError).length, 143);
    assert.ok((await cluster.activity()).filter(({ usename }) => usename === 'alice').length <= 3);
  });

  test('a hundred statements over connections that keep two each, asked for with ssl: prefer', async () => {
    await using small = await TestProxy.start(cluster, {
      pool: { prepared_statements_cache_size: 2 },
      user: { pool_size: 2 },
    });
    const client = connect(small, { ssl: 'prefer' });
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(
        Array.from({ length: 100 }, (_, i) => client.unsafe(`SELECT ${i} + $1::int AS n`, [round], { prepare: true })),
      );
      for (const [i, [row]] of answers.entries()) assert.deepEqual(row, { n: i + round });
    }
    await client.end();
  });

  test('simple queries pipelined with prepared ones keep their order', async () => {
    const single = connect(proxy, { max: 1 });
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        i % 3 === 0 ? single.unsafe(`SELECT ${i} AS n; SELECT 'second'`).simple() : single`SELECT ${i}::int AS n`,
      ),
    );
    for (const [i, [first]] of answers.entries()) assert.deepEqual(i % 3 === 0 ? first[0] : first, { n: i });
    await single.end();
  });
});

suite('transactions', () => {
  const names = async () => (await sql`SELECT name FROM items ORDER BY id`).map(row => row.name);

  test('commit, and roll back when the callback throws or a query fails', async () => {
    await sql.begin(async tx => {
      await tx`INSERT INTO items VALUES (1, 'kept')`;
      assert.deepEqual(await cluster.sql('SELECT count(*)::int AS n FROM items'), [{ n: 0 }]);
    });
    const thrown = sql.begin(async tx => {
      await tx`INSERT INTO items VALUES (2, 'dropped')`;
      throw new Error('no');
    });
    await assert.rejects(thrown, /^Error: no$/);
    const failed = sql.begin(async tx => {
      await tx`INSERT INTO items VALUES (3, 'dropped')`;
      await tx`SELECT 1 / 0`;
    });
    assert.equal((await errorOf(failed)).code, '22012');
    assert.deepEqual(await names(), ['kept']);
    await sql`DELETE FROM items`;
  });

  test('savepoints', async () => {
    await sql.begin(async tx => {
      await tx`INSERT INTO items VALUES (1, 'a')`;
      const inner = tx.savepoint(async point => {
        await point`INSERT INTO items VALUES (2, 'b')`;
        await point`INSERT INTO items VALUES (1, 'twice')`;
      });
      assert.equal((await errorOf(inner)).code, '23505');
      await tx`INSERT INTO items VALUES (3, 'c')`;
    });
    assert.deepEqual(await names(), ['a', 'c']);
    await sql`DELETE FROM items`;
  });

  test('20 at a time, each with its queries pipelined', async () => {
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        sql.begin(tx => [1, 2, 3].map(j => tx`INSERT INTO items VALUES (${i * 10 + j}, ${`n${i}`})`)),
      ),
    );
    assert.equal((await names()).length, 60);
    await sql`DELETE FROM items`;
  });
});

suite('errors and notices', () => {
  test('errors carry SQLSTATE, detail, hint, position and names', async () => {
    const syntax = await errorOf(sql`SELECT * FRM items`);
    assert.deepEqual([syntax.severity, syntax.code, syntax.position], ['ERROR', '42601', '10']);
    await sql`INSERT INTO items VALUES (7, 'x')`;
    const twice = await errorOf(sql`INSERT INTO items VALUES (${7}, 'y')`);
    assert.deepEqual(
      [twice.code, twice.detail, twice.schema_name, twice.table_name, twice.constraint_name],
      ['23505', 'Key (id)=(7) already exists.', 'public', 'items', 'items_pkey'],
    );
    await sql`DELETE FROM items`;
  });

  test('notices arrive', async () => {
    const notices: unknown[] = [];
    const noted = connect(proxy, { onnotice: ({ severity, message }) => notices.push([severity, message]) });
    await noted`DROP TABLE IF EXISTS nowhere`;
    assert.deepEqual(notices, [['NOTICE', 'table "nowhere" does not exist, skipping']]);
    await noted.end();
  });

  test('query.cancel() ends that query, and the next one runs', async () => {
    const victim = connect(proxy, { max: 1 });
    const bystander = sql`SELECT pg_sleep(0.3) IS NULL AS slept`.execute();
    const sleeping = victim`SELECT pg_sleep(20)`.execute();
    await eventually('the query runs', async () =>
      (await cluster.activity()).some(({ query, state }) => query.includes('pg_sleep(20)') && state === 'active'),
    );
    sleeping.cancel();
    assert.equal((await errorOf(sleeping)).code, '57014');
    assert.deepEqual([...(await victim`SELECT 1 AS n`)], [{ n: 1 }]);
    assert.deepEqual([...(await bystander)], [{ slept: false }]);
    await victim.end();
  });

  test('a table that changes under a prepared statement', async () => {
    const single = connect(proxy, { max: 1 });
    await single`CREATE TABLE shape (a int)`;
    await single`INSERT INTO shape VALUES (1)`;
    const star = () => single`SELECT * FROM shape`;
    assert.deepEqual([...(await star())], [{ a: 1 }]);
    await single`ALTER TABLE shape ADD b int DEFAULT 2`;
    // postgres.js decodes by the columns that it was told when it prepared; PostgreSQL would refuse, pglynx does not.
    assert.equal((await star()).length, 1);
    await single.end();
  });
});

suite('cursors and COPY', () => {
  test('cursors fetch a result in portions, also half of it', async () => {
    const sizes: number[] = [];
    for await (const rows of sql`SELECT n FROM generate_series(1, 250) AS n`.cursor(100)) sizes.push(rows.length);
    assert.deepEqual(sizes, [100, 100, 50]);
    let seen = 0;
    for await (const [row] of sql`SELECT n FROM generate_series(1, 250) AS n`.cursor()) {
      seen = row.n;
      if (seen === 10) break;
    }
    assert.equal(seen, 10);
    await sql.begin(async tx => {
      for await (const rows of tx`SELECT n FROM generate_series(1, 30) AS n`.cursor(20)) seen += rows.length;
    });
    assert.equal(seen, 40);
    assert.deepEqual([...(await sql`SELECT 5 AS n`)], [{ n: 5 }]);
  });

  test('COPY in and out, of many rows', async () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => `${i}\tname ${i}\n`);
    await pipeline(Readable.from(rows), await sql`COPY items FROM STDIN`.writable());
    assert.deepEqual([...(await sql`SELECT count(*)::int AS n FROM items`)], [{ n: 20_000 }]);
    const out = await text(await sql`COPY (SELECT * FROM items ORDER BY id) TO STDOUT`.readable());
    assert.ok(out === rows.join(''));
    await sql`DELETE FROM items`;
  });

  test('COPY in that PostgreSQL refuses leaves nothing, and the client goes on', async () => {
    const single = connect(proxy, { max: 1 });
    const stream = await single`COPY items FROM STDIN`.writable();
    stream.end('1\tok\nnonsense\n');
    assert.deepEqual([...(await single`SELECT count(*)::int AS n FROM items`)], [{ n: 0 }]);
    await single.end();
  });
});

suite('a pool in session mode', () => {
  test('sql.listen hears sql.notify, and a reserved connection keeps its session', async () => {
    await using session = await TestProxy.start(cluster, { pool: { pool_mode: 'session' } });
    const client = connect(session, { max: 2 });
    const heard: string[] = [];
    await client.listen('news', payload => heard.push(payload));
    await client.notify('news', 'first');
    await client.notify('news', 'second');
    await eventually('both have come', () => heard.length === 2);
    assert.deepEqual(heard, ['first', 'second']);
    const reserved = await client.reserve();
    await reserved`CREATE TEMP TABLE mine (n int)`;
    await reserved`INSERT INTO mine VALUES (${3})`;
    assert.deepEqual([...(await reserved`SELECT n FROM mine`)], [{ n: 3 }]);
    reserved.release();
    await client.end();
  });
});
