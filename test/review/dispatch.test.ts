/** Shared dispatch at its seams: who waits behind what is stuck, what was assumed and did not come to pass, late cancels. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dispatcher, type DispatchOwner } from '../../src/pool/dispatcher.ts';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, type RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const { bind, execute, parse, query, sync } = frontend;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE seats (id int PRIMARY KEY, n int NOT NULL); GRANT ALL ON seats TO PUBLIC');
  await cluster.sql('INSERT INTO seats SELECT id, 0 FROM generate_series(1, 100) AS id');
});
after(() => cluster.stop());

const start = (user: Record<string, string | number | boolean>, pool: Record<string, string | number> = {}) =>
  TestProxy.start(cluster, { user, pool });

/** Runs statements until their templates are known and shared. */
async function teach(proxy: TestProxy, client: RawClient, ...batches: readonly (readonly Buffer[])[]): Promise<void> {
  const shared = async () => {
    const admin = await proxy.admin();
    const { rows } = await admin.query('SHOW STATS');
    await admin.end();
    return rows.reduce((sum, row) => sum + Number(row.total_shared_count ?? row.shared_count ?? 0), 0);
  };
  await eventually('statements are shared', async () => {
    for (const messages of batches) {
      client.send(...messages);
      await client.ready();
    }
    return (await shared()) > 0;
  });
  for (let round = 0; round < 20; round++) {
    for (const messages of batches) {
      client.send(...messages);
      await client.ready();
    }
  }
}

const update = (id: number) => [query(`UPDATE seats SET n = n + 1 WHERE id = ${id}`)];
const one = [query('SELECT 1')];

/** Fails unless the client is answered without an error. */
async function assertServed(client: RawClient, when: string): Promise<void> {
  const error = errorOf(await client.ready(8000));
  assert.equal(error?.message, undefined, when);
}

/** Statements that take a few ms each, one behind the other, so that their connection is never idle. */
async function crowd(proxy: TestProxy, text = COUNT): Promise<() => Promise<void>> {
  const clients = await Promise.all(Array.from({ length: 8 }, () => proxy.raw()));
  let isOver = false;
  const traffic = clients.map(async client => {
    while (!isOver) assert.equal(errorOf(await client.query(text, 8000))?.message, undefined);
  });
  return async () => {
    isOver = true;
    await Promise.allSettled(traffic);
    for (const client of clients) client.destroy();
  };
}

const SHORT = 'SELECT count(*) FROM generate_series(1, 400)';
const COUNT = 'SELECT count(*) FROM generate_series(1, 20000)';

suite('a statement of a kind that is fast waits for a row lock', () => {
  for (const [what, messages] of [
    ['a read that may share', one],
    ['a transaction', [query('BEGIN')]],
  ] as const) {
    test(`${what} gets a new connection where the pool has room`, async () => {
      await using proxy = await start({ pool_size: 10 });
      await using teacher = await proxy.raw();
      await teach(proxy, teacher, update(1), one);
      const holder = await cluster.connect();
      await holder.query('BEGIN; UPDATE seats SET n = 0 WHERE id = 1');
      const stuck: RawClient[] = [];
      try {
        for (let count = 0; count < 4; count++) {
          const client = await proxy.raw();
          stuck.push(client);
          client.send(...update(1));
          await sleep(100);
          await using other = await proxy.raw();
          other.send(...messages);
          await assertServed(other, `${count + 1} of 10 connections are stuck`);
        }
      } finally {
        await holder.query('ROLLBACK');
        await holder.end();
        for (const client of stuck) client.destroy();
      }
    });
  }

  test('a transaction gets a connection that others share, not the one that is stuck', async () => {
    await using proxy = await start({ pool_size: 2 }, { multiplexing_max_wait: 100 });
    await using teacher = await proxy.raw();
    await teach(proxy, teacher, update(2), [query(COUNT)]);
    const holder = await cluster.connect();
    await holder.query('BEGIN; UPDATE seats SET n = 0 WHERE id = 2');
    await using stuck = await proxy.raw();
    stuck.send(...update(2));
    const end = await crowd(proxy);
    try {
      await sleep(300);
      await using other = await proxy.raw();
      other.send(query('BEGIN'));
      await assertServed(other, 'one of 2 connections is stuck');
    } finally {
      await holder.query('ROLLBACK');
      await holder.end();
      await end();
    }
  });

  test('who waits for a connection that is lost is served by another', async () => {
    await using proxy = await start({ pool_size: 2, connect_timeout: 5000 }, { multiplexing_max_wait: 100 });
    await using teacher = await proxy.raw();
    await teach(proxy, teacher, update(3), [query(SHORT)]);
    const holder = await cluster.connect();
    await holder.query('BEGIN; UPDATE seats SET n = 0 WHERE id = 3');
    await using stuck = await proxy.raw();
    stuck.send(...update(3));
    const end = await crowd(proxy, SHORT);
    try {
      await sleep(300);
      await using other = await proxy.raw();
      other.send(query('BEGIN'));
      await sleep(50);
      await cluster.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'UPDATE seats%id = 3' AND wait_event_type = 'Lock'",
      );
      await assertServed(other, 'the connection that was stuck is gone');
    } finally {
      await holder.query('ROLLBACK');
      await holder.end();
      await end();
    }
  });
});

