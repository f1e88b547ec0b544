/** Scrapes of a running pglynx: what they say, in which form, and that what was counted is never lost. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import { Samples } from '../../src/http/exposition.ts';
import { METRICS } from '../../src/http/metrics.ts';
import { BOUNDS_US } from '../../src/stats/histogram.ts';
import { ChaosProxy } from '../chaos/proxy.ts';
import { DATABASE, eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, type Servers, TestProxy } from '../proxy/index.ts';
import { Scrape } from './exposition.ts';

const EXPOSED = { enable_prometheus_exporter: true, prometheus_exporter_port: 0 };
const ALICE = { pool: DATABASE, username: 'alice', role: 'primary' };
const OF_ALICE = { database: DATABASE, user: 'alice', role: 'primary' };

/** Whether the system tells of file descriptors. */
const hasProc = existsSync('/proc/self/fd');

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

function start({ general, ...options }: ProxyOptions = {}, servers: Servers = cluster): Promise<TestProxy> {
  return TestProxy.start(servers, { general: { ...EXPOSED, connect_timeout: 10_000, ...general }, ...options });
}

async function textOf({ proxy }: TestProxy): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${proxy.metrics_port}/metrics`);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  return response.text();
}

const scrape = async (proxy: TestProxy) => new Scrape(await textOf(proxy));

/** A pglynx to which everything has happened that a metric may tell of, and a replica that is not there. */
async function startEventful(): Promise<{ proxy: TestProxy; gone: ChaosProxy }> {
  const gone = await ChaosProxy.start(cluster.primary);
  gone.refuse();
  const servers = [...cluster.servers, { host: gone.host, port: gone.port, isReplica: true }];
  const proxy = await start({ pool: { query_parser_enabled: true, primary_reads_enabled: true } }, { servers });
  const client = await proxy.connect();
  await client.query('SELECT 1');
  await client.query({ name: 'one', text: 'SELECT 1' });
  await client.end();
  await assert.rejects(proxy.connect({ password: 'wrong' }));
  await eventually('a ban', async () => (await scrape(proxy)).samples('pglynx_bans_total').length > 0);
  return { proxy, gone };
}

suite('the form', () => {
  test('every metric of the table is in a scrape with its type and labels, and no other is', async () => {
    const { proxy } = await startEventful();
    await using _ = proxy;
    const { families } = await scrape(proxy);
    assert.deepEqual(
      [...families.values()].map(({ name, type, help }) => ({ name, type, help })),
      METRICS.filter(({ name }) => hasProc || !name.endsWith('_fds')).map(({ name, type, help }) => ({
        name,
        type,
        help,
      })),
    );
    for (const { name, labels } of METRICS) {
      for (const sample of families.get(name)?.samples ?? []) {
        const { le, quantile, ...rest } = sample.labels;
        assert.deepEqual(Object.keys(rest).sort(), [...labels].sort(), name);
      }
    }
  });

  test('promtool accepts it, and finds fault with PgCat’s names only', async context => {
    const { error } = spawnSync('promtool', ['--version']);
    if (error !== undefined) return context.skip('promtool is not installed (Debian: prometheus)');
    const { proxy } = await startEventful();
    await using _ = proxy;
    const { status, stderr, stdout } = spawnSync('promtool', ['check', 'metrics'], {
      input: await textOf(proxy),
      encoding: 'utf8',
    });
    const complaints = `${stdout}${stderr}`.split('\n').filter(line => line !== '');
    assert.deepEqual(
      complaints.filter(line => !/^pgcat_\w+ (?!no help)/.test(line)),
      [],
    );
    // 3 is for names, 1 for what cannot be read.
    assert.equal(status, 3);
  });

  test('names that are hostile to it come back as they are', async () => {
    const name = 'a "quoted" \\ name\nof two lines, {le="1"} 5';
    const text = `[pools.${JSON.stringify(name)}]\n[pools.${JSON.stringify(name)}.users.0]\nusername = "\\u00fc"
