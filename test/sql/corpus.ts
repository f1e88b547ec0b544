/** Statements with the analysis that each must get: every known way to take a write for a read, and many plain ones. */
import { EFFECT, type ReasonCode, type TransactionControl } from '../../src/sql/statement.ts';

/** One text and what must be said of it. */
export interface Case {
  readonly sql: string;
  readonly reason: ReasonCode;
  readonly effects: number;
  /** What the detail must name, if anything. */
  readonly about?: string;
  readonly transaction?: TransactionControl;
  /** Statements in the text; 1 when absent. */
  readonly count?: number;
}

/** The tables, types and functions that the statements use. */
export const SCHEMA = [
  'CREATE TABLE t (id int PRIMARY KEY, a int, b text, j jsonb, x xml, n numeric, d timestamptz DEFAULT now())',
  "INSERT INTO t SELECT g, g, g::text, jsonb_build_object('k', g), '<r/>', g FROM generate_series(1, 10) g",
  'CREATE TABLE "select" ("from" int)',
  'CREATE SEQUENCE s',
  'CREATE VIEW v AS SELECT * FROM t',
  "CREATE TYPE mood AS ENUM ('sad', 'happy')",
  'CREATE TYPE address AS (city text, zip text)',
  'CREATE TABLE people (id int, home address, feels mood)',
  "CREATE FUNCTION writer() RETURNS int LANGUAGE sql AS 'INSERT INTO t (id) VALUES (-1) ON CONFLICT DO NOTHING; SELECT 1'",
  "CREATE FUNCTION setter() RETURNS text LANGUAGE sql AS $$SELECT set_config('work_mem', '99MB', false)$$",
  "CREATE PROCEDURE proc() LANGUAGE sql AS 'SELECT 1'",
  'CREATE SCHEMA other CREATE TABLE t (id int)',
  "CREATE FUNCTION other.plus(int, int) RETURNS int LANGUAGE sql AS 'SELECT writer()'",
  'CREATE OPERATOR other.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = other.plus)',
];

/** What a DO block with any suspicious word may leave. */
const LEFTOVERS =
  EFFECT.set |
  EFFECT.prepare |
  EFFECT.listen |
  EFFECT.temp |
  EFFECT.hold_cursor |
  EFFECT.advisory_lock |
  EFFECT.sequence;

const none = (reason: ReasonCode, ...texts: string[]): Case[] => texts.map(sql => ({ sql, reason, effects: 0 }));
const some = (reason: ReasonCode, effects: number, ...texts: string[]): Case[] =>
  texts.map(sql => ({ sql, reason, effects }));

