/** Servers that stop, hang and come back: where statements go meanwhile, and what their clients are told. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresServer } from '../../src/demo/postgres.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, type RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { backendPid, wholePool } from './backends.ts';

let cluster: TestCluster;
before(async () => {
  // Empty queries, which health checks are, are seen in the log only.
  cluster = await startCluster({ replicas: 2, settings: { log_statement: 'all' } });
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
  await cluster.caughtUp();
});
after(() => cluster?.stop());

const SPLITTING = { query_parser_enabled: true, connect_timeout: 500 };
const QUICK = { healthcheck_delay: 50, healthcheck_timeout: 300 };
const start = (options: ProxyOptions) =>
  TestProxy.start(cluster, { users: ['alice'], ...options, pool: { ...SPLITTING, ...options.pool } });

/** Where each of so many reads ran, one after the other: `primary`, `replica1`, `replica2`; or its error. */
async function reads(client: RawClient, count: number): Promise<string[]> {
  const where: string[] = [];
  for (; count > 0; count--) {
    const messages = await client.query('SELECT inet_server_port()');
    const [row] = rowsOf(messages);
    where.push(row === undefined ? `${errorOf(messages)?.message}` : serverName(Number(row[0])));
  }
  return where;
}

function serverName(port: number): string {
  return cluster.servers.find(server => server.port === port)?.name ?? `port ${port}`;
}

/** The names of pools that were banned, in the order of the log. */
function bans(proxy: TestProxy): string[] {
  return proxy.log.filter(({ msg }) => String(msg).startsWith('Banning')).map(({ server }) => String(server));
}

const WAYS: Readonly<
  Record<string, { down(server: PostgresServer): Promise<void>; up(server: PostgresServer): Promise<void> }>
> = {
  'is stopped': { down: server => server.stop('fast'), up: server => server.start() },
  'is stopped at once': { down: server => server.stop('immediate'), up: server => server.start() },
  'is killed': { down: server => server.kill(), up: server => server.start() },
  hangs: { down: server => server.pause(), up: server => server.resume() },
};

for (const [way, { down, up }] of Object.entries(WAYS)) {
  test(`a replica that ${way} takes no reads after its first failure, until it is back and ban_time is over`, async () => {
    const [first, second] = [cluster.replica(0), cluster.replica(1)];
    await using proxy = await start({ general: { ...QUICK, ban_time: 1 } });
    await using client = await proxy.raw();
    await eventually('both replicas serve', async () => new Set(await reads(client, 10)).size === 2);
    await sleep(100);
    await down(first);
    try {
      const began_ms = performance.now();
      assert.deepEqual(new Set(await reads(client, 30)), new Set([second.name]));
      const took_ms = performance.now() - began_ms;
      assert.ok(took_ms < 1000, `one read at most waits for the replica: ${took_ms} ms`);
      assert.deepEqual(bans(proxy), ['bench_shard_0_replica_0']);
      await sleep(1100);
      assert.deepEqual(new Set(await reads(client, 30)), new Set([second.name]));
      assert.deepEqual(bans(proxy).length, 2, 'it was tried once more');
    } finally {
      await up(first);
    }
    await eventually('both serve again', async () => {
      const where = new Set(await reads(client, 10));
      assert.ok(
        [...where].every(name => name === first.name || name === second.name),
        `${[...where]}`,
      );
      return where.size === 2;
    });
  });
}

suite('when all replicas are stopped', () => {
  const stopAll = () => Promise.all(cluster.replicas.map(replica => replica.stop('fast')));
  const startAll = () => Promise.all(cluster.replicas.map(replica => replica.start()));

  test('reads get an error that says why, the session goes on, and they work at once when the replicas are back', async () => {
    await using proxy = await start({ general: { ban_time: 60 } });
    await using client = await proxy.raw();
    await reads(client, 4);
    await stopAll();
    try {
      for (let count = 0; count < 3; count++) {
        const error = errorOf(await client.query('SELECT 1'));
        assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000']);
        for (const [index, { port }] of cluster.replicas.entries()) {
          assert.ok(error?.message?.includes(`bench_shard_0_replica_${index} (127.0.0.1:${port})`), error?.message);
        }
        assert.match(error?.message ?? '', /AllServersDown.*ECONNREFUSED/);
        assert.equal(errorOf(await client.query("INSERT INTO kept VALUES ('a')")), undefined);
      }
      await client.query('BEGIN');
      assert.deepEqual(await reads(client, 1), ['primary']);
      await client.query('COMMIT');
    } finally {
      await startAll();
    }
    const where = new Set(await reads(client, 20));
    assert.deepEqual([...where].sort(), ['replica1', 'replica2']);
  });

  test('reads go to the primary with primary_reads_enabled', async () => {
    await using proxy = await start({ general: { ban_time: 60 }, pool: { primary_reads_enabled: true } });
    await using client = await proxy.raw();
    await eventually('all servers serve', async () => new Set(await reads(client, 20)).size === 3);
    await stopAll();
    try {
      assert.deepEqual(new Set(await reads(client, 20)), new Set(['primary']));
      assert.deepEqual(bans(proxy).sort(), ['bench_shard_0_replica_0', 'bench_shard_0_replica_1']);
    } finally {
      await startAll();
    }
  });
});

