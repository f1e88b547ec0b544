/** Clients that encrypt their connections: how they begin, and what they are refused. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { endPointHash } from '../../src/auth/binding.ts';
import { decode, errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { LoginError, RawClient, type ScramChoice } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, TestProxy } from '../proxy/index.ts';
import { programFor, run } from '../scenario/program.ts';
import { der, direct, fixture, pem, SERVER, startTls } from './secure.ts';

const LOGIN = { user: 'alice', database: DATABASE, password: PASSWORDS.alice };
const STARTUP = frontend.startup({ user: 'alice', database: DATABASE });
const SCRAM = { auth_type: 'scram-sha-256' };

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster();
  proxy = await TestProxy.start(cluster, { general: { ...SERVER, tls_client_ca: fixture('ca.crt') }, user: SCRAM });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

/** What the clients that are there now are known to be encrypted with. */
const facts = () => [...proxy.proxy.clients()].map(client => ('tls' in client ? client.tls : undefined));

const serves = async (client: RawClient) => {
  assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
  await client.close();
};

const names = async (client: RawClient) => (await client.untilClosed()).map(message => decode(message).name);

/** Returns when a statement with this in it runs. */
const running = (marker: string) =>
  eventually(`${marker} runs`, async () =>
    (await cluster.activity()).some(({ state, query }) => state === 'active' && query.includes(marker)),
  );

suite('psql', () => {
  const SHOW = ['-X', '-At', '-c', '\\conninfo', '-c', 'SELECT 1'];
  const always = { require: true, 'verify-ca': true, 'verify-full': true };
  const never = { require: undefined, 'verify-ca': undefined, 'verify-full': undefined };
  /** Whether it is encrypted with an sslmode; undefined where it is refused. */
  const EXPECTED = {
    allow: { disable: false, allow: false, prefer: true, ...always },
    require: { disable: undefined, allow: true, prefer: true, ...always },
    disable: { disable: false, allow: false, prefer: false, ...never },
  };

  for (const [tls_mode, outcomes] of Object.entries(EXPECTED)) {
    test(`with every sslmode where tls_mode is "${tls_mode}"`, async t => {
      const psql = programFor(t, 'psql');
      if (psql === undefined) return;
      await using near = await TestProxy.start(cluster, { general: { ...SERVER, tls_mode }, user: SCRAM });
      const plays = Object.entries(outcomes).map(async ([sslmode, encrypted]) => {
        const env = { PGSSLMODE: sslmode, PGHOST: 'localhost', PGSSLROOTCERT: fixture('ca.crt') };
        const { code, stdout, stderr } = await run(psql, SHOW, { port: near.port, env });
        const words = `${sslmode}: ${stdout}${stderr}`;
        assert.equal(code, encrypted === undefined ? 2 : 0, words);
        if (encrypted !== undefined)
          assert.equal(stdout.includes('SSL connection (protocol: TLSv1.3'), encrypted, words);
        else assert.match(stderr, tls_mode === 'require' ? /connections must be encrypted/ : /does not support SSL/);
      });
      await Promise.all(plays);
    });
  }

  test('refuses a server with another name, or of an authority that it does not know', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    const general = { tls_certificate: fixture('elsewhere.crt'), tls_private_key: fixture('elsewhere.key') };
    await using near = await TestProxy.start(cluster, { general, user: SCRAM });
    for (const [PGSSLMODE, ca, complaint] of [
      ['verify-full', 'ca.crt', /does not match host name/],
      ['verify-ca', 'stranger-ca.crt', /certificate verify failed/],
    ] as const) {
      const env = { PGSSLMODE, PGHOST: 'localhost', PGSSLROOTCERT: fixture(ca) };
      assert.match((await run(psql, SHOW, { port: near.port, env })).stderr, complaint);
    }
    const failed = () => near.log.filter(({ msg }) => String(msg).includes('TLS with the client failed'));
    await eventually('the log says so', () => failed().length === 1);
    assert.equal(failed()[0].msg, 'Login failed: TLS with the client failed: tlsv1 alert unknown ca');
    assert.match(String(failed()[0].address), /^127\.0\.0\.1:\d+$/);
  });

  test('begins encrypted with sslnegotiation=direct', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    const { stdout: version } = await run(psql, ['--version'], { port: proxy.port });
    if (Number(/\d+/.exec(version)) < 17) return t.skip(`${version.trim()} does not know sslnegotiation`);
    const env = { PGSSLMODE: 'require', PGSSLNEGOTIATION: 'direct' };
    const { code, stderr } = await run(psql, ['-X', '-c', 'SELECT 1'], { port: proxy.port, env });
    assert.equal(code, 0, stderr);
  });

  test('binds SCRAM to the certificate', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    const env = { PGSSLMODE: 'require', PGCHANNELBINDING: 'require' };
    const { code, stderr } = await run(psql, SHOW, { port: proxy.port, env });
    assert.equal(code, 0, stderr);
  });
});