const READS: readonly Case[] = [
  ...none(
    'select',
    'SELECT 1',
    'SELECT',
    'select * from t where id = 3;',
    '/* lead */ SELECT a -- tail\n FROM t',
    'TABLE t',
    'VALUES (1, 2), (3, 4)',
    '(SELECT 1) UNION ALL (SELECT 2) INTERSECT SELECT 3',
    'WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r',
    'WITH x AS MATERIALIZED (SELECT * FROM t) SELECT * FROM x JOIN t USING (id)',
    'SELECT * FROM t WHERE id IN (SELECT id FROM v WHERE a > ANY (SELECT 1)) ORDER BY a DESC NULLS LAST LIMIT 5 OFFSET 1',
    'SELECT count(*) FILTER (WHERE a > 1), string_agg(b, $$,$$ ORDER BY b), array_agg(DISTINCT a) FROM t GROUP BY id HAVING max(a) > 0',
    'SELECT a, sum(a) OVER w, row_number() OVER (PARTITION BY b ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t WINDOW w AS (ORDER BY id)',
    'SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t',
    'SELECT a, b, count(*) FROM t GROUP BY GROUPING SETS ((a), ROLLUP (b), ()) ORDER BY GROUPING(a)',
    "SELECT t.*, l.y FROM t LEFT JOIN LATERAL (SELECT t.a * 2 AS y) l ON true WHERE t.b LIKE '1%' ESCAPE '#'",
    'SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g(n, o), unnest(ARRAY[1, 2]) u',
    'SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY[5, 6])) AS r(x, y)',
    'SELECT * FROM json_to_recordset($$[{"a":1}]$$) AS r(a int)',
    'SELECT now(), CURRENT_DATE, LOCALTIMESTAMP(2), current_user, session_user, CURRENT_CATALOG, current_schema',
    'SELECT EXTRACT(year FROM now()), OVERLAY($$abc$$ PLACING $$x$$ FROM 2), POSITION($$b$$ IN $$abc$$), TRIM(BOTH FROM $$ x $$), SUBSTRING($$abc$$ FROM 2 FOR 1)',
    'SELECT now() AT TIME ZONE \'UTC\', (d, d) OVERLAPS (d, d), b COLLATE "C", COLLATION FOR (b) FROM t',
    "SELECT 'x' SIMILAR TO 'x', 'x' IS NORMALIZED, NORMALIZE('x'), a BETWEEN SYMMETRIC 1 AND 2, a IS DISTINCT FROM 3 FROM t",
    'SELECT CASE WHEN a > 1 THEN b ELSE NULL END, COALESCE(a, 0), NULLIF(a, 1), GREATEST(a, 2), LEAST(1, a) FROM t',
    'SELECT (ARRAY[1, 2])[1], (ARRAY[1, 2, 3])[1:2], ROW(1, 2), ARRAY(SELECT a FROM t), (ROW(1, 2) = ROW(1, 2))',
    "SELECT j -> 'k', j #>> '{k}', j @> '{}', j ? 'k', jsonb_path_query(j, '$.k') FROM t",
    "SELECT JSON_OBJECT('a': 1), JSON_ARRAY(1, 2), JSON_ARRAYAGG(a), JSON_OBJECTAGG(b: a), JSON_VALUE('{\"a\":1}', '$.a'), '{}' IS JSON OBJECT FROM t",
    "SELECT JSON_QUERY(j, '$.k' RETURNING text DEFAULT 'x' ON EMPTY), JSON_EXISTS(j, '$.k'), JSON('{}'), JSON_SCALAR(1), JSON_SERIALIZE('{}') FROM t",
    "SELECT * FROM t, JSON_TABLE(j, '$' COLUMNS (k int PATH '$.k', NESTED PATH '$.z[*]' COLUMNS (z int PATH '$'))) jt",
    'SELECT XMLELEMENT(NAME foo, XMLATTRIBUTES(a AS b), b), XMLFOREST(a), XMLSERIALIZE(CONTENT x AS text), x IS DOCUMENT FROM t',
    "SELECT XMLPARSE(DOCUMENT '<a/>'), XMLCONCAT(x, x), XMLROOT(x, VERSION '1.0'), XMLPI(NAME p), '/r' IS NOT NULL FROM t",
    'WITH RECURSIVE g(a) AS (SELECT 1 UNION ALL SELECT a FROM g WHERE a < 3) SEARCH DEPTH FIRST BY a SET o CYCLE a SET c USING p SELECT * FROM g',
    "SELECT INTERVAL '1' DAY, INTERVAL '2' HOUR TO MINUTE, B'101', X'1F', 1::numeric(4, 2), '{a}'::varchar(3)[], JSON_ARRAY(SELECT a FROM t)",
    'SELECT * FROM ROWS FROM (json_to_recordset($$[{"a":1}]$$) AS (a int, b text), generate_series(1, 2)) AS r',
    "SELECT * FROM t, XMLTABLE('/r' PASSING x COLUMNS y text PATH '.')",
    "SELECT 'happy'::mood, CAST(feels AS text), (home).city, (p.home).zip FROM people p",
    'SELECT random(), gen_random_uuid(), uuidv7(), clock_timestamp(), pg_sleep(0), random(1, 6)',
    'select pg_is_in_recovery()',
    'SELECT pg_last_wal_replay_lsn(), pg_relation_size($$t$$), pg_size_pretty(pg_database_size(current_database()))',
    'SELECT pg_catalog.lower($$A$$), pg_catalog.now(), format($$%s$$, 1), md5($$x$$), hashtext($$x$$), starts_with($$ab$$, $$a$$)',
    'SELECT a OPERATOR(pg_catalog.+) 1 FROM t ORDER BY a USING <',
    'SELECT * FROM t TABLESAMPLE BERNOULLI (50) REPEATABLE (1)',
    'SELECT * FROM pg_stat_activity',
    'SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE pg_table_is_visible(c.oid)',
    'SELECT (information_schema._pg_expandarray(i.indkey)).n FROM pg_index i',
    'SELECT * FROM information_schema.tables',
    'SELECT * FROM other.t',
    'SELECT * FROM s',
    'SELECT current_setting($$work_mem$$), txid_current_if_assigned(), pg_current_snapshot()',
    'SELECT "from" AS "insert" FROM "select" AS "update"',
    "SELECT 'INSERT INTO t VALUES (1); DROP TABLE t', $x$ FOR UPDATE $x$, E'\\'; DELETE FROM t'",
    'SELECT to_tsvector($$a b$$) @@ to_tsquery($$a$$), ts_headline($$a b$$, to_tsquery($$a$$))',
    'SELECT * FROM t WHERE id = $1 AND b = $2::text LIMIT $3',
    'SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b FETCH FIRST 2 ROWS WITH TIES',
    'SELECT t FROM t WHERE ((((a))) = 1) AND NOT EXISTS (SELECT FROM v WHERE v.id = t.id AND v.a IS NULL)',
  ),
  ...none('empty', '', '   ', ';', ';; ;', '-- nothing', '/* nothing /* nested */ */').map(it => ({ ...it, count: 0 })),
  ...none('select', 'SELECT 1; SELECT 2', 'TABLE t; VALUES (1); ').map(it => ({ ...it, count: 2 })),
  ...none('show', 'SHOW work_mem', 'SHOW ALL', 'SHOW TIME ZONE'),
  ...none(
    'explain',
    'EXPLAIN SELECT * FROM t',
    'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM t',
    'EXPLAIN ANALYZE WITH x AS (SELECT 1) TABLE x',
  ),
  ...none('copy_to', 'COPY t TO STDOUT', 'COPY (SELECT a FROM t) TO STDOUT (FORMAT csv)', 'COPY t (id, a) TO STDOUT'),
  ...none(
    'begin_read_only',
    'BEGIN READ ONLY',
    'START TRANSACTION READ ONLY',
    'BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY',
    'BEGIN WORK READ ONLY, NOT DEFERRABLE',
  ).map(it => ({ ...it, transaction: 'begin_read_only' as const })),
  {
    sql: 'BEGIN READ ONLY; SELECT 1; SAVEPOINT x; ROLLBACK TO x; COMMIT',
    reason: 'begin_read_only',
    effects: 0,
    transaction: 'begin_read_only',
    count: 5,
  },
  {
    sql: 'BEGIN READ ONLY; COMMIT AND CHAIN; SELECT 1; ROLLBACK; SELECT 2',
    reason: 'begin_read_only',
    effects: 0,
    transaction: 'begin_read_only',
    count: 5,
  },
];

