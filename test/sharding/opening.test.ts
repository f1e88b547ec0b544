/** A transaction without a chosen shard goes where the key of its first statement belongs: BEGIN waits for it. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { errorOf, type Message, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { eventually } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';
import { KEYS, Shards } from './shards.ts';

let shards: Shards;
let proxy: TestProxy;

before(async () => {
  shards = await Shards.start({ cluster: { replicas: 1 } });
  proxy = await shards.proxy();
});

after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

/** Transaction status in the last ReadyForQuery. */
function statusOf(messages: readonly Message[]): string {
  return messages.at(-1)?.body.toString() ?? '';
}

test('BEGIN is answered at once, and the transaction is on the shard of its first statement', async () => {
  await using client = await proxy.raw();
  for (const [shard, [key]] of KEYS.entries()) {
    const begun = await client.query('BEGIN');
    assert.deepEqual([tagsOf(begun), statusOf(begun)], [['BEGIN'], 'T']);
    await client.query(`INSERT INTO data (id, x) VALUES (${key}, 1)`);
    const where = await client.query(`SELECT current_database()::text, x FROM data WHERE id = ${key}`);
    assert.deepEqual([rowsOf(where), statusOf(where)], [[[`s${shard}`, '1']], 'T']);
    assert.deepEqual(tagsOf(await client.query('ROLLBACK')), ['ROLLBACK']);
    assert.deepEqual(rowsOf(await client.query(`SELECT x FROM data WHERE id = ${key}`)), []);
  }
});

test('a read-only one may be on a replica, any other is on the primary', async () => {
  await using client = await proxy.raw();
  const [, , [key]] = KEYS;
  const read = `SELECT current_database()::text, pg_is_in_recovery() FROM (SELECT count(*) FROM data WHERE id = ${key}) c`;
  for (const [begin, onReplica] of [
    ['START TRANSACTION READ ONLY', 't'],
    ['BEGIN', 'f'],
    ['/* a comment */ begin isolation level repeatable read;', 'f'],
  ]) {
    await client.query(begin);
    assert.deepEqual(rowsOf(await client.query(read)), [['s2', onReplica]], begin);
    await client.query('COMMIT');
  }
});

test('its options hold', async () => {
  await using client = await proxy.raw();
  await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE');
  assert.deepEqual(rowsOf(await client.query('SHOW transaction_isolation')), [['serializable']]);
  await client.query('COMMIT');
});

test('the first statement may be an extended one, and the rest pipelined behind it', async () => {
  await using client = await proxy.raw();
  const [, [key]] = KEYS;
  client.send(
    frontend.query('BEGIN'),
    frontend.parse('', 'INSERT INTO data (id, x) VALUES ($1, 7)'),
    frontend.bind('', '', [String(key)]),
    frontend.execute(),
    frontend.sync(),
    frontend.query(`SELECT current_database()::text, x FROM data WHERE id = ${key}`),
    frontend.query('ROLLBACK'),
  );
  const replies: Message[][] = [];
  for (let count = 0; count < 4; count++) replies.push(await client.until('Z'));
  assert.deepEqual(replies.map(statusOf), ['T', 'T', 'T', 'I']);
  assert.deepEqual(rowsOf(replies[2]), [['s1', '7']]);
});

suite('that ends before it had a server', () => {
  test('answers as PostgreSQL does', async () => {
    await using client = await proxy.raw();
    for (const end of ['COMMIT', 'ROLLBACK']) {
      await client.query('BEGIN');
      const ended = await client.query(end);
      assert.deepEqual([tagsOf(ended), statusOf(ended)], [[end], 'I']);
    }
    await client.query('BEGIN');
    const again = await client.query('BEGIN');
    assert.ok(again.some(({ type }) => type === 'N'));
    assert.equal(statusOf(again), 'T');
    await client.query('COMMIT');
  });

  test('with an error is a failed transaction, until ROLLBACK', async () => {
    await using client = await proxy.raw();
    for (const wrong of ['SELECT * FROM data', 'SET SHARD TO 1', 'SELECT FROM WHERE', 'DELETE FROM data']) {
      await client.query('BEGIN');
      const refused = await client.query(wrong);
      assert.ok(errorOf(refused), wrong);
      assert.equal(statusOf(refused), 'E', wrong);
      const next = await client.query('SELECT 1');
      assert.deepEqual([errorOf(next)?.code, statusOf(next)], ['25P02', 'E'], wrong);
      client.send(frontend.parse('', 'SELECT 1'), frontend.bind('', '', []), frontend.execute(), frontend.sync());
      assert.equal(errorOf(await client.until('Z'))?.code, '25P02', wrong);
      const ended = await client.query('COMMIT');
      assert.deepEqual([tagsOf(ended), statusOf(ended)], [['ROLLBACK'], 'I'], wrong);
    }
  });

  test('by the client that vanishes leaves nothing', async () => {
    const client = await proxy.raw();
    await client.query('BEGIN');
    client.destroy();
    await eventually('no client is left', () => [...proxy.proxy.clients()].length === 0);
  });
});

test('a shard that was chosen in front of it, by a command or a comment, is its own', async () => {
  await using client = await proxy.raw();
  await client.query('SET SHARD TO 1');
  await client.query('BEGIN');
  assert.deepEqual(rowsOf(await client.query('SELECT current_database()::text')), [['s1']]);
  await client.query('COMMIT');
  await client.query('SET SHARD TO DEFAULT');
  await client.query('/* pglynx: shard=2 */ BEGIN');
  assert.deepEqual(rowsOf(await client.query('SELECT current_database()::text')), [['s2']]);
  await client.query('COMMIT');
});

test('a settings change of the client is there when the transaction begins', async () => {
  await using client = await proxy.raw({ TimeZone: 'Asia/Tokyo', application_name: 'opening' });
  await client.query('BEGIN');
  const [, , [key]] = KEYS;
  const shown = await client.query(
    `SELECT current_setting('TimeZone'), current_database()::text FROM (SELECT count(*) FROM data WHERE id = ${key}) c`,
  );
  assert.deepEqual(rowsOf(shown), [['Asia/Tokyo', 's2']]);
  await client.query('ROLLBACK');
});

test('without a free connection the transaction fails, and the next one works', async () => {
  await using narrow = await shards.proxy({ user: { pool_size: 1 }, pool: { connect_timeout: 300 } });
  const [, , [key]] = KEYS;
  const read = `SELECT x FROM data WHERE id = ${key}`;
  await using holder = await narrow.raw();
  await holder.query('BEGIN');
  await holder.query(read);
  await using client = await narrow.raw();
  await client.query('BEGIN');
  const refused = await client.query(read);
  assert.deepEqual([errorOf(refused)?.code, statusOf(refused)], ['58000', 'E']);
  await holder.query('COMMIT');
  assert.deepEqual(tagsOf(await client.query('ROLLBACK')), ['ROLLBACK']);
  await client.query('BEGIN');
  const found = await client.query(read);
  assert.deepEqual([errorOf(found), statusOf(found)], [undefined, 'T']);
  await client.query('COMMIT');
});
