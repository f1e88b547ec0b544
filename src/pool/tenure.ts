/** How long clients keep the connections of a pool from the next one. */
import type { ServerConnection } from '../server/connection.ts';

/** How much the time of each lease counts in the moving average of those before it. */
const SHARE = 0.1;

export class Tenure {
  /** When connections were leased that are not free again. */
  readonly #leased_at = new Map<ServerConnection, number>();

  leased(connection: ServerConnection, now: number): void {
    this.#leased_at.set(connection, now);
  }

  /** It is free again: the moving average `before` with its time. */
  freed(connection: ServerConnection, now: number, before: number): number {
    const leased_at = this.#leased_at.get(connection);
    if (leased_at === undefined) return before;
    this.#leased_at.delete(connection);
    return before + (now - leased_at - before) * SHARE;
  }

  /** It is gone. */
  forget(connection: ServerConnection): void {
    this.#leased_at.delete(connection);
  }
}
