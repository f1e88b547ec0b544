/** The shards of statements: a corpus with what must be said of each, and what is told to people. */
import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import type { ParseResult } from '@pgsql/types';
import fc from 'fast-check';
import { answerShards, planKeys, type ShardAnswer } from '../../src/sql/keys.ts';
import { Answers } from './answers.ts';
import { CORPUS, TABLES, VALUES } from './shardkeys.ts';

let answers: Answers;
/** The shard of the key 5, as an answer. */
let five: ShardAnswer['kind'] | number | undefined;
before(async () => {
  answers = await Answers.create({ key: 'data.id', tables: TABLES });
  five = answers.sharder.shardOfText('5');
});

/** The shard if it is one, else the kind of the answer. */
const short = (answer: ShardAnswer): ShardAnswer['kind'] | number =>
  answer.kind === 'one' ? answer.shard : answer.kind;

suite('the corpus', () => {
  for (const { key, kind, statements } of CORPUS) {
    test(`${key}: ${statements.length} statements are answered ${kind}`, () => {
      const own = answers.with({ key, tables: TABLES });
      const wrong = statements.flatMap(sql => {
        const answer = own.answer(sql, VALUES);
        const right = answer.kind === kind && (answer.kind !== 'one' || answer.shard === five);
        return right ? [] : [`${sql}\n    ${JSON.stringify(answer)}`];
      });
      assert.equal(wrong.length, 0, wrong.join('\n'));
    });
  }

  test('is answered from texts as from their templates', () => {
    for (const { key, statements } of CORPUS) {
      const own = answers.with({ key, tables: TABLES });
      for (const sql of statements) {
        assert.deepEqual(short(own.answer(sql, VALUES, true)), short(own.answer(sql, VALUES)), sql);
      }
    }
  });

  test('needs no other shard when other pools have keys of other names', () => {
    for (const { key, statements } of CORPUS) {
      const own = answers.with({ key, tables: TABLES, others: ['x', 'data_id', 'note'] });
      const alone = answers.with({ key, tables: TABLES });
      for (const sql of statements) {
        assert.deepEqual(short(own.answer(sql, VALUES)), short(alone.answer(sql, VALUES)), sql);
      }
    }
  });

  test('is never more sure of a shard when tables are not known', () => {
    for (const { key, statements } of CORPUS.filter(({ key }) => key === 'data.id')) {
      const blind = answers.with({ key });
      for (const sql of statements) {
        const known = answers.with({ key, tables: TABLES }).answer(sql, VALUES);
        const answer = blind.answer(sql, VALUES);
        if (answer.kind === 'one' || answer.kind === 'none') assert.deepEqual(short(answer), short(known), sql);
      }
    }
  });
});

