/** Users whose passwords are on the servers: auth_query, SCRAM passthrough, and hostile names. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ASKER_QUERY, ASKER_SQL } from '../../docs/logins.ts';
import { decode, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { ASKER, ASKING, asked, isRefused, startAskedCluster, whoAmI } from './asker.ts';

/** Longer than any test: what is known stays known. */
const LONG_MS = 3_600_000;

let cluster: TestCluster;
before(async () => {
  cluster = await startAskedCluster(1);
});
after(() => cluster?.stop());
beforeEach(() => cluster.sql('TRUNCATE public.asked'));

/** A proxy that knows no password but the asker's. */
function start(
  options: ProxyOptions & { readonly unlisted?: boolean; readonly query?: string } = {},
): Promise<TestProxy> {
  const { general, unlisted, query } = options;
  const users = unlisted ? ['*'] : ['alice', 'carol'];
  const sections = users.map(name => `[pools.${DATABASE}.users."${name}"]\nusername = "${name}"\npool_size = 3`);
  return TestProxy.start(cluster, {
    ...options,
    users: [],
    general: { ...ASKING, ...(query === undefined ? {} : { auth_query: query }), ...general },
    more: [...sections, options.more ?? ''].join('\n'),
  });
}

function causes(proxy: TestProxy): unknown[] {
  return proxy.log.filter(({ msg }) => String(msg).startsWith('auth_query')).map(({ cause }) => cause);
}

