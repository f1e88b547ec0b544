/** A key that any table may have: the catalog says which do, from the first statement on, and soon of new ones. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';
import { answerOf, KEYS, Shards, WAYS } from './shards.ts';

const { bind, execute, parse, query, sync } = frontend;

let shards: Shards;
before(async () => {
  shards = await Shards.start({
    schema: `
      CREATE TABLE data (x int, id bigint);
      CREATE TABLE "Data" ("Id" text, id bigint);
      CREATE TABLE plain (y int);
      CREATE TABLE twice (x int, id bigint);
      CREATE SCHEMA apart CREATE TABLE twice (y int) CREATE TABLE notes (id bigint, y int);
      GRANT USAGE ON SCHEMA apart TO PUBLIC;
      GRANT ALL ON ALL TABLES IN SCHEMA apart TO PUBLIC;
      CREATE VIEW everything AS SELECT x, id FROM data;
      CREATE VIEW xs AS SELECT x FROM data`,
  });
});
after(() => shards?.stop());

const start = (automatic_sharding_key: string) =>
  shards.proxy({ pool: { automatic_sharding_key, default_shard: 'shard_1' } });

suite('the first statements after a login', () => {
  const FIRST: readonly (readonly [string, string])[] = [
    ['SELECT current_database(), count(*) FROM plain', 's1'],
    ['SELECT current_database(), count(*) FROM data WHERE id = 5', 's2'],
    ['INSERT INTO data VALUES (1, 2) RETURNING current_database()', 's0'],
    ['SELECT current_database(), count(*) FROM plain, apart.twice', 's1'],
    ['SELECT current_database(), count(*) FROM apart.notes WHERE id = 5', 's2'],
    ['SELECT current_database(), count(*) FROM plain JOIN data ON y = x WHERE id = 2', 's0'],
  ];
  for (const [sql, place] of FIRST) {
    test(`find the columns of their tables: ${sql}`, async () => {
      for (const run of Object.values(WAYS)) {
        await using proxy = await start('*.id');
        await using client = await proxy.raw();
        const { rows, error } = await run(client, sql);
        assert.deepEqual([error, rows[0]?.[0]], [undefined, place]);
      }
      await shards.each('TRUNCATE data');
    });
  }

  test('of many clients at once', async () => {
    await using proxy = await start('*.id');
    const clients = await Promise.all(Array.from({ length: 20 }, () => proxy.raw()));
    const answers = await Promise.all(clients.map((client, n) => client.query(FIRST[n % 2][0])));
    assert.deepEqual(
      answers.map(messages => answerOf(messages).rows[0]?.[0]),
      clients.map((_, n) => FIRST[n % 2][1]),
    );
    await Promise.all(clients.map(client => client.close()));
  });
});

suite('which tables are sharded', () => {
  const CASES: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
    '*.id': [
      ['SELECT current_database() FROM plain RIGHT JOIN (VALUES (1)) v ON true', 's1'],
      ['SELECT * FROM data', '0A000'],
      ['SELECT * FROM apart.notes', '0A000'],
      ['SELECT current_database(), count(*) FROM apart.twice', 's1'],
      ['INSERT INTO apart.twice VALUES (2) RETURNING current_database()', 's1'],
      ['INSERT INTO public.twice VALUES (5, 2) RETURNING current_database()', 's0'],
      // Without its schema it may be one or the other.
      ['SELECT current_database(), count(*) FROM twice', '0A000'],
      ['INSERT INTO twice VALUES (5, 2)', '0A000'],
      ['INSERT INTO twice (x, id) VALUES (5, 2) RETURNING current_database()', 's0'],
      ['SELECT current_database(), count(*) FROM "Data" WHERE id = 5', 's2'],
      ['SELECT current_database(), count(*) FROM "Data" WHERE "Id" = \'5\'', '0A000'],
      ['SELECT current_database(), count(*) FROM everything WHERE id = 5', '0A000'],
      ['SELECT * FROM everything', '0A000'],
      ['SELECT current_database(), count(*) FROM pg_class', 's1'],
      ['SELECT current_database(), count(*) FROM information_schema.tables', 's1'],
      ['SELECT * FROM data, plain WHERE x = y', '0A000'],
      ['INSERT INTO plain VALUES (5) RETURNING current_database()', 's1'],
      ['INSERT INTO data VALUES (5, 2) RETURNING current_database()', 's0'],
      ['INSERT INTO data VALUES (5) RETURNING current_database()', '0A000'],
      ['INSERT INTO apart.notes VALUES (5, 2) RETURNING current_database()', 's2'],
      ['UPDATE plain SET y = 6 WHERE y = 5 RETURNING current_database()', 's1'],
      ['TRUNCATE plain, apart.twice, apart.notes', '0A000'],
    ],
    'data.id': [
      ['SELECT * FROM data', '0A000'],
      ['SELECT current_database(), count(*) FROM apart.notes', 's1'],
      ['SELECT current_database(), count(*) FROM data WHERE id = 5', 's2'],
      ['INSERT INTO apart.notes VALUES (5, 2) RETURNING current_database()', 's1'],
      ['INSERT INTO data VALUES (5, 2) RETURNING current_database()', 's0'],
    ],
    'public.data.id': [
      ['SELECT * FROM public.data', '0A000'],
      ['SELECT current_database(), count(*) FROM data WHERE id = 5', 's2'],
      ['SELECT current_database(), count(*) FROM apart.notes', 's1'],
    ],
    'apart.notes.id': [
      ['SELECT current_database(), count(*) FROM data', 's1'],
      ['SELECT * FROM apart.notes', '0A000'],
      ['INSERT INTO apart.notes VALUES (5, 2) RETURNING current_database()', 's2'],
    ],
  };
  for (const [key, cases] of Object.entries(CASES)) {
    test(`for ${key}`, async () => {
      await using proxy = await start(key);
      await using client = await proxy.raw();
      for (const [way, run] of Object.entries(WAYS)) {
        for (const [sql, expected] of cases) {
          const { rows, error } = await run(client, sql);
          assert.equal(error?.code ?? rows[0]?.[0], expected, `${sql} ${way}: ${error?.message}`);
        }
      }
      await shards.each('TRUNCATE data, plain, twice, apart.notes, apart.twice');
    });
  }

  test('a view has rows on every shard that its tables have', async () => {
    for (const [key, sql] of [
      ['data.id', 'SELECT * FROM everything'],
      ['*.id', 'SELECT * FROM xs'],
    ]) {
      await using proxy = await start(key);
      await using client = await proxy.raw();
      assert.equal(answerOf(await client.query(sql)).error?.code, '0A000', sql);
    }
  });
});

suite('a table that is made or changed through pglynx', () => {
  let proxy: TestProxy;
  let client: RawClient;
  before(async () => {
    proxy = await start('*.id');
    client = await proxy.raw();
  });
  after(async () => {
    await client.close();
    await proxy.stop();
  });

  const everywhere = async (sql: string) => {
    for (const [shard] of KEYS.entries()) {
      await client.query(`SET SHARD TO ${shard}`);
      assert.equal(answerOf(await client.query(sql)).error, undefined, sql);
    }
    await client.query('SET SHARD TO DEFAULT');
  };
  const place = async (sql: string) => {
    const { rows, error } = answerOf(await client.query(sql));
    return error?.code ?? rows[0]?.[0];
  };

  test('is known soon: with the key and without it', async () => {
    await everywhere('CREATE TABLE made (z int, id bigint)');
    await everywhere('CREATE TABLE without (z int)');
    for (const [sql, expected] of [
      ['SELECT current_database(), count(*) FROM without', 's1'],
      ['INSERT INTO made VALUES (5, 2) RETURNING current_database()', 's0'],
    ]) {
      await eventually(sql, async () => {
        const found = await place(sql);
        // Until then it is refused; it is never anywhere else.
        assert.ok(found === expected || found === '0A000', `${sql}: ${found}`);
        return found === expected;
      });
    }
    assert.equal(await place('SELECT * FROM made'), '0A000');
  });

  test('is known with its new column', async () => {
    await everywhere('ALTER TABLE without ADD COLUMN id bigint');
    const sql = 'SELECT current_database(), count(*) FROM without';
    await eventually(sql, async () => (await place(sql)) === '0A000');
    assert.equal(await place(`${sql} WHERE id = 5`), 's2');
  });

  test('may be used in the transaction that makes it, by who names the shard', async () => {
    await client.query('SET SHARD TO 2');
    await client.query('BEGIN');
    for (const sql of [
      'CREATE TABLE brief (z int)',
      'INSERT INTO brief VALUES (2)',
      'SELECT * FROM brief',
      'DROP TABLE brief',
    ]) {
      assert.equal(answerOf(await client.query(sql)).error, undefined, sql);
    }
    assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['COMMIT']);
    await client.query('SET SHARD TO DEFAULT');
  });

  test('of another client is known, too, and a statement prepared before is judged anew', async () => {
    await using other = await proxy.raw();
    await everywhere('CREATE TABLE turning (z int)');
    other.send(parse('all', 'SELECT current_database(), count(*) FROM turning'), sync());
    await other.ready();
    const ask = async () => {
      other.send(bind('', 'all'), execute(), sync());
      const { rows, error } = answerOf(await other.ready());
      return error?.code ?? rows[0][0];
    };
    await eventually('turning is not sharded', async () => (await ask()) === 's1');
    await everywhere('ALTER TABLE turning RENAME TO turned');
    await everywhere('CREATE TABLE turning (id bigint)');
    await eventually('turning is sharded', async () => (await ask()) === '0A000');
    other.send(query('SELECT current_database(), count(*) FROM turning WHERE id = 5'));
    assert.deepEqual(answerOf(await other.ready()).rows, [['s2', '0']]);
  });
});
