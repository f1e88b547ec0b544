/** Reads whose server is lost, or ends them for its recovery, run on another one; nothing that writes is ever run twice. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, beforeEach, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresServer } from '../../src/demo/postgres.ts';
import { ChaosProxy } from '../chaos/proxy.ts';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

const { bind, describe, execute, parse, query } = frontend;
const SYNC = frontend.sync();

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 2, settings: { autovacuum: 'off', max_standby_streaming_delay: 0 } });
  await cluster.sql('CREATE TABLE kept (n int); CREATE TABLE lines AS SELECT n FROM generate_series(1, 3) AS n');
  await cluster.sql(`CREATE FUNCTION wf(n int) RETURNS int LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO kept VALUES (n); RETURN n; END $$`);
  await cluster.sql(`CREATE FUNCTION slow_wf(n int) RETURNS int LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO kept VALUES (n); PERFORM pg_sleep(5); RETURN n; END $$`);
  await cluster.sql('GRANT ALL ON kept, lines TO PUBLIC');
  await cluster.caughtUp();
});
after(() => cluster?.stop());
beforeEach(async () => {
  await cluster.sql('TRUNCATE kept');
});

const start = (options: ProxyOptions = {}, servers = cluster.servers) =>
  TestProxy.start(
    { servers },
    {
      users: ['alice'],
      ...options,
      pool: { query_parser_enabled: true, read_functions: ['wf'], ...options.pool },
      general: { ban_time: 1, ...options.general },
    },
  );

/** The server that runs a text now, and the process that does; pglynx's names are the cluster's. */
async function whereRuns(text: string, ...ended: number[]): Promise<{ server: PostgresServer; pid: number }> {
  let found: { server: PostgresServer; pid: number } | undefined;
  await eventually(`${text} runs`, async () => {
    for (const server of cluster.servers) {
      if (server.pid === undefined) continue;
      const sessions = await cluster.activity(server);
      const session = sessions.find(({ state, query }) => state === 'active' && query.includes(text));
      if (session !== undefined && !ended.includes(session.pid)) found = { server, pid: session.pid };
    }
    return found !== undefined;
  });
  assert.ok(found);
  return found;
}

/** The values of n that were kept, in order. */
async function kept(): Promise<number[]> {
  const rows = await cluster.sql<{ n: number }>('SELECT n FROM kept ORDER BY n');
  return rows.map(({ n }) => n);
}

const replays = (proxy: TestProxy) =>
  [...proxy.proxy.clusters()].flatMap(({ routes }) => [...routes.uses]).reduce((sum, use) => sum + use.replays, 0);

let sleeping_count = 0;
/** A read that takes time enough to find it and end it, before its rows come; no two are alike. */
function sleeping(): string {
  return `SELECT n FROM lines, (SELECT pg_sleep(1.5)) AS s${sleeping_count++}`;
}
const ROWS = [['1'], ['2'], ['3']];

const FORMS: Readonly<Record<string, (text: string) => Buffer[]>> = {
  'simple query': text => [query(text)],
  'unnamed statement': text => [parse('', text), bind('', ''), describe('P', ''), execute(), SYNC],
  'named statement': text => [parse('s', text), describe('S', 's'), bind('', 's'), execute(), SYNC],
};
const TYPES: Readonly<Record<string, string>> = {
  'simple query': 'TDDDCZ',
  'unnamed statement': '12TDDDCZ',
  'named statement': '1tT2DDDCZ',
};
const typesOf = (messages: readonly Message[]) => messages.map(({ type }) => type).join('');

/** Each ends a read on a replica; what it answers undoes it. */
const WAYS: Readonly<Record<string, (server: PostgresServer, pid: number) => Promise<() => Promise<void>>>> = {
  'is stopped': async server => {
    await server.stop('fast');
    return () => server.start();
  },
  'is stopped at once': async server => {
    await server.stop('immediate');
    return () => server.start();
  },
  'is killed': async server => {
    await server.kill();
    return () => server.start();
  },
  'crashes by another session': async server => {
    const other = await cluster.connect(server);
    const { rows } = await other.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    process.kill(rows[0].pid, 'SIGKILL');
    return () =>
      eventually('it has recovered', () =>
        cluster.connect(server).then(
          client => client.end().then(() => true),
          () => false,
        ),
      );
  },
  'terminates the session': async (server, pid) => {
    await cluster.sql('SELECT pg_terminate_backend($1)', [pid], server);
    return async () => {};
  },
  'ends the read for its recovery': async () => {
    await cluster.sql('BEGIN; LOCK TABLE lines IN ACCESS EXCLUSIVE MODE; COMMIT');
    return async () => {};
  },
};

