/** Reads on the replica and writes on the primary, through both drivers as people use them. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { type Client, DatabaseError, Pool } from 'pg';
import Cursor from 'pg-cursor';
import postgres, { type Sql } from 'postgres';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

/** Says which server ran it: true on the replica. */
const WHERE = 'SELECT pg_is_in_recovery() AS replica';

let cluster: TestCluster;
let proxy: TestProxy;
let client: Client;
let sql: Sql;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  proxy = await TestProxy.start(cluster, { pool: { query_parser_enabled: true } });
  client = await proxy.connect();
  sql = driver(proxy);
  await client.query('CREATE TABLE items (id int PRIMARY KEY, name text)');
  await client.query("INSERT INTO items SELECT i, 'name ' || i FROM generate_series(1, 10) AS i");
  await client.query('CREATE FUNCTION my_own() RETURNS bool LANGUAGE sql AS $$ SELECT pg_is_in_recovery() $$');
  await cluster.caughtUp();
});
after(async () => {
  await client?.end();
  await sql?.end();
  await proxy?.stop();
  await cluster?.stop();
});

function driver(to: TestProxy): Sql {
  const login = { user: 'alice', password: PASSWORDS.alice, database: DATABASE };
  return postgres({ host: '127.0.0.1', port: to.port, ...login, max: 2 });
}

async function where(query: Promise<{ rows: { replica?: unknown }[] }>): Promise<string> {
  const { rows } = await query;
  assert.equal(typeof rows[0]?.replica, 'boolean');
  return rows[0].replica === true ? 'replica' : 'primary';
}

suite('node-postgres', () => {
  test('reads go to the replica, with and without parameters, named or not', async () => {
    assert.equal(await where(client.query(WHERE)), 'replica');
    assert.equal(await where(client.query(`${WHERE}, $1::int AS n`, [1])), 'replica');
    assert.equal(await where(client.query(`/* a comment */ ${WHERE}, name FROM items WHERE id = $1;`, [1])), 'replica');
    for (let round = 0; round < 3; round++) {
      assert.equal(
        await where(client.query({ name: 'w', text: `${WHERE}, $1::int AS n`, values: [round] })),
        'replica',
      );
    }
  });

  test('what is not provably a read goes to the primary', async () => {
    const writes = [
      `${WHERE}, my_own()`,
      `${WHERE}, txid_current()`,
      `${WHERE} FROM items WHERE id = 1 FOR UPDATE`,
      `WITH gone AS (DELETE FROM items WHERE id = 0 RETURNING 1) ${WHERE}`,
      `${WHERE}, pg_advisory_xact_lock(1)`,
      `UPDATE items SET name = name WHERE id = 1 RETURNING pg_is_in_recovery() AS replica`,
      `SET LOCAL work_mem = '5MB'; ${WHERE}`,
    ];
    for (const text of writes) {
      const simple = client.query(text).then(result => (Array.isArray(result) ? result[1] : result));
      assert.equal(await where(simple), 'primary', text);
      if (!text.includes(';')) assert.equal(await where(client.query({ text, values: [] })), 'primary', text);
    }
    await client.query('SELECT name INTO copy FROM items');
    await client.query('DROP TABLE copy');
  });

  test('a cursor goes to the primary: its batch stays open, and the client may go on to write in it', async () => {
    const cursor = client.query(new Cursor<{ replica: boolean }>(`${WHERE}, n FROM generate_series(1, 10) AS n`));
    assert.equal((await cursor.read(5))[0].replica, false);
    assert.equal((await cursor.read(20)).length, 5);
    await cursor.close();
  });

  test('named statements that were prepared long ago are routed like themselves', async () => {
    const read = { name: 'a read', text: `${WHERE}, $1::int AS n` };
    const write = {
      name: 'a write',
      text: 'UPDATE items SET name = name WHERE id = $1 RETURNING pg_is_in_recovery() AS replica',
    };
    for (let round = 1; round < 6; round++) {
      assert.equal(await where(client.query({ ...read, values: [round] })), 'replica');
      assert.equal(await where(client.query({ ...write, values: [round] })), 'primary');
    }
  });

  test('a transaction stays on the primary; READ ONLY ones may use a replica, and stay there', async () => {
    for (const [begin, place] of [
      ['BEGIN', 'primary'],
      ['START TRANSACTION ISOLATION LEVEL REPEATABLE READ', 'primary'],
      ['BEGIN READ WRITE', 'primary'],
      ['BEGIN READ ONLY', 'replica'],
      ['BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY', 'replica'],
    ]) {
      await client.query(begin);
      assert.equal(await where(client.query(WHERE)), place, begin);
      assert.equal(await where(client.query(`${WHERE}, $1::int AS n`, [1])), place, begin);
      await client.query('COMMIT');
      assert.equal(await where(client.query(WHERE)), 'replica', `after ${begin}`);
    }
    await client.query('BEGIN READ ONLY');
    const refused = await client.query("INSERT INTO items VALUES (99, 'x')").catch((error: unknown) => error);
    assert.ok(refused instanceof DatabaseError);
    assert.equal(refused.code, '25006');
    await client.query('ROLLBACK');
  });

  test('50 reads and writes at a time, each in its place', async () => {
    const pool = new Pool({ ...proxy.config(), max: 20 });
    const places = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        i % 3 === 0
          ? where(
              pool.query('UPDATE items SET name = $2 WHERE id = $1 RETURNING pg_is_in_recovery() AS replica', [
                1 + (i % 10),
                `name ${i}`,
              ]),
            )
          : where(pool.query(`${WHERE}, $1::int AS n`, [i])),
      ),
    );
    assert.deepEqual(
      places,
      Array.from({ length: 50 }, (_, i) => (i % 3 === 0 ? 'primary' : 'replica')),
    );
    await pool.end();
  });
});

