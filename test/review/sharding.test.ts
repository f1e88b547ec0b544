/** Shards and commands where things change under a client: reloads, broken batches, names taken twice. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, suite, test } from 'node:test';
import { Sharder } from '../../src/sharding/sharder.ts';
import { BindValues } from '../../src/wire/bind.ts';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { KEYS, Shards } from '../sharding/shards.ts';

const { bind, close, describe, execute, flush, parse, query, sync } = frontend;

let shards: Shards;
before(async () => {
  shards = await Shards.start();
});
after(() => shards?.stop());
beforeEach(() => shards.each('TRUNCATE data'));

/** Shards without a sharding key. */
const plain = (options: ProxyOptions = {}) =>
  TestProxy.start(shards.cluster, {
    users: ['alice'],
    shards: shards.names,
    pool: { query_parser_enabled: true },
    ...options,
  });

const SHARDED = { query_parser_enabled: true, automatic_sharding_key: 'data.id' } as const;

/** Reloads with these options, and this many of the shards. */
async function reload(proxy: TestProxy, pool: ProxyOptions['pool'], count = 3): Promise<void> {
  const names = shards.names.slice(0, count);
  proxy.rewrite(configText(shards.cluster, { users: ['alice'], shards: names, pool: { ...pool } }));
  await proxy.proxy.reload();
}

const run = (name: string, ...values: string[]) => [bind('', name, values), execute()];
const INSERT = 'INSERT INTO data (id, x) VALUES ($1, 1)';
const WHERE = 'SELECT current_database()';

async function rows(client: RawClient, ...messages: Buffer[]): Promise<(string | null)[][]> {
  client.send(...messages);
  const answer = await client.ready();
  assert.equal(errorOf(answer)?.message, undefined);
  return rowsOf(answer);
}

const sharderOf = (count: number) => new Sharder('pg_bigint_hash', count);
/** A key that is on one shard of two, and on another of three. */
const MOVED = Array.from({ length: 50 }, (_, n) => String(n)).find(
  key => sharderOf(2).shardOfText(key) !== sharderOf(3).shardOfText(key) && sharderOf(3).shardOfText(key) !== 0,
);
const MOVED_TO = sharderOf(3).shardOfText(MOVED ?? '') ?? -1;

suite('after a reload that gave the pool a sharding key', () => {
  const ways: Record<string, (client: RawClient, key: string) => Buffer[]> = {
    'a simple query': (_, key) => [query(`INSERT INTO data (id, x) VALUES (${key}, 1)`)],
    'a new statement': (_, key) => [parse('', INSERT), ...run('', key), sync()],
    'a statement prepared before': (_, key) => [...run('old', key), sync()],
    'the text of a statement prepared before': (_, key) => [
      parse('', 'INSERT INTO data (id, x) VALUES ($1, 2)'),
      ...run('', key),
      sync(),
    ],
  };
  for (const [name, messages] of Object.entries(ways)) {
    test(`${name} goes where its row belongs, the first time already`, async () => {
      await using proxy = await plain();
      await using client = await proxy.raw();
      for (let times = 0; times < 2; times++) {
        client.send(parse('', 'INSERT INTO data (id, x) VALUES ($1, 2)'), ...run('', '100'), sync());
        await client.ready();
      }
      client.send(parse('old', INSERT), ...run('old', '100'), sync());
      await client.ready();
      await shards.each('TRUNCATE data');
      await reload(proxy, SHARDED);
      for (const key of [3, 5, 2]) {
        client.send(...messages(client, String(key)));
        const error = errorOf(await client.ready());
        assert.equal(error?.message, undefined);
      }
      assert.deepEqual(await shards.keys(), [['2'], ['3'], ['5']]);
    });
  }
});

suite('after a reload that added a shard', () => {
  test('the first statement goes where its row belongs now', async () => {
    await using proxy = await shards.proxy({ shards: shards.names.slice(0, 2) });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    await reload(proxy, SHARDED);
    await client.query(`INSERT INTO data (id, x) VALUES (${MOVED}, 1)`);
    const found = await shards.keys();
    assert.deepEqual(found[MOVED_TO], [MOVED], JSON.stringify(found));
  });

  test('a client that chose a key is where that key belongs now', async () => {
    await using proxy = await shards.proxy({ shards: shards.names.slice(0, 2) });
    await using client = await proxy.raw();
    await client.query(`SET SHARDING KEY TO '${MOVED}'`);
    await reload(proxy, SHARDED);
    assert.deepEqual(rowsOf(await client.query(WHERE)), [[`s${MOVED_TO}`]]);
    assert.deepEqual(rowsOf(await client.query('SHOW SHARD')), [[String(MOVED_TO)]]);
  });

  test('a batch that came in part before it is whole', async () => {
    await using proxy = await shards.proxy({ shards: shards.names.slice(0, 2) });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    client.send(parse('', INSERT), ...run('', MOVED ?? ''));
    assert.equal(await client.silent(50), true);
    await reload(proxy, SHARDED);
    client.send(sync());
    assert.deepEqual(tagsOf(await client.ready()), ['INSERT 0 1']);
  });
});

