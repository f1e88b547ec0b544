/** What stands between a client and its reply: a BEGIN that waits, a batch that is sent twice, a read that runs again. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChaosProxy } from '../chaos/proxy.ts';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel } from '../client/raw.ts';
import { eventually } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { KEYS, Shards } from '../sharding/shards.ts';

const { bind, describe, execute, flush, parse, query, sync } = frontend;

let shards: Shards;
before(async () => {
  shards = await Shards.start({ cluster: { replicas: 1 }, count: 2 });
  await shards.cluster.sql('CREATE TABLE items (n int); GRANT ALL ON items TO PUBLIC');
  await shards.cluster.sql('CREATE TABLE plain (n int); GRANT ALL ON plain TO PUBLIC');
  await shards.cluster.caughtUp();
});
after(() => shards?.stop());

/** One shard, a primary and a replica; reads are for the replica. */
const split = (options: ProxyOptions = {}, servers = [shards.cluster.primary, shards.cluster.replica(0)]) =>
  TestProxy.start(
    { servers },
    {
      users: ['alice'],
      ...options,
      pool: {
        query_parser_enabled: true,
        query_parser_read_write_splitting: true,
        primary_reads_enabled: false,
        ...options.pool,
      },
    },
  );

const run = (statement: string, ...values: string[]) => [bind('', statement, values), execute()];

suite('a BEGIN that waits', () => {
  const keyed = { query_parser_enabled: true, automatic_sharding_key: 'data.id' } as const;
  const [[key]] = [KEYS[0]];

  test('begins no transaction for the next client when its own vanishes meanwhile', async () => {
    await using network = await ChaosProxy.start(shards.cluster.primary);
    await using proxy = await TestProxy.start(
      { servers: [network] },
      { users: ['alice'], shards: ['s0', 's1'], pool: keyed, user: { pool_size: 1 } },
    );
    await using other = await proxy.raw();
    const client = await proxy.raw();
    assert.equal(errorOf(await other.query(`SELECT * FROM data WHERE id = ${key}`)), undefined);
    network.faults = { latency_ms: 100 };
    await client.query('BEGIN');
    client.send(query(`SELECT * FROM data WHERE id = ${key}`));
    await sleep(50);
    other.send(query(`INSERT INTO data (id, x) VALUES (${key}, 1)`));
    await sleep(50);
    client.destroy();
    const answer = await other.ready();
    assert.deepEqual(tagsOf(answer), ['INSERT 0 1']);
    assert.equal(answer.at(-1)?.body.toString(), 'I');
    network.faults = {};
    const found = await shards.each(`DELETE FROM data WHERE id = ${key} RETURNING id`);
    assert.equal(found.flat().length, 1);
  });

  test('that the server refuses is an error, and then there is no transaction', async () => {
    await using proxy = await TestProxy.start(shards.cluster, {
      users: ['alice'],
      shards: ['s0', 's1'],
      pool: { ...keyed, default_role: 'replica', query_parser_read_write_splitting: false },
    });
    await using client = await proxy.raw();
    await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
    const refused = await client.query(`SELECT * FROM data WHERE id = ${key}`);
    assert.match(errorOf(refused)?.message ?? '', /serializable/);
    const ended = await client.query('ROLLBACK');
    assert.deepEqual(tagsOf(ended), ['ROLLBACK'], errorOf(ended)?.message);
    assert.deepEqual(tagsOf(await client.query('SELECT 1')), ['SELECT 1']);
  });
});

suite('a batch that may be sent twice', () => {
  test('is not, when only the head of it is at hand', async () => {
    await using proxy = await split({ pool: { pool_mode: 'session' } });
    await using client = await proxy.raw();
    await client.query('PREPARE all_items AS SELECT * FROM items');
    await client.query('EXECUTE all_items');
    await shards.cluster.sql('ALTER TABLE items ADD COLUMN m int');
    const refused = errorOf(await client.query(`EXECUTE all_items -- ${'x'.repeat(100_000)}`));
    assert.equal(refused?.code, '0A000', refused?.message);
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
  });

  test('is not, when more than a Sync ends it', async () => {
    await using proxy = await split({ pool: { read_functions: ['wf'] } });
    await shards.cluster.sql(
      'CREATE FUNCTION wf() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO plain VALUES (1); RETURN 1; END $$',
    );
    await shards.cluster.caughtUp();
    await using client = await proxy.raw();
    client.send(parse('', 'SELECT wf()'), ...run(''), query('SELECT 2'));
    assert.equal(errorOf(await client.until('E', 3000))?.code, '25006');
    client.send(sync());
    await client.ready();
    assert.deepEqual(rowsOf(await client.query('SELECT 3')), [['3']]);
  });
});

