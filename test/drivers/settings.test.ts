/** What clients set and leave behind, on a server connection that they share: each sees its own settings only. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { Client, type ClientConfig, DatabaseError } from 'pg';
import postgres from 'postgres';
import { errorOf, rowsOf } from '../client/backend.ts';
import { LoginError } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const MODES = ['transaction', 'session'] as const;
type Mode = (typeof MODES)[number];

let cluster: TestCluster;
/** Pools of one connection, by mode. */
const proxies = new Map<Mode, TestProxy>();
before(async () => {
  cluster = await startCluster();
  await cluster.sql(
    'CREATE SCHEMA one; CREATE SCHEMA "two, too"; GRANT USAGE ON SCHEMA one TO PUBLIC; GRANT bob TO alice',
  );
  await cluster.sql('CREATE SEQUENCE numbers; GRANT ALL ON SEQUENCE numbers TO PUBLIC');
  for (const mode of MODES) {
    proxies.set(
      mode,
      await TestProxy.start(cluster, {
        general: { connect_timeout: 5000 },
        pool: { pool_mode: mode },
        user: { pool_size: 1 },
        users: ['alice'],
      }),
    );
  }
});
after(async () => {
  for (const proxy of proxies.values()) await proxy.stop();
  await cluster?.stop();
});

function proxyIn(mode: Mode): TestProxy {
  const proxy = proxies.get(mode);
  assert.ok(proxy);
  return proxy;
}

/** A client that keeps the connection only as long as its mode needs: in session mode it leaves after its work. */
class Visitor {
  readonly #mode: Mode;
  readonly #config: ClientConfig;
  #client: Client | undefined;

  constructor(mode: Mode, config: ClientConfig = {}) {
    this.#mode = mode;
    this.#config = config;
  }

