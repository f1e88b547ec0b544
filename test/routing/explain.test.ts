/** EXPLAIN ROUTE at any moment of a client, for any text: what it says, and that it runs nothing. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { explainText, parseConfig } from '../../src/index.ts';
import { rowsOf, tagsOf } from '../client/backend.ts';
import { bind, describe, execute, parse, sync } from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { type Explanation, explain, PROTOCOLS, read } from './explain.ts';

const SPLITTING = {
  query_parser_enabled: true,
  query_parser_read_write_splitting: true,
  primary_reads_enabled: false,
  default_role: 'any',
} as const;
const SHARDED = { shards: [DATABASE, DATABASE, DATABASE], pool: { ...SPLITTING, automatic_sharding_key: 'data.id' } };

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster({ replicas: 1, settings: { log_statement: 'all' } });
  await cluster.sql('CREATE TABLE data (id bigint, x int)');
  await cluster.sql('INSERT INTO data VALUES (5, 1)');
  await cluster.sql('GRANT ALL ON data TO PUBLIC');
  await cluster.sql("CREATE FUNCTION doubles(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'");
  await cluster.caughtUp();
  proxy = await start({});
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

function start(options: ProxyOptions): Promise<TestProxy> {
  const general = { connect_timeout: 10_000, ...options.general };
  return TestProxy.start(cluster, { ...options, general, pool: { ...SPLITTING, ...options.pool } });
}

/** The codes of an answer: class, reason, role, its reason, shard, its reason; or why it is refused. */
function codes({ said, error }: Explanation): string {
  const refused = error === undefined ? said.get('refused') : `${error.code}: ${error.message}`;
  const route = ['role', 'role reason', 'shard', 'shard reason'].map(name => said.get(name));
  return [said.get('class'), said.get('reason'), ...(refused === undefined ? route : [refused])].join(' ').trim();
}

async function coded(client: RawClient, text: string | Buffer): Promise<string> {
  const [simple, extended] = [await explain(client, text, 'simple'), await explain(client, text, 'extended')];
  // Only how busy the servers are may differ.
  const [one, other] = [simple, extended].map(({ rows }) => rows.filter(([name]) => name !== 'server'));
  assert.deepEqual(one, other, String(text).slice(0, 100));
  assert.equal(codes(extended), codes(simple));
  return codes(simple);
}

const READ = 'read select replica read 0 only_shard';
const WRITE = 'write writes primary write 0 only_shard';
const UNPARSED = 'write unparsed primary write 0 only_shard';

test('every row has its place, and its words', async () => {
  await using client = await proxy.raw();
  await client.query('SELECT 1');
  await client.query('BEGIN; COMMIT');
  const { rows } = await explain(client, 'SELECT abs(x) FROM data WHERE id = 7 -- seven', 'simple');
  const { host, port } = cluster.primary;
  assert.deepEqual(rows, [
    ['statement', 'SELECT'],
    ['template', 'SELECT abs(x) FROM data WHERE id = 1'],
    ['class', 'read'],
    ['reason', 'select (only reads)'],
    ['reads', 'data'],
    ['calls', 'abs'],
    ['leaves in its session', 'nothing'],
    ['role', 'replica'],
    ['role reason', 'read (every statement is provably a read)'],
    ['shard', '0'],
    ['shard reason', 'only_shard (the pool has one shard)'],
    ['shareable', 'yes'],
    ['server', `${DATABASE}_shard_0_primary (${host}:${port}): no: it is a primary`],
    [
      'server',
      `${DATABASE}_shard_0_replica_0 (${host}:${cluster.replica(0).port}): the one candidate: 0 of 5 connections busy, 0 waiting`,
    ],
  ]);
});

test('a write, and what it leaves', async () => {
  await using client = await proxy.raw();
  const { said } = await explain(client, "INSERT INTO data SELECT nextval('s'), x FROM other; SET my.x = 1", 'simple');
  assert.deepEqual(
    ['statement', 'writes', 'reads', 'calls', 'leaves in its session', 'shareable'].map(name => said.get(name)),
    ['INSERT, the first of 2', 'data', 'other', 'nextval', 'set, sequence', 'no'],
  );
});

