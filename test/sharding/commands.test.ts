/** Routing commands as clients give them: in both protocols and both drivers, in and out of transactions, at any moment. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { DatabaseError } from 'pg';
import postgres from 'postgres';

import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';
import { answerOf, KEYS, Shards, WAYS } from './shards.ts';

const { bind, execute, parse, query, sync } = frontend;

const WHERE = 'SELECT current_database(), pg_is_in_recovery()';
const step = (sql: string) => [parse('', sql), bind('', ''), execute()];

let shards: Shards;
let proxy: TestProxy;
before(async () => {
  shards = await Shards.start({ cluster: { replicas: 1 } });
  proxy = await shards.proxy();
});
after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

/** Commands in an order in which each shows what those before it did: its tag, and its rows if it has any. */
const STORY: readonly (readonly [string, string, ...(readonly string[])])[] = [
  ['SHOW SHARD', 'SELECT 1', 'unset'],
  ['SET SHARD TO 1', 'SET SHARD'],
  ['SHOW SHARD', 'SELECT 1', '1'],
  [WHERE, 'SELECT 1', 's1', 't'],
  ["set  shard\n to '2' ;", 'SET SHARD'],
  ['/* why */ show shard -- so', 'SELECT 1', '2'],
  [WHERE, 'SELECT 1', 's2', 't'],
  ['SET SHARDING KEY TO 3', 'SET SHARDING KEY'],
  ['SHOW SHARD', 'SELECT 1', '1'],
  ["SET SHARDING KEY TO '-1'", 'SET SHARDING KEY'],
  ['SHOW SHARD', 'SELECT 1', '2'],
  [WHERE, 'SELECT 1', 's2', 't'],
  ['SHOW SERVER ROLE', 'SELECT 1', 'auto'],
  ["SET SERVER ROLE TO 'primary'", 'SET SERVER ROLE'],
  ['SHOW SERVER ROLE', 'SELECT 1', 'primary'],
  [WHERE, 'SELECT 1', 's2', 'f'],
  ['SET SERVER ROLE TO replica', 'SET SERVER ROLE'],
  ['SHOW SERVER ROLE', 'SELECT 1', 'replica'],
  [WHERE, 'SELECT 1', 's2', 't'],
  ['SET SERVER ROLE TO any', 'SET SERVER ROLE'],
  ['SHOW SERVER ROLE', 'SELECT 1', 'any'],
  ['SET SERVER ROLE TO auto', 'SET SERVER ROLE'],
  ['SHOW SERVER ROLE', 'SELECT 1', 'auto'],
  ['SET SERVER ROLE TO default', 'SET SERVER ROLE'],
  ['SHOW SERVER ROLE', 'SELECT 1', 'auto'],
  ['SHOW PRIMARY READS', 'SELECT 1', 'off'],
  ['SET PRIMARY READS TO ON', 'SET PRIMARY READS'],
  ['SHOW PRIMARY READS', 'SELECT 1', 'on'],
  ["SET PRIMARY READS TO 'off'", 'SET PRIMARY READS'],
  ['SHOW PRIMARY READS', 'SELECT 1', 'off'],
  ['SET PRIMARY READS TO default', 'SET PRIMARY READS'],
  ['SHOW PRIMARY READS', 'SELECT 1', 'off'],
  ['SET SHARD TO DEFAULT', 'SET SHARD'],
  ['SHOW SHARD', 'SELECT 1', 'unset'],
  [WHERE, 'SELECT 1', 's0', 't'],
];

