/** Servers behind encrypted connections: every mode of server_tls, what is refused, and what is never sent in the clear. */
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { chmod, chown, copyFile, stat } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { authentication } from '../../src/wire/backend.ts';
import { errorOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel } from '../client/raw.ts';
import { DATABASE, eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, type Servers, TestProxy } from '../proxy/index.ts';
import { der, fixture, startTlsSocket } from './secure.ts';

const CA = fixture('ca.crt');
const ALICE = { server_tls_certificate: fixture('alice.crt'), server_tls_private_key: fixture('alice.key') };

let cluster: TestCluster;
before(async () => {
  // Bob is let in encrypted and with a certificate only, and proves who he is as well.
  cluster = await startCluster({
    hba: ['hostssl all bob all scram-sha-256 clientcert=verify-ca', 'hostnossl all bob all reject'],
  });
});
after(async () => {
  await cluster?.stop();
});

/** Has PostgreSQL show this certificate from now on; none for no encryption at all. */
async function show(name: string | undefined): Promise<void> {
  const { data, port } = cluster.primary;
  const { uid, gid } = await stat(data);
  for (const [from, to] of [
    ['ca.crt', 'ca.crt'],
    [`${name ?? 'server'}.crt`, 'server.crt'],
    [`${name ?? 'server'}.key`, 'server.key'],
  ] as const) {
    const path = join(data, to);
    await copyFile(fixture(from), path);
    await chmod(path, 0o600);
    if (uid !== process.getuid?.()) await chown(path, uid, gid);
  }
  await cluster.sql(`ALTER SYSTEM SET ssl_ca_file = 'ca.crt'`);
  await cluster.sql(`ALTER SYSTEM SET ssl = ${name === undefined ? 'off' : 'on'}`);
  await cluster.sql('SELECT pg_reload_conf()');
  await eventually('PostgreSQL has read its settings', async () => {
    const socket = await startTlsSocket(port, {
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    }).catch(() => undefined);
    const shown = socket?.getPeerX509Certificate()?.raw;
    socket?.destroy();
    return isDeepStrictEqual(shown, name === undefined ? undefined : der(`${name}.crt`));
  });
}

