/** Statements with the class, role, shard and reason that EXPLAIN ROUTE must give: every known way to route wrongly among them. */
import type { RouteReason, ShardReason } from '../../src/routing/route.ts';
import type { ReasonCode } from '../../src/sql/statement.ts';
import { type Case, READ_REASONS, CORPUS as STATEMENTS, SCHEMA as STATEMENTS_SCHEMA } from '../sql/corpus.ts';

/** Why a statement is refused: the error, and how its message begins. */
export const REFUSALS = {
  several: /^0A000: the rows of this statement belong to several shards: /,
  every: /^0A000: the rows of this statement may be on every shard: /,
  unknown: /^0A000: the shard of this statement cannot be known: /,
  updated: /^0A000: the sharding key cannot be updated: /,
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

/** The case of a statement that nothing but its class decides, in a pool of one shard. */
export function judged(sql: string, reason: ReasonCode): RouteCase {
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