const WRITES: readonly Case[] = [
  ...none(
    'writes',
    'INSERT INTO t (id) VALUES (100)',
    'INSERT INTO t (id) SELECT 101 ON CONFLICT (id) DO UPDATE SET a = excluded.a RETURNING id',
    'UPDATE t SET a = a + 1 WHERE id = 1',
    'DELETE FROM t USING v WHERE t.id = v.id AND t.id = 999',
    'WITH x AS (SELECT 1 AS id) DELETE FROM t WHERE id IN (SELECT id + 999 FROM x)',
    'WITH x AS (SELECT 102 AS id) INSERT INTO t (id) SELECT id FROM x',
    'WITH x AS (SELECT 1) UPDATE t SET a = 1',
    'MERGE INTO t USING v ON t.id = v.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id)',
    'EXPLAIN ANALYZE INSERT INTO t (id) VALUES (103)',
    'COPY (DELETE FROM t WHERE id = 999 RETURNING id) TO STDOUT',
  ),
  ...none(
    'select_into',
    'SELECT * INTO t2 FROM t',
    'SELECT 1 INTO UNLOGGED t3',
    'WITH x AS (SELECT 1 AS one) SELECT one INTO t4 FROM x',
    'SELECT 1 INTO t5 UNION SELECT 2',
    'EXPLAIN ANALYZE SELECT 1 INTO t6',
  ),
  ...none(
    'modifying_cte',
    'WITH w AS (INSERT INTO t (id) VALUES (104) RETURNING *) SELECT * FROM w',
    'WITH w AS (DELETE FROM t WHERE id = 104 RETURNING *) SELECT * FROM w',
    'WITH a AS (SELECT 1), w AS (UPDATE t SET a = 1 RETURNING *) SELECT count(*) FROM a, w',
    'WITH w AS (MERGE INTO t USING v ON t.id = v.id WHEN MATCHED THEN DELETE RETURNING t.id) SELECT * FROM w',
    'EXPLAIN ANALYZE WITH w AS (DELETE FROM t WHERE id = 999 RETURNING *) SELECT * FROM w',
    'COPY (WITH w AS (DELETE FROM t WHERE id = 999 RETURNING *) SELECT * FROM w) TO STDOUT',
  ),
  ...none(
    'row_lock',
    'SELECT * FROM t FOR UPDATE',
    'SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED',
    'SELECT * FROM t FOR SHARE NOWAIT',
    'SELECT * FROM t WHERE id = 1 FOR KEY SHARE OF t',
    'SELECT * FROM (SELECT * FROM t FOR UPDATE) x',
    'WITH x AS (SELECT * FROM t FOR UPDATE) SELECT * FROM x',
    'SELECT (SELECT a FROM t LIMIT 1 FOR UPDATE)',
    'SELECT 1 WHERE EXISTS (SELECT FROM t WHERE id IN (SELECT id FROM v FOR SHARE))',
    'SELECT * FROM t LEFT JOIN LATERAL (SELECT 1 FROM t y WHERE y.id = t.id FOR UPDATE) l ON true',
  ),
];