suite('behind an exchange that fails before it has prepared what it was to prepare', () => {
  const SLEEP = 'SELECT $1::text FROM pg_sleep($2::float8)';
  const DIVIDE = 'SELECT 100 / $1::int';
  const GREET = "SELECT 'greeting ' || $1::int";
  const MISSING = 'SELECT * FROM no_such_table';
  const nap = (seconds: string) => [bind('', 'nap', ['', seconds]), execute()];
  const divide = (by: string) => [parse('', DIVIDE), bind('', '', [by]), execute()];
  const greet = [parse('', GREET), bind('', '', ['7']), execute()];

  for (const cache of [0, 500]) {
    test(`an unnamed statement is the client's own, with a cache of ${cache}`, async () => {
      await using proxy = await start(
        { pool_size: 1 },
        { multiplexing_max_wait: 1000, prepared_statements_cache_size: cache },
      );
      await using first = await proxy.raw();
      await using second = await proxy.raw();
      if (cache > 0) {
        first.send(parse('nap', SLEEP), sync());
        await first.ready();
      }
      const rest = cache > 0 ? nap : (seconds: string) => [parse('', SLEEP), bind('', '', ['', seconds]), execute()];
      await teach(proxy, first, [...rest('0'), sync()], [...divide('1'), sync()], [...greet, sync()]);
      second.send(parse('', GREET), sync());
      await second.ready();
      first.send(...rest('0.1'), ...divide('0'), ...greet, sync());
      await sleep(30);
      second.send(bind('', '', ['50']), execute(), sync());
      assert.equal(errorOf(await first.ready())?.code, '22012');
      const answer = await second.ready();
      assert.equal(errorOf(answer)?.message, undefined);
      assert.deepEqual(rowsOf(answer), [['greeting 50']]);
    });
  }

  test("an unnamed statement that another client has just prepared as well is the client's own", async () => {
    await using proxy = await start({ pool_size: 1 }, { multiplexing_max_wait: 1000 });
    await using first = await proxy.raw();
    await using second = await proxy.raw();
    first.send(parse('nap', SLEEP), sync());
    await first.ready();
    const salute = (to: string, by: string) => [
      parse('', `SELECT 'salute to ${to} ' || $1::int`),
      bind('', '', [by]),
      execute(),
    ];
    await teach(proxy, first, [...nap('0'), sync()], [...divide('1'), sync()], [...salute('one', '1'), sync()]);
    first.send(...nap('0.1'), ...divide('0'), ...salute('all', '1'), sync());
    await sleep(30);
    second.send(...salute('all', '50'), sync());
    assert.equal(errorOf(await first.ready())?.code, '22012');
    const answer = await second.ready();
    assert.equal(errorOf(answer)?.message, undefined);
    assert.deepEqual(rowsOf(answer), [['salute to all 50']]);
  });

  test('a Parse that the server refuses is refused', async () => {
    await using proxy = await start({ pool_size: 1 }, { multiplexing_max_wait: 1000 });
    await using first = await proxy.raw();
    await using second = await proxy.raw();
    first.send(parse('nap', SLEEP), sync());
    await first.ready();
    const prepare = [parse('s', MISSING), sync()];
    await teach(proxy, first, [...nap('0'), sync()], prepare);
    first.send(...nap('0.1'), ...prepare);
    await sleep(30);
    second.send(...prepare);
    assert.equal(errorOf(await first.ready())?.code, '42P01');
    const answer = await second.ready();
    assert.equal(errorOf(answer)?.code, '42P01', tagsOf(answer).join() || answer.map(({ type }) => type).join());
  });
});