suite('every command', () => {
  for (const [way, run] of Object.entries(WAYS)) {
    test(`${way}, by single messages`, async () => {
      await using client = await proxy.raw();
      for (const [sql, tag, ...row] of STORY) {
        const answer = await run(client, sql);
        const expected = { rows: row.length === 0 ? [] : [row], tags: [tag], error: undefined, status: 'I' };
        // A batch that stays open may go on to write, so its role is another.
        if (way.startsWith('with Flush') && sql === WHERE) assert.equal(answer.rows[0][0], row[0]);
        else assert.deepEqual(answer, expected, sql);
      }
    });
  }

  const configs: Readonly<Record<string, (text: string) => object>> = {
    'without parameters': text => ({ text }),
    'with an empty list of parameters': text => ({ text, values: [] }),
    'with a name': text => ({ text, name: text }),
    'with a name and an empty list of parameters': text => ({ text, name: text, values: [] }),
    'in binary': text => ({ text, values: [], binary: true }),
  };
  for (const [how, config] of Object.entries(configs)) {
    test(`by node-postgres ${how}, twice`, async () => {
      const client = await proxy.connect();
      for (const [sql, tag, ...row] of [...STORY, ...STORY]) {
        // A boolean is a byte in binary.
        if (how === 'in binary' && sql === WHERE) continue;
        const { rows, command } = await client.query<unknown[], unknown[]>({
          rowMode: 'array',
          ...config(sql),
          text: sql,
        });
        assert.deepEqual(
          rows,
          row.length === 0 ? [] : [row.map(value => ({ t: true, f: false })[value] ?? value)],
          sql,
        );
        assert.equal(command, tag.split(' ')[0], sql);
      }
      await client.end();
    });
  }

  for (const prepare of [true, false]) {
    test(`by postgres.js ${prepare ? 'prepared' : 'unprepared'}, twice`, async () => {
      const login = { user: 'alice', password: PASSWORDS.alice, database: DATABASE };
      const sql = postgres({ host: '127.0.0.1', port: proxy.port, ...login, max: 1, prepare });
      for (const [text, tag, ...row] of [...STORY, ...STORY]) {
        const result = await sql.unsafe(text, [], { prepare }).values();
        assert.deepEqual(
          [...result],
          row.length === 0 ? [] : [row.map(value => ({ t: true, f: false })[value] ?? value)],
          text,
        );
        assert.equal(result.command, tag.split(' ')[0] === 'SELECT' ? 'SELECT' : tag, text);
      }
      assert.deepEqual([...(await sql`SHOW SHARD`)], [{ shard: 'unset' }]);
      await sql.end();
    });
  }

  test('gives its columns the names that PgCat gives', async () => {
    const client = await proxy.connect();
    assert.deepEqual((await client.query('SHOW SHARD')).rows, [{ shard: 'unset' }]);
    assert.deepEqual((await client.query('SHOW SERVER ROLE')).rows, [{ 'server role': 'auto' }]);
    assert.deepEqual((await client.query('SHOW PRIMARY READS')).rows, [{ 'primary reads': 'off' }]);
    await client.end();
  });

  test('EXPLAIN ROUTE tells where a statement goes, in both protocols, and runs nothing', async () => {
    await using client = await proxy.raw();
    for (const [way, run] of Object.entries(WAYS)) {
      for (const [shard, [key]] of KEYS.entries()) {
        const { rows, tags, error } = await run(client, `EXPLAIN ROUTE INSERT INTO data VALUES (${key})`);
        assert.equal(error, undefined, way);
        assert.deepEqual(tags, ['EXPLAIN'], way);
        const told = new Map(rows.map(([name, value]) => [name, value]));
        assert.deepEqual(
          [told.get('shard'), told.get('role'), told.get('class')],
          [String(shard), 'primary', 'write'],
          way,
        );
      }
    }
    assert.deepEqual(await shards.keys(), [[], [], []]);
  });
});

suite('a command that cannot be carried out', () => {
  const WRONG: readonly (readonly [string, RegExp])[] = [
    ['SET SHARD TO 3', /shard 3 is not configured: the pool has 3, and the first is 0/],
    ['SET SHARD TO 99999999999999999999', /99999999999999999999|SET SHARD TO takes/],
    ['SET SHARD TO -1', /SET SHARD TO takes/],
    ['SET SHARD TO nowhere', /SET SHARD TO takes/],
    ['SET SHARD', /SET SHARD TO takes/],
    ['SET SHARD TO 1 2', /nothing may follow/],
    ['SET SHARD TO $1', /SET SHARD TO takes/],
    ['SET SHARD TO 1; SELECT 1', /nothing may follow/],
    ["SET SHARDING KEY TO 'five'", /"five" is no sharding key/],
    ['SET SHARDING KEY TO 99999999999999999999', /is no sharding key/],
    ['SET SERVER ROLE TO master', /SET SERVER ROLE TO takes/],
    ['SET PRIMARY READS TO maybe', /SET PRIMARY READS TO takes/],
    ['SHOW SHARD 1', /nothing may follow SHOW SHARD/],
  ];
  for (const [way, run] of Object.entries(WAYS)) {
    test(`says why ${way}, and changes nothing`, async () => {
      await using client = await proxy.raw();
      await client.query('SET SHARD TO 1');
      await client.query('SET SERVER ROLE TO primary');
      for (const [sql, says] of WRONG) {
        const { error, rows, tags, status } = await run(client, sql);
        assert.equal(error?.code, '22023', `${sql}: ${error?.message}`);
        assert.match(error.message, says, sql);
        assert.deepEqual([rows, tags, status], [[], [], 'I'], sql);
        assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['1']], sql);
        assert.deepEqual(answerOf(await client.query('SHOW SERVER ROLE')).rows, [['primary']], sql);
        assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 'f']], sql);
      }
      assert.match((await run(client, 'SET SHARD TO 3')).error?.message ?? '', /staying on shard 1/);
    });
  }

  test('rejects the promises of drivers', async () => {
    const client = await proxy.connect();
    for (const config of [
      { text: 'SET SHARD TO 7' },
      { text: 'SET SHARD TO 7', values: [] },
      { text: 'SET SHARD TO 7', name: 'seven' },
    ]) {
      await assert.rejects(client.query(config), error => error instanceof DatabaseError && error.code === '22023');
      assert.deepEqual((await client.query('SHOW SHARD')).rows, [{ shard: 'unset' }]);
    }
    await client.end();
  });
});

