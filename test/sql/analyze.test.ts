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

test('the tables read and written, as they are folded, WITH queries left out', () => {
  const cases: Record<string, { read?: string[]; written?: string[] }> = {
    'SELECT * FROM A, s."B" x JOIN c USING (id)': { read: ['a', 'c', 's.B'] },
    'SELECT * FROM "we.ird", we.ird': { read: ['"we.ird"', 'we.ird'] },
    'SELECT (SELECT 1 FROM a WHERE EXISTS (SELECT FROM b)), ARRAY(TABLE c)': { read: ['a', 'b', 'c'] },
    'SELECT * FROM t, t u, db.public.t': { read: ['public.t', 't'] },
    'WITH t AS (SELECT 1) SELECT * FROM t': {},
    'WITH t AS (SELECT 1) SELECT * FROM s.t': { read: ['s.t'] },
    'WITH t AS (SELECT * FROM t) SELECT * FROM t': { read: ['t'] },
    'WITH a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM a, b': { read: ['b'] },
    'WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM a, b': {},
    'SELECT * FROM (WITH t AS (SELECT 1) SELECT * FROM t) x, t': { read: ['t'] },
    'WITH t AS (SELECT 1) SELECT 1 UNION SELECT * FROM t': {},
    'WITH t AS (SELECT 1) SELECT * FROM (SELECT (SELECT 1 FROM t)) x': {},
    'INSERT INTO t SELECT * FROM u': { read: ['u'], written: ['t'] },
    'INSERT INTO t SELECT * FROM t': { read: ['t'], written: ['t'] },
    'WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t': { written: ['t'] },
    'UPDATE s.t SET a = 1 FROM u WHERE t.id IN (SELECT id FROM v)': { read: ['u', 'v'], written: ['s.t'] },
    'DELETE FROM t USING u': { read: ['u'], written: ['t'] },
    'MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE': { read: ['u'], written: ['t'] },
    'WITH w AS (DELETE FROM t RETURNING *) SELECT * FROM w, u': { read: ['u'], written: ['t'] },
    'SELECT * INTO made FROM t': { read: ['t'], written: ['made'] },
    'SELECT * FROM t x FOR UPDATE OF x': { read: ['t'] },
    'CREATE TABLE made AS SELECT * FROM t': { read: ['t'], written: ['made'] },
    'COPY s.t TO STDOUT': { read: ['s.t'] },
    'COPY t FROM STDIN': { written: ['t'] },
    'COPY (SELECT * FROM t) TO STDOUT': { read: ['t'] },
    'TRUNCATE t, s.u': { written: ['s.u', 't'] },
    'DROP TABLE t, db.s.u': { written: ['s.u', 't'] },
    'DROP FUNCTION f': {},
    'ALTER TABLE t ADD a int': { written: ['t'] },
    'CREATE INDEX ON t (a)': { written: ['t'] },
    'REFRESH MATERIALIZED VIEW m': { written: ['m'] },
    'EXPLAIN SELECT * FROM t': { read: ['t'] },
    'PREPARE p AS DELETE FROM t': { written: ['t'] },
    'SELECT * FROM t; UPDATE u SET a = 1': { read: ['t'], written: ['u'] },
    'SELECT * FROM t TABLESAMPLE system (1)': { read: ['t'] },
  };
  for (const [sql, { read = [], written = [] }] of Object.entries(cases)) {
    const { tables } = analyzer.analyzeText(sql);
    assert.deepEqual([[...tables.read].sort(), [...tables.written].sort()], [read, written], sql);
  }
});

