/** Where a statement goes, as a value that carries its reason. */

/** Why a route is what it is, in words for EXPLAIN and logs. */
export const ROUTE_REASONS = {
  default_role: 'no statement is inspected, so default_role decides',
  chosen: 'the client chose the role with SET SERVER ROLE',
  read: 'every statement is provably a read',
  read_without_replica: 'a read, but no replica is configured',
  write: 'a statement is not provably a read',
  session_mode: 'in session mode a client keeps one connection, and may go on to write',
  open_batch: 'a batch without Sync may go on to write',
  not_inspected: 'the message is too long to be inspected',
} as const;
export type RouteReason = keyof typeof ROUTE_REASONS;

export interface Route {
  readonly shard: number;
  readonly role: 'primary' | 'replica' | 'any';
  readonly reason: RouteReason;
}
