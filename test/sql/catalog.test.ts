/** Statements judged by the catalog of a real database; what is called a read runs on its standby. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { Analyzer } from '../../src/sql/cache.ts';
import { Catalog, type CatalogRows, type FunctionLists, NO_ROWS } from '../../src/sql/catalog.ts';
import type { ReasonCode } from '../../src/sql/statement.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestReader } from '../pool/reader.ts';
import { effectNames } from './corpus.ts';

const SCHEMA = `
  CREATE TABLE plain (id int PRIMARY KEY, note text);
  INSERT INTO plain VALUES (1, 'one'), (2, 'two');
  CREATE SEQUENCE ticket;
  CREATE SCHEMA app;
  GRANT USAGE ON SCHEMA app TO PUBLIC;

  CREATE FUNCTION app.pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
  CREATE FUNCTION app.looks_up(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT note FROM public.plain WHERE id = $1';
  CREATE FUNCTION app.writes(int) RETURNS int LANGUAGE sql AS 'INSERT INTO public.plain VALUES ($1) RETURNING id';
  CREATE FUNCTION app.overloaded(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
  CREATE FUNCTION app.overloaded(text) RETURNS int LANGUAGE sql AS 'INSERT INTO public.plain VALUES (3) RETURNING id';
  CREATE FUNCTION public.twice() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
  CREATE FUNCTION app.twice() RETURNS int LANGUAGE sql AS 'INSERT INTO public.plain VALUES (4) RETURNING id';
  CREATE FUNCTION app.numbered(bigint DEFAULT nextval('ticket')) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1';
  CREATE FUNCTION app.adds(int, int) RETURNS int LANGUAGE sql AS 'INSERT INTO public.plain VALUES ($2) RETURNING id';
  CREATE AGGREGATE app.collect(int) (SFUNC = app.adds, STYPE = int, INITCOND = '0');
  CREATE AGGREGATE app.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
  CREATE FUNCTION app.stamp(plain) RETURNS int LANGUAGE sql AS 'INSERT INTO public.plain VALUES (6) RETURNING id';
  CREATE FUNCTION app.label(plain) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.note';
  CREATE FUNCTION "Odd.Name"() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
  CREATE FUNCTION app.upper(plain) RETURNS int LANGUAGE sql AS 'INSERT INTO public.plain VALUES (7) RETURNING id';

  CREATE TYPE app.money AS (cents int);
  CREATE TYPE app.pair AS (a int);
  CREATE FUNCTION app.same(app.pair, app.pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
  CREATE OPERATOR public.=== (LEFTARG = app.pair, RIGHTARG = app.pair, FUNCTION = app.same);
  CREATE OPERATOR app.!!! (RIGHTARG = int, FUNCTION = app.writes);
  CREATE OPERATOR app.@@@@ (RIGHTARG = int, FUNCTION = app.pure);
  CREATE FUNCTION app.to_money(int) RETURNS app.money LANGUAGE sql AS 'INSERT INTO public.plain VALUES ($1) RETURNING ROW(id)::app.money';
  CREATE CAST (int AS app.money) WITH FUNCTION app.to_money(int);
  CREATE DOMAIN app.even AS int CHECK (app.pure(VALUE) > 0);
  CREATE DOMAIN app.noted AS int CHECK (app.writes(VALUE) > 0);
  CREATE DOMAIN app.well_noted AS app.noted;

  CREATE VIEW reading AS SELECT id, app.pure(id), app.looks_up(id), random() FROM plain;
  CREATE VIEW numbering AS SELECT nextval('ticket') AS n, id FROM plain;
  CREATE VIEW over_numbering AS SELECT * FROM numbering WHERE id > 0;
  CREATE VIEW over_over AS SELECT count(*) FROM (SELECT 1 FROM over_numbering) x;
  CREATE VIEW writing AS SELECT app.writes(id + 100) FROM plain;
  CREATE VIEW operating AS SELECT OPERATOR(app.!!!) (id + 200) FROM plain;
  CREATE VIEW collecting AS SELECT app.collect(id + 300) FROM plain;
  CREATE VIEW locking AS SELECT * FROM plain FOR UPDATE;
  CREATE MATERIALIZED VIEW stored AS SELECT id, nextval('ticket') FROM plain;
  CREATE VIEW "Mixed.Case" AS SELECT * FROM writing;
  CREATE SCHEMA shadow;
  CREATE VIEW shadow.plain AS SELECT app.writes(400);
  GRANT USAGE ON SCHEMA shadow TO PUBLIC;

  CREATE UNLOGGED TABLE volatile_store (id int);
  CREATE VIEW over_unlogged AS SELECT * FROM volatile_store;
  CREATE UNLOGGED SEQUENCE loose;
  CREATE TABLE parent (id int) PARTITION BY LIST (id);
  CREATE TABLE child PARTITION OF parent FOR VALUES IN (1);
  CREATE UNLOGGED TABLE loose_child PARTITION OF parent FOR VALUES IN (2);

  CREATE TABLE guarded (id int);
  INSERT INTO guarded VALUES (1);
  ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
  CREATE POLICY audit ON guarded FOR SELECT USING (app.writes(500) > 0);
  CREATE VIEW over_guarded WITH (security_invoker) AS SELECT * FROM guarded;
  CREATE TABLE tame (id int);
  ALTER TABLE tame ENABLE ROW LEVEL SECURITY;
  CREATE POLICY own ON tame USING (current_user = 'alice' AND id IN (SELECT app.pure(1)));
  CREATE TABLE unguarded (id int);
  CREATE POLICY off ON unguarded USING (app.writes(600) > 0);
  CREATE TABLE inserting (id int);
  ALTER TABLE inserting ENABLE ROW LEVEL SECURITY;
  CREATE POLICY checks ON inserting FOR INSERT WITH CHECK (app.writes(700) > 0);

  CREATE EXTENSION citext;
  CREATE EXTENSION hstore;
  CREATE EXTENSION pg_trgm;
  CREATE EXTENSION file_fdw;
  CREATE EXTENSION postgres_fdw;
  CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
  CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
  CREATE FOREIGN TABLE in_a_file (line text) SERVER files OPTIONS (filename '/dev/null');
  CREATE FOREIGN TABLE far (id int) SERVER elsewhere;

  GRANT ALL ON ALL TABLES IN SCHEMA public, shadow TO PUBLIC;
  GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
`;

/** Statement, reason, and what its detail names. Each read must run on a standby, each write must fail there. */
const CASES: readonly (readonly [sql: string, reason: ReasonCode, about?: RegExp])[] = [
  ['SELECT app.pure(1)', 'select'],
  ['SELECT pure(1)', 'select'],
  ['SELECT app.looks_up(1), app.label(p), p.label FROM public.plain p', 'select'],
  ['SELECT "Odd.Name"()', 'select'],
  ['SELECT public."Odd.Name"()', 'select'],
  ['EXPLAIN ANALYZE SELECT app.pure(1)', 'explain'],
  ['COPY (SELECT app.pure(1)) TO STDOUT', 'copy_to'],
  ['BEGIN READ ONLY; SELECT app.pure(1); COMMIT', 'begin_read_only'],
  ['SELECT 1; SELECT app.looks_up(1)', 'select'],
  ['SELECT app.total(id) FROM public.plain', 'select'],
  ['SELECT app.writes(10)', 'volatile_function', /: app\.writes$/],
  ['SELECT writes(10)', 'volatile_function', /: app\.writes$/],
  ['SELECT app.pure(1); SELECT app.writes(10)', 'volatile_function'],
  ["SELECT app.overloaded('x')", 'volatile_function', /: app\.overloaded$/],
  ['SELECT app.twice()', 'volatile_function'],
  ['SELECT public.twice()', 'select'],
  ['SELECT app.numbered()', 'volatile_function'],
  ['SELECT app.collect(id) FROM public.plain', 'volatile_function'],
  ['SELECT app.stamp(p) FROM public.plain p', 'volatile_function'],
  ['SELECT p.stamp FROM public.plain p', 'volatile_function', /: app\.stamp$/],
  ['SELECT (p).stamp FROM public.plain p', 'volatile_function', /: app\.stamp$/],
  ['SELECT upper(p) FROM public.plain p', 'volatile_function', /: app\.upper$/],
  ["SELECT 'a'::citext = 'A', 'a=>1'::hstore -> 'a', similarity('a', 'b'), 'a' % 'b', 'a' <->> 'b'", 'select'],
  ['SELECT app.no_such_function()', 'unknown_function', /: app\.no_such_function$/],

  ["SELECT '(1)'::app.pair === '(1)'::app.pair", 'select'],
  ['SELECT OPERATOR(app.@@@@) 1', 'select'],
  ['SELECT OPERATOR(app.!!!) 11', 'volatile_function', /OPERATOR\(app\.!!!\), which calls app\.writes$/],
  ['SELECT !!! 11', 'volatile_function', /OPERATOR\(app\.!!!\)/],
  ['SELECT OPERATOR(app.%%%) 1', 'unknown_function', /: OPERATOR\(app\.%%%\)$/],
  ['SELECT 12::app.money', 'volatile_function', /the type app\.money, which calls app\.to_money$/],
  ['SELECT CAST(12 AS app.money)', 'volatile_function'],
  ['SELECT 2::app.even', 'select'],
  ['SELECT 13::app.noted', 'volatile_function', /the type app\.noted/],
  ['SELECT 13::app.well_noted', 'volatile_function'],

  ['SELECT * FROM reading', 'select'],
  ['SELECT * FROM stored', 'select'],
  ['SELECT * FROM public.plain', 'select'],
  ['SELECT * FROM numbering', 'volatile_view', /: public\.numbering calls pg_catalog\.nextval$/],
  ['SELECT * FROM public.over_numbering', 'volatile_view', /: public\.over_numbering reads public\.numbering calls/],
  [
    'TABLE over_over',
    'volatile_view',
    /: public\.over_over reads public\.over_numbering reads public\.numbering calls/,
  ],
  ['WITH x AS (SELECT * FROM writing) SELECT 1 WHERE EXISTS (TABLE x)', 'volatile_view', /writing calls app\.writes$/],
  ['SELECT * FROM operating', 'volatile_view', /calls app\.writes$/],
  ['SELECT * FROM collecting', 'volatile_view', /calls app\.adds$/],
  ['SELECT * FROM locking', 'volatile_view', /: public\.locking$/],
  ['COPY (TABLE writing) TO STDOUT', 'volatile_view'],
  ['SELECT * FROM "Mixed.Case"', 'volatile_view', /: public\."Mixed\.Case" reads public\.writing/],
  ['SELECT * FROM shadow.plain', 'volatile_view'],
  ['WITH writing AS (SELECT 1) SELECT * FROM writing', 'select'],
  ['WITH writing AS (SELECT * FROM writing) SELECT * FROM writing', 'volatile_view'],

  ['SELECT * FROM volatile_store', 'unlogged_table', /: public\.volatile_store$/],
  ['SELECT * FROM over_unlogged', 'unlogged_table', /: public\.over_unlogged reads public\.volatile_store$/],
  ['SELECT * FROM loose', 'unlogged_table'],
  ['SELECT * FROM parent', 'unlogged_table', /: public\.parent reads public\.loose_child$/],
  ['SELECT * FROM child', 'select'],

  ['SELECT * FROM guarded', 'row_security', /: public\.guarded calls app\.writes$/],
  ['SELECT * FROM over_guarded', 'row_security'],
  ['SELECT * FROM tame', 'select'],
  ['SELECT * FROM unguarded', 'select'],
  ['SELECT * FROM inserting', 'select'],
  ['SELECT a.id FROM child a JOIN tame b USING (id) JOIN reading c ON c.id = b.id', 'select'],
];