suite('auth_query', () => {
  test('lets users in by md5 hash and by SCRAM verifier, and to the servers, with no password in the file', async () => {
    await using proxy = await start();
    for (const [user, first] of [
      ['alice', 'AuthenticationSASL'],
      ['carol', 'AuthenticationMD5Password'],
    ] as const) {
      const client = await RawClient.connect({ port: proxy.port, user, database: DATABASE, password: PASSWORDS[user] });
      assert.equal(decode(client.greeting[0]).name, first);
      for (const role of ['primary', 'replica']) {
        await client.query(`SET SERVER ROLE TO ${role}`);
        const rows = rowsOf(await client.query('SELECT current_user, pg_is_in_recovery()'));
        assert.deepEqual(rows, [[user, role === 'replica' ? 't' : 'f']]);
      }
      await client.close();
      await isRefused(proxy, { user, password: 'wrong' });
      await isRefused(proxy, { user, password: ' ' });
    }
    assert.deepEqual(causes(proxy), []);
  });

  test('takes $1 with quotes around it, as PgCat does, and without', async () => {
    for (const query of [
      "SELECT usename, passwd FROM pg_shadow WHERE usename='$1'",
      'SELECT usename, passwd FROM pg_shadow WHERE usename = $1',
      "SELECT $1, (SELECT passwd FROM pg_catalog.pg_shadow WHERE usename = '$1')",
    ]) {
      await using proxy = await start({ query });
      assert.deepEqual(await whoAmI(proxy, { user: 'alice' }), { user: 'alice', database: DATABASE }, query);
    }
  });

  test('of the documentation lets in who may log in, until the password is over, and its role can do nothing else', async () => {
    for (const statement of ASKER_SQL.split('\n\n')) await cluster.sql(statement);
    const general = { auth_query_user: 'pglynx_auth', auth_query_password: 'change me', auth_query_ttl: 0 };
    await using proxy = await start({ unlisted: true, query: ASKER_QUERY, general });
    await cluster.sql("CREATE ROLE fay LOGIN PASSWORD 'fays'");
    const fay = { user: 'fay', password: 'fays' };
    await whoAmI(proxy, fay);
    await cluster.sql("ALTER ROLE fay VALID UNTIL '2001-01-01'");
    await isRefused(proxy, fay);
    await cluster.sql("ALTER ROLE fay VALID UNTIL 'infinity'");
    await whoAmI(proxy, fay);
    await cluster.sql('ALTER ROLE fay NOLOGIN');
    await isRefused(proxy, fay);
    const asker = await cluster.connect();
    await asker.query('SET ROLE pglynx_auth');
    await assert.rejects(asker.query('SELECT rolpassword FROM pg_authid'), /permission denied/);
    await asker.query('SET ROLE fay');
    await assert.rejects(asker.query("SELECT * FROM public.pglynx_password('alice')"), /permission denied/);
    await asker.end();
  });

  test('of a pool comes before that of [general]', async () => {
    const pool = { auth_query: 'SELECT usename, passwd FROM pg_shadow WHERE usename = $1' };
    await using proxy = await start({ query: 'SELECT nonsense $1', pool });
    await whoAmI(proxy, { user: 'alice' });
  });

  test('hears of a password that was changed on the server by the next login', async () => {
    await using proxy = await start({ general: { auth_query_ttl: 1 } });
    for (const [user, encryption] of [
      ['alice', 'scram-sha-256'],
      ['carol', 'md5'],
    ] as const) {
      await whoAmI(proxy, { user });
      const change = async (password: string) => {
        await cluster.sql(
          `BEGIN; SET LOCAL password_encryption = '${encryption}'; ALTER ROLE ${user} PASSWORD '${password.replaceAll("'", "''")}'; COMMIT`,
        );
        await sleep(2);
      };
      await change('the new one');
      assert.deepEqual(await whoAmI(proxy, { user, password: 'the new one' }), { user, database: DATABASE });
      await isRefused(proxy, { user });
      await change(PASSWORDS[user]);
      await whoAmI(proxy, { user });
    }
  });

  test('asks again when a login fails, so that what is remembered for long does not keep anybody out', async () => {
    await using proxy = await start({ general: { auth_query_ttl: LONG_MS } });
    await whoAmI(proxy, { user: 'carol' });
    await whoAmI(proxy, { user: 'carol' });
    assert.deepEqual(await asked(cluster), ['carol']);
    await cluster.sql(`SET password_encryption = 'md5'`);
    await cluster.sql(`ALTER ROLE carol PASSWORD 'the new one'`);
    await whoAmI(proxy, { user: 'carol', password: 'the new one' });
    assert.deepEqual(await asked(cluster), ['carol', 'carol']);
    await cluster.sql(`ALTER ROLE carol PASSWORD '${PASSWORDS.carol}'`);
    await cluster.sql('RESET password_encryption');
    // A SCRAM exchange cannot begin anew: the one after it is right.
    await whoAmI(proxy, { user: 'alice' });
    await cluster.sql(`ALTER ROLE alice PASSWORD 'the new one'`);
    await isRefused(proxy, { user: 'alice', password: 'the new one' });
    await whoAmI(proxy, { user: 'alice', password: 'the new one' });
    await cluster.sql(`ALTER ROLE alice PASSWORD '${PASSWORDS.alice.replaceAll("'", "''")}'`);
    await isRefused(proxy, { user: 'alice' });
    await whoAmI(proxy, { user: 'alice' });
  });

  test('is made once for a hundred logins at a time, whether they are right or wrong', async () => {
    await using proxy = await start({ general: { auth_query_ttl: LONG_MS } });
    const logins = Array.from({ length: 100 }, (_, at) => whoAmI(proxy, { user: at % 2 === 0 ? 'alice' : 'carol' }));
    const outcomes = new Set((await Promise.all(logins)).map(row => JSON.stringify(row)));
    assert.equal(outcomes.size, 2);
    assert.deepEqual(await asked(cluster), ['alice', 'carol']);
    const sessions = await cluster.activity();
    assert.ok(sessions.filter(({ usename }) => usename === ASKER.name).length <= 2);
  });

  test('that fails, or returns anything but one row, is told the operator; the client is told what it always is', async () => {
    for (const [query, cause] of [
      ['SELECT nonsense WHERE $1 = $1', /column "nonsense" does not exist/],
      ["SELECT usename, passwd FROM pg_shadow WHERE '$1' = 'nobody'", /^it returned no row$/],
      ["SELECT usename, passwd FROM pg_shadow WHERE '$1' <> ''", /^it returned several rows/],
      ['SELECT passwd FROM pg_shadow WHERE usename = $1', /^it returned 1 columns/],
      ["SELECT 'carol', passwd FROM pg_shadow WHERE usename = $1", /^it returned the row of another user$/],
      ['SELECT usename, NULL FROM pg_shadow WHERE usename = $1', /^it returned no password$/],
      [
        "SELECT passwd::integer, '$1' FROM pg_shadow WHERE usename = '$1'",
        /invalid input syntax for type integer: "\*\*\*/,
      ],
    ] as const) {
      await using proxy = await start({ query });
      await isRefused(proxy, { user: 'alice' });
      assert.equal(causes(proxy).length, 1, query);
      assert.match(String(causes(proxy)[0]), cause);
      assert.doesNotMatch(JSON.stringify(proxy.log), /SCRAM-SHA-256\$/);
    }
    await using mistaken = await start({ general: { auth_query_password: 'wrong', login_failure_limit: 1 } });
    // Whose password cannot be asked for has not failed to know it.
    for (let round = 0; round < 3; round++) await isRefused(mistaken, { user: 'alice' });
    assert.match(String(causes(mistaken)[0]), /password authentication failed for user "asker"/);
  });

  test('waits while its pool is paused, and goes on when it is resumed', async () => {
    await using proxy = await start({ general: { auth_query_ttl: 0 } });
    await whoAmI(proxy, { user: 'carol' });
    const admin = await proxy.admin();
    await admin.query(`PAUSE ${DATABASE}`);
    await eventually('its connection is gone', async () =>
      (await cluster.activity()).every(({ usename }) => usename !== ASKER.name),
    );
    const login = whoAmI(proxy, { user: 'carol' });
    await sleep(50);
    assert.deepEqual(await asked(cluster), ['carol']);
    await admin.query(`RESUME ${DATABASE}`);
    assert.deepEqual(await login, { user: 'carol', database: DATABASE });
    await admin.end();
  });

  test('goes on over reloads, and has no connection left when nobody needs it', async () => {
    await using proxy = await start({ general: { auth_query_ttl: 0 } });
    const file = readFileSync(proxy.path, 'utf8');
    const logins: Promise<unknown>[] = [];
    for (let round = 0; round < 20; round++) {
      proxy.rewrite(file.replace('SELECT * FROM public', `SELECT${' '.repeat(1 + (round % 2))}* FROM public`));
      await Promise.all([proxy.proxy.reload(), whoAmI(proxy, { user: 'carol' })]);
      logins.push(whoAmI(proxy, { user: 'alice' }));
    }
    await Promise.all(logins);
    const password = JSON.stringify(PASSWORDS.carol);
    const lines = file.split('\n').filter(line => !line.startsWith('auth_query'));
    proxy.rewrite(lines.join('\n').replaceAll('pool_size = 3', `pool_size = 3\npassword = ${password}`));
    await proxy.proxy.reload();
    await eventually('all its connections are gone', async () =>
      (await cluster.activity()).every(({ usename }) => usename !== ASKER.name),
    );
    await whoAmI(proxy, { user: 'carol' });
  });

  test('finds its connection again when the server has ended it', async () => {
    await using proxy = await start({ general: { auth_query_ttl: 0 } });
    await whoAmI(proxy, { user: 'carol' });
    await cluster.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${ASKER.name}'`);
    await whoAmI(proxy, { user: 'carol' });
  });

  test('has a connection that no client has a say in', async () => {
    await cluster.sql('CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC');
    await cluster.sql(`CREATE FUNCTION evil.whose(who text, OUT usename text, OUT passwd text) LANGUAGE sql AS
      $$ SELECT who, 'md5' || md5('evil' || who) $$`);
    await cluster.sql(`CREATE FUNCTION public.whose(who text, OUT usename text, OUT passwd text) LANGUAGE sql AS
      $$ SELECT * FROM public.lookup(who) $$`);
    await using proxy = await start({ query: "SELECT * FROM whose('$1')", general: { auth_query_ttl: 0 } });
    const options = '-c search_path=evil -c role=none -c statement_timeout=1234';
    await whoAmI(proxy, { user: 'carol', options });
    await isRefused(proxy, { user: 'carol', password: 'evil', options });
    const client = await proxy.connect({ user: 'carol', options });
    await client.query('SET search_path TO evil');
    await isRefused(proxy, { user: 'carol', password: 'evil' });
    await client.end();
  });

  test('keeps passwords and verifiers out of the log and out of SHOW', async () => {
    await using proxy = await start();
    await whoAmI(proxy, { user: 'alice' });
    await whoAmI(proxy, { user: 'carol' });
    await isRefused(proxy, { user: 'carol', password: 'a guess' });
    const admin = await proxy.admin();
    const shown = [JSON.stringify(proxy.log)];
    for (const what of ['CONFIG', 'DATABASES', 'POOLS', 'USERS', 'CLIENTS', 'SERVERS']) {
      shown.push(JSON.stringify((await admin.query(`SHOW ${what}`)).rows));
    }
    await admin.end();
    const secrets = [...Object.values(PASSWORDS), ASKER.password, 'a guess'];
    for (const text of shown) {
      assert.doesNotMatch(text, /SCRAM-SHA-256\$|md5[0-9a-f]{32}/);
      for (const secret of secrets) assert.ok(!text.includes(JSON.stringify(secret).slice(1, -1)), secret);
    }
  });
});

