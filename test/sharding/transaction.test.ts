/** A transaction has one shard: what belongs to another fails it, as any error does, and nothing of it is committed. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { type Answer, answerOf, KEYS, Shards, WAYS } from './shards.ts';

const { bind, execute, flush, parse, query, sync } = frontend;

const INSERT = (key: number) => `INSERT INTO data VALUES (${key}, 9)`;
const WHERE = (key: number) => `SELECT current_database(), count(*) FROM data WHERE id = ${key}`;
const step = (sql: string) => [parse('', sql), bind('', ''), execute()];

/** What a transaction on shard 0 must not be sent, and what it is told. */
const REFUSED: readonly (readonly [string, RegExp])[] = [
  [INSERT(3), /transaction is on shard 0 .*shard 1/],
  [WHERE(5), /transaction is on shard 0 .*shard 2/],
  ['INSERT INTO data VALUES (2, 1), (3, 1)', /several shards: 0, 1 \(/],
  ['SELECT * FROM data WHERE id IN (2, 3)', /several shards: 0, 1 \(/],
  ['SELECT * FROM data WHERE id = 2 OR x = 1', /every shard/],
  ['SELECT * FROM data', /every shard/],
  ['INSERT INTO data (x) VALUES (1)', /cannot be known/],
  ['UPDATE data SET id = 4 WHERE id = 2', /key/],
  ['COPY data FROM STDIN', /COPY/],
  ['TRUNCATE data', /every shard/],
  ['/* pglynx: shard=1 */ SELECT 1', /transaction is on shard 0 .*shard 1/],
  ['/* pglynx: key=5 */ SELECT 1', /transaction is on shard 0 .*shard 2/],
];

let shards: Shards;
let proxy: TestProxy;
before(async () => {
  shards = await Shards.start();
  proxy = await shards.proxy();
});
after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

const empty = async (about: string) => assert.deepEqual(await shards.keys(), [[], [], []], about);

/** The client is where it was outside the transaction. */
async function goesOn(client: RawClient, about: string): Promise<void> {
  for (const [shard, [key]] of KEYS.entries()) {
    assert.deepEqual(answerOf(await client.query(WHERE(key))).rows, [[`s${shard}`, '0']], about);
  }
}

function failed({ error, rows, tags, status }: Answer, code: string, about: string): void {
  assert.equal(error?.code, code, `${about}: ${error?.message}`);
  assert.equal(error.severity, 'ERROR', about);
  assert.deepEqual([rows, tags, status], [[], [], 'E'], about);
}

for (const [way, run] of Object.entries(WAYS)) {
  for (const end of ['ROLLBACK', 'COMMIT']) {
    test(`what belongs elsewhere fails the transaction ${way}; ${end} takes it back`, async () => {
      await using client = await proxy.raw();
      for (const [sql, says] of REFUSED) {
        assert.deepEqual((await run(client, 'BEGIN')).status, 'T', sql);
        assert.deepEqual((await run(client, INSERT(2))).tags, ['INSERT 0 1'], sql);
        const answer = await run(client, sql);
        failed(answer, '0A000', sql);
        assert.match(answer.error?.message ?? '', says, sql);
        failed(await run(client, 'SELECT 1'), '25P02', sql);
        failed(await run(client, INSERT(2)), '25P02', sql);
        const { tags, status } = await run(client, end);
        assert.deepEqual([tags, status], [['ROLLBACK'], 'I'], sql);
        await goesOn(client, sql);
      }
      await empty(way);
    });
  }
}

for (const [way, run] of Object.entries(WAYS)) {
  test(`its first statement may be the one that is refused ${way}`, async () => {
    await using client = await proxy.raw();
    // What names another shard than the first one's goes there, or is refused if BEGIN has gone already.
    for (const [sql, says] of REFUSED.filter(([, says]) => !says.source.startsWith('transaction'))) {
      assert.equal((await run(client, 'BEGIN')).status, 'T', sql);
      const answer = await run(client, sql);
      failed(answer, '0A000', sql);
      assert.match(answer.error?.message ?? '', says, sql);
      failed(await run(client, INSERT(2)), '25P02', sql);
      assert.deepEqual((await run(client, 'COMMIT')).tags, ['ROLLBACK'], sql);
      await goesOn(client, sql);
    }
    await empty(way);
  });
}

suite('a transaction', () => {
  test('that was not refused anything is committed on its shard', async () => {
    await using client = await proxy.raw();
    for (const [shard, keys] of KEYS.entries()) {
      await client.query(`/* pglynx: shard=${shard} */ BEGIN`);
      for (const key of keys) {
        assert.deepEqual(answerOf(await client.query(INSERT(key))).tags, ['INSERT 0 1']);
        assert.deepEqual(answerOf(await client.query(WHERE(key))).rows, [[`s${shard}`, '1']]);
      }
      // Statements without a key, and a comment that says what is so anyway.
      assert.deepEqual(answerOf(await client.query('SELECT current_database()')).rows, [[`s${shard}`]]);
      const same = `/* pglynx: shard=${shard} role=replica */ SELECT current_database()`;
      assert.deepEqual(answerOf(await client.query(same)).rows, [[`s${shard}`]]);
      assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['COMMIT']);
    }
    const expected = KEYS.map(keys => [...keys].sort((a, b) => a - b).map(String));
    assert.deepEqual(await shards.keys(), expected);
    await shards.each('TRUNCATE data');
  });

  test('has the shard of the key that stands in the same text as its BEGIN', async () => {
    await using client = await proxy.raw();
    assert.deepEqual(answerOf(await client.query(`BEGIN; ${INSERT(5)}`)).tags, ['BEGIN', 'INSERT 0 1']);
    assert.deepEqual(answerOf(await client.query(WHERE(9))).rows, [['s2', '0']]);
    failed(answerOf(await client.query(WHERE(2))), '0A000', 'another shard');
    assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['ROLLBACK']);
    client.send(...step('BEGIN'), ...step(INSERT(5)), sync());
    assert.deepEqual(answerOf(await client.ready()).tags, ['BEGIN', 'INSERT 0 1']);
    failed(answerOf(await client.query(WHERE(2))), '0A000', 'another shard');
    assert.deepEqual(answerOf(await client.query('ROLLBACK')).tags, ['ROLLBACK']);
    await empty('after both');
  });

  test('goes where the client chose to, and there is told why the rest is refused', async () => {
    await using client = await proxy.raw();
    for (const choice of ['SET SHARD TO 1', 'SET SHARDING KEY TO 3']) {
      await client.query(choice);
      await client.query('BEGIN');
      assert.deepEqual(answerOf(await client.query(INSERT(3))).tags, ['INSERT 0 1'], choice);
      // The client knows where it is: what pglynx cannot place runs there.
      assert.deepEqual(answerOf(await client.query('SELECT id FROM data')).rows, [['3']], choice);
      failed(answerOf(await client.query(INSERT(2))), '0A000', choice);
      await client.query('ROLLBACK');
      await client.query('SET SHARD TO DEFAULT');
    }
    await empty('after both');
  });

  test('with savepoints goes on after ROLLBACK TO', async () => {
    await using client = await proxy.raw();
    await client.query('BEGIN');
    await client.query(INSERT(2));
    await client.query('SAVEPOINT a');
    failed(answerOf(await client.query(INSERT(3))), '0A000', 'another shard');
    assert.equal(answerOf(await client.query('ROLLBACK TO a')).status, 'T');
    assert.deepEqual(answerOf(await client.query(INSERT(4))).tags, ['INSERT 0 1']);
    assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['COMMIT']);
    assert.deepEqual(await shards.keys(), [['2', '4'], [], []]);
    await shards.each('TRUNCATE data');
  });

  test('refuses parameters of another shard, of a statement prepared long ago', async () => {
    await using client = await proxy.raw();
    client.send(parse('later', 'INSERT INTO data VALUES ($1, 1)'), sync());
    await client.ready();
    await client.query('BEGIN');
    client.send(bind('', 'later', ['2']), execute(), sync());
    assert.deepEqual(answerOf(await client.ready()).tags, ['INSERT 0 1']);
    client.send(bind('', 'later', ['3']), execute(), sync());
    failed(answerOf(await client.ready()), '0A000', 'another shard');
    client.send(bind('', 'later', ['2']), execute(), sync());
    failed(answerOf(await client.ready()), '25P02', 'afterwards');
    await client.query('COMMIT');
    await empty('nothing was committed');
    client.send(bind('', 'later', ['3']), execute(), sync());
    assert.deepEqual(answerOf(await client.ready()).tags, ['INSERT 0 1'], 'the statement is there still');
    await shards.each('TRUNCATE data');
  });
});

