/** The safety net: a read that a replica refused, or that was lost with its server, runs once more elsewhere, unseen. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, suite, test } from 'node:test';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, type RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { assertSame, type Step, send, straightTo, through } from '../parity/script.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { settled, wholePool } from './backends.ts';

const { bind, close, describe, execute, flush, parse, query } = frontend;
const SYNC = frontend.sync();

/** Functions that write, which the pool takes for reads. */
const WRITING = ['wf', 'failing', 'noisy', 'slow'];

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 2, settings: { autovacuum: 'off', max_standby_streaming_delay: 0 } });
  const bodies = {
    wf: 'INSERT INTO kept VALUES (n)',
    failing: "INSERT INTO kept VALUES (n); RAISE EXCEPTION 'failed on purpose' USING ERRCODE = 'P1234'",
    noisy: "RAISE NOTICE 'I am going to write'; INSERT INTO kept VALUES (n)",
    slow: 'INSERT INTO kept VALUES (n); PERFORM pg_sleep(30)',
  };
  await cluster.sql('CREATE TABLE kept (n int); CREATE TABLE lines AS SELECT n FROM generate_series(1, 3) AS n');
  await cluster.sql('GRANT ALL ON kept, lines TO PUBLIC');
  for (const [name, body] of Object.entries(bodies)) {
    await cluster.sql(
      `CREATE FUNCTION ${name}(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN ${body}; RETURN n; END $$`,
    );
  }
  await cluster.caughtUp();
});
after(() => cluster?.stop());
beforeEach(async () => {
  await cluster.sql('TRUNCATE kept');
});

const start = (options: ProxyOptions = {}) =>
  TestProxy.start(cluster, {
    users: ['alice'],
    ...options,
    pool: { query_parser_enabled: true, read_functions: WRITING, ...options.pool },
  });

/** The values of n that were kept, in order. */
async function kept(): Promise<number[]> {
  const rows = await cluster.sql<{ n: number }>('SELECT n FROM kept ORDER BY n');
  return rows.map(({ n }) => n);
}

/** How often statements were sent once more, as SHOW ROUTES tells it. */
async function replays(proxy: TestProxy): Promise<number> {
  const admin = await proxy.admin();
  const { rows } = await admin.query<{ replays: string }>('SHOW ROUTES');
  await admin.end();
  return rows.reduce((sum, row) => sum + Number(row.replays), 0);
}

const told = (proxy: TestProxy) =>
  proxy.log.filter(({ msg }) => /refused a read|lost with its server/.test(String(msg)));

suite('a read that a replica refuses', () => {
  const run = (name: string, values: string[] = []) => [bind('', name, values), execute(), SYNC];
  const wait: Step = { until: 'Z' };
  const SQL = 'SELECT wf($1), $2::text';
  const scripts: Record<string, Step[]> = {
    'in a simple query': [send(query('SELECT wf(1)'))],
    'in a simple query, with several rows': [send(query("SELECT 'x', wf(n) FROM generate_series(1, 3) AS n"))],
    'in a simple query, in front of more': [send(query('SELECT wf(1); SELECT 2'))],
    'in a COPY': [send(query('COPY (SELECT wf(n) FROM generate_series(1, 3) AS n) TO STDOUT'))],
    unnamed: [send(parse('', SQL), ...run('', ['1', 'ü']))],
    'unnamed, described': [
      send(parse('', SQL), describe('S', ''), bind('', '', ['1', 'x']), describe('P', ''), execute(), SYNC),
    ],
    'unnamed, prepared before': [send(parse('', SQL), describe('S', ''), SYNC), wait, send(...run('', ['1', 'x']))],
    named: [send(parse('s', SQL, [23, 25]), describe('S', 's'), ...run('s', ['1', 'x']))],
    'named, prepared before': [send(parse('s', SQL), SYNC), wait, send(...run('s', ['1', 'x']))],
    'named, prepared with Flush': [
      send(parse('s', SQL), describe('S', 's'), flush()),
      { until: 'T' },
      send(...run('s', ['1', 'x'])),
    ],
    'named, prepared by another': [
      { other: Buffer.concat([parse('s', SQL), SYNC]) },
      send(parse('t', SQL), bind('', 't', ['1', 'x']), describe('P', ''), execute(), SYNC),
    ],
    'named and closed': [
      send(parse('s', SQL), bind('', 's', ['1', 'x']), close('S', 's'), execute(), SYNC, ...run('s', ['2', 'x'])),
    ],
    'with parts of its rows': [
      send(parse('', 'SELECT wf(n) FROM generate_series(1, 3) AS n'), bind('', ''), execute('', 2), SYNC),
    ],
    'that fails on the primary': [send(query('SELECT failing(1)'), query('SELECT 1'))],
    'that fails on the primary, extended': [
      send(parse('s', 'SELECT failing($1)'), ...run('s', ['1'])),
      wait,
      send(...run('s', []), parse('s', 'SELECT 1'), SYNC),
    ],
  };
  for (const [name, script] of Object.entries(scripts)) {
    for (const replicas of [1, 2]) {
      test(`${name}, is run on the primary as if it had been sent there (${replicas} replicas)`, async () => {
        const servers = cluster.servers.slice(0, replicas + 1);
        await using proxy = await TestProxy.start(
          { servers },
          { users: ['alice'], user: { pool_size: 1 }, pool: { query_parser_enabled: true, read_functions: WRITING } },
        );
        await assertSame(straightTo(cluster), through(proxy), script);
        const once = await kept();
        assert.equal(await replays(proxy), 1);
        assert.equal(told(proxy).length, 1);
        await assertSame(straightTo(cluster), through(proxy), [...script, wait]);
        assert.deepEqual(
          await kept(),
          [...once, ...once].sort((a, b) => a - b),
        );
        assert.equal(await replays(proxy), 1, 'the template goes to the primary now');
        assert.equal(told(proxy).length, 1);
      });
    }
  }
});

