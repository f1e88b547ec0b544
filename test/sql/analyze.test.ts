/** What is said of each statement of the corpus, and of the names and shapes of statements. */
import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { Analyzer } from '../../src/sql/cache.ts';
import { EFFECT, REASONS } from '../../src/sql/statement.ts';
import { CORPUS, effectNames, READ_REASONS } from './corpus.ts';

let analyzer: Analyzer;
before(async () => {
  analyzer = await Analyzer.create({ now: () => 0 });
});

suite('the corpus', () => {
  for (const { sql, reason, effects, kind, transaction = 'none', count = 1 } of CORPUS) {
    test(`${reason}: ${JSON.stringify(sql)}`, () => {
      const statement = analyzer.analyzeText(sql);
      assert.equal(statement.reason, reason, statement.detail);
      assert.equal(statement.read, READ_REASONS.has(reason));
      assert.equal(statement.kind, kind);
      assert.deepEqual(effectNames(statement.effects), effectNames(effects));
      assert.equal(statement.transaction, transaction);
      assert.equal(statement.count, count);
      assert.ok(statement.detail.startsWith(REASONS[reason]), statement.detail);
    });
  }
});

test('the detail names what the reason is about', () => {
  const details = {
    "SELECT 1, pg_catalog.setval('s', 1)": /: pg_catalog\.setval$/,
    'SELECT a OPERATOR(other.+) 1 FROM t': /: OPERATOR\(other\.\+\)$/,
    'WITH w AS (DELETE FROM t RETURNING *) SELECT * FROM w': /: DELETE$/,
    'CREATE TABLE x AS SELECT 1': /: CREATE TABLE AS$/,
    'SELECT 1; VACUUM': /: VACUUM$/,
    'SET LOCAL work_mem = 1': /: work_mem$/,
    SELEC: /: syntax error at or near "SELEC"$/,
    [`${'x'.repeat(9000)}`]: /: it is longer than 8192 bytes$/,
  };
  for (const [sql, pattern] of Object.entries(details)) assert.match(analyzer.analyzeText(sql).detail, pattern, sql);
});

test('of several reasons, the gravest is told', () => {
  const { reason, effects } = analyzer.analyzeText("SELECT writer(), nextval('s') FROM pg_temp.x FOR UPDATE");
  assert.equal(reason, 'row_lock');
  assert.deepEqual(effectNames(effects), ['temp', 'sequence', 'unknown']);
});

test('the names of prepared statements are those of PREPARE, EXECUTE and DEALLOCATE alone in their text', () => {
  const names = (sql: string) => {
    const { prepares, executes, deallocates } = analyzer.analyzeText(sql);
    return { prepares, executes, deallocates };
  };
  const nobody = { prepares: undefined, executes: undefined, deallocates: undefined };
  assert.deepEqual(names('PREPARE "My Plan" AS SELECT 1'), { ...nobody, prepares: 'My Plan' });
  assert.deepEqual(names('EXECUTE MyPlan(1)'), { ...nobody, executes: 'myplan' });
  assert.deepEqual(names('DEALLOCATE PREPARE x;'), { ...nobody, deallocates: 'x' });
  assert.deepEqual(names('DEALLOCATE "all"'), { ...nobody, deallocates: 'all' });
  assert.deepEqual(names('DEALLOCATE ALL'), nobody);
  assert.deepEqual(names('DEALLOCATE x; SELECT 1'), nobody);
  assert.deepEqual(names('EXPLAIN EXECUTE x'), nobody);
  assert.deepEqual(effectNames(analyzer.analyzeText('DEALLOCATE "all"').effects), []);
});

test('plain is one SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or MERGE', () => {
  const plain = [
    'SELECT 1;',
    'VALUES (1)',
    'TABLE t',
    'INSERT INTO t DEFAULT VALUES',
    'UPDATE t SET a = 1',
    'DELETE FROM t',
    'MERGE INTO t USING v ON true WHEN MATCHED THEN DELETE',
    'WITH w AS (DELETE FROM t RETURNING *) SELECT * FROM w',
    'SELECT * FROM t FOR UPDATE',
  ];
  const other = [
    '',
    'SELECT 1; SELECT 2',
    'SELECT 1 INTO x',
    'EXPLAIN SELECT 1',
    'COPY t TO STDOUT',
    'BEGIN',
    'SHOW ALL',
    'SELEC',
    'CALL p()',
    'PREPARE p AS SELECT 1',
    'DECLARE c CURSOR FOR SELECT 1',
  ];
  for (const sql of plain) assert.equal(analyzer.analyzeText(sql).plain, true, sql);
  for (const sql of other) assert.equal(analyzer.analyzeText(sql).plain, false, sql);
});

/** Reasons that a text alone never has. */
const OF_SERVERS = ['write_functions', 'volatile_view', 'row_security', 'unlogged_table', 'foreign_table', 'refused'];

test('every reason and every effect is in the corpus', () => {
  const reasons = Object.keys(REASONS).filter(reason => !OF_SERVERS.includes(reason));
  assert.deepEqual([...new Set(CORPUS.map(({ reason }) => reason))].sort(), reasons.sort());
  const effects = CORPUS.reduce((bits, it) => bits | it.effects, 0);
  assert.deepEqual(effectNames(effects), Object.keys(EFFECT));
});