suite('a Parse with Flush whose server was lost', () => {
  test('is answered without a ReadyForQuery when no other server takes it', async () => {
    const [{ primary }] = [shards.cluster];
    await using network = await ChaosProxy.start(shards.cluster.replica(0));
    const replica = { host: network.host, port: network.port, isReplica: true };
    await using proxy = await split({ user: { pool_size: 1 } }, [primary, replica] as never);
    await using holder = await proxy.raw();
    await using client = await proxy.raw();
    assert.deepEqual(rowsOf(await client.query('SELECT pg_is_in_recovery()')), [['t']]);
    await holder.query('BEGIN; SELECT 1');
    network.faults = { silent: true };
    client.send(parse('s', 'SELECT 1 AS one'), describe('S', 's'), flush());
    await sleep(100);
    network.refuse();
    network.reset();
    await eventually('it waits for the primary', () => [...proxy.proxy.clients()].some(one => one.state === 'waiting'));
    await cancel({ port: proxy.port }, client);
    assert.equal((await client.message()).type, 'E');
    assert.equal(await client.silent(100), true, 'no ReadyForQuery that nobody asked for');
    client.send(sync());
    assert.deepEqual(
      (await client.ready()).map(({ type }) => type),
      ['Z'],
    );
    await holder.query('COMMIT');
  });
});

suite('SHOW ROUTES', () => {
  test('counts and times a statement once for each time that it runs, however it was prepared', async () => {
    await using proxy = await split();
    await using client = await proxy.raw();
    const sql = 'SELECT 4242 AS counted';
    for (let times = 0; times < 3; times++) {
      client.send(parse('', sql), describe('S', ''), bind('', ''), describe('P', ''), execute(), sync());
      await client.ready();
    }
    const admin = await proxy.admin();
    const { rows } = await admin.query<Record<string, string>>('SHOW ROUTES');
    await admin.end();
    const row = rows.find(({ template }) => template?.includes('counted'));
    assert.equal(row?.times, '3', JSON.stringify(row));
    assert.notEqual(row?.mean_time, '0', JSON.stringify(row));
  });
});

test('texts that are too long to parse have one row in SHOW ROUTES', async () => {
  await using proxy = await split();
  await using client = await proxy.raw();
  for (let n = 0; n < 3; n++) await client.query(`SELECT ${'1 + '.repeat(10_000)}${n}`);
  const admin = await proxy.admin();
  const { rows } = await admin.query<Record<string, string>>('SHOW ROUTES');
  await admin.end();
  assert.deepEqual(
    rows.map(({ times }) => times),
    ['3'],
  );
});

suite('activity', () => {
  const activity = {
    db_activity_based_routing: true,
    db_activity_init_delay: 1,
    db_activity_ttl: 900,
    table_mutation_cache_ms_ttl: 1500,
  };
  const role = 'SELECT pg_is_in_recovery()::text FROM (SELECT count(*) FROM plain) AS c';

  test('knows of the last write of a long batch, and of the last read', async () => {
    await using proxy = await split({ pool: activity });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    await sleep(50);
    assert.deepEqual(rowsOf(await client.query(role)), [['true']]);
    const many = Array.from({ length: 70 }, () => [parse('', 'SELECT 1'), ...run('')]).flat();
    client.send(...many, parse('', 'INSERT INTO plain VALUES (7)'), ...run(''), sync());
    assert.equal(errorOf(await client.ready()), undefined);
    assert.deepEqual(rowsOf(await client.query(role)), [['false']]);
    client.send(...many, parse('', role), ...run(''), sync());
    assert.deepEqual(rowsOf(await client.ready()).at(-1), ['false']);
  });

  test('knows of a long write in a transaction from its end on', async () => {
    await using proxy = await split({ pool: activity });
    await using client = await proxy.raw();
    await client.query('SELECT 1');
    await sleep(50);
    await client.query('BEGIN');
    await client.query(`INSERT INTO plain VALUES (8) -- ${'x'.repeat(100_000)}`);
    await sleep(1600);
    await client.query('COMMIT');
    assert.deepEqual(rowsOf(await client.query(role)), [['false']]);
  });
});
