/** How a client has to prove who it is: by a certificate, and by what auth_hba_file says for where it comes from. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { peerProgram } from '../../src/net/peer.ts';
import { decode, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { type Login, LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, TestProxy } from '../proxy/index.ts';
import { fixture, pem, SERVER, startTls } from '../tls/secure.ts';

const MD5 = 'AuthenticationMD5Password';
const SASL = 'AuthenticationSASL';
const OK = 'AuthenticationOk';
const TLS = { ...SERVER, tls_client_ca: fixture('ca.crt') };
const ALICE = { cert: pem('alice.crt'), key: pem('alice.key') };
const STRANGER = { cert: pem('stranger.crt'), key: pem('stranger.key') };

let cluster: TestCluster;
const folder = mkdtempSync(join(tmpdir(), 'pglynx-hba-'));
const path = join(folder, 'hba.conf');
before(async () => {
  cluster = await startCluster();
});
after(async () => {
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A proxy whose users and administrator log in by these lines. */
function start(...lines: string[]): Promise<TestProxy> {
  writeFileSync(path, lines.join('\n'));
  const general = {
    validate_config: false,
    ...TLS,
    auth_hba_file: path,
    unix_socket_dir: folder,
    admin_auth_type: 'hba',
  };
  const me = `[pools.${DATABASE}.users.me]\nusername = ${JSON.stringify(userInfo().username)}\npool_size = 1\nauth_type = "hba"`;
  const more = `${me}\nserver_username = "alice"\nserver_password = ${JSON.stringify(PASSWORDS.alice)}`;
  return TestProxy.start(cluster, { general, user: { auth_type: 'hba' }, more });
}

/** How a login begins when it succeeds; the SQLSTATE and message when it does not. */
async function outcome(opening: Promise<RawClient>, login: Partial<Login> = {}): Promise<string> {
  const client = await opening;
  const user = login.user ?? 'alice';
  const password = login.password ?? (user === 'bob' ? PASSWORDS.bob : PASSWORDS.alice);
  try {
    await client.login({ database: DATABASE, password, ...login, user });
    if ((login.database ?? DATABASE) === DATABASE) assert.equal(rowsOf(await client.query('SELECT 1')).length, 1);
    return decode(client.greeting[0]).name;
  } catch (thrown) {
    if (!(thrown instanceof LoginError)) throw thrown;
    return `${thrown.fields.code} ${thrown.fields.message}`;
  } finally {
    await client.close();
  }
}

