/** The first bytes of a connection: encryption requests, versions, cancel requests, nonsense, and silence. */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const LOGIN = { user: 'alice', database: DATABASE, password: PASSWORDS.alice };
const OPEN = `[pools.${DATABASE}.users.open]
username = "open"
auth_type = "trust"
server_username = "alice"
server_password = ${JSON.stringify(PASSWORDS.alice)}
pool_size = 2`;
const open_startup = frontend.startup({ user: 'open', database: DATABASE });

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster();
  proxy = await TestProxy.start(cluster, { more: OPEN });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

const names = (messages: readonly Message[]) => messages.map(message => decode(message).name);

/** Everything that comes in answer to these bytes until the other side hangs up. */
async function answers(...bytes: Buffer[]): Promise<Message[]> {
  const client = await RawClient.open({ port: proxy.port });
  client.send(...bytes);
  const messages = await client.untilClosed();
  client.destroy();
  return messages;
}

async function assertServes(): Promise<void> {
  const client = await proxy.raw();
  assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
  await client.close();
}

suite('encryption', () => {
  test('is declined with one N for SSL and one for GSSAPI, in either order, and the login goes on', async () => {
    for (const requests of [
      [frontend.sslRequest()],
      [frontend.gssRequest()],
      [frontend.gssRequest(), frontend.sslRequest()],
      [frontend.sslRequest(), frontend.gssRequest()],
    ]) {
      const client = await RawClient.open({ port: proxy.port });
      for (const request of requests) {
        client.send(request);
        assert.equal(String(await client.bytes(1)), 'N');
      }
      await client.login(LOGIN);
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
      await client.close();
    }
  });

  test('is declined in one write, too, and a byte at a time', async () => {
    const together = await RawClient.open({ port: proxy.port });
    together.send(frontend.sslRequest(), frontend.gssRequest(), open_startup, frontend.query('SELECT 1'));
    assert.equal(String(await together.bytes(2)), 'NN');
    assert.equal(names(await together.ready())[0], 'AuthenticationOk');
    assert.deepEqual(rowsOf(await together.ready()), [['1']]);
    await together.close();
    const slow = await RawClient.open({ port: proxy.port });
    await slow.trickle(Buffer.concat([frontend.sslRequest(), open_startup]));
    assert.equal(String(await slow.bytes(1)), 'N');
    assert.equal(names(await slow.ready())[0], 'AuthenticationOk');
    await slow.close();
  });

  test('asked for twice is an error', async () => {
    for (const request of [frontend.sslRequest(), frontend.gssRequest()]) {
      const client = await RawClient.open({ port: proxy.port });
      client.send(request, request);
      assert.equal(String(await client.bytes(1)), 'N');
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '0A000']);
      client.destroy();
    }
  });
});