suite('the primary', () => {
  test('that is stopped is never banned: writes fail until it is back, and reads go on', async () => {
    await using proxy = await start({ general: { ban_time: 60 } });
    await using client = await proxy.raw();
    await client.query("INSERT INTO kept VALUES ('a')");
    await cluster.primary.stop('fast');
    try {
      for (let count = 0; count < 3; count++) {
        const error = errorOf(await client.query("INSERT INTO kept VALUES ('a')"));
        assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000']);
        assert.match(error?.message ?? '', /AllServersDown: bench_shard_0_primary .*ECONNREFUSED/);
        assert.match((await reads(client, 1)).join(), /^replica/);
      }
    } finally {
      await cluster.primary.start();
    }
    assert.equal(errorOf(await client.query("INSERT INTO kept VALUES ('a')")), undefined);
    assert.deepEqual(bans(proxy), []);
  });

  const ways: Readonly<Record<string, { restart: () => Promise<void>; cause: RegExp }>> = {
    'is restarted': { restart: () => cluster.primary.restart('fast'), cause: /administrator command/ },
    crashes: {
      restart: async () => {
        await cluster.primary.kill();
        await cluster.primary.start();
      },
      cause: /was lost/,
    },
  };
  for (const [way, { restart, cause }] of Object.entries(ways)) {
    test(`that ${way}: each client is told what became of its statement, and the pool recovers`, async () => {
      const servers = [cluster.primary];
      await using proxy = await TestProxy.start({ servers }, { user: { pool_size: 4 }, pool: SPLITTING });
      const [idle, inTransaction, writing, reading] = await Promise.all(Array.from({ length: 4 }, () => proxy.raw()));
      await idle.query('SELECT 1');
      await inTransaction.query("BEGIN; INSERT INTO kept VALUES ('never')");
      writing.send(frontend.query("INSERT INTO kept SELECT 'never' FROM pg_sleep(100)"));
      reading.send(frontend.query('SELECT pg_sleep(100)'));
      await eventually('both are under way', async () => {
        const active = (await cluster.activity()).filter(({ state }) => state === 'active');
        return active.length === 2;
      });
      await restart();
      const fatal = errorOf(await inTransaction.untilClosed());
      assert.deepEqual([fatal?.severity, fatal?.code], ['FATAL', '08006']);
      assert.match(fatal?.message ?? '', cause);
      const unknown = errorOf(await writing.ready());
      assert.deepEqual([unknown?.severity, unknown?.code], ['ERROR', '08007']);
      assert.match(unknown?.message ?? '', cause);
      // The read runs again.
      await cancel(proxy, reading);
      assert.equal(errorOf(await reading.ready())?.code, '57014');
      for (const client of [idle, writing, reading]) {
        assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
      }
      assert.equal((await wholePool(proxy, 4)).length, 4);
      assert.deepEqual(await cluster.sql("SELECT * FROM kept WHERE line = 'never'"), []);
      await Promise.all([idle, writing, reading].map(client => client.close()));
    });
  }
});

