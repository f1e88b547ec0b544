/** What the security history tells of logins through auth_query, of encryption, and of those who may look into the admin database. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, suite, test } from 'node:test';
import fc from 'fast-check';
import { TABLES } from '../../src/admin/show.ts';
import { VERBS } from '../../src/admin/verbs.ts';
import { loadConfig } from '../../src/config/load.ts';
import { decode, errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, type TestCluster } from '../cluster/index.ts';
import { ASKER, ASKING, asked, isRefused, startAskedCluster, whoAmI } from '../login/asker.ts';
import { ADMIN, TestProxy } from '../proxy/index.ts';
import { SERVER, startTlsSocket } from '../tls/secure.ts';
import * as arbitrary from './arbitrary.ts';

const STATS = { user: 'stats_user', password: 'stats pass', database: 'pgcat' } as const;
/** Whoever the file does not list is asked about, and so are databases that it does not list. */
const ANYBODY = `[pools.${DATABASE}.users."*"]
username = "*"
pool_size = 3
[pools."*".users."*"]
username = "*"
pool_size = 3
[pools."*".shards.0]
database = "*"
servers = `;
const OPEN = `[pools.${DATABASE}.users.open]
username = "open"
auth_type = "trust"
server_username = "alice"
server_password = ${JSON.stringify(PASSWORDS.alice)}
pool_size = 2
`;

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startAskedCluster();
  await cluster.sql('CREATE TABLE public.kept (line text); GRANT ALL ON public.kept TO PUBLIC');
  proxy = await start({});
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});
beforeEach(() => cluster.sql('TRUNCATE public.asked'));

function start(general: Readonly<Record<string, string | number>>): Promise<TestProxy> {
  return TestProxy.start(cluster, {
    users: [],
    general: {
      ...ASKING,
      ...SERVER,
      auth_query_ttl: 0,
      login_failure_limit: 0,
      stats_username: STATS.user,
      stats_password: STATS.password,
      ...general,
    },
    more: `${OPEN}${ANYBODY}[["127.0.0.1", ${cluster.primary.port}, "primary"]]`,
  });
}

suite('a user whom the file does not list', () => {
  test('CVE-2012-4575: asks for a database whose name is too long', async () => {
    for (const length of [63, 64, 128, 1000, 9000]) {
      const database = 'd'.repeat(length);
      for (const password of [PASSWORDS.alice, 'wrong']) {
        await assert.rejects(proxy.connect({ user: 'alice', database, password }));
      }
    }
    assert.deepEqual(await whoAmI(proxy, { user: 'alice' }), { user: 'alice', database: DATABASE });
  });

  test('CVE-2015-6817: is let in as the user of auth_query', async () => {
    const passwords = [ASKER.password, ' ', 'stranger', PASSWORDS.alice];
    for (const password of passwords) {
      await isRefused(proxy, { user: 'stranger', password });
      await isRefused(proxy, { user: 'stranger', password, database: 'postgres' });
    }
    // What is asked about nobody may fail, or return nothing or somebody.
    for (const query of [
      "SELECT usename, passwd FROM pg_shadow WHERE usename = coalesce(nullif('$1', 'stranger'), current_user)",
      "SELECT '$1', passwd FROM pg_shadow WHERE usename = current_user AND '$1' = ''",
      "SELECT '$1', NULL",
      "SELECT '$1', ''",
      "SELECT 1 / 0, '$1'",
    ]) {
      await using other = await start({ auth_query: query });
      for (const password of passwords) await isRefused(other, { user: 'stranger', password });
    }
    const sessions = await cluster.activity();
    assert.ok(sessions.every(({ usename }) => usename !== 'stranger'));
  });

  test('no CVE, odyssey: has a name that is SQL', async () => {
    const user = fc.oneof(
      arbitrary.name,
      fc
        .array(
          fc.constantFrom(
            "'",
            '"',
            '\\',
            ';',
            '--',
            '$1',
            ' ',
            'alice',
            'OR',
            '=',
            '/*',
            '*/',
            '$$',
            '\n',
            'é',
            '\u{1F600}',
          ),
          { minLength: 1, maxLength: 10 },
        )
        .map(parts => parts.join('')),
      fc.constantFrom(
        `'; INSERT INTO public.kept VALUES ('x'); --`,
        `alice' OR 'a' = 'a`,
        'a'.repeat(128),
        `alice${' '.repeat(80)}`,
      ),
    );
    // Strangers are treated as those who have been let in.
    assert.deepEqual(await whoAmI(proxy, { user: 'alice' }), { user: 'alice', database: DATABASE });
    await fc.assert(
      fc.asyncProperty(user, async user => {
        fc.pre(user !== '' && !user.includes('\0') && user !== 'open' && user.isWellFormed());
        await cluster.sql('TRUNCATE public.asked');
        await assert.rejects(proxy.connect({ user, password: 'wrong' }), { code: '28P01' });
        const expected = Buffer.byteLength(user) <= 63 ? [user] : [];
        assert.deepEqual(await asked(cluster), expected);
      }),
      { numRuns: 60 },
    );
    assert.deepEqual(await cluster.sql('SELECT * FROM public.kept'), []);
  });
});