suite('at any moment', () => {
  test('inside a transaction it tells of the server that the client holds, and runs nothing there', async () => {
    await using client = await proxy.raw();
    for (const [begin, held] of [
      ['BEGIN', 'primary'],
      ['BEGIN READ ONLY', 'replica_0'],
    ] as const) {
      await client.query(begin);
      for (const protocol of PROTOCOLS) {
        const { said, error } = await explain(client, 'DELETE FROM data', protocol);
        assert.equal(error, undefined);
        const words = ['class', 'reason', 'shard', 'server'].map(name => said.get(name));
        assert.deepEqual(words, [
          'write',
          'writes',
          '0',
          `${DATABASE}_shard_0_${held}: the client holds a connection to it`,
        ]);
      }
      assert.deepEqual(rowsOf(await client.query('SELECT count(*) FROM data')), [['1']]);
      assert.deepEqual(tagsOf(await client.query('COMMIT')), ['COMMIT']);
    }
  });

  test('in a transaction that failed it fails like any other, and the transaction can be ended', async () => {
    await using client = await proxy.raw();
    await client.query('BEGIN');
    await client.query('SELECT nothing');
    assert.match(await coded(client, 'SELECT 1'), /^25P02: current transaction is aborted/);
    assert.deepEqual(tagsOf(await client.query('COMMIT')), ['ROLLBACK']);
    assert.equal(await coded(client, 'SELECT 1'), READ);
  });

  test('in a transaction on a shard it refuses what belongs to another', async () => {
    await using sharded = await start(SHARDED);
    await using client = await sharded.raw();
    await client.query('BEGIN /* pglynx: shard=2 */');
    const server = `${DATABASE}_shard_2_primary: the client holds a connection to it`;
    const here = await explain(client, 'SELECT * FROM data WHERE id = 5', 'simple');
    assert.deepEqual([here.said.get('server'), here.said.get('refused')], [server, undefined]);
    const there = await explain(client, 'SELECT * FROM data WHERE id = 6', 'simple');
    assert.match(
      there.said.get('refused') ?? '',
      /^0A000: the transaction is on shard 2 and cannot go on with shard 0/,
    );
    await client.query('ROLLBACK');
  });

  test('behind a BEGIN that waits for its shard it tells where both go', async () => {
    await using sharded = await start(SHARDED);
    await using client = await sharded.raw();
    const sql = 'SELECT * FROM data WHERE id = 5';
    for (const [begin, said] of [
      ['BEGIN', 'read select primary write 2 key'],
      ['BEGIN READ ONLY', 'read select replica read 2 key'],
    ] as const) {
      await client.query(begin);
      assert.equal(await coded(client, sql), said);
      await client.query('ROLLBACK');
    }
    assert.equal(await coded(client, sql), 'read select replica read 2 key');
  });

  test('before anything was sent, it makes the catalog be read', async () => {
    await using fresh = await start({});
    await using client = await fresh.raw();
    await eventually('the catalog is known', async () => {
      const { said } = await explain(client, 'SELECT doubles(1)', 'simple');
      return said.get('class') === 'read';
    });
  });

  test('in session mode it tells of the connection to come, then of the one that is kept', async () => {
    await using session = await start({ pool: { pool_mode: 'session' } });
    await using client = await session.raw();
    assert.equal(await coded(client, 'SELECT 1'), 'read select primary session_mode 0 only_shard');
    await client.query('SELECT 1');
    const { said } = await explain(client, 'SELECT 1', 'simple');
    assert.equal(said.get('server'), `${DATABASE}_shard_0_primary: the client holds a connection to it`);
    assert.equal(said.get('reason'), 'select');
  });

  test('prepared once, it answers each time anew', async () => {
    await using client = await proxy.raw();
    client.send(parse('asks', 'EXPLAIN ROUTE SELECT 1'), describe('S', 'asks'), sync());
    assert.equal((await client.ready()).map(({ type }) => type).join(''), '1tTZ');
    const asks = async () => {
      client.send(bind('', 'asks'), execute(), sync());
      return codes(read(await client.ready()));
    };
    assert.equal(await asks(), READ);
    await client.query("SET SERVER ROLE TO 'primary'");
    assert.equal(await asks(), 'read select primary chosen 0 only_shard');
    await client.query("SET SERVER ROLE TO 'default'");
    assert.equal(await asks(), READ);
  });

  test('nothing of it reaches a server', async () => {
    const { said } = await explain(await proxy.raw(), 'INSERT INTO data VALUES (987654321)', 'simple');
    assert.equal(said.get('reason'), 'writes');
    for (const server of cluster.servers) assert.doesNotMatch(await server.logText(), /EXPLAIN ROUTE|987654321/);
    assert.deepEqual(await cluster.sql('SELECT count(*)::int AS n FROM data'), [{ n: 1 }]);
  });
});