for (const [way, end] of Object.entries(WAYS)) {
  suite(`a replica ${way}`, () => {
    for (const [form, messages] of Object.entries(FORMS)) {
      test(`and a ${form} runs on another server`, async () => {
        await using proxy = await start();
        await using client = await proxy.raw();
        const text = sleeping();
        client.send(...messages(text));
        const { server, pid } = await whereRuns(text);
        assert.notEqual(server, cluster.primary);
        const undo = await end(server, pid);
        try {
          const received = await client.ready();
          assert.equal(errorOf(received), undefined);
          assert.deepEqual(rowsOf(received), ROWS);
          assert.equal(typesOf(received), TYPES[form]);
          // What ends it on one replica may do so on the other too.
          const most = way.includes('recovery') ? 2 : 1;
          assert.ok(replays(proxy) >= 1 && replays(proxy) <= most, `${replays(proxy)} replays`);
          assert.equal(proxy.log.filter(({ msg }) => /lost with its server/.test(String(msg))).length, replays(proxy));
          assert.deepEqual(rowsOf(await client.query('SELECT 7')), [['7']]);
        } finally {
          await undo();
        }
      });
    }
  });
}

/** A pglynx in front of the primary and of the first replica, which it reaches by a network of its own. */
function behind(network: ChaosProxy): Promise<TestProxy> {
  const replica = { host: network.host, port: network.port, isReplica: true };
  const pool = { query_parser_enabled: true, read_functions: ['wf'] };
  return TestProxy.start({ servers: [cluster.primary, replica] }, { users: ['alice'], pool });
}

async function terminate({ server, pid }: { server: PostgresServer; pid: number }): Promise<void> {
  await cluster.sql('SELECT pg_terminate_backend($1, 1000)', [pid], server);
}

