/** Settings that a reload applies at once: each of them does, and none is forgotten here. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { SECTIONS } from '../../src/config/schema.ts';
import { settingsOf } from '../../src/config/setting.ts';
import { UNBUILT } from '../../src/config/unbuilt.ts';
import { errorOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, configText, type ProxyOptions, type Servers, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

type Values = Readonly<Record<string, string | number | boolean>>;

/** One proxy, and what a reload makes of it. */
class Bench {
  readonly proxy: TestProxy;

  constructor(proxy: TestProxy) {
    this.proxy = proxy;
  }

  /** Reloads with these values in [general], of which some change. */
  async set(general: Values, more: ProxyOptions = {}, servers: Servers = cluster): Promise<void> {
    this.proxy.rewrite(configText(servers, { ...more, general }));
    const words = await this.proxy.proxy.reload();
    assert.ok(
      Object.keys(general).some(key => words.includes(`general.${key}`)),
      String(words),
    );
  }

  admin(user: string, password: string): Promise<RawClient> {
    return RawClient.connect({ port: this.proxy.port, user, password, database: 'pgcat' });
  }

  /** A file beside the configuration. */
  file(name: string, text: string): string {
    const path = join(dirname(this.proxy.path), name);
    writeFileSync(path, text);
    return path;
  }

  /** The pino level at which the last line with this text was logged. */
  levelOf(text: string): unknown {
    return this.proxy.log.findLast(({ msg }) => msg === text)?.level;
  }
}

const [DEBUG, INFO] = [20, 30];

/** Seconds until the kernel asks whether the other side is there, for each connection of this port. */
function keepAliveTimers(port: number, side: 'local' | 'remote' = 'local'): number[] {
  const lines = readFileSync('/proc/net/tcp', 'latin1').split('\n').slice(1);
  return lines.flatMap(line => {
    const [, local = '', remote = '', , , timer = ''] = line.trim().split(/\s+/);
    const [kind, left = ''] = timer.split(':');
    const isOf = (side === 'local' ? local : remote).endsWith(`:${port.toString(16).toUpperCase().padStart(4, '0')}`);
    return isOf && kind === '02' ? [Number.parseInt(left, 16) / TICKS_PER_S] : [];
  });
}

const TICKS_PER_S = 100;

/** Seconds for which each name of a server is remembered. */
function namesKnown({ proxy }: Bench): number[] {
  return proxy.proxy.network.dns.hosts(performance.now()).map(({ ttl_s }) => ttl_s);
}

/** A reload by which servers have names, which are remembered so long. */
async function knowsNames(bench: Bench, general: Values, isRight: (ttl_s: number) => boolean): Promise<void> {
  const [{ port }] = cluster.servers;
  await bench.set(general, {}, { servers: [{ host: 'localhost', port }] });
  await (await bench.proxy.connect()).end();
  await eventually('a name is known', () => {
    const known = namesKnown(bench);
    return known.length === 1 && known.every(isRight);
  });
}

