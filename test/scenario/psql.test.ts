/** psql through pglynx prints what it prints on PostgreSQL itself. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, suite, type TestContext, test } from 'node:test';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { type Outcome, programFor, run } from './program.ts';

let cluster: TestCluster;
let transaction: TestProxy;
let session: TestProxy;
before(async () => {
  cluster = await startCluster();
  transaction = await TestProxy.start(cluster, { pool: { query_parser_enabled: true } });
  session = await TestProxy.start(cluster, { pool: { pool_mode: 'session' } });
  await cluster.sql(`CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL DEFAULT 'none', at timestamptz);
    CREATE INDEX by_name ON items (name); CREATE VIEW named AS SELECT name FROM items;
    COMMENT ON TABLE items IS 'things'; CREATE SEQUENCE numbers; CREATE SCHEMA other;
    CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'; CREATE TYPE mood AS ENUM ('good', 'bad');
    GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT USAGE ON SCHEMA other TO PUBLIC`);
});
after(async () => {
  await transaction?.stop();
  await session?.stop();
  await cluster?.stop();
});

/** Plays `input` to psql straight on PostgreSQL and through pglynx, and returns what it prints everywhere. */
async function same(
  t: TestContext,
  input: string,
  args: readonly string[] = [],
  env = {},
): Promise<Outcome | undefined> {
  const psql = programFor(t, 'psql');
  if (psql === undefined) return undefined;
  const play = (port: number) => run(psql, ['-X', ...args], { port, env, input });
  const [straight, ...through] = [
    await play(cluster.primary.port),
    await play(transaction.port),
    await play(session.port),
  ].map(({ stdout, stderr, code }) => ({
    code,
    stdout: stdout.replaceAll(/port "\d+"/g, 'port "P"'),
    stderr: stderr.replaceAll(/port (")?\d+/g, 'port P'),
  }));
  assert.deepEqual(through[0], straight);
  assert.deepEqual(through[1], straight);
  return straight;
}

suite('psql', () => {
  test('prints results, errors and notices alike', async t => {
    const outcome = await same(
      t,
      `SELECT 1 AS one, NULL AS nothing, 'text' AS t;
       SELECT * FROM items;
       SELECT 1 / 0;
       SELECT nothing FROM items;
       SELECT 'unfinished;
       ';
       DROP TABLE IF EXISTS nowhere;
       DO $$ BEGIN RAISE WARNING 'careful' USING HINT = 'look', DETAIL = 'here'; END $$;
       SELECT 1 \\; SELECT 2 \\; SELECT 3 / 0 \\; SELECT 4;
       \\echo :ERROR :SQLSTATE :ROW_COUNT :LAST_ERROR_MESSAGE
       ;
       BEGIN; SELECT txid_current_if_assigned() IS NULL; SELECT bad; SELECT 1; COMMIT; SELECT 2;
       EXPLAIN (COSTS OFF) SELECT * FROM items WHERE id = 1;
       VALUES (1, 'a'), (2, 'b') \\g (format=unaligned tuples_only=on)
       SHOW TimeZone; SET TimeZone = 'Asia/Tokyo'; SHOW TimeZone; RESET TimeZone; SHOW TimeZone;\n`,
    );
    if (outcome === undefined) return;
    assert.match(outcome.stderr, /division by zero/);
    assert.match(outcome.stdout, /22012/);
  });

  test('-c with several statements, -1, ON_ERROR_STOP and exit codes', async t => {
    await same(t, '', ['-c', 'SELECT 1; SELECT 2']);
    await same(t, '', ['-c', 'SELECT 1', '-c', '\\conninfo', '-c', 'SELECT 1 / 0']);
    const outcome = await same(t, 'SELECT 1; SELECT 1 / 0; SELECT 2;', ['-1', '-v', 'ON_ERROR_STOP=1']);
    if (outcome !== undefined) assert.equal(outcome.code, 3);
  });

  test('its meta-commands describe the database alike', async t => {
    const commands = [
      '\\d',
      '\\d+ items',
      '\\d named',
      '\\dt',
      '\\dn',
      '\\df',
      '\\dT mood',
      '\\du alice',
      '\\ds',
      '\\di',
    ];
    const more = ['\\sf twice', '\\sv named', '\\encoding', '\\drds', '\\dconfig TimeZone', '\\z items'];
    const outcome = await same(t, [...commands, ...more, '\\l bench', '\\dx', '\\dd', ''].join('\n'));
    if (outcome !== undefined) assert.match(outcome.stdout, /"by_name" btree \(name\)/);
  });

  test('\\gdesc, \\gset, \\gexec, \\crosstabview, \\if and FETCH_COUNT', async t => {
    const outcome = await same(
      t,
      `SELECT id, name, 1.5::numeric(3, 1) AS n FROM items \\gdesc
       SELECT nothing \\gdesc
       SELECT 41 + 1 AS answer \\gset
       \\echo :answer
       SELECT 'SELECT ' || i FROM generate_series(1, 3) AS i \\gexec
       SELECT a, b, a * b FROM generate_series(1, 2) AS a, generate_series(1, 2) AS b \\crosstabview
       \\if :{?answer} \\echo yes \\else \\echo no \\endif
       \\set FETCH_COUNT 10
       SELECT i FROM generate_series(1, 35) AS i;
       SELECT 10 / (5 - i) FROM generate_series(1, 10) AS i;
       SELECT 1;\n`.replaceAll(/^ +/gm, ''),
      ['-At'],
    );
    if (outcome !== undefined) assert.match(outcome.stdout, /^42$/m);
  });

  test('\\bind sends parameters (psql 16 and later)', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    const { stdout } = await run(psql, ['--version'], { port: 0 });
    if (Number(/(\d+)/.exec(stdout)?.[1]) < 16) {
      t.diagnostic(`this psql has no \\bind: ${stdout.trim()}; this test did NOT run`);
      t.skip('psql is older than 16');
      return;
    }
    await same(t, 'SELECT $1::int + $2::int AS sum \\bind 1 2 \\g\nSELECT $1::int \\bind x \\g\nSELECT 1;\n');
  });

  test('\\copy and COPY in and out, and their errors', async t => {
    const outcome = await same(
      t,
      `BEGIN;
\\copy items (id, name) FROM STDIN
1	one
2	two
\\.
COPY items (id, name) FROM STDIN WITH (DELIMITER ';', NULL 'nil');
3;three, or so
\\.
\\copy (SELECT * FROM items ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)
COPY items TO STDOUT;
ROLLBACK;
\\copy items (id, name) FROM STDIN
nonsense	x
\\.
\\copy nowhere FROM STDIN
1
\\.
SELECT count(*) FROM items;
\\copy items FROM '/no/such/file'
COPY items FROM '/no/such/file';
SELECT 'still here';
`,
    );
    if (outcome === undefined) return;
    assert.match(outcome.stdout, /3,"three, or so",/);
    assert.match(outcome.stderr, /invalid input syntax for type integer: "nonsense"/);
  });

  test('\\c connects again', async t => {
    await same(t, 'SELECT 1;\n\\c\nSELECT 2;\n\\c bench alice\nSELECT current_user;\n\\conninfo\n', ['-At']);
  });

  test('PGOPTIONS, PGAPPNAME, PGTZ, PGDATESTYLE and PGCLIENTENCODING', async t => {
    const settings = ['search_path', 'work_mem', 'application_name', 'TimeZone', 'DateStyle', 'client_encoding'];
    const outcome = await same(t, settings.map(name => `SHOW ${name};`).join('\n'), ['-At'], {
      PGOPTIONS: '-c search_path=other,public -c work_mem=5MB',
      PGAPPNAME: "o'clock",
      PGTZ: 'America/New_York',
      PGDATESTYLE: 'German',
      PGCLIENTENCODING: 'LATIN1',
    });
    if (outcome === undefined) return;
    assert.equal(outcome.stdout, "other,public\n5MB\no'clock\nAmerica/New_York\nGerman, DMY\nLATIN1\n");
    await same(t, 'SELECT 1;', [], { PGPASSWORD: 'wrong' });
  });

  test('a setting that PostgreSQL refuses ends the login with its words', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    for (const env of [{ PGOPTIONS: '-c no_such_setting=1' }, { PGTZ: 'Mars/Olympus' }]) {
      for (const { port } of [cluster.primary, transaction, session]) {
        const { code, stderr } = await run(psql, ['-X'], { port, env, input: 'SELECT 1;' });
        assert.equal(code, 2);
        assert.match(stderr, /FATAL: {2}(unrecognized configuration parameter "no_such|invalid value for .* "Mars)/);
      }
    }
  });

  test('Ctrl-C ends the statement, outside a transaction and inside', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    for (const input of ['SELECT pg_sleep(20);\n', 'BEGIN;\nSELECT pg_sleep(20);\n']) {
      for (const { port } of [cluster.primary, transaction, session]) {
        const running: ChildProcess[] = [];
        const outcome = run(psql, ['-X'], { port, input, onStart: child => running.push(child) });
        const asleep = async () =>
          (await cluster.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep'));
        await eventually('it sleeps', asleep);
        const interrupted_at = performance.now();
        running[0].kill('SIGINT');
        const { stderr, code } = await outcome;
        assert.ok(performance.now() - interrupted_at < 5000);
        assert.match(stderr, /^(Cancel request sent\n)?ERROR: {2}canceling statement due to user request\n$/);
        assert.equal(code, 3, 'the code of a script that was interrupted');
        await eventually('nothing sleeps', async () => !(await asleep()));
      }
    }
  });
});
