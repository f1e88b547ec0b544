/** A network that goes away without a word: tcp_user_timeout ends what would wait for it, on both sides of pglynx. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { errorOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const LIMIT_MS = 500;

/** PostgreSQL does not run as the root of a namespace of one's own, so only the real one can try this. */
const isAble = process.getuid?.() === 0 && spawnSync('unshare', ['-n', 'ip', 'link', 'set', 'lo', 'up']).status === 0;

if (process.argv[2] === 'inside') await inside();
else {
  suite('a network that goes away', { skip: !isAble && 'needs root, unshare and ip' }, () => {
    test('ends a statement on its way to a server, and a client who cannot get his reply', () => {
      const args = ['-n', process.execPath, import.meta.filename, 'inside'];
      const { stdout, stderr, status } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 });
      assert.equal(status, 0, stderr);
      const { code, message, cause } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
      const reason = `what was sent was not acknowledged for tcp_user_timeout (${LIMIT_MS} ms)`;
      assert.equal(code, '08007');
      assert.ok(message.endsWith(reason), message);
      assert.equal(cause, reason);
    });
  });
}

/** Prints what becomes of a write whose server is behind the network, and of a client who is. */
async function inside(): Promise<void> {
  const ip = (state: string) => execFileSync('ip', ['link', 'set', 'lo', state]);
  ip('up');
  await using cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
  const folder = mkdtempSync(join(tmpdir(), 'pglynx-unplugged-'));
  const general = { unix_socket_dir: folder, tcp_user_timeout: LIMIT_MS };
  const local = { servers: [{ host: cluster.folder, port: cluster.primary.port }] };
  await using remoteServer = await TestProxy.start(cluster, { general, users: ['alice'] });
  await using remoteClient = await TestProxy.start(local, { general, users: ['alice'] });
  const login = { user: 'alice', password: PASSWORDS.alice, database: DATABASE };
  await using near = await RawClient.connect({ ...login, host: folder, port: remoteServer.port });
  await using far = await RawClient.connect({ ...login, port: remoteClient.port });
  await near.query('SELECT 1');
  far.send(frontend.query('SELECT pg_sleep(0.7)'));
  await eventually('it runs', async () => (await cluster.activity()).some(({ query }) => query.includes('pg_sleep')));
  ip('down');
  near.send(frontend.query("INSERT INTO kept VALUES ('a')"));
  const { code, message } = errorOf(await near.ready(30_000)) ?? {};
  const gone = () => remoteClient.log.find(({ msg }) => msg === 'Client disconnected');
  await eventually('the client is given up', () => gone() !== undefined);
  ip('up');
  console.log(JSON.stringify({ code, message, cause: gone()?.cause }));
  rmSync(folder, { recursive: true, force: true });
}