suite('the protocol version', () => {
  test('above 3.2, and options of the protocol, are negotiated down exactly once', async () => {
    const { PROTOCOL_3_0, PROTOCOL_3_2 } = frontend;
    for (const [protocol, agreed, parameters] of [
      [0x30003, PROTOCOL_3_2, {}],
      [0x3270f, PROTOCOL_3_2, {}],
      [PROTOCOL_3_0, PROTOCOL_3_0, { '_pq_.command_of_tomorrow': 'on' }],
      [PROTOCOL_3_2, PROTOCOL_3_2, { '_pq_.b': '', '_pq_.a': '1', application_name: 'new' }],
    ] as const) {
      const client = await RawClient.connect({ port: proxy.port, ...LOGIN, protocol, parameters });
      const [first, ...others] = client.greeting.map(decode);
      assert.ok(first.name === 'NegotiateProtocolVersion');
      // libpq wants to see the major version, too.
      assert.equal(first.newest, agreed);
      assert.deepEqual(
        first.unknown,
        Object.keys(parameters).filter(name => name.startsWith('_pq_.')),
      );
      assert.ok(!others.some(({ name }) => name === 'NegotiateProtocolVersion'));
      assert.equal(client.secret.length, agreed === PROTOCOL_3_2 ? 32 : 4);
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
      await client.close();
    }
  });

  test('3.2 is not negotiated, and its long key cancels', async () => {
    const client = await RawClient.connect({ port: proxy.port, ...LOGIN, protocol: frontend.PROTOCOL_3_2 });
    assert.ok(!names(client.greeting).includes('NegotiateProtocolVersion'));
    assert.equal(client.secret.length, 32);
    client.send(frontend.query('SELECT pg_sleep(30)'));
    await eventually('it sleeps', async () =>
      (await cluster.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep(30)')),
    );
    const off = { pid: client.pid, secret: client.secret.subarray(0, 4) };
    const request = await RawClient.open({ port: proxy.port });
    request.send(frontend.cancelRequest(off.pid, off.secret));
    await request.untilClosed();
    request.destroy();
    await cancel({ port: proxy.port }, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
    await client.close();
  });

  test('3.0 is not negotiated, and others are refused', async () => {
    const client = await proxy.raw();
    assert.ok(!names(client.greeting).includes('NegotiateProtocolVersion'));
    await client.close();
    for (const protocol of [0x10000, 0x20000, 0x40000, 0, 0x12345678]) {
      const messages = await answers(frontend.startup({ user: 'open', database: DATABASE }, protocol));
      assert.deepEqual(names(messages), ['ErrorResponse']);
      assert.equal(errorOf(messages)?.code, '0A000');
    }
  });
});

suite('a CancelRequest', () => {
  test('with a wrong key, a wrong number or a wrong length does nothing and is answered by nothing', async () => {
    const client = await proxy.raw();
    client.send(frontend.query('SELECT pg_sleep(0.6)'));
    await eventually('it sleeps', async () =>
      (await cluster.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep')),
    );
    const { pid, secret } = client;
    const off = Buffer.from(secret);
    off[3] ^= 1;
    for (const key of [
      { pid, secret: off },
      { pid: pid ^ 1, secret },
      { pid, secret: secret.subarray(0, 3) },
      { pid, secret: Buffer.concat([secret, Buffer.alloc(1)]) },
      { pid, secret: Buffer.alloc(0) },
      { pid: 0, secret: Buffer.alloc(4) },
      { pid, secret: randomBytes(256) },
    ]) {
      const request = await RawClient.open({ port: proxy.port });
      request.send(frontend.cancelRequest(key.pid, key.secret));
      const said = await request.untilClosed();
      assert.ok(said.length === 0 || key.secret.length < 4, `${key.secret.length} bytes`);
      request.destroy();
    }
    assert.equal(errorOf(await client.ready()), undefined);
    await client.close();
  });

  test('for a client that has nothing to cancel does not hit its next statement, nor that of another', async () => {
    const [client, other] = [await proxy.raw(), await proxy.raw()];
    for (let round = 0; round < 10; round++) {
      await client.query('SELECT 1');
      await cancel({ port: proxy.port }, client);
      assert.equal(errorOf(await other.query('SELECT pg_sleep(0.02)')), undefined);
      assert.equal(errorOf(await client.query('SELECT pg_sleep(0.02)')), undefined);
    }
    await client.close();
    await cancel({ port: proxy.port }, client);
    assert.equal(errorOf(await other.query('SELECT 1')), undefined);
    await other.close();
  });
});

suite('what is not a startup packet', () => {
  const { int32, packet, PROTOCOL_3_0 } = frontend;
  const strings = (...texts: string[]) => Buffer.from(texts.map(text => `${text}\0`).join(''));
  const MALFORMED: Record<string, Buffer> = {
    'a length of 0': int32(0),
    'a length of 7': Buffer.concat([int32(7), Buffer.alloc(3)]),
    'a negative length': int32(-1),
    'a length beyond the limit': Buffer.concat([int32(10_001), int32(PROTOCOL_3_0)]),
    'a length of 2 GB': int32(0x7fffffff),
    'a query': frontend.query('SELECT 1'),
    HTTP: Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    'a TLS ClientHello': Buffer.from('16030100c8010000c40303', 'hex'),
    'no strings at all': packet(PROTOCOL_3_0),
    'a name without a value': packet(PROTOCOL_3_0, strings('user')),
    'no terminator': packet(PROTOCOL_3_0, strings('user', 'open')),
    'an unfinished string': packet(PROTOCOL_3_0, Buffer.from('user\0op')),
    'bytes after the terminator': packet(PROTOCOL_3_0, strings('user', 'open', '', 'more')),
    'a cancel request without a key': packet(80877102, int32(1)),
  };
  for (const [what, bytes] of Object.entries(MALFORMED)) {
    test(`${what} is refused with 08P01`, async () => {
      const messages = await answers(bytes);
      assert.deepEqual(names(messages), ['ErrorResponse']);
      const error = errorOf(messages);
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '08P01']);
    });
  }

  test('a packet without a user is refused as PostgreSQL refuses it', async () => {
    for (const parameters of [{}, { database: DATABASE }, { user: '' }]) {
      assert.equal(errorOf(await answers(frontend.startup(parameters)))?.code, '28000');
    }
  });

  test('a longest packet that is allowed is taken', async () => {
    const filler = 'x'.repeat(
      10_000 - frontend.startup({ user: 'open', database: DATABASE, application_name: '' }).length,
    );
    const client = await RawClient.connect({
      port: proxy.port,
      user: 'open',
      database: DATABASE,
      parameters: { application_name: filler },
    });
    assert.deepEqual(rowsOf(await client.query('SHOW application_name')), [[filler.slice(0, 63)]]);
    await client.close();
  });
});

suite('messages at the wrong time', () => {
  test('a second StartupMessage ends the session', async () => {
    const client = await proxy.raw();
    client.send(frontend.startup({ user: 'bob', database: DATABASE }));
    const messages = await client.untilClosed();
    assert.equal(errorOf(messages)?.code, '08P01');
    assert.ok(!names(messages).includes('AuthenticationOk'));
    client.destroy();
  });

  test('a query in the same write as the startup packet waits for the login', async () => {
    const client = await RawClient.open({ port: proxy.port });
    client.send(open_startup, frontend.query('SELECT 1'), frontend.query('SELECT 2'));
    await client.ready();
    assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    assert.deepEqual(rowsOf(await client.ready()), [['2']]);
    await client.close();
  });

  test('a query in place of the password, or ahead of it, is never run', async () => {
    const write = frontend.query('CREATE TABLE smuggled (n int)');
    const client = await RawClient.open({ port: proxy.port });
    client.send(frontend.startup({ user: 'alice', database: DATABASE }), write, frontend.password('x'), write);
    const messages = await client.untilClosed();
    assert.deepEqual(names(messages), ['AuthenticationMD5Password', 'ErrorResponse']);
    assert.equal(errorOf(messages)?.code, '08P01');
    client.destroy();
    assert.deepEqual(await cluster.sql("SELECT to_regclass('smuggled') AS t"), [{ t: null }]);
  });

  test('a password message that is too long is refused before it has come', async () => {
    for (const length of [70_000, 2 ** 30]) {
      const client = await RawClient.open({ port: proxy.port });
      client.send(frontend.startup({ user: 'alice', database: DATABASE }));
      await client.message();
      client.send(frontend.message('p', Buffer.alloc(100), length));
      const messages = await client.untilClosed();
      assert.deepEqual(names(messages), ['ErrorResponse']);
      assert.equal(errorOf(messages)?.code, '08P01');
      client.destroy();
    }
  });

  test('messages of unknown types and of impossible lengths end the session', async () => {
    for (const bytes of [
      frontend.message('y'),
      frontend.message('p', Buffer.from('x\0')),
      frontend.message('Q', Buffer.alloc(0), 3),
      frontend.message('Q', Buffer.alloc(0), -1),
      frontend.message('P', Buffer.alloc(0), 0x7fffffff),
      Buffer.alloc(100, 0xff),
      randomBytes(4096).fill(0, 0, 1),
    ]) {
      const client = await proxy.raw();
      client.send(bytes);
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '08P01'], bytes.subarray(0, 10).toString('hex'));
      client.destroy();
    }
    await assertServes();
  });

  test('a message longer than a limit is refused before it has come, with the name of the limit', async () => {
    await using strict = await TestProxy.start(cluster, { general: { max_message_size: 100_000 } });
    for (const [type, length, limit] of [
      ['P', 100_001, 'general.max_message_size'],
      ['D', 70_000, '10001 bytes'],
      ['Q', 2 ** 31 - 1, '1073741824 bytes'],
    ] as const) {
      const client = await strict.raw();
      client.send(frontend.message(type, Buffer.alloc(66_000, 'x'), length));
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '08P01']);
      assert.ok(error?.message?.includes(`${length + 1} bytes is longer than the ${limit}`), error?.message);
      client.destroy();
    }
    const client = await strict.connect();
    assert.deepEqual((await client.query(`SELECT $1::int AS n -- ${'x'.repeat(99_900)}`, [1])).rows, [{ n: 1 }]);
    await client.end();
  });

  test('a string without an end is an 08P01, and does no harm to others', async () => {
    for (const type of ['P', 'B', 'D', 'C', 'E']) {
      const client = await proxy.raw();
      client.send(frontend.message(type, Buffer.from('S no end')), frontend.sync());
      const messages = [await client.message()];
      assert.equal(errorOf(messages)?.code, '08P01', type);
      client.destroy();
      await assertServes();
    }
  });
});