suite('node-postgres', () => {
  const ssl = { ca: String(pem('ca.crt')), servername: 'localhost' };

  test('is served, and known to be encrypted, with its certificate', async () => {
    const client = await proxy.connect({
      ssl: { ...ssl, cert: String(pem('alice.crt')), key: String(pem('alice.key')) },
    });
    assert.deepEqual((await client.query('SELECT $1::int AS n', [7])).rows, [{ n: 7 }]);
    const certificate = { cn: 'alice', dn: 'CN=alice,O=Tests\\, and more' };
    assert.deepEqual(facts(), [{ version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', certificate }]);
    await client.end();
  });

  test('also with TLS 1.2 and without a certificate, but with no version before', async () => {
    const client = await proxy.connect({ ssl: { ...ssl, maxVersion: 'TLSv1.2' } });
    assert.match(JSON.stringify(facts()), /^\[\{"version":"TLSv1\.2","cipher":"ECDHE-ECDSA-[^"]*"\}\]$/);
    await client.end();
    const old = { ...ssl, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
    await assert.rejects(proxy.connect({ ssl: old }));
  });

  test('sends and gets what is long, and the admin database is encrypted, too', async () => {
    const client = await proxy.connect({ ssl });
    const long = 'äx'.repeat(2 ** 20);
    const { rows } = await client.query('SELECT $1::text AS long, length(repeat($1, 3)) AS n', [long]);
    assert.ok(rows[0].long === long);
    assert.equal(rows[0].n, long.length * 3);
    await client.end();
    const admin = await proxy.connect({ ...ADMIN, database: 'pgcat', ssl });
    assert.ok((await admin.query('SHOW VERSION')).rows.length > 0);
    await admin.end();
  });

  test('whose certificate an unknown authority has signed is refused', async () => {
    const stranger = { ...ssl, cert: String(pem('stranger.crt')), key: String(pem('stranger.key')) };
    await assert.rejects(proxy.connect({ ssl: stranger }), {
      code: '28000',
      message: /^the certificate of the client does not count: /,
    });
  });
});

suite('a connection that is encrypted from its first byte', () => {
  test('is served when it names the protocol', async () => {
    const client = await direct(proxy.port);
    await client.login(LOGIN);
    await serves(client);
  });

  test('is refused when it names none, or another', async () => {
    const client = await direct(proxy.port, { ALPNProtocols: [] });
    assert.deepEqual(await names(client), ['ErrorResponse']);
    await client.close();
    await assert.rejects(direct(proxy.port, { ALPNProtocols: ['http/1.1'] }), /no application protocol/);
  });

  test('that is no TLS behind its first bytes is cut off', async () => {
    const client = await RawClient.open({ port: proxy.port });
    await client.trickle(Buffer.concat([Buffer.from([0x16, 3, 1, 0, 100]), Buffer.alloc(100)]));
    await eventually('it is closed', () => client.closed);
    client.destroy();
    await serves(await loggedIn(direct(proxy.port)));
  });
});

async function loggedIn(opening: Promise<RawClient>, protocol = frontend.PROTOCOL_3_0): Promise<RawClient> {
  const client = await opening;
  await client.login({ ...LOGIN, protocol });
  return client;
}

suite('bytes that are not encrypted', () => {
  test('behind the request for encryption end the connection before any answer to it', async () => {
    const hello = Buffer.from('16030100c8010000c40303', 'hex');
    for (const early of [STARTUP, Buffer.from([0]), frontend.sslRequest(), hello]) {
      const client = await RawClient.open({ port: proxy.port });
      client.send(frontend.sslRequest(), early);
      const messages = await client.untilClosed();
      assert.deepEqual(
        messages.map(message => decode(message).name),
        ['ErrorResponse'],
      );
      assert.deepEqual([errorOf(messages)?.code, errorOf(messages)?.severity], ['08P01', 'FATAL']);
      client.destroy();
    }
  });

  test('behind the answer to it are no startup packet, and no first part of one that comes encrypted', async () => {
    for (const early of [STARTUP, STARTUP.subarray(0, 6)]) {
      const client = await RawClient.open({ port: proxy.port });
      client.send(frontend.sslRequest());
      assert.equal(String(await client.bytes(1)), 'S');
      client.send(early);
      client.end();
      await eventually('it is closed', () => client.closed);
      // An alert of TLS at most.
      if (client.unread_bytes > 0) assert.equal((await client.bytes(1))[0], 0x15);
      client.destroy();
    }
    assert.deepEqual(facts(), []);
  });
});

suite('requests for encryption', () => {
  test('come once: inside TLS they are versions that nobody knows', async () => {
    for (const request of [frontend.sslRequest(), frontend.gssRequest()]) {
      for (const client of [await startTls(proxy.port), await direct(proxy.port)]) {
        client.send(request);
        assert.equal(errorOf(await client.untilClosed())?.code, '0A000');
        await client.close();
      }
    }
  });

  test('for GSSAPI are answered with N, and one for TLS may follow', async () => {
    await serves(await loggedIn(startTls(proxy.port, {}, frontend.gssRequest())));
  });
});

suite('a cancel request', () => {
  test('may come encrypted for any client that holds the key, and a long one counts whole', async () => {
    const victims = [
      await loggedIn(startTls(proxy.port), frontend.PROTOCOL_3_2),
      await loggedIn(direct(proxy.port)),
      await loggedIn(RawClient.open({ port: proxy.port })),
    ];
    for (const [index, client] of victims.entries()) {
      for (const way of [startTls, direct]) {
        const marker = `cancel ${index} ${way.name}`;
        client.send(frontend.query(`SELECT pg_sleep(30) /* ${marker} */`));
        await running(marker);
        const request = await way(proxy.port);
        request.send(frontend.cancelRequest(client.pid, client.secret));
        assert.equal(errorOf(await client.ready())?.code, '57014');
        await request.close();
      }
      await serves(client);
    }
  });

  test('is taken unencrypted where logins must be encrypted', async () => {
    await using near = await TestProxy.start(cluster, { general: { ...SERVER, tls_mode: 'require' } });
    const client = await loggedIn(startTls(near.port));
    client.send(frontend.query('SELECT pg_sleep(30) /* plain */'));
    await running('/* plain */');
    const request = await RawClient.open({ port: near.port });
    request.send(frontend.cancelRequest(client.pid, client.secret));
    assert.equal(errorOf(await client.ready())?.code, '57014');
    request.destroy();
    await client.close();
  });
});

suite('SCRAM', () => {
  const hash = endPointHash(der('server.crt'));
  const other = Buffer.alloc(32);
  const PLUS = 'SCRAM-SHA-256-PLUS';
  const PLAIN = 'SCRAM-SHA-256';

  const outcome = async (scram: ScramChoice) => {
    const client = await startTls(proxy.port);
    try {
      await client.login({ ...LOGIN, scram });
      return 'in';
    } catch (error) {
      if (error instanceof LoginError) return `${error.fields.code} ${error.fields.message}`;
      throw error;
    } finally {
      await client.close();
    }
  };

  test('is offered with channel binding where there is TLS, and only there', async () => {
    const offered = async (client: RawClient) => {
      client.send(STARTUP);
      const request = decode(await client.message());
      await client.close();
      return request.name === 'AuthenticationSASL' ? request.mechanisms : [];
    };
    assert.deepEqual(await offered(await startTls(proxy.port)), [PLUS, PLAIN]);
    assert.deepEqual(await offered(await RawClient.open({ port: proxy.port })), [PLAIN]);
  });

  test('binds to the certificate that was shown, and to no other', async () => {
    assert.equal(await outcome({ mechanism: PLUS, binding: { hash, isUsed: true } }), 'in');
    assert.match(
      await outcome({ mechanism: PLUS, binding: { hash: other, isUsed: true } }),
      /^08P01 .*channel-binding/,
    );
  });

  test('without it is for clients that know none; who says to have been offered none was lied to', async () => {
    assert.equal(await outcome({ mechanism: PLAIN, binding: { hash: undefined, isUsed: false } }), 'in');
    assert.match(await outcome({ mechanism: PLAIN, binding: { hash, isUsed: false } }), /^08P01 .*but it does$/);
    assert.match(await outcome({ mechanism: PLAIN, binding: { hash, isUsed: true } }), /^08P01 .*sent channel binding/);
    assert.match(await outcome({ mechanism: PLUS, binding: { hash, isUsed: false } }), /^08P01 .*sent no channel/);
    await using near = await TestProxy.start(cluster, { user: SCRAM });
    const scram = { mechanism: PLAIN, binding: { hash, isUsed: false } };
    await serves(await RawClient.connect({ port: near.port, ...LOGIN, scram }));
  });
});

suite('a client', () => {
  test('at a Unix socket is not encrypted, even where others must be', async () => {
    const general = { ...SERVER, tls_mode: 'require', unix_socket_dir: cluster.folder };
    await using near = await TestProxy.start(cluster, { general });
    const client = await RawClient.open({ host: cluster.folder, port: near.port });
    client.send(frontend.sslRequest());
    assert.equal(String(await client.bytes(1)), 'N');
    await client.login(LOGIN);
    await serves(client);
    await assert.rejects(RawClient.connect({ port: near.port, ...LOGIN }), /connections must be encrypted/);
  });

  test('that stops reading stops its server, and gets everything in the end', async () => {
    const client = await loggedIn(startTls(proxy.port));
    client.send(frontend.query("SELECT repeat('x', 1000) /* much */ FROM generate_series(1, 30000)"));
    client.pause();
    await eventually('the server waits', async () => {
      const [row] = await cluster.sql(
        "SELECT wait_event FROM pg_stat_activity WHERE query LIKE '%/* much */%' AND pid <> pg_backend_pid()",
      );
      return row?.wait_event === 'ClientWrite';
    });
    client.resume();
    assert.equal((await client.ready()).filter(({ type }) => type === 'D').length, 30_000);
    await client.close();
  });

  test('that does not end its handshake is cut off after client_login_timeout, and others are served', async () => {
    await using near = await TestProxy.start(cluster, { general: { ...SERVER, client_login_timeout: 700 } });
    const client = await RawClient.open({ port: near.port });
    client.send(frontend.sslRequest());
    assert.equal(String(await client.bytes(1)), 'S');
    await serves(await loggedIn(startTls(near.port)));
    assert.deepEqual(await client.untilClosed(), []);
    client.destroy();
  });

  test('that has not logged in when pglynx ends is told in TLS, and amid a handshake nothing', async () => {
    await using near = await TestProxy.start(cluster, { general: SERVER });
    const inside = await startTls(near.port);
    const amid = await RawClient.open({ port: near.port });
    amid.send(frontend.sslRequest());
    assert.equal(String(await amid.bytes(1)), 'S');
    await near.proxy.drain();
    const stopped = near.proxy.stop();
    assert.match(errorOf(await inside.untilClosed())?.code ?? '', /^57P0/);
    assert.deepEqual(await amid.untilClosed(), []);
    await stopped;
    amid.destroy();
    await inside.close();
  });
});