suite('postgres.js', () => {
  const place = async (query: PromiseLike<readonly { replica?: unknown }[]>) =>
    (await query)[0].replica === true ? 'replica' : 'primary';

  test('reads go to the replica and writes to the primary, however often they are executed', async () => {
    for (let round = 1; round < 6; round++) {
      const places = await Promise.all([
        place(sql`SELECT pg_is_in_recovery() AS replica, ${round}::int AS n`),
        place(sql`UPDATE items SET name = name WHERE id = ${round} RETURNING pg_is_in_recovery() AS replica`),
        place(sql`SELECT pg_is_in_recovery() AS replica FROM items WHERE id = ${round}`),
        place(sql`SELECT pg_is_in_recovery() AS replica FROM items WHERE id = ${round} FOR SHARE`),
      ]);
      assert.deepEqual(places, ['replica', 'primary', 'replica', 'primary']);
    }
  });

  test('a transaction stays on the primary; a read-only one may use a replica', async () => {
    await sql.begin(async tx => {
      assert.equal(await place(tx`SELECT pg_is_in_recovery() AS replica`), 'primary');
    });
    await sql.begin('read only', async tx => {
      assert.equal(await place(tx`SELECT pg_is_in_recovery() AS replica, ${1}::int AS n`), 'replica');
    });
  });
});

