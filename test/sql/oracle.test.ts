/** PostgreSQL itself judges the analyses of the corpus: reads run on a standby, and sessions keep what was foretold. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { type Client, DatabaseError } from 'pg';
import { builtinsSource } from '../../scripts/make-builtins.ts';
import { STEADY, VOLATILE } from '../../src/sql/builtins.ts';
import { Analyzer } from '../../src/sql/cache.ts';
import { isOperator, judgeFunction } from '../../src/sql/functions.ts';
import { EFFECT, type ReasonCode } from '../../src/sql/statement.ts';
import { errorOf, tagsOf } from '../client/backend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import { CORPUS, effectNames, SCHEMA } from './corpus.ts';

/** What no standby runs, whatever the tables hold. */
const REFUSED: ReadonlySet<ReasonCode> = new Set<ReasonCode>(['select_into', 'modifying_cte', 'row_lock']);

/** Kinds whose tag is that of the query in them, or of what became of it. */
const OTHER_TAGS: ReadonlySet<string> = new Set([
  'SELECT INTO',
  'CREATE TABLE AS',
  'CREATE MATERIALIZED VIEW',
  'EXECUTE',
  'PREPARE TRANSACTION',
]);

describe('PostgreSQL agrees', () => {
  let cluster: TestCluster;
  let analyzer: Analyzer;
  before(async () => {
    cluster = await startCluster({ replicas: 1, settings: { max_prepared_transactions: 2 } });
    analyzer = await Analyzer.create({ now: () => 0 });
    for (const sql of SCHEMA) await cluster.sql(sql);
    await cluster.caughtUp();
  });
  after(() => cluster.stop());

  test('each statement that is called a read runs on a standby', async () => {
    const client = await cluster.connect(cluster.replica(0));
    const reads = CORPUS.filter(({ sql }) => analyzer.analyzeText(sql).read);
    assert.ok(reads.length > 150, `${reads.length} reads`);
    for (const { sql } of reads) {
      await assert.doesNotReject(run(client, sql), sql);
      await client.query('ROLLBACK');
    }
    await client.end();
  });

  test('a standby refuses what the corpus says must not go there', async () => {
    const client = await cluster.connect(cluster.replica(0));
    // What is only explained is not run.
    for (const { sql } of CORPUS.filter(
      ({ sql, reason }) => REFUSED.has(reason) && !sql.startsWith('EXPLAIN SELECT'),
    )) {
      await assert.rejects(run(client, sql), /in a read-only transaction|during recovery/, sql);
      await client.query('ROLLBACK');
    }
    await client.end();
  });

  test('each session keeps what was foretold, and no more', async () => {
    const client = await cluster.connect();
    for (const { sql } of CORPUS) {
      await client.query('DISCARD ALL');
      await client.query("PREPARE p1 AS SELECT set_config('work_mem', '87MB', false)");
      const earlier = await sessionState(client);
      // Many fail, being only half of something: what they leave is judged all the same.
      await run(client, sql.replaceAll('\0', '')).catch(refused);
      await client.query('COMMIT');
      const kept = await sessionState(client);
      const left = kinds.filter(kind => earlier[kind] !== kept[kind]);
      const { effects } = analyzer.analyzeText(sql);
      if ((effects & (EFFECT.unknown | EFFECT.discard_all)) !== 0) continue;
      const foretold = effectNames(effects);
      assert.deepEqual(
        left.filter(kind => !foretold.includes(kind)),
        [],
        `${sql} leaves what was not foretold`,
      );
    }
    await client.end();
  });

  test('the kind of a statement is its command tag', async () => {
    const { host, port } = cluster.primary;
    await using client = await RawClient.connect({ host, port, user: 'postgres', database: DATABASE });
    const seen = new Set<string>();
    for (const { sql, kind, count = 1 } of CORPUS) {
      if (count !== 1 || kind === '' || /[$]1|FROM STDIN/.test(sql)) continue;
      const messages = await client.query(sql);
      const [tag] = tagsOf(messages);
      await client.query('ROLLBACK');
      if (errorOf(messages) !== undefined || tag === undefined || OTHER_TAGS.has(kind)) continue;
      assert.equal(kind, tag.replace(/( \d+)+$/, ''), sql);
      seen.add(kind);
    }
    assert.ok(seen.size > 60, `${seen.size} kinds: ${[...seen].join()}`);
  });

  test('the table of operators is that of this PostgreSQL', async () => {
    const rows = await cluster.sql<{ name: string }>(
      "SELECT DISTINCT oprname AS name FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace",
    );
    const names = new Set(rows.map(({ name }) => name));
    for (const name of names) assert.ok(isOperator([name]) && isOperator(['pg_catalog', name]), name);
    const characters = [...'+-*/<>=~!@#%^&|`?'];
    const longer = (symbols: string[]) => symbols.flatMap(symbol => characters.map(character => symbol + character));
    const twos = longer(characters);
    for (const name of [...characters, ...twos, ...longer(twos)])
      assert.equal(isOperator([name]), names.has(name), name);
    assert.equal(isOperator(['other', '+']), false);
  });

  test('the table of functions is that of this PostgreSQL', async () => {
    const client = await cluster.connect();
    const source = await builtinsSource(client);
    await client.end();
    assert.equal(await readFile(new URL('../../src/sql/builtins.ts', import.meta.url), 'utf8'), source);
  });

  test('no function that is called harmless refuses to run on a standby', async () => {
    const harmless = `${STEADY} ${VOLATILE}`
      .split(/\s+/)
      .filter(name => name !== '' && judgeFunction([name]).nature === 'harmless');
    const { rows } = await (await cluster.admin(cluster.replica(0))).query<{ call: string }>(CALLS, [harmless]);
    assert.ok(rows.length > 1000);
    const client = await cluster.connect(cluster.replica(0));
    await client.query("SET statement_timeout = '2s'");
    let answered = 0;
    for (const { call } of rows) {
      const error = await client.query(call).then(() => undefined, refused);
      if (error === undefined) answered++;
      else assert.doesNotMatch(`${error.code} ${error.message}`, /^25|recovery|standby|read-only/, call);
    }
    await client.end();
    assert.ok(answered > 700, `${answered} of ${rows.length} calls had an answer`);
  });
});

