/** The settings of a pool, and why its server is banned. */
import type { DispatchSettings } from './dispatcher.ts';

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
}

/** PgCat's names for why a server is banned. */
export type FailureReason = 'FailedCheckout' | 'FailedHealthCheck' | 'MessageReceiveFailed';