suite('a link that is lost', () => {
  for (const fault of ['reset', 'half closed'] as const) {
    test(`by being ${fault}: the batch runs on another server, and what is behind it keeps its order`, async () => {
      await using network = await ChaosProxy.start(cluster.replica(0));
      await using proxy = await behind(network);
      await using client = await proxy.raw();
      const text = sleeping();
      const read = (text: string) => [parse('', text), bind('', ''), execute()];
      client.send(...read(text), ...read('SELECT 8'), SYNC, query('INSERT INTO kept VALUES (1)'), query('SELECT 9'));
      await whereRuns(text);
      if (fault === 'reset') network.reset();
      else network.halfClose('client');
      assert.deepEqual(rowsOf(await client.ready()), [...ROWS, ['8']]);
      assert.equal(errorOf(await client.ready()), undefined);
      assert.deepEqual(rowsOf(await client.ready()), [['9']]);
      assert.equal(replays(proxy), 1);
      assert.deepEqual(await kept(), [1]);
    });
  }

  test('is an error when rows have gone to the client', async () => {
    await using network = await ChaosProxy.start(cluster.replica(0));
    await using proxy = await behind(network);
    await using client = await proxy.raw();
    client.send(query("SELECT repeat('x', 1000), pg_sleep(0.01) FROM generate_series(1, 1000)"));
    await client.until('D');
    network.reset();
    const messages: Message[] = [];
    // It may have been in the middle of a row, behind which there is no place for an error.
    for (let message = await client.next().catch(() => undefined); message !== undefined; ) {
      messages.push(message);
      message = message.type === 'Z' ? undefined : await client.next().catch(() => undefined);
    }
    assert.ok(messages.length < 990, 'it did not begin anew');
    assert.equal(errorOf(messages)?.code ?? 'torn', client.closed ? 'torn' : '08006');
    assert.equal(replays(proxy), 0);
  });

  test('is an error in a transaction, and its client ends', async () => {
    await using network = await ChaosProxy.start(cluster.replica(0));
    await using proxy = await behind(network);
    await using client = await proxy.raw();
    await client.query('BEGIN READ ONLY');
    const text = sleeping();
    client.send(query(text));
    await whereRuns(text);
    network.reset();
    const error = errorOf(await client.untilClosed());
    assert.deepEqual([error?.severity, error?.code], ['FATAL', '08006']);
    assert.equal(replays(proxy), 0);
  });

  test('is made good on the same server when there is no other', async () => {
    await using proxy = await start({}, [cluster.primary]);
    await using client = await proxy.raw();
    const text = sleeping();
    client.send(query(text));
    const first = await whereRuns(text);
    await terminate(first);
    const second = await whereRuns(text, first.pid);
    assert.equal(second.server, first.server);
    assert.equal(errorOf(await client.ready()), undefined);
    assert.equal(replays(proxy), 1);
  });

  test("may be the primary's: a replica runs the read", async () => {
    const options = { user: { pool_size: 1 }, pool: { primary_reads_enabled: true } };
    await using proxy = await start(options, cluster.servers.slice(0, 2));
    await using holder = await proxy.raw();
    await using client = await proxy.raw();
    const isReplica = async () => {
      await holder.query('BEGIN READ ONLY');
      const [[replica]] = rowsOf(await holder.query('SELECT pg_is_in_recovery()'));
      if (replica !== 't') await holder.query('COMMIT');
      return replica === 't';
    };
    await eventually('the replica is busy', isReplica);
    const text = sleeping();
    client.send(query(text));
    const primary = await whereRuns(text);
    assert.equal(primary.server, cluster.primary);
    await terminate(primary);
    assert.ok(await client.silent(100), 'it waits for the replica');
    await holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.ready()), ROWS);
    assert.equal(replays(proxy), 1);
  });

  test('for the third time, is an error', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    const text = sleeping();
    client.send(query(text));
    const first = await whereRuns(text);
    await terminate(first);
    const second = await whereRuns(text, first.pid);
    assert.notEqual(second.server, first.server);
    await terminate(second);
    await terminate(await whereRuns(text, first.pid, second.pid));
    const error = errorOf(await client.ready());
    assert.deepEqual([error?.severity, error?.code], ['ERROR', '08006'], error?.message);
    assert.equal(replays(proxy), 2);
  });

  test('too often does not keep the next read from being saved', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    for (const replayed of [1, 2]) {
      const text = sleeping();
      client.send(query(text));
      const ended: number[] = [];
      for (let ends = replayed === 1 ? 3 : 1; ends > 0; ends--) {
        const runs = await whereRuns(text, ...ended);
        ended.push(runs.pid);
        await terminate(runs);
      }
      assert.equal(errorOf(await client.ready())?.code, replayed === 1 ? '08006' : undefined);
      assert.equal(replays(proxy), replayed === 1 ? 2 : 3);
    }
  });

  test('saves nothing for a client that is gone', async () => {
    await using network = await ChaosProxy.start(cluster.replica(0));
    await using proxy = await behind(network);
    const client = await proxy.raw();
    const text = sleeping();
    client.send(query(text));
    await whereRuns(text);
    network.faults = { silent: true };
    client.destroy();
    await eventually('pglynx knows', () => [...proxy.proxy.clients()].length === 0);
    network.faults = {};
    network.reset();
    assert.equal(replays(proxy), 0);
  });

  test('after a cancel saves nothing: the client has given up', async () => {
    await using network = await ChaosProxy.start(cluster.replica(0));
    await using proxy = await behind(network);
    await using client = await proxy.raw();
    const text = sleeping();
    client.send(query(text));
    const { pid } = await whereRuns(text);
    process.kill(pid, 'SIGSTOP');
    await cancel(proxy, client);
    await sleep(100);
    network.reset();
    process.kill(pid, 'SIGCONT');
    assert.match(errorOf(await client.ready())?.code ?? '', /^(57014|08006)$/);
    assert.equal(replays(proxy), 0);
  });
});