suite('any text', () => {
  const texts: readonly (readonly [what: string, text: string | Buffer, said: string])[] = [
    ['a syntax error', 'SELECT FROM WHERE', UNPARSED],
    ['another command', 'EXPLAIN ROUTE SELECT 1', UNPARSED],
    ['several statements', 'SELECT 1; DELETE FROM data; SELECT 2', WRITE],
    [
      'a comment that asks for something',
      '/* pglynx: role=primary */ SELECT 1',
      'read select primary comment 0 only_shard',
    ],
    ['a comment behind it', 'SELECT 1 -- pglynx: role=any', 'read select any comment 0 only_shard'],
    [
      'a comment that is wrong',
      'SELECT 1 -- pglynx: role=any rule=1',
      'read select 22023: a pglynx comment is wrong: "rule" is unknown: role, shard and key are what it can set',
    ],
    ['a parenthesis at once', '(SELECT 1)', READ],
    ['a parameter', 'SELECT * FROM data WHERE id = $1', READ],
    ['bytes that are no UTF-8', Buffer.from('SELECT \xe4 FROM data', 'latin1'), UNPARSED],
    ['such bytes in a literal', Buffer.from("SELECT '\xe4' FROM data", 'latin1'), READ],
    ['half a character at the end', Buffer.concat([Buffer.from('SELECT 1 AS '), Buffer.of(0xf0, 0x9f)]), UNPARSED],
    ['deep nesting', `SELECT ${'('.repeat(3000)}1${')'.repeat(3000)}`, READ],
    ['25 KB of sums', `SELECT ${'1+'.repeat(12_500)}1`, UNPARSED],
    ['60 KB', `SELECT '${'x'.repeat(60_000)}'`, READ],
  ];
  for (const [what, text, said] of texts) {
    test(what, async () => {
      await using client = await proxy.raw();
      assert.equal(await coded(client, text), said);
      // The client goes on as before.
      assert.equal(await coded(client, 'SELECT 1'), READ);
    });
  }

  test('a NUL, which ends a text in Parse', async () => {
    await using client = await proxy.raw();
    assert.equal(codes(await explain(client, 'SELECT 1\0; DROP TABLE data', 'simple')), UNPARSED);
    assert.equal(await coded(client, 'SELECT 1'), READ);
  });

  test('no text at all', async () => {
    await using client = await proxy.raw();
    for (const text of ['', ' ', ';', '-- nothing', '/* nothing */ ;'])
      assert.equal(await coded(client, text), 'read empty replica read 0 only_shard');
  });

  test('1 MB, whose head alone is there when the simple protocol asks', async () => {
    await using client = await proxy.raw();
    const long = `SELECT id FROM data WHERE id IN (${'123456789, '.repeat(95_000)}1)`;
    for (const protocol of PROTOCOLS) {
      const { said, rows, error } = await explain(client, long, protocol);
      assert.equal(codes({ said, rows, error }), UNPARSED);
      assert.ok(JSON.stringify(rows).length < 2000);
      assert.equal(await coded(client, 'SELECT 1'), READ);
    }
    // The head alone would be a read.
    const { said } = await explain(client, `SELECT 1; -- ${'x'.repeat(70_000)}\n DELETE FROM data`, 'simple');
    assert.equal(said.get('reason'), 'unparsed');
  });

  test('long lists of names are cut', async () => {
    await using client = await proxy.raw();
    const names = Array.from({ length: 300 }, (_, n) => `table_with_number_${n}`);
    const { said } = await explain(client, `SELECT 1 FROM ${names.join(', ')}`, 'simple');
    for (const name of ['template', 'reads']) {
      assert.equal(said.get(name)?.length, 503, name);
      assert.ok(said.get(name)?.endsWith('...'), name);
    }
  });

  test('parameters leave the shard open, as far as they matter', async () => {
    await using sharded = await start(SHARDED);
    await using client = await sharded.raw();
    assert.equal(await coded(client, 'SELECT * FROM data WHERE id = 5 AND x = $1'), 'read select replica read 2 key');
    for (const sql of ['SELECT * FROM data WHERE id = $1', 'INSERT INTO data (id) VALUES ($1)']) {
      const { said } = await explain(client, sql, 'extended');
      assert.match(said.get('refused') ?? '', /^0A000: /);
      assert.equal(said.get('hint'), 'The value of a parameter may tell the shard when the statement is run.');
    }
    const { said } = await explain(client, 'SELECT * FROM data', 'simple');
    assert.match(said.get('hint') ?? '', /^Give the sharding key a value/);
  });
});

