/** The choice of a server: shares by weight, loads and waits as they decide, and what a real cluster makes of them. */

import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KeyCache } from '../../src/auth/secret.ts';
import { clusterSettings } from '../../src/config/cluster.ts';
import type { ServerTlsSettings } from '../../src/config/encryption.ts';
import { parseConfig } from '../../src/config/load.ts';
import { Credentials } from '../../src/net/credentials.ts';
import { SYSTEM_NETWORK } from '../../src/net/network.ts';
import { type Candidate, choose, type LoadBalancingMode } from '../../src/pool/balancer.ts';
import { Caps } from '../../src/pool/caps.ts';
import { Cluster } from '../../src/pool/cluster.ts';
import { Gates } from '../../src/pool/gates.ts';
import { Lease } from '../../src/pool/lease.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { ProfileCatalog } from '../../src/server/parameters.ts';
import { Ledger } from '../../src/stats/ledger.ts';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';

const MODES: readonly LoadBalancingMode[] = ['random', 'loc', 'p2c'];

interface Server extends Candidate {
  readonly name: string;
}

/** A server that has capacity and nothing to do, but for what the test says. */
function server(name: string, { wait_ms = 0, ...rest }: Partial<Candidate> & { wait_ms?: number } = {}): Server {
  return { name, weight: 1, load: 0, hasCapacity: wait_ms === 0, expected_wait_ms: () => wait_ms, ...rest };
}

/** Numbers from [0, 1) that are the same in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const DRAWS = 20_000;

/** How often each of `servers` is chosen, in their order. */
function counts(servers: readonly Server[], mode: LoadBalancingMode, seed = 1): number[] {
  const random = seeded(seed);
  const chosen = new Map(servers.map(({ name }) => [name, 0]));
  for (let draw = 0; draw < DRAWS; draw++) {
    const { name } = choose(servers, mode, 0, random);
    chosen.set(name, (chosen.get(name) ?? 0) + 1);
  }
  return [...chosen.values()];
}

/** Each server has this share of all draws, within five standard deviations. */
function assertShares(found: readonly number[], shares: readonly number[], what: string): void {
  const sum = shares.reduce((a, b) => a + b);
  for (const [index, share] of shares.map(part => part / sum).entries()) {
    const off = Math.abs(found[index] - DRAWS * share);
    assert.ok(off <= 5 * Math.sqrt(DRAWS * share * (1 - share)), `${what}: ${found} for ${shares}`);
  }
}

suite('chance', () => {
  for (const mode of MODES) {
    test(`${mode} gives servers that are alike their weights' shares`, () => {
      for (const weights of [
        [1, 1],
        [1, 1, 1],
        [3, 1],
        [1, 5, 2, 2],
        [1000, 1],
        [0, 0, 0],
        [0, 1, 1],
      ]) {
        const servers = weights.map((weight, index) => server(`${index}`, { weight }));
        const shares = weights.every(weight => weight === 0) ? weights.map(() => 1) : weights;
        for (const seed of [1, 2, 3]) assertShares(counts(servers, mode, seed), shares, `${mode} with seed ${seed}`);
      }
    });

    test(`${mode} takes the only one, whatever it is like`, () => {
      for (const only of [server('a'), server('a', { weight: 0 }), server('a', { load: 9, wait_ms: 9 })]) {
        assert.equal(choose([only], mode, 0, Math.random), only);
      }
    });

    test(`${mode} takes a server with capacity before one whose clients wait, and weight 0 last of all`, () => {
      const full = { load: 1, wait_ms: 1 };
      const ranks = [
        server('capacity', { load: 100 }),
        server('full', { ...full, weight: 1000 }),
        server('zero with capacity', { weight: 0 }),
        server('zero and full', { ...full, weight: 0 }),
      ];
      for (let rank = 0; rank < ranks.length; rank++) {
        const left = ranks.slice(rank).reverse();
        assert.deepEqual(counts(left, mode), [...left.slice(1).map(() => 0), DRAWS]);
      }
    });
  }
});

suite('loc', () => {
  test('takes the least load for its weight', () => {
    const loads = (...pairs: [number, number][]) =>
      counts(
        pairs.map(([load, weight], index) => server(`${index}`, { load, weight })),
        'loc',
      );
    assert.deepEqual(loads([2, 1], [1, 1], [3, 1]), [0, DRAWS, 0]);
    assert.deepEqual(loads([5, 3], [2, 1]), [DRAWS, 0]);
    assertShares(loads([6, 3], [2, 1], [3, 1]), [3, 1, 0], 'equals');
  });

  test('fills servers in proportion to their weights', () => {
    const load = [0, 0, 0];
    const random = seeded(7);
    for (let client = 0; client < 60; client++) {
      const servers = [3, 2, 1].map((weight, index) => server(`${index}`, { weight, load: load[index] }));
      load[Number(choose(servers, 'loc', 0, random).name)]++;
    }
    assert.deepEqual(load, [30, 20, 10]);
  });
});

