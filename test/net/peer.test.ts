/** Who is at the other end of a Unix socket: this user, another user, and nobody when it cannot be known. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { peerProgram, peerUser } from '../../src/net/peer.ts';

const unable = peerProgram() === undefined && 'neither perl nor python3 is here to ask with';

suite('peerUser', { skip: unable }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'pglynx-peer-'));
  chmodSync(folder, 0o755);
  const path = join(folder, 'socket');
  const server = createServer().listen(path, () => chmodSync(path, 0o777));
  after(() => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  async function accepted(): Promise<Socket> {
    const [socket] = await once(server, 'connection');
    assert.ok(typeof socket === 'object' && socket !== null);
    return socket;
  }

  test('is the user who connected, and leaves the socket as it was', async () => {
    const coming = accepted();
    const client = connect(path);
    const socket = await coming;
    client.write('before');
    const names = await Promise.all(Array.from({ length: 12 }, () => peerUser(socket)));
    assert.deepEqual(new Set(names), new Set([userInfo().username]));
    assert.equal(String((await once(socket, 'data'))[0]), 'before');
    client.write('after');
    assert.equal(String((await once(socket, 'data'))[0]), 'after');
    // Longer than the kernel takes at once: a write that blocked would stop this process.
    const long = Buffer.alloc(4 * 2 ** 20);
    socket.end(long);
    let heard = 0;
    client.on('data', bytes => {
      heard += bytes.length;
    });
    await once(client, 'end');
    assert.equal(heard, long.length);
    client.destroy();
  });

  test('is whoever the process was when it connected', async t => {
    if (process.getuid?.() !== 0) return t.skip('only root can be another user');
    const coming = accepted();
    const script = `const socket = require('node:net').connect(${JSON.stringify(path)}, () => {
      process.setuid(65534);
      require('node:net').connect(${JSON.stringify(path)});
    });`;
    const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore', cwd: '/' });
    const first = await coming;
    const second = await accepted();
    assert.equal(await peerUser(first), userInfo().username);
    assert.equal(await peerUser(second), 'nobody');
    child.kill('SIGKILL');
    await once(child, 'close');
    for (const socket of [first, second]) socket.destroy();
  });

  test('is nobody on a socket of TCP, and on one that is closed', async () => {
    const tcp = createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const address = tcp.address();
    assert.ok(typeof address === 'object' && address !== null);
    const coming = once(tcp, 'connection');
    const client = connect(address.port, '127.0.0.1');
    const [socket] = await coming;
    assert.equal(await peerUser(socket), undefined);
    client.destroy();
    tcp.close();
    const other = accepted();
    const gone = connect(path);
    const closed = await other;
    closed.destroy();
    assert.equal(await peerUser(closed), undefined);
    gone.destroy();
  });
});