  async visit<Result>(work: (client: Client) => Promise<Result>): Promise<Result> {
    this.#client ??= await proxyIn(this.#mode).connect(this.#config);
    const result = await work(this.#client);
    if (this.#mode === 'session') await this.leave();
    return result;
  }

  async leave(): Promise<void> {
    await this.#client?.end();
    this.#client = undefined;
  }
}

async function show(client: Client, ...names: string[]): Promise<string[]> {
  const settings = names.map((_, i) => `current_setting($${i + 1})`);
  const { rows } = await client.query({ text: `SELECT ${settings}`, values: names, rowMode: 'array' });
  return rows[0];
}

const NAMES = ['search_path', 'statement_timeout', 'work_mem', 'TimeZone', 'DateStyle', 'application_name'];

/** Startup packets, and what a session that began with them shows. */
const WISHES: readonly (readonly [ClientConfig, string[]])[] = [
  [{ options: '-c search_path=one,public -c work_mem=5MB', statement_timeout: 5000 }, ['one,public', '5s', '5MB']],
  [{ options: '--search-path="two,\\ too" -cwork_mem=6MB' }, ['"two, too"', '0', '6MB']],
  [{}, ['"$user", public', '0', '4MB']],
  [
    { options: '-c TimeZone=America/New_York -c datestyle=German,DMY', application_name: `it's \\ "x"; ROLLBACK` },
    ['"$user", public', '0', '4MB', 'America/New_York', 'German, DMY', `it's \\ "x"; ROLLBACK`],
  ],
];

for (const mode of MODES) {
  suite(`settings of startup packets in ${mode} mode`, () => {
    test('clients with different ones take turns on one connection', async () => {
      const usual = ['UTC', 'ISO, MDY', ''];
      const visitors = WISHES.map(([config]) => new Visitor(mode, config));
      for (let round = 0; round < 5; round++) {
        for (const [i, [, expected]] of WISHES.entries()) {
          const whole = [...expected, ...usual.slice(expected.length - 3)];
          const names = expected.length > 3 ? NAMES : NAMES.slice(0, 5);
          assert.deepEqual(await visitors[i].visit(client => show(client, ...names)), whole.slice(0, names.length));
          const named = { name: 'wish', text: 'SELECT 1 AS n', values: [] };
          assert.deepEqual((await visitors[i].visit(client => client.query(named))).rows, [{ n: 1 }]);
        }
      }
      for (const visitor of visitors) await visitor.leave();
    });

    test('pg_stat_activity shows the application_name of the client that is served', async () => {
      for (const application_name of ['first', 'second', 'first']) {
        const visitor = new Visitor(mode, { application_name });
        await visitor.visit(client => client.query('SELECT 1'));
        const seen = await visitor.visit(client =>
          client.query('SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()'),
        );
        assert.deepEqual(seen.rows, [{ application_name }]);
        await visitor.leave();
      }
    });

    test('RESET, RESET ALL and DISCARD ALL return to them', async () => {
      const visitor = new Visitor(mode, { options: '-c search_path=one -c statement_timeout=7s' });
      for (const reset of ['RESET search_path; RESET statement_timeout', 'RESET ALL', 'DISCARD ALL']) {
        await visitor.visit(async client => {
          await client.query("SET search_path = public; SET statement_timeout = '9s'");
          if (mode === 'session')
            assert.deepEqual(await show(client, 'search_path', 'statement_timeout'), ['public', '9s']);
          for (const statement of reset.split(';')) await client.query(statement);
          assert.deepEqual(await show(client, 'search_path', 'statement_timeout'), ['one', '7s'], reset);
        });
      }
      await visitor.leave();
    });

    test('one that PostgreSQL refuses is refused with its words, and nothing is left of it', async () => {
      const refused = [
        '-c no_such_setting=1',
        '-c statement_timeout=soon',
        '-c work_mem=1',
        '-c TimeZone=Mars/Olympus',
        '-c role=nobody_at_all',
        '-c shared_buffers=1GB',
        '-c log_statement=all',
        '-c search_path="unterminated',
        'nonsense',
        '-c nothing',
      ];
      const answer = async (port: number, options: string) => {
        const client = new Client({ ...proxyIn(mode).config({ options }), port });
        const outcome = await client.connect().then(
          () => 'no error',
          (error: unknown) => error,
        );
        assert.ok(outcome instanceof DatabaseError, `${options}: ${outcome}`);
        return [options, outcome.code, outcome.severity];
      };
      for (const options of refused) {
        assert.deepEqual(await answer(proxyIn(mode).port, options), await answer(cluster.primary.port, options));
      }
      const blamed = proxyIn(mode).log.filter(({ reason }) => reason !== undefined);
      assert.deepEqual(blamed, [], 'a server is blamed for what a client asks');
      const visitor = new Visitor(mode);
      assert.deepEqual(await visitor.visit(client => show(client, 'statement_timeout', 'role')), ['0', 'none']);
      await visitor.leave();
    });

    test('postgres.js: settings of its option `connection`', async () => {
      const login = { host: '127.0.0.1', user: 'alice', password: PASSWORDS.alice, database: DATABASE, max: 1 };
      const connection = { search_path: 'one', statement_timeout: 1234, application_name: 'js' };
      const sql = postgres({ ...login, port: proxyIn(mode).port, connection });
      const names = ['search_path', 'statement_timeout', 'application_name'];
      const [row] = await sql`SELECT current_setting(${names[0]}) AS a, current_setting(${names[1]}) AS b,
        current_setting(${names[2]}) AS c`;
      assert.deepEqual(row, { a: 'one', b: '1234ms', c: 'js' });
      await sql.end();
    });
  });

  suite(`what a client leaves behind in ${mode} mode`, () => {
    /** What one client does, and what the next one asks to see nothing of it. */
    const LEFTOVERS: readonly (readonly [left: string, question: string, answer: unknown])[] = [
      ["SET statement_timeout = '1s'", "SELECT current_setting('statement_timeout') AS x", '0'],
      ['SET work_mem = 1024', "SELECT current_setting('work_mem') AS x", '4MB'],
      ['SET my.own = 1', "SELECT coalesce(current_setting('my.own', true), '') AS x", ''],
      ["SET TimeZone = 'Asia/Tokyo'", "SELECT current_setting('TimeZone') AS x", 'UTC'],
      ['SET search_path = one', "SELECT current_setting('search_path') AS x", '"$user", public'],
      ['SET default_transaction_read_only = on', "SELECT current_setting('transaction_read_only') AS x", 'off'],
      ["SET client_encoding = 'LATIN1'", "SELECT current_setting('client_encoding') AS x", 'UTF8'],
      ["SET application_name = 'left'", "SELECT current_setting('application_name') <> 'left' AS x", true],
      ['SET ROLE bob', 'SELECT current_user::text AS x', 'alice'],
      [
        'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
        "SELECT current_setting('transaction_read_only') AS x",
        'off',
      ],
      ["SELECT set_config('work_mem', '2MB', false)", "SELECT current_setting('work_mem') AS x", '4MB'],
      ["BEGIN; SET statement_timeout = '1s'; COMMIT", "SELECT current_setting('statement_timeout') AS x", '0'],
      ["BEGIN; SET TimeZone = 'Asia/Tokyo'; ROLLBACK", "SELECT current_setting('TimeZone') AS x", 'UTC'],
      ["BEGIN; SET LOCAL work_mem = '2MB'; COMMIT", "SELECT current_setting('work_mem') AS x", '4MB'],
      ['CREATE TEMP TABLE left_over (n int)', "SELECT to_regclass('left_over') AS x", null],
      ['SELECT 1 AS n INTO TEMP left_over', "SELECT to_regclass('left_over') AS x", null],
      ['CREATE TEMP SEQUENCE left_over', "SELECT to_regclass('left_over') AS x", null],
      ['LISTEN left_over', 'SELECT count(*)::int AS x FROM pg_listening_channels()', 0],
      ['PREPARE left_over AS SELECT 1', 'SELECT count(*)::int AS x FROM pg_prepared_statements WHERE from_sql', 0],
      [
        'BEGIN; DECLARE left_over CURSOR WITH HOLD FOR SELECT 1; COMMIT',
        "SELECT count(*)::int AS x FROM pg_cursors WHERE name = 'left_over'",
        0,
      ],
      [
        'SELECT pg_advisory_lock(42)',
        "SELECT count(*)::int AS x FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        0,
      ],
    ];
    for (const [left, question, answer] of LEFTOVERS) {
      test(left, async () => {
        for (const prepared of [false, true]) {
          if (prepared && left.includes('; ')) continue;
          const first = new Visitor(mode);
          const second = new Visitor(mode);
          await first.visit(client => client.query(prepared ? { name: 'left', text: left } : left));
          assert.deepEqual((await second.visit(client => client.query(question))).rows, [{ x: answer }]);
          await first.leave();
          await second.leave();
        }
      });
    }

    test('an open transaction, open cursors and unread results of a client that leaves', async () => {
      const first = await proxyIn(mode).connect();
      await first.query('BEGIN');
      await first.query('CREATE TABLE never (n int)');
      await first.query('DECLARE open CURSOR FOR SELECT generate_series(1, 1000)');
      await first.end();
      const second = new Visitor(mode);
      const { rows } = await second.visit(client =>
        client.query(
          "SELECT to_regclass('never') AS never, (SELECT count(*)::int FROM pg_cursors WHERE name = 'open') AS n",
        ),
      );
      assert.deepEqual(rows, [{ never: null, n: 0 }]);
      await second.leave();
    });

    test('the one connection is the same all along', async () => {
      const before = await cluster.activity();
      const visitor = new Visitor(mode);
      await visitor.visit(client =>
        client.query("SET TimeZone = 'Asia/Tokyo'; CREATE TEMP TABLE again (n int); LISTEN x"),
      );
      await visitor.leave();
      const pid = await new Visitor(mode).visit(client => client.query('SELECT pg_backend_pid() AS pid'));
      assert.ok(before.some(session => session.pid === pid.rows[0].pid));
    });
  });
}

suite('settings that follow a client in transaction mode', () => {
  test('what PostgreSQL reports of them is what the client gets next time, on any connection', async () => {
    const [first, second] = [await proxyIn('transaction').connect(), await proxyIn('transaction').connect()];
    const names = ['TimeZone', 'DateStyle', 'search_path', 'application_name'];
    await first.query("SET TimeZone = 'Asia/Tokyo'");
    await first.query('SET DateStyle = German');
    await first.query("SET search_path = one, 'two, too'");
    await first.query("SET application_name = 'me; here'");
    const usual = await show(second, ...names);
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await show(first, ...names), ['Asia/Tokyo', 'German, DMY', 'one, "two, too"', 'me; here']);
      assert.deepEqual(await show(second, ...names), usual);
    }
    await first.query('BEGIN');
    await first.query("SET TimeZone = 'Europe/Berlin'");
    await first.query('ROLLBACK');
    await second.query('SELECT 1');
    assert.deepEqual(await show(first, 'TimeZone'), ['Asia/Tokyo']);
    await first.query('RESET TimeZone');
    await second.query('SELECT 1');
    assert.deepEqual(await show(first, ...names), ['UTC', 'German, DMY', 'one, "two, too"', 'me; here']);
    await first.query("RESET ALL; SET DateStyle = SQL; SET TimeZone = 'Asia/Tokyo'");
    await second.query('SELECT 1');
    assert.deepEqual(await show(first, ...names), ['Asia/Tokyo', 'SQL, MDY', ...usual.slice(2)]);
    await first.end();
    await second.end();
  });

  test('a client in LATIN1 and a client in UTF8 each get their own bytes', async () => {
    const latin = await proxyIn('transaction').raw({ client_encoding: 'LATIN1' });
    const utf8 = await proxyIn('transaction').raw();
    assert.equal(latin.parameters.get('client_encoding'), 'LATIN1');
    for (let round = 0; round < 3; round++) {
      const bytes = async (client: typeof latin) =>
        (await client.query("SELECT U&'\\00FC'"))
          .find(({ type }) => type === 'D')
          ?.body.subarray(6)
          .toString('hex');
      assert.equal(await bytes(latin), 'fc');
      assert.equal(await bytes(utf8), 'c3bc');
    }
    const beyond = errorOf(await latin.query("SELECT U&'\\+01F600'"));
    assert.equal(beyond?.code, '22P05');
    assert.deepEqual(rowsOf(await latin.query('SHOW client_encoding')), [['LATIN1']]);
    await latin.close();
    await utf8.close();
  });

  test('a setting that a server connection refuses while it serves the client costs that client only', async () => {
    const proxy = proxyIn('transaction');
    await assert.rejects(proxy.raw({ options: '-c role=postgres' }), LoginError);
    const client = await proxy.connect({ options: '-c role=bob' });
    const name = async () => (await client.query('SELECT current_user::text AS name')).rows[0].name;
    assert.equal(await name(), 'bob');
    await cluster.sql('REVOKE bob FROM alice');
    const other = await proxy.connect();
    await other.query('SELECT 1');
    const outcome = await name().catch((error: unknown) => error);
    assert.ok(outcome instanceof Error, `the role was revoked, and yet the client works as ${outcome}`);
    await cluster.sql('GRANT bob TO alice');
    await eventually('the pool serves again', async () => (await other.query('SELECT 1 AS n')).rows[0].n === 1);
    await other.end();
    await client.end().catch(() => {});
  });
});
