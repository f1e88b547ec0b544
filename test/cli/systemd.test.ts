/** A service under systemd: the sockets that it is handed, and what it says of itself. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { inheritedSockets } from '../../src/cli/systemd.ts';
import { rowsOf } from '../client/backend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText } from '../proxy/index.ts';
import { CLI, Command, ROOT } from './command.ts';

const ACTIVATE = ['/usr/bin/systemd-socket-activate', '/lib/systemd/systemd-socket-activate'].find(existsSync);

const ANALYZE = ['/usr/bin/systemd-analyze', '/bin/systemd-analyze'].find(existsSync);

let cluster: TestCluster;
let folder: string;
let file: string;
before(async () => {
  cluster = await startCluster();
  folder = mkdtempSync(join(tmpdir(), 'pglynx-systemd-'));
  file = join(folder, 'pgcat.toml');
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cluster?.stop();
});

/** Runs pglynx with these variables, as the process that a service manager starts. */
function service(variables: Readonly<Record<string, string>>, files: readonly number[] = []): Command {
  const set = Object.entries(variables).map(([name, value]) => `export ${name}=${value}; `);
  const script = `${set.join('')}exec "$@"`;
  return Command.run('sh', ['-c', script, 'sh', process.execPath, CLI, '--log-format', 'structured', file], {}, files);
}

async function whoAmI(address: { readonly port: number; readonly host?: string }): Promise<unknown> {
  await using client = await RawClient.connect({
    ...address,
    user: 'alice',
    database: DATABASE,
    password: PASSWORDS.alice,
  });
  return rowsOf(await client.query('SELECT current_user'))[0]?.[0];
}

/** A socket that listens, and the number of its file in this process. */
async function listening(): Promise<{ readonly server: Server; readonly fd: number; readonly port: number }> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const fd: unknown = Reflect.get(Object(Reflect.get(server, '_handle')), 'fd');
  assert.ok(typeof fd === 'number' && typeof address === 'object' && address !== null);
  return { server, fd, port: address.port };
}

suite('socket activation', () => {
  test('serves clients on every socket that it was handed, and on no other', async () => {
    const [one, two] = [await listening(), await listening()];
    // Another port than these would be taken from the file.
    writeFileSync(file, configText(cluster, { general: { port: 1 } }));
    await using command = service({ LISTEN_FDS: '2', LISTEN_PID: '$$' }, [one.fd, two.fd]);
    one.server.close();
    two.server.close();
    await command.printed(new RegExp(`"msg":"Running on 127\\.0\\.0\\.1:${one.port}, 127\\.0\\.0\\.1:${two.port}"`));
    for (const { port } of [one, two]) assert.equal(await whoAmI({ port }), 'alice');
    command.signal('SIGTERM');
    assert.equal(await command.ended, 0);
  });

  test('is for the process that it names only', () => {
    assert.deepEqual(inheritedSockets({ LISTEN_FDS: '2', LISTEN_PID: '7' }, 7), [3, 4]);
    for (const env of [{ LISTEN_FDS: '2', LISTEN_PID: '8' }, { LISTEN_FDS: '2' }, { LISTEN_PID: '7' }, {}]) {
      assert.deepEqual(inheritedSockets(env, 7), []);
    }
    for (const LISTEN_FDS of ['0', '-1', 'x', '1.5', '100000']) {
      assert.deepEqual(inheritedSockets({ LISTEN_FDS, LISTEN_PID: '7' }, 7), []);
    }
  });

  test('says which file is no socket', async () => {
    writeFileSync(file, configText(cluster, {}));
    const { server, fd } = await listening();
    await using command = service({ LISTEN_FDS: '2', LISTEN_PID: '$$' }, [fd]);
    assert.equal(await command.ended, 1);
    server.close();
    assert.match(command.complaint, /file descriptor 4/);
  });

  test('works with systemd’s own program, also on a Unix socket', { skip: ACTIVATE === undefined }, async () => {
    writeFileSync(file, configText(cluster, {}));
    const { server, port } = await listening();
    await new Promise(resolve => server.close(resolve));
    const path = join(folder, '.s.PGSQL.7777');
    const args = ['-l', `127.0.0.1:${port}`, '-l', path, process.execPath, CLI, '--log-format', 'structured', file];
    await using command = Command.run(ACTIVATE ?? '', args);
    await eventually('it listens', () => existsSync(path));
    assert.equal(await whoAmI({ host: folder, port: 7777 }), 'alice');
    assert.equal(await whoAmI({ port }), 'alice');
    await command.printed(new RegExp(`Running on 127\\.0\\.0\\.1:${port}, file descriptor 4`));
    command.signal('SIGTERM');
    assert.equal(await command.ended, 0);
    assert.ok(existsSync(path), 'the socket is not this process’s to remove');
  });
});

