/** The transcript of a PolarDB user: pgbench in every mode over a primary and two replicas, and who is in recovery. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, type TestContext, test } from 'node:test';
import { type Client, Pool } from 'pg';
import * as frontend from '../client/frontend.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { type Outcome, programFor, run } from './program.ts';

/** A read that waits behind a slow one may be run twice; few are. */
function assertRunOnce(calls: number): void {
  const wanted = CLIENTS * TRANSACTIONS;
  assert.ok(calls >= wanted && calls < wanted * 1.1, `${calls} calls of ${wanted}`);
}

const CLIENTS = 16;
const TRANSACTIONS = 50;
const MODES = ['simple', 'extended', 'prepared'] as const;

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster({ replicas: 2 });
  proxy = await TestProxy.start(cluster, {
    general: { connect_timeout: 20_000 },
    pool: { query_parser_enabled: true, query_parser_read_write_splitting: true, primary_reads_enabled: false },
  });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

/** How often statements like this one ran on each server, the primary first. */
async function callsOf(pattern: string): Promise<number[]> {
  return Promise.all(
    cluster.servers.map(async server => {
      const sum = 'SELECT coalesce(sum(calls), 0)::int AS n FROM pg_stat_statements WHERE query ~ $1';
      return (await cluster.sql<{ n: number }>(sum, [pattern], server))[0].n;
    }),
  );
}

async function forgetCalls(): Promise<void> {
  for (const server of cluster.servers) await cluster.sql('SELECT pg_stat_statements_reset()', [], server);
}

/** The four sums of TPC-B are one, and each transaction left its line of history. */
async function assertBalanced(transactions: number): Promise<void> {
  const [sums] = await cluster.sql(`SELECT (SELECT sum(abalance) FROM pgbench_accounts)::int AS a,
    (SELECT sum(bbalance) FROM pgbench_branches)::int AS b, (SELECT sum(tbalance) FROM pgbench_tellers)::int AS t,
    (SELECT sum(delta) FROM pgbench_history)::int AS h, (SELECT count(*) FROM pgbench_history)::int AS n`);
  assert.deepEqual([sums.b, sums.t, sums.h, sums.n], [sums.a, sums.a, sums.a, transactions]);
}

suite('pgbench', () => {
  function assertFlawless(outcome: Outcome): void {
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.doesNotMatch(outcome.stderr, /error|fatal|abort/i);
    const all = CLIENTS * TRANSACTIONS;
    assert.match(outcome.stdout, new RegExp(`transactions actually processed: ${all}/${all}`));
    // Versions before 15 stop at the first failure instead of counting them.
    const failed = /number of failed transactions: (\d+)/.exec(outcome.stdout);
    assert.equal(failed?.[1] ?? '0', '0');
  }

  const bench = (path: string, ...args: string[]) =>
    run(path, ['-c', String(CLIENTS), '-t', String(TRANSACTIONS), ...args], { port: proxy.port });

  async function initialised(t: TestContext): Promise<string | undefined> {
    const path = programFor(t, 'pgbench');
    if (path === undefined) return undefined;
    const { code, stderr } = await run(path, ['-i', '-s', '2'], { port: proxy.port });
    assert.equal(code, 0, stderr);
    await cluster.caughtUp();
    await forgetCalls();
    return path;
  }

  test('-i makes its tables', async t => {
    const path = await initialised(t);
    if (path === undefined) return;
    assert.deepEqual(await cluster.sql('SELECT count(*)::int AS n FROM pgbench_accounts'), [{ n: 200_000 }]);
    const [{ n }] = await cluster.sql("SELECT count(*)::int AS n FROM pg_indexes WHERE tablename ~ '^pgbench'");
    assert.equal(n, 3);
  });

  for (const mode of MODES) {
    test(`-S -M ${mode} reads from the replicas alone`, async t => {
      const path = await initialised(t);
      if (path === undefined) return;
      assertFlawless(await bench(path, '-S', '-M', mode));
      const [primary, ...replicas] = await callsOf('^SELECT abalance');
      assert.equal(primary, 0);
      assertRunOnce(replicas[0] + replicas[1]);
      assert.ok(
        replicas.every(calls => calls > 100),
        `one replica does most of the work: ${replicas}`,
      );
    });

    test(`the TPC-B mix with -M ${mode}`, async t => {
      const path = await initialised(t);
      if (path === undefined) return;
      assertFlawless(await bench(path, '-M', mode));
      await assertBalanced(CLIENTS * TRANSACTIONS);
      assert.deepEqual(await callsOf('^(UPDATE|INSERT)'), [CLIENTS * TRANSACTIONS * 4, 0, 0]);
    });
  }

  test('the simple-update mix with autocommit statements of a script of its own', async t => {
    const path = await initialised(t);
    if (path === undefined) return;
    const folder = await mkdtemp(join(tmpdir(), 'pglynx-pgbench-'));
    t.after(() => rm(folder, { recursive: true }));
    const script = `\\set id random(1, 200000)
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :id;
SELECT abalance FROM pgbench_accounts WHERE aid = :id;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :id, 1, CURRENT_TIMESTAMP);
`;
    await writeFile(join(folder, 'script'), script);
    const outcome = await bench(path, '-n', '-M', 'prepared', '-f', join(folder, 'script'));
    assertFlawless(outcome);
    const [primary, ...replicas] = await callsOf('^SELECT abalance');
    assert.deepEqual([primary, replicas[0] + replicas[1]], [0, CLIENTS * TRANSACTIONS]);
    assert.deepEqual(await callsOf('^(UPDATE|INSERT)'), [CLIENTS * TRANSACTIONS * 2, 0, 0]);
  });
});