suite('the role, for each reason', () => {
  const said = async (options: ProxyOptions, sql: string, ...before: string[]): Promise<string> => {
    await using configured = await start(options);
    await using client = await configured.raw();
    for (const command of before) await client.query(command);
    return (await coded(client, sql)).replace(/ 0 only_shard$/, '');
  };
  const PARSER_OFF = { query_parser_enabled: false, query_parser_read_write_splitting: false };

  test('default_role, when nothing is split', async () => {
    for (const default_role of ['any', 'primary', 'replica']) {
      const pool = { ...PARSER_OFF, default_role };
      assert.equal(await said({ pool }, 'DELETE FROM data'), `write writes ${default_role} default_role`);
    }
  });

  test('chosen', async () => {
    for (const role of ['primary', 'replica', 'any']) {
      const choice = `SET SERVER ROLE TO '${role}'`;
      assert.equal(await said({}, 'DELETE FROM data', choice), `write writes ${role} chosen`);
    }
    assert.equal(await said({ pool: PARSER_OFF }, 'SELECT 1', "SET SERVER ROLE TO 'auto'"), 'read select replica read');
  });

  test('read, of any server when the primary serves reads', async () => {
    assert.equal(await said({ pool: { primary_reads_enabled: true } }, 'SELECT 1'), 'read select any read');
    assert.equal(await said({}, 'SELECT 1', 'SET PRIMARY READS TO on'), 'read select any read');
  });

  test('initializing, then recently_written, then read', async () => {
    const activity = { db_activity_based_routing: true, db_activity_ttl: 100 };
    const pool = { ...activity, db_activity_init_delay: 60_000, table_mutation_cache_ms_ttl: 50 };
    assert.equal(await said({ pool }, 'SELECT 1'), 'read select primary initializing');
    const lasting = { ...activity, db_activity_init_delay: 1, table_mutation_cache_ms_ttl: 60_000 };
    const write = 'UPDATE data SET x = 1 WHERE id = 0';
    const begin = ['SELECT 1', 'SELECT pg_sleep(0.01)', write];
    assert.equal(await said({ pool: lasting }, 'SELECT * FROM data', ...begin), 'read select primary recently_written');
    assert.equal(await said({ pool: lasting }, 'SELECT 1', ...begin), 'read select replica read');
    // What a function of the user's reads, nobody knows.
    const calls = { ...lasting, read_functions: ['looks'] };
    assert.equal(await said({ pool: calls }, 'SELECT looks()', ...begin), 'read select primary recently_written');
  });
});

