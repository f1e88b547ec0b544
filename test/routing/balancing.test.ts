/** Which of several servers a read gets, through pglynx: the three modes, weights, and a server of weight 0. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { rowsOf } from '../client/backend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 2 });
});
after(() => cluster?.stop());

/** A pglynx whose servers have these weights, the primary first. */
async function start(mode: string, weights: readonly number[]): Promise<TestProxy> {
  const options: ProxyOptions = {
    users: ['alice'],
    pool: { query_parser_enabled: true, primary_reads_enabled: true, load_balancing_mode: mode },
    general: { ban_time: 1 },
  };
  const proxy = await TestProxy.start(cluster, options);
  let text = configText(cluster, options);
  for (const [index, { port }] of cluster.servers.entries()) {
    text = text.replace(new RegExp(`(${port}, "(?:primary|replica)")`), `$1, ${weights[index]}`);
  }
  proxy.rewrite(text);
  await proxy.proxy.reload();
  return proxy;
}

/** Where each of so many reads of each client ran; all clients work at the same time. */
async function reads(clients: readonly RawClient[], count: number): Promise<Map<string, number>> {
  const counts = new Map(cluster.servers.map(({ name }) => [name, 0]));
  const work = async (client: RawClient) => {
    for (let done = 0; done < count; done++) {
      const [[port]] = rowsOf(await client.query('SELECT inet_server_port()'));
      const name = cluster.servers.find(server => server.port === Number(port))?.name ?? '';
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  };
  await Promise.all(clients.map(work));
  return counts;
}

for (const mode of ['random', 'loc', 'p2c']) {
  suite(mode, () => {
    test('gives reads to servers by their weights', async () => {
      await using proxy = await start(mode, [1, 1, 3]);
      await using client = await proxy.raw();
      const counts = await reads([client], 500);
      // Five standard deviations of 100 and of 300.
      for (const name of ['primary', 'replica1']) {
        assert.ok(Math.abs((counts.get(name) ?? 0) - 100) < 45, `${name}: ${counts.get(name)}`);
      }
      assert.ok(Math.abs((counts.get('replica2') ?? 0) - 300) < 55, `replica2: ${counts.get('replica2')}`);
    });

    test('gives a server of weight 0 nothing while another lives, however busy', async () => {
      await using proxy = await start(mode, [1, 0, 1]);
      const clients = await Promise.all(Array.from({ length: 20 }, () => proxy.raw()));
      const counts = await reads(clients, 20);
      assert.equal(counts.get('replica1'), 0);
      assert.ok([...counts.values()].filter(count => count > 40).length === 2, JSON.stringify([...counts]));
      await Promise.all(clients.map(client => client.close()));
    });

    test('falls back on it when the others are gone, and comes back', async () => {
      await using proxy = await start(mode, [1, 0, 1]);
      await using client = await proxy.raw();
      await client.query('SET PRIMARY READS TO off');
      assert.equal((await reads([client], 20)).get('replica2'), 20);
      await cluster.replica(1).stop('fast');
      try {
        assert.equal((await reads([client], 20)).get('replica1'), 20);
      } finally {
        await cluster.replica(1).start();
      }
      await eventually('the other serves again', async () => (await reads([client], 5)).get('replica2') === 5);
    });
  });
}
