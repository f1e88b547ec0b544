/** Statements with the class, role, shard and reason that EXPLAIN ROUTE must give: every known way to route wrongly among them. */
import type { RouteReason, ShardReason } from '../../src/routing/route.ts';
import type { ReasonCode } from '../../src/sql/statement.ts';
import { type Case, READ_REASONS, CORPUS as STATEMENTS, SCHEMA as STATEMENTS_SCHEMA } from '../sql/corpus.ts';

/** Why a statement is refused: the error, and how its message begins. */
export const REFUSALS = {
  several: /^0A000: the rows of this statement belong to several shards: /,
  every: /^0A000: the rows of this statement may be on every shard: /,
  unknown: /^0A000: the shard of this statement cannot be known: /,
  elsewhere: /^0A000: .* belongs to shard \d, but shard \d was chosen by /,
  wrong_comment: /^22023: a pglynx comment is wrong: /,
  no_such_shard: /^22023: shard \d+ is not configured/,
  syntax: /^42601: syntax error at /,
} as const;

/** Where a statement goes, or why it goes nowhere. */
export type Outcome =
  | {
      readonly role: 'primary' | 'replica' | 'any';
      readonly why: RouteReason;
      readonly shard: number;
      readonly rule: ShardReason;
    }
  | { readonly refusal: keyof typeof REFUSALS };

export interface RouteCase {
  readonly sql: string;
  readonly class: 'read' | 'write';
  readonly reason: ReasonCode;
  readonly outcome: Outcome;
}

/** What the pool with one shard has: an operator named `+` would put every `+` in doubt. */
export const SCHEMA: readonly string[] = [
  ...STATEMENTS_SCHEMA.filter(sql => !sql.startsWith('CREATE OPERATOR')),
  'CREATE OPERATOR other.<+> (LEFTARG = int, RIGHTARG = int, FUNCTION = other.plus)',
  "CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
  "CREATE FUNCTION look() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM t'",
  "CREATE FUNCTION audited(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1'",
  "CREATE FUNCTION vouched(int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1'",
  'CREATE VIEW counting AS SELECT nextval($$s$$) AS n',
  'CREATE VIEW locking AS SELECT * FROM t FOR UPDATE',
  'CREATE VIEW above AS SELECT * FROM counting',
  'CREATE UNLOGGED TABLE scratch (id int)',
  'CREATE TABLE guarded (id int)',
  'CREATE POLICY watch ON guarded USING (writer() > 0)',
  'ALTER TABLE guarded ENABLE ROW LEVEL SECURITY',
  'GRANT ALL ON ALL TABLES IN SCHEMA public, other TO PUBLIC',
  'GRANT USAGE ON SCHEMA other TO PUBLIC',
  'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC',
];

/** Lists of functions that the pool has. */
export const LISTS = { write_functions: ['audited'], read_functions: ['vouched'] } as const;

const ONLY = { shard: 0, rule: 'only_shard' } as const;

function judged(sql: string, reason: ReasonCode): RouteCase {
  const isRead = READ_REASONS.has(reason);
  const role = isRead ? ({ role: 'replica', why: 'read' } as const) : ({ role: 'primary', why: 'write' } as const);
  return { sql, class: isRead ? 'read' : 'write', reason, outcome: { ...role, ...ONLY } };
}

const all = (reason: ReasonCode, ...texts: string[]): RouteCase[] => texts.map(sql => judged(sql, reason));

/** Where more is known than the grammar says, from which the reasons in test/sql/corpus are. */
const KNOWN: ReadonlyMap<string, ReasonCode> = new Map<string, ReasonCode>([
  ['SELECT writer()', 'volatile_function'],
  ['SELECT setter()', 'volatile_function'],
  ['SELECT public.writer()', 'volatile_function'],
  ['SELECT other.plus(1, 2)', 'volatile_function'],
  ['SELECT * FROM writer() w', 'volatile_function'],
  ['EXPLAIN SELECT writer()', 'volatile_function'],
  // Bytes that are no text, where they are a value.
  ["SELECT '\ud800'", 'select'],
]);