/** A call of each function of these names with likely arguments. */
const CALLS = `
  SELECT format('SELECT pg_catalog.%I(%s)', proname, coalesce(string_agg(argument, ', ' ORDER BY position), '')) AS call
  FROM pg_proc
  LEFT JOIN LATERAL unnest(proargtypes::oid[]) WITH ORDINALITY AS types(type, position) ON true
  LEFT JOIN LATERAL (SELECT CASE
    WHEN type IN ('oid'::regtype, 'regclass'::regtype) THEN '''t''::regclass'
    WHEN type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'float8'::regtype, 'numeric'::regtype) THEN format('1::%s', type::regtype)
    WHEN type IN ('text'::regtype, 'name'::regtype) THEN format('%L::%s', 't', type::regtype)
    WHEN type IN ('xid'::regtype, 'xid8'::regtype) THEN format('%L::%s', '700', type::regtype)
    WHEN type IN ('anyarray'::regtype, 'anycompatiblearray'::regtype) THEN 'ARRAY[1]'
    WHEN type IN ('anyelement'::regtype, 'anycompatible'::regtype, '"any"'::regtype) THEN '1'
    WHEN type = 'bool'::regtype THEN 'true'
    WHEN type = 'interval'::regtype THEN '''1 ms'''
    WHEN type = 'timestamptz'::regtype THEN 'now()'
    ELSE format('NULL::%s', type::regtype) END) AS made(argument) ON true
  WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a') AND proname = ANY ($1)
    AND NOT proargtypes::regtype[] && ARRAY['internal', 'cstring']::regtype[]
  GROUP BY pg_proc.oid, proname`;

/** What a session keeps, by names of EFFECT. */
const kinds = ['set', 'prepare', 'listen', 'temp', 'hold_cursor', 'advisory_lock', 'sequence'] as const;
type SessionState = Record<(typeof kinds)[number], string | null>;

async function sessionState(client: Client): Promise<SessionState> {
  const { rows } = await client.query<SessionState>(`
    SELECT
      (SELECT md5(string_agg(name || '=' || setting, ',' ORDER BY name)) FROM pg_settings
        WHERE name !~ '^(transaction_|auto_explain|seed)') || current_user || session_user
        || coalesce(current_setting('my.own', true), '') AS set,
      (SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements WHERE name NOT IN ('p1')) AS prepare,
      (SELECT string_agg(c, ',' ORDER BY c) FROM pg_listening_channels() c) AS listen,
      (SELECT string_agg(name, ',') FROM (
        SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
        UNION SELECT proname FROM pg_proc WHERE pronamespace = pg_my_temp_schema()) x (name)) AS temp,
      (SELECT string_agg(name, ',') FROM pg_cursors WHERE is_holdable) AS hold_cursor,
      (SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS advisory_lock`);
  const [state] = rows;
  assert.ok(state !== undefined);
  const sequence = await client.query<{ value: string }>('SELECT lastval()::text AS value').catch(refused);
  return { ...state, sequence: 'rows' in sequence ? (sequence.rows[0]?.value ?? null) : null };
}

/** Runs a text as one simple query, or with NULL parameters if it has some; feeds COPY FROM STDIN nothing. */
async function run(client: Client, sql: string): Promise<void> {
  const parameters = new Set(sql.match(/\$\d+\b/g) ?? []);
  if (/^(PREPARE|EXECUTE)/.test(sql) || parameters.size === 0) await client.query(sql);
  else await client.query(sql, [...parameters].fill('1'));
}

/** An error of the server is an answer; anything else is not. */
function refused(error: unknown): DatabaseError {
  if (error instanceof DatabaseError) return error;
  throw error;
}
