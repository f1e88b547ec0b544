/** The misbehaving proxy misbehaves as it says, seen through a real PostgreSQL session and through bare sockets. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { Client } from 'pg';
import { DATABASE, PASSWORDS, startCluster } from '../cluster/index.ts';
import { ChaosProxy, type Faults } from './proxy.ts';

describe('in front of a server that sends everything back', () => {
  let echo: Server;
  let target: { host: string; port: number };
  before(async () => {
    echo = createServer({ allowHalfOpen: true }, socket => socket.on('error', () => {}).pipe(socket));
    echo.listen(0, '127.0.0.1');
    await once(echo, 'listening');
    const address = echo.address();
    assert.ok(typeof address === 'object' && address !== null);
    target = { host: '127.0.0.1', port: address.port };
  });
  after(() => echo.close());

  async function open(faults: Faults): Promise<{ proxy: ChaosProxy; socket: Socket } & AsyncDisposable> {
    const proxy = await ChaosProxy.start(target, faults);
    const socket = connect({ port: proxy.port, host: proxy.host, allowHalfOpen: true });
    await once(socket, 'connect');
    const dispose = async () => {
      socket.destroy();
      await proxy.stop();
    };
    return { proxy, socket, [Symbol.asyncDispose]: dispose };
  }

  test('every byte comes through, whatever it is cut into', async () => {
    const bytes = randomBytes(3_000);
    for (const piece_bytes of [1, 7, 1_000]) {
      await using link = await open({ piece_bytes });
      link.socket.end(bytes);
      assert.deepEqual(await buffer(link.socket), bytes);
    }
    await using link = await open({});
    const large = randomBytes(5_000_000);
    link.socket.end(large);
    assert.ok((await buffer(link.socket)).equals(large));
  });

  test('pieces of one byte arrive one by one', async () => {
    await using link = await open({ piece_bytes: 1 });
    let reads = 0;
    link.socket.on('data', () => reads++);
    link.socket.end('0123456789');
    await once(link.socket, 'end');
    assert.ok(reads > 3, `10 bytes came in ${reads} reads`);
  });

  test('latency is added each way, once for what is sent together', async () => {
    await using link = await open({ latency_ms: 40 });
    const began_ms = performance.now();
    for (let count = 0; count < 20; count++) link.socket.write('x');
    link.socket.end();
    assert.equal((await buffer(link.socket)).length, 20);
    const took_ms = performance.now() - began_ms;
    assert.ok(took_ms >= 79 && took_ms < 400, `${took_ms} ms`);
  });

  test('a narrow link takes its time', async () => {
    await using link = await open({ bytes_per_second: 100_000 });
    const began_ms = performance.now();
    link.socket.end(Buffer.alloc(20_000));
    assert.equal((await buffer(link.socket)).length, 20_000);
    assert.ok(performance.now() - began_ms >= 190);
  });

  test('nothing passes a silent link until it speaks again', async () => {
    await using link = await open({ silent: true });
    link.socket.write('held');
    await assert.rejects(once(link.socket, 'data', { signal: AbortSignal.timeout(80) }), { name: 'AbortError' });
    link.proxy.faults = {};
    const [bytes] = await once(link.socket, 'data');
    assert.equal(String(bytes), 'held');
  });

  test('a reset is an error on the client, and new connections can be refused', async () => {
    await using link = await open({});
    link.socket.write('x');
    await once(link.socket, 'data');
    link.proxy.reset();
    const [error] = await once(link.socket, 'error');
    assert.equal(error.code, 'ECONNRESET');
    link.proxy.refuse();
    const refused = connect(link.proxy.port, link.proxy.host);
    const [refusal] = await once(refused, 'error');
    assert.equal(refusal.code, 'ECONNREFUSED');
    await link.proxy.accept();
    const welcome = connect(link.proxy.port, link.proxy.host);
    await once(welcome, 'connect');
    welcome.destroy();
  });

  test('a half close ends one direction only', async () => {
    await using link = await open({});
    link.socket.write('x');
    await once(link.socket, 'data');
    link.proxy.halfClose('client');
    await once(link.socket, 'end');
    assert.equal(link.proxy.connections, 1);
    link.socket.end();
  });
});

test('a PostgreSQL session lives with a link that delivers byte by byte', async () => {
  await using cluster = await startCluster();
  await using proxy = await ChaosProxy.start(cluster.primary, { piece_bytes: 1, latency_ms: 1 });
  const { host, port } = proxy;
  const client = new Client({ host, port, user: 'alice', password: PASSWORDS.alice, database: DATABASE });
  await client.connect();
  const { rows } = await client.query('SELECT n, repeat($1, 50) AS text FROM generate_series(1, 20) AS n', ['ü']);
  assert.equal(rows.length, 20);
  assert.deepEqual(rows[19], { n: 20, text: 'ü'.repeat(50) });
  await client.end();
});
