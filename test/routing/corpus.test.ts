/** Each statement of the corpus: EXPLAIN ROUTE says where it goes and why, and there it goes. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { CORPUS as KEYED } from '../sql/shardkeys.ts';
import {
  GRAMMAR,
  HOLES,
  LISTS,
  type Outcome,
  REFUSALS,
  type RouteCase,
  SCHEMA,
  SHARDED,
  SHARDED_SCHEMA,
} from './corpus.ts';
import { explain, PROTOCOLS, type Protocol } from './explain.ts';

const SPLITTING = {
  query_parser_enabled: true,
  query_parser_read_write_splitting: true,
  primary_reads_enabled: false,
  default_role: 'any',
} as const;
const SHARDS = ['shard_0', 'shard_1', 'shard_2'] as const;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1, settings: { log_statement: 'all', max_connections: 200 } });
  for (const sql of SCHEMA) await cluster.sql(sql);
  for (const shard of SHARDS) {
    await cluster.sql(`CREATE DATABASE ${shard}`);
    const client = await cluster.connect(cluster.primary, shard);
    for (const sql of SHARDED_SCHEMA) await client.query(sql);
    await client.end();
  }
  await cluster.caughtUp();
});
after(() => cluster?.stop());

/** The bytes of a text; what JavaScript cannot hold as UTF-8 is none on the wire either. */
function bytesOf(sql: string): Buffer {
  return Buffer.from(Buffer.from(sql).toString('latin1').replaceAll('\xef\xbf\xbd', '\xff'), 'latin1');
}

/** Complains about every case that is explained otherwise than it must be. */
async function check(client: RawClient, cases: readonly RouteCase[], protocol: Protocol): Promise<void> {
  const complaints: string[] = [];
  for (const wanted of cases) {
    const { said, error } = await explain(client, bytesOf(wanted.sql), protocol);
    const got = error?.message ?? [said.get('class'), said.get('reason'), outcomeOf(said, wanted.outcome)].join(' ');
    const want = [wanted.class, wanted.reason, wordsOf(wanted.outcome)].join(' ');
    if (got !== want) complaints.push(`${wanted.sql}\n    want ${want}\n    got  ${got}`);
  }
  assert.ok(complaints.length === 0, `${complaints.length} of ${cases.length}\n  ${complaints.join('\n  ')}`);
}

function wordsOf(outcome: Outcome): string {
  if ('refusal' in outcome) return outcome.refusal;
  return `${outcome.role} ${outcome.why} ${outcome.shard} ${outcome.rule}`;
}

/** What was said in the words of {@link wordsOf}: a refusal by its name when it is the one that is wanted. */
function outcomeOf(said: ReadonlyMap<string, string>, wanted: Outcome): string {
  const refused = said.get('refused');
  if (refused === undefined)
    return ['role', 'role reason', 'shard', 'shard reason'].map(name => said.get(name)).join(' ');
  return 'refusal' in wanted && REFUSALS[wanted.refusal].test(refused) ? wanted.refusal : refused;
}

/** A text with a NUL ends there in Parse, and is another. */
const inParse = ({ sql }: RouteCase) => !sql.includes('\0');

/** The catalog is read by then. */
async function knowing(proxy: TestProxy, sql: string, wanted: string): Promise<RawClient> {
  const client = await proxy.raw();
  await client.query('SELECT 1');
  await eventually(
    'the catalog is known',
    async () => (await explain(client, sql, 'simple')).said.get('reason') === wanted,
  );
  return client;
}

suite('a pool of one shard', () => {
  let proxy: TestProxy;
  let client: RawClient;
  before(async () => {
    proxy = await TestProxy.start(cluster, {
      pool: { ...SPLITTING, ...LISTS },
      general: { connect_timeout: 10_000 },
    });
    client = await knowing(proxy, 'SELECT pure(1)', 'select');
  });
  after(async () => {
    await client?.close();
    await proxy?.stop();
  });

  for (const protocol of PROTOCOLS) {
    test(`every statement of the grammar’s corpus is explained, ${protocol}`, async () => {
      const cases = GRAMMAR.filter(({ reason }) => reason !== 'empty');
      assert.ok(cases.length > 550, `${cases.length} statements`);
      await check(client, protocol === 'simple' ? cases : cases.filter(inParse), protocol);
    });

    test(`no statement at all, ${protocol}`, async () => {
      for (const { sql } of GRAMMAR.filter(({ reason }) => reason === 'empty')) {
        const { error } = await explain(client, sql, protocol);
        assert.equal(`${error?.code} ${error?.message}`, '22023 EXPLAIN ROUTE takes a statement', sql);
      }
    });

    for (const [hole, cases] of Object.entries(HOLES)) {
      test(`${hole}, ${protocol}`, () => check(client, cases, protocol));
    }
  }
});

for (const { key, cases } of SHARDED) {
  suite(`three shards by ${key}`, () => {
    let proxy: TestProxy;
    let client: RawClient;
    before(async () => {
      proxy = await TestProxy.start(cluster, { pool: { ...SPLITTING, automatic_sharding_key: key }, shards: SHARDS });
      client = await proxy.raw();
    });
    after(async () => {
      await client?.close();
      await proxy?.stop();
    });

    for (const protocol of PROTOCOLS) {
      test(`every statement is explained, ${protocol}`, () => check(client, cases, protocol));
    }
  });
}

for (const key of ['data.id', '*.id'] as const) {
  test(`the statements about sharded tables with the key ${key} go where their plans say`, async () => {
    await using proxy = await TestProxy.start(cluster, {
      pool: { ...SPLITTING, automatic_sharding_key: key },
      shards: SHARDS,
    });
    await using client = await proxy.raw();
    const complaints: string[] = [];
    let count = 0;
    for (const expected of KEYED.filter(it => it.key === key)) {
      for (const sql of expected.statements.filter(text => text !== '')) {
        const { said } = await explain(client, sql, 'simple');
        // Values of parameters are not known before they are bound.
        const want = /(?<!\$)\$\d\b/.test(sql) ? 'open' : expected.kind;
        const got = kindOf(said);
        if (got !== want) complaints.push(`${want}, not ${got}: ${sql}`);
        count++;
      }
    }
    assert.ok(count > 20, `${count} statements`);
    assert.deepEqual(complaints, []);
  });
}

/** How many shards were named, in the words of test/sql/shardkeys; for one it must be that of the key 5. */
function kindOf(said: ReadonlyMap<string, string>): string {
  const refusal = said.get('refused');
  if (refusal === undefined) {
    const where = `${said.get('shard reason')} ${said.get('shard')}`;
    return where === 'key 2' ? 'one' : where === 'default 0' ? 'none' : where;
  }
  if (said.get('hint')?.includes('value of a parameter') === true) return 'open';
  if (REFUSALS.unknown.test(refusal)) return 'refused';
  return REFUSALS.several.test(refusal) ? 'several' : REFUSALS.every.test(refusal) ? 'every' : refusal;
}