suite('the same with node-postgres', () => {
  before(async () => {
    const client = await proxy.connect();
    for (const [table, columns, rows] of [
      ['pgbench_branches', 'bid int PRIMARY KEY, bbalance int, filler char(88)', 'i, 0 FROM generate_series(1, 2)'],
      [
        'pgbench_tellers',
        'tid int PRIMARY KEY, bid int, tbalance int, filler char(84)',
        'i, (i - 1) / 10 + 1, 0 FROM generate_series(1, 20)',
      ],
      [
        'pgbench_accounts',
        'aid int PRIMARY KEY, bid int, abalance int, filler char(84)',
        'i, (i - 1) / 1000 + 1, 0 FROM generate_series(1, 2000)',
      ],
      ['pgbench_history', 'tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)', undefined],
    ] as const) {
      await client.query(`DROP TABLE IF EXISTS ${table}; CREATE TABLE ${table} (${columns})`);
      if (rows !== undefined) await client.query(`INSERT INTO ${table} SELECT ${rows} AS i`);
    }
    await client.end();
    await cluster.caughtUp();
  });

  /** Runs `work` as often as pgbench would, in as many clients. */
  async function drive(work: (client: Pick<Client, 'query'>, i: number) => Promise<void>): Promise<void> {
    await forgetCalls();
    const pool = new Pool({ ...proxy.config(), max: CLIENTS });
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_, number) => {
        const client = await pool.connect();
        for (let i = 0; i < TRANSACTIONS; i++) await work(client, number * TRANSACTIONS + i);
        client.release();
      }),
    );
    await pool.end();
  }

  for (const name of [undefined, 'select']) {
    test(`reads with ${name === undefined ? 'unnamed' : 'named'} statements come from the replicas alone`, async () => {
      await drive(async (client, i) => {
        const text = 'SELECT abalance FROM pgbench_accounts WHERE aid = $1';
        const values = [1 + (i % 2000)];
        const { rows } = await client.query(name === undefined ? { text, values } : { name, text, values });
        assert.equal(rows.length, 1);
      });
      const [primary, ...replicas] = await callsOf('^SELECT abalance');
      assert.equal(primary, 0);
      assertRunOnce(replicas[0] + replicas[1]);
    });
  }

  test('the TPC-B mix', async () => {
    await drive(async (client, i) => {
      const [aid, tid, bid, delta] = [1 + ((i * 37) % 2000), 1 + ((i * 7) % 20), 1 + (i % 2), (i % 100) - 50];
      await client.query('BEGIN');
      await client.query('UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2', [delta, aid]);
      const { rows } = await client.query('SELECT abalance FROM pgbench_accounts WHERE aid = $1', [aid]);
      assert.equal(rows.length, 1);
      const teller = 'UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2';
      await client.query({ name: 'teller', text: teller, values: [delta, tid] });
      await client.query(`UPDATE pgbench_branches SET bbalance = bbalance + ${delta} WHERE bid = ${bid}`);
      await client.query(
        'INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)',
        [tid, bid, aid, delta],
      );
      await client.query('END');
    });
    await assertBalanced(CLIENTS * TRANSACTIONS);
    assert.deepEqual(await callsOf('^(UPDATE|INSERT)'), [CLIENTS * TRANSACTIONS * 4, 0, 0]);
  });
});

suite('a pool whose connections are all in transactions', () => {
  test('lets clients prepare BEGIN, COMMIT and ROLLBACK at once, as pgbench with one thread needs it', async () => {
    await using tight = await TestProxy.start(cluster, {
      general: { connect_timeout: 30_000 },
      pool: { default_role: 'primary' },
      user: { pool_size: 1 },
    });
    const [holder, other] = [await tight.raw(), await tight.raw()];
    const prepare = async (client: typeof other, name: string, text: string) => {
      client.send(frontend.parse(name, text), frontend.sync());
      return (await client.ready()).map(({ type }) => type).join('');
    };
    const texts = ['BEGIN', 'COMMIT', 'ROLLBACK', 'START TRANSACTION READ ONLY'];
    for (const [i, text] of texts.entries()) assert.equal(await prepare(holder, `s${i}`, text), '1Z');
    await holder.query('BEGIN');
    for (const [i, text] of texts.entries()) assert.equal(await prepare(other, `t${i}`, text), '1Z');
    await holder.query('COMMIT');
    other.send(frontend.bind('', 't0'), frontend.execute(), frontend.sync());
    const replies = await other.ready();
    assert.equal(replies.map(({ type }) => type).join(''), '2CZ');
    assert.equal(replies.at(-1)?.body.toString(), 'T');
    await holder.close();
    await other.close();
  });
});

suite('select pg_is_in_recovery()', () => {
  test('answers t outside a transaction and f after BEGIN, to psql', async t => {
    const psql = programFor(t, 'psql');
    if (psql === undefined) return;
    const question = 'select pg_is_in_recovery();\n';
    const { stdout, stderr, code } = await run(psql, ['-XAt'], {
      port: proxy.port,
      input: `${question}begin;\n${question}commit;\n${question}`,
    });
    assert.deepEqual([stdout, stderr, code], ['t\nBEGIN\nf\nCOMMIT\nt\n', '', 0]);
  });

  test('and to node-postgres, in both protocols', async () => {
    const client = await proxy.connect();
    const answers = async () => {
      const simple = await client.query('select pg_is_in_recovery() as t');
      const prepared = await client.query({ name: 'r', text: 'select pg_is_in_recovery() as t' });
      return [simple.rows[0].t, prepared.rows[0].t];
    };
    assert.deepEqual(await answers(), [true, true]);
    await client.query('BEGIN');
    assert.deepEqual(await answers(), [false, false]);
    await client.query('ROLLBACK');
    assert.deepEqual(await answers(), [true, true]);
    await client.end();
  });
});