suite('in a transaction', () => {
  const SETS = [
    'SET SHARD TO 1',
    'SET SHARD TO ANY',
    'SET SHARDING KEY TO 5',
    'SET SERVER ROLE TO replica',
    'SET PRIMARY READS TO on',
  ];

  for (const [way, run] of Object.entries(WAYS)) {
    test(`a SET command fails it ${way}`, async () => {
      await using client = await proxy.raw();
      for (const sql of SETS) {
        await client.query('BEGIN');
        await client.query('INSERT INTO data VALUES (2)');
        const { error, tags, status } = await run(client, sql);
        assert.deepEqual([error?.code, tags, status], ['25001', [], 'E'], sql);
        for (const next of [sql, 'SHOW SHARD', 'EXPLAIN ROUTE SELECT 1', 'SELECT 1']) {
          const { error, rows, status } = await run(client, next);
          assert.deepEqual([error?.code, rows, status], ['25P02', [], 'E'], next);
        }
        assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['ROLLBACK'], sql);
        assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['unset']], sql);
        assert.deepEqual(answerOf(await client.query('SHOW SERVER ROLE')).rows, [['auto']], sql);
        assert.deepEqual(answerOf(await client.query('SHOW PRIMARY READS')).rows, [['off']], sql);
      }
      assert.deepEqual(await shards.keys(), [[], [], []]);
    });

    test(`the SHOW commands answer and leave it as it was ${way}`, async () => {
      await using client = await proxy.raw();
      await client.query('SET SHARD TO 2');
      await client.query('BEGIN');
      for (const [sql, value] of [
        ['SHOW SHARD', '2'],
        ['SHOW SERVER ROLE', 'auto'],
        ['SHOW PRIMARY READS', 'off'],
      ]) {
        const { rows, error, status } = await run(client, sql);
        assert.deepEqual([rows, error, status], [[[value]], undefined, 'T'], sql);
      }
      assert.equal((await run(client, 'EXPLAIN ROUTE SELECT 1')).status, 'T');
      assert.deepEqual((await run(client, 'INSERT INTO data VALUES (5) RETURNING id')).rows, [['5']]);
      assert.deepEqual(answerOf(await client.query('ROLLBACK')).tags, ['ROLLBACK']);
    });
  }

  test('what follows a SET command in its pipeline fails, too', async () => {
    await using client = await proxy.raw();
    client.send(
      query('BEGIN'),
      ...step('SET SHARD TO 1'),
      sync(),
      ...step('INSERT INTO data VALUES (2)'),
      sync(),
      query('COMMIT'),
      query('SHOW SHARD'),
    );
    const codes: (string | undefined)[] = [];
    for (let n = 0; n < 5; n++) {
      const { error, tags, rows } = answerOf(await client.ready());
      codes.push(error?.code ?? rows[0]?.[0] ?? tags[0]);
    }
    assert.deepEqual(codes, ['BEGIN', '25001', '25P02', 'ROLLBACK', 'unset']);
    assert.deepEqual(await shards.keys(), [[], [], []]);
  });

  test('a SET command that is wrong fails it with the reason', async () => {
    await using client = await proxy.raw();
    await client.query('BEGIN');
    const { error, status } = answerOf(await client.query('SET SHARD TO nowhere'));
    assert.deepEqual([error?.code, status], ['22023', 'E']);
    assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['ROLLBACK']);
  });
});