const derived = ({ sql, reason }: Case): RouteCase => judged(sql, KNOWN.get(sql) ?? reason);

/** Every statement of test/sql/corpus. */
export const GRAMMAR: readonly RouteCase[] = STATEMENTS.map(derived);

/** What is known to go wrong elsewhere, by what goes wrong. */
export const HOLES: Readonly<Record<string, readonly RouteCase[]>> = {
  'a data-modifying CTE under a SELECT': all(
    'modifying_cte',
    'WITH x AS (INSERT INTO t (id) VALUES (201) RETURNING *) SELECT * FROM x',
    'WITH x AS (UPDATE t SET a = 1 WHERE id = 201 RETURNING *) SELECT * FROM x',
    'WITH x AS (DELETE FROM t WHERE id = 201 RETURNING *) SELECT count(*) FROM x',
    'WITH x AS (MERGE INTO t USING v ON t.id = v.id WHEN MATCHED THEN DO NOTHING RETURNING t.id) SELECT * FROM x',
    'WITH RECURSIVE n(i) AS (SELECT 1), x AS (DELETE FROM t WHERE id = 201 RETURNING id) SELECT * FROM n, x',
    'SELECT * FROM t WHERE id IN (SELECT 1) UNION ALL (WITH x AS (DELETE FROM t WHERE id = 201 RETURNING *) TABLE x)',
  ),
  'WITH in front of a write': all(
    'writes',
    'WITH x AS (SELECT 1 AS id) INSERT INTO t (id) SELECT id + 200 FROM x',
    'WITH x AS (SELECT 201 AS id) UPDATE t SET a = 0 FROM x WHERE t.id = x.id',
    'WITH x AS (SELECT 201 AS id) DELETE FROM t USING x WHERE t.id = x.id',
    'WITH x AS (SELECT 201 AS id) MERGE INTO t USING x ON t.id = x.id WHEN MATCHED THEN DELETE',
  ),
  'WITH of nothing but reads': all(
    'select',
    'WITH x AS (SELECT * FROM t), y AS (SELECT * FROM x) SELECT count(*) FROM y',
    'WITH x AS (SELECT b FROM t GROUP BY b) SELECT * FROM x WHERE b = $1',
  ),
  'SELECT INTO': all('select_into', 'SELECT * INTO t2 FROM t', 'SELECT id INTO TABLE t21 FROM t WHERE id = 1'),
  sequences: all(
    'volatile_function',
    "SELECT nextval('s')",
    "SELECT setval('s', 7)",
    "SELECT id, nextval('s') FROM t",
    "SELECT currval('s')",
  ),
  'advisory locks': all(
    'volatile_function',
    'SELECT pg_advisory_lock(7)',
    'SELECT pg_try_advisory_lock(7)',
    'SELECT pg_advisory_xact_lock(7)',
    'SELECT 1 FROM t WHERE pg_advisory_unlock(7)',
  ),
  'other functions of PostgreSQL that write or work on the primary only': all(
    'volatile_function',
    "SELECT pg_notify('c', 'x')",
    "SELECT lo_from_bytea(0, 'x')",
    'SELECT txid_current()',
    'SELECT pg_current_xact_id()',
    "SELECT pg_logical_emit_message(false, 'a', 'b')",
    'SELECT pg_stat_reset()',
    'SELECT pg_switch_wal()',
    "SELECT set_config('work_mem', '5MB', false)",
  ),
  'functions of users that write': all(
    'volatile_function',
    'SELECT writer()',
    'SELECT writer() FROM t LIMIT 1',
    'SELECT * FROM t WHERE id = writer()',
    'SELECT 1 OPERATOR(other.<+>) 2',
    'SELECT * FROM t ORDER BY writer()',
    'SELECT (SELECT max(writer()) FROM t)',
    'SELECT vouched(1), setter()',
  ),
  'functions that nobody knows': all('unknown_function', 'SELECT nobody_knows()', 'SELECT other.nobody_knows(1)'),
  'functions of users that only read': all(
    'select',
    'SELECT pure(1)',
    'SELECT look()',
    'SELECT pure(id) FROM t WHERE pure(a) = 1',
    'SELECT vouched(1)',
  ),
  'a function that the pool says writes': all('write_functions', 'SELECT audited(1)', 'SELECT pure(audited(1))'),
  'views that hide a write': all(
    'volatile_view',
    'SELECT * FROM counting',
    'SELECT * FROM t, LATERAL (SELECT n FROM counting) c',
    'SELECT * FROM locking WHERE id = 1',
    'TABLE above',
  ),
  'tables that replicas lack, or that call functions': [
    ...all('unlogged_table', 'SELECT * FROM scratch', 'SELECT * FROM t WHERE id IN (SELECT id FROM scratch)'),
    ...all('row_security', 'SELECT * FROM guarded', 'SELECT count(*) FROM guarded g JOIN t USING (id)'),
    ...all('temp_table', 'SELECT * FROM pg_temp.made'),
  ],
  'row locks below the top': all(
    'row_lock',
    'SELECT * FROM t WHERE id = 1 FOR UPDATE',
    'SELECT * FROM (SELECT id FROM t FOR UPDATE) q',
    'WITH q AS (SELECT id FROM t FOR SHARE) SELECT * FROM q',
    'SELECT * FROM t WHERE id = (SELECT max(id) FROM (SELECT id FROM t FOR NO KEY UPDATE) q)',
    'SELECT 1 UNION ALL SELECT id FROM (SELECT id FROM t FOR KEY SHARE) q',
    'SELECT EXISTS (SELECT 1 FROM t FOR UPDATE SKIP LOCKED)',
  ),
  'several statements in a text': [
    ...all(
      'writes',
      'SELECT 1; INSERT INTO t (id) VALUES (202)',
      'SELECT 123; DELETE FROM t WHERE id = 202; SELECT 1;',
    ),
    ...all('select', 'SELECT 1; SELECT 2;', 'SELECT 1;; TABLE t;'),
    ...all('setting', 'SELECT 1; SET LOCAL work_mem = 1000; SELECT 2'),
    ...all('transaction', 'BEGIN; SELECT 1; COMMIT;', 'SELECT 1; BEGIN; COMMIT'),
    ...all('volatile_function', "SELECT 1; SELECT nextval('s'); SELECT 2"),
  ],
  transactions: [
    ...all('transaction', 'BEGIN', 'START TRANSACTION', 'BEGIN ISOLATION LEVEL SERIALIZABLE', 'ABORT', 'END'),
    ...all('begin_read_only', 'BEGIN READ ONLY', 'START TRANSACTION READ ONLY', 'begin transaction read only'),
  ],
  'statements that a foreign grammar lacks': [
    ...all(
      'select',
      'TABLE t',
      'VALUES (1)',
      "SELECT array['a'] && array['a']::text[]",
      'SELECT * FROM t FETCH FIRST ROW ONLY',
    ),
    ...all(
      'utility',
      'VACUUM t',
      'REINDEX TABLE t',
      'CLUSTER t',
      'LOCK TABLE t',
      'DO $$BEGIN END$$',
      'REFRESH MATERIALIZED VIEW m',
      'CHECKPOINT',
      'UNLISTEN *',
      'MOVE NEXT FROM c',
      'CALL proc()',
      'LISTEN c',
    ),
    ...all('setting', 'RESET work_mem', 'SET search_path = other'),
    ...all('writes', 'MERGE INTO t USING v ON t.id = v.id WHEN NOT MATCHED THEN DO NOTHING'),
  ],
  'reads that need no primary': [
    ...all('show', 'SHOW work_mem', 'SHOW ALL'),
    ...all('explain', 'EXPLAIN SELECT * FROM t', 'EXPLAIN ANALYZE SELECT 1'),
    ...all('copy_to', 'COPY t TO STDOUT', 'COPY (SELECT 1) TO STDOUT'),
    ...all('select', 'SELECT random(), clock_timestamp(), pg_sleep(0)', 'SELECT pg_is_in_recovery()'),
  ],
  'EXPLAIN and COPY of a write': [
    ...all('writes', 'EXPLAIN ANALYZE DELETE FROM t WHERE id = 203', 'EXPLAIN UPDATE t SET a = 1'),
    ...all('volatile_function', "EXPLAIN ANALYZE SELECT nextval('s')", "COPY (SELECT nextval('s')) TO STDOUT"),
    ...all('copy', 'COPY t FROM STDIN', "COPY t TO '/nowhere/x'"),
  ],
  'a text that does not parse': all(
    'unparsed',
    'SELEC 1',
    'SELECT FROM WHERE',
    "SELECT 'open",
    'UPSERT INTO t VALUES (1)',
  ),
  'words of writes where they mean none': all(
    'select',
    "SELECT 'INSERT INTO t', $$DELETE FROM t$$, E'\\' FOR UPDATE'",
    'SELECT "a" AS "FOR UPDATE" FROM t AS "insert" /* nextval(1) */ -- FOR UPDATE',
    'SELECT 1 /* outer /* UPDATE t SET a = 1 */ still */',
    "SELECT 'SET SERVER ROLE TO ''primary'''",
  ),
  'letters and blanks': [
    ...all('writes', '\n\tinSERT\f INTO t\r\n(id) VALUES (204)', '/* SELECT */ DELETE/**/FROM t WHERE id = 204'),
    ...all('row_lock', 'SELECT * FROM t for/* */update'),
    ...all('volatile_function', 'SELECT PG_CATALOG . "nextval" (\'s\')'),
    ...all('select', '  ;; (((SELECT 1)))  ; '),
  ],
  'wishes in comments': [
    commented('SELECT 1 /* pglynx: role=primary */', 'select', 'primary'),
    commented("-- pglynx: role='any'\nSELECT 1", 'select', 'any'),
    commented('/* pglynx: role=replica */ SELECT writer()', 'volatile_function', 'replica'),
    { ...judged('/* pglynx: role=nobody */ SELECT 1', 'select'), outcome: { refusal: 'wrong_comment' } },
    { ...judged('/* pglynx: shard=1 */ SELECT 1', 'select'), outcome: { refusal: 'no_such_shard' } },
  ],
};

