/** Logins that a reload overtakes, passwords that are none, and clients who leave or rave amid a login. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { md5Response } from '../../src/auth/secret.ts';
import { decode, errorOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS } from '../cluster/index.ts';
import { ADMIN, configText, TestProxy } from '../proxy/index.ts';
import { SERVER, startTlsSocket } from '../tls/secure.ts';

/** No server is asked. */
const NOWHERE = { servers: [{ host: '127.0.0.1', port: 1 }] };
const STATS = { stats_username: 'stats_user', stats_password: 'stats pass' } as const;

/** A client who has been asked for an md5 hash, and the answer that its password makes. */
async function asked(port: number, user: string, database: string, password: string) {
  const client = await RawClient.open({ port });
  client.send(frontend.startup({ user, database }));
  const question = decode(await client.message());
  assert.ok(question.name === 'AuthenticationMD5Password', question.name);
  return { client, answer: frontend.password(md5Response(user, password, question.salt) ?? '') };
}

suite('a reload amid a login', () => {
  test('makes no administrator of a stats user who is called otherwise by then', async () => {
    await using proxy = await TestProxy.start(NOWHERE, { general: { ...STATS, validate_config: false } });
    const { client, answer } = await asked(proxy.port, STATS.stats_username, 'pgcat', STATS.stats_password);
    proxy.rewrite(configText(NOWHERE, { general: { ...STATS, stats_username: 'monitor', validate_config: false } }));
    await proxy.proxy.reload();
    client.send(answer);
    await client.ready();
    assert.equal(errorOf(await client.query('RELOAD'))?.code, '42501');
    await client.close();
  });

  test('opens no database that came meanwhile to whoever has proved a name for another', async () => {
    await using proxy = await TestProxy.start(NOWHERE, { general: { validate_config: false } });
    const { client, answer } = await asked(proxy.port, 'alice', 'later', PASSWORDS.alice);
    const text = configText(NOWHERE, { general: { validate_config: false } });
    const later = text.slice(text.indexOf(`[pools.${DATABASE}]`)).replaceAll(`pools.${DATABASE}`, 'pools.later');
    proxy.rewrite(`${text}\n${later.replaceAll(JSON.stringify(PASSWORDS.alice), '"of another alice"')}`);
    await proxy.proxy.reload();
    client.send(answer);
    assert.equal(errorOf(await client.untilClosed())?.code, '3D000');
    const { client: other, answer: right } = await asked(proxy.port, 'alice', 'later', 'of another alice');
    other.send(right);
    assert.notEqual(errorOf(await other.untilClosed())?.code, '3D000');
  });
});

test('an empty password opens nothing, as in PostgreSQL', async () => {
  for (const auth_type of ['md5', 'scram-sha-256']) {
    const general = { admin_password: '', admin_auth_type: auth_type, validate_config: false };
    await using proxy = await TestProxy.start(NOWHERE, { general, user: { auth_type, password: '' } });
    for (const login of [
      { user: ADMIN.user, database: 'pgcat' },
      { user: 'alice', database: DATABASE },
    ]) {
      await assert.rejects(RawClient.connect({ port: proxy.port, password: '', ...login }), /28P01/);
    }
    const causes = proxy.log.filter(({ sqlstate }) => sqlstate === '28P01').map(({ cause }) => cause);
    assert.deepEqual(causes, ['the password of the user is empty', 'the password of the user is empty']);
  }
});

suite('clients who leave or rave amid a login', () => {
  const NOISE = Buffer.from(Array.from({ length: 600 }, (_, at) => (at * 197 + 91) & 0xff));
  const STARTUP = frontend.startup({ user: 'alice', database: DATABASE });
  const sockets = () => process.getActiveResourcesInfo().filter(name => name === 'TCPSocketWrap').length;
  const WAYS: Readonly<Record<string, (socket: Socket) => void>> = {
    'say goodbye': socket => socket.end(),
    vanish: socket => socket.destroy(),
    rave: socket => socket.on('end', () => socket.destroy()).write(NOISE),
    'rave and reset': socket => socket.write(NOISE, () => socket.destroy()),
  };

  for (const [name, leave] of Object.entries(WAYS)) {
    test(`and ${name} harm nobody else, and leave nothing behind`, async () => {
      const general = { ...SERVER, validate_config: false, login_failure_limit: 0, client_login_timeout: 1000 };
      await using proxy = await TestProxy.start(NOWHERE, { general, user: { auth_type: 'scram-sha-256' } });
      const { port } = proxy;
      const before = sockets();
      const plain = async (bytes: Buffer) => {
        const client = await RawClient.open({ port });
        client.send(bytes);
        leave(client.release().resume());
      };
      for (let length = 0; length <= STARTUP.length; length += 5) await plain(STARTUP.subarray(0, length));
      const hello = Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
      for (let length = 1; length <= hello.length; length++) {
        await plain(hello.subarray(0, length));
        await plain(Buffer.concat([frontend.sslRequest(), hello.subarray(0, length)]));
      }
      for (const bytes of [Buffer.alloc(0), STARTUP.subarray(0, 9), STARTUP, Buffer.concat([STARTUP, NOISE])]) {
        const socket = await startTlsSocket(port);
        socket
          .on('error', () => {})
          .resume()
          .write(bytes);
        leave(socket);
      }
      await eventually('all are gone', () => sockets() <= before);
      await (await proxy.admin()).end();
    });
  }
});

test('who has asked for metrics over and over and left keeps nobody else from them', async () => {
  const general = { enable_prometheus_exporter: true, prometheus_exporter_port: 0, validate_config: false };
  await using proxy = await TestProxy.start(NOWHERE, { general });
  const port = proxy.proxy.metrics_port ?? 0;
  const many = Array.from({ length: 20 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  for (const socket of many) socket.write('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(100));
  await once(many[0], 'data');
  for (const socket of many) socket.destroy();
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, { signal: AbortSignal.timeout(5000) });
  assert.equal(answer.status, 200);
  await answer.text();
});