suite('a chosen shard', () => {
  test('ANY is one at random, and stays', async () => {
    const seen = new Set<string | null>();
    for (let n = 0; n < 40; n++) {
      await using client = await proxy.raw();
      await client.query('SET SHARD TO ANY');
      const [[shard]] = answerOf(await client.query('SHOW SHARD')).rows;
      seen.add(shard);
      for (let turn = 0; turn < 3; turn++) {
        assert.deepEqual(answerOf(await client.query(WHERE)).rows, [[`s${shard}`, 't']]);
      }
    }
    assert.deepEqual([...seen].sort(), ['0', '1', '2']);
  });

  test('is the choice of one client, and goes with it', async () => {
    await using narrow = await shards.proxy({ user: { pool_size: 1 } });
    await using one = await narrow.raw();
    await using other = await narrow.raw();
    await one.query('SET SHARD TO 2');
    assert.deepEqual(answerOf(await other.query('SHOW SHARD')).rows, [['unset']]);
    assert.deepEqual(answerOf(await other.query(WHERE)).rows, [['s0', 't']]);
    assert.deepEqual(answerOf(await one.query(WHERE)).rows, [['s2', 't']]);
    await one.close();
    await using next = await narrow.raw();
    assert.deepEqual(answerOf(await next.query(WHERE)).rows, [['s0', 't']]);
  });

  test("outlasts errors, transactions, RESET ALL and DISCARD ALL, which are the server's", async () => {
    await using client = await proxy.raw();
    await client.query('SET SHARD TO 1');
    for (const sql of [
      'SELECT 1/0',
      'BEGIN',
      'SELECT 1/0',
      'ROLLBACK',
      'RESET ALL',
      'DISCARD ALL',
      'SELECT * FROM nothing',
    ]) {
      await client.query(sql);
    }
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 't']]);
  });

  test('is not changed by what a statement, a comment or a key finds', async () => {
    await using client = await proxy.raw();
    await client.query('SELECT * FROM data WHERE id = 5');
    await client.query('/* pglynx: shard=2 */ SELECT 1');
    assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['unset']]);
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s0', 't']]);
    await client.query('SET SHARD TO 1');
    assert.deepEqual(answerOf(await client.query(`/* pglynx: shard=2 */ ${WHERE}`)).rows, [['s2', 't']]);
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 't']]);
  });

  test('of a pool with one shard is shard 0', async () => {
    await using single = await shards.proxy({ shards: ['s1'] });
    await using client = await single.raw();
    assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['unset']]);
    assert.deepEqual(answerOf(await client.query('SET SHARDING KEY TO 13')).tags, ['SET SHARDING KEY']);
    assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['0']]);
    assert.equal(answerOf(await client.query('SET SHARD TO 1')).error?.code, '22023');
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 't']]);
  });
});

suite('in session mode', () => {
  let session: TestProxy;
  before(async () => {
    session = await shards.proxy({ pool: { pool_mode: 'session' } });
  });
  after(() => session.stop());

  for (const [way, run] of Object.entries(WAYS)) {
    test(`commands choose in front of the first statement ${way}, and not behind it`, async () => {
      await using client = await session.raw();
      const ask = async (sql: string) => (await run(client, sql)).rows;
      assert.deepEqual((await run(client, 'SET SHARD TO 1')).tags, ['SET SHARD']);
      assert.deepEqual((await run(client, 'SET SHARD TO 2')).tags, ['SET SHARD']);
      assert.deepEqual((await run(client, 'SET SERVER ROLE TO replica')).tags, ['SET SERVER ROLE']);
      assert.deepEqual(await ask(WHERE), [['s2', 't']]);
      for (const sql of ['SET SHARD TO 0', 'SET SHARDING KEY TO 3', 'SET SERVER ROLE TO primary']) {
        const { error, status } = await run(client, sql);
        assert.deepEqual([error?.code, status], ['0A000', 'I'], sql);
        assert.match(error?.message ?? '', /keeps its connection/, sql);
        assert.deepEqual(await ask('SHOW SHARD'), [['2']], sql);
        assert.deepEqual(await ask('SHOW SERVER ROLE'), [['replica']], sql);
        assert.deepEqual(await ask(WHERE), [['s2', 't']], sql);
      }
      // What the connection is anyway may be chosen.
      for (const sql of [
        'SET SHARD TO 2',
        'SET SHARDING KEY TO 5',
        'SET SERVER ROLE TO replica',
        'SET SERVER ROLE TO any',
      ]) {
        assert.equal((await run(client, sql)).error, undefined, sql);
      }
      assert.deepEqual(await ask(WHERE), [['s2', 't']]);
    });
  }

  test('the choice ends with the client', async () => {
    await using one = await session.raw();
    await one.query('SET SHARD TO 1');
    assert.deepEqual(answerOf(await one.query(WHERE)).rows, [['s1', 'f']]);
    await one.close();
    await using next = await session.raw();
    assert.deepEqual(answerOf(await next.query('SHOW SHARD')).rows, [['unset']]);
    assert.deepEqual(answerOf(await next.query(WHERE)).rows, [['s0', 'f']]);
  });
});

test('commands work without a parser, in a pool whose clients name their shards themselves', async () => {
  await using plain = await shards.proxy({
    pool: { query_parser_enabled: false, query_parser_read_write_splitting: false, default_role: 'primary' },
  });
  await using client: RawClient = await plain.raw();
  for (const [shard, [key]] of KEYS.entries()) {
    for (const choice of [`SET SHARD TO ${shard}`, `SET SHARDING KEY TO ${key}`]) {
      await client.query('SET SHARD TO DEFAULT');
      await client.query(choice);
      assert.deepEqual(answerOf(await client.query(WHERE)).rows, [[`s${shard}`, 'f']], choice);
    }
  }
  await client.query('SET SERVER ROLE TO replica');
  assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s2', 't']]);
});