test('what waits with nothing to be moved uses up no runs of others', () => {
  const owner: DispatchOwner = { waiting: 1, blocked: () => {} };
  const settings = { multiplexing: 'auto', multiplexing_max_depth: 32, multiplexing_max_wait: 10 } as const;
  const dispatcher = new Dispatcher(settings, owner);
  const load = { depth: 1, head_at: 0 };
  const alone = { load } as unknown as Parameters<typeof dispatcher.spares>[0];
  for (let look = 0; look < 1000; look++) dispatcher.spares(alone, 20);
  const pair = { load: { depth: 2, head_at: 0 } } as unknown as typeof alone;
  assert.ok(dispatcher.spares(pair, 20), 'a read behind something slow stays there');
});

test('a cancel that comes late fails no statement of another client behind a change of application_name', async () => {
  await using proxy = await start({ pool_size: 1 }, { multiplexing_max_wait: 1000 });
  await using first = await proxy.raw({ application_name: 'one' });
  await using second = await proxy.raw({ application_name: 'two' });
  const count = [query('SELECT count(*) FROM generate_series(1, 20000)')];
  await teach(proxy, first, count, update(9));
  const errors: string[] = [];
  let canceled = 0;
  for (let round = 0; round < 1500; round++) {
    first.send(...count);
    second.send(...update(9));
    const asked = sleep(round % 4).then(() => cancel({ port: proxy.port }, first));
    if (errorOf(await first.ready())?.code === '57014') canceled++;
    const error = errorOf(await second.ready());
    await asked;
    if (error !== undefined) errors.push(`${round}: ${error.code} ${error.message}`);
  }
  const refused = proxy.log.filter(({ cause }) => String(cause).includes('cancel'));
  assert.ok(canceled > 0, 'no cancel came in time');
  assert.deepEqual([errors, refused.length], [[], 0]);
});

test('a cancel is not forgotten when its statement is sent again', async () => {
  await using proxy = await start({ pool_size: 1, connect_timeout: 5000 }, { multiplexing_max_wait: 5000 });
  await using first = await proxy.raw();
  await using second = await proxy.raw();
  const nap = (seconds: string) => [query(`SELECT 'nap' FROM pg_sleep(${seconds})`)];
  await teach(proxy, first, nap('0.0'));
  first.send(...nap('0.61'));
  await sleep(30);
  second.send(...nap('3.0'));
  await sleep(30);
  await cancel({ port: proxy.port }, second);
  await sleep(100);
  await cluster.sql(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.61)' AND pid <> pg_backend_pid()",
  );
  assert.equal(errorOf(await second.ready())?.code, '57014');
});

/** Runs `work` while the server process of `query` takes no notice of anything. */
async function frozen(query: string, work: () => Promise<unknown>): Promise<void> {
  const [{ pid }] = await cluster.sql(`SELECT pid FROM pg_stat_activity WHERE query = '${query}'`);
  process.kill(Number(pid), 'SIGSTOP');
  try {
    await work();
  } finally {
    process.kill(Number(pid), 'SIGCONT');
  }
}

for (const multiplexing of ['auto', 'off']) {
  test(`a cancel that comes before the server has begun is not lost, multiplexing ${multiplexing}`, async () => {
    await using proxy = await start({ pool_size: 1, multiplexing });
    await using client = await proxy.raw();
    await client.query('SELECT 4711');
    await frozen('SELECT 4711', async () => {
      client.send(query('SELECT pg_sleep(5)'));
      await sleep(50);
      await cancel({ port: proxy.port }, client);
    });
    assert.equal(errorOf(await client.ready())?.code, '57014');
    await sleep(100);
    assert.equal(errorOf(await client.query('SELECT pg_sleep(0.2)')), undefined);
  });
}

test('a cancel between the statements of a transaction ends neither', async () => {
  await using proxy = await start({ pool_size: 1 });
  await using client = await proxy.raw();
  await client.query('BEGIN');
  await client.query('SELECT 1');
  await cancel({ port: proxy.port }, client);
  assert.equal(errorOf(await client.query('SELECT pg_sleep(0.2)')), undefined);
  await client.query('COMMIT');
});