/** What a standby runs all the same: COPY of an unlogged table, whose rows it lacks; names whose schema is not known. */
const RUN_ANYWHERE: typeof CASES = [
  ['COPY volatile_store TO STDOUT', 'unlogged_table'],
  ['SELECT * FROM in_a_file', 'foreign_table', /: public\.in_a_file$/],
  ['SELECT twice()', 'volatile_function', /: app\.twice$/],
  ['SELECT app.overloaded(1)', 'volatile_function'],
  ["SELECT upper('x')", 'volatile_function', /: app\.upper$/],
  ['SELECT * FROM plain', 'volatile_view', /: shadow\.plain/],
];

let cluster: TestCluster;
let analyzer: Analyzer;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql(SCHEMA);
  await cluster.caughtUp();
  analyzer = await Analyzer.create({ now: () => 0 });
});
after(() => cluster?.stop());

const judge = (catalog: Catalog, sql: string) => catalog.judge(analyzer.analyzeText(sql));

suite('the catalog of a database', () => {
  test('judges its functions, operators, types, views and tables, and PostgreSQL agrees', async () => {
    await using known = await TestReader.start(cluster);
    const standby = await cluster.connect(cluster.replica(0));
    await standby.query('SET ROLE alice; SET search_path = public, app');
    for (const [sql, reason, about = /./] of [...CASES, ...RUN_ANYWHERE]) {
      const judgement = judge(known.reader.catalog, sql);
      assert.equal(judgement.reason, reason, `${sql}: ${judgement.detail}`);
      assert.match(judgement.detail, about, sql);
      const error = await standby.query(sql).then(() => undefined, String);
      if (judgement.read) assert.equal(error, undefined, sql);
      else if (reason !== 'unknown_function' && !RUN_ANYWHERE.some(it => it[0] === sql)) {
        assert.match(error ?? '', /read-only transaction|during recovery/, sql);
      }
      await standby.query('ROLLBACK');
    }
    await standby.end();
  });

  test("takes a table of postgres_fdw for another's to read", async () => {
    await using known = await TestReader.start(cluster);
    assert.equal(judge(known.reader.catalog, 'SELECT * FROM far').reason, 'select');
  });

  test('leaves what it does not know as the text alone has it', async () => {
    for (const [sql] of CASES) {
      const statement = analyzer.analyzeText(sql);
      const { read, reason, detail, effects, shareable } = statement;
      assert.deepEqual(Catalog.empty.judge(statement), { read, reason, detail, effects, shareable }, sql);
    }
  });

  test('tells what a session keeps: immutable functions leave nothing, others may', async () => {
    await using known = await TestReader.start(cluster);
    const left = (sql: string) => {
      const { effects, shareable } = judge(known.reader.catalog, sql);
      return { effects: effectNames(effects), shareable };
    };
    assert.deepEqual(left('SELECT app.pure(1)'), { effects: [], shareable: true });
    assert.deepEqual(left('SELECT app.pure(1); SELECT 1'), { effects: [], shareable: false });
    assert.deepEqual(left('SELECT app.looks_up(1)'), { effects: ['unknown'], shareable: false });
    assert.deepEqual(left('SELECT app.writes(1)'), { effects: ['unknown'], shareable: false });
    assert.deepEqual(left("SELECT app.pure(1), nextval('ticket')"), { effects: ['sequence'], shareable: false });
    assert.deepEqual(left('INSERT INTO plain VALUES (app.pure(1))'), { effects: [], shareable: true });
    assert.deepEqual(left('CALL app.pure(1)'), { effects: ['unknown'], shareable: false });
  });

  test('knows the columns of tables and views in their order, when asked for', async () => {
    await cluster.sql('ALTER TABLE unguarded ADD gone int, ADD "Last" int; ALTER TABLE unguarded DROP gone');
    await using without = await TestReader.start(cluster);
    await using known = await TestReader.start(cluster, { columns: true });
    assert.equal(without.reader.catalog.columnsOf('unguarded'), undefined);
    const { catalog } = known.reader;
    assert.deepEqual(catalog.columnsOf('unguarded'), ['id', 'Last']);
    assert.deepEqual(catalog.columnsOf('public.over_guarded'), ['id']);
    assert.deepEqual(catalog.columnsOf('public."Mixed.Case"'), ['writes']);
    assert.deepEqual(catalog.columnsOf('public.plain'), ['id', 'note']);
    assert.equal(catalog.columnsOf('plain'), undefined, 'two schemas have one, with other columns');
    assert.equal(catalog.columnsOf('app.unguarded'), undefined);
    assert.equal(catalog.columnsOf('no_such_table'), undefined);
  });
});

