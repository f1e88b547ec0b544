/** The cluster that everything else is tested on: replication, logins, restarts, crashes, and nothing left behind. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { Client } from 'pg';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from './index.ts';

describe('a cluster of a primary and two replicas', () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await startCluster({ replicas: 2 });
  });
  after(() => cluster.stop());

  test('replicas show what the primary wrote, and refuse writes', async () => {
    await cluster.sql('CREATE TABLE notes AS SELECT 42 AS n');
    await cluster.caughtUp();
    for (const replica of cluster.replicas) {
      assert.deepEqual(await cluster.sql('SELECT n, pg_is_in_recovery() AS standby FROM notes', [], replica), [
        { n: 42, standby: true },
      ]);
      await assert.rejects(cluster.sql('INSERT INTO notes VALUES (1)', [], replica), { code: '25006' });
    }
  });

  test('users log in by their method with their password only', async () => {
    for (const [user, password] of Object.entries(PASSWORDS)) {
      const login = (secret: string) =>
        new Client({ host: '127.0.0.1', port: cluster.primary.port, user, password: secret, database: DATABASE });
      const client = login(password);
      await client.connect();
      assert.deepEqual((await client.query('SELECT current_user::text AS name')).rows, [{ name: user }]);
      assert.deepEqual(
        (await cluster.activity()).map(session => session.usename),
        [user],
      );
      await client.end();
      await assert.rejects(login('wrong').connect(), { code: '28P01' });
    }
    await eventually('no session is left', async () => (await cluster.activity()).length === 0);
  });

  test('a restarted server has its port and its data again', async () => {
    const replica = cluster.replica(0);
    const { port } = replica;
    await replica.restart();
    assert.equal(replica.port, port);
    assert.deepEqual(await cluster.sql('SELECT pg_is_in_recovery() AS standby', [], replica), [{ standby: true }]);
  });

  test('a killed primary comes back, and its replicas stream again', async () => {
    await cluster.primary.kill();
    await assert.rejects(cluster.connect(), { code: 'ECONNREFUSED' });
    await cluster.primary.start();
    await cluster.sql('CREATE TABLE after_crash AS SELECT 1 AS n');
    await cluster.caughtUp();
    assert.deepEqual(await cluster.sql('SELECT n FROM after_crash', [], cluster.replica(1)), [{ n: 1 }]);
  });

  test('a paused server does not answer until it is resumed', async () => {
    const replica = cluster.replica(1);
    await replica.pause();
    let answered = false;
    const answer = cluster.sql('SELECT 1 AS one', [], replica).then(rows => {
      answered = true;
      return rows;
    });
    await new Promise(resolve => setTimeout(resolve, 150));
    assert.equal(answered, false);
    await replica.resume();
    assert.deepEqual(await answer, [{ one: 1 }]);
  });

  test('a promoted replica takes writes', async () => {
    const replica = cluster.replica(0);
    await replica.promote();
    await cluster.sql('CREATE TABLE promoted AS SELECT 1', [], replica);
    assert.equal(replica.isReplica, false);
  });
});

test('a setting that PostgreSQL refuses is one line with its reason, and nothing is left', async () => {
  await assert.rejects(startCluster({ settings: { max_connections: 'many' } }), {
    name: 'DemoError',
    message: /^primary did not start: .*max_connections/,
  });
});

test('stop leaves no process and no folder', async () => {
  const cluster = await startCluster({ replicas: 1 });
  const pids = cluster.servers.map(server => server.pid ?? 0);
  assert.ok(pids.every(isRunning) && existsSync(cluster.folder));
  await cluster.stop();
  assert.deepEqual(pids.filter(isRunning), []);
  assert.equal(existsSync(cluster.folder), false);
});

for (const end of ['SIGINT', 'SIGTERM', 'SIGKILL', 'exception'] as const) {
  test(`a process that ends by ${end} leaves no server and no folder`, async () => {
    const script = `
      import { startCluster } from '${new URL('./index.ts', import.meta.url).href}';
      const cluster = await startCluster({ replicas: 1 });
      console.log(JSON.stringify({ folder: cluster.folder, pids: cluster.servers.map(server => server.pid) }));
      process.stdin.once('data', () => { throw new Error('asked for'); });
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'ignore'] });
    const [line] = await once(child.stdout, 'data');
    const { folder, pids }: { folder: string; pids: number[] } = JSON.parse(String(line));
    assert.ok(pids.every(isRunning));
    if (end === 'exception') child.stdin.write('now\n');
    else child.kill(end);
    await Promise.all([once(child, 'exit'), text(child.stdout)]);
    await eventually('servers and folder are gone', () => !pids.some(isRunning) && !existsSync(folder));
  });
}

test('a process that is killed while initdb runs leaves no folder', async () => {
  const script = `
    import { DemoCluster } from '${new URL('../../src/demo/cluster.ts', import.meta.url).href}';
    await DemoCluster.start({ onProgress: console.log, parent: process.argv[1] });
  `;
  const parent = await mkdtemp(join(tmpdir(), 'pglynx-test-'));
  // PostgreSQL's own account must get through it.
  await chmod(parent, 0o755);
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, parent], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(child.stdout, 'data');
  await eventually('initdb has made files', async () => (await readdir(parent, { recursive: true })).length > 20);
  child.kill('SIGKILL');
  await eventually('the folder is empty', async () => (await readdir(parent)).length === 0);
  await rmdir(parent);
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
