/** A pglynx that has no file descriptor left: those who are served are served on, and it says what is wrong. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command, ROOT } from '../cli/command.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText } from '../proxy/index.ts';

const FILES_MAX = 60;

suite('no file descriptor left', () => {
  let cluster: TestCluster;
  let folder: string;
  before(async () => {
    cluster = await startCluster();
    folder = mkdtempSync(join(tmpdir(), 'pglynx-descriptors-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await cluster.stop();
  });

  test('clients go on, servers are not blamed, the log is short, and all is well afterwards', async () => {
    const file = join(folder, 'pgcat.toml');
    const { host, port: server } = cluster.primary;
    const general = { connect_timeout: 1000, validate_config: false };
    // A replica would be banned for a failure of its own.
    const servers = [{ host, port: server, isReplica: true }];
    writeFileSync(file, configText({ servers }, { general, pool: { multiplexing: 'off' }, users: ['alice', 'bob'] }));
    const args = ['-c', `ulimit -n ${FILES_MAX}; exec "$@"`, 'sh', process.execPath, join(ROOT, 'src/cli.ts')];
    await using pglynx = Command.run('sh', [...args, '--log-format', 'structured', file]);
    const port = Number((await pglynx.printed(/"msg":"Running on 127\.0\.0\.1:(\d+)"/))[1]);
    const login = { port, user: 'alice', database: DATABASE, password: PASSWORDS.alice };
    await using busy = await RawClient.connect(login);
    await using late = await RawClient.connect(login);
    await busy.query('BEGIN');

    const sockets: Socket[] = [];
    for (let count = 0; count < 2 * FILES_MAX; count++) sockets.push(connect(port, '127.0.0.1').on('error', () => {}));
    await pglynx.printed(/"level":"error".*no file descriptor left.*ulimit -n/);
    assert.deepEqual(rowsOf(await busy.query('SELECT 1')), [['1']]);
    late.send(frontend.query('SELECT 2'));
    const error = errorOf(await late.ready());
    assert.equal(error?.code, '58000');
    assert.match(error?.message ?? '', /could not be opened: pglynx has no file descriptor left/);
    const lines = pglynx.output.split('\n').length;
    for (let count = 0; count < 200; count++) sockets.push(connect(port, '127.0.0.1').on('error', () => {}));
    await sleep(1500);
    assert.ok(pglynx.output.split('\n').length - lines < 5, pglynx.output);
    assert.deepEqual(rowsOf(await busy.query('SELECT 3')), [['3']]);

    for (const socket of sockets) socket.destroy();
    await pglynx.printed(/There are file descriptors again/);
    await eventually('the other client is served', async () => {
      late.send(frontend.query('SELECT 4'));
      return errorOf(await late.ready()) === undefined;
    });
    await using other = await RawClient.connect({ ...login, user: 'bob', password: PASSWORDS.bob });
    assert.deepEqual(rowsOf(await other.query('SELECT 5')), [['5']]);
    assert.doesNotMatch(pglynx.output, /Banning/);
  });
});