/** How its connection to the server is encrypted, as PostgreSQL sees it: `plain`, or the version of TLS; or why there is none. */
async function outcome(options: ProxyOptions, servers: Servers = cluster, user = 'alice'): Promise<string> {
  await using proxy = await TestProxy.start(servers, { users: ['alice'], ...options });
  try {
    const client = await proxy.connect({ user });
    const { rows } = await client.query(
      "SELECT coalesce(version, 'plain') AS how FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    );
    const [connection] = [...proxy.proxy.clusters()].flatMap(({ pools }) => [...pools[0].connections]);
    assert.equal(connection.line.tls?.version ?? 'plain', rows[0].how);
    await client.end();
    return rows[0].how;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

suite('server_tls', () => {
  test('where the server has no TLS', async () => {
    await show(undefined);
    for (const server_tls of [false, 'disable', true, 'prefer']) {
      assert.equal(await outcome({ general: { server_tls } }), 'plain', String(server_tls));
    }
    for (const server_tls of ['require', 'verify-ca', 'verify-full']) {
      assert.match(await outcome({ pool: { server_tls } }), /the server does not offer TLS/, server_tls);
    }
    assert.match(
      await outcome({ general: { server_tls: true, verify_server_certificate: true } }),
      /the server does not offer TLS/,
    );
    assert.equal((await cluster.activity()).length, 0);
  });

  test('where it has, with a certificate that is right', async () => {
    await show('server');
    assert.equal(await outcome({ general: { server_tls: false } }), 'plain');
    for (const server_tls of [true, 'prefer', 'require', 'verify-ca', 'verify-full']) {
      const general = { server_tls_ca: CA, server_tls: 'disable' };
      assert.equal(await outcome({ general, pool: { server_tls } }), 'TLSv1.3', String(server_tls));
    }
    const named = { servers: [{ host: 'localhost', port: cluster.primary.port }] };
    assert.equal(await outcome({ general: { server_tls: 'verify-full', server_tls_ca: CA } }, named), 'TLSv1.3');
    const general = { server_tls: true, verify_server_certificate: true, server_tls_ca: CA };
    assert.equal(await outcome({ general }), 'TLSv1.3');
  });

  test('of an authority that is not known is taken by no mode that verifies', async () => {
    await show('server');
    for (const general of [
      { server_tls: 'verify-ca' },
      { server_tls: 'verify-full', server_tls_ca: fixture('stranger-ca.crt') },
      { server_tls: true, verify_server_certificate: true },
    ] as const) {
      assert.match(
        await outcome({ general }),
        /TLS with the server failed: self-signed certificate in certificate chain/,
      );
    }
    for (const server_tls of ['prefer', 'require']) {
      assert.equal(await outcome({ general: { server_tls, server_tls_ca: fixture('stranger-ca.crt') } }), 'TLSv1.3');
    }
  });

  test('for another name is taken by verify-ca, and not by verify-full', async () => {
    await show('elsewhere');
    const with_ca = (server_tls: string) => outcome({ general: { server_tls, server_tls_ca: CA } });
    assert.equal(await with_ca('require'), 'TLSv1.3');
    assert.equal(await with_ca('verify-ca'), 'TLSv1.3');
    assert.match(await with_ca('verify-full'), /TLS with the server failed: .*does not match certificate's altnames/);
  });

  test('that has expired is taken by no mode that verifies', async () => {
    await show('expired');
    const with_ca = (server_tls: string) => outcome({ general: { server_tls, server_tls_ca: CA } });
    assert.equal(await with_ca('require'), 'TLSv1.3');
    for (const mode of ['verify-ca', 'verify-full']) {
      assert.match(await with_ca(mode), /TLS with the server failed: certificate has expired/);
    }
  });

  test('with a certificate of its own, where the server asks for one', async () => {
    await show('server');
    const users = ['bob'] as const;
    const general = { server_tls: 'verify-full', server_tls_ca: CA };
    assert.match(await outcome({ general, users }, cluster, 'bob'), /requires a valid client certificate/);
    assert.equal(await outcome({ general, pool: ALICE, users }, cluster, 'bob'), 'TLSv1.3');
    assert.equal(await outcome({ general: { ...general, ...ALICE }, users }, cluster, 'bob'), 'TLSv1.3');
    const stranger = {
      server_tls_certificate: fixture('stranger.crt'),
      server_tls_private_key: fixture('stranger.key'),
    };
    assert.notEqual(await outcome({ general, pool: stranger, users }, cluster, 'bob'), 'TLSv1.3');
  });
});

suite('server_require_auth', () => {
  test('refuses a server that asks for something else, or for nothing', async () => {
    await show(undefined);
    const asks = (server_username: string, ...allowed: string[]) =>
      outcome({
        pool: { server_require_auth: allowed },
        user: { server_username, server_password: `${server_username} secret` },
      });
    assert.equal(await asks('carol', 'md5'), 'plain');
    assert.equal(await asks('carol', 'none', 'scram-sha-256', 'md5'), 'plain');
    assert.match(
      await asks('carol', 'scram-sha-256', 'none'),
      /allows scram-sha-256, none, and the server asks for md5/,
    );
    assert.equal(await asks('dave', 'password'), 'plain');
    assert.match(await asks('dave', 'scram-sha-256-plus', 'md5'), /and the server asks for password/);
    assert.equal(await asks('postgres', 'none'), 'plain');
    assert.match(await asks('postgres', 'scram-sha-256', 'password', 'md5'), /and the server asks for nothing/);
  });

  test('asks for channel binding, which PostgreSQL has over TLS only', async () => {
    await show('server');
    const pool = { server_require_auth: ['scram-sha-256-plus'] };
    for (const name of ['server', 'renewed']) {
      await show(name);
      assert.equal(await outcome({ pool, general: { server_tls: 'require' } }), 'TLSv1.3');
    }
    assert.match(await outcome({ pool }), /server_require_auth asks for channel binding/);
    assert.equal(
      await outcome({ pool: { server_require_auth: ['scram-sha-256'] }, general: { server_tls: true } }),
      'TLSv1.3',
    );
  });
});

/** Passes bytes on to PostgreSQL and keeps what each connection sent. */
async function recording(): Promise<{ readonly server: Server; readonly sent: Buffer[][]; readonly port: number }> {
  const sent: Buffer[][] = [];
  const server = createServer(near => {
    const own: Buffer[] = [];
    sent.push(own);
    const far = connect(cluster.primary.port, '127.0.0.1');
    near.on('data', chunk => void own.push(chunk));
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => {}).on('close', () => [near, far].map(s => s.destroy()));
  });
  const port = await listening(server);
  return { server, sent, port };
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>(resolve => server.unref().listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

suite('an encrypted connection', () => {
  test('has its statements canceled by requests that are encrypted, too', async () => {
    await show('server');
    const { server, sent, port } = await recording();
    for (const server_tls of ['prefer', 'verify-full']) {
      const servers = { servers: [{ host: '127.0.0.1', port }] };
      await using proxy = await TestProxy.start(servers, {
        users: ['alice'],
        general: { server_tls, server_tls_ca: CA },
      });
      await using client = await proxy.raw();
      client.send(frontend.query(`SELECT pg_sleep(30) /* ${server_tls} */`));
      await eventually('it runs', async () =>
        (await cluster.activity()).some(({ state, query }) => state === 'active' && query.includes(`/* ${server_tls}`)),
      );
      const before = sent.length;
      await cancel({ port: proxy.port }, client);
      assert.equal(errorOf(await client.ready())?.code, '57014');
      assert.equal(sent.length, before + 1);
    }
    server.close();
    const first = sent.map(chunks => Buffer.concat(chunks));
    assert.ok(first.length >= 4);
    for (const bytes of first) {
      assert.deepEqual(bytes.subarray(0, 8), frontend.sslRequest());
      assert.equal(bytes[8], 0x16);
    }
  });

  test('carries what is long both ways, and stops the client of a server that does not read', async () => {
    await show('server');
    await using proxy = await TestProxy.start(cluster, { users: ['alice'], general: { server_tls: 'require' } });
    const client = await proxy.connect();
    const long = 'äx'.repeat(2 ** 20);
    const { rows } = await client.query('SELECT $1::text AS long, length(repeat($1, 3)) AS n', [long]);
    assert.ok(rows[0].long === long && rows[0].n === long.length * 3);
    await client.end();
    const reader = await proxy.raw();
    reader.send(frontend.query("SELECT repeat('x', 1000) /* much */ FROM generate_series(1, 30000)"));
    reader.pause();
    await eventually('the server waits', async () => {
      const [row] = await cluster.sql(
        "SELECT wait_event FROM pg_stat_activity WHERE query LIKE '%/* much */%' AND pid <> pg_backend_pid()",
      );
      return row?.wait_event === 'ClientWrite';
    });
    reader.resume();
    assert.equal((await reader.ready()).filter(({ type }) => type === 'D').length, 30_000);
    await reader.close();
  });

  test('stays when a reload only reads other files, which count for the next one', async () => {
    await show('server');
    const ca = join(cluster.folder, 'proxy-ca.crt');
    copyFileSync(CA, ca);
    const general = { server_tls: 'verify-full', server_tls_ca: ca };
    await using proxy = await TestProxy.start(cluster, { users: ['alice'], general });
    const holder = await proxy.connect();
    await holder.query('BEGIN');
    copyFileSync(fixture('stranger-ca.crt'), ca);
    await proxy.proxy.reload();
    const { rows } = await holder.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
    assert.deepEqual(rows, [{ ssl: true }]);
    // Those that are there serve others, and the next one is not opened.
    const [pool] = [...proxy.proxy.clusters()].flatMap(({ pools }) => pools);
    const others = await Promise.all(Array.from({ length: pool.connections.size }, () => proxy.connect()));
    const last = others.pop();
    for (const other of others) await other.query('BEGIN');
    await assert.rejects(last?.query('BEGIN') ?? Promise.resolve(), /self-signed certificate/);
    copyFileSync(CA, ca);
    await proxy.proxy.reload();
    await eventually('the next one is opened', () =>
      (last?.query('BEGIN') ?? Promise.reject()).then(
        () => true,
        () => false,
      ),
    );
    await Promise.all([holder, last, ...others].map(client => client?.end()));
  });
});

suite('a server that is somebody else', () => {
  const ask = async (answer: (socket: Socket) => void, server_tls = 'prefer') => {
    const sent: Buffer[] = [];
    const server = createServer(socket => {
      socket.on('data', chunk => void sent.push(chunk)).on('error', () => {});
      socket.once('data', () => answer(socket));
    });
    const port = await listening(server);
    const servers = { servers: [{ host: '127.0.0.1', port }] };
    const said = await outcome({ general: { server_tls, validate_config: false, connect_timeout: 2000 } }, servers);
    server.close();
    return { said, sent: Buffer.concat(sent) };
  };
  const OK = authentication(0);

  test('cannot put words in front of the handshake', async () => {
    for (const mode of ['prefer', 'require', 'verify-full']) {
      const { said, sent } = await ask(socket => socket.write(Buffer.concat([Buffer.from('S'), OK])), mode);
      assert.match(said, /the server sent unencrypted data after its answer to the request for TLS/);
      assert.ok(sent.length % 8 === 0 && sent.subarray(0, 8).equals(frontend.sslRequest()), sent.toString('hex'));
    }
    const { said, sent } = await ask(socket => {
      socket.write('S');
      setTimeout(() => socket.write(OK), 20);
    });
    assert.match(said, /TLS with the server failed/);
    // Nothing but requests and handshakes.
    assert.ok(!sent.includes('alice') && !sent.includes(DATABASE));
  });

  test('is told nothing when it answers with an error, or with nonsense, and its words are not passed on', async () => {
    const error = Buffer.concat([Buffer.from('E'), Buffer.from([0, 0, 0, 9]), Buffer.from('Mlie\0\0')]);
    for (const bytes of [Buffer.from('E'), Buffer.from('X'), error]) {
      const { said, sent } = await ask(socket => socket.write(bytes));
      assert.match(said, /request for TLS/);
      assert.ok(!said.includes('lie') && !sent.includes('alice'));
    }
  });

  test('is told nothing in the clear by the modes that ask for encryption, when it has none', async () => {
    for (const mode of ['require', 'verify-ca', 'verify-full']) {
      const { said, sent } = await ask(socket => socket.write('N'), mode);
      assert.match(said, /the server does not offer TLS/);
      assert.ok(!sent.includes('alice'));
    }
  });
});