suite('a connection that is lost', () => {
  const one = { users: ['alice'], user: { pool_size: 1 } } as const;
  const sleeping = "INSERT INTO kept SELECT 'never' FROM pg_sleep(100)";
  before(async () => {
    await cluster.sql(`
      CREATE TABLE slow (n int); GRANT ALL ON slow TO PUBLIC;
      CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(100); RETURN NULL; END';
      CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nap()`);
  });

  const commit = [frontend.parse('', 'COMMIT'), frontend.bind('', ''), frontend.execute()];
  const lost: Readonly<Record<string, { first?: string; send: Buffer[]; severity: string; code: string }>> = {
    'in a transaction': {
      first: 'BEGIN',
      send: [frontend.query(sleeping)],
      severity: 'FATAL',
      code: '08006',
    },
    'in COMMIT': {
      first: 'BEGIN; INSERT INTO slow VALUES (1)',
      send: [frontend.query('COMMIT')],
      severity: 'FATAL',
      code: '08007',
    },
    'in an extended COMMIT': {
      first: 'BEGIN; INSERT INTO slow VALUES (1)',
      send: [...commit, frontend.sync()],
      severity: 'FATAL',
      code: '08007',
    },
    'in an extended COMMIT without Sync': {
      first: 'BEGIN; INSERT INTO slow VALUES (1)',
      send: [...commit, frontend.flush()],
      severity: 'FATAL',
      code: '08007',
    },
    'in a write': { send: [frontend.query(sleeping)], severity: 'ERROR', code: '08007' },
    'in a write with a write behind it': {
      send: [frontend.query(sleeping), frontend.query("INSERT INTO kept VALUES ('never')")],
      severity: 'FATAL',
      code: '08007',
    },
  };
  for (const [name, { first, send, severity, code }] of Object.entries(lost)) {
    test(`${name} is told as ${severity} ${code}`, async () => {
      await using proxy = await TestProxy.start({ servers: [cluster.primary] }, { ...one, pool: SPLITTING });
      await using client = await proxy.raw();
      const pid = await backendPid(client);
      if (first !== undefined) await client.query(first);
      client.send(...send);
      await eventually('it is under way', async () => {
        const sessions = await cluster.activity();
        return sessions.some(session => session.pid === pid && session.state === 'active');
      });
      await cluster.sql('SELECT pg_terminate_backend($1, 1000)', [pid]);
      const messages = severity === 'FATAL' ? await client.untilClosed() : await client.ready();
      const error = errorOf(messages);
      assert.deepEqual([error?.severity, error?.code], [severity, code], error?.message);
      assert.doesNotMatch(error?.hint ?? '', code === '08007' ? /rolled back/ : /Check the data/);
      assert.deepEqual(await cluster.sql("SELECT * FROM kept WHERE line = 'never'"), []);
    });
  }
});

