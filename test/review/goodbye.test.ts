/** Clients that say goodbye without waiting for the reply to what they sent. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const { bind, execute, parse, query, sync, terminate } = frontend;

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
  const pool = { query_parser_enabled: true, query_parser_read_write_splitting: true, primary_reads_enabled: true };
  proxy = await TestProxy.start(cluster, { pool, user: { pool_size: 1 }, general: { connect_timeout: 5000 } });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

const slow = (line: string) => `INSERT INTO kept SELECT '${line}' FROM pg_sleep(0.3)`;

suite('a write that was sent before goodbye takes place', () => {
  const scenes: Record<string, (line: string) => Buffer[]> = {
    'by a simple query': line => [query(slow(line))],
    'by an extended query': line => [parse('', slow(line)), bind('', ''), execute(), sync()],
    'behind others': line => [query('SELECT 1'), query('SELECT pg_sleep(0.1)'), query('SELECT 1'), query(slow(line))],
    'in a transaction': line => [query('BEGIN'), query(slow(line)), query('COMMIT')],
  };
  for (const [how, messages] of Object.entries(scenes)) {
    for (const wait_ms of [0, 50]) {
      test(`${how}, ${wait_ms === 0 ? 'at once' : 'a moment later'}`, async () => {
        const client = await proxy.raw();
        client.send(...messages(how));
        if (wait_ms > 0) await sleep(wait_ms);
        client.send(terminate());
        client.end();
        await eventually(
          'the row is there',
          async () => (await cluster.sql('DELETE FROM kept RETURNING *')).length === 1,
        );
        client.destroy();
        await using other = await proxy.raw();
        await other.query('SELECT 1');
      });
    }
  }
});

test('a write that waits for a connection when its client says goodbye takes place', async () => {
  await using holder = await proxy.raw();
  await holder.query('BEGIN');
  const client = await proxy.raw();
  client.send(query("INSERT INTO kept VALUES ('later')"), terminate());
  client.end();
  await sleep(100);
  assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
  await holder.query('COMMIT');
  await eventually('the row is there', async () => (await cluster.sql('DELETE FROM kept RETURNING *')).length === 1);
  client.destroy();
});

test('a long write before goodbye takes place, but not the place of others', async () => {
  await using quick = await TestProxy.start(cluster, { user: { pool_size: 1 }, general: { connect_timeout: 300 } });
  const client = await quick.raw();
  client.send(query("INSERT INTO kept SELECT 'long' FROM pg_sleep(1.5)"));
  await sleep(50);
  client.send(terminate());
  client.end();
  await sleep(500);
  await using other = await quick.raw();
  assert.equal(errorOf(await other.query('SELECT 1')), undefined);
  assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
  await eventually('the row is there', async () => (await cluster.sql('DELETE FROM kept RETURNING *')).length === 1);
  client.destroy();
});

test('a read that was sent before goodbye is cancelled', async () => {
  const client = await proxy.raw();
  client.send(query('SELECT count(*) FROM generate_series(1, 1000000000)'));
  await sleep(50);
  client.send(terminate());
  client.end();
  await eventually('nothing runs', async () => (await cluster.activity()).every(({ state }) => state === 'idle'), 2000);
  client.destroy();
});

test('a batch without Sync before goodbye is rolled back', async () => {
  const client = await proxy.raw();
  client.send(parse('', "INSERT INTO kept VALUES ('never')"), bind('', ''), execute(), frontend.flush());
  await client.until('C');
  client.send(terminate());
  client.end();
  await using other = await proxy.raw();
  await other.query('SELECT 1');
  assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
  client.destroy();
});
