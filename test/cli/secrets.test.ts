/** No password, hash or key of one is ever logged, at any level, whatever clients, servers and operators do. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Client } from 'pg';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, configText } from '../proxy/index.ts';
import { Command } from './command.ts';

const AUTH_TYPES = { alice: 'scram-sha-256', bob: 'md5', carol: 'scram-sha-256', dave: 'trust' } as const;
type User = keyof typeof PASSWORDS;
const USERS: readonly User[] = ['alice', 'bob', 'carol', 'dave'];
const WRONG = 'wrong but close';
const FRESH = 'fresh for mallory';
const STATS = 'stats secret 77';

suite('secrets', () => {
  let cluster: TestCluster;
  let folder: string;
  before(async () => {
    cluster = await startCluster();
    folder = mkdtempSync(join(tmpdir(), 'pglynx-secrets-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await cluster.stop();
  });

  function textWith(changes: Partial<Record<User, string>> = {}, more = ''): string {
    const text = configText(cluster, {
      general: {
        stats_username: 'watcher',
        stats_password: STATS,
        log_client_connections: true,
        log_client_disconnections: true,
      },
      users: USERS,
      pool: { query_parser_enabled: true },
    });
    return USERS.reduce((text, user) => {
      const password = `password = ${JSON.stringify(PASSWORDS[user])}`;
      const changed = `password = ${JSON.stringify(changes[user] ?? PASSWORDS[user])}\nauth_type = "${AUTH_TYPES[user]}"`;
      return text.replace(password, changed);
    }, text + more);
  }

  /** Everything that could be somebody's secret, in every form it passes through. */
  async function secrets(): Promise<string[]> {
    const md5 = (user: string, password: string) =>
      createHash('md5')
        .update(password + user)
        .digest('hex');
    const plain = [...Object.values(PASSWORDS), ADMIN.password, WRONG, FRESH, STATS];
    const hashed = [...USERS, ADMIN.user].flatMap(user => plain.map(password => md5(user, password)));
    const rows = await cluster.sql<{ rolpassword: string }>(
      'SELECT rolpassword FROM pg_authid WHERE rolpassword <> $1',
      [''],
    );
    const verifiers = rows.flatMap(({ rolpassword }) => [rolpassword, ...rolpassword.split(/[$:]/).slice(-2)]);
    return [...plain, ...hashed, ...verifiers].map(secret => JSON.stringify(secret).slice(1, -1));
  }

  async function session(
    port: number,
    user: string,
    password: string,
    statements: readonly string[],
    database = DATABASE,
  ) {
    const client = new Client({ host: '127.0.0.1', port, user, password, database });
    client.on('error', () => {});
    try {
      await client.connect();
      for (const sql of statements) await client.query(sql).catch(() => {});
      await client.end();
    } catch {
      // A login that is refused leaves its line too.
    }
  }

  test('are in no line of a busy day', async () => {
    const file = join(folder, 'pgcat.toml');
    writeFileSync(file, textWith());
    await using pglynx = Command.pglynx('--log-level', 'trace', '--log-format', 'structured', file);
    const read = () => pglynx.output;
    const port = Number((await pglynx.printed(/"msg":"Running on 127\.0\.0\.1:(\d+)"/))[1]);
    const statements = [
      'SELECT 1',
      `ALTER ROLE alice PASSWORD '${PASSWORDS.alice.replaceAll("'", "''")}'`,
      `CREATE ROLE mallory PASSWORD '${FRESH}'`,
      `SELECT '${FRESH}' FROM absent`,
      `SELECT '${FRESH}`,
      `SET application_name = 'a'`,
      `SET SHARDING KEY TO '${FRESH}'`,
    ];
    for (const user of USERS) {
      await session(port, user, PASSWORDS[user], statements);
      await session(port, user, WRONG, []);
      await session(port, user, PASSWORDS[user], [], 'absent');
    }
    await session(port, 'stranger', WRONG, []);
    const commands = ['SHOW CONFIG', 'SHOW USERS', 'RELOAD', `SET admin_password = '${FRESH}'`, `SHOW '${FRESH}'`];
    for (const [user, password] of [
      [ADMIN.user, ADMIN.password],
      ['watcher', STATS],
      [ADMIN.user, WRONG],
    ] as const) {
      await session(port, user, password, commands, 'pgcat');
    }

    // Files with mistakes in the lines of passwords, then one whose passwords no server takes.
    const reload = async (text: string, word: string) => {
      const before = read().length;
      writeFileSync(file, text);
      pglynx.signal('SIGHUP');
      await eventually(word, () => read().slice(before).includes(word));
    };
    const pattern = /password = "alice's secret"/;
    for (const mistake of [
      `password = "${FRESH}`,
      `password = ${JSON.stringify(FRESH)} ${JSON.stringify(WRONG)}`,
      `password = [${JSON.stringify(FRESH)}]`,
      `passwort = ${JSON.stringify(FRESH)}`,
      `password = "alice's secret"\npool_mode = "sesion"`,
    ]) {
      await reload(
        textWith().replace(pattern, () => mistake),
        'reload changed nothing',
      );
    }
    await reload(textWith({ alice: WRONG, bob: FRESH, carol: WRONG, dave: WRONG }), 'Config changed, reloading');
    await session(port, 'alice', WRONG, statements);
    await session(port, 'bob', FRESH, statements);
    await session(port, 'carol', WRONG, statements);
    await session(port, 'dave', '', statements);
    pglynx.signal('SIGTERM');
    assert.equal(await pglynx.ended, 0);

    const lines = `${read()}\n${pglynx.complaint}`.split('\n');
    for (const needed of [
      'Client connected',
      'Client disconnected',
      'Login failed',
      'password authentication failed',
    ]) {
      assert.ok(
        lines.some(line => line.includes(needed)),
        needed,
      );
    }
    for (const secret of await secrets()) {
      assert.deepEqual(
        lines.filter(line => line.includes(secret)),
        [],
        `the log has ${secret}`,
      );
    }
  });
});