/** What shows that the value of a setting is in force after a reload, where it was not before. */
const CHECKS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  log_client_connections: async bench => {
    await (await bench.proxy.raw()).close();
    assert.equal(bench.levelOf('Client connected'), DEBUG);
    await bench.set({ log_client_connections: true });
    await (await bench.proxy.raw()).close();
    assert.equal(bench.levelOf('Client connected'), INFO);
  },
  log_client_disconnections: async bench => {
    await bench.set({ log_client_disconnections: true });
    await (await bench.proxy.raw()).close();
    await eventually('its end is logged', () => bench.levelOf('Client disconnected') === INFO);
  },
  shutdown_timeout: async bench => {
    await using client = await bench.proxy.raw();
    await client.query('BEGIN');
    await bench.set({ shutdown_timeout: 100 });
    await bench.proxy.proxy.drain();
    assert.equal(bench.proxy.proxy.client_count, 1);
  },
  sigterm: async bench => {
    assert.equal(bench.proxy.proxy.endsAtSigterm, false);
    await bench.set({ sigterm: 'immediate' });
    assert.equal(bench.proxy.proxy.endsAtSigterm, true);
  },
  tcp_keepalives_idle: async bench => {
    if (!existsSync('/proc/net/tcp')) return;
    const [{ port: serverPort }] = cluster.servers;
    await bench.set({ tcp_keepalives_idle: 5000 });
    await using client = await bench.proxy.raw();
    await eventually('it has the new time', () => keepAliveTimers(bench.proxy.port).some(left_s => left_s > 4000));
    assert.ok(!keepAliveTimers(serverPort, 'remote').some(left_s => left_s > 4000));
    // A connection that is opened after the reload.
    await cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'");
    await eventually('another is open', async () => {
      await client.query('SELECT 1');
      return keepAliveTimers(serverPort, 'remote').some(left_s => left_s > 4000);
    });
  },
  enable_prometheus_exporter: async bench => {
    const { proxy } = bench;
    assert.equal(proxy.proxy.metrics_port, undefined);
    await bench.set({ enable_prometheus_exporter: true, prometheus_exporter_port: 0 });
    const { ok } = await fetch(`http://127.0.0.1:${proxy.proxy.metrics_port}/livez`);
    assert.ok(ok);
  },
  admin_username: async bench => {
    await bench.set({ admin_username: 'another' });
    await assert.rejects(bench.admin(ADMIN.user, ADMIN.password), /28P01/);
    await (await bench.admin('another', ADMIN.password)).close();
  },
  admin_password: async bench => {
    await bench.set({ admin_password: 'another' });
    await assert.rejects(bench.admin(ADMIN.user, ADMIN.password), /28P01/);
    await (await bench.admin(ADMIN.user, 'another')).close();
  },
  admin_auth_type: async bench => {
    await bench.set({ admin_auth_type: 'trust' });
    await (await bench.admin(ADMIN.user, 'wrong')).close();
  },
  stats_username: async bench => {
    await bench.set({ stats_username: 'looker', stats_password: 'one' });
    await (await bench.admin('looker', 'one')).close();
  },
  stats_password: async bench => {
    await bench.set({ stats_username: 'looker', stats_password: 'one' });
    await bench.set({ stats_username: 'looker', stats_password: 'two' });
    await assert.rejects(bench.admin('looker', 'one'), /28P01/);
    await (await bench.admin('looker', 'two')).close();
  },
  stats_password_file: async bench => {
    const file = bench.file('stats', 'from a file');
    await bench.set({ stats_username: 'looker', stats_password_file: file });
    await (await bench.admin('looker', 'from a file')).close();
  },
  dns_cache_enabled: async bench => {
    await knowsNames(bench, { dns_cache_enabled: true }, ttl_s => ttl_s <= 30);
    await bench.set({ dns_cache_enabled: false, dns_max_ttl: 40 });
    await eventually('names are forgotten', () => namesKnown(bench).length === 0);
  },
  dns_max_ttl: bench => knowsNames(bench, { dns_cache_enabled: true, dns_max_ttl: 1000 }, ttl_s => ttl_s > 900),
  auth_hba_file: async bench => {
    const lines = (method: string, name: string) => bench.file(name, `host all all all ${method}\n`);
    const user = { auth_type: 'hba' };
    await bench.set({ auth_hba_file: lines('trust', 'one') }, { user });
    const connect = () => RawClient.connect({ port: bench.proxy.port, user: 'alice', database: DATABASE });
    await (await connect()).close();
    await bench.set({ auth_hba_file: lines('reject', 'two') }, { user });
    await assert.rejects(connect(), /28000/);
    lines('trust', 'two');
    await bench.proxy.proxy.reload();
    await (await connect()).close();
  },
  login_failure_limit: async bench => {
    const fail = () => assert.rejects(bench.proxy.connect({ password: 'wrong' }), { code: '28P01' });
    await bench.set({ login_failure_limit: 2, login_failure_interval: 60_000 });
    for (let count = 0; count < 2; count++) await fail();
    await assert.rejects(bench.proxy.connect());
    await bench.set({ login_failure_limit: 20, login_failure_interval: 1 });
    await eventually('it lets more in', () =>
      bench.proxy.connect().then(
        client => client.end().then(() => true),
        () => false,
      ),
    );
  },
  autodb_max_pools: async bench => {
    await bench.set({ autodb_idle_timeout: 60_000 }, { more: anyDatabase() });
    const client = await bench.proxy.connect({ database: 'postgres' });
    await bench.set({ autodb_max_pools: 1 }, { more: anyDatabase() });
    await assert.rejects(bench.proxy.connect({ database: 'template1' }), { code: '53300' });
    await client.end();
  },
  autodb_idle_timeout: async bench => {
    await bench.set({ autodb_max_pools: 5 }, { more: anyDatabase() });
    await (await bench.proxy.connect({ database: 'postgres' })).end();
    const isThere = () => [...bench.proxy.proxy.clusters()].some(({ settings }) => settings.database === 'postgres');
    assert.ok(isThere());
    await bench.set({ autodb_idle_timeout: 1000 }, { more: anyDatabase() });
    await eventually('its pool goes', () => !isThere());
  },
  auth_query_ttl: async bench => {
    const general = {
      auth_query: 'SELECT usename, passwd FROM pg_shadow WHERE usename = $1',
      auth_query_user: 'postgres',
      auth_query_password: '',
    };
    const more = `[pools.${DATABASE}.users.0]\nusername = "alice"\npool_size = 1`;
    const calls = async () => {
      const sql = "SELECT sum(calls)::int AS calls FROM pg_stat_statements WHERE query ~ 'passwd FROM pg_shadow'";
      const [row] = await cluster.sql<{ calls: number | null }>(sql);
      return row?.calls ?? 0;
    };
    const asks = async () => {
      const before = await calls();
      await (await bench.proxy.connect()).end();
      return (await calls()) - before;
    };
    await bench.set({ ...general, auth_query_ttl: 0 }, { users: [], more });
    assert.deepEqual([await asks(), await asks()], [1, 1]);
    await bench.set({ ...general, auth_query_ttl: 60_000 }, { users: [], more });
    await asks();
    assert.equal(await asks(), 0);
  },
  max_message_size: async bench => {
    await bench.set({ max_message_size: 8192 });
    await using client = await bench.proxy.raw();
    client.send(frontend.parse('s', `SELECT '${'x'.repeat(1_000_000)}'`), frontend.sync());
    assert.equal(errorOf(await client.untilClosed())?.code, '08P01');
  },
  client_login_timeout: async bench => {
    await bench.set({ client_login_timeout: 100 });
    const silent = await RawClient.open({ port: bench.proxy.port });
    assert.ok(errorOf(await silent.untilClosed()) !== undefined);
    silent.destroy();
  },
  query_analysis_max_length: async bench => {
    await using client = await bench.proxy.raw();
    const explain = async () => JSON.stringify(await client.query(`EXPLAIN ROUTE SELECT ${'1 + '.repeat(100)} 1`));
    const before = await explain();
    await bench.set({ query_analysis_max_length: 50 });
    assert.notEqual(await explain(), before);
  },
  max_client_conn: async bench => {
    await using _ = await bench.proxy.raw();
    await bench.set({ max_client_conn: 1 });
    await assert.rejects(bench.proxy.raw(), /53300/);
  },
};