suite('values', () => {
  const whole = fc.integer({ min: -20, max: 20 });
  const spelled = (n: number) =>
    fc.oneof(
      fc.constantFrom(`${n}`, `(${n})`, ` ${n} `, `/* 7 */ ${n}`, `${n}::int`, `${n}::bigint`, `CAST(${n} AS int8)`),
      fc.constantFrom(...(n < 0 ? [`- ${-n}`, `-(${-n})`, `(-  ( ${-n}))`, `- - - ${-n}`] : [`- -${n}`, `-(-(${n}))`])),
      fc.constantFrom(
        `'${n}'`,
        `'${n}'::int8`,
        `E'${n}'`,
        `U&'${n}'`,
        `$$${n}$$`,
        `$a$${n}$a$`,
        `int8 '${n}'`,
        `' '\n'${n}'`,
      ),
    );

  test('give the same shard however they are spelled, in any company', () => {
    const statement = fc.oneof(
      fc.constant(
        (value: string, other: string) => `SELECT ${other}, * FROM data WHERE x = ${other} AND id = ${value}`,
      ),
      fc.constant((value: string, other: string) => `DELETE FROM data WHERE ${value} = id AND x IN (${other}, 3)`),
      fc.constant((value: string, other: string) => `INSERT INTO data (x, id, name) VALUES (${other}, ${value}, 'n')`),
      fc.constant(
        (value: string, other: string) => `INSERT INTO data (x, id) VALUES (${other}, ${value}), (8, ${value})`,
      ),
      fc.constant((value: string, other: string) => `SELECT -3, ${other} FROM data WHERE id IN (${value}, ${value})`),
    );
    const cases = whole.chain(n => fc.tuple(fc.constant(n), spelled(n), whole.chain(spelled), statement));
    fc.assert(
      fc.property(cases, ([n, value, other, text]) => {
        const sql = text(value, other);
        const shard = answers.sharder.shardOfText(String(n));
        assert.equal(short(answers.answer(sql)), shard, sql);
        assert.equal(short(answers.answer(sql, [], true)), shard, `${sql}, verbatim`);
        const bound = answers.answer(text('$1', '$2'), [String(n), '1']);
        assert.equal(short(bound), shard, `${sql}, as a parameter`);
      }),
      { numRuns: 2000 },
    );
  });

  test('are found each, in lists of any length', () => {
    const lists = fc.array(whole, { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(lists, list => {
        const shards = [...new Set(list.map(n => answers.sharder.shardOfText(String(n))))].sort();
        for (const sql of [
          `SELECT * FROM data WHERE id IN (${list.join(', ')})`,
          `INSERT INTO data (x, id, name) VALUES ${list.map(n => `(1, ${n}, 'n')`).join(', ')}`,
          `INSERT INTO data VALUES ${list.map(n => `(${n}, 2)`).join(', ')}`,
          `SELECT * FROM data WHERE ${list.map(n => `id = ${n}`).join(' OR ')}`,
          `SELECT * FROM data JOIN (VALUES ${list.map(n => `(${n}, 1)`).join(', ')}) v(a, b) ON a = id`,
        ]) {
          const answer = answers.answer(sql);
          const found = answer.kind === 'one' ? [answer.shard] : answer.kind === 'several' ? answer.shards : [];
          assert.deepEqual(found, shards, sql);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('of parameters that are NULL match nothing, and are stored where PostgreSQL puts them', () => {
    assert.equal(short(answers.answer('SELECT * FROM data WHERE id = $1', [null])), 'none');
    assert.equal(short(answers.answer('INSERT INTO data (id) VALUES ($1)', [null])), 0);
    assert.equal(short(answers.answer('INSERT INTO data (id) SELECT $1::int', [null])), 'refused');
    assert.equal(short(answers.answer('SELECT * FROM data WHERE id IS NULL')), 0);
  });

  test('that are rounded when they are stored tell of no shard', () => {
    const exact = answers.with({ key: 'data.id', exact: true, tables: TABLES });
    for (const value of ['4.6', '5, 4.6', "'5', 4.6"]) {
      const sql = `INSERT INTO data (id) SELECT x FROM plain WHERE x IN (${value})`;
      assert.equal(short(exact.answer(sql)), 'refused', sql);
    }
  });

  test('of text are not those that a cast makes shorter', () => {
    const text = answers.with({ key: 'data.name', fn: 'pg_text_hash' });
    const shardOf = (value: string) => short(text.answer(`SELECT * FROM data WHERE name = ${value}`));
    assert.equal(shardOf("'ab'::varchar"), text.sharder.shardOfText('ab'));
    for (const value of [
      "'ab'::varchar(1)",
      "'ab'::char(1)",
      "'ab'::bpchar",
      "N'ab'",
      "'ab'::citext",
      "'ab'::own.text",
    ]) {
      assert.equal(shardOf(value), 'every', value);
    }
    const united = (other: string) => `SELECT * FROM (SELECT name FROM data UNION SELECT ${other}) d(k) WHERE k = 'ab'`;
    assert.equal(short(text.answer(united("'ab'"))), text.sharder.shardOfText('ab'));
    assert.equal(short(text.answer(united("'ab'::citext"))), 'every');
    assert.equal(short(text.answer("SELECT * FROM data WHERE name = 'ab' COLLATE ci")), 'every');
    assert.equal(short(text.answer("SELECT * FROM data WHERE name IN ('ab', 'ab'::citext)")), 'every');
  });

  test('that were not bound are of every shard', () => {
    assert.equal(short(answers.answer('SELECT * FROM data WHERE id = $1')), 'every');
    assert.equal(short(answers.answer('INSERT INTO data (id) VALUES ($1)')), 'refused');
  });
});

suite('names', () => {
  const cases: readonly (readonly [key: string, sql: string, one: boolean | 'none'])[] = [
    ['shop.data.id', 'SELECT * FROM data WHERE id = 5', true],
    ['shop.data.id', 'SELECT * FROM shop.data WHERE shop.data.id = 5', true],
    ['shop.data.id', 'SELECT * FROM "SHOP".data', false],
    ['shop.data.id', 'SELECT * FROM other.data', 'none'],
    ['shop.data.id', 'SELECT * FROM shop.data JOIN other.data ON true WHERE shop.data.id = 5', true],
    ['shop.data.id', 'SELECT * FROM shop.data JOIN other.data ON true WHERE other.data.id = 5', false],
    ['Data.ID', 'SELECT * FROM data WHERE id = 5', true],
    ['data.id', 'SELECT * FROM "DATA" WHERE "ID" = 5', true],
    ['twins.id', 'SELECT * FROM twins WHERE id = 5', true],
    ['twins.id', 'SELECT * FROM twins WHERE "ID" = 5', false],
    ['twins.id', 'UPDATE twins SET "ID" = 5 WHERE id = 5', true],
    ['twins.id', 'INSERT INTO twins VALUES (1, 5)', true],
    ['data.id', 'SELECT * FROM data a, data a WHERE a.id = 5', false],
    ['data.id', 'SELECT (SELECT 1 FROM data b WHERE a.id = 5) FROM data a WHERE b.id = 5', false],
    ['data.id', 'SELECT * FROM data a WHERE EXISTS (SELECT 1 FROM plain WHERE a.id = 5)', false],
    ['data.id', 'SELECT * FROM data b, (SELECT * FROM data a WHERE a.id = b.id) c WHERE b.id = 5', false],
  ];
  for (const [key, sql, one] of cases) {
    test(`${key} in ${sql}`, () => {
      const own = answers.with({ key, tables: { ...TABLES, twins: ['ID', 'id'] } });
      assert.equal(short(own.answer(sql)), one === true ? five : one === 'none' ? 'none' : 'every');
    });
  }

  test('of a NATURAL join may be merged, whatever is known of its tables', () => {
    const sql = `SELECT * FROM (SELECT id FROM orders NATURAL LEFT JOIN (SELECT id FROM data WHERE id = 5) d) q
      JOIN data b ON b.id = q.id`;
    assert.equal(short(answers.answer(sql)), 'every');
    assert.equal(short(answers.with({ key: 'data.id' }).answer(sql)), 'every');
  });

  test('of views lead to the sharded tables that they read, and to no key', () => {
    const views = { v: [{ schema: 'public', name: 'data' }], 'public.w': [{ schema: 'public', name: 'plain' }] };
    const tables = { ...TABLES, 'public.data': TABLES.data, 'public.plain': TABLES.plain, v: ['id', 'x'] };
    for (const key of ['data.id', '*.id']) {
      const own = answers.with({ key, tables, views });
      assert.equal(short(own.answer('SELECT * FROM v WHERE id = 5')), 'every');
      assert.equal(short(own.answer('INSERT INTO v (id, x) VALUES (5, 1)')), 'refused');
      assert.equal(short(own.answer('SELECT * FROM v JOIN data USING (id) WHERE v.id = 5')), 'every');
      assert.equal(short(own.answer('SELECT * FROM public.w WHERE x = 5')), 'none');
    }
    const how =
      'the sharding key id is not looked for behind the view v: choose a shard with SET SHARD TO or SET SHARDING KEY TO first';
    assert.deepEqual(answers.with({ key: 'data.id', views }).answer('SELECT * FROM v'), { kind: 'every', how });
  });

  test('of columns of tables that are not sharded tell of keys only where types do not matter', () => {
    const sql = 'SELECT * FROM data JOIN orders ON data.id = orders.data_id WHERE orders.data_id = 5';
    assert.equal(short(answers.answer(sql)), 'every');
    assert.equal(short(answers.with({ key: 'data.id', exact: true }).answer(sql)), five);
  });

  test('of columns are needed where INSERT has none', () => {
    const answer = answers.with({ key: 'data.id' }).answer('INSERT INTO data VALUES (5, 1)');
    assert.deepEqual(answer, {
      kind: 'refused',
      how: 'the columns of table data are not known: name them in INSERT INTO, the sharding key id among them',
    });
  });
});

test('a table in a place that is not known is read whole', () => {
  const tree: ParseResult = JSON.parse(`{"stmts": [{"stmt": {"SelectStmt": {
    "fromClause": [{"RangeVar": {"relname": "plain"}}],
    "targetList": [{"ResTarget": {"val": {"Novelty": {"relation": {"relname": "data"}}}}}]}}}]}`);
  const plan = planKeys(tree, new Set(['id']), () => undefined);
  assert.ok(plan !== undefined);
  assert.equal(answerShards(plan, answers.context([], [])).kind, 'every');
});

suite('words', () => {
  const cases: Readonly<Record<string, string>> = {
    'SELECT * FROM data WHERE id = 5': 'data.id = 5',
    'SELECT * FROM public.data d WHERE d.id = -5': 'public.data.id = -5',
    'SELECT * FROM data WHERE id IN (1, 2, 3, 4)': 'data.id IN (1, 2, 3, ...)',
    "SELECT * FROM data WHERE id = ANY ('{5,5}')": "data.id = ANY ('{5,5}')",
    'SELECT * FROM data WHERE id BETWEEN 5 AND 5': 'data.id BETWEEN 5 AND 5',
    'SELECT * FROM data WHERE id IS NULL': 'data.id IS NULL',
    'SELECT * FROM data WHERE id = $1': 'data.id = $1',
    'SELECT * FROM (SELECT * FROM data) d WHERE id = 5': 'data.id = 5',
    'SELECT * FROM data a JOIN data b USING (id) WHERE b.id = 5': 'data.id = 5',
    'SELECT * FROM data a, data b WHERE a.id = 5 AND b.id = 6': 'data.id = 5, data.id = 6',
    'INSERT INTO data VALUES (5, 1), (6, 1)': 'data.id IN (5, 6)',
    [`SELECT * FROM data WHERE id IN ('${'5'.padStart(1000)}')`]: `data.id = '${' '.repeat(39)}...`,
    'SELECT * FROM data WHERE x = 5': 'no value for the sharding key id of table data',
    'SELECT * FROM public.data d': 'no value for the sharding key id of table public.data (d)',
    'SELECT * FROM data WHERE id = 5::float8': 'no certain value for the sharding key id of table data',
    'UPDATE data SET id = 5': 'the sharding key id of table data is assigned to, and no row can move to another shard',
    'INSERT INTO data (id) VALUES (DEFAULT)': 'no value for the sharding key id of table data',
    'COPY data FROM STDIN':
      'COPY into table data does not look at the sharding key id of its rows: choose a shard with SET SHARD TO or SET SHARDING KEY TO first',
    'TRUNCATE data':
      'TRUNCATE of table data needs every shard: choose a shard with SET SHARD TO or SET SHARDING KEY TO first',
  };
  for (const [sql, words] of Object.entries(cases)) {
    test(`${sql.slice(0, 60)}: ${words.slice(0, 60)}`, () => {
      const answer = answers.answer(sql, VALUES);
      assert.equal('how' in answer ? answer.how : '', words);
    });
  }
});

suite('hostile texts', () => {
  const repeated = (count: number, start: string, part: (n: number) => string, end: string) =>
    start + Array.from({ length: count }, (_, n) => part(n)).join('') + end;
  const texts: Readonly<Record<string, string>> = {
    'nested sub-selects': `${'SELECT * FROM ('.repeat(400)}SELECT * FROM data WHERE id = 5${') a'.repeat(400)}`,
    'nested IN': `SELECT 1 WHERE 1 IN ${'(SELECT id FROM data WHERE id IN '.repeat(200)}(5)${')'.repeat(200)}`,
    'nested AND and OR': `SELECT * FROM data WHERE ${'(id = 5 AND (x = 1 OR '.repeat(300)}x = 2${'))'.repeat(300)}`,
    'NOT NOT': `SELECT * FROM data WHERE ${'NOT '.repeat(1500)} id = 5`,
    'a long sum': `SELECT * FROM data WHERE id = 5 AND x = 1${'+1'.repeat(450)}`,
    'a long UNION': repeated(200, 'SELECT id FROM data', () => ' UNION ALL SELECT id FROM data', ''),
    'a long FROM list': repeated(800, 'SELECT 1 FROM data', n => `,data a${n}`, ' WHERE id = 5'),
    'a long join': repeated(
      130,
      'SELECT 1 FROM data',
      n => ` JOIN data a${n} ON a${n}.id = data.id`,
      ' WHERE data.id = 5',
    ),
    'names without tables': repeated(
      300,
      'SELECT 1 FROM data',
      n => `,data a${n}`,
      ` WHERE ${repeated(250, 'true', n => ` AND c${n} = id`, '')}`,
    ),
    'a chain of WITH': repeated(
      150,
      'WITH a AS (SELECT * FROM data)',
      n => `,a${n} AS (SELECT * FROM a${n === 0 ? '' : n - 1})`,
      ' SELECT * FROM a149 WHERE id = 5',
    ),
    'WITH asked often': `WITH a AS (SELECT * FROM data) SELECT 1 FROM ${Array.from({ length: 400 }, (_, n) => `a a${n}`)} WHERE ${Array.from({ length: 150 }, (_, n) => `a${n}.id = 5`).join(' AND ')}`,
    'a long list': `SELECT * FROM data WHERE id IN (${Array(2500).fill(5)})`,
    'many rows': `INSERT INTO data (id, x) VALUES ${Array(1000).fill('(5, 1)')}`,
    'many columns': `INSERT INTO data VALUES (${Array(2500).fill(5)})`,
    'a long chain of equals': `SELECT 1 FROM ${Array.from({ length: 120 }, (_, n) => `data a${n}`)} WHERE a0.id = 5${Array.from({ length: 119 }, (_, n) => ` AND a${n}.id = a${n + 1}.id`).join('')}`,
    'the same backwards': `SELECT 1 FROM ${Array.from({ length: 120 }, (_, n) => `data a${n}`)} WHERE a119.id = 5${Array.from({ length: 119 }, (_, n) => ` AND a${n}.id = a${n + 1}.id`).join('')}`,
  };
  for (const [name, sql] of Object.entries(texts)) {
    test(`${name}: quickly, in little memory, and never on a wrong shard`, () => {
      assert.ok(sql.length <= 8192, `${sql.length} bytes`);
      // The first time code is compiled.
      answers.answer(sql);
      const { plan, literals, planning_us } = answers.plan(sql);
      assert.ok(plan !== undefined && plan.bytes < 2 ** 20, `${plan?.bytes} bytes`);
      const context = answers.context(literals, []);
      const before = process.threadCpuUsage();
      const answer = answerShards(plan, context);
      const { user, system } = process.threadCpuUsage(before);
      assert.ok(planning_us < 20_000 && user + system < 20_000, `${planning_us} and ${user + system} us`);
      assert.ok(['one', 'every'].includes(answer.kind), JSON.stringify(answer));
      if (answer.kind === 'one') assert.equal(answer.shard, five);
    });
  }
});
