/** PostgreSQL itself judges the shards of statements: what is said to need one has there the result that all rows give. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { type Client, DatabaseError } from 'pg';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { Answers, type Sharding } from './answers.ts';
import { QUERY_TABLES, QueryMaker } from './queries.ts';
import { CORPUS, TABLES, VALUES } from './shardkeys.ts';

const SHARDS = 3;
const KEYS = ['data.id', '*.id'] as const;
type Key = (typeof KEYS)[number];

/** Random statements for each key, and how many of them at least must be said to need one shard. */
const RUNS = 1000;
const FLOOR = 150;

/** Statements of the corpus whose results differ between any two databases, or between any two moments. */
const INCOMPARABLE = /^EXPLAIN|pg_class|information_schema|^SET|CURRENT OF/;

const SCHEMA = `
  CREATE TABLE data (id int, x int, name text, UNIQUE (id, x));
  CREATE TABLE orders (id int, data_id int, x int);
  CREATE TABLE notes (id int, x int, note text);
  CREATE TABLE plain (x int, y int);
  CREATE TABLE parted (id bigint) PARTITION BY HASH (id);
  CREATE FUNCTION shard_of(id int) RETURNS int LANGUAGE sql AS $$
    SELECT min(n) FROM generate_series(0, ${SHARDS - 1}) n WHERE satisfies_hash_partition('parted'::regclass, ${SHARDS}, n, id::bigint)
  $$;
  INSERT INTO data SELECT g % 8, g / 8, 'd' || g FROM generate_series(0, 22) g;
  INSERT INTO data VALUES (NULL, 0, 'none'), (NULL, 2, 'none');
  INSERT INTO orders SELECT g % 7, g % 5, g % 3 FROM generate_series(0, 11) g;
  INSERT INTO orders VALUES (NULL, 1, 1);
  INSERT INTO notes SELECT g * 3 % 8, g % 4, 'n' || g FROM generate_series(0, 8) g;
  INSERT INTO plain SELECT g % 4, g % 3 FROM generate_series(0, 5) g;
`;

/** What a statement did: its rows and counts, and, if it may have changed them, the tables behind it. */
interface Outcome {
  readonly results: readonly string[];
  readonly tables: Readonly<Record<string, readonly string[]>>;
}

/** Databases with the same tables: one with all rows, and one for each shard. */
class Databases {
  readonly #whole: Client;
  readonly #shards: readonly Client[];
  readonly #sharded: readonly string[];
  #rows: readonly Readonly<Record<string, readonly string[]>>[] = [];

  private constructor(whole: Client, shards: readonly Client[], sharded: readonly string[]) {
    this.#whole = whole;
    this.#shards = shards;
    this.#sharded = sharded;
  }

  static async create(cluster: TestCluster, key: Key): Promise<Databases> {
    const [table] = key.split('.');
    const prefix = table === '*' ? 'every' : table;
    const sharded = Object.keys(TABLES).filter(name => (table === '*' ? TABLES[name].includes('id') : name === table));
    const open = async (name: string, shard?: number): Promise<Client> => {
      await cluster.sql(`CREATE DATABASE ${name}`);
      const client = await cluster.connect(cluster.primary, name);
      await client.query(`${SCHEMA} SET statement_timeout = '500ms'`);
      for (const one of shard === undefined ? [] : sharded) {
        await client.query(`DELETE FROM ${one} WHERE shard_of(id) <> $1`, [shard]);
      }
      return client;
    };
    const whole = await open(`${prefix}_whole`);
    const shards: Client[] = [];
    for (let shard = 0; shard < SHARDS; shard++) shards.push(await open(`${prefix}_${shard}`, shard));
    const databases = new Databases(whole, shards, sharded);
    databases.#rows = await Promise.all(shards.map(tablesOf));
    return databases;
  }