suite('auth_query', () => {
  test('CVE-2025-12819: runs with the search_path of the client', async () => {
    await cluster.sql('CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC');
    await cluster.sql(
      "CREATE VIEW evil.pg_shadow AS SELECT 'carol'::name AS usename, 'md5' || md5('evilcarol') AS passwd",
    );
    await cluster.sql('GRANT SELECT ON evil.pg_shadow TO PUBLIC');
    const query = 'SELECT usename, passwd FROM pg_shadow WHERE usename = ';
    // With that path the query does what the attacker wants.
    const trap = await cluster.sql(`SELECT set_config('search_path', 'evil, pg_catalog', false)`);
    assert.equal(trap.length, 1);
    const [row] = await cluster.sql<{ passwd: string }>(`${query}'carol'`);
    await cluster.sql('RESET search_path');
    const [truth] = await cluster.sql<{ passwd: string }>(`${query}'carol'`);
    assert.notEqual(row?.passwd, truth?.passwd);

    await using victim = await start({ auth_query: `${query}'$1'` });
    const path = 'evil, pg_catalog';
    const startups: Record<string, string>[] = [
      { search_path: path },
      { options: '-c search_path=evil,pg_catalog' },
      { options: '--search-path=evil,pg_catalog' },
      { SEARCH_PATH: path },
      { search_path: path, role: ASKER.name, session_authorization: ASKER.name },
    ];
    for (const parameters of startups) {
      const login = { port: victim.port, user: 'carol', database: DATABASE, parameters };
      const failed = await RawClient.connect({ ...login, password: 'evil' }).catch((error: unknown) => error);
      assert.ok(failed instanceof LoginError && failed.fields.code === '28P01', String(failed));
    }
    for (const pool_user of ['open', 'alice']) {
      const client = await victim.connect({
        user: pool_user,
        password: PASSWORDS.alice,
        options: `-c search_path=evil,pg_catalog`,
      });
      await client.query(`SET search_path TO ${path}`);
      await client.query('BEGIN');
      await isRefused(victim, { user: 'carol', password: 'evil' });
      await client.query('COMMIT');
      await client.end();
    }
    assert.deepEqual(await whoAmI(victim, { user: 'carol' }), { user: 'carol', database: DATABASE });
  });

  test('CVE-2025-2291: lets in whose password is no longer valid', async () => {
    const query = `SELECT usename, CASE WHEN valuntil < now() THEN NULL ELSE passwd END FROM pg_shadow WHERE usename = '$1'`;
    await using checking = await start({ auth_query: query });
    assert.deepEqual(await whoAmI(checking, { user: 'carol' }), { user: 'carol', database: DATABASE });
    await cluster.sql(`ALTER ROLE carol VALID UNTIL '2020-01-01'`);
    await isRefused(checking, { user: 'carol' });
    await cluster.sql(`ALTER ROLE carol VALID UNTIL 'infinity'`);
    assert.deepEqual(await whoAmI(checking, { user: 'carol' }), { user: 'carol', database: DATABASE });
    const warnings = (of: TestProxy) => loadConfig(of.path).warnings.filter(text => text.includes('valuntil'));
    assert.deepEqual(warnings(checking), []);
    await using careless = await start({ auth_query: "SELECT usename, passwd FROM pg_shadow WHERE usename = '$1'" });
    assert.equal(warnings(careless).length, 1, 'whoever writes a query that forgets is told');
  });

  test('users are guessed by the iterations of SCRAM', async () => {
    await cluster.sql(`SET scram_iterations = 7000; CREATE ROLE erin LOGIN PASSWORD 'erin'; RESET scram_iterations`);
    const shown = async (user: string) => {
      const attacker = await RawClient.open(proxy);
      const first = arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abcdefgh');
      attacker.send(frontend.startup({ user, database: DATABASE }), first);
      const [, reply] = [await attacker.message(), decode(await attacker.message())];
      attacker.destroy();
      assert.ok(reply.name === 'AuthenticationSASLContinue');
      return String(reply.data)
        .split(',')
        .map((part, index) => (index < 2 ? part.length : part));
    };
    const known = await shown('erin');
    assert.equal(known[2], 'i=7000');
    assert.deepEqual(await shown('nobody'), known);
    assert.deepEqual(await shown('stranger'), known);
    await cluster.sql('DROP ROLE erin');
  });
});

