/** Connections whose other side is gone without a word end after tcp_user_timeout; those that are only slow do not. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Unacknowledged } from '../../src/net/unacknowledged.ts';

const LIMIT_MS = 300;
const HOSTS = ['127.0.0.1', '::1'];

/** A namespace of one's own, whose network this may take down. */
const NAMESPACE = ['-rn', process.execPath, import.meta.filename, 'inside'];
const isAble = spawnSync('unshare', ['-rn', 'ip', 'link', 'set', 'lo', 'up']).status === 0;

if (process.argv[2] === 'inside') await inside();
else {
  suite('Unacknowledged', { skip: process.platform !== 'linux' && 'Linux only' }, () => {
    test('ends those who are gone', { skip: !isAble && 'needs unshare and ip' }, () => {
      const { stdout, stderr, status } = spawnSync('unshare', NAMESPACE, { encoding: 'utf8', timeout: 30_000 });
      assert.equal(status, 0, stderr);
      const ended = `what was sent was not acknowledged for tcp_user_timeout (${LIMIT_MS} ms)`;
      assert.deepEqual(JSON.parse(stdout), { ended: HOSTS.map(() => ended), isQuiet: true, isLate: true });
    });

    test('leaves those who do not read, and those who were sent nothing', async () => {
      const failures: string[] = [];
      const { socket, close } = await pair('127.0.0.1', socket => socket.pause());
      socket.on('error', error => failures.push(error.message));
      const watch = watching(socket);
      await sleep(LIMIT_MS);
      for (let count = 0; count < 100; count++) socket.write(Buffer.alloc(100_000));
      assert.ok(socket.writableLength > 0);
      await sleep(4 * LIMIT_MS);
      assert.deepEqual(failures, []);
      assert.equal(socket.destroyed, false);
      watch.stop();
      close();
    });
  });
}

/** Two ends of a connection; what comes to the other is passed to `accept`. */
async function pair(host: string, accept: (socket: Socket) => void) {
  const server = createServer(socket => accept(socket.on('error', () => {}))).listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const accepted = once(server, 'connection');
  const socket = connect(address.port, host);
  const [other] = await accepted;
  if (socket.connecting) await once(socket, 'connect');
  return {
    socket,
    close: () => {
      for (const end of [socket, other]) end.destroy();
      server.close();
    },
  };
}

function watching(...sockets: Socket[]) {
  const watch = new Unacknowledged(() => LIMIT_MS, { warn: text => assert.fail(text) });
  for (const socket of sockets) watch.watch(socket);
  const timer = setInterval(() => watch.look(performance.now()), 50);
  return { stop: () => clearInterval(timer) };
}

/** Connects, takes the network down, and prints which connections ended for it. */
async function inside(): Promise<void> {
  const ip = (state: string) => execFileSync('ip', ['link', 'set', 'lo', state]);
  ip('up');
  const pairs = await Promise.all(HOSTS.map(host => pair(host, socket => socket.pipe(socket))));
  const quiet = await pair('127.0.0.1', () => {});
  const sockets = pairs.map(({ socket }) => socket);
  const watch = watching(...sockets, quiet.socket);
  for (const socket of sockets) socket.write('ping');
  await Promise.all(sockets.map(socket => once(socket, 'data')));
  ip('down');
  const began = performance.now();
  const ended = sockets.map(async socket => {
    socket.write('is anybody there?');
    const [error] = await once(socket, 'error');
    return String(error.message);
  });
  const result = {
    ended: await Promise.all(ended),
    isQuiet: !quiet.socket.destroyed,
    isLate: performance.now() - began > LIMIT_MS,
  };
  console.log(JSON.stringify(result));
  watch.stop();
  for (const each of [...pairs, quiet]) each.close();
  process.exit(0);
}
