/** What is listened on: several addresses, both families, and a Unix socket with its file. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { clientServer, type PortSettings, Ports } from '../../src/net/ports.ts';

const hasIPv6 = Object.values(networkInterfaces()).some(all => all?.some(({ address }) => address === '::1'));

/** Ports that greet whoever comes with the address he came to, until the end of the test. */
class Greeter {
  readonly failures: Error[] = [];
  readonly ports = new Ports(this, () => clientServer(socket => this.accept(socket)));

  accept(socket: Socket): void {
    socket.on('error', () => {});
    socket.end(socket.localAddress ?? 'unix');
  }

  acceptFailed(error: Error): void {
    this.failures.push(error);
  }

  listen(settings: Partial<PortSettings>) {
    const unset = { hosts: [], port: 0, unix_socket_dir: undefined, unix_socket_mode: '0777' };
    return this.ports.listen({ ...unset, ...settings });
  }

  [Symbol.dispose](): void {
    this.ports.close();
  }
}

function greeting(place: { host: string; port: number } | { path: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(place);
    let heard = '';
    socket.on('data', bytes => {
      heard += String(bytes);
    });
    socket.on('error', reject);
    socket.on('end', () => resolve(heard));
  });
}

suite('ports', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pglynx-ports-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const path = (port: number) => join(folder, `.s.PGSQL.${port}`);

  test('every address of the machine is *', async t => {
    using greeter = new Greeter();
    const { port, addresses } = await greeter.listen({ hosts: ['*'] });
    assert.equal(await greeting({ host: '127.0.0.1', port }), '127.0.0.1');
    if (!hasIPv6) return t.skip('this machine has no IPv6');
    assert.equal(await greeting({ host: '::1', port }), '::1');
    assert.deepEqual(addresses, [`0.0.0.0:${port}`, `[::]:${port}`]);
  });

  test('a name is all of its addresses, an address is bound once', async () => {
    using greeter = new Greeter();
    const { port, addresses } = await greeter.listen({ hosts: ['localhost', '127.0.0.1'] });
    assert.ok(addresses.includes(`127.0.0.1:${port}`), addresses.join());
    assert.equal(new Set(addresses).size, addresses.length);
    assert.equal(await greeting({ host: '127.0.0.1', port }), '127.0.0.1');
  });

  test('the address of all IPv6 is of that family only beside others', async t => {
    if (!hasIPv6) return t.skip('this machine has no IPv6');
    using alone = new Greeter();
    const { port } = await alone.listen({ hosts: ['::'] });
    assert.equal(await greeting({ host: '127.0.0.1', port }), '::ffff:127.0.0.1');
    using beside = new Greeter();
    const both = await beside.listen({ hosts: ['127.0.0.1', '::'] });
    assert.equal(await greeting({ host: '127.0.0.1', port: both.port }), '127.0.0.1');
  });

  test('one address that is taken, or not ours, frees the others', async () => {
    using taken = new Greeter();
    const { port } = await taken.listen({ hosts: ['127.0.0.1'] });
    using late = new Greeter();
    const hosts = ['localhost', '127.0.0.1'];
    await assert.rejects(late.listen({ hosts, port }), { code: 'EADDRINUSE', address: `127.0.0.1:${port}` });
    using stranger = new Greeter();
    await assert.rejects(stranger.listen({ hosts: ['127.0.0.1', '192.0.2.1'] }), { code: 'EADDRNOTAVAIL' });
    await assert.rejects(stranger.listen({ hosts: ['no.such.name.invalid'] }), { address: 'no.such.name.invalid' });
    taken.ports.close();
    using heir = new Greeter();
    assert.equal((await heir.listen({ hosts: ['127.0.0.1'], port })).port, port);
  });

  test('the Unix socket has the port in its name, its permissions from the start, and goes at the end', async () => {
    using greeter = new Greeter();
    const umask = process.umask();
    const { port, addresses } = await greeter.listen({
      hosts: ['127.0.0.1'],
      unix_socket_dir: `${folder}/`,
      unix_socket_mode: '0710',
    });
    assert.deepEqual(addresses, [`127.0.0.1:${port}`, path(port)]);
    assert.equal(await greeting({ path: path(port) }), 'unix');
    assert.equal(statSync(path(port)).mode & 0o777, 0o710);
    assert.equal(process.umask(), umask);
    greeter.ports.close();
    assert.equal(existsSync(path(port)), false);
  });

  test('a socket of a dead process is replaced', async () => {
    const script = `require('node:net').createServer().listen(${JSON.stringify(path(1))}, () => process.kill(process.pid, 'SIGKILL'))`;
    assert.equal(spawnSync(process.execPath, ['-e', script]).signal, 'SIGKILL');
    assert.ok(statSync(path(1)).isSocket());
    using greeter = new Greeter();
    await greeter.listen({ port: 1, unix_socket_dir: folder });
    assert.equal(await greeting({ path: path(1) }), 'unix');
  });

  test('a socket of a live process is left to it, and so is any other file', async () => {
    const other = createServer(socket => socket.on('error', () => {}).end('other')).listen(path(2));
    using greeter = new Greeter();
    await assert.rejects(greeter.listen({ port: 2, unix_socket_dir: folder }), {
      code: 'EADDRINUSE',
      address: path(2),
    });
    assert.equal(await greeting({ path: path(2) }), 'other');
    other.close();
    writeFileSync(path(3), 'precious');
    await assert.rejects(greeter.listen({ port: 3, unix_socket_dir: folder }), { code: 'EEXIST' });
    assert.ok(existsSync(path(3)));
  });

  test('a path that is too long, or in no directory, is refused by name', async () => {
    using greeter = new Greeter();
    const long = join(folder, 'l'.repeat(100));
    await assert.rejects(greeter.listen({ port: 4, unix_socket_dir: long }), { code: 'ENAMETOOLONG' });
    const absent = join(folder, 'absent');
    await assert.rejects(greeter.listen({ port: 4, unix_socket_dir: absent }), { address: `${absent}/.s.PGSQL.4` });
  });
});
