/** Rows land in the shard that PostgreSQL itself would choose, however their keys come, and are found there again. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { Shards } from './shards.ts';
import { quoted, whole, words } from './spellings.ts';

/** A type of keys: its OID, its binary format, and how its values stand in SQL. */
interface Type {
  readonly name: string;
  readonly fn: string;
  readonly oid: number;
  readonly values: fc.Arbitrary<string>;
  readonly binary: (key: string) => Buffer;
  readonly literals: readonly ((key: string) => string)[];
}

const COUNTS = [3, 5] as const;
const KEYS = 1000;
const CLIENTS = 4;
/** Batches that are under way at once. */
const PIPELINE = 50;

const bare = (key: string) => key;

function integer(name: string, fn: string, oid: number, bits: 16 | 32 | 64): Type {
  const binary = (key: string) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(key));
    return bytes.subarray(8 - bits / 8);
  };
  return { name, fn, oid, values: whole(bits), binary, literals: [bare, quoted, key => `${quoted(key)}::${name}`] };
}

const TYPES: readonly Type[] = [
  integer('bigint', 'pg_bigint_hash', 20, 64),
  integer('integer', 'pg_bigint_hash', 23, 32),
  integer('smallint', 'pg_bigint_hash', 21, 16),
  ...(
    [
      ['text', 25],
      ['varchar', 1043],
    ] as const
  ).map(([name, oid]) => ({
    name,
    fn: 'pg_text_hash',
    oid,
    // With a blank at its end it may be another when it is stored, in a varchar(n): a test of its own.
    values: words.filter(key => !key.endsWith(' ')),
    binary: (key: string) => Buffer.from(key),
    literals: [
      quoted,
      (key: string) => `E${quoted(key.replaceAll('\\', '\\\\'))}`,
      (key: string) => `${quoted(key)}::${name}`,
    ],
  })),
  {
    name: 'uuid',
    fn: 'pg_uuid_hash',
    oid: 2950,
    values: fc.uuid(),
    binary: key => Buffer.from(key.replaceAll('-', ''), 'hex'),
    literals: [quoted, key => quoted(key.toUpperCase().replaceAll('-', '')), key => `uuid ${quoted(`{${key}}`)}`],
  },
];

/** PgCat's own hash, which no partitions have. */
const SHA1 = integer('bigint', 'sha1', 20, 64);

/** The shard of a key as PgCat finds it: the last four bytes of the digest of its digits. */
const sha1Shard = (key: string, shards: number) => createHash('sha1').update(key).digest().readUInt32BE(16) % shards;

let shards: Shards;
before(async () => {
  shards = await Shards.start({
    count: Math.max(...COUNTS),
    schema: 'CREATE TABLE sha1_3 (k bigint); CREATE TABLE sha1_5 (k bigint); CREATE TABLE sha1_12 (k bigint)',
  });
  // Shard n has partition n alone: the server takes no row that belongs to another.
  for (const [n, name] of shards.names.entries()) {
    const admin = await shards.cluster.connect(shards.cluster.primary, name);
    for (const type of TYPES) {
      for (const count of COUNTS) {
        if (n >= count) continue;
        const table = `${type.name}_${count}`;
        await admin.query(`
          CREATE TABLE ${table} (k ${type.name}) PARTITION BY HASH (k);
          CREATE TABLE ${table}_part PARTITION OF ${table} FOR VALUES WITH (MODULUS ${count}, REMAINDER ${n});
          GRANT ALL ON ${table} TO PUBLIC`);
      }
    }
    await admin.end();
  }
});
after(() => shards.stop());

/** One key on its way: what is sent, and the statement in words. */
type Way = (operation: 'insert' | 'select', key: string, nth: number) => { bytes: Buffer[]; about: string };

/** The ways in which a key may come. `inserts` and `selects` are the names of statements that were prepared long ago. */
function waysOf({ literals, oid, binary }: Type, table: string): readonly Way[] {
  const texts = {
    insert: (value: string) => `INSERT INTO ${table} (k) VALUES (${value}) RETURNING k::text, current_database()`,
    select: (value: string) => `SELECT k::text, current_database() FROM ${table} WHERE k = ${value}`,
  };
  const run = (statement: string, value: string | Buffer) => [
    frontend.bind('', statement, [value], { formats: [typeof value === 'string' ? 0 : 1] }),
    frontend.execute(),
    frontend.sync(),
  ];
  return [
    (operation, key, nth) => {
      const text = texts[operation](literals[nth % literals.length](key));
      return { bytes: [frontend.query(text)], about: text };
    },
    (operation, key, nth) => {
      const text = texts[operation]('$1');
      const types = nth % 2 === 0 ? [] : [oid];
      return { bytes: [frontend.parse('', text, types), ...run('', key)], about: `${text} with ${key} of ${types}` };
    },
    (operation, key, nth) => {
      const text = texts[operation]('$1');
      const types = nth % 2 === 0 ? [] : [oid];
      return {
        bytes: [frontend.parse('', text, types), ...run('', binary(key))],
        about: `${text} with ${key} in binary of ${types}`,
      };
    },
    (operation, key, nth) => ({
      bytes: run(operation, nth % 2 === 0 ? key : binary(key)),
      about: `the prepared ${operation} with ${key}`,
    }),
  ];
}

/** Prepares what {@link waysOf} takes for prepared. */
async function prepare(client: RawClient, table: string): Promise<void> {
  client.send(
    frontend.parse('insert', `INSERT INTO ${table} (k) VALUES ($1) RETURNING k::text, current_database()`),
    frontend.parse('select', `SELECT k::text, current_database() FROM ${table} WHERE k = $1`),
    frontend.sync(),
  );
  assert.equal(errorOf(await client.ready()), undefined);
}