suite('silence', () => {
  test('a client that does not finish its login in client_login_timeout is cut off', async () => {
    await using hasty = await TestProxy.start(cluster, { general: { client_login_timeout: 300 } });
    const startup = frontend.startup({ user: 'alice', database: DATABASE });
    const stages = [[], [startup.subarray(0, 3)], [startup.subarray(0, 20)], [startup], [startup, Buffer.from('p')]];
    const lasted_ms = await Promise.all(
      stages.map(async bytes => {
        const opened_at = performance.now();
        const client = await RawClient.open({ port: hasty.port });
        if (bytes.length > 0) client.send(...bytes);
        await eventually('the connection is closed', () => client.closed);
        client.destroy();
        return performance.now() - opened_at;
      }),
    );
    for (const [stage, ms] of lasted_ms.entries()) assert.ok(ms >= 250 && ms < 3000, `stage ${stage}: ${ms} ms`);
    const client = await hasty.raw();
    await sleep(500);
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
    await client.close();
  });
});

suite('200 junk connections', () => {
  test('leave nothing behind', async () => {
    await assertServes();
    await eventually('the last client is gone', () => [...proxy.proxy.clients()].length === 0);
    const sockets = () => process.getActiveResourcesInfo().filter(name => name.startsWith('TCPSocket')).length;
    const before = { sockets: sockets(), pids: (await cluster.activity()).map(({ pid }) => pid).sort() };
    const startup = frontend.startup({ user: 'open', database: DATABASE });
    const junk = [
      () => randomBytes(randomInt(1, 20_000)),
      () => Buffer.concat([frontend.sslRequest(), randomBytes(randomInt(1, 100))]),
      () => Buffer.concat([startup.subarray(0, randomInt(1, startup.length))]),
      () => Buffer.concat([startup, randomBytes(randomInt(1, 20_000))]),
      () => Buffer.concat([startup, frontend.query('SELECT pg_sleep(0.05)')]),
      () => Buffer.concat([startup, frontend.query('BEGIN; CREATE TABLE junk (n int)')]),
      () => Buffer.concat([startup, frontend.message('Q', Buffer.from('SELECT'), 100_000)]),
      () => Buffer.concat([frontend.startup({ user: 'alice', database: DATABASE }), frontend.password('wrong')]),
      () => Buffer.alloc(0),
    ];
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const client = await RawClient.open({ port: proxy.port });
        const bytes = junk[i % junk.length]();
        if (bytes.length > 0) client.send(bytes);
        await sleep(randomInt(0, 200));
        if (i % 2 === 0) client.destroy();
        else await client.close();
      }),
    );
    await eventually('no client is left', () => [...proxy.proxy.clients()].length === 0);
    await eventually('all server connections are idle', async () =>
      (await cluster.activity()).every(({ state }) => state === 'idle'),
    );
    await assertServes();
    assert.deepEqual(await cluster.sql("SELECT to_regclass('junk') AS t"), [{ t: null }]);
    const pids = (await cluster.activity()).map(({ pid }) => pid);
    assert.ok(pids.length <= 12, `${pids.length} server connections`);
    await eventually('no socket is left', () => sockets() <= before.sockets + pids.length);
  });
});
