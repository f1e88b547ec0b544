/** Statements whose rows are not of one shard are refused, run nowhere, and leave the client as it was. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { answerOf, KEYS, Shards, WAYS } from './shards.ts';

const { bind, execute, flush, parse, query, sync } = frontend;

/** Statements and what they are told; `shards` that must be named. */
const REFUSED: readonly { sql: string; says: RegExp; shards?: string }[] = [
  { sql: 'INSERT INTO data VALUES (2, 1), (3, 1)', says: /several shards/, shards: '0, 1' },
  { sql: 'INSERT INTO data (x, id) VALUES (1, 5), (1, 3), (1, 2)', says: /several shards/, shards: '0, 1, 2' },
  { sql: 'SELECT * FROM data WHERE id IN (3, 5)', says: /several shards/, shards: '1, 2' },
  { sql: "SELECT * FROM data WHERE id = ANY ('{2,5}')", says: /several shards/, shards: '0, 2' },
  { sql: 'SELECT * FROM data WHERE id = 2 OR id = 3', says: /several shards/, shards: '0, 1' },
  { sql: 'DELETE FROM data WHERE id BETWEEN 1 AND 3', says: /several shards/, shards: '0, 1, 2' },
  { sql: 'UPDATE data SET x = 0 WHERE id IN (2, 3)', says: /several shards/, shards: '0, 1' },
  { sql: 'SELECT * FROM data a, data b WHERE a.id = 2 AND b.id = 3', says: /several shards/, shards: '0, 1' },
  { sql: 'SELECT * FROM data WHERE id = 2 OR x = 1', says: /every shard/ },
  { sql: 'SELECT * FROM data', says: /every shard/ },
  { sql: 'SELECT count(*) FROM data WHERE id > 2', says: /every shard/ },
  { sql: 'DELETE FROM data', says: /every shard/ },
  { sql: 'UPDATE data SET x = 1 WHERE x = 0', says: /every shard/ },
  { sql: 'TRUNCATE data', says: /every shard/ },
  { sql: 'LOCK TABLE data', says: /every shard/ },
  { sql: 'COPY data TO STDOUT', says: /every shard/ },
  { sql: 'COPY data FROM STDIN', says: /COPY/ },
  { sql: 'INSERT INTO data (x) VALUES (1)', says: /cannot be known/ },
  { sql: 'INSERT INTO data SELECT x, x FROM data WHERE id = 2', says: /cannot be known/ },
  { sql: 'INSERT INTO data VALUES (2 + 1, 1)', says: /cannot be known/ },
  { sql: 'UPDATE data SET id = 4 WHERE id = 2', says: /key/ },
  { sql: 'INSERT INTO data VALUES (2, 1) ON CONFLICT (id) DO UPDATE SET id = 4', says: /key/ },
  { sql: 'MERGE INTO data USING (VALUES (2)) v(k) ON x = k WHEN MATCHED THEN DELETE', says: /every shard/ },
  {
    sql: 'WITH w AS (INSERT INTO data VALUES (2, 1)) SELECT * FROM data WHERE id = 3',
    says: /several shards/,
    shards: '0, 1',
  },
];

let shards: Shards;
let proxy: TestProxy;
let before_: string[][];
before(async () => {
  shards = await Shards.start({
    schema:
      'CREATE TABLE data (id bigint PRIMARY KEY, x int, note text); CREATE TABLE plain (y int); INSERT INTO data VALUES (100, 0)',
  });
  proxy = await shards.proxy({ pool: { default_shard: 'shard_1' } });
  before_ = await state();
});
after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

/** Everything that statements of this file could change, by shard. */
const state = () => shards.each('SELECT data::text FROM data UNION ALL SELECT plain::text FROM plain ORDER BY 1');

async function unchanged(about: string): Promise<void> {
  assert.deepEqual(await state(), before_, about);
}

/** The client is where it was: statements with a key and without one run where they belong. */
async function goesOn(client: RawClient): Promise<void> {
  for (const [shard, [key]] of KEYS.entries()) {
    const sql = `SELECT current_database(), count(*) FROM data WHERE id = ${key}`;
    assert.deepEqual(answerOf(await client.query(sql)).rows, [[`s${shard}`, '0']]);
  }
  assert.deepEqual(answerOf(await client.query('SELECT current_database()')).rows, [['s1']]);
}

