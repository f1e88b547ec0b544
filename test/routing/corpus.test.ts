/** Each statement of the corpus: EXPLAIN ROUTE says where it goes and why, and there it goes. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { shownTemplate } from '../../src/admin/show.ts';
import { bind, execute, parse, query, sync } from '../client/frontend.ts';
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

/** What changes the schema, for itself or for those after it, does not run here. */
const UNFIT: ReadonlySet<string> = new Set(['utility', 'select_into', 'copy', 'empty']);
/** No server logs these texts, or the client has the last word. */
const UNTOLD = /[\0\ufffd\ud800]|role=|shard=|^SHOW SERVER/;
const PARAMETER = /(?<!\$)\$\d\b/g;

suite('what runs', () => {
  const cases = [...GRAMMAR, ...Object.values(HOLES).flat()].filter(
    ({ sql, reason }) => !UNFIT.has(reason) && !UNTOLD.test(sql),
  );

  for (const protocol of PROTOCOLS) {
    test(`runs where EXPLAIN ROUTE says, and SHOW ROUTES agrees, ${protocol}`, async () => {
      await using proxy = await TestProxy.start(cluster, {
        pool: { ...SPLITTING, ...LISTS },
        general: { connect_timeout: 10_000 },
      });
      let client = await knowing(proxy, 'SELECT pure(1)', 'select');
      const runnable = cases.filter(({ sql }) => protocol === 'extended' || sql.match(PARAMETER) === null);
      assert.ok(runnable.length > 400, `${runnable.length} statements`);
      const places: string[] = [];
      const routes = new Map<string, string>();
      for (const [number, { sql, reason }] of runnable.entries()) {
        const text = `/* ${protocol} case ${number}. */ ${sql}`;
        const { said } = await explain(client, text, protocol);
        places.push(`${said.get('role')}: ${sql}`);
        const route = ['role', 'role reason', 'shard reason', 'shareable'].map(name => said.get(name));
        routes.set(shownTemplate(said.get('template') ?? ''), route.join(' '));
        await run(client, text, protocol);
        if (reason === 'select') continue;
        // What it left in its session is none of the next one's.
        await client.close();
        client = await proxy.raw();
      }
      await client.close();
      const ran = await placesOf(protocol);
      assert.deepEqual(
        places.filter((place, number) => !place.startsWith(`${ran.get(number)}: `)),
        [],
      );
      await compare(proxy, routes);
    });
  }
});

/** Runs a text, and ends the COPY or the transaction that it may begin. Errors are answers. */
async function run(client: RawClient, sql: string, protocol: Protocol): Promise<void> {
  const values = Array.from(sql.match(PARAMETER) ?? [], () => '1');
  const isSimple = protocol === 'simple';
  client.send(...(isSimple ? [query(sql)] : [parse('', sql), bind('', '', values), execute(), sync()]));
  const status = (await client.ready()).at(-1)?.body.toString();
  if (status !== 'I') await client.query('ROLLBACK');
}

/** By number of case, the role of the server that has logged it: each must be run once, by one. */
async function placesOf(protocol: Protocol): Promise<ReadonlyMap<number, string>> {
  const ran = new Map<number, string>();
  for (const server of cluster.servers) {
    const role = server.isReplica ? 'replica' : 'primary';
    const pattern = new RegExp(`/\\* ${protocol} case (\\d+)\\. \\*/`, 'g');
    for (const [, digits] of (await server.logText()).matchAll(pattern)) {
      const other = ran.get(Number(digits));
      ran.set(Number(digits), other === undefined || other === role ? role : 'both');
    }
  }
  return ran;
}

/** The rows of SHOW ROUTES must say of each template what EXPLAIN ROUTE said; none was run once more. */
async function compare(proxy: TestProxy, routes: ReadonlyMap<string, string>): Promise<void> {
  const admin = await proxy.admin();
  const { rows } = await admin.query<Record<string, string>>('SHOW ROUTES');
  await admin.end();
  const shown = new Map<string, string>();
  for (const { template = '', role, reason, shard_rule, shareable, replays } of rows) {
    assert.equal(replays, '0', template);
    shown.set(template, [role, reason, shard_rule, shareable].join(' '));
  }
  for (const [template, route] of routes) assert.equal(shown.get(template), route, template);
  // The statement that made the catalog be read is not of the corpus.
  shown.delete('SELECT 1');
  assert.deepEqual(
    [...shown.keys()].filter(template => !routes.has(template)),
    [],
  );
}