suite('what a client sends behind a refused statement, without waiting', () => {
  test('as simple queries', async () => {
    await using client = await proxy.raw();
    client.send(...['BEGIN', INSERT(2), INSERT(3), INSERT(4), 'COMMIT', WHERE(5)].map(query));
    const answers: Answer[] = [];
    for (let n = 0; n < 6; n++) answers.push(answerOf(await client.ready()));
    assert.deepEqual(
      answers.map(({ tags, error }) => error?.code ?? tags[0]),
      ['BEGIN', 'INSERT 0 1', '0A000', '25P02', 'ROLLBACK', 'SELECT 1'],
    );
    await empty('nothing was committed');
  });

  test('as batches with Sync', async () => {
    await using client = await proxy.raw();
    client.send(
      ...['BEGIN', INSERT(2), INSERT(3), INSERT(4), 'COMMIT', WHERE(5)].flatMap(sql => [...step(sql), sync()]),
    );
    const answers: Answer[] = [];
    for (let n = 0; n < 6; n++) answers.push(answerOf(await client.ready()));
    assert.deepEqual(
      answers.map(({ tags, error }) => error?.code ?? tags[0]),
      ['BEGIN', 'INSERT 0 1', '0A000', '25P02', 'ROLLBACK', 'SELECT 1'],
    );
    await empty('nothing was committed');
  });

  test('in the same batch is skipped to its Sync', async () => {
    await using client = await proxy.raw();
    await client.query('BEGIN');
    client.send(
      ...step(INSERT(2)),
      flush(),
      ...step(INSERT(3)),
      flush(),
      ...step(INSERT(4)),
      flush(),
      sync(),
      query('COMMIT'),
    );
    const answer = answerOf(await client.ready());
    assert.deepEqual([answer.tags, answer.error?.code, answer.status], [['INSERT 0 1'], '0A000', 'E']);
    assert.deepEqual(answerOf(await client.ready()).tags, ['ROLLBACK']);
    await empty('nothing was committed');
    await goesOn(client, 'afterwards');
  });

  test('as COPY data is thrown away', async () => {
    await using client = await proxy.raw();
    const data = [frontend.copyData('2\t1\n'), frontend.copyData('4\t1\n'), frontend.copyDone()];
    client.send(query('BEGIN'), query('COPY data FROM STDIN'), ...data, query('COMMIT'));
    assert.equal(answerOf(await client.ready()).status, 'T');
    failed(answerOf(await client.ready()), '0A000', 'COPY');
    assert.deepEqual(answerOf(await client.ready()).tags, ['ROLLBACK']);
    client.send(query('COPY data FROM STDIN'), ...data, query(WHERE(2)));
    assert.equal(answerOf(await client.ready()).error?.code, '0A000');
    assert.deepEqual(answerOf(await client.ready()).rows, [['s0', '0']]);
    await client.query('SET SHARD TO 0');
    client.send(query('COPY data FROM STDIN'), ...data);
    assert.deepEqual(answerOf(await client.ready()).tags, ['COPY 2'], 'with a shard it works');
    assert.deepEqual(await shards.keys(), [['2', '4'], [], []]);
    await shards.each('TRUNCATE data');
  });
});