suite('hostile names', () => {
  const names = [
    "alice' OR 'a'='a",
    "'; DROP TABLE public.asked; --",
    "alice'--",
    "\\'; SELECT 1; --",
    'alice\\',
    '"alice"',
    '$1',
    '$$',
    '*',
    '%',
    'alice\nalice',
    '__proto__',
    'constructor',
    'a'.repeat(128),
    `alice${' '.repeat(60)}`,
    '\u{1F600}'.repeat(16),
    'x'.repeat(5000),
  ];

  test('find no password but their own, whether the file lists them or not', async () => {
    for (const unlisted of [true, false]) {
      await cluster.sql('TRUNCATE public.asked');
      await using proxy = await start({ unlisted, general: { login_failure_limit: 0 } });
      for (const user of names) await isRefused(proxy, { user, password: PASSWORDS.alice });
      const short = names.filter(name => Buffer.byteLength(name) <= 63);
      assert.deepEqual(await asked(cluster), short.toSorted(), 'nothing else was run');
      assert.deepEqual(await whoAmI(proxy, { user: 'alice' }), { user: 'alice', database: DATABASE });
    }
  });

  test('that PostgreSQL would cut off are nobody', async () => {
    const whole = 'n'.repeat(63);
    await cluster.sql(`CREATE ROLE ${whole} LOGIN PASSWORD 'long'`);
    await using proxy = await start({ unlisted: true });
    assert.deepEqual(await whoAmI(proxy, { user: whole, password: 'long' }), { user: whole, database: DATABASE });
    await isRefused(proxy, { user: `${whole}n`, password: 'long' });
    await isRefused(proxy, { user: `${whole}${'n'.repeat(65)}`, password: 'long' });
  });

  test('that are quoted, spaced or not ASCII work when there is such a user', async () => {
    await using proxy = await start({ unlisted: true });
    for (const user of ["o'brien", 'back\\slash', 'with "quotes"', ' spaces ', 'Gr\u00fc\u00dfe', '$1']) {
      await cluster.sql(`CREATE ROLE "${user.replaceAll('"', '""')}" LOGIN PASSWORD 'own'`);
      assert.deepEqual(await whoAmI(proxy, { user, password: 'own' }), { user, database: DATABASE });
    }
  });

  test('with a zero byte are another startup parameter, and break the packet', async () => {
    await using proxy = await start({ unlisted: true });
    const client = await RawClient.open({ port: proxy.port });
    client.send(frontend.startup({ user: `alice\0evil`, database: DATABASE }));
    const [said] = (await client.untilClosed()).map(decode);
    assert.ok(said?.name === 'ErrorResponse');
    assert.equal(said.fields.code, '08P01');
    client.destroy();
    await cluster.sql('SELECT 1');
    assert.deepEqual(await asked(cluster), []);
  });
});