  /** Complains if the statement does anything else on a shard than with all rows. Undefined if all rows refuse it. */
  async check(sql: string, shard: number, values: readonly string[]): Promise<boolean> {
    const [whole, part] = await Promise.all([this.#whole, this.#shards[shard]].map(client => run(client, sql, values)));
    if (whole instanceof DatabaseError) return false;
    assert.ok(!(part instanceof DatabaseError), `${sql}\n on shard ${shard}: ${part}`);
    assert.deepEqual(part.results, whole.results, `${sql}\n on shard ${shard}`);
    for (const [table, rows] of Object.entries(part.tables)) {
      const others = this.#sharded.includes(table)
        ? this.#rows.filter((_, other) => other !== shard).flatMap(tables => tables[table])
        : [];
      assert.deepEqual([...rows, ...others].sort(), whole.tables[table], `${sql}\n leaves ${table} on shard ${shard}`);
    }
    return true;
  }

  async end(): Promise<void> {
    await Promise.all([this.#whole, ...this.#shards].map(client => client.end()));
  }
}

async function run(client: Client, sql: string, values: readonly string[]): Promise<Outcome | DatabaseError> {
  try {
    await client.query('BEGIN');
    const answer = await client.query({ rowMode: 'array', ...numbered(sql, values) });
    const results = [answer]
      .flat()
      .flatMap(result => [
        `${result.command} ${result.rowCount}`,
        ...result.rows.map(row => JSON.stringify(row)).sort(),
      ]);
    const writes = !/^\s*(SELECT|VALUES|\()/i.test(sql);
    return { results, tables: writes ? await tablesOf(client) : {} };
  } catch (error) {
    if (error instanceof DatabaseError) return error;
    throw error;
  } finally {
    await client.query('ROLLBACK; DEALLOCATE ALL');
  }
}

/** The statement with its parameters numbered from 1 on, as they are not all used. */
function numbered(sql: string, values: readonly string[]): { text: string; values?: string[] } {
  const used = [...new Set([...sql.matchAll(/\$(\d)/g)].map(([, n]) => Number(n)))];
  if (used.length === 0) return { text: sql };
  const text = sql.replace(/\$(\d)/g, (_, n) => `$${used.indexOf(Number(n)) + 1}`);
  return { text, values: used.map(n => values[n - 1]) };
}

async function tablesOf(client: Client): Promise<Record<string, readonly string[]>> {
  const tables: Record<string, readonly string[]> = {};
  for (const table of Object.keys(TABLES)) {
    const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${table} t`);
    tables[table] = rows.map(({ row }) => row).sort();
  }
  return tables;
}

suite('on one shard alone', () => {
  let cluster: TestCluster;
  let answers: Answers;
  const databases = new Map<Key, Databases>();
  before(async () => {
    cluster = await startCluster();
    answers = await Answers.create({ key: 'data.id' });
    for (const key of KEYS) databases.set(key, await Databases.create(cluster, key));
  });
  after(async () => {
    for (const each of databases.values()) await each.end();
    await cluster.stop();
  });

  const databasesOf = (key: Key): Databases => {
    const found = databases.get(key);
    assert.ok(found !== undefined);
    return found;
  };

  for (const { key, kind, statements } of CORPUS.filter(({ kind }) => kind === 'one' || kind === 'none')) {
    test(`${key}: the corpus's ${kind} has the result of all rows`, async () => {
      const own = answers.with({ key, tables: TABLES, shards: SHARDS });
      const compared = statements.filter(sql => sql !== '' && !INCOMPARABLE.test(sql));
      let checked = 0;
      for (const sql of compared) {
        const answer = own.answer(sql, VALUES);
        const shards = answer.kind === 'one' ? [answer.shard] : [...Array(SHARDS).keys()];
        for (const shard of shards) {
          assert.ok(await databasesOf(key).check(sql, shard, VALUES), `${sql} is an error`);
          checked++;
        }
      }
      assert.ok(checked >= compared.length);
    });
  }

  for (const key of KEYS) {
    for (const exact of [false, true]) {
      test(`${key}: random statements have the result of all rows${exact ? ', keys being equal to numbers of any table' : ''}`, async t => {
        const sharding: Sharding = { key, exact, tables: QUERY_TABLES, shards: SHARDS };
        const counts = await checkRandom(answers.with(sharding), databasesOf(key));
        t.diagnostic(JSON.stringify(counts));
        assert.ok(counts.same >= FLOOR, `only ${counts.same} were compared`);
      });
    }
  }
});

async function checkRandom(answers: Answers, databases: Databases): Promise<Record<string, number>> {
  const counts: Record<string, number> = { same: 0, any: 0, error: 0 };
  const number = fc.nat({ max: 9239 });
  const property = fc.asyncProperty(fc.gen(), async draw => {
    const sql = new QueryMaker(draw, number).statement();
    const answer = answers.answer(sql);
    counts[answer.kind] = (counts[answer.kind] ?? 0) + 1;
    if (answer.kind !== 'one' && answer.kind !== 'none') return;
    const summed = /^(SELECT|WITH (?!.*\b(UPDATE|DELETE|INSERT|MERGE) ))/.test(sql)
      ? `SELECT count(*), sum(hashtextextended(q::text, 0)) FROM (${sql}) q`
      : sql;
    const same = await databases.check(summed, answer.kind === 'one' ? answer.shard : 0, []);
    counts[!same ? 'error' : answer.kind === 'one' ? 'same' : 'any']++;
  });
  await fc.assert(property, { numRuns: RUNS, endOnFailure: true });
  return counts;
}
