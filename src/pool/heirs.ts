/** Which pool of a cluster takes the place of which of the one before it, when a reload has changed its settings. */
import { isDeepStrictEqual } from 'node:util';
import type { ClusterSettings, ShardSettings } from '../config/cluster.ts';
import type { PoolAddress } from './address.ts';
import type { Pool } from './pool.ts';

/** The addresses of a shard's servers, in the order of the file. */
export function addressesOf(cluster: string, { number, database, servers }: ShardSettings): PoolAddress[] {
  let replicas = 0;
  return servers.map(({ host, port, role }, index) => {
    const kind = role === 'primary' ? 'primary' : `replica_${replicas++}`;
    return { name: `${cluster}_shard_${number}_${kind}`, host, port, role, shard: number, index, database };
  });
}

/** The pool among `pools`, those of the cluster before, that stands for the server at `address`. */
export function predecessor(address: PoolAddress, pools: readonly Pool[]): Pool | undefined {
  return pools.find(pool => isSameServer(pool.address, address));
}

/** Whether both are one server in one role; it may have another name, since others came or went. */
function isSameServer(a: PoolAddress, b: PoolAddress): boolean {
  return (
    a.host === b.host && a.port === b.port && a.role === b.role && a.shard === b.shard && a.database === b.database
  );
}

/** Whether a pool whose server stays goes on with its connections: no more differs than servers, and limits of clients. */
export function differInServersOnly(a: ClusterSettings, b: ClusterSettings): boolean {
  return a.shards.length === b.shards.length && isDeepStrictEqual(ofPools(a), ofPools(b));
}

/** Those settings that the pools of a cluster go by. */
function ofPools(settings: ClusterSettings): object {
  const clients = {
    statement_timeout: 0,
    idle_client_in_transaction_timeout: 0,
    checkout_failure_limit: 0,
    max_pool_clients: 0,
    max_user_clients: 0,
    query_wait_notify: 0,
    query_timeout: 0,
    transaction_timeout: 0,
    client_idle_timeout: 0,
    max_client_prepared_statements: 0,
    max_reply_memory: 0,
  };
  return { ...settings, ...clients, shards: [], limits: { ...settings.limits, ...clients } };
}

/** Whether a claim that was made under settings `a` may be served under `b`: it would ask for the same shard again. */
export function routeAlike(a: ClusterSettings, b: ClusterSettings): boolean {
  return (
    a.pool_mode === b.pool_mode && a.shards.length === b.shards.length && isDeepStrictEqual(a.sharding, b.sharding)
  );
}