suite('a SCRAM verifier in the file', () => {
  test('lets the client in, and with what it proved to servers that keep the same', async () => {
    const [{ passwd }] = await cluster.sql<{ passwd: string }>(`SELECT passwd FROM pg_shadow WHERE usename = 'alice'`);
    const more = `[pools.${DATABASE}.users.a]\nusername = "alice"\npassword = "${passwd}"\npool_size = 2\nmin_pool_size = 1`;
    await using proxy = await TestProxy.start(cluster, { users: [], more, pool: { query_parser_enabled: true } });
    await sleep(100);
    assert.deepEqual(
      proxy.log.filter(({ level }) => Number(level) > 30),
      [],
      'no server is asked before there is anything to log in with',
    );
    assert.deepEqual(await whoAmI(proxy, { user: 'alice' }), { user: 'alice', database: DATABASE });
    await isRefused(proxy, { user: 'alice', password: 'wrong' });
    assert.doesNotMatch(JSON.stringify(proxy.log), /SCRAM-SHA-256\$/);
    // What one client has proved serves others, and lasts over a reload that changes the pool.
    const client = await proxy.connect({ user: 'alice' });
    await cluster.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'`);
    const text = readFileSync(proxy.path, 'utf8');
    proxy.rewrite(text.replace('pool_size = 2', 'pool_size = 3'));
    await proxy.proxy.reload();
    await eventually('the client is served again', () =>
      client.query('SELECT 1').then(
        () => true,
        () => false,
      ),
    );
    await client.end();
  });

  test('that differs from the servers’ one lets the client in, and the error says why there is no connection', async () => {
    await cluster.sql(`CREATE ROLE erin LOGIN PASSWORD 'erins'`);
    const [{ passwd }] = await cluster.sql<{ passwd: string }>(`SELECT passwd FROM pg_shadow WHERE usename = 'erin'`);
    await cluster.sql(`ALTER ROLE erin PASSWORD 'erins'`);
    const more = `[pools.${DATABASE}.users.e]\nusername = "erin"\npassword = "${passwd}"\npool_size = 2`;
    await using proxy = await TestProxy.start(cluster, { users: [], more });
    await assert.rejects(proxy.connect({ user: 'erin', password: 'erins' }), {
      message: /the server's SCRAM verifier has another salt or iteration count than the one that the client proved/,
    });
  });
});