test('a client whose chosen shard was taken away is told so, and sent nowhere else', async () => {
  await using proxy = await shards.proxy();
  await using client = await proxy.raw();
  await client.query('SET SHARD TO 2');
  assert.deepEqual(rowsOf(await client.query(WHERE)), [['s2']]);
  await reload(proxy, SHARDED, 2);
  const answer = await client.query(WHERE);
  assert.match(errorOf(answer)?.message ?? '', /shard 2/, JSON.stringify(rowsOf(answer)));
  await client.query('SET SHARD TO DEFAULT');
  assert.equal(rowsOf(await client.query(WHERE)).length, 1);
});

test('a reload that changes another setting is not felt by INSERTs without a list of columns', async () => {
  await using proxy = await shards.proxy();
  await using client = await proxy.raw();
  await client.query('INSERT INTO data VALUES (3, 1)');
  await reload(proxy, { ...SHARDED, connect_timeout: 4321 });
  for (let times = 0; times < 3; times++) {
    const error = errorOf(await client.query('INSERT INTO data VALUES (5, 1)'));
    assert.equal(error?.message, undefined);
  }
});

test('a transaction keeps to the sharding key that it began with', async () => {
  await using proxy = await shards.proxy();
  await using client = await proxy.raw();
  await client.query('/* pglynx: shard=0 */ BEGIN');
  await client.query('SELECT 1');
  await reload(proxy, { query_parser_enabled: true });
  const error = errorOf(await client.query('INSERT INTO data (x, id) VALUES (1, 3)'));
  assert.match(error?.message ?? '', /transaction is on shard 0/);
});

suite('comments', () => {
  let proxy: TestProxy;
  before(async () => {
    proxy = await shards.proxy();
  });
  after(() => proxy?.stop());

  test('do not let a client write a row elsewhere, in a transaction as little as outside', async () => {
    await using client = await proxy.raw();
    const sql = '/* pglynx: shard=1 */ INSERT INTO data VALUES (5, 1)';
    const outside = errorOf(await client.query(sql));
    assert.equal(outside?.code, '0A000', outside?.message);
    await client.query('/* pglynx: shard=1 */ BEGIN');
    const inside = errorOf(await client.query(sql));
    assert.equal(inside?.code, '0A000', inside?.message);
    await client.query('ROLLBACK');
  });

  test('that name a shard and a key in one batch contradict each other', async () => {
    await using client = await proxy.raw();
    client.send(
      parse('', `/* pglynx: shard=0 */ ${WHERE}`),
      ...run(''),
      parse('', `/* pglynx: key=5 */ ${WHERE}`),
      ...run(''),
      sync(),
    );
    const answer = await client.ready();
    assert.equal(errorOf(answer)?.code, '22023', JSON.stringify(rowsOf(answer)));
  });
});

suite('what is refused', () => {
  let proxy: TestProxy;
  before(async () => {
    proxy = await shards.proxy();
  });
  after(() => proxy?.stop());

  test('behind an error in the same batch is skipped, and the batch ends', async () => {
    await using client = await proxy.raw();
    await client.query(`/* pglynx: shard=0 */ BEGIN`);
    client.send(parse('', 'SELECT nothing'), flush());
    assert.equal(errorOf(await client.until('E'))?.code, '42703');
    client.send(parse('', INSERT), ...run('', '5'), sync());
    const answer = await client.ready(3000);
    assert.equal(errorOf(answer), undefined);
    assert.deepEqual(tagsOf(await client.query('ROLLBACK')), ['ROLLBACK']);
    assert.deepEqual(rowsOf(await client.query(`SELECT count(*) FROM data WHERE id = 5`)), [['0']]);
  });

  test('a BEGIN with a command behind it: nothing that follows runs by itself', async () => {
    await using client = await proxy.raw();
    client.send(
      ...[parse('', 'BEGIN'), ...run(''), parse('', 'SET SHARD TO 1'), ...run(''), sync()],
      ...[parse('', 'INSERT INTO data VALUES (5, 1)'), ...run(''), sync()],
      query('ROLLBACK'),
    );
    await client.next();
    await client.untilClosed(1000).catch(() => undefined);
    assert.deepEqual(await shards.keys(), [[], [], []]);
  });
});