test('the functions, operators and types of a text, and the names behind dots', () => {
  const names = (sql: string) => {
    const { functions, unknown, operators, types, attributes } = analyzer.analyzeText(sql);
    const sorted = (list: readonly string[]) => [...list].sort().join(' ');
    return [functions, unknown, operators, types, attributes].map(sorted);
  };
  assert.deepEqual(names('SELECT F(1), s."G"(2), lower($$x$$), pg_catalog.now(), f(3)'), [
    'f lower pg_catalog.now s.G',
    'f s.G',
    '',
    '',
    '',
  ]);
  assert.deepEqual(names('SELECT t.a, (t).b, (f(1)).c, t.*, s.t.d FROM t'), ['f', 'f', '', '', 'a b c d']);
  assert.deepEqual(names("SELECT a + 1 OPERATOR(s.-) 2 <-> 3, b LIKE 'x' AND c IN (1) OR d NOT IN (2)"), [
    '',
    '',
    '+ <-> <> = s.- ~~',
    '',
    '',
  ]);
  assert.deepEqual(names('SELECT a BETWEEN 1 AND 2, b IN (SELECT 1), c > ANY (SELECT 1)'), [
    '',
    '',
    '< <= = > >=',
    '',
    '',
  ]);
  assert.deepEqual(names('SELECT * FROM a JOIN b USING (c), d NATURAL JOIN e'), ['', '', '=', '', '']);
  assert.deepEqual(names('SELECT CASE a WHEN 1 THEN 2 END, NULLIF(a, 1), a IS DISTINCT FROM 1'), ['', '', '=', '', '']);
  assert.deepEqual(names('SELECT a::int, b::s.mood[], \'1\'::"My", CAST(c AS text)'), [
    '',
    '',
    '',
    'My pg_catalog.int4 s.mood text',
    '',
  ]);
  assert.deepEqual(names('SELECT * FROM f() AS x (a mood)'), ['f', 'f', '', 'mood', '']);
  assert.deepEqual(names('SELECT 1; SELECT g()'), ['g', 'g', '', '', '']);
  assert.deepEqual(names('SELECT * FROM t TABLESAMPLE system_rows (1)'), ['system_rows', 'system_rows', '', '', '']);
});

test('everything that keeps a text off replicas is told, the gravest of each statement first', () => {
  const objections = (sql: string) => {
    const statement = analyzer.analyzeText(sql);
    assert.equal(statement.read, statement.objections.length === 0, sql);
    assert.equal(statement.reason, statement.objections[0]?.reason ?? statement.read_reason, sql);
    return statement.objections.map(({ reason, about }) => `${reason} ${about}`.trim());
  };
  assert.deepEqual(objections('SELECT g(), g(), f(), setval(1), OPERATOR(s.+) 1 FROM pg_temp.t FOR UPDATE'), [
    'row_lock',
    'volatile_function setval',
    'unknown_function OPERATOR(s.+)',
    'unknown_function f',
    'unknown_function g',
    'temp_table',
  ]);
  assert.deepEqual(objections('SELECT 1; SELECT f(); DELETE FROM t WHERE g(); COMMIT'), [
    'unknown_function f',
    'writes DELETE',
    'unknown_function g',
    'transaction',
  ]);
  assert.deepEqual(objections('BEGIN READ ONLY; SELECT f(); COMMIT'), ['unknown_function f']);
  assert.deepEqual(objections('CREATE TABLE t AS SELECT f()'), ['utility CREATE TABLE AS']);
  assert.deepEqual(objections('SELEC'), ['unparsed syntax error at or near "SELEC"']);
});

test('what only the catalog can tell is kept apart from what is certain', () => {
  const certain = (sql: string) => {
    const { effects, known_effects, shareable } = analyzer.analyzeText(sql);
    return [effectNames(effects).join(), effectNames(known_effects).join(), shareable];
  };
  assert.deepEqual(certain('SELECT 1'), ['', '', true]);
  assert.deepEqual(certain('UPDATE t SET a = 1'), ['', '', true]);
  assert.deepEqual(certain('SELECT 1; SELECT 2'), ['', '', false]);
  assert.deepEqual(certain("SELECT nextval('s')"), ['sequence', 'sequence', false]);
  assert.deepEqual(certain("SELECT f(), nextval('s')"), ['sequence,unknown', 'sequence', false]);
  assert.deepEqual(certain('SELECT a === b'), ['unknown', '', false]);
  assert.deepEqual(certain('INSERT INTO t VALUES (f())'), ['unknown', '', false]);
  assert.deepEqual(certain("SELECT ts_stat('x')"), ['unknown', 'unknown', false]);
  assert.deepEqual(certain('CALL f()'), ['unknown', 'unknown', false]);
});
