/** When the connections of a pool have served their time, and why. */
import type { ServerConnection } from '../server/connection.ts';
import type { IdleConnections } from './idle.ts';
import type { PoolSettings } from './settings.ts';

/** Why a pool ends its connections. */
export const ENDED = {
  paused: 'the pool is paused',
  lifetime: 'server_lifetime is over',
  idle: 'idle_timeout is over',
  outdated: 'RECONNECT asked for a new one',
  moved: "the server's name no longer has its address",
  reserve: 'the reserve is not needed any more',
  ceded: 'its place is needed by another pool',
  unfit: 'its place is needed for other startup settings',
} as const;

/** The time of a connection that is to be replaced is over at once. */
const OUTDATED = Number.NEGATIVE_INFINITY;

export class Turnover {
  /** When new connections were last asked for in the place of all. */
  #renewed_at = 0;

  /** All connections so far are to be replaced, those too that are being opened. */
  renew(connections: Iterable<ServerConnection>): void {
    this.#renewed_at = performance.now();
    for (const connection of connections) connection.expires_at = OUTDATED;
  }

  /** One was opened. */
  opened(connection: ServerConnection): void {
    if (connection.opened_at < this.#renewed_at) connection.expires_at = OUTDATED;
  }

  /** Ends idle connections of a pool that have served their time, or that it has too many of. */
  maintain(
    idle: IdleConnections,
    { size }: ReadonlySet<ServerConnection>,
    { idle_timeout, min_pool_size, pool_size, limits }: PoolSettings,
    now: number,
  ): void {
    let left = size;
    for (const connection of idle.list()) {
      const idle_ms = now - connection.used_at;
      let over = this.over(connection, now);
      if (idle_ms > idle_timeout && left > min_pool_size) over ??= ENDED.idle;
      if (idle_ms > limits.reserve_pool_timeout && left > pool_size) over ??= ENDED.reserve;
      if (over === undefined) continue;
      left--;
      idle.close(connection, over);
    }
  }

  /** Why it is not to be used any more, if it is not. */
  over(connection: ServerConnection, now: number): string | undefined {
    if (now <= connection.expires_at) return undefined;
    if (hasMoved(connection)) return ENDED.moved;
    return isOutdated(connection) ? ENDED.outdated : ENDED.lifetime;
  }
}

/** Whether another connection is to take its place as soon as it is free. */
export function isOutdated({ expires_at }: ServerConnection): boolean {
  return expires_at === OUTDATED;
}

/** Ends the time of connections to addresses that the name of their server has no longer. */
export function leaveMoved(connections: Iterable<ServerConnection>): void {
  for (const connection of connections) if (hasMoved(connection)) connection.expires_at = OUTDATED;
}

function hasMoved({ options, line }: ServerConnection): boolean {
  return options.network.dns.hasLeft(options.host, line.socket.remoteAddress);
}