const FUNCTIONS: readonly Case[] = [
  ...some(
    'volatile_function',
    EFFECT.sequence,
    "SELECT nextval('s')",
    "SELECT setval('s', 5)",
    "SELECT currval('s')",
    'SELECT lastval()',
    "SELECT pg_catalog.nextval('s')",
    'SELECT "nextval"(\'s\')',
    'SELECT U&"n\\0065xtval"(\'s\')',
    "SELECT ('s'::regclass).nextval",
    "SELECT (SELECT 's'::regclass).nextval",
    "SELECT x.nextval FROM regclass('s') AS x",
    "SELECT ((ARRAY['s'::regclass])[1]).nextval",
    "SELECT * FROM nextval('s')",
    "SELECT * FROM ROWS FROM (generate_series(1, 2), nextval('s')) x",
    "SELECT 1 ORDER BY (SELECT nextval('s'))",
    "SELECT CASE WHEN false THEN nextval('s') END",
    "SELECT count(*) FILTER (WHERE nextval('s') > 0) FROM t",
    "SELECT sum(a) OVER (PARTITION BY nextval('s')) FROM t",
    "SELECT 1 LIMIT nextval('s')",
    "VALUES (1), (nextval('s'))",
    "SELECT 1 UNION SELECT nextval('s')",
    "SELECT JSON_OBJECT('a': nextval('s'))",
    "SELECT XMLELEMENT(NAME x, nextval('s'))",
    "SELECT ARRAY[nextval('s')], ROW(nextval('s')), COALESCE(NULL, nextval('s'))",
    "EXPLAIN ANALYZE SELECT nextval('s')",
    "COPY (SELECT nextval('s')) TO STDOUT",
  ),
  ...some(
    'volatile_function',
    EFFECT.advisory_lock,
    'SELECT pg_advisory_lock(1)',
    'SELECT pg_try_advisory_lock_shared(1, 2)',
    'SELECT pg_advisory_unlock(1)',
    'SELECT pg_advisory_unlock_all()',
    'SELECT id FROM t WHERE pg_try_advisory_lock(id)',
  ),
  ...none(
    'volatile_function',
    'SELECT pg_advisory_xact_lock(1)',
    'SELECT pg_try_advisory_xact_lock(1)',
    "SELECT pg_notify('c', 'x')",
    'SELECT txid_current()',
    'SELECT pg_current_xact_id()',
    "SELECT pg_logical_emit_message(true, 'a', 'b')",
    'SELECT lo_creat(-1)',
    'SELECT lo_from_bytea(0, $$x$$)',
    'SELECT lo_unlink(1)',
    "SELECT lo_put(1, 0, 'x')",
    'SELECT pg_switch_wal()',
    'SELECT pg_current_wal_lsn()',
    "SELECT pg_walfile_name('0/1')",
    "SELECT pg_create_restore_point('x')",
    'SELECT pg_stat_reset()',
    "SELECT pg_stat_reset_shared('io')",
    'SELECT pg_export_snapshot()',
    "SELECT table_to_xml('t', true, true, '')",
    'SELECT pg_cancel_backend(0)',
  ),
  ...some(
    'volatile_function',
    EFFECT.unknown,
    "SELECT query_to_xml('SELECT nextval(''s'')', true, true, '')",
    "SELECT query_to_xml('SELECT set_config(''work_mem'', ''98MB'', false)', true, true, '')",
    "SELECT * FROM ts_stat('SELECT to_tsvector(set_config(''work_mem'', ''97MB'', false))')",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery')",
    'SELECT setseed(0.5)',
  ),
  ...some(
    'volatile_function',
    EFFECT.set,
    "SELECT set_config('work_mem', '96MB', false)",
    "SELECT set_config('work_mem', '95MB', id > 0) FROM t LIMIT 1",
    "SELECT pg_catalog.set_config('search_path', 'other', false)",
  ),
  ...some('volatile_function', EFFECT.set_local, "SELECT set_config('work_mem', '94MB', true)"),
  ...some(
    'unknown_function',
    EFFECT.unknown,
    'SELECT writer()',
    'SELECT setter()',
    'SELECT public.writer()',
    'SELECT other.plus(1, 2)',
    'SELECT * FROM writer() w',
    'SELECT a OPERATOR(other.+) 1 FROM t',
    'SELECT 1 OPERATOR(other.+) ANY (ARRAY[1])',
    'SELECT no_such_function(1)',
    'SELECT pg_catalog.no_such_function(1)',
    'SELECT now.now()',
    "SELECT ('x'::text).anything",
    'SELECT * FROM t TABLESAMPLE system_rows (10)',
    'EXPLAIN SELECT writer()',
  ),
  ...none('unknown_syntax', 'SELECT DEFAULT', 'SELECT MERGE_ACTION()'),
];

