/** Where a statement goes, as a value that carries its reasons; the codes are listed in docs/ROUTING.md. */

/** Why a route has its role, in words for EXPLAIN ROUTE and logs. */
export const ROUTE_REASONS = {
  default_role: 'no statement is inspected, so default_role decides',
  chosen: 'the client chose the role with SET SERVER ROLE',
  comment: 'a comment of the statement asks for the role',
  read: 'every statement is provably a read',
  read_without_replica: 'a read, but no replica is configured',
  write: 'a statement is not provably a read',
  session_mode: 'in session mode a client keeps one connection, and may go on to write',
  open_batch: 'a batch without Sync may go on to write',
  not_inspected: 'the message is too long to be inspected',
  initializing: 'a read, but the database was not active before: db_activity_init_delay is not over',
  recently_written: 'a read of a table that was just written: table_mutation_cache_ms_ttl is not over',
  replayed: 'a replica refused it or was lost, so it is run once more',
} as const;
export type RouteReason = keyof typeof ROUTE_REASONS;

/** Why a route has its shard. */
export const SHARD_REASONS = {
  only_shard: 'the pool has one shard',
  comment: 'a comment of the statement names it',
  chosen: 'the client chose it with SET SHARD or SET SHARDING KEY',
  key: 'the sharding key of the statement belongs to it',
  default: 'nothing names a shard, so default_shard decides',
} as const;
export type ShardReason = keyof typeof SHARD_REASONS;

export interface Route {
  readonly shard: number;
  readonly role: 'primary' | 'replica' | 'any';
  readonly reason: RouteReason;
  readonly shardReason: ShardReason;
  /** How the shard was found: `data.id = 5`; '' when the reason says all. */
  readonly how: string;
  /** Whether the batch may share a server connection with those of other clients. */
  readonly shareable: boolean;
}
