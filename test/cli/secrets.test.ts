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
/** No part of a key's name. */
const OPERATOR = 'operator secret 55';
const QUERY = 'query secret 99';
/** A pool whose passwords are on the server. */
const QUERIED = 'queried';

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

  /** A pool that fetches what it needs to know of alice and carol. */
  function queried(query: string): string {
    const { host, port } = cluster.primary;
    return `
[pools.${QUERIED}]
auth_query = "${query}"
auth_query_user = "postgres"
auth_query_password = "${QUERY}"
users.0 = { username = "alice", pool_size = 2, auth_type = "scram-sha-256" }
users.1 = { username = "carol", pool_size = 2, auth_type = "md5" }
shards.0 = { database = "${DATABASE}", servers = [["${host}", ${port}, "primary"]] }
`;
  }

  function textWith(changes: Partial<Record<User, string>> = {}, more = ''): string {
    const text = configText(cluster, {
      general: {
        stats_username: 'watcher',
        stats_password: STATS,
        admin_password: OPERATOR,
        log_min_duration_statement: 0,
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
    const plain = [...Object.values(PASSWORDS), OPERATOR, WRONG, FRESH, STATS, QUERY];
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
    const query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = '$1'";
    writeFileSync(file, textWith({}, queried(query)));
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
    for (const user of ['alice', 'carol'] as const) {
      await session(port, user, PASSWORDS[user], statements, QUERIED);
      await session(port, user, WRONG, [], QUERIED);
    }
    await session(port, 'stranger', WRONG, []);
    await session(port, 'stranger', WRONG, [], QUERIED);
    const commands = ['SHOW CONFIG', 'SHOW USERS', 'RELOAD', `SET admin_password = '${FRESH}'`, `SHOW '${FRESH}'`];
    for (const [user, password] of [
      [ADMIN.user, OPERATOR],
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
    await reload(
      textWith({}, queried("SELECT rolname, rolpassword FROM absent WHERE rolname = '$1'")),
      'Config changed',
    );
    await session(port, 'alice', PASSWORDS.alice, statements, QUERIED);
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
      'Slow statement',
      'Login failed',
      'password authentication failed',
    ]) {
      assert.ok(
        lines.some(line => line.includes(needed)),
        needed,
      );
    }
    for (const user of ['alice', 'carol']) {
      const came = `"database":"${QUERIED}","user":"${user}"`;
      assert.ok(
        lines.some(line => line.includes(came) && line.includes('Client connected')),
        came,
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