suite('commands', () => {
  const ask = async (on: Client, text: string) => (await on.query({ text, rowMode: 'array' })).rows[0][0];

  test('SET SERVER ROLE and SHOW SERVER ROLE', async () => {
    const own = await proxy.connect();
    assert.equal(await ask(own, 'SHOW SERVER ROLE'), 'auto');
    const insert = () => own.query("INSERT INTO items VALUES (50, 'x'); DELETE FROM items WHERE id = 50");
    for (const [role, read] of [
      ['primary', 'primary'],
      ["'replica'", 'replica'],
      ['auto', 'replica'],
      ["'default';", 'replica'],
    ]) {
      assert.equal((await own.query(`SET SERVER ROLE TO ${role}`)).command, 'SET');
      assert.equal(await ask(own, 'SHOW SERVER ROLE'), role.includes('default') ? 'auto' : role.replaceAll("'", ''));
      assert.equal(await where(own.query(WHERE)), read, role);
      if (role === "'replica'") await assert.rejects(insert(), { code: '25006' });
      else await insert();
    }
    await own.query('SET SERVER ROLE TO primary');
    assert.equal(await where(client.query(WHERE)), 'replica', 'the choice of another client');
    await own.query('BEGIN');
    await assert.rejects(own.query('SET SERVER ROLE TO replica'), { code: '25001' });
    await own.query('ROLLBACK');
    await own.end();
  });

  test('SET PRIMARY READS and SHOW PRIMARY READS', async () => {
    const own = await proxy.connect();
    const places = async () => {
      const seen = new Set<string>();
      for (let i = 0; i < 40; i++) seen.add(await where(own.query(WHERE)));
      return [...seen].sort();
    };
    assert.equal(await ask(own, 'SHOW PRIMARY READS'), 'off');
    assert.deepEqual(await places(), ['replica']);
    assert.equal((await own.query("SET PRIMARY READS TO 'on'")).command, 'SET');
    assert.equal(await ask(own, 'SHOW PRIMARY READS'), 'on');
    assert.deepEqual(await places(), ['primary', 'replica']);
    await own.query('SET PRIMARY READS TO default');
    assert.equal(await ask(own, 'SHOW PRIMARY READS'), 'off');
    await own.end();
  });

  test('primary_reads_enabled lets reads go to the primary as well', async () => {
    await using both = await TestProxy.start(cluster, {
      pool: { query_parser_enabled: true, primary_reads_enabled: true },
    });
    const own = await both.connect();
    const seen = new Set<string>();
    for (let i = 0; i < 40; i++) seen.add(await where(own.query(WHERE)));
    assert.deepEqual([...seen].sort(), ['primary', 'replica']);
    assert.equal(await ask(own, 'SHOW PRIMARY READS'), 'on');
    await own.end();
  });

  for (const [default_role, places] of [
    ['primary', ['primary']],
    ['replica', ['replica']],
    ['any', ['primary', 'replica']],
  ] as const) {
    test(`without splitting, default_role = "${default_role}" decides`, async () => {
      await using plain = await TestProxy.start(cluster, { pool: { default_role } });
      const own = await plain.connect();
      const seen = new Set<string>();
      for (let i = 0; i < 40; i++) seen.add(await where(own.query(`${WHERE}, $1::int AS n`, [i])));
      assert.deepEqual([...seen].sort(), places);
      assert.equal(await ask(own, 'SHOW SERVER ROLE'), default_role);
      await own.query('BEGIN');
      const first = await where(own.query(WHERE));
      for (let i = 0; i < 10; i++) assert.equal(await where(own.query(WHERE)), first);
      await own.query('COMMIT');
      await own.end();
    });
  }
});

suite('a pool in session mode', () => {
  test('a client stays on the primary, or where SET SERVER ROLE puts it before its first statement', async () => {
    await using session = await TestProxy.start(cluster, {
      pool: { pool_mode: 'session', query_parser_enabled: true },
    });
    const writer = await session.connect();
    assert.equal(await where(writer.query(WHERE)), 'primary');
    await writer.query("INSERT INTO items VALUES (60, 'x')");
    await writer.end();
    const reader = await session.connect();
    await reader.query('SET SERVER ROLE TO replica');
    for (let i = 0; i < 3; i++) assert.equal(await where(reader.query(WHERE)), 'replica');
    await assert.rejects(reader.query("INSERT INTO items VALUES (61, 'x')"), { code: '25006' });
    await reader.end();
  });
});
