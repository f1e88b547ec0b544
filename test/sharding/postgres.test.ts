/** Shards of keys against tables PARTITION BY HASH of a real server: a row is where the sharder says, or nobody says. */
import assert from 'node:assert/strict';
import { after, before, suite, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import {
  type KeyShard,
  type KeyUse,
  Sharder,
  type ShardingFunction,
  type WrittenKey,
} from '../../src/sharding/sharder.ts';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import {
  digits,
  integerSpelling,
  numberBytes,
  numberText,
  quoted,
  type Spelling,
  someUuid,
  someWord,
  stringSpelling,
  whole,
  words,
} from './spellings.ts';

/** Types of keys: how the server writes them in binary, their OID, and the values that are tried. */
interface Type {
  readonly name: string;
  readonly send: string;
  readonly oid: number;
  readonly fn: ShardingFunction;
  readonly values: fc.Arbitrary<string>;
}

const MODULI = [3, 5, 7] as const;
const KEYS = 1200;

const TYPES: readonly Type[] = [
  { name: 'smallint', send: 'int2send', oid: 21, fn: 'pg_bigint_hash', values: whole(16) },
  { name: 'integer', send: 'int4send', oid: 23, fn: 'pg_bigint_hash', values: whole(32) },
  { name: 'bigint', send: 'int8send', oid: 20, fn: 'pg_bigint_hash', values: whole(64) },
  { name: 'text', send: 'textsend', oid: 25, fn: 'pg_text_hash', values: words },
  { name: 'varchar', send: 'varcharsend', oid: 1043, fn: 'pg_text_hash', values: words },
  { name: 'uuid', send: 'uuid_send', oid: 2950, fn: 'pg_uuid_hash', values: fc.uuid() },
];

let cluster: TestCluster;
let client: RawClient;
before(async () => {
  cluster = await startCluster();
  const types = [...TYPES.map(type => type.name), 'varchar(8)'];
  const tables = types.flatMap(type =>
    MODULI.flatMap(modulus => [
      `CREATE TABLE ${tableOf(type, modulus)} (k ${type}) PARTITION BY HASH (k)`,
      ...[...Array(modulus).keys()].map(
        n =>
          `CREATE TABLE ${tableOf(type, modulus)}_${n} PARTITION OF ${tableOf(type, modulus)}
           FOR VALUES WITH (MODULUS ${modulus}, REMAINDER ${n})`,
      ),
    ]),
  );
  await cluster.sql(tables.join(';'));
  client = await RawClient.connect({ port: cluster.primary.port, user: 'postgres', database: DATABASE });
});
after(async () => {
  await client.close();
  await cluster.stop();
});

const tableOf = (type: string, modulus: number) => `of_${type.replace(/\W+/g, '_')}_${modulus}`;

/** The number of the partition in a row. */
const PARTITION = `substring(tableoid::regclass::text from '\\d+$')`;

/** A new seed each time; a failure prints it with what failed. */
function seeded(t: TestContext): { seed: number; endOnFailure: true } {
  const seed = Date.now() % 2 ** 31;
  t.diagnostic(`seed ${seed}`);
  return { seed, endOnFailure: true };
}

suite('random keys are in the partition that the sharder names', () => {
  for (const { name, send, oid, fn, values } of TYPES) {
    test(name, async t => {
      const keys = fc.sample(values, { numRuns: KEYS, ...seeded(t) });
      for (const modulus of MODULI) {
        const table = tableOf(name, modulus);
        const sharder = new Sharder(fn, modulus);
        const rows = await cluster.sql<{ key: string; partition: string; bytes: Buffer }>(
          `INSERT INTO ${table} SELECT unnest($1::${name}[])
           RETURNING k::text AS key, ${PARTITION} AS partition, ${send}(k) AS bytes`,
          [keys],
        );
        assert.equal(rows.length, KEYS);
        for (const { key, partition, bytes } of rows) {
          const forms: WrittenKey[] = [
            { form: 'string', text: key },
            ...[0, oid].map(type => ({ form: 'text', bytes: Buffer.from(key), type }) as const),
            ...[0, oid].map(type => ({ form: 'binary', bytes, type }) as const),
          ];
          for (const form of forms) assert.equal(sharder.shardOf(form, 'compared'), Number(partition), key);
          assert.equal(sharder.shardOfText(key), Number(partition), key);
        }
        assert.equal(new Set(rows.map(row => row.partition)).size, modulus);
      }
    });
  }
});

/** How often the sharder gave each kind of answer, so that no test passes because it never knows. */
class Tally {
  readonly #counts = { number: 0, unmatched: 0, unknown: 0 };
  rows = 0;

  /** Compares an answer with what the server has done: the partitions of its rows, or an error. */
  check(shard: KeyShard, use: KeyUse, partitions: readonly number[] | 'error', about: string): void {
    this.#counts[typeof shard === 'number' ? 'number' : shard]++;
    if (shard === 'unknown' || partitions === 'error') return;
    this.rows += partitions.length;
    if (shard !== 'unmatched') assert.deepEqual(new Set(partitions), new Set(partitions.map(() => shard)), about);
    else assert.ok(use === 'compared' && partitions.length === 0, about);
  }

  /** Tells the counts, and wants at least so many rows and answers of each kind. */
  report(t: TestContext, rows: number, atLeast: Readonly<Record<'number' | 'unmatched' | 'unknown', number>>): void {
    t.diagnostic(`${this.rows} rows, ${JSON.stringify(this.#counts)}`);
    assert.ok(this.rows >= rows, `${this.rows} rows`);
    for (const kind of ['number', 'unmatched', 'unknown'] as const) {
      assert.ok(this.#counts[kind] >= atLeast[kind], `${this.#counts[kind]} ${kind}`);
    }
  }
}

const partitionsOf = (messages: readonly Message[]) =>
  errorOf(messages) === undefined ? rowsOf(messages).map(([partition]) => Number(partition)) : 'error';

const SPELLINGS: Readonly<Record<string, fc.Arbitrary<Spelling>>> = {
  smallint: integerSpelling,
  integer: integerSpelling,
  bigint: integerSpelling,
  text: stringSpelling(someWord, [undefined, 'text', 'varchar', 'bpchar', 'name']),
  varchar: stringSpelling(someWord, [undefined, 'text', 'varchar', 'bpchar']),
  'varchar(8)': stringSpelling(someWord, [undefined, 'text', 'varchar']),
  uuid: stringSpelling(someUuid, [undefined, undefined, 'uuid', 'uuid', 'text']),
};

const fnOf = (name: string) => TYPES.find(type => name.startsWith(type.name))?.fn ?? 'pg_text_hash';

suite('a literal in any spelling finds and makes rows where the sharder says', () => {
  for (const [name, spellings] of Object.entries(SPELLINGS)) {
    test(name, async t => {
      const tally = new Tally();
      const isInteger = fnOf(name) === 'pg_bigint_hash';
      await fc.assert(
        fc.asyncProperty(spellings, fc.constantFrom(...MODULI), async ({ sql, key }, modulus) => {
          const table = tableOf(name, modulus);
          const sharder = new Sharder(fnOf(name), modulus);
          const stored = partitionsOf(
            await client.query(`INSERT INTO ${table} VALUES (${sql}) RETURNING ${PARTITION}`),
          );
          tally.check(sharder.shardOf(key, 'stored'), 'stored', stored, `INSERT ${sql}`);
          const conditions = [`k = ${sql}`, `${sql} = k`, ...(isInteger ? [`k IN (${sql}, 6.5)`] : [])];
          for (const where of conditions) {
            const found = partitionsOf(await client.query(`SELECT ${PARTITION} FROM ${table} WHERE ${where}`));
            tally.check(sharder.shardOf(key, 'compared'), 'compared', found, where);
          }
        }),
        { numRuns: 500, ...seeded(t) },
      );
      tally.report(t, 300, { number: 300, unmatched: isInteger || name === 'uuid' ? 100 : 0, unknown: 50 });
    });
  }
});

/** Types that parameters are declared with: those of keys, others, and none. */
const OIDS = [20, 21, 23, 25, 705, 1042, 1043, 1700, 700, 701, 26, 2950] as const;

suite('a parameter of any declared type and format finds and makes rows where the sharder says', () => {
  /** Runs a statement with one parameter. */
  const run = async (sql: string, type: number, value: Buffer, binary: boolean) => {
    client.send(
      frontend.parse('', sql, [type]),
      frontend.bind('', '', [value], { formats: [binary ? 1 : 0] }),
      frontend.execute(),
      frontend.sync(),
    );
    return partitionsOf(await client.ready());
  };

  const texts = (name: string) => {
    if (fnOf(name) === 'pg_bigint_hash') return numberText;
    return name === 'uuid' ? someUuid : someWord;
  };
  const binaries = (name: string): fc.Arbitrary<Buffer> => {
    if (fnOf(name) === 'pg_bigint_hash') return numberBytes;
    if (name !== 'uuid') return someWord.map(word => Buffer.from(word));
    return fc.tuple(fc.constantFrom(16, 16, 15, 17), fc.nat(20)).map(([length, n]) => Buffer.alloc(length, n));
  };

  for (const name of Object.keys(SPELLINGS)) {
    test(name, async t => {
      const tally = new Tally();
      const isInteger = fnOf(name) === 'pg_bigint_hash';
      const values = fc.oneof(
        texts(name).map(text => ({ bytes: Buffer.from(text), binary: false })),
        binaries(name).map(bytes => ({ bytes, binary: true })),
      );
      const own = TYPES.find(type => name.startsWith(type.name))?.oid ?? 0;
      const types = fc.oneof(fc.constantFrom(...OIDS), fc.constantFrom(0, own));
      await fc.assert(
        fc.asyncProperty(values, types, fc.constantFrom(...MODULI), async ({ bytes, binary }, type, modulus) => {
          const table = tableOf(name, modulus);
          const sharder = new Sharder(fnOf(name), modulus);
          const key: WrittenKey = { form: binary ? 'binary' : 'text', bytes, type };
          const about = `${binary ? bytes.toString('hex') : JSON.stringify(bytes.toString())} of type ${type}`;
          const stored = await run(`INSERT INTO ${table} VALUES ($1) RETURNING ${PARTITION}`, type, bytes, binary);
          tally.check(sharder.shardOf(key, 'stored'), 'stored', stored, `INSERT ${about}`);
          const conditions = ['k = $1', ...(isInteger ? ['k IN ($1, 5)'] : [])];
          for (const where of conditions) {
            // The other element of the list is 5 itself, which the list below leaves out.
            const found = await run(
              `SELECT ${PARTITION} FROM ${table} WHERE ${where} ${isInteger ? 'AND k <> 5' : ''}`,
              type,
              bytes,
              binary,
            );
            tally.check(sharder.shardOf(key, 'compared'), 'compared', found, `${where}: ${about}`);
          }
        }),
        { numRuns: 500, ...seeded(t) },
      );
      tally.report(t, 200, { number: 200, unmatched: isInteger || name === 'uuid' ? 20 : 0, unknown: 100 });
    });
  }
});

suite('the elements of an array are in the partitions that the sharder names', () => {
  const element = fc.string({ unit: fc.constantFrom(...'ab5,{}"\\ ', 'NULL', '\n', 'ü'), maxLength: 4 });
  const array = fc.oneof(
    fc
      .array(
        fc.oneof(
          element.map(text => `"${text.replace(/["\\]/g, '\\$&')}"`),
          element,
          fc.constant(' null '),
        ),
      )
      .map(elements => `{${elements.join(',')}}`),
    fc.string({ unit: fc.constantFrom(...'a5,{}"\\ ', 'NULL', '[1:1]='), maxLength: 10 }),
  );
  const numbers = fc
    .array(fc.oneof(digits, numberText, fc.constantFrom('NULL', '"7"', '" 8 "')), { maxLength: 4 })
    .map(elements => `{${elements.join(' , ')}}`);

  const cases = { text: array, bigint: numbers } as const;
  for (const [name, texts] of Object.entries(cases)) {
    test(`in text: ${name}`, async t => {
      let read = 0;
      await fc.assert(
        fc.asyncProperty(texts, fc.constantFrom(...MODULI), async (text, modulus) => {
          const sharder = new Sharder(fnOf(name), modulus);
          const found = partitionsOf(
            await client.query(
              `INSERT INTO ${tableOf(name, modulus)} SELECT * FROM unnest(${quoted(text)}::${name}[]) AS k
               WHERE k IS NOT NULL RETURNING ${PARTITION}`,
            ),
          );
          const forms: WrittenKey[] = [
            { form: 'string', text, cast: name === 'text' ? '_text' : '_int8' },
            { form: 'text', bytes: Buffer.from(text), type: name === 'text' ? 1009 : 1016 },
            ...(name === 'text' ? [{ form: 'string', text } as const] : []),
          ];
          for (const form of forms) {
            const shards = sharder.elementsOf(form);
            if (shards === undefined || found === 'error') continue;
            read++;
            assert.deepEqual(new Set(shards.filter(shard => shard !== 'unmatched')), new Set(found), text);
          }
        }),
        { numRuns: 500, ...seeded(t) },
      );
      t.diagnostic(`${read} arrays read`);
      assert.ok(read > 200);
    });
  }

  test('in binary', async t => {
    const config = seeded(t);
    for (const { name, fn, oid, values } of TYPES) {
      for (const modulus of MODULI) {
        const keys = fc.sample(fc.option(values), { ...config, numRuns: 4 });
        const [{ bytes }] = await cluster.sql<{ bytes: Buffer }>(`SELECT array_send($1::${name}[]) AS bytes`, [keys]);
        const rows = await cluster.sql<{ partition: string }>(
          `INSERT INTO ${tableOf(name, modulus)} SELECT * FROM unnest($1::${name}[]) AS k
           WHERE k IS NOT NULL RETURNING ${PARTITION} AS partition`,
          [keys],
        );
        const expected = new Set(rows.map(row => Number(row.partition)));
        for (const type of [0, { 21: 1005, 23: 1007, 20: 1016, 25: 1009, 1043: 1015, 2950: 2951 }[oid] ?? 0]) {
          const shards = new Sharder(fn, modulus).elementsOf({ form: 'binary', bytes, type });
          assert.deepEqual(new Set(shards?.filter(shard => shard !== 'unmatched')), expected, `${name} ${keys}`);
        }
      }
    }
  });
});

test('a range has the partitions of its rows', async () => {
  const table = tableOf('bigint', 7);
  await cluster.sql(`INSERT INTO ${table} SELECT generate_series(-300, 300)`);
  const sharder = new Sharder('pg_bigint_hash', 7);
  for (const [from, to] of [
    ['-2', '1'],
    ['5', '5'],
    ['7', '6'],
    ['-100', '100'],
  ]) {
    const rows = await cluster.sql<{ partition: string }>(
      `SELECT ${PARTITION} AS partition FROM ${table} WHERE k BETWEEN ${from} AND ${to}`,
    );
    assert.deepEqual(
      new Set(sharder.rangeOf({ form: 'string', text: from }, { form: 'string', text: to })),
      new Set(rows.map(row => Number(row.partition))),
    );
  }
});

test('NULL is stored where the sharder says', async () => {
  for (const { name, fn } of TYPES) {
    for (const modulus of MODULI) {
      const [{ partition }] = await cluster.sql<{ partition: string }>(
        `INSERT INTO ${tableOf(name, modulus)} VALUES (NULL) RETURNING ${PARTITION} AS partition`,
      );
      assert.equal(new Sharder(fn, modulus).shardOf('null', 'stored'), Number(partition));
    }
  }
});