suite('write_functions and read_functions', () => {
  const lists = (list: Partial<FunctionLists>, rows: CatalogRows = NO_ROWS) =>
    new Catalog(rows, { write_functions: [], read_functions: [], ...list });
  const reasonOf = (catalog: Catalog, sql: string) => judge(catalog, sql).reason;

  test("beat the catalog, PostgreSQL's own volatility and each other", async () => {
    const settings = { write_functions: ['app.pure', 'lower'], read_functions: ['writes', 'nextval'] };
    await using known = await TestReader.start(cluster, { settings });
    const { catalog } = known.reader;
    assert.equal(reasonOf(catalog, 'SELECT app.pure(1)'), 'write_functions');
    assert.equal(reasonOf(catalog, 'SELECT pure(1)'), 'write_functions');
    assert.equal(reasonOf(catalog, "SELECT pg_catalog.lower('x')"), 'write_functions');
    assert.equal(reasonOf(catalog, 'SELECT app.writes(1)'), 'select');
    assert.equal(reasonOf(catalog, "SELECT nextval('ticket')"), 'select');
    assert.equal(reasonOf(catalog, 'SELECT * FROM numbering'), 'select');
    assert.equal(reasonOf(catalog, 'SELECT * FROM writing'), 'select');
    assert.equal(reasonOf(catalog, 'SELECT * FROM reading'), 'volatile_view');
    assert.equal(reasonOf(catalog, 'SELECT !!! 1'), 'select');
    assert.equal(reasonOf(catalog, 'SELECT app.collect(1)'), 'volatile_function');
  });

  test('hold while nothing is known yet', () => {
    assert.equal(reasonOf(lists({ read_functions: ['f'] }), 'SELECT app.f()'), 'select');
    assert.equal(reasonOf(lists({ read_functions: ['app.f'] }), 'SELECT app.f()'), 'select');
    assert.equal(reasonOf(lists({ read_functions: ['app.f'] }), 'SELECT f()'), 'unknown_function');
    assert.equal(reasonOf(lists({ write_functions: ['pg_catalog.now'] }), 'SELECT now()'), 'write_functions');
    assert.equal(reasonOf(lists({ write_functions: ['app.now'] }), 'SELECT now()'), 'select');
    assert.equal(reasonOf(lists({ write_functions: ['f'], read_functions: ['f'] }), 'SELECT f()'), 'write_functions');
    assert.equal(reasonOf(lists({ read_functions: ['f'] }), 'SELECT f() FOR UPDATE'), 'row_lock');
  });
});
