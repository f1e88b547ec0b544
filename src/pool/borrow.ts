/** A connection of a cluster for a moment, for what pglynx itself has to ask. */
import { PgError } from '../errors.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import type { Cluster } from './cluster.ts';
import { Lease, type LeaseSource } from './lease.ts';

/** A connection, and the pool that takes it back. */
export interface Borrowed {
  readonly connection: ServerConnection;
  readonly pool: LeaseSource;
}

/**
 * The first shard's primary if it can be had, else a replica.
 * @throws PgError the startup settings are refused, or no server can be reached
 */
export async function borrow(cluster: Cluster, startup: SettingsProfile): Promise<Borrowed> {
  const shard = cluster.firstShard;
  const borrowAs = (role: 'primary' | 'replica') =>
    new Promise<Borrowed>((leased, leaseFailed) => {
      const lease = new Lease({ leased: (connection, pool) => leased({ connection, pool }), leaseFailed }, startup);
      lease.role = role;
      lease.shard = shard;
      cluster.lease(lease);
    });
  if (!cluster.has('primary', shard)) return borrowAs('replica');
  if (!cluster.has('replica', shard)) return borrowAs('primary');
  return borrowAs('primary').catch((error: unknown) => {
    if (error instanceof PgError && error.kind === 'parameter_refused') throw error;
    return borrowAs('replica');
  });
}
