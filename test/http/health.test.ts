/** /readyz of a running pglynx, and the exporter's port over starts, reloads and the end. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { ChaosProxy } from '../chaos/proxy.ts';
import { Command } from '../cli/command.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, type Servers, TestProxy } from '../proxy/index.ts';

const EXPOSED = { enable_prometheus_exporter: true, prometheus_exporter_port: 0 };

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

const start = (options: ProxyOptions = {}, servers: Servers = cluster) =>
  TestProxy.start(servers, { users: ['alice'], ...options, general: { ...EXPOSED, ...options.general } });

async function readiness({ proxy }: TestProxy): Promise<{ status: number; ready: boolean; reasons: string[] }> {
  const response = await fetch(`http://127.0.0.1:${proxy.metrics_port}/readyz`);
  return { status: response.status, ...JSON.parse(await response.text()) };
}

const isLive = (port: number | undefined) =>
  fetch(`http://127.0.0.1:${port}/livez`).then(
    ({ status }) => status === 200,
    () => false,
  );

/** A port on which somebody listens. */
async function takenPort(): Promise<{ port: number; [Symbol.dispose](): void }> {
  const server = createServer();
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { port, [Symbol.dispose]: () => void server.close() };
}

suite('/readyz', () => {
  test('is 503 with the server’s name while it cannot be reached, and 200 again by being asked', async () => {
    await using way = await ChaosProxy.start(cluster.primary);
    await using proxy = await start({}, { servers: [{ host: way.host, port: way.port }] });
    await eventually('a connection', () => way.connections > 0);
    assert.deepEqual(await readiness(proxy), { status: 200, ready: true, reasons: [] });
    way.refuse();
    way.reset();
    await assert.rejects(proxy.connect());
    const { status, ready, reasons } = await readiness(proxy);
    assert.deepEqual([status, ready, reasons.length], [503, false, 1]);
    assert.match(
      reasons[0],
      new RegExp(`^bench/alice has no healthy server in shard 0: bench_shard_0_primary .*:${way.port}`),
    );
    assert.ok(await isLive(proxy.proxy.metrics_port));
    await way.accept();
    await eventually('readiness', async () => (await readiness(proxy)).status === 200);
  });

  test('is 200 while one of two servers is left', async () => {
    await using way = await ChaosProxy.start(cluster.primary);
    way.refuse();
    const servers = [...cluster.servers, { host: way.host, port: way.port, isReplica: true }];
    await using proxy = await start({}, { servers });
    const metrics = async () => (await fetch(`http://127.0.0.1:${proxy.proxy.metrics_port}/metrics`)).text();
    await eventually('a ban', async () => /^pglynx_server_banned\{.*role="replica".* 1$/m.test(await metrics()));
    assert.equal((await readiness(proxy)).status, 200);
  });

  test('is 200 whatever databases clients ask for that the file does not list', async () => {
    const [{ host, port }] = cluster.servers;
    const any = `[pools."*"]\n[pools."*".users."*"]\nusername = "*"\nauth_type = "trust"\npool_size = 2
[pools."*".shards.0]\ndatabase = "*"\nservers = [["${host}", ${port}, "primary"]]`;
    await using proxy = await start({ more: any });
    await assert.rejects(proxy.connect({ database: 'nowhere', user: 'postgres' }), /nowhere/);
    const names = [...proxy.proxy.clusters()].map(({ name }) => name);
    assert.ok(names.includes('nowhere/postgres'), names.join());
    assert.deepEqual(await readiness(proxy), { status: 200, ready: true, reasons: [] });
  });

  test('is 503 while pglynx drains, with metrics that say so', async () => {
    await using proxy = await start({ general: { shutdown_timeout: 5000 } });
    const client = await proxy.connect();
    await client.query('BEGIN');
    const drained = proxy.proxy.drain();
    assert.deepEqual(await readiness(proxy), {
      status: 503,
      ready: false,
      reasons: ['draining: no new clients are taken'],
    });
    const metrics = await (await fetch(`http://127.0.0.1:${proxy.proxy.metrics_port}/metrics`)).text();
    assert.match(metrics, /^pglynx_draining 1$/m);
    await client.query('COMMIT');
    await drained;
  });
});

suite('the port', () => {
  test('is not listened on unless it is asked for, and not after the end', async () => {
    const silent = await start({ general: { enable_prometheus_exporter: false } });
    assert.equal(silent.proxy.metrics_port, undefined);
    await silent.stop();
    const proxy = await start();
    const port = proxy.proxy.metrics_port;
    assert.ok(await isLive(port));
    await proxy.stop();
    assert.equal(await isLive(port), false);
  });

  test('that is taken ends the start with a clear error', async () => {
    using taken = await takenPort();
    const general = { ...EXPOSED, prometheus_exporter_port: taken.port };
    await assert.rejects(start({ general }), {
      message: /^metrics cannot be served on 127\.0\.0\.1:\d+: listen EADDRINUSE/,
    });
    const folder = mkdtempSync(join(tmpdir(), 'pglynx-exporter-'));
    const file = join(folder, 'pgcat.toml');
    writeFileSync(file, configText(cluster, { general }));
    await using command = Command.pglynx(file);
    assert.equal(await command.ended, 1);
    assert.equal(
      command.complaint,
      `pglynx: 127.0.0.1:${taken.port} for metrics is taken by another process: change general.prometheus_exporter_port, ` +
        'or turn enable_prometheus_exporter off\n',
    );
    rmSync(folder, { recursive: true });
  });

  test('changes with a reload, goes with one, and stays when the new one is taken', async () => {
    using taken = await takenPort();
    await using proxy = await start();
    const first = proxy.proxy.metrics_port;
    const reload = (general: Record<string, number | boolean>, pool_size = 5) => {
      proxy.rewrite(configText(cluster, { users: ['alice'], general, user: { pool_size } }));
      return proxy.proxy.reload();
    };
    await assert.rejects(reload({ ...EXPOSED, prometheus_exporter_port: taken.port }, 3), /metrics cannot be served/);
    assert.ok(await isLive(first));
    const sizes = [...proxy.proxy.clusters()].map(({ settings }) => settings.pool_size);
    assert.deepEqual(sizes, [5], 'nothing else of that file may be in force');

    await reload(EXPOSED, 4);
    assert.deepEqual([proxy.proxy.metrics_port, await isLive(first)], [first, true]);

    const { port: other } = taken;
    taken[Symbol.dispose]();
    assert.deepEqual(await reload({ ...EXPOSED, prometheus_exporter_port: other }, 4), [
      'general.prometheus_exporter_port',
    ]);
    assert.deepEqual([proxy.proxy.metrics_port, await isLive(other), await isLive(first)], [other, true, false]);

    await reload({ enable_prometheus_exporter: false });
    assert.deepEqual([proxy.proxy.metrics_port, await isLive(other)], [undefined, false]);
    await reload({ ...EXPOSED, prometheus_exporter_port: other });
    assert.ok(await isLive(other));
  });
});
