/** What must not be shared never is: its client has a server process to itself for as long, and leaves nothing to others. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Client } from 'pg';
import { rowsOf } from '../client/backend.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import { settled } from '../failure/backends.ts';
import { TestProxy } from '../proxy/index.ts';
import { PipelineClient } from './pipeline-client.ts';
import { CROWD_READ, CROWD_TABLE, CROWD_WRITE, Crowd } from './unshared-crowd.ts';
import { Loner } from './unshared-loner.ts';
import { OBJECT_AND_PROGRAM_MIXES, TABLES } from './unshared-objects.ts';
import { SESSION_MIXES } from './unshared-session.ts';
import { type Mix, TRANSACTION_MIXES } from './unshared-transactions.ts';

const MIXES: Readonly<Record<string, Mix>> = { ...TRANSACTION_MIXES, ...SESSION_MIXES, ...OBJECT_AND_PROGRAM_MIXES };

const CROWD = 6;
const LONERS = 3;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ settings: { autovacuum: 'off', max_prepared_transactions: 10 } });
  await cluster.sql(`${CROWD_TABLE}; ${TABLES}`);
});
after(() => cluster?.stop());

for (const pool_size of [1, 2]) {
  suite(`while a crowd shares ${pool_size === 1 ? 'the only connection' : 'two connections'}`, () => {
    let proxy: TestProxy;
    let crowd: Crowd;
    let admin: Client;
    let loners: Loner[] = [];
    before(async () => {
      proxy = await TestProxy.start(cluster, {
        general: { connect_timeout: 10_000 },
        pool: { query_parser_enabled: true },
        users: ['alice'],
        user: { pool_size, auth_type: 'trust' },
      });
      const login = { port: proxy.port, user: 'alice', database: DATABASE };
      admin = await cluster.connect();
      crowd = await Crowd.start(login, CROWD);
      loners = await Promise.all(
        Array.from({ length: LONERS }, async (_, index) => {
          const parameters = { application_name: `loner ${index + 1}` };
          return new Loner(index + 1, await PipelineClient.connect({ ...login, parameters }), admin, crowd);
        }),
      );
    });
    after(async () => {
      await admin?.end();
      await proxy?.stop();
    });

    test("the crowd's statements may be shared", async () => {
      await using client = await proxy.raw();
      for (const text of [CROWD_READ, CROWD_WRITE]) {
        const rows = rowsOf(await client.query(`EXPLAIN ROUTE ${text}`));
        assert.deepEqual(
          rows.find(([name]) => name === 'shareable'),
          ['shareable', 'yes'],
        );
      }
    });

    for (const [name, mix] of Object.entries(MIXES)) {
      test(name, { timeout: 30_000 }, async () => {
        const from = crowd.count;
        await Promise.all(loners.map(loner => mix(loner)));
        await crowd.judge();
        assert.ok(crowd.count > from, 'the crowd went on');
      });
    }

    test('all of that in any order', { timeout: 60_000 }, async () => {
      const all = Object.values(MIXES);
      await Promise.all(
        loners.map(async loner => {
          // Each in an order of its own: the steps are prime to the number of mixes.
          const step = [7, 11, 13][loner.number % 3];
          for (let count = 0; count < all.length; count++) await all[(count * step) % all.length](loner);
        }),
      );
      await crowd.judge();
    });

    test('the crowd lost nothing', async () => {
      await crowd.stop();
      await crowd.judge();
      for (const { client } of loners) client.leave();
      await settled(cluster);
      const visits = 'SELECT count(*)::int AS count, count(DISTINCT transaction)::int AS transactions FROM visits';
      const [{ count, transactions }] = await cluster.sql<{ count: number; transactions: number }>(visits);
      assert.deepEqual([count, transactions], [crowd.writes, crowd.writes]);
      await cluster.sql('TRUNCATE visits');
    });
  });
}
