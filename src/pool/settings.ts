/** What a pool is given: its settings, and the cluster that it belongs to. */
import type { Limits } from '../config/limits.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { ConnectOptions } from '../server/options.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import type { ServerAccount } from '../stats/ledger.ts';
import type { PoolAddress } from './address.ts';
import type { CappedPool, Seat } from './caps.ts';
import type { DispatchSettings } from './dispatcher.ts';
import type { Lease, LeaseSource, Refusal } from './lease.ts';

/** Why the connections of a pool end when the process does. */
export const SHUTTING_DOWN = 'the pooler is shutting down';
/** And when a reload took the pool out or put another in its place. */
export const REPLACED = 'a reload took the pool out or replaced it';

/** The settings of a pool; times in milliseconds. */
export interface PoolSettings extends DispatchSettings {
  readonly pool_size: number;
  readonly min_pool_size: number;
  readonly connect_timeout: number;
  readonly idle_timeout: number;
  readonly server_lifetime: number;
  readonly healthcheck_delay: number;
  readonly healthcheck_timeout: number;
  readonly server_round_robin: boolean;
  readonly cleanup_server_connections: boolean;
  readonly limits: Limits;
}

/** How long a claim may wait in a queue, in milliseconds, and the setting that says so. */
export function waitLimit({
  limits: { query_wait_timeout },
  connect_timeout,
}: Pick<PoolSettings, 'limits' | 'connect_timeout'>): readonly [string, number] {
  if (query_wait_timeout === undefined) return ['connect_timeout', connect_timeout];
  return ['query_wait_timeout', query_wait_timeout || Number.POSITIVE_INFINITY];
}

/** Why a claim was given up that has waited too long for a connection of this pool. */
export function lateText({ connections, address, refusal }: LeaseSource, settings: PoolSettings): string {
  const [setting, limit_ms] = waitLimit(settings);
  const refused = refusal === undefined ? '' : `; another could not be opened: ${refusal}`;
  const { size } = connections;
  const busy = size === 0 ? `${address.name} has no connection` : `all ${size} connections of ${address.name} are busy`;
  return `${busy}; none became free in ${setting} (${limit_ms} ms)${refused}`;
}

/** What a pool asks of the cluster it belongs to. */
export interface PoolOwner<Pool> {
  /** How to open a connection with these startup settings. */
  connectOptions(pool: Pool, startup: SettingsProfile): ConnectOptions;
  readonly defaults: SettingsProfile;
  /** The pool's share of the caps that it shares with others. */
  seatFor(pool: CappedPool, address: PoolAddress): Seat;
  /** Where it is counted what the pool does. */
  accountOf(address: PoolAddress): ServerAccount;
  /** Whether it is paused: connections that are free end, and none is opened ahead of claims. */
  readonly halted: boolean;
  /** A server could not be reached, failed a health check or was lost in use; true when it is banned now. */
  serverFailed(pool: Pool, reason: FailureReason, cause: string): boolean;
  /** Whether no other pool could serve `lease` now. */
  isOnlyChoice(lease: Lease, pool: Pool): boolean;
  /** `lease` gets nothing from this pool: try another, or give up. */
  leaseRefused(lease: Lease, pool: Pool, refusal: Refusal): void;
  /** The pool in which `lease` waits was taken out by a reload: it may be served elsewhere. */
  poolRetired(lease: Lease): void;
  connectionOpened(pool: Pool, connection: ServerConnection): void;
  connectionClosed(pool: Pool, connection: ServerConnection, cause: string): void;
}

/** PgCat's names for why a server is banned. */
export type FailureReason = 'FailedCheckout' | 'FailedHealthCheck' | 'MessageReceiveFailed' | `AdminBan(${number})`;