/** A pool for every database. */
function anyDatabase(): string {
  const [{ host, port }] = cluster.servers;
  return `[pools."*".users.0]
username = "alice"
password = "${PASSWORDS.alice}"
pool_size = 2
[pools."*".shards.0]
database = "*"
servers = [["${host}", ${port}, "primary"]]`;
}

/** Settings whose reload has a test of its own, and where. */
const ELSEWHERE: readonly string[] = [
  // Both are read anew at each use, by test/net/unacknowledged.test.ts and test/admin/steering.test.ts.
  'tcp_user_timeout',
  'suspend_timeout',
  // Read where login_failure_limit is.
  'login_failure_interval',
  // test/failure/reloads.test.ts
  'autoreload',
  // test/tls
  'tls_certificate',
  'tls_private_key',
  'tls_client_ca',
  'tls_mode',
  // With enable_prometheus_exporter.
  'prometheus_exporter_port',
  // Read with tcp_keepalives_idle in one function, whose effect test/net/keepalive.test.ts shows.
  'tcp_keepalives_count',
  'tcp_keepalives_interval',
  // It may not stand beside the password that every test has; it is read as stats_password_file is.
  'admin_password_file',
];

suite('a setting that says it takes effect at a reload', () => {
  for (const [key, check] of Object.entries(CHECKS)) {
    test(`does: ${key}`, async () => {
      await using proxy = await TestProxy.start(cluster, {});
      await check(new Bench(proxy));
    });
  }

  test('has a test', () => {
    const keys = SECTIONS.flatMap(({ name, schema }) =>
      settingsOf(schema)
        .filter(({ key, reload }) => reload === 'live' && !UNBUILT.has(`${name}.${key}`))
        .map(({ key }) => key),
    );
    assert.deepEqual(
      keys.filter(key => !(key in CHECKS) && !ELSEWHERE.includes(key)),
      [],
    );
  });
});
