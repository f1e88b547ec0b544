/** The reader of the catalog: when it reads, on which server, and that nobody is in its way or suffers from it. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lease } from '../../src/pool/lease.ts';
import type { ServerConnection } from '../../src/server/connection.ts';
import { Analyzer } from '../../src/sql/cache.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestReader } from './reader.ts';

let cluster: TestCluster;
let analyzer: Analyzer;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await define('STABLE');
  await cluster.caughtUp();
  analyzer = await Analyzer.create({ now: () => 0 });
});
after(() => cluster?.stop());

const define = (volatility: string) =>
  cluster.sql(`CREATE OR REPLACE FUNCTION changing() RETURNS int LANGUAGE sql ${volatility} AS 'SELECT 1'`);
/** Whether a call of changing() is a read now. */
const reads = ({ reader }: TestReader) => reader.catalog.judge(analyzer.analyzeText('SELECT changing()')).read;
const primaryAlone = () => ({ servers: [cluster.primary] });
const replicaAlone = () => ({ servers: [cluster.replica(0)] });

/** A connection of the cluster, which the caller gives back. */
function lease({ cluster }: TestReader): Promise<{ connection: ServerConnection; release(): void }> {
  return new Promise((resolve, leaseFailed) => {
    const leased = (connection: ServerConnection, pool: { release(connection: ServerConnection): void }) =>
      resolve({ connection, release: () => pool.release(connection) });
    cluster.lease(new Lease({ leased, leaseFailed }, cluster.defaults));
  });
}

suite('the catalog is read', () => {
  test('at the start, and nothing is known before', async () => {
    await using made = new TestReader(cluster);
    assert.equal(reads(made), false);
    made.reader.start();
    assert.equal(reads(made), false);
    await made.reader.ready;
    assert.equal(reads(made), true);
  });

  test('on a replica when there is no primary, or none that answers', async () => {
    await using only = await TestReader.start(replicaAlone());
    assert.equal(reads(only), true);
    const dead = { host: '127.0.0.1', port: 1, isReplica: false };
    await using other = await TestReader.start({ servers: [dead, cluster.replica(0)] });
    assert.equal(reads(other), true);
  });

  test('soon after DDL, also after DDL while it is being read', async () => {
    await using known = await TestReader.start(primaryAlone());
    await define('VOLATILE');
    known.reader.ddlSeen();
    await eventually('it is volatile', () => !reads(known), 2000);
    await sleep(150);
    known.reader.ddlSeen();
    await sleep(110);
    await define('STABLE');
    known.reader.ddlSeen();
    await eventually('it is stable', () => reads(known), 2000);
  });

  test('again a little after DDL, whose transaction may have ended later', async () => {
    await using known = await TestReader.start(primaryAlone());
    const client = await cluster.connect();
    await client.query("BEGIN; CREATE OR REPLACE FUNCTION changing() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'");
    known.reader.ddlSeen();
    await sleep(400);
    assert.equal(reads(known), true);
    await client.query('COMMIT');
    await eventually('it is volatile', () => !reads(known), 4000);
    await client.end();
    await define('STABLE');
  });

  test('when it is older than catalog_ttl and somebody asks, not otherwise', async () => {
    await using known = await TestReader.start(primaryAlone(), { settings: { catalog_ttl: 200 } });
    const censuses = async () => {
      const [row] = await cluster.sql<{ calls: string }>(
        "SELECT coalesce(sum(calls), 0) AS calls FROM pg_stat_statements WHERE query LIKE '%pg_catalog.set_config(name, value%'",
      );
      return Number(row?.calls);
    };
    const before = await censuses();
    await sleep(700);
    assert.equal(await censuses(), before);
    await define('VOLATILE');
    await eventually('it is volatile', () => !reads(known), 2000);
    assert.ok((await censuses()) > before);
    await define('STABLE');
  });

  test('no more once it was stopped', async () => {
    await using known = await TestReader.start(primaryAlone());
    known.reader.ddlSeen();
    known.reader.stop();
    await define('VOLATILE');
    await sleep(300);
    known.reader.ddlSeen();
    await sleep(300);
    assert.equal(reads(known), true);
    await define('STABLE');
    await using never = new TestReader(primaryAlone());
    never.reader.stop();
    never.reader.start();
    await never.reader.ready;
    assert.equal(never.cluster.pools[0]?.connections.size, 0);
  });
});