function isRefused({ error, rows, tags, status }: ReturnType<typeof answerOf>, about: string, says: RegExp): void {
  assert.equal(error?.code, '0A000', `${about}: ${error?.message}`);
  assert.equal(error.severity, 'ERROR', about);
  assert.match(error.message, says, about);
  assert.ok((error.hint ?? '') !== '', about);
  assert.deepEqual([rows, tags, status], [[], [], 'I'], about);
}

for (const [way, run] of Object.entries(WAYS)) {
  test(`what has not one shard is refused ${way}`, async () => {
    await using client = await proxy.raw();
    for (const { sql, says, shards } of REFUSED) {
      const answer = await run(client, sql);
      isRefused(answer, sql, says);
      if (shards !== undefined) assert.match(answer.error?.message ?? '', new RegExp(`: ${shards} \\(`), sql);
      await goesOn(client);
    }
    await unchanged(way);
  });
}

suite('parameters', () => {
  const cases: readonly [string, (string | Buffer | null)[], RegExp][] = [
    ['INSERT INTO data VALUES ($1, 1), ($2, 1)', ['2', '3'], /several shards: 0, 1 \(/],
    ['SELECT * FROM data WHERE id IN ($1, $2)', ['3', '5'], /several shards: 1, 2 \(/],
    ['SELECT * FROM data WHERE id = ANY ($1)', ['{2,3}'], /several shards: 0, 1 \(/],
    ['SELECT * FROM data WHERE id = $1 OR id = $2', ['2', '3'], /several shards: 0, 1 \(/],
    ['SELECT * FROM data WHERE id > $1', ['2'], /every shard/],
    ['INSERT INTO data (x) VALUES ($1)', ['2'], /cannot be known/],
    ['UPDATE data SET id = $1 WHERE id = $2', ['2', '4'], /key/],
  ];
  test('are seen at each Bind, also of a statement that was prepared long ago', async () => {
    await using client = await proxy.raw();
    for (const [sql, values, says] of cases) {
      client.send(parse('later', sql), sync());
      assert.equal(answerOf(await client.ready()).error, undefined, sql);
      await goesOn(client);
      client.send(bind('', 'later', values), execute(), sync());
      isRefused(answerOf(await client.ready()), sql, says);
      await goesOn(client);
      client.send(frontend.close('S', 'later'), sync());
      await client.ready();
    }
    await unchanged('after all');
  });

  test('of the same statement may be of one shard at one time and of several at another', async () => {
    await using client = await proxy.raw();
    client.send(parse('in', 'SELECT current_database(), count(*) FROM data WHERE id IN ($1, $2)'), sync());
    await client.ready();
    const ask = async (...values: string[]) => {
      client.send(bind('', 'in', values), execute(), sync());
      return answerOf(await client.ready());
    };
    assert.deepEqual((await ask('2', '4')).rows, [['s0', '0']]);
    isRefused(await ask('2', '3'), 'two shards', /several shards: 0, 1 \(/);
    assert.deepEqual((await ask('3', '7')).rows, [['s1', '0']]);
  });

  test('that no statement has, or too few of them, are an error and nothing worse', async () => {
    await using client = await proxy.raw();
    client.send(parse('few', 'SELECT current_database() FROM data WHERE id = $1'), sync());
    await client.ready();
    client.send(bind('', 'few', []), execute(), sync());
    const { error, status } = answerOf(await client.ready());
    assert.ok(error?.code === '08P01' || error?.code === '0A000', error?.message);
    assert.equal(status, 'I');
    await goesOn(client);
  });
});

suite('several statements in one', () => {
  const INSERT = (key: number) => `INSERT INTO data VALUES (${key}, 9)`;
  const step = (sql: string) => [parse('', sql), bind('', ''), execute()];

  test('a text of two statements has one shard or none', async () => {
    await using client = await proxy.raw();
    isRefused(answerOf(await client.query(`${INSERT(2)}; ${INSERT(3)}`)), 'a text', /several shards: 0, 1 \(/);
    await unchanged('a text');
    await goesOn(client);
  });

  test('a batch of two statements has one shard or none', async () => {
    await using client = await proxy.raw();
    client.send(...step(INSERT(2)), ...step(INSERT(3)), sync());
    const { error, rows, status } = answerOf(await client.ready());
    assert.match(error?.message ?? '', /several shards: 0, 1 \(/);
    assert.deepEqual([error?.code, rows, status], ['0A000', [], 'I']);
    await unchanged('a batch');
    await goesOn(client);
  });

  test('what ran in front of it, and has had no Sync yet, is rolled back', async () => {
    await using client = await proxy.raw();
    client.send(...step(INSERT(2)), flush());
    assert.deepEqual(answerOf(await client.until('C')).tags, ['INSERT 0 1']);
    client.send(...step(INSERT(3)), flush());
    const { error } = answerOf(await client.until('E'));
    assert.equal(error?.code, '0A000');
    assert.match(error.message, /shard 0 .* shard 1/);
    client.send(...step(INSERT(2)), sync());
    assert.deepEqual(answerOf(await client.ready()), { rows: [], tags: [], error: undefined, status: 'I' });
    await unchanged('with Flush');
    await goesOn(client);
  });

  test('in a batch that is longer than what is held, all is rolled back', async () => {
    await using client = await proxy.raw();
    const long = `SELECT length('${'x'.repeat(20_000)}') FROM data WHERE id = 2`;
    client.send(...step(INSERT(2)), ...Array.from({ length: 10 }, () => step(long)).flat(), ...step(INSERT(3)), sync());
    const { error, status } = answerOf(await client.ready());
    assert.equal(error?.code, '0A000');
    assert.equal(status, 'I');
    await unchanged('a long batch');
    await goesOn(client);
  });

  test('a batch behind it runs by itself', async () => {
    await using client = await proxy.raw();
    client.send(
      ...step('INSERT INTO data VALUES (2, 1), (3, 1)'),
      sync(),
      ...step('SELECT current_database(), count(*) FROM data WHERE id = 5'),
      sync(),
      query('SELECT * FROM data'),
      query('SELECT current_database(), count(*) FROM data WHERE id = 2'),
    );
    assert.equal(answerOf(await client.ready()).error?.code, '0A000');
    assert.deepEqual(answerOf(await client.ready()).rows, [['s2', '0']]);
    assert.equal(answerOf(await client.ready()).error?.code, '0A000');
    assert.deepEqual(answerOf(await client.ready()).rows, [['s0', '0']]);
    await unchanged('pipelined');
  });

  test('a client that has sent more behind a BEGIN that was refused is ended: the rest must not run by itself', async () => {
    await using client = await proxy.raw();
    client.send(query(`BEGIN; ${INSERT(2)}; ${INSERT(3)}`), query(INSERT(2)), query('COMMIT'));
    const { error, tags } = answerOf(await client.untilClosed());
    assert.equal(error?.code, '0A000');
    assert.deepEqual(tags, []);
    await unchanged('behind a BEGIN');
  });
});

suite('a long message', () => {
  const BIG = 300_000;
  const rolledBack = async (client: RawClient, ...messages: Buffer[]) => {
    client.send(query(`/* pglynx: shard=0 */ BEGIN`), ...messages, query('ROLLBACK'));
    assert.deepEqual(answerOf(await client.ready()).tags, ['BEGIN']);
    const answer = answerOf(await client.ready());
    await client.ready();
    return answer;
  };

  test('of a query is not read, so it is refused, or goes to the shard that the client chose', async () => {
    await using client = await proxy.raw();
    const sql = `INSERT INTO data VALUES (2, 1, '${'x'.repeat(BIG)}') RETURNING current_database()`;
    const { error } = await rolledBack(client, query(sql));
    console.log(error);
    assert.equal(error?.code, '0A000');
    await unchanged('a long query');
    await goesOn(client);
    await client.query('SET SHARD TO 0');
    assert.deepEqual((await rolledBack(client, query(sql))).rows, [['s0']]);
    await unchanged('a long query on a shard');
  });

  test('of a query of 20 KB finds its shard; over query_parser_max_length it is refused', async () => {
    await using client = await proxy.raw();
    const sql = `INSERT INTO data VALUES (2, 1, '${'x'.repeat(20_000)}') RETURNING current_database()`;
    assert.deepEqual((await rolledBack(client, query(sql))).rows, [['s0']]);
    await unchanged('a query of 20 KB');
    await using short = await shards.proxy({ pool: { query_parser_max_length: 10_000 } });
    await using other = await short.raw();
    isRefused(answerOf(await other.query(sql)), 'too long', /longer than query_parser_max_length/);
    other.send(parse('', sql), bind('', ''), execute(), sync());
    isRefused(answerOf(await other.ready()), 'too long', /longer than query_parser_max_length/);
    await unchanged('a query that is too long');
  });

  /** Runs an INSERT whose long value stands in front of the key or behind it. */
  const insert = (client: RawClient, columns: string, ...values: string[]) => {
    const sql = `INSERT INTO data (${columns}) VALUES ($1, $2) RETURNING current_database()`;
    return rolledBack(client, parse('', sql), bind('', '', values), execute(), sync());
  };

  test('of a Bind finds its shard where the key is in its first part', async () => {
    await using client = await proxy.raw();
    assert.deepEqual((await insert(client, 'id, note', '2', 'x'.repeat(BIG))).rows, [['s0']]);
    await unchanged('a long Bind');
  });

  test('of a Bind whose key comes later is refused, or goes to the shard that the client chose', async () => {
    await using client = await proxy.raw();
    assert.equal((await insert(client, 'note, id', 'x'.repeat(BIG), '2')).error?.code, '0A000');
    await unchanged('a long Bind');
    await goesOn(client);
    await client.query('SET SHARD TO 0');
    assert.deepEqual((await insert(client, 'note, id', 'x'.repeat(BIG), '2')).rows, [['s0']]);
    await unchanged('a long Bind on a shard');
  });
});

suite('with a shard that the client chose', () => {
  const named: readonly [string, (sql: string) => string[]][] = [
    ['SET SHARD', sql => ['SET SHARD TO 2', sql, 'SET SHARD TO DEFAULT']],
    ['SET SHARDING KEY', sql => ['SET SHARDING KEY TO 5', sql, 'SET SHARD TO DEFAULT']],
    ['a comment', sql => [`/* pglynx: shard=2 */ ${sql}`]],
  ];
  for (const [name, texts] of named) {
    test(`${name}: what cannot be placed runs there, a row of another shard is refused`, async () => {
      await using client = await proxy.raw();
      const ask = async (sql: string) => {
        const [before, ...rest] = texts(sql);
        if (rest.length === 0) return answerOf(await client.query(before));
        await client.query(before);
        const [answer] = await Promise.all([client.query(rest[0])]);
        await client.query(rest[1]);
        return answerOf(answer);
      };
      assert.deepEqual((await ask('SELECT current_database(), count(*) FROM data')).rows, [['s2', '1']]);
      assert.deepEqual((await ask('SELECT current_database(), count(*) FROM data WHERE id = 2')).rows, [['s2', '0']]);
      assert.deepEqual((await ask('SELECT current_database() FROM plain RIGHT JOIN data ON y = x')).rows, [['s2']]);
      assert.deepEqual((await ask('UPDATE data SET x = x WHERE x = 0')).tags, ['UPDATE 1']);
      assert.deepEqual((await ask('INSERT INTO data VALUES (5, 9)')).tags, ['INSERT 0 1']);
      assert.deepEqual((await ask('DELETE FROM data WHERE x = 9')).tags, ['DELETE 1']);
      isRefused(await ask('INSERT INTO data VALUES (2, 9)'), name, /belongs to shard 0, but shard 2 was chosen/);
      isRefused(await ask('INSERT INTO data VALUES (5, 9), (2, 9)'), name, /several shards: 0, 2 \(/);
      isRefused(await ask('DELETE FROM data WHERE id = 2'), name, /belongs to shard 0/);
      await unchanged(name);
      await goesOn(client);
    });
  }
});