test('in a batch of several, the answers keep their order, and all are counted as they were sent', async () => {
  await using proxy = await start();
  const read = (name: string, text: string) => [parse(name, text), bind('', name), execute()];
  await assertSame(straightTo(cluster), through(proxy), [
    send(query('SELECT wf(1)'), query('SELECT 2'), query('INSERT INTO kept VALUES (3)'), query('SELECT n FROM kept')),
    send(...read('a', 'SELECT wf(4), 4'), ...read('b', 'SELECT 5'), SYNC, ...read('c', 'SELECT wf(6), 7'), SYNC),
    send(
      query('BEGIN'),
      query('SELECT wf(8)'),
      query('ROLLBACK'),
      query('/* pglynx: role=primary */ SELECT count(*) FROM kept'),
      query('TRUNCATE kept'),
    ),
  ]);
  assert.equal(await replays(proxy), 2);
});

test('a statement that was refused goes to the primary for every client, in every protocol, and EXPLAIN ROUTE says why', async () => {
  await using proxy = await start();
  await using client = await proxy.raw();
  const explain = async () => Object.fromEntries(rowsOf(await client.query('EXPLAIN ROUTE SELECT wf(1)')));
  assert.equal((await explain()).role, 'replica');
  await client.query('SELECT wf(1)');
  const { role, reason } = await explain();
  assert.deepEqual([role, reason], ['primary', 'refused (was refused by a replica as a write)']);
  await using other = await proxy.raw();
  await other.query('SELECT wf(2)');
  other.send(parse('', 'SELECT wf(3)'), bind('', ''), execute(), SYNC);
  assert.deepEqual(rowsOf(await other.ready()), [['3']]);
  assert.equal(await replays(proxy), 1);
  assert.deepEqual(await kept(), [1, 2, 3]);
});

test("the client's settings and role go with it", async () => {
  await using proxy = await start();
  const script = [send(query("SELECT wf(1), current_setting('TimeZone'), current_setting('work_mem')"))];
  const settings = { TimeZone: 'Asia/Tokyo', options: '-c work_mem=7MB' };
  await assertSame(straightTo(cluster, settings), through(proxy, settings), script);
  assert.equal(await replays(proxy), 1);
});

suite('a read that a replica refuses is not run again', () => {
  const refused = async (client: RawClient, ...messages: Buffer[]) => {
    client.send(...messages);
    const error = errorOf(await client.ready());
    assert.deepEqual([error?.code, error?.severity], ['25006', 'ERROR'], error?.message);
    assert.deepEqual(await kept(), []);
  };
  const replica = frontend.query("SET SERVER ROLE TO 'replica'");

  test('inside a transaction', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    await client.query('BEGIN READ ONLY');
    assert.deepEqual(rowsOf(await client.query('SELECT pg_is_in_recovery()')), [['t']]);
    client.send(query('SELECT wf(1)'));
    assert.equal(errorOf(await client.ready())?.code, '25006');
    assert.equal(errorOf(await client.query('SELECT 1'))?.code, '25P02');
    await client.query('ROLLBACK');
    await refused(client, query('BEGIN READ ONLY; SELECT wf(1); COMMIT'));
    await client.query('ROLLBACK');
    assert.equal(await replays(proxy), 0);
  });

  const cases: Record<string, Buffer[]> = {
    'when rows have gone to the client': [query('SELECT 1; SELECT wf(1)')],
    'when the end of a statement without rows has': [query('SELECT 1 WHERE false; SELECT wf(1)')],
    'when its rows came before it': [
      query("SELECT CASE n WHEN 5000 THEN wf(n) END, repeat('x', 100) FROM generate_series(1, 6000) AS n"),
    ],
    'when rows of another in its batch have': [
      ...[parse('', 'SELECT 1'), bind('', ''), execute(), parse('', 'SELECT wf(1)'), bind('', ''), execute(), SYNC],
    ],
    'when a notice has gone to the client': [query('SELECT noisy(1)')],
    'when a comment asked for the replica': [query('SELECT wf(1) /* pglynx: role=replica */')],
  };
  for (const [name, messages] of Object.entries(cases)) {
    test(name, async () => {
      await using proxy = await start();
      await using client = await proxy.raw();
      await refused(client, ...messages);
      assert.equal(await replays(proxy), 0);
    });
  }

  test('when the client chose the replica', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    client.send(replica);
    await client.ready();
    await refused(client, query('SELECT wf(1)'));
    await refused(client, parse('', 'SELECT wf(1)'), bind('', ''), execute(), SYNC);
    assert.equal(await replays(proxy), 0);
  });

  test('in session mode', async () => {
    await using proxy = await start({ pool: { pool_mode: 'session' } });
    await using client = await proxy.raw();
    client.send(replica);
    await client.ready();
    await refused(client, query('SELECT wf(1)'));
    assert.equal(await replays(proxy), 0);
  });

  test('when no primary is configured', async () => {
    const pool = { query_parser_enabled: true, read_functions: WRITING };
    await using proxy = await TestProxy.start({ servers: cluster.replicas }, { users: ['alice'], pool });
    await using client = await proxy.raw();
    await refused(client, query('SELECT wf(1)'));
    assert.equal(await replays(proxy), 0);
  });
});