suite('encryption', () => {
  const smuggled = frontend.query('INSERT INTO public.kept VALUES (1)');
  const login = frontend.startup({ user: 'open', database: DATABASE });

  test('CVE-2021-3935, CVE-2021-43766, CVE-2021-23214: what came before the handshake counts as said inside it', async () => {
    const early = fc.oneof(
      fc.constantFrom(
        login,
        Buffer.concat([login, smuggled]),
        frontend.password('x'),
        Buffer.from([0]),
        frontend.gssRequest(),
      ),
      fc.uint8Array({ minLength: 1, maxLength: 30 }).map(Buffer.from),
    );
    await fc.assert(
      fc.asyncProperty(early, fc.boolean(), async (bytes, waits) => {
        const attacker = await RawClient.open(proxy);
        attacker.send(frontend.sslRequest(), ...(waits ? [] : [bytes]));
        if (waits) {
          assert.equal(String(await attacker.bytes(1)), 'S');
          attacker.send(bytes);
          attacker.end();
        }
        await eventually('the connection is closed', () => attacker.closed, 5000);
        const said = attacker.unread_bytes === 0 ? '' : String(await attacker.bytes(1));
        // Nothing at all, an alert of TLS, or an error: never a reply to what came early.
        assert.ok(said === '' || said === 'E' || said === '\x15', JSON.stringify(said));
        attacker.destroy();
      }),
      { numRuns: 30 },
    );
    assert.deepEqual(await cluster.sql('SELECT * FROM public.kept'), []);
    assert.equal((await cluster.activity()).filter(({ query }) => query.includes('kept')).length, 0);
  });

  test('CVE-2026-6479: is asked for again and again, inside and outside', async () => {
    const { sslRequest, gssRequest } = frontend;
    for (const requests of [
      [sslRequest()],
      [gssRequest()],
      [gssRequest(), sslRequest()],
      Array.from({ length: 500 }, sslRequest),
    ]) {
      const inside = RawClient.over(await startTlsSocket(proxy.port));
      inside.send(...requests, login);
      const error = errorOf(await inside.untilClosed());
      assert.equal(error?.severity, 'FATAL');
      await inside.close();
    }
    const outside = await RawClient.open(proxy);
    outside.send(gssRequest());
    assert.equal(String(await outside.bytes(1)), 'N');
    outside.send(gssRequest());
    assert.equal(errorOf(await outside.untilClosed())?.severity, 'FATAL');
    outside.destroy();
  });
});

