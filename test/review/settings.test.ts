/** Settings that change what a text means or how a value is written, wherever they come from. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const { bind, execute, flush, parse, sync } = frontend;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
  await cluster.caughtUp();
});
after(() => cluster.stop());

suite('a text that the server reads otherwise than the grammar goes to the primary', () => {
  // One literal to the grammar; to a server that takes backslashes for escapes, a statement that writes.
  const text = String.raw`SELECT 'x\''; INSERT INTO kept SELECT session_user --'`;
  const pool = { query_parser_enabled: true, query_parser_read_write_splitting: true, primary_reads_enabled: false };

  test("by the client's own setting", async () => {
    await using proxy = await TestProxy.start(cluster, { pool });
    await using client = await proxy.raw({ standard_conforming_strings: 'off' });
    assert.equal(errorOf(await client.query(text)), undefined);
  });

  test("by the role's", async () => {
    await cluster.sql('ALTER ROLE alice SET standard_conforming_strings = off');
    await cluster.caughtUp();
    try {
      await using proxy = await TestProxy.start(cluster, { pool });
      await using client = await proxy.raw();
      assert.equal(errorOf(await client.query(text)), undefined);
      client.send(frontend.query('SELECT pg_is_in_recovery()'));
      assert.deepEqual(rowsOf(await client.ready()), [['t']]);
    } finally {
      await cluster.sql('ALTER ROLE alice RESET standard_conforming_strings');
    }
  });
});

test('a client with an application_name of its own logs in while every connection is busy', async () => {
  const servers = [cluster.primary];
  await using proxy = await TestProxy.start({ servers }, { user: { pool_size: 1 }, general: { connect_timeout: 500 } });
  await using holder = await proxy.raw();
  await holder.query('BEGIN');
  await using client = await proxy.raw({ application_name: "it's mine" });
  assert.equal(client.parameters.get('application_name'), "it's mine");
  await holder.query('COMMIT');
  assert.deepEqual(rowsOf(await client.query('SHOW application_name')), [["it's mine"]]);
});

suite('a text that is prepared behind a change of settings in its batch', () => {
  const text = "SELECT '2024-06-01 00:00'::timestamptz AT TIME ZONE 'UTC'";
  const set = [parse('', "SET TimeZone = 'Asia/Tokyo'"), bind('', ''), execute()];
  const batches: Record<string, Buffer[]> = {
    'with Sync': [...set, parse('s', text), bind('', 's'), execute(), sync()],
    'with Flush': [...set, flush(), parse('s', text), bind('', 's'), execute(), sync()],
  };
  for (const [how, messages] of Object.entries(batches)) {
    test(`${how}, is not shared`, async () => {
      await using proxy = await TestProxy.start({ servers: [cluster.primary] }, { user: { pool_size: 1 } });
      await using one = await proxy.raw();
      await using two = await proxy.raw();
      one.send(...messages);
      assert.deepEqual(rowsOf(await one.ready()), [['2024-05-31 15:00:00']]);
      for (const client of [two, one, two]) {
        if (client === two) client.send(parse('', text));
        client.send(bind('', client === two ? '' : 's'), execute(), sync());
        assert.deepEqual(rowsOf(await client.ready()), [
          [client === two ? '2024-06-01 00:00:00' : '2024-05-31 15:00:00'],
        ]);
      }
    });
  }
});

test('a value beyond ASCII is set whatever encoding the connection speaks', async () => {
  await using proxy = await TestProxy.start({ servers: [cluster.primary] }, { user: { pool_size: 1 } });
  const value = 'grün 日本 \\';
  await using one = await proxy.raw({ 'my.value': value });
  await using two = await proxy.raw({ 'my.value': value, client_encoding: 'LATIN1' });
  await using three = await proxy.raw({ client_encoding: 'SJIS' });
  for (let round = 0; round < 2; round++) {
    for (const client of [one, two, three]) {
      const messages = await client.query("SELECT convert_to(NULLIF(current_setting('my.value', true), ''), 'UTF8')");
      const wanted = client === three ? null : `\\x${Buffer.from(value).toString('hex')}`;
      assert.deepEqual(rowsOf(messages), [[wanted]]);
    }
  }
});
