/** Parameters without a declared type have the shard of their value only when it is certain how the server reads them. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { KEYS, Shards } from './shards.ts';

let shards: Shards;
let proxy: TestProxy;

before(async () => {
  shards = await Shards.start({
    schema:
      'CREATE TABLE data (id bigint, x float8); CREATE TABLE other (data_id bigint, score float8); CREATE VIEW seen AS SELECT * FROM data; CREATE SCHEMA api; CREATE VIEW api.data AS SELECT * FROM data',
  });
  proxy = await shards.proxy();
});

after(async () => {
  await proxy?.stop();
  await shards?.stop();
});

const [, , [, key]] = KEYS;

function int8(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(value));
  return bytes;
}

function float8(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}

function run(client: RawClient, text: string, value: Buffer | string, types: number[] = []): Promise<Message[]> {
  const formats = typeof value === 'string' ? [] : [1];
  client.send(
    frontend.parse('', text, types),
    frontend.bind('', '', [value], { formats }),
    frontend.execute(),
    frontend.sync(),
  );
  return client.until('Z');
}

const WHERE = 'SELECT current_database()::text FROM (SELECT count(*) FROM data WHERE';

test('a binary value at the key alone is read as a key', async () => {
  await using client = await proxy.raw();
  const rows = rowsOf(await run(client, `${WHERE} id = $1) c`, int8(key)));
  assert.deepEqual(rows, [['s2']]);
});

test('one that the server may take for another type is not, unless its type is declared or described', async () => {
  await using client = await proxy.raw();
  const text = `${WHERE} x > $1 AND id = $1) c`;
  assert.equal(errorOf(await run(client, text, float8(key)))?.code, '0A000');
  assert.deepEqual(rowsOf(await run(client, text, String(key))), [['s2']], 'whole numbers in text mean the same');
  const twice = `${WHERE} id = $1 AND id = $1) c`;
  assert.equal(errorOf(await run(client, twice, int8(key)))?.code, '0A000');
  assert.deepEqual(rowsOf(await run(client, twice, int8(key), [20])), [['s2']]);
  client.send(frontend.parse('told', twice), frontend.describe('S', 'told'), frontend.sync());
  await client.until('Z');
  client.send(frontend.bind('', 'told', [int8(key)], { formats: [1] }), frontend.execute(), frontend.sync());
  assert.deepEqual(rowsOf(await client.until('Z')), [['s2']]);
});

test('a name that one batch prepares twice tells nothing of either', async () => {
  await using client = await proxy.raw();
  client.send(
    frontend.parse('name', 'SELECT $1::int8'),
    frontend.describe('S', 'name'),
    frontend.close('S', 'name'),
    frontend.parse('name', `${WHERE} x > $1 AND id = $1) d`),
    frontend.sync(),
  );
  await client.until('Z');
  client.send(frontend.bind('', 'name', [float8(key)], { formats: [1] }), frontend.execute(), frontend.sync());
  assert.equal(errorOf(await client.until('Z'))?.code, '0A000');
});

test('beside a decimal in a list it may be a numeric', async () => {
  await using client = await proxy.raw();
  assert.equal(errorOf(await run(client, `${WHERE} id IN ($1, 6.5)) c`, int8(key)))?.code, '0A000');
});

test('a view over a sharded table is on every shard', async () => {
  await using client = await proxy.raw();
  assert.match(errorOf(await client.query('SELECT count(*) FROM seen'))?.message ?? '', /every shard/);
});

test('an EXECUTE inside another statement is refused, since nobody knows what it does', async () => {
  await using client = await proxy.raw();
  for (const text of ['EXPLAIN EXECUTE p(1)', 'CREATE TABLE made AS EXECUTE p(1)', 'SELECT 1; EXECUTE p(1)']) {
    assert.equal(errorOf(await client.query(text))?.code, '0A000', text);
  }
});

test('a statement that nobody has prepared is the server’s own error', async () => {
  await using client = await proxy.raw();
  client.send(frontend.bind('', 'nobody', []), frontend.execute(), frontend.sync());
  assert.equal(errorOf(await client.until('Z'))?.code, '26000');
});

test('an update of the key is refused, whatever shard was chosen', async () => {
  await using client = await proxy.raw();
  await client.query('SET SHARD TO 2');
  const error = errorOf(await client.query(`UPDATE data SET id = 2 WHERE id = ${key}`));
  assert.equal(error?.code, '0A000');
  assert.match(error?.message ?? '', /sharding key cannot be updated/);
});

test('a comment of one statement does not speak for the next in its batch', async () => {
  await using client = await proxy.raw();
  client.send(
    frontend.parse('', '/* pglynx: shard=0 */ SELECT 1'),
    frontend.bind('', '', []),
    frontend.execute(),
    frontend.parse('', `SELECT x FROM data WHERE id = ${key}`),
    frontend.bind('', '', []),
    frontend.execute(),
    frontend.sync(),
  );
  assert.match(errorOf(await client.until('Z'))?.message ?? '', /belongs to shard 2/);
});