suite('a connection that is idle in the pool', () => {
  const one = { users: ['alice'], user: { pool_size: 1 } } as const;
  /** How many health checks the primary has logged. */
  const checks = async () => (await cluster.primary.logText()).split('statement: ;').length - 1;

  test('and was terminated by the server is replaced unseen', async () => {
    await using proxy = await TestProxy.start({ servers: [cluster.primary] }, one);
    await using client = await proxy.raw();
    for (let count = 0; count < 5; count++) {
      const pid = await backendPid(client);
      await cluster.sql('SELECT pg_terminate_backend($1, 1000)', [pid]);
      await eventually('pglynx knows', () => [...proxy.proxy.clusters()][0].pools[0].connections.size === 0);
      assert.notEqual(await backendPid(client), pid);
    }
  });

  test('is checked when it was idle for healthcheck_delay, and not before', async () => {
    const general = { healthcheck_delay: 300 };
    await using proxy = await TestProxy.start({ servers: [cluster.primary] }, { ...one, general });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    const before = await checks();
    for (let count = 0; count < 10; count++) await client.query('SELECT 1');
    assert.equal((await checks()) - before, 0);
    await sleep(350);
    for (let count = 0; count < 10; count++) await client.query('SELECT 1');
    assert.equal((await checks()) - before, 1);
  });

  test('and hangs is replaced unseen when its health check fails', async () => {
    const general = { healthcheck_delay: 100, healthcheck_timeout: 200 };
    await using proxy = await TestProxy.start({ servers: [cluster.primary] }, { ...one, general });
    await using client = await proxy.raw();
    const pid = await backendPid(client);
    process.kill(pid, 'SIGSTOP');
    try {
      await sleep(150);
      assert.notEqual(await backendPid(client), pid);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });
});

test('a server that starts after pglynx serves as soon as it is there', async () => {
  const late = cluster.replica(1);
  await late.stop('fast');
  const general = { ban_time: 60 };
  await using proxy = await TestProxy.start({ servers: [late] }, { users: ['alice'], general }).catch(async error => {
    await late.start();
    throw error;
  });
  try {
    await assert.rejects(proxy.raw(), /FATAL 58000: could not get connection from the pool/);
  } finally {
    await late.start();
  }
  await using client = await proxy.raw();
  assert.deepEqual(await reads(client, 1), ['replica2']);
});

test('a client that vanishes in the middle of a long message bans no replica', async () => {
  await using proxy = await start({});
  const client = await proxy.raw();
  await client.query("SET SERVER ROLE TO 'replica'");
  const bind = frontend.bind('', 's', ['x'.repeat(200_000)]);
  client.send(frontend.parse('s', 'SELECT $1::text'), bind.subarray(0, 80_000));
  await sleep(100);
  client.destroy();
  await using other = await proxy.raw();
  await sleep(50);
  assert.deepEqual([...new Set(await reads(other, 20))].sort(), ['replica1', 'replica2']);
  assert.deepEqual(bans(proxy), []);
});

suite('load balancing', () => {
  test('at random gives every server its share', async () => {
    await using proxy = await start({ pool: { primary_reads_enabled: true, load_balancing_mode: 'random' } });
    await using client = await proxy.raw();
    const counts = new Map<string, number>();
    for (const name of await reads(client, 300)) counts.set(name, (counts.get(name) ?? 0) + 1);
    // Five standard deviations of 100.
    for (const { name } of cluster.servers) {
      const count = counts.get(name) ?? 0;
      assert.ok(count > 59 && count < 141, `${name} has ${count} of 300`);
    }
  });

  /** How many of the statements that these clients run at the same time each server got. */
  /** Nothing of pglynx's own runs on a server while it reads no catalog. */
  async function known({ proxy }: TestProxy): Promise<void> {
    for (const { schema } of proxy.clusters()) {
      schema.start();
      await schema.ready;
    }
  }

  async function spread(clients: readonly RawClient[]): Promise<[string, number][]> {
    const counts = new Map<string, number>();
    await Promise.all(
      clients.map(async client => {
        const [[port]] = rowsOf(await client.query('SELECT inet_server_port() FROM pg_sleep(3)'));
        counts.set(serverName(Number(port)), (counts.get(serverName(Number(port))) ?? 0) + 1);
      }),
    );
    return [...counts].sort();
  }
  const evenly = (count: number) => cluster.servers.map(({ name }) => [name, count]).sort();

  test('by least outstanding connections spreads what runs at the same time', async () => {
    await using proxy = await start({
      user: { pool_size: 5 },
      pool: { primary_reads_enabled: true, load_balancing_mode: 'loc', connect_timeout: 10_000 },
    });
    await known(proxy);
    const clients = await Promise.all(Array.from({ length: 9 }, () => proxy.raw()));
    assert.deepEqual(await spread(clients), evenly(3));
    await Promise.all(clients.map(client => client.close()));
  });

  test('counts no server full that is opening connections for nobody', async () => {
    await using proxy = await start({
      user: { pool_size: 5, min_pool_size: 1 },
      pool: { primary_reads_enabled: true, load_balancing_mode: 'loc', connect_timeout: 10_000 },
    });
    await known(proxy);
    const clients: RawClient[] = [];
    for (let count = 0; count < 9; count++) clients.push(await proxy.raw());
    await eventually('every server has a connection', async () => new Set(await reads(clients[0], 10)).size === 3);
    try {
      await cluster.sql("ALTER SYSTEM SET pre_auth_delay = '1s'");
      await cluster.sql('SELECT pg_reload_conf()');
      // One connection serves all of these before the four opened for them are there.
      await Promise.all(clients.map(client => client.query("INSERT INTO kept VALUES ('a')")));
      assert.deepEqual(await spread(clients), evenly(3));
    } finally {
      await cluster.sql('ALTER SYSTEM RESET pre_auth_delay');
      await cluster.sql('SELECT pg_reload_conf()');
    }
    await Promise.all(clients.map(client => client.close()));
  });

  for (const load_balancing_mode of ['loc', 'p2c']) {
    test(`by ${load_balancing_mode} avoids a server that is busy`, async () => {
      await using proxy = await start({ pool: { load_balancing_mode } });
      await using holder = await proxy.raw();
      await holder.query('BEGIN READ ONLY');
      const [busy] = await reads(holder, 1);
      const [other] = cluster.replicas.map(({ name }) => name).filter(name => name !== busy);
      await using client = await proxy.raw();
      assert.deepEqual(new Set(await reads(client, 20)), new Set([other]));
      await holder.query('COMMIT');
      assert.deepEqual(new Set(await reads(client, 40)).size, 2);
    });
  }

  test('never waits for a busy pool while another has room', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { load_balancing_mode: 'random' } });
    await using holder = await proxy.raw();
    await holder.query('BEGIN READ ONLY');
    const [busy] = await reads(holder, 1);
    await using client = await proxy.raw();
    assert.ok(!(await reads(client, 20)).includes(busy));
  });
});