test('what follows a long text that was refused, and may have begun a transaction, does not run by itself', async () => {
  await using proxy = await shards.proxy();
  await using client = await proxy.raw();
  client.send(
    query(`BEGIN; SELECT ${'1 + '.repeat(10_000)}1`),
    query('INSERT INTO data VALUES (5, 1)'),
    query('COMMIT'),
  );
  const error = errorOf(await client.untilClosed());
  assert.deepEqual([error?.severity, error?.code], ['FATAL', '0A000']);
  assert.deepEqual(await shards.keys(), [[], [], []]);
});

suite('commands', () => {
  let proxy: TestProxy;
  before(async () => {
    proxy = await plain();
  });
  after(() => proxy?.stop());

  test('give up their name to a statement, wherever its Parse stands', async () => {
    await using client = await proxy.raw();
    assert.deepEqual(await rows(client, parse('', 'SHOW SHARD'), ...run(''), sync()), [['unset']]);
    client.send(parse('other', 'SELECT 1'), ...run('other'), flush());
    await client.until('C');
    client.send(parse('', 'SELECT 42'), sync());
    await client.ready();
    assert.deepEqual(await rows(client, ...run(''), sync()), [['42']]);
  });

  test('are refused among statements, and do not keep the name they were refused', async () => {
    await using client = await proxy.raw();
    await rows(client, parse('s', 'SELECT 41'), sync());
    client.send(parse('', 'SELECT 1'), ...run(''), parse('s', 'SHOW SHARD'), sync());
    assert.equal(errorOf(await client.ready())?.code, '0A000');
    assert.deepEqual(await rows(client, ...run('s'), sync()), [['41']]);
  });

  test('may follow the Close of a statement, as drivers send it', async () => {
    await using client = await proxy.raw();
    await rows(client, parse('s', 'SELECT 41'), sync());
    client.send(close('S', 's'), parse('', 'SET SHARD TO 1'), ...run(''), sync());
    const answer = await client.ready();
    assert.deepEqual(
      answer.map(({ type }) => type),
      ['3', '1', '2', 'C', 'Z'],
      errorOf(answer)?.message,
    );
    assert.deepEqual(await rows(client, query(WHERE)), [['s1']]);
    await client.query('SET SHARD TO DEFAULT');
  });

  test('that a simple query interrupts are over', async () => {
    await using client = await proxy.raw();
    client.send(parse('c', 'SHOW SHARD'), bind('', 'c'), query('SELECT 1'));
    await client.ready();
    assert.deepEqual(await rows(client, parse('', 'SELECT 2'), ...run(''), sync()), [['2']]);
  });

  test('are over when pglynx ends the transaction that they stand in', async () => {
    await using limited = await plain({ general: { idle_client_in_transaction_timeout: 200 } });
    await using client = await limited.raw();
    await client.query('BEGIN');
    client.send(parse('c', 'SHOW SHARD'));
    await client.until('1');
    await new Promise(resolve => setTimeout(resolve, 500));
    client.send(sync());
    assert.match(errorOf(await client.ready())?.message ?? '', /idle transaction timeout/);
    assert.deepEqual(await rows(client, parse('', 'SELECT 2'), ...run(''), sync()), [['2']]);
  });

  for (const sql of ['DEALLOCATE ALL', 'DISCARD ALL']) {
    test(`are forgotten by ${sql}, as other statements are`, async () => {
      await using client = await proxy.raw();
      await rows(client, parse('c', 'SHOW SHARD'), sync());
      await client.query(sql);
      client.send(describe('S', 'c'), sync());
      assert.equal(errorOf(await client.ready())?.code, '26000');
    });
  }

  test('are dropped by DEALLOCATE', async () => {
    await using client = await proxy.raw();
    await rows(client, parse('c', 'SHOW SHARD'), sync());
    assert.deepEqual(tagsOf(await client.query('DEALLOCATE c')), ['DEALLOCATE']);
    client.send(describe('S', 'c'), sync());
    assert.equal(errorOf(await client.ready())?.code, '26000');
  });
});

test('a Bind whose parameters a statement names in any order holds nobody up', () => {
  const count = 15_000;
  const message = bind('', '', Array(count).fill(null));
  const values = new BindValues(message, 7, message.length);
  const since = performance.now();
  for (let n = count; n > 0; n--) assert.equal(values.value(n)?.length, -1);
  const took_ms = performance.now() - since;
  assert.ok(took_ms < 100, `${took_ms} ms`);
  assert.equal(values.value(count + 1), undefined);
});

test('the shard of a batch is that of its key, whatever was in front of it', async () => {
  await using proxy = await shards.proxy();
  await using client = await proxy.raw();
  for (const [shard, keys] of KEYS.entries()) {
    for (const key of keys) {
      client.send(parse('', `INSERT INTO data VALUES (${key}, $1)`), query(`SELECT ${key}`), sync());
      await client.ready();
      client.send(parse('', `INSERT INTO data VALUES (${key}, ${shard})`), ...run(''), sync());
      await client.ready();
    }
  }
});