suite('while it is run again', () => {
  const begun = () =>
    eventually('the primary runs it', async () => {
      const sessions = await cluster.activity();
      return sessions.some(({ state, query }) => state === 'active' && query.includes('slow'));
    });
  const whole = async (proxy: TestProxy) => {
    assert.equal(await replays(proxy), 1);
    await settled(cluster);
    assert.deepEqual(await kept(), []);
    assert.equal((await wholePool(proxy, 5)).length, 5);
  };

  test('a client may cancel it', async () => {
    await using proxy = await start();
    await using client = await proxy.raw();
    client.send(query('SELECT slow(1)'));
    await begun();
    await cancel(proxy, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
    await whole(proxy);
  });

  test('a client may vanish', async () => {
    await using proxy = await start();
    const client = await proxy.raw();
    client.send(query('SELECT slow(1)'));
    await begun();
    client.destroy();
    await whole(proxy);
  });

  test('statement_timeout ends it', async () => {
    await using proxy = await start({ user: { statement_timeout: 300 } });
    await using client = await proxy.raw();
    client.send(parse('', 'SELECT slow(1)'), bind('', ''), execute(), SYNC, query('SELECT 1'));
    const messages = await client.ready();
    assert.match(errorOf(messages)?.message ?? '', /statement_timeout|statement timeout/);
    assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    await whole(proxy);
  });

  /** The primary's one connection is busy, and a read that was refused waits for it. */
  async function waiting(proxy: TestProxy): Promise<{ holder: RawClient; client: RawClient }> {
    const holder = await proxy.raw();
    await holder.query('BEGIN');
    const client = await proxy.raw();
    client.send(query('SELECT wf(1)'));
    const isWaiting = () => [...proxy.proxy.clients()].some(({ state }) => state === 'waiting');
    await eventually('it waits', isWaiting);
    return { holder, client };
  }
  const served = async ({ holder, client }: { holder: RawClient; client: RawClient }) => {
    await holder.query('COMMIT');
    assert.deepEqual(rowsOf(await holder.query('SELECT 1')), [['1']]);
    await Promise.all([holder.close(), client.close()]);
    await settled(cluster);
  };

  test('it may have to wait for the primary', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    const { holder, client } = await waiting(proxy);
    assert.ok(await client.silent(200));
    await holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.ready()), [['1']]);
    await served({ holder, client });
    assert.deepEqual(await kept(), [1]);
  });

  test('and may be cancelled then', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    const { holder, client } = await waiting(proxy);
    await cancel(proxy, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
    // Nothing of it is left: the next read that is refused is run again as well.
    client.send(query('SELECT wf(2), 2'));
    await holder.query('COMMIT');
    assert.deepEqual(rowsOf(await client.ready()), [['2', '2']]);
    await served({ holder, client });
    assert.deepEqual(await kept(), [2]);
  });

  test('or its client may vanish', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    const { holder, client } = await waiting(proxy);
    client.destroy();
    await eventually('pglynx knows', () => [...proxy.proxy.clients()].length === 1);
    await served({ holder, client });
    assert.deepEqual(await kept(), []);
  });

  test('or connect_timeout may pass, which is an error like any other', async () => {
    await using proxy = await start({ user: { pool_size: 1 }, pool: { connect_timeout: 300 } });
    const { holder, client } = await waiting(proxy);
    const error = errorOf(await client.ready());
    assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000'], error?.message);
    await holder.query('COMMIT');
    client.send(query('SELECT wf(2), 2'));
    assert.deepEqual(rowsOf(await client.ready()), [['2', '2']]);
    await served({ holder, client });
    assert.deepEqual(await kept(), [2]);
  });
});