function commented(sql: string, reason: ReasonCode, role: 'primary' | 'replica' | 'any'): RouteCase {
  return { ...judged(sql, reason), outcome: { role, why: 'comment', ...ONLY } };
}

/** A pool of three shards with this key, and the statements it is asked about. */
export interface ShardedPool {
  readonly key: string;
  readonly cases: readonly RouteCase[];
}

/** The tables of the sharded pools, in each shard. */
export const SHARDED_SCHEMA: readonly string[] = [
  'CREATE TABLE data (id bigint, x int, name text)',
  'CREATE TABLE orders (id int, data_id bigint, x int)',
  'CREATE TABLE notes (id int, x int, note text)',
  'CREATE TABLE plain (x int, y int)',
  'CREATE TABLE warehouse (w_id int PRIMARY KEY, w_name text, w_tax numeric, w_ytd numeric)',
  'CREATE TABLE district (w_id int, d_id int, d_tax numeric, d_ytd numeric, d_next_o_id int)',
  'CREATE TABLE customer (w_id int, d_id int, c_id int, c_last text, c_credit text, c_balance numeric, c_data text)',
  'CREATE TABLE new_order (w_id int, d_id int, o_id int)',
  'CREATE TABLE orderr (w_id int, d_id int, o_id int, c_id int, o_entry_d timestamptz, o_carrier_id int)',
  'CREATE TABLE order_line (w_id int, d_id int, o_id int, i_id int, ol_amount numeric, ol_delivery_d timestamptz)',
  'CREATE TABLE stock (w_id int, i_id int, s_quantity int, s_ytd numeric)',
  'CREATE TABLE item (i_id int PRIMARY KEY, i_name text, i_price numeric)',
  'GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC',
];