password = "secret"\npool_size = 3\n[pools.${JSON.stringify(name)}.shards.0]\ndatabase = "x"
servers = [["127.0.0.1", 1, "primary"]]`;
    await using proxy = await start({ more: text });
    const all = await scrape(proxy);
    assert.equal(all.value('pgcat_databases_pool_size', { pool: name, username: 'ü' }), 3);
  });

  test('what one metric is told twice of the same labels is added up', () => {
    const samples = new Samples({ name: 'a', type: 'gauge', help: 'With a \\ and\na line.' });
    samples.add({ b: 1 }, 2);
    samples.add({ b: '1' }, 3);
    samples.add({}, Number.POSITIVE_INFINITY);
    assert.equal(String(samples), '# HELP a With a \\\\ and\\na line.\n# TYPE a gauge\na{b="1"} 5\na +Inf\n');
    assert.equal(String(new Samples({ name: 'a', type: 'gauge', help: '' })), '');
  });
});

suite('what is counted', () => {
  test('queries, transactions and waits, each once', async () => {
    await using proxy = await start({ pool: { multiplexing: 'off' } });
    const client = await proxy.connect();
    const before = await scrape(proxy);
    for (let count = 0; count < 3; count++) await client.query('SELECT 1');
    await client.query('BEGIN');
    await client.query('SELECT pg_sleep(0.03)');
    await client.query('COMMIT');
    const after = await scrape(proxy);
    const grown = (name: string, labels: Record<string, string>) =>
      after.value(name, labels) - before.value(name, labels);
    assert.equal(grown('pgcat_stats_total_query_count', ALICE), 6);
    assert.equal(grown('pgcat_servers_query_count', ALICE), 6);
    assert.equal(grown('pgcat_stats_total_xact_count', ALICE), 4);
    assert.equal(grown('pgcat_servers_transaction_count', ALICE), 4);
    assert.equal(grown('pglynx_query_duration_seconds_count', OF_ALICE), 6);
    assert.equal(grown('pglynx_transaction_duration_seconds_count', OF_ALICE), 4);
    assert.equal(grown('pglynx_wait_duration_seconds_count', OF_ALICE), 4);
    assert.equal(grown('pglynx_leases_total', OF_ALICE), 4);
    assert.equal(grown('pglynx_client_logins_total', { database: DATABASE, user: 'bob' }), 0);
    assert.equal(after.value('pglynx_client_logins_total', { database: DATABASE, user: 'alice' }), 1);
    for (const name of ['pglynx_query_duration_seconds', 'pglynx_transaction_duration_seconds']) {
      assert.ok(grown(`${name}_sum`, OF_ALICE) >= 0.03, name);
      // The sleep is in none of the buckets below its length.
      assert.ok(grown(`${name}_bucket`, { ...OF_ALICE, le: '0.02' }) <= grown(`${name}_count`, OF_ALICE) - 1, name);
    }
    assert.ok(
      Math.abs(
        grown('pgcat_stats_total_query_time', ALICE) - 1000 * grown('pglynx_query_duration_seconds_sum', OF_ALICE),
      ) < 0.01,
    );
    assert.equal(after.samples('pglynx_query_duration_seconds_bucket', OF_ALICE).length, BOUNDS_US.length + 1);
    await client.end();
  });

  test('bytes and statements of connections that are gone, and errors of clients that are', async () => {
    await using proxy = await start({ pool: { multiplexing: 'off' } });
    const client = await proxy.connect();
    const text = `SELECT '${'x'.repeat(10_000)}'`;
    await client.query({ name: 'long', text });
    await client.query({ name: 'long', text });
    await assert.rejects(client.query('SELECT pg_terminate_backend(pg_backend_pid())'));
    await client.end();
    await eventually('the end of the connection', async () => {
      return (await scrape(proxy)).value('pgcat_pools_sv_idle', { user: 'alice' }) === 0;
    });
    const after = await scrape(proxy);
    assert.ok(after.value('pgcat_stats_total_received', ALICE) >= 20_000);
    assert.ok(after.value('pglynx_server_received_bytes_total', OF_ALICE) >= 20_000);
    assert.ok(after.value('pgcat_servers_bytes_sent', ALICE) >= 10_000);
    assert.ok(after.value('pglynx_prepared_statement_hits_total', OF_ALICE) >= 1);
    assert.ok(after.value('pglynx_prepared_statement_misses_total', OF_ALICE) >= 1);
    assert.ok(after.value('pglynx_server_connections_opened_total', OF_ALICE) >= 1);
    assert.equal(after.value('pglynx_client_errors_total', { user: 'alice' }), 1);
  });

  test('shared exchanges, routes with their reasons, and failed logins', async () => {
    await using proxy = await start({ pool: { query_parser_enabled: true } });
    const client = await proxy.connect();
    await eventually('a shared exchange', async () => {
      await client.query('SELECT 1');
      return (await scrape(proxy)).value('pglynx_shared_exchanges_total', OF_ALICE) > 0;
    });
    const before = await scrape(proxy);
    await client.query('SELECT 1');
    await client.query('CREATE TEMP TABLE t (id int); DROP TABLE t');
    const after = await scrape(proxy);
    const grown = (name: string, labels: Record<string, string>) => after.sum(name, labels) - before.sum(name, labels);
    assert.equal(grown('pglynx_routes_total', { user: 'alice', reason: 'read_without_replica', role: 'primary' }), 1);
    assert.equal(grown('pglynx_routes_total', { user: 'alice', reason: 'write', role: 'primary' }), 1);
    assert.equal(grown('pglynx_shared_exchanges_total', OF_ALICE), 1);
    await assert.rejects(proxy.connect({ password: 'wrong' }));
    await assert.rejects(proxy.connect({ database: 'nowhere' }));
    const failed = await scrape(proxy);
    assert.equal(failed.sum('pglynx_login_failures_total'), 2);
    assert.ok(failed.value('pglynx_login_failures_total', { sqlstate: '28P01' }) >= 1);
    await client.end();
  });

  test('clients and connections as they are now', async () => {
    await using proxy = await start({ user: { pool_size: 1, min_pool_size: 1 }, pool: { connect_timeout: 5000 } });
    const holder = await proxy.connect();
    const waiter = await proxy.connect();
    await holder.query('BEGIN');
    const waited = waiter.query('BEGIN');
    await eventually(
      'a waiter',
      async () => (await scrape(proxy)).value('pgcat_pools_cl_waiting', { user: 'alice' }) === 1,
    );
    const now = await scrape(proxy);
    assert.equal(now.value('pgcat_pools_cl_active', { user: 'alice' }), 1);
    assert.equal(now.value('pglynx_clients', { user: 'alice', state: 'waiting' }), 1);
    assert.equal(now.value('pglynx_waiting_claims', OF_ALICE), 1);
    assert.ok(now.value('pglynx_oldest_wait_seconds', OF_ALICE) > 0);
    assert.equal(now.value('pglynx_server_connections', { ...OF_ALICE, state: 'active' }), 1);
    assert.equal(now.value('pgcat_servers_active_count', ALICE), 1);
    assert.equal(now.value('pgcat_databases_current_connections', ALICE), 1);
    assert.equal(now.value('pgcat_databases_pool_size', ALICE), 1);
    assert.equal(now.value('pglynx_server_up', OF_ALICE), 1);
    await holder.query('COMMIT');
    await waited;
    await Promise.all([holder.end(), waiter.end()]);
  });

  test('pools that are paused', async () => {
    await using proxy = await start();
    const admin = await proxy.admin();
    const paused = async () => (await scrape(proxy)).samples('pgcat_servers_is_paused').map(({ value }) => value);
    assert.deepEqual(await paused(), [0, 0]);
    await admin.query(`PAUSE ${DATABASE}, alice`);
    assert.deepEqual(await paused(), [1, 0]);
    await admin.query(`RESUME ${DATABASE}, alice`);
    assert.deepEqual(await paused(), [0, 0]);
    await admin.end();
  });

  test('bans, and servers that are not there', async () => {
    const { proxy, gone } = await startEventful();
    await using _ = proxy;
    const replica = { host: gone.host, port: String(gone.port), role: 'replica' };
    const now = await scrape(proxy);
    assert.ok(now.value('pglynx_bans_total', { ...replica, user: 'alice', reason: 'FailedCheckout' }) >= 1);
    assert.equal(now.value('pglynx_server_banned', { ...replica, user: 'alice' }), 1);
    assert.equal(now.value('pgcat_servers_is_banned', { role: 'replica', username: 'alice' }), 1);
    assert.equal(now.value('pglynx_server_up', { ...replica, user: 'alice' }), 0);
    assert.ok(now.value('pgcat_servers_error_count', { role: 'replica', username: 'alice' }) >= 1);
  });

  test('the process: time, memory, descriptors, delays of its event loop', async () => {
    await using proxy = await start();
    const before = await scrape(proxy);
    const until = performance.now() + 200;
    const began = process.cpuUsage();
    while (performance.now() < until || process.cpuUsage(began).user < 100_000);
    await eventually('a late event loop', async () => {
      return (await scrape(proxy)).value('pglynx_event_loop_delay_seconds', { quantile: '1' }) >= 0.1;
    });
    const after = await scrape(proxy);
    const cpu = { mode: 'user' };
    const name = 'pglynx_process_cpu_seconds_total';
    assert.ok(after.value(name, cpu) - before.value(name, cpu) > 0.05);
    assert.ok(
      after.value('pglynx_event_loop_delay_seconds_count') > before.value('pglynx_event_loop_delay_seconds_count'),
    );
    assert.ok(after.value('pglynx_process_resident_memory_bytes') > 10_000_000);
    assert.ok(after.value('pglynx_process_uptime_seconds') > before.value('pglynx_process_uptime_seconds'));
    const version = { version: proxy.proxy.version, node: process.versions.node };
    assert.equal(after.value('pglynx_build_info', version), 1);
    if (!hasProc) return;
    assert.ok(after.value('pglynx_process_open_fds') > 5);
    assert.ok(after.value('pglynx_process_max_fds') > after.value('pglynx_process_open_fds'));
  });
});

/** Counters, sums and counts, by name and labels. */
function counted({ families }: Scrape): Map<string, number> {
  const grows = (type: string, name: string) =>
    type === 'counter' || type === 'histogram' || (type === 'summary' && /_(sum|count)$/.test(name));
  const samples = [...families.values()].flatMap(({ type, samples }) =>
    samples.filter(({ name }) => grows(type, name)),
  );
  return new Map(samples.map(({ name, labels, value }) => [JSON.stringify([name, labels]), value]));
}

suite('counters only grow', () => {
  test('over reloads that renew, remove and return pools, while clients and connections come and go', async () => {
    const general = { ...EXPOSED, connect_timeout: 10_000 };
    await using proxy = await start({ general });
    const admin = await proxy.admin();
    const files = [
      configText(cluster, { general, user: { pool_size: 3 } }),
      configText(cluster, { general, users: ['bob'] }),
      configText(cluster, { general, pool: { multiplexing: 'off' } }),
      configText(cluster, { general, user: { pool_mode: 'session' } }),
    ];
    let before = counted(await scrape(proxy));
    let served = 0;
    for (const text of [...files, ...files]) {
      proxy.rewrite(text);
      await proxy.proxy.reload();
      if (text !== files[1]) {
        const client = await proxy.connect();
        for (let count = 0; count < 10; count++) await client.query('SELECT 1');
        served += 10;
        await admin.query('RECONNECT');
        if (text !== files[0]) await client.end();
      }
      const all = await scrape(proxy);
      const now = counted(all);
      for (const [name, value] of before)
        assert.ok((now.get(name) ?? -1) >= value, `${name}: ${value} > ${now.get(name)}`);
      before = now;
      assert.equal(all.value('pglynx_query_duration_seconds_count', OF_ALICE), served);
      assert.equal(all.value('pgcat_stats_total_query_count', ALICE), served);
    }
    assert.equal((await scrape(proxy)).value('pglynx_client_logins_total', { user: 'alice' }), served / 10);
    await admin.end();
  });
});