suite('a write that is lost', () => {
  const WRITES: Readonly<Record<string, (text: string) => Buffer[]>> = {
    'a simple query': text => [query(text)],
    'an unnamed statement': text => [parse('', text), bind('', ''), execute(), SYNC],
    'a batch with a read in front': text => [
      ...[parse('', 'SELECT 1'), bind('', ''), execute(), parse('', text), bind('', ''), execute(), SYNC],
    ],
  };
  for (const [name, messages] of Object.entries(WRITES)) {
    test(`as ${name}, is told as 08007 and not run again`, async () => {
      await using proxy = await start({ pool: { primary_reads_enabled: true } });
      await using client = await proxy.raw();
      const text = `INSERT INTO kept SELECT 1 FROM pg_sleep(1.5) AS s${sleeping_count++}`;
      client.send(...messages(text));
      await terminate(await whereRuns(text));
      assert.equal(errorOf(await client.ready())?.code, '08007');
      await sleep(200);
      assert.deepEqual(await kept(), []);
      assert.equal(replays(proxy), 0);
    });
  }

  test('after it was refused as a read, is 08006 or 08007 and not run a third time', async () => {
    await using proxy = await start({ pool: { read_functions: ['slow_wf'] } });
    await using client = await proxy.raw();
    client.send(query('SELECT slow_wf(1)'));
    await eventually('the primary runs it', async () => {
      const sessions = await cluster.activity();
      return sessions.some(({ state, query }) => state === 'active' && query.includes('slow_wf'));
    });
    await terminate(await whereRuns('slow_wf'));
    assert.match(errorOf(await client.ready())?.code ?? '', /^0800[67]$/);
    await sleep(200);
    assert.deepEqual(await kept(), []);
    assert.equal(replays(proxy), 1);
  });
});

const CLIENTS = 12;
const CHAOS_MS = 3000;

test('replicas that die and come back, and many clients: every read is answered, and every write done once', async context => {
  await using proxy = await start({ pool: { load_balancing_mode: 'random', connect_timeout: 3000 } });
  const until_ms = performance.now() + CHAOS_MS;
  const written = new Set<number>();
  let reads = 0;
  let deaths = 0;

  async function work(number: number): Promise<void> {
    await using client = await proxy.raw();
    client.send(parse('named', `SELECT n, ${number} FROM lines ORDER BY n`), SYNC);
    await client.ready();
    for (let count = 0; performance.now() < until_ms; count++) {
      const id = number * 100_000 + count;
      const forms: (() => [Buffer[], string[][]])[] = [
        () => [[query(`SELECT '${id}', pg_sleep(${randomInt(30) / 1000})`)], [[`${id}`, '']]],
        () => [
          [parse('', 'SELECT $1, n FROM lines'), bind('', '', [`${id}`]), execute(), SYNC],
          ROWS.map(([n]) => [`${id}`, n]),
        ],
        () => [[bind('', 'named'), execute(), SYNC], ROWS.map(([n]) => [n, `${number}`])],
        () => [[query(`SELECT wf(${id}) AS wf${id}`)], [[`${id}`]]],
        () => [[query(`INSERT INTO kept VALUES (${id}) RETURNING n`)], [[`${id}`]]],
        () => [[query('BEGIN; SELECT n FROM lines; COMMIT')], ROWS],
      ];
      const form = randomInt(forms.length);
      const [messages, rows] = forms[form]();
      if (form === 3 || form === 4) written.add(id);
      else reads++;
      client.send(...messages);
      const answer = await client.ready();
      const error = errorOf(answer);
      const got = rowsOf(answer);
      // Lost with one replica and then refused by the other: nothing is sent a third time.
      if (form === 3 && error?.code === '25006') written.delete(id);
      // A server that is stopped at once may die between its last row and the end of the statement.
      else if (error?.code === '08006' && got.length > 0) assert.deepEqual(got, rows.slice(0, got.length));
      else assert.deepEqual([error, got], [undefined, rows]);
    }
  }
  async function disturb(): Promise<void> {
    for (let count = 0; performance.now() < until_ms; count++) {
      const replica = cluster.replica(count % 2);
      await [() => replica.kill(), () => replica.stop('fast'), () => replica.stop('immediate')][randomInt(3)]();
      deaths++;
      await sleep(randomInt(100));
      await replica.start();
      await sleep(150 + randomInt(100));
    }
  }
  // Whoever fails, the others end their work before anything is taken from under them.
  const all = [...Array.from({ length: CLIENTS }, (_, number) => work(number + 1)), disturb()];
  await Promise.allSettled(all);
  await Promise.all(all);
  context.diagnostic(`${reads} reads, ${written.size} writes, ${deaths} deaths, ${replays(proxy)} replays`);
  // Of many templates the first ones are forgotten.
  assert.ok(deaths > 2 && replays(proxy) > 50);
  assert.deepEqual(
    await kept(),
    [...written].sort((a, b) => a - b),
  );
});