/** Reads, or with a reason of its own something else, whose rows are all on one shard. */
function on(shard: number, rule: ShardReason, reason: ReasonCode, ...texts: string[]): RouteCase[] {
  return texts.map(sql => {
    const { class: kind } = judged(sql, reason);
    const role =
      kind === 'read' ? ({ role: 'replica', why: 'read' } as const) : ({ role: 'primary', why: 'write' } as const);
    return { sql, class: kind, reason, outcome: { ...role, shard, rule } };
  });
}

const refused = (refusal: keyof typeof REFUSALS, reason: ReasonCode, ...texts: string[]): RouteCase[] =>
  texts.map(sql => ({ ...judged(sql, reason), outcome: { refusal } }));

const BY_DATA_ID: readonly RouteCase[] = [
  // What PgCat's own tests expect of it.
  ...on(2, 'key', 'select', 'SELECT * FROM data WHERE id = 5', 'SELECT * FROM data WHERE data.id = 5'),
  ...on(0, 'key', 'select', 'SELECT * FROM public.data WHERE id = 6', 'SELECT * FROM "public"."data" WHERE "id" = 6'),
  ...on(
    2,
    'key',
    'select',
    'SELECT * FROM data INNER JOIN orders ON data.id = 5 AND data.x = orders.x',
    'SELECT * FROM orders JOIN data ON data.id = 5',
    'SELECT * FROM "data" WHERE "data"."id" = 5',
  ),
  // PostgreSQL refuses an ambiguous name wherever it is.
  ...on(2, 'key', 'select', 'SELECT * FROM data JOIN orders ON data.x = orders.x WHERE id = 5'),
  // What it does not see.
  ...on(
    2,
    'key',
    'select',
    'SELECT * FROM data WHERE 5 = id',
    "SELECT * FROM data WHERE id = '5'",
    'SELECT * FROM data WHERE id = -1',
    'SELECT * FROM data WHERE id = 5::bigint',
    'SELECT * FROM data WHERE id IN (5, 1)',
    'SELECT * FROM data WHERE id = ANY (ARRAY[0, 1, 5, 9])',
    "SELECT * FROM data WHERE id = ANY ('{5,1}')",
    'SELECT * FROM data WHERE id BETWEEN 5 AND 5',
    'SELECT * FROM data WHERE id BETWEEN 0 AND 1',
    'SELECT * FROM data WHERE (((id = (5))))',
    'SELECT * FROM data d WHERE d.id = 5',
    'SELECT * FROM public.data WHERE public.data.id = 5',
    'SELECT * FROM data WHERE id = 4294967296',
    'SELECT * FROM data LEFT JOIN plain USING (x) WHERE id = 5',
    'SELECT * FROM plain RIGHT JOIN data ON plain.x = data.x WHERE data.id = 5',
    'SELECT * FROM data a JOIN data b USING (id) WHERE id = 5',
    'WITH d AS (SELECT * FROM data) SELECT * FROM d WHERE id = 5',
    'SELECT * FROM (SELECT * FROM data) d WHERE d.id = 5',
    'SELECT * FROM plain WHERE x IN (SELECT x FROM data WHERE id = 5)',
    'SELECT id FROM data WHERE id = 5 UNION SELECT id FROM data WHERE id = 1',
    'SELECT id, count(*) FROM data WHERE id = 5 GROUP BY id HAVING count(*) > 0',
    'SELECT * FROM data WHERE id = 5 AND (name = $$a$$ OR name = $$b$$)',
    'SELECT * FROM data WHERE id = 5 OR id = 1',
    'SELECT * FROM data WHERE id = 5; SELECT * FROM data WHERE id = 1',
  ),
  ...on(0, 'key', 'select', 'SELECT * FROM data WHERE id = 9223372036854775807', 'SELECT * FROM data WHERE id = 1234'),
  ...on(1, 'key', 'select', 'SELECT * FROM data WHERE id = -9223372036854775808', 'SELECT * FROM data WHERE id = -5'),
  ...on(
    1,
    'key',
    'explain',
    'EXPLAIN SELECT * FROM data WHERE id = 7',
    'EXPLAIN ANALYZE SELECT 1 FROM data WHERE id = 3',
  ),
  ...on(1, 'key', 'copy_to', 'COPY (SELECT * FROM data WHERE id = 7) TO STDOUT'),
  ...on(1, 'key', 'row_lock', 'SELECT * FROM data WHERE id = 7 FOR UPDATE'),
  ...on(1, 'key', 'modifying_cte', 'WITH w AS (DELETE FROM data WHERE id = 7 RETURNING *) SELECT * FROM w'),
  ...on(1, 'key', 'transaction', 'BEGIN; SELECT * FROM data WHERE id = 7; COMMIT'),
  ...on(1, 'key', 'begin_read_only', 'BEGIN READ ONLY; SELECT * FROM data WHERE id = 7; COMMIT'),
  ...on(
    2,
    'key',
    'writes',
    'INSERT INTO data (id, name) VALUES (5, $$a$$)',
    'INSERT INTO data (name, id) VALUES ($$a$$, 5), ($$b$$, 1)',
    'INSERT INTO data VALUES (5, 1, $$c$$)',
    'INSERT INTO data (id, x) SELECT id, x FROM data WHERE id = 5',
    'UPDATE data SET name = $$a$$ WHERE id = 5',
    'UPDATE data SET name = $$a$$ FROM plain WHERE plain.x = data.x AND data.id = 5',
    'DELETE FROM data WHERE id = 5',
    'DELETE FROM data USING plain WHERE plain.x = data.x AND id = 5',
    'MERGE INTO data d USING (VALUES (5::bigint)) v (id) ON d.id = v.id WHEN MATCHED THEN DELETE',
    'INSERT INTO data (id) VALUES (5) ON CONFLICT DO NOTHING RETURNING *',
  ),
  // Rows on several shards.
  ...refused(
    'several',
    'select',
    'SELECT * FROM data WHERE id = 5 OR id = 6',
    'SELECT * FROM data WHERE id IN (5, 6, 7)',
    'SELECT * FROM data WHERE id BETWEEN 5 AND 6',
    'SELECT * FROM data WHERE id = 5 UNION ALL SELECT * FROM data WHERE id = 6',
    'SELECT * FROM data a, data b WHERE a.id = 5 AND b.id = 6',
    'SELECT * FROM data WHERE id = 5; SELECT * FROM data WHERE id = 6',
  ),
  ...refused(
    'several',
    'writes',
    'INSERT INTO data (id) VALUES (5), (6)',
    'UPDATE data SET x = 1 WHERE id IN (5, 6)',
    'DELETE FROM data WHERE id = 5 OR id = 6',
  ),
  // Rows that may be on every shard.
  ...refused(
    'every',
    'select',
    'SELECT * FROM data',
    'SELECT * FROM data WHERE id = 5 OR name = $$x$$',
    'SELECT * FROM data WHERE id > 5',
    'SELECT * FROM data WHERE NOT id = 5',
    'SELECT * FROM data WHERE id + 0 = 5',
    'SELECT * FROM data WHERE x = 5',
    'SELECT * FROM data LEFT JOIN plain ON data.id = 5',
    'SELECT * FROM plain p JOIN data ON data.x = p.x',
    'SELECT count(*) FROM data GROUP BY x ORDER BY 1 LIMIT 3',
    'SELECT * FROM data WHERE id = 5 AND x IN (SELECT x FROM data)',
    'WITH d AS (SELECT * FROM data) SELECT * FROM d',
    'SELECT 1; TABLE data',
  ),
  ...refused(
    'every',
    'writes',
    'UPDATE data SET x = 1',
    'DELETE FROM data WHERE id < 5',
    'DELETE FROM data WHERE x = 5',
  ),
  ...refused('every', 'copy_to', 'COPY data TO STDOUT'),
  ...refused('every', 'utility', 'TRUNCATE data', 'LOCK TABLE data'),
  // Rows whose shard cannot be told, and keys that would change.
  ...refused(
    'unknown',
    'writes',
    'UPDATE data SET id = 6 WHERE id = 5',
    'INSERT INTO data (name) VALUES ($$a$$)',
    'INSERT INTO data (id) VALUES (DEFAULT)',
    'INSERT INTO data DEFAULT VALUES',
    'INSERT INTO data (id) SELECT x FROM plain',
    'INSERT INTO data (id) VALUES (5) ON CONFLICT (id) DO UPDATE SET id = 6',
  ),
  ...refused('unknown', 'copy', 'COPY data FROM STDIN', 'COPY data (id, x) FROM STDIN BINARY'),
  ...refused('unknown', 'utility', 'EXECUTE prepared_before'),
  ...refused('syntax', 'unparsed', 'SELEC 1', 'SELECT * FROM data WHERE id = 5 LIMIT'),
  // No row of a sharded table.
  ...on(0, 'default', 'select', 'SELECT 1', 'SELECT * FROM plain', 'SELECT * FROM orders WHERE id = 5'),
  ...on(
    0,
    'default',
    'select',
    'SELECT * FROM data WHERE id = NULL',
    'SELECT * FROM data WHERE id = 9223372036854775808',
  ),
  ...on(0, 'default', 'writes', 'INSERT INTO plain VALUES (1, 2)', 'UPDATE orders SET x = 1 WHERE id = 5'),
  ...on(0, 'default', 'transaction', 'BEGIN', 'COMMIT', 'ROLLBACK'),
  ...on(0, 'default', 'setting', 'SET work_mem = 1000'),
  ...on(0, 'default', 'utility', 'CREATE TABLE data3 (id int)', 'VACUUM plain'),
  // Comments.
  ...wished(
    'replica',
    'read',
    1,
    'select',
    '/* pglynx: shard=1 */ SELECT * FROM plain',
    'TABLE data -- pglynx: shard=1',
  ),
  ...wished(
    'replica',
    'read',
    0,
    'select',
    'SELECT * FROM data /* pglynx: key=6 */',
    '/* pglynx: shard=0 */ SELECT * FROM data WHERE id = 5',
  ),
  ...wished('primary', 'comment', 2, 'select', '/* pglynx: role=primary shard=2 */ SELECT 1'),
  ...wished('replica', 'comment', 2, 'writes', "/* pglynx: key='5', role=replica */ DELETE FROM data WHERE id = 5"),
  ...wished('primary', 'write', 1, 'copy', 'COPY data FROM STDIN /* pglynx: shard=1 */'),
  ...refused('elsewhere', 'writes', '/* pglynx: shard=1 */ INSERT INTO data (id) VALUES (5)'),
  ...refused('no_such_shard', 'select', '/* pglynx: shard=3 */ SELECT 1'),
  ...refused('wrong_comment', 'select', '/* pglynx: shrad=1 */ SELECT 1', 'SELECT 1 -- pglynx: key=five'),
  ...on(0, 'default', 'select', "SELECT '/* pglynx: shard=1 */'", 'SELECT 1 /* shard=1 */'),
];