suite('servers', () => {
  interface Server {
    readonly role: 'primary' | 'replica';
    readonly port?: number;
  }

  /** A proxy in front of these servers: the cluster's, or ports where nobody listens. */
  async function behind(servers: readonly Server[], pool: ProxyOptions['pool'] = {}): Promise<TestProxy> {
    const list = servers.map(({ role, port }) => {
      const real = role === 'primary' ? cluster.primary : cluster.replica(0);
      return { host: real.host, port: port ?? real.port, isReplica: role === 'replica' };
    });
    const general = { connect_timeout: 300, healthcheck_timeout: 300 };
    return TestProxy.start({ servers: list }, { general, pool: { ...SPLITTING, ...pool } });
  }

  /** What is said of each server, without its address. */
  async function verdicts(client: RawClient, sql: string): Promise<string[]> {
    const { rows } = await explain(client, sql, 'simple');
    return rows
      .filter(([name]) => name === 'server')
      .map(([, answer]) => answer.replace(/^\w+_shard_\d_(\w+) \([^)]*\): /, '$1 '))
      .map(answer => answer.replace(/(?<!no): \d+ of .*/, '').replace(/\d+ s more/, 'N s more'));
  }

  test('one replica of two is banned, and then nobody else is left', async () => {
    await using two = await behind([{ role: 'primary' }, { role: 'replica' }, { role: 'replica', port: 1 }]);
    await using client = await two.raw();
    for (let tries = 0; tries < 50 && !(await verdicts(client, 'SELECT 1'))[2].includes('banned'); tries++) {
      assert.deepEqual(await verdicts(client, 'SELECT 1'), [
        'primary no: it is a primary',
        'replica_0 one of 2 candidates (random)',
        'replica_1 one of 2 candidates (random)',
      ]);
      await client.query('SELECT 1');
    }
    const [primary, other, banned] = await verdicts(client, 'SELECT 1');
    assert.deepEqual([primary, other], ['primary no: it is a primary', 'replica_0 the one candidate']);
    assert.match(banned, /^replica_1 no: banned for N s more \(FailedCheckout: /);
  });

  test('when all are banned, their bans will be lifted', async () => {
    await using dead = await behind([{ role: 'primary' }, { role: 'replica', port: 1 }]);
    await using client = await dead.raw();
    await client.query('SELECT 1');
    const [, replica] = await verdicts(client, 'SELECT 1');
    assert.match(
      replica,
      /^replica_0 the one candidate, though banned for N s more \(FailedCheckout: .*\), as all are$/,
    );
  });

  test('a shard without the role refuses', async () => {
    await using lone = await behind([{ role: 'primary' }]);
    await using reader = await lone.raw();
    assert.equal(await coded(reader, 'SELECT 1'), 'read select primary read_without_replica 0 only_shard');
    assert.deepEqual(await verdicts(reader, 'SELECT 1'), ['primary the one candidate']);
    await using replicas = await behind([{ role: 'replica' }]);
    await using writer = await replicas.raw();
    const refusal = `58000: could not get connection from the pool - AllServersDown: no primary is configured in shard 0 of ${DATABASE}`;
    const { said } = await explain(writer, 'DELETE FROM data', 'simple');
    assert.equal(said.get('refused'), refusal);
    assert.equal(rowsOf(await writer.query('DELETE FROM data')).length, 0);
  });

  test('a busy one is left out', async () => {
    const pool = { ...SPLITTING, primary_reads_enabled: true, load_balancing_mode: 'loc' };
    await using small = await start({ pool, user: { pool_size: 1 } });
    await using holder = await small.raw();
    await using client = await small.raw();
    await holder.query('BEGIN');
    const [no, one] = ['primary no: 1 of 1 connections busy, 0 waiting', 'replica_0 the one candidate'];
    // The connection of the replica may still be tested, or read the catalog.
    await eventually('the replica is free', async () => {
      const said = await verdicts(client, 'SELECT 1');
      return said[0] === no && said[1] === one;
    });
    const write = ['primary the one candidate', 'replica_0 no: it is a replica'];
    assert.deepEqual(await verdicts(client, 'DELETE FROM data'), write);
    await holder.query('COMMIT');
  });

  test('weights are told where they differ', async () => {
    const said = async (...weights: readonly number[]) => {
      const replicas = weights.map((weight, n) => ['127.0.0.1', 5000 + n, 'replica', weight]);
      const text = configText({ servers: [] }, { pool: { ...SPLITTING, load_balancing_mode: 'p2c' } });
      const config = text.replace(/servers = \[\n\]/, `servers = ${JSON.stringify(replicas)}`);
      const rows = await explainText(parseConfig(config, 'pgcat.toml', {}), 'SELECT 1', {});
      return rows.filter(([name]) => name === 'server').map(([, answer]) => answer.replace(/^.*\d\): /, ''));
    };
    assert.deepEqual(await said(3, 1, 0), [
      'one of 2 candidates (p2c, weight 3)',
      'one of 2 candidates (p2c, weight 1)',
      'no: its weight is 0',
    ]);
    assert.deepEqual(await said(2, 2), ['one of 2 candidates (p2c)', 'one of 2 candidates (p2c)']);
    assert.deepEqual(await said(0), ['the one candidate']);
  });
});
