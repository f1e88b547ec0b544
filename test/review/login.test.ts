/** Sockets that never become clients: what they may cost, however they behave. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import { PglynxProcess } from '../failure/process.ts';

const MEGABYTE = 2 ** 20;
/** A flood is a gigabyte or more; what was read and thrown away may wait for the collector on a busy machine. */
const GROWTH_MAX_BYTES = 150 * MEGABYTE;

const options = { skip: process.platform === 'linux' ? false : 'memory is read from /proc' };

suite('a client that floods pglynx costs it no memory', options, () => {
  let cluster: TestCluster;
  let pglynx: PglynxProcess;
  before(async () => {
    cluster = await startCluster();
    pglynx = await PglynxProcess.start(cluster, { users: ['alice'], user: { pool_size: 1 } });
    // The buffers that reading takes at all do not count.
    const socket = await open();
    socket.write(frontend.packet(0x20000));
    await flood(socket);
    socket.destroy();
  });
  after(async () => {
    await pglynx?.stop();
    await cluster?.stop();
  });

  const open = async (): Promise<Socket> => {
    const socket = connect({ port: pglynx.port, host: '127.0.0.1' });
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  };
  const scenes: Record<string, readonly Buffer[]> = {
    'after a refused startup packet': [frontend.packet(0x20000)],
    'after a wrong password': [frontend.startup({ user: 'alice', database: DATABASE }), frontend.password('wrong')],
    'instead of a password': [frontend.startup({ user: 'alice', database: DATABASE })],
    'after a cancel request': [frontend.cancelRequest(1, Buffer.alloc(4))],
  };
  for (const [when, messages] of Object.entries(scenes)) {
    test(when, async () => {
      const socket = await open();
      for (const message of messages) {
        socket.write(message);
        await sleep(50);
      }
      const before_bytes = pglynx.resident_bytes;
      const peak_bytes = await pglynx.peakDuring(flood(socket));
      socket.destroy();
      assert.ok(peak_bytes - before_bytes < GROWTH_MAX_BYTES, `${(peak_bytes - before_bytes) / MEGABYTE} MB`);
    });
  }

  test('after it broke the protocol', async () => {
    const client = await pglynx.connect();
    const before_bytes = pglynx.resident_bytes;
    const work = async () => {
      client.send(frontend.message('?'));
      const deadline = Date.now() + 1500;
      while (Date.now() < deadline) {
        client.send(Buffer.alloc(4 * MEGABYTE, 'Q'));
        await Promise.race([client.drained(), sleep(50)]);
      }
    };
    const peak_bytes = await pglynx.peakDuring(work());
    client.destroy();
    assert.ok(peak_bytes - before_bytes < GROWTH_MAX_BYTES, `${(peak_bytes - before_bytes) / MEGABYTE} MB`);
  });

  test('a sender of a cancel request is disconnected, though it stays', async () => {
    const socket = connect({ port: pglynx.port, host: '127.0.0.1', allowHalfOpen: true });
    const broken = new Promise<Error>(resolve => socket.once('error', resolve));
    socket.write(frontend.cancelRequest(1, Buffer.alloc(4)));
    socket.resume();
    await once(socket, 'end');
    for (let count = 0; count < 3 && !socket.destroyed; count++) {
      socket.write('anybody there?');
      await sleep(100);
    }
    assert.ok(socket.destroyed, 'pglynx still has the socket');
    await broken;
  });

  test('more clients than there are file descriptors end nobody who is served', async () => {
    await using small = await PglynxProcess.start(
      cluster,
      { users: ['alice'], user: { pool_size: 1 } },
      { files_max: 60 },
    );
    await using client = await small.connect();
    await client.query('SELECT 1');
    const sockets: Socket[] = [];
    for (let count = 0; count < 100; count++) {
      const socket = connect({ port: small.port, host: '127.0.0.1' });
      socket.on('error', () => {});
      sockets.push(socket);
    }
    await sleep(300);
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
    for (const socket of sockets) socket.destroy();
    await sleep(100);
    await using other = await small.connect();
    assert.deepEqual(rowsOf(await other.query('SELECT 1')), [['1']]);
  });
});

/** Writes as much as the other side takes in a second and a half. */
async function flood(socket: Socket): Promise<void> {
  const piece = Buffer.alloc(MEGABYTE, 'p');
  const deadline = Date.now() + 1500;
  while (Date.now() < deadline && !socket.destroyed) {
    if (!socket.write(piece)) await Promise.race([once(socket, 'drain').catch(() => {}), sleep(50)]);
  }
}