suite('auth_hba_file', () => {
  test('has its first line that fits decide, for users, addresses and databases', async () => {
    await using proxy = await start(
      `host ${DATABASE} alice 127.0.0.0/8 scram-sha-256`,
      `host ${DATABASE} alice all trust`,
      'host all bob 127.0.0.1 255.255.255.255 reject',
      `host pgcat ${ADMIN.user} samehost md5`,
      'host all stranger all trust',
    );
    const open = () => RawClient.open({ port: proxy.port });
    assert.equal(await outcome(open()), SASL);
    assert.match(await outcome(open(), { password: 'wrong' }), /^28P01 /);
    assert.equal(
      await outcome(open(), { user: 'bob' }),
      `28000 a line of auth_hba_file rejects the connection from 127.0.0.1 of user "bob" to database "${DATABASE}", no encryption`,
    );
    assert.equal(
      await outcome(open(), { database: 'pgbouncer', user: ADMIN.user }),
      `28000 auth_hba_file has no line for a connection from 127.0.0.1 of user "${ADMIN.user}" to database "pgbouncer", no encryption`,
    );
    assert.equal(await outcome(open(), { database: 'pgcat', ...ADMIN }), MD5);
    assert.match(await outcome(open(), { user: 'stranger' }), /^3D000 /, 'whom it trusts needs a pool all the same');
    assert.match(await outcome(open(), { user: 'nobody' }), /^28000 .* no line/);
  });

  test('lets nobody into the admin database whom the file does not name', async () => {
    await using proxy = await start('host pgcat all all trust');
    const open = () => RawClient.open({ port: proxy.port });
    assert.equal(await outcome(open(), { database: 'pgcat', user: ADMIN.user }), OK);
    assert.match(await outcome(open(), { database: 'pgcat', user: 'alice' }), /^28P01 /);
  });

  test('tells encrypted connections from others, and Unix sockets', async () => {
    await using proxy = await start(
      'hostssl all all all scram-sha-256',
      'hostnossl all alice all md5',
      'local all alice trust',
    );
    assert.equal(await outcome(RawClient.open({ port: proxy.port })), MD5);
    assert.equal(await outcome(startTls(proxy.port)), SASL);
    assert.equal(await outcome(startTls(proxy.port), { user: 'bob' }), SASL);
    assert.match(await outcome(RawClient.open({ port: proxy.port }), { user: 'bob' }), /^28000 .*no encryption$/);
    assert.equal(await outcome(RawClient.open({ port: proxy.port, host: folder })), OK);
    assert.match(
      await outcome(RawClient.open({ port: proxy.port, host: folder }), { user: 'bob' }),
      /^28000 .*a Unix socket/,
    );
  });

  test('takes nobody who is gone already for a client of the Unix socket', async () => {
    await using proxy = await start('local all all trust');
    const login = frontend.startup({ user: 'alice', database: DATABASE });
    const bytes = Buffer.concat([login, frontend.query('CREATE TABLE let_in ()')]).toString('hex');
    const client = `const socket = require('node:net').connect(${proxy.port}, '127.0.0.1');
      socket.on('connect', () => socket.write(Buffer.from('${bytes}', 'hex'), () => socket.resetAndDestroy()));`;
    // This process accepts nobody meanwhile.
    for (let round = 0; round < 3; round++) spawnSync(process.execPath, ['-e', client], { timeout: 10_000 });
    assert.match(await outcome(RawClient.open({ port: proxy.port })), /^28000 .* no line/);
    await sleep(50);
    assert.deepEqual(
      proxy.log.filter(({ msg }) => /^Client connected|server connection/.test(String(msg))),
      [],
    );
    assert.deepEqual(await cluster.sql("SELECT FROM pg_class WHERE relname = 'let_in'"), []);
  });

  test('asks for certificates: alone, and beside a password', async () => {
    await using proxy = await start(
      `hostssl ${DATABASE} alice all cert`,
      `hostssl ${DATABASE} bob all scram-sha-256 clientcert=verify-ca`,
      `hostssl pgcat ${ADMIN.user} all trust clientcert=verify-full`,
    );
    const { port } = proxy;
    assert.equal(await outcome(startTls(port, ALICE)), OK);
    assert.match(await outcome(startTls(port)), /^28000 connection requires a valid client certificate/);
    assert.equal(await outcome(startTls(port, ALICE), { user: 'bob' }), SASL);
    assert.match(await outcome(startTls(port, ALICE), { user: 'bob', password: 'wrong' }), /^28P01 /);
    assert.match(await outcome(startTls(port), { user: 'bob' }), /^28000 connection requires/);
    const admin = { database: 'pgcat', user: ADMIN.user };
    assert.match(await outcome(startTls(port, ALICE), admin), /^28000 certificate authentication failed for user/);
    assert.match(await outcome(RawClient.open({ port })), /^28000 .* no line/);
  });

  const unable = peerProgram() === undefined && 'neither perl nor python3 is here to ask with';
  test('knows the user at the other end of a Unix socket', { skip: unable }, async () => {
    await using proxy = await start('local all all peer');
    const open = () => RawClient.open({ port: proxy.port, host: folder });
    assert.equal(await outcome(open(), { user: userInfo().username }), OK);
    assert.match(await outcome(open()), /^28000 Peer authentication failed for user "alice"/);
    assert.match(await outcome(open(), { user: 'stranger' }), /^28000 Peer authentication failed/);
  });

  test('is read again by a reload, or the old one stays when it is wrong', async () => {
    await using proxy = await start('host all all all scram-sha-256');
    const open = () => RawClient.open({ port: proxy.port });
    writeFileSync(path, 'host all all all md5');
    assert.deepEqual(await proxy.proxy.reload(), [path]);
    assert.equal(await outcome(open()), MD5);
    writeFileSync(path, 'host all all all nonsense');
    await assert.rejects(proxy.proxy.reload(), /hba.conf:1: has the method nonsense, which is not supported/);
    assert.equal(await outcome(open()), MD5);
  });
});

suite('auth_type = "cert"', () => {
  test('takes a certificate in the name of the user, and no other', async () => {
    const cert = { auth_type: 'cert' };
    await using proxy = await TestProxy.start(cluster, { general: { ...TLS, admin_auth_type: 'cert' }, user: cert });
    const { port } = proxy;
    assert.equal(await outcome(startTls(port, ALICE)), OK);
    assert.match(await outcome(startTls(port, ALICE), { user: 'bob' }), /^28000 certificate authentication failed/);
    assert.match(
      await outcome(startTls(port, ALICE), { user: 'stranger' }),
      /^28000 certificate authentication failed/,
    );
    assert.match(await outcome(startTls(port)), /^28000 connection requires a valid client certificate/);
    assert.match(await outcome(RawClient.open({ port })), /^28000 connection requires a valid client certificate/);
    assert.match(await outcome(startTls(port, STRANGER)), /certificate/);
    assert.match(await outcome(startTls(port, ALICE), { database: 'pgcat' }), /^28P01 /, 'alice is no administrator');
  });
});