const SESSIONS: readonly Case[] = [
  ...some(
    'setting',
    EFFECT.set,
    "SET work_mem = '93MB'",
    'SET SESSION work_mem TO DEFAULT',
    'RESET work_mem',
    'RESET ALL',
    "SET TIME ZONE 'UTC'",
    "SET NAMES 'UTF8'",
    'SET ROLE pg_monitor',
    'RESET ROLE',
    'SET SESSION AUTHORIZATION DEFAULT',
    'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
    'SET search_path TO other, public',
    "SET my.own = 'x'",
  ),
  ...some(
    'setting',
    EFFECT.set_local,
    "SET LOCAL work_mem = '92MB'",
    'SET TRANSACTION READ WRITE',
    'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE',
    'SET LOCAL ROLE pg_monitor',
    'SET CONSTRAINTS ALL DEFERRED',
  ),
  ...some('utility', EFFECT.prepare, 'PREPARE p1 AS SELECT 1', 'PREPARE p2 (int) AS UPDATE t SET a = $1'),
  ...some('utility', EFFECT.prepare | EFFECT.sequence, "PREPARE p3 AS SELECT nextval('s')"),
  ...some('utility', EFFECT.unknown, 'EXECUTE p1', 'EXPLAIN ANALYZE EXECUTE p1', "DO 'BEGIN END'", 'CALL proc()'),
  ...some('utility', EFFECT.unknown, 'CREATE TABLE t7 AS EXECUTE p1', 'CREATE INDEX ON t ((setter()))'),
  ...some(
    'utility',
    EFFECT.unknown | LEFTOVERS,
    "DO $$BEGIN PERFORM set_config('work_mem', '91MB', false); END$$",
    "DO $$BEGIN SET work_mem = '91MB'; END$$",
  ),
  ...none('utility', 'DEALLOCATE p1', 'DISCARD PLANS', 'DISCARD TEMP', 'DISCARD SEQUENCES', 'UNLISTEN *', 'NOTIFY c'),
  ...some('utility', EFFECT.deallocate_all, 'DEALLOCATE ALL'),
  ...some('utility', EFFECT.discard_all, 'DISCARD ALL'),
  ...some('utility', EFFECT.listen, 'LISTEN c'),
  ...some('utility', EFFECT.load, "LOAD 'auto_explain'"),
  ...some('utility', EFFECT.hold_cursor, 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'),
  ...none('utility', 'DECLARE c CURSOR FOR SELECT 1', 'FETCH c', 'MOVE c', 'CLOSE c', 'CLOSE ALL'),
  ...some(
    'utility',
    EFFECT.temp,
    'CREATE TEMP TABLE tmp1 (id int)',
    'CREATE LOCAL TEMPORARY TABLE tmp2 (id int) ON COMMIT DELETE ROWS',
    'CREATE TEMP TABLE tmp3 AS SELECT 1',
    'CREATE TEMP VIEW tmp4 AS SELECT 1',
    'CREATE TEMP SEQUENCE tmp5',
    'CREATE TABLE pg_temp.tmp6 (id int)',
    'CREATE VIEW pg_temp.tmp7 AS SELECT 1',
    "CREATE FUNCTION pg_temp.tmp8() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    'CREATE TYPE pg_temp.tmp9 AS (a int)',
    'DROP TABLE IF EXISTS pg_temp.tmp6',
  ),
  ...some('select_into', EFFECT.temp, 'SELECT 1 INTO TEMP tmp10', 'SELECT 1 INTO pg_temp.tmp11'),
  ...some(
    'temp_table',
    EFFECT.temp,
    'SELECT * FROM pg_temp.tmp1',
    'SELECT 1::pg_temp.tmp9',
    'COPY pg_temp.tmp1 TO STDOUT',
  ),
  ...some('temp_table', EFFECT.temp, 'SELECT * FROM pg_temp_3.tmp1'),
  ...none(
    'utility',
    'CREATE TEMP TABLE tmp12 (id int) ON COMMIT DROP',
    'CREATE TEMP TABLE tmp13 ON COMMIT DROP AS SELECT 1',
    'CREATE TABLE t8 (id int)',
    'CREATE TABLE t9 AS SELECT 1',
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = '90MB' AS 'SELECT 1'",
    "ALTER ROLE alice SET work_mem = '89MB'",
    'ALTER TABLE t ADD COLUMN z int',
    'TRUNCATE other.t',
    'LOCK TABLE t IN ACCESS SHARE MODE',
    'ANALYZE t',
    'VACUUM t',
    'REINDEX TABLE t',
    'CHECKPOINT',
    'GRANT SELECT ON t TO PUBLIC',
    "COMMENT ON TABLE t IS 'x'",
    'CREATE MATERIALIZED VIEW m AS SELECT 1',
    'REFRESH MATERIALIZED VIEW m',
    'DROP TABLE t8',
    'SHOW transaction_read_only',
    'EXPLAIN CREATE TABLE t10 AS SELECT 1',
  ),
  ...none(
    'copy',
    'COPY other.t FROM STDIN',
    "COPY t TO '/nowhere/t.csv'",
    "COPY t TO PROGRAM 'false'",
    "COPY (SELECT 1) TO PROGRAM 'false'",
    "COPY t FROM '/nowhere/t.csv'",
  ),
];

const TRANSACTIONS: readonly Case[] = [
  ...none(
    'transaction',
    'BEGIN',
    'START TRANSACTION',
    'BEGIN READ WRITE',
    'BEGIN READ ONLY, READ WRITE',
    'BEGIN READ WRITE, READ ONLY',
    'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE',
  ).map(it => ({ ...it, transaction: 'begin' as const })),
  ...none('transaction', 'COMMIT', 'END', 'ROLLBACK', 'ABORT', 'COMMIT AND CHAIN', "PREPARE TRANSACTION 'x'").map(
    it => ({
      ...it,
      transaction: 'commit' as const,
    }),
  ),
  ...none(
    'transaction',
    'SAVEPOINT x',
    'RELEASE x',
    'ROLLBACK TO x',
    "COMMIT PREPARED 'x'",
    "ROLLBACK PREPARED 'x'",
  ).map(it => ({ ...it, transaction: 'other' as const })),
  { sql: 'BEGIN; SELECT 1; COMMIT', reason: 'transaction', effects: 0, transaction: 'begin', count: 3 },
  { sql: 'SELECT 1; INSERT INTO t (id) VALUES (105)', reason: 'writes', effects: 0, count: 2 },
  { sql: "SELECT 1; SELECT nextval('s')", reason: 'volatile_function', effects: EFFECT.sequence, count: 2 },
  { sql: "SELECT 1; SET work_mem = '88MB'; SELECT 2", reason: 'setting', effects: EFFECT.set, count: 3 },
  {
    sql: 'BEGIN READ ONLY; COMMIT; COMMIT',
    reason: 'transaction',
    effects: 0,
    transaction: 'begin_read_only',
    count: 3,
  },
  {
    sql: 'BEGIN READ ONLY; SET TRANSACTION READ WRITE; INSERT INTO t (id) VALUES (106); COMMIT',
    reason: 'setting',
    effects: EFFECT.set_local,
    transaction: 'begin_read_only',
    count: 4,
  },
  {
    sql: 'BEGIN READ ONLY; COMMIT; DELETE FROM t WHERE id = 999',
    reason: 'writes',
    effects: 0,
    transaction: 'begin_read_only',
    count: 3,
  },
];

const UNPARSED: readonly Case[] = some(
  'unparsed',
  EFFECT.unknown,
  'SELEC 1',
  'SELECT 1 FROM',
  "SELECT 'unterminated",
  'SELECT 1; SELEC 2',
  'SELECT 1\0; DROP TABLE t',
  'SELECT "\ufffd"',
  "SELECT '\ud800'",
  'SHOW SERVER ROLE',
  'FOO',
);

export const CORPUS: readonly Case[] = [...READS, ...WRITES, ...FUNCTIONS, ...SESSIONS, ...TRANSACTIONS, ...UNPARSED];

/** The reasons of reads. */
export const READ_REASONS: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'select',
  'explain',
  'show',
  'copy_to',
  'begin_read_only',
  'empty',
]);

/** The names of the bits in `effects`. */
export function effectNames(effects: number): string[] {
  return Object.entries(EFFECT)
    .filter(([, bit]) => (effects & bit) !== 0)
    .map(([name]) => name);
}