suite('a reading', () => {
  test('that fails is logged once per cause, and tried again', async () => {
    await cluster.sql('ALTER ROLE alice CONNECTION LIMIT 0');
    await using made = new TestReader(primaryAlone());
    made.reader.start();
    const failures = () => made.warnings.filter(text => text.startsWith('The catalog could not be read'));
    await eventually('it failed', () => failures().length > 0);
    await sleep(1500);
    assert.equal(failures().length, 1, made.warnings.join('\n'));
    assert.match(failures()[0] ?? '', /too many connections for role/);
    await cluster.sql('ALTER ROLE alice CONNECTION LIMIT -1');
    await made.reader.ready;
    assert.equal(reads(made), true);
  });

  test('means the same whatever the client before has set', async () => {
    await using known = await TestReader.start(primaryAlone(), { user: { pool_size: 1 } });
    const { connection, release } = await lease(known);
    await cluster.sql('CREATE SCHEMA IF NOT EXISTS evil; GRANT ALL ON SCHEMA evil TO PUBLIC');
    await connection.run('CREATE TABLE evil.pg_proc (oid int)');
    await connection.run(
      "SET search_path = evil, pg_catalog; SET standard_conforming_strings = off; SET client_encoding = 'LATIN1'",
    );
    release();
    await cluster.sql('CREATE FUNCTION "größer"() RETURNS int LANGUAGE sql STABLE AS \'SELECT 1\'');
    known.reader.ddlSeen();
    const isRead = () => known.reader.catalog.judge(analyzer.analyzeText('SELECT "größer"()')).read;
    await eventually('it is known', isRead, 3000);
    const after = await lease(known);
    assert.equal(after.connection.parameters.get('client_encoding'), 'LATIN1', 'its setting is back');
    assert.equal(after.connection, connection);
    after.release();
    await cluster.sql('DROP SCHEMA evil CASCADE');
  });

  test('waits for its turn, and gives the connection back', async () => {
    await using made = new TestReader(primaryAlone(), { user: { pool_size: 1 } });
    const { release } = await lease(made);
    made.reader.start();
    const next = lease(made);
    await sleep(100);
    assert.equal(reads(made), false);
    release();
    await made.reader.ready;
    (await next).release();
    assert.equal(made.cluster.pools[0]?.connections.size, 1);
    assert.deepEqual(made.warnings, []);
  });

  test('of many objects makes no long stop', async () => {
    await cluster.sql(`DO $$BEGIN FOR i IN 1..10000 LOOP
      EXECUTE format('CREATE FUNCTION many_%s(int DEFAULT 3) RETURNS int LANGUAGE sql STABLE AS ''SELECT 1''', i);
    END LOOP; END$$`);
    await using made = new TestReader(primaryAlone(), { columns: true });
    // The time of this thread alone, as others have the machine too.
    const cpu_ms = () => process.threadCpuUsage().user / 1000;
    let last_ms = cpu_ms();
    let longest_ms = 0;
    const watch = setInterval(() => {
      longest_ms = Math.max(longest_ms, cpu_ms() - last_ms);
      last_ms = cpu_ms();
    }, 1);
    made.reader.start();
    await made.reader.ready;
    assert.equal(made.reader.catalog.judge(analyzer.analyzeText('SELECT many_777(), many_10000()')).read, true);
    clearInterval(watch);
    assert.ok(longest_ms < 20, `${longest_ms} ms`);
  });
});