suite('p2c', () => {
  test('takes of two the one with the shorter wait, then with the least load', () => {
    assert.deepEqual(counts([server('a', { wait_ms: 5, load: 1 }), server('b', { wait_ms: 4, load: 9 })], 'p2c'), [
      0,
      DRAWS,
    ]);
    assert.deepEqual(counts([server('a', { load: 2 }), server('b', { load: 1 })], 'p2c'), [0, DRAWS]);
    assert.deepEqual(counts([server('a', { load: 2, weight: 3 }), server('b', { load: 1 })], 'p2c'), [DRAWS, 0]);
  });

  test('draws two that differ: of three the worst never wins, the best two times of three', () => {
    const servers = [server('worst', { load: 3 }), server('middle', { load: 2 }), server('best', { load: 1 })];
    assertShares(counts(servers, 'p2c'), [0, 1, 2], 'three');
  });

  test('draws by weight', () => {
    // Drawn together: a and b 9 times of 11 twice over, in either order; a and c, b and c the rest.
    const [a, b, c] = [9, 1, 1];
    const together = (x: number, y: number) => (x / 11) * (y / (11 - x)) + (y / 11) * (x / (11 - y));
    const servers = [a, b, c].map((weight, index) => server(`${index}`, { weight, load: weight * (3 - index) }));
    assertShares(counts(servers, 'p2c'), [0, together(a, b), together(a, c) + together(b, c)], 'weights');
  });

  test('asks for waits at the time of the choice', () => {
    const slow = { ...server('slow'), hasCapacity: false, expected_wait_ms: (now: number) => now };
    const quick = { ...server('quick'), hasCapacity: false, expected_wait_ms: () => 10 };
    assert.equal(choose([slow, quick], 'p2c', 9, Math.random), slow);
    assert.equal(choose([slow, quick], 'p2c', 11, Math.random), quick);
  });
});

suite('on a real cluster, p2c', () => {
  let servers: TestCluster;
  before(async () => {
    servers = await startCluster({ replicas: 2 });
  });
  after(() => servers?.stop());

  /** A cluster of pglynx on these servers, whose replicas have the weights given. */
  function clusterOf(pool_size: number, weights: readonly number[]): Cluster {
    const lines = servers.replicas.map(({ port }, index) => `["127.0.0.1", ${port}, "replica", ${weights[index]}]`);
    const text = `
[general]
admin_username = "admin"
admin_password = "secret"
[pools.${DATABASE}]
load_balancing_mode = "p2c"
[pools.${DATABASE}.users.0]
username = "alice"
password = "${PASSWORDS.alice}"
pool_size = ${pool_size}
[pools.${DATABASE}.shards.0]
database = "${DATABASE}"
servers = [${lines.join(', ')}]`;
    const log = { info: () => {}, warn: () => {} };
    const context = {
      keys: new KeyCache(Buffer.alloc(32)),
      profiles: new ProfileCatalog(),
      log,
      network: SYSTEM_NETWORK,
      encryption: (settings: ServerTlsSettings) => new Credentials().encryption(settings),
      ledger: new Ledger(),
      gates: new Gates(),
      caps: new Caps(),
    };
    const [settings] = clusterSettings(parseConfig(text, 'pgcat.toml', {}).config);
    return new Cluster(settings, context);
  }

  interface Held {
    readonly pool: Pool;
    release(): void;
  }

  /** A claim of one client: the pool that it waits for, and its connection once it has one. */
  function claim(cluster: Cluster): { readonly lease: Lease; readonly held: Promise<Held> } {
    const { promise: held, resolve, reject } = Promise.withResolvers<Held>();
    const leased: Lease['owner']['leased'] = (connection, source) => {
      const pool = cluster.pools.find(pool => pool === source);
      if (pool !== undefined) resolve({ pool, release: () => pool.release(connection) });
    };
    const lease = new Lease({ leased, leaseFailed: reject }, cluster.defaults);
    cluster.lease(lease);
    return { lease, held };
  }

  const claims = (cluster: Cluster, count: number) =>
    Promise.all(Array.from({ length: count }, () => claim(cluster).held));

  test('gives clients at the same time to servers by their weights, and knows when all is free again', async () => {
    const cluster = clusterOf(8, [3, 1]);
    const held = await claims(cluster, 8);
    assert.deepEqual(
      cluster.pools.map(({ load, hasCapacity }) => [load, hasCapacity]),
      [
        [6, true],
        [2, true],
      ],
    );
    held.push(...(await claims(cluster, 8)));
    assert.deepEqual(
      cluster.pools.map(({ load, hasCapacity }) => [load, hasCapacity]),
      [
        [8, false],
        [8, false],
      ],
    );
    for (const { release } of held) release();
    assert.deepEqual(
      cluster.pools.map(({ load, idle }) => [load, idle]),
      [
        [0, 8],
        [0, 8],
      ],
    );
    for (const pool of cluster.pools) pool.destroy();
  });

  test('has clients wait where connections come back sooner, unless they do not', async () => {
    const cluster = clusterOf(1, [1, 1]);
    const [slow, quick] = cluster.pools;
    const holdBoth = async () => {
      const both = await claims(cluster, 2);
      assert.deepEqual(new Set(both.map(({ pool }) => pool)), new Set(cluster.pools));
      return new Map(both.map(({ pool, release }) => [pool, release]));
    };
    for (let round = 0; round < 5; round++) {
      const both = await holdBoth();
      await sleep(5);
      both.get(quick)?.();
      await sleep(200);
      both.get(slow)?.();
    }
    // Of 205 and 5 ms five times over, 41 % are in the averages.
    assert.ok(slow.held_ms > 80 && slow.held_ms < 400, `${slow.held_ms} ms`);
    assert.ok(quick.held_ms > 1 && quick.held_ms < slow.held_ms / 2, `${quick.held_ms} ms`);

    const both = await holdBoth();
    const [first, second] = [claim(cluster), claim(cluster)];
    assert.deepEqual([first.lease.pool, second.lease.pool], [quick, quick]);
    assert.equal(quick.load, 3);
    await sleep(slow.held_ms + 20);
    const third = claim(cluster);
    assert.equal(third.lease.pool, slow);
    for (const release of both.values()) release();
    for (const { held } of [first, second, third]) (await held).release();
    for (const pool of cluster.pools) pool.destroy();
  });
});