suite('who may only look into the admin database', () => {
  /** What a command may look like: with arguments that it takes, with none, and dressed up as something else. */
  const spellings = (verb: string) => [
    verb,
    verb.toLowerCase(),
    ` ;; ${verb};`,
    `/* SHOW */ ${verb}`,
    `-- SHOW\n${verb}`,
    `${verb} ${DATABASE}`,
    `${verb} ${DATABASE}, open`,
    `${verb} 1`,
    `SHOW VERSION; ${verb}`,
    `${verb}; SHOW VERSION`,
  ];

  test('CVE-2026-6667: kills, pauses, reloads or changes anything', async () => {
    const honest = await proxy.connect({ user: 'open' });
    const stats = await proxy.connect(STATS);
    assert.ok(VERBS.has('KILL_CLIENT') && VERBS.size > 10, 'the table of commands is read');
    const before = await state();
    for (const verb of [...VERBS.keys(), 'SET ban_time = 1', 'SET pool_size TO 1']) {
      for (const text of spellings(verb)) {
        for (const query of [{ text }, { text, name: 'prepared' }]) {
          const failed = await stats.query(query).then(
            () => undefined,
            (error: unknown) => error,
          );
          assert.ok(failed instanceof Error, `${text} was done`);
        }
      }
    }
    for (const text of ['SELECT 1', 'SELECT pg_terminate_backend(1)', `COPY kept FROM STDIN`, 'SHOW']) {
      await assert.rejects(stats.query(text), text);
    }
    assert.deepEqual(await state(), before);
    assert.deepEqual((await honest.query('SELECT 42 AS n')).rows, [{ n: 42 }]);
    for (const name of TABLES.keys()) await stats.query(`SHOW ${name}`);
    await stats.end();
    await honest.end();
  });

  /** What commands would have changed. */
  async function state(): Promise<unknown> {
    const admin = await proxy.admin();
    const [config, databases, bans] = [
      await admin.query('SHOW CONFIG'),
      await admin.query('SHOW DATABASES'),
      await admin.query('SHOW BANS'),
    ];
    await admin.end();
    const settings = databases.rows.map(({ name, pool_size, paused, disabled }) => ({
      name,
      pool_size,
      paused,
      disabled,
    }));
    return [config.rows, settings, bans.rows];
  }

  test('CVE-2026-6667: with another spelling of its name, or by another way in, is more', async () => {
    for (const user of ['STATS_USER', 'stats_user ', ' stats_user', `${ADMIN.user} `, ADMIN.user.toUpperCase()]) {
      await assert.rejects(proxy.connect({ ...STATS, user }), { code: '28P01' }, user);
      await assert.rejects(proxy.connect({ ...STATS, user, password: ADMIN.password }), { code: '28P01' }, user);
    }
    await assert.rejects(proxy.connect({ ...STATS, user: ADMIN.user }), { code: '28P01' });
    await assert.rejects(proxy.connect({ ...STATS, database: DATABASE }), { code: '28P01' });
    const client = await RawClient.open(proxy);
    client.send(frontend.startup({ user: STATS.user, database: 'pgcat', options: `-c role=${ADMIN.user}` }));
    assert.equal(decode(await client.message()).name, 'AuthenticationMD5Password');
    client.destroy();
  });

  test('a flood of RELOAD keeps nobody waiting', async () => {
    const admins = await Promise.all(Array.from({ length: 10 }, () => proxy.admin()));
    const reloads = admins.map(async admin => {
      for (let count = 0; count < 10; count++) await admin.query('RELOAD');
    });
    const honest = await RawClient.connect({ port: proxy.port, user: 'open', database: DATABASE });
    for (let count = 0; count < 20; count++) assert.deepEqual(rowsOf(await honest.query('SELECT 42')), [['42']]);
    await Promise.all(reloads);
    await honest.close();
    await Promise.all(admins.map(admin => admin.end()));
  });
});