test('a client that is refused leaves nothing to the next one on its connection', async () => {
  await using narrow = await shards.proxy({ user: { pool_size: 1 } });
  for (let round = 0; round < 5; round++) {
    await using client = await narrow.raw();
    await client.query('BEGIN');
    await client.query(INSERT(2));
    failed(answerOf(await client.query(INSERT(3))), '0A000', 'another shard');
    if (round % 2 === 0) client.destroy();
    else await client.close();
    await using next = await narrow.raw();
    await goesOn(next, 'the next client');
    await next.close();
  }
  await empty('nothing was committed');
});

suite('in session mode', () => {
  let session: TestProxy;
  before(async () => {
    session = await shards.proxy({ pool: { pool_mode: 'session' } });
  });
  after(() => session.stop());

  for (const [way, run] of Object.entries(WAYS)) {
    test(`a client keeps the shard of its first statement; what comes later is refused elsewhere, ${way}`, async () => {
      await using client = await session.raw();
      assert.deepEqual(answerOf(await client.query(WHERE(5))).rows, [['s2', '0']]);
      assert.deepEqual((await run(client, WHERE(9))).rows, [['s2', '0']]);
      for (const sql of [WHERE(2), INSERT(3), 'SELECT * FROM data', '/* pglynx: shard=0 */ SELECT 1']) {
        const { error, rows, tags, status } = await run(client, sql);
        assert.deepEqual([error?.code, rows, tags, status], ['0A000', [], [], 'I'], sql);
        assert.deepEqual((await run(client, 'SELECT current_database()')).rows, [['s2']], sql);
      }
      await run(client, 'BEGIN');
      assert.deepEqual((await run(client, INSERT(5))).tags, ['INSERT 0 1']);
      failed(await run(client, INSERT(2)), '0A000', 'in a transaction');
      failed(await run(client, INSERT(5)), '25P02', 'in a failed transaction');
      assert.deepEqual((await run(client, 'COMMIT')).tags, ['ROLLBACK']);
      await empty('nothing was committed');
      assert.deepEqual((await run(client, WHERE(9))).rows, [['s2', '0']]);
    });
  }

  test('a client that prepares in front of its first statement is on the default shard, and is told so', async () => {
    await using client = await session.raw();
    const { error } = await WAYS['prepared in front'](client, WHERE(5));
    assert.equal(error?.code, '0A000');
    assert.match(error?.message ?? '', /is on shard 0/);
    await using other = await session.raw();
    await other.query('SET SHARDING KEY TO 5');
    assert.deepEqual((await WAYS['prepared in front'](other, WHERE(5))).rows, [['s2', '0']]);
  });

  test('the first statement must have one shard; one that was refused leaves the choice open', async () => {
    await using client = await session.raw();
    const refused = answerOf(await client.query('SELECT * FROM data'));
    assert.deepEqual([refused.error?.code, refused.status], ['0A000', 'I']);
    assert.deepEqual(answerOf(await client.query(WHERE(3))).rows, [['s1', '0']]);
  });

  test('pipelined statements of another shard are refused one by one', async () => {
    await using client = await session.raw();
    client.send(...[WHERE(3), WHERE(5), WHERE(7), INSERT(2), WHERE(10)].map(query));
    const answers: Answer[] = [];
    for (let n = 0; n < 5; n++) answers.push(answerOf(await client.ready()));
    assert.deepEqual(
      answers.map(({ rows, error }) => error?.code ?? rows[0]?.[0]),
      ['s1', '0A000', 's1', '0A000', 's1'],
    );
    await empty('nothing was written');
  });
});
