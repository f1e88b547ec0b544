/** Long prepared statements: nobody keeps them for others, and a server forgets one when its client closes it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
let proxy: TestProxy;

before(async () => {
  cluster = await startCluster({ replicas: 0 });
  proxy = await TestProxy.start(cluster, { user: { pool_size: 1 } });
});

after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

const LONG = `SELECT count(*) FROM pg_prepared_statements WHERE length(statement) > 90000 /* ${'x'.repeat(100_000)} */`;

test('one that is closed is gone from the server, and one that was closed by an exchange that failed is not', async () => {
  await using client = await proxy.raw();
  const ask = (name: string) => [frontend.bind('', name, []), frontend.execute()];
  client.send(frontend.parse('long', LONG), ...ask('long'), frontend.sync());
  assert.deepEqual(rowsOf(await client.until('Z')), [['1']]);
  client.send(frontend.parse('', 'SELECT 1/0'), ...ask(''), frontend.close('S', 'long'), frontend.sync());
  assert.equal(errorOf(await client.until('Z'))?.code, '22012');
  client.send(...ask('long'), frontend.sync());
  assert.deepEqual(rowsOf(await client.until('Z')), [['1']]);
  client.send(frontend.close('S', 'long'), frontend.sync());
  assert.deepEqual(
    (await client.until('Z')).map(({ type }) => type),
    ['3', 'Z'],
  );
  assert.deepEqual(rowsOf(await client.query('SELECT count(*) FROM pg_prepared_statements')), [['0']]);
  client.send(...ask('long'), frontend.sync());
  assert.equal(errorOf(await client.until('Z'))?.code, '26000');
});

test('two clients that prepare the same one each get their answer', async () => {
  await using one = await proxy.raw();
  await using other = await proxy.raw();
  for (const client of [one, other, one]) {
    client.send(frontend.parse('same', LONG), frontend.bind('', 'same', []), frontend.execute(), frontend.sync());
    const [[count]] = rowsOf(await client.until('Z'));
    assert.ok(Number(count) >= 1);
    client.send(frontend.close('S', 'same'), frontend.sync());
    await client.until('Z');
  }
});