/** Sends the keys over some clients, each pipelining, and hands every reply to `check`. */
async function each(
  clients: readonly RawClient[],
  keys: readonly string[],
  send: (key: string, nth: number) => { bytes: Buffer[]; about: string },
  check: (key: string, reply: readonly Message[], about: string) => void,
): Promise<void> {
  const all = keys.map((key, nth) => ({ key, ...send(key, nth) }));
  await Promise.all(
    clients.map(async (client, first) => {
      const own = all.filter((_, nth) => nth % clients.length === first);
      for (let at = 0; at < own.length; at += PIPELINE) {
        const some = own.slice(at, at + PIPELINE);
        client.send(...some.flatMap(({ bytes }) => bytes));
        for (const { key, about } of some) check(key, await client.ready(), about);
      }
    }),
  );
}

/** Inserts each key and finds it again, in another way; returns the shard of each. */
async function insertAndFind(proxy: TestProxy, type: Type, table: string, keys: readonly string[]): Promise<number[]> {
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => proxy.raw()));
  await Promise.all(clients.map(client => prepare(client, table)));
  const ways = waysOf(type, table);
  const places = new Map<string, string | null>();
  // A client takes every fourth key, so the ways follow each other in groups of as many.
  const wayOf = (nth: number, turn: number) => ways[(Math.floor(nth / CLIENTS) + turn) % ways.length];
  await each(
    clients,
    keys,
    (key, nth) => wayOf(nth, 0)('insert', key, nth),
    (key, reply, about) => {
      assert.equal(errorOf(reply), undefined, about);
      const [[stored, database]] = rowsOf(reply);
      assert.equal(stored, key, about);
      places.set(key, database);
    },
  );
  await each(
    clients,
    keys,
    (key, nth) => wayOf(nth, 1)('select', key, nth),
    (key, reply, about) => {
      assert.equal(errorOf(reply), undefined, about);
      assert.deepEqual(rowsOf(reply), [[key, places.get(key)]], about);
    },
  );
  await Promise.all(clients.map(client => client.close()));
  return keys.map(key => shards.names.indexOf(places.get(key) ?? ''));
}

/** So many different values, of a seed that is new each time. */
function sample(values: fc.Arbitrary<string>, seed: number): string[] {
  const keys = [...new Set(fc.sample(values, { numRuns: 3 * KEYS, seed }))].slice(0, KEYS);
  assert.equal(keys.length, KEYS);
  return keys;
}

for (const count of COUNTS) {
  suite(`1,000 random keys over ${count} shards, each inserted and found again`, () => {
    for (const fn of new Set(TYPES.map(type => type.fn))) {
      suite(fn, () => {
        let proxy: TestProxy;
        before(async () => {
          proxy = await shards.proxy({
            shards: shards.names.slice(0, count),
            pool: { automatic_sharding_key: '*.k', sharding_function: fn },
          });
        });
        after(() => proxy.stop());

        for (const type of TYPES.filter(type => type.fn === fn)) {
          test(type.name, async t => {
            const seed = Date.now() % 2 ** 31;
            t.diagnostic(`seed ${seed}`);
            const keys = sample(type.values, seed);
            const found = await insertAndFind(proxy, type, `${type.name}_${count}`, keys);
            assert.equal(new Set(found).size, count);
          });
        }
      });
    }

    test('sha1, as PgCat has it', async t => {
      const seed = Date.now() % 2 ** 31;
      t.diagnostic(`seed ${seed}`);
      const keys = sample(SHA1.values, seed);
      await using proxy = await shards.proxy({
        shards: shards.names.slice(0, count),
        pool: { automatic_sharding_key: '*.k', sharding_function: 'sha1' },
      });
      const found = await insertAndFind(proxy, SHA1, `sha1_${count}`, keys);
      assert.deepEqual(
        found,
        keys.map(key => sha1Shard(key, count)),
      );
    });
  });
}

test("PgCat's vectors of sha1 over twelve shards", async () => {
  const vector = [4, 7, 8, 3, 6, 0, 0, 10, 3, 11, 1, 7, 4, 4, 11, 2, 5, 0, 8, 3];
  const twelve = Array.from({ length: 12 }, (_, n) => shards.names[n % shards.names.length]);
  await using proxy = await shards.proxy({
    shards: twelve,
    pool: { automatic_sharding_key: '*.k', sharding_function: 'sha1' },
  });
  const client = await proxy.connect();
  for (const [key, shard] of vector.entries()) {
    const { rows } = await client.query(`EXPLAIN ROUTE SELECT * FROM sha1_12 WHERE k = ${key}`);
    assert.equal(rows.find(({ route }) => route === 'shard').answer, String(shard), `key ${key}`);
    const { rows: placed } = await client.query({
      text: 'INSERT INTO sha1_12 VALUES ($1) RETURNING current_database()',
      values: [key],
      rowMode: 'array',
    });
    assert.equal(placed[0][0], twelve[shard]);
  }
  await client.end();
});

test('a text with a blank at its end may lose it where it is stored: it is refused, but found', async () => {
  await using proxy = await shards.proxy({
    pool: { automatic_sharding_key: '*.k', sharding_function: 'pg_text_hash' },
  });
  const client = await proxy.connect();
  const insert = { text: 'INSERT INTO text_5 VALUES ($1) RETURNING current_database()', values: ['a '] };
  await assert.rejects(client.query(insert), { code: '0A000', message: /no certain value for the sharding key k/ });
  await client.query("SET SHARDING KEY TO 'a '");
  const { rows } = await client.query(insert);
  await client.query('SET SHARD TO DEFAULT');
  const { rows: found } = await client.query("SELECT current_database() FROM text_5 WHERE k = 'a '");
  assert.deepEqual(found, rows);
  await client.end();
});