function wished(
  role: 'primary' | 'replica',
  why: RouteReason,
  shard: number,
  reason: ReasonCode,
  ...texts: string[]
): RouteCase[] {
  return texts.map(sql => ({ ...judged(sql, reason), outcome: { role, why, shard, rule: 'comment' } }));
}

/** TPC-C with the warehouse's number, 5, in every table but item. */
const BY_WAREHOUSE: readonly RouteCase[] = [
  ...on(
    2,
    'key',
    'select',
    'SELECT w_tax FROM warehouse WHERE w_id = 5',
    'SELECT d_tax, d_next_o_id FROM district WHERE w_id = 5 AND d_id = 3',
    'SELECT c_last, c_credit, w_tax FROM customer JOIN warehouse USING (w_id) WHERE w_id = 5 AND c_id = 7',
    'SELECT c_last, w_tax FROM customer c, warehouse w WHERE c.w_id = w.w_id AND w.w_id = 5 AND c.d_id = 3 AND c.c_id = 7',
    'SELECT o_id FROM new_order WHERE d_id = 3 AND w_id = 5 AND o_id > -1 LIMIT 1',
    'SELECT c_id FROM orderr WHERE o_id = 8 AND d_id = 3 AND w_id = 5',
    'SELECT sum(ol_amount) FROM order_line WHERE o_id = 8 AND d_id = 3 AND w_id = 5',
    "SELECT c_id, c_balance FROM customer WHERE w_id = 5 AND d_id = 3 AND c_last = 'BARBARBAR' ORDER BY c_data",
    'SELECT count(DISTINCT ol.i_id) FROM order_line ol, stock s WHERE ol.w_id = 5 AND s.w_id = 5 AND ol.i_id = s.i_id AND s_quantity < 15',
    'SELECT s_quantity, i_price FROM stock JOIN item USING (i_id) WHERE w_id = 5 AND i_id = 2',
    'SELECT o_id FROM orderr o WHERE w_id = 5 AND o_id = (SELECT max(o_id) FROM new_order n WHERE n.w_id = o.w_id)',
  ),
  ...on(2, 'key', 'row_lock', 'SELECT s_quantity FROM stock WHERE w_id = 5 AND i_id = 2 FOR UPDATE'),
  ...on(
    2,
    'key',
    'writes',
    'UPDATE warehouse SET w_ytd = w_ytd + 12.5 WHERE w_id = 5',
    'UPDATE district SET d_next_o_id = 11 WHERE d_id = 3 AND w_id = 5',
    "UPDATE customer SET c_balance = c_balance - 12.5, c_data = 'x' WHERE w_id = 5 AND d_id = 3 AND c_id = 7",
    'UPDATE order_line SET ol_delivery_d = now() WHERE o_id = 8 AND d_id = 3 AND w_id = 5',
    'UPDATE stock SET s_quantity = 9, s_ytd = 1 WHERE i_id = 2 AND w_id = 5',
    'DELETE FROM new_order WHERE d_id = 3 AND w_id = 5 AND o_id = 8',
    'INSERT INTO new_order (o_id, d_id, w_id) VALUES (8, 3, 5)',
    'INSERT INTO orderr (o_id, d_id, w_id, c_id, o_entry_d) VALUES (8, 3, 5, 7, now())',
    'INSERT INTO order_line (o_id, d_id, w_id, i_id, ol_amount) VALUES (8, 3, 5, 1, 2.5), (8, 3, 5, 2, 3.5)',
    'INSERT INTO warehouse VALUES (5, $$five$$, 0.1, 0)',
  ),
  ...on(0, 'default', 'transaction', 'BEGIN', 'COMMIT', 'ROLLBACK'),
  ...on(0, 'default', 'select', 'SELECT i_name, i_price FROM item WHERE i_id = 2', 'SELECT 1'),
  ...on(0, 'default', 'writes', 'UPDATE item SET i_price = 5 WHERE i_id = 5'),
  ...on(1, 'key', 'select', 'SELECT * FROM warehouse WHERE w_id = 7'),
  ...refused(
    'several',
    'select',
    'SELECT * FROM warehouse w, district d WHERE w.w_id = 5 AND d.w_id = 6',
    'SELECT * FROM stock WHERE w_id IN (5, 6)',
  ),
  ...refused('several', 'writes', 'INSERT INTO stock (w_id, i_id) VALUES (5, 2), (6, 2)'),
  ...refused('every', 'select', 'SELECT * FROM district WHERE d_id = 5', 'SELECT max(w_id) FROM warehouse'),
  ...refused('every', 'writes', 'UPDATE warehouse SET w_tax = 0', 'DELETE FROM new_order'),
  ...refused(
    'unknown',
    'writes',
    'UPDATE warehouse SET w_id = 6 WHERE w_id = 5',
    'INSERT INTO stock (i_id) VALUES (2)',
  ),
];

export const SHARDED: readonly ShardedPool[] = [
  { key: 'data.id', cases: BY_DATA_ID },
  { key: '*.w_id', cases: BY_WAREHOUSE },
];