suite('the units of deploy/systemd', () => {
  test('are right by systemd’s own judgement', { skip: ANALYZE === undefined }, async () => {
    for (const name of ['pglynx.service', 'pglynx.socket']) {
      const text = readFileSync(join(ROOT, 'deploy/systemd', name), 'utf8');
      // The program must be there to be judged.
      writeFileSync(join(folder, name), text.replaceAll('/usr/bin/pglynx', process.execPath));
      await using command = Command.run(ANALYZE ?? '', ['verify', join(folder, name)]);
      assert.deepEqual([await command.ended, command.complaint], [0, '']);
    }
  });
});

suite('what systemd is told', () => {
  /** A systemd-notify that writes down what it is asked to say. */
  function notifier(): { readonly folder: string; said(): string[] } {
    const bin = mkdtempSync(join(folder, 'bin-'));
    const program = join(bin, 'systemd-notify');
    const book = join(bin, 'said');
    writeFileSync(program, `#!/bin/sh\nprintf '%s|' "$NOTIFY_SOCKET" "$@" >> ${book}\necho >> ${book}\n`);
    chmodSync(program, 0o755);
    return { folder: bin, said: () => (existsSync(book) ? readFileSync(book, 'utf8').trim().split('\n') : []) };
  }

  test('is when it serves, reloads and ends, and that it is alive', async () => {
    const { folder: bin, said } = notifier();
    writeFileSync(file, configText(cluster, {}));
    const variables = { NOTIFY_SOCKET: '/run/notify', PATH: `${bin}:$PATH`, WATCHDOG_USEC: '1000000' };
    await using command = service(variables);
    const [, port] = await command.printed(/"msg":"Running on 127\.0\.0\.1:(\d+)"/);
    const told = (words: string) => said().filter(line => line.includes(words));
    await eventually('it is ready', () => told('READY=1').length === 1);
    assert.match(
      told('READY=1')[0],
      new RegExp(`^/run/notify\\|--pid=\\d+\\|READY=1\\|STATUS=Listening on 127.0.0.1:${port}\\|$`),
    );
    await eventually('it is alive', () => told('WATCHDOG=1').length > 1);
    const before = process.hrtime.bigint() / 1000n;
    for (const text of [configText(cluster, { user: { pool_size: 2 } }), 'not TOML']) {
      const ready = told('READY=1').length;
      writeFileSync(file, text);
      command.signal('SIGHUP');
      await eventually('it is ready again', () => told('READY=1').length === ready + 1);
    }
    const reloading = told('RELOADING=1');
    assert.equal(reloading.length, 2);
    const at = BigInt(/\|MONOTONIC_USEC=(\d+)\|/.exec(reloading[0])?.[1] ?? 0);
    assert.ok(at > before && at < process.hrtime.bigint() / 1000n, `${at} after ${before}`);
    command.signal('SIGTERM');
    assert.equal(await command.ended, 0);
    const order = said().flatMap(line => /READY=1|RELOADING=1|STOPPING=1/.exec(line) ?? []);
    assert.deepEqual(order, ['READY=1', 'RELOADING=1', 'READY=1', 'RELOADING=1', 'READY=1', 'STOPPING=1']);
    assert.match(told('STOPPING=1')[0], /STATUS=Shutting down, 0 clients left/);
  });

  test('is nothing, but for a line in the log, where its program is missing', async () => {
    writeFileSync(file, configText(cluster, {}));
    await using command = service({ NOTIFY_SOCKET: '/run/notify', PATH: folder });
    const [, port] = await command.printed(/"msg":"Running on 127\.0\.0\.1:(\d+)"/);
    await command.printed(/systemd cannot be told how the service is: .*systemd-notify/);
    assert.equal(await whoAmI({ port: Number(port) }), 'alice');
    command.signal('SIGTERM');
    assert.equal(await command.ended, 0);
    assert.equal(command.output.match(/systemd cannot be told/g)?.length, 1);
  });
});
