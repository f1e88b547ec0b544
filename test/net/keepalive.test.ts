/** What the operating system is told about silent connections. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { keepAlive } from '../../src/net/keepalive.ts';

const PERL = '/usr/bin/perl';
const unable = (process.platform !== 'linux' || !existsSync(PERL)) && 'no Linux, or no perl to ask the kernel with';
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
const knowsAll = major > 24 || (major === 24 && minor >= 19);

/** SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT of a socket of this process, by the kernel. */
function optionsOf(socket: Socket): number[] {
  const handle: unknown = Reflect.get(socket, '_handle');
  assert.ok(typeof handle === 'object' && handle !== null);
  const fd: unknown = Reflect.get(handle, 'fd');
  assert.ok(typeof fd === 'number');
  const script = `use Socket; open(my $socket, '+<&=', 3) or die;
    print join(',', map { unpack('i', getsockopt($socket, $_->[0], $_->[1])) } ([1, 9], [6, 4], [6, 5], [6, 6]));`;
  const { stdout } = spawnSync(PERL, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit', fd] });
  return String(stdout).split(',').map(Number);
}

suite('keepAlive', { skip: unable }, () => {
  async function optionsWith(idle_s: number, interval_s: number, count: number): Promise<number[]> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    const socket = connect(address.port, '127.0.0.1');
    await once(socket, 'connect');
    keepAlive(socket, { idle_s, interval_s, count });
    const options = optionsOf(socket);
    socket.destroy();
    server.close();
    return options;
  }

  test('sets all three', { skip: !knowsAll && 'this Node knows the first only' }, async () => {
    assert.deepEqual(await optionsWith(11, 7, 3), [1, 11, 7, 3]);
  });

  test('leaves to Node what is 0', async () => {
    assert.deepEqual(await optionsWith(11, 0, 0), [1, 11, 1, 10]);
  });

  test('leaves all to the system when the first is 0', async () => {
    const [on, idle = 0] = await optionsWith(0, 0, 0);
    assert.equal(on, 1);
    assert.ok(idle > 60, `the system's own is ${idle} s`);
  });
});
