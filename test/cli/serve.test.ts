/** `pglynx FILE` as a service: it serves, reloads, drains and ends as its signals say. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Client } from 'pg';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText } from '../proxy/index.ts';
import { Command } from './command.ts';

suite('pglynx FILE', () => {
  let cluster: TestCluster;
  let folder: string;
  let file: string;
  before(async () => {
    cluster = await startCluster();
    folder = mkdtempSync(join(tmpdir(), 'pglynx-cli-'));
    file = join(folder, 'pgcat.toml');
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await cluster.stop();
  });

  async function start(text = configText(cluster, { users: ['alice'] })): Promise<{ command: Command; port: number }> {
    writeFileSync(file, text);
    const command = Command.pglynx('--log-format', 'structured', file);
    const [, port] = await command.printed(/"msg":"Running on 127\.0\.0\.1:(\d+)"/);
    return { command, port: Number(port) };
  }

  async function connect(port: number, user: 'alice' | 'bob'): Promise<Client> {
    const client = new Client({ host: '127.0.0.1', port, user, password: PASSWORDS[user], database: DATABASE });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  test('serves the servers of its file until SIGTERM, which lets a transaction end', async () => {
    const { command, port } = await start();
    await using _ = command;
    const client = await connect(port, 'alice');
    await client.query('BEGIN');
    command.signal('SIGTERM');
    await command.printed(/SIGTERM: waiting for transactions to end/);
    assert.deepEqual((await client.query('SELECT current_user::text AS name')).rows, [{ name: 'alice' }]);
    await client.query('COMMIT');
    assert.equal(await command.ended, 0);
  });

  test('a second signal ends it at once', async () => {
    const { command, port } = await start();
    await using _ = command;
    const client = await connect(port, 'alice');
    await client.query('BEGIN');
    command.signal('SIGINT');
    await command.printed(/SIGINT: waiting for transactions to end/);
    await new Promise(resolve => setTimeout(resolve, 400));
    command.signal('SIGINT');
    assert.equal(await command.ended, 130);
  });

  test('SIGHUP applies a good file and nothing of a bad one', async () => {
    const { command, port } = await start();
    await using _ = command;
    await assert.rejects(connect(port, 'bob'), { code: '28P01' });
    writeFileSync(file, `${configText(cluster, { users: ['alice', 'bob'] })}\nprot = 1\n`);
    command.signal('SIGHUP');
    await command.printed(/"level":"error".*reload changed nothing: .*pgcat\.toml:\d+:\d+: .*prot/);
    await assert.rejects(connect(port, 'bob'), { code: '28P01' });
    writeFileSync(file, configText(cluster, { users: ['alice', 'bob'] }));
    command.signal('SIGHUP');
    await command.printed(/Config changed, reloading/);
    await (await connect(port, 'bob')).end();
    await (await connect(port, 'alice')).end();
  });

  test('a taken port is one line that names the key to change', async () => {
    const { command, port } = await start();
    await using _ = command;
    const second = join(folder, 'second.toml');
    writeFileSync(second, configText(cluster, { general: { port } }));
    await using late = Command.pglynx(second);
    assert.equal(await late.ended, 1);
    assert.equal(
      late.complaint,
      `pglynx: 127.0.0.1:${port} is taken by another process: change general.port in ${second}\n`,
    );
  });
});
