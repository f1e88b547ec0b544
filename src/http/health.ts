/** Whether the process should get new clients, and if not, why. */
import type { ControlPlane } from '../admin/control.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { Pool } from '../pool/pool.ts';

/** Why not; nothing when it should. Servers that could not be reached are tried once more, so that asking again tells. */
export function unreadiness(control: ControlPlane): string[] {
  const reasons = control.draining ? ['draining: no new clients are taken'] : [];
  const now = Date.now();
  // Whoever can log in has such a cluster made, also for a database that is on no server.
  const auto = new Set(control.autoNames.map(({ database, username }) => `${database}/${username}`));
  for (const cluster of control.clusters()) {
    if (auto.has(cluster.name)) continue;
    for (const [shard, pools] of cluster.shards.entries()) {
      const faults = pools.map(pool => faultOf(cluster, pool, now));
      if (faults.includes(undefined)) continue;
      reasons.push(`${cluster.name} has no healthy server in shard ${shard}: ${faults.join('; ')}`);
      for (const pool of pools) pool.probe();
    }
  }
  return reasons;
}

function faultOf(cluster: Cluster, pool: Pool, now: number): string | undefined {
  const { name, host, port } = pool.address;
  const cause = cluster.bans.bans(pool, now) ? 'it is banned' : pool.unreachable;
  return cause === undefined ? undefined : `${name} (${host}:${port}): ${cause}`;
}
