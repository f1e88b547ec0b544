/** Each statement of the corpus: EXPLAIN ROUTE says where it goes and why, and there it goes. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { REASONS } from '../../src/sql/statement.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import { bind, execute, parse, query, sync, type Value } from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { CORPUS as KEYED } from '../sql/shardkeys.ts';
import { GRAMMAR, HOLES, LISTS, type Outcome, REFUSALS, type RouteCase, SCHEMA } from './corpus.ts';
import { explain, PROTOCOLS, type Protocol } from './explain.ts';
import { SHARDED, SHARDED_SCHEMA } from './sharded.ts';

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

test('the corpus has a statement for every reason that does not take a server of its own', () => {
  const cases = [...GRAMMAR, ...Object.values(HOLES).flat(), ...SHARDED.flatMap(pool => pool.cases)];
  assert.ok(new Set(cases.map(({ sql }) => sql)).size > 700);
  const reasons = new Set<string>(cases.map(({ reason }) => reason));
  assert.deepEqual(
    Object.keys(REASONS).filter(reason => !reasons.has(reason)),
    ['foreign_table', 'refused'],
  );
  const refusals = new Set<unknown>(cases.map(({ outcome }) => 'refusal' in outcome && outcome.refusal));
  for (const refusal of Object.keys(REFUSALS)) assert.ok(refusals.has(refusal), refusal);
});

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
      assert.ok(GRAMMAR.length > 550, `${GRAMMAR.length} statements`);
      await check(client, protocol === 'simple' ? GRAMMAR : GRAMMAR.filter(inParse), protocol);
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
  if (REFUSALS.unknown.test(refusal) || REFUSALS.updated.test(refusal)) return 'refused';
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
        routes.set(said.get('template') ?? '', route.join(' '));
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

suite('what takes more than one message', () => {
  const WHERE = 'SELECT pg_is_in_recovery()';
  const WRITE = 'INSERT INTO other.t (id) VALUES (1) RETURNING pg_is_in_recovery()';
  let plain: TestProxy;
  let sharded: TestProxy;
  before(async () => {
    plain = await TestProxy.start(cluster, { pool: SPLITTING, general: { connect_timeout: 10_000 } });
    sharded = await TestProxy.start(cluster, {
      pool: { ...SPLITTING, automatic_sharding_key: 'data.id' },
      general: { connect_timeout: 10_000 },
      shards: SHARDS,
    });
  });
  after(async () => {
    await plain?.stop();
    await sharded?.stop();
  });

  async function answers(client: RawClient, ...messages: Buffer[]): Promise<unknown> {
    client.send(...messages, sync());
    const replies = await client.ready();
    return errorOf(replies)?.code ?? rowsOf(replies).flat();
  }
  const runs = (name: string, ...values: Value[]) => [bind('', name, values), execute()];

  test('a statement that is executed again is routed by itself, not by the one prepared last', async () => {
    await using client = await plain.raw();
    await answers(client, parse('write', WRITE));
    await answers(client, parse('read', WHERE));
    for (let time = 0; time < 2; time++) {
      assert.deepEqual(await answers(client, ...runs('write')), ['f']);
      assert.deepEqual(await answers(client, ...runs('read')), ['t']);
    }
  });

  test('of several statements in one batch none decides alone', async () => {
    await using client = await plain.raw();
    const both = [parse('write', WRITE), parse('read', WHERE), ...runs('write'), ...runs('read')];
    assert.deepEqual(await answers(client, ...both), ['f', 'f']);
  });

  test('what came before decides nothing, be it a read, a write or what nobody can parse', async () => {
    await using client = await plain.raw();
    for (const before of [WHERE, WRITE, 'SELEC 1', 'SET SERVER ROLE TO auto', 'TABLE other.t', 'VACUUM other.t']) {
      await client.query(before);
      assert.deepEqual(rowsOf(await client.query(WHERE)), [['t']], before);
      await client.query(before);
      assert.deepEqual(rowsOf(await client.query(WRITE)), [['f']], before);
    }
  });

  test('each Bind finds its own shard, whatever the other parameters are', async () => {
    await using client = await sharded.raw();
    const where = 'SELECT current_database() FROM (SELECT count(*) FROM data WHERE name = $1 AND id = $2) n';
    await answers(client, parse('by_id', where));
    const shardOf = async (name: Value, id: Value) => answers(client, ...runs('by_id', name, id));
    for (const [id, shard] of [
      ['5', 2],
      ['6', 0],
      ['7', 1],
      ['-1', 2],
    ] as const) {
      for (const name of ['x', '6', '', null])
        assert.deepEqual(await shardOf(name, id), [SHARDS[shard]], `${name} ${id}`);
    }
    // No row has this key: any shard will do.
    assert.deepEqual(await shardOf('x', null), [SHARDS[0]]);
    // PostgreSQL says what is wrong with it.
    assert.equal(await shardOf('x', 'five'), '22P02');
    assert.deepEqual(await shardOf('x', '5'), [SHARDS[2]]);
  });

  test('a shard that was inferred does not stay', async () => {
    await using client = await sharded.raw();
    const nowhere = 'SELECT current_database()';
    assert.deepEqual(
      rowsOf(await client.query(`${nowhere} FROM (SELECT FROM data WHERE id = 5) d RIGHT JOIN (SELECT) o ON true`)),
      [['shard_2']],
    );
    assert.deepEqual(rowsOf(await client.query(nowhere)), [['shard_0']]);
    await client.query('SET SHARDING KEY TO 5');
    assert.deepEqual(rowsOf(await client.query(nowhere)), [['shard_2']]);
    assert.deepEqual(rowsOf(await client.query(nowhere)), [['shard_2']]);
  });

  test('rows of several shards are put on none', async () => {
    await using client = await sharded.raw();
    for (const sql of [
      'INSERT INTO data (id) VALUES (5), (6)',
      'INSERT INTO data (id) VALUES (5); INSERT INTO data (id) VALUES (6)',
      'UPDATE data SET id = 6 WHERE id = 5',
    ]) {
      assert.equal(errorOf(await client.query(sql))?.code, '0A000', sql);
    }
    assert.equal(
      await answers(client, parse('', 'INSERT INTO data (id) VALUES ($1), ($2)'), ...runs('', '5', '6')),
      '0A000',
    );
    for (const shard of SHARDS) {
      const direct = await cluster.connect(cluster.primary, shard);
      const { rows } = await direct.query('SELECT count(*)::int AS n FROM data');
      await direct.end();
      assert.deepEqual(rows, [{ n: 0 }], shard);
    }
  });
});

suite('comments found by expressions', () => {
  const FIVE = [...SHARDS, 'shard_0', 'shard_1'];

  test('with five shards', async () => {
    await using proxy = await TestProxy.start(cluster, {
      pool: {
        ...SPLITTING,
        sharding_key_regex: '/\\* sharding_key: (\\d+) \\*/',
        shard_id_regex: '/\\* shard_id: (\\d+) \\*/',
      },
      shards: FIVE,
    });
    await using client = await proxy.raw();
    for (const protocol of PROTOCOLS) {
      const shardOf = async (sql: string) => {
        const { said, error } = await explain(client, sql, protocol);
        return error?.message ?? said.get('refused') ?? `${said.get('shard')} ${said.get('shard reason')}`;
      };
      assert.equal(await shardOf('/* sharding_key: 6 */ SELECT 1'), '2 comment');
      assert.equal(await shardOf('/* shard_id: 4 */ SELECT 1'), '4 comment');
      assert.equal(await shardOf('/* sharding_key: 6 */ /* shard_id: 3 */ SELECT 1'), '3 comment');
      assert.equal(await shardOf('SELECT 1'), '0 default');
      assert.match(await shardOf('/* shard_id: 5 */ SELECT 1'), REFUSALS.no_such_shard);
      assert.match(await shardOf('/* shard_id: 99999999999999999999 */ SELECT 1'), REFUSALS.wrong_comment);
    }
    assert.equal(errorOf(await client.query(';')), undefined);
    assert.equal(errorOf(await client.query('/* shard_id: 5 */ SELECT 1'))?.code, '22023');
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
  });
});
