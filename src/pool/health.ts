/** The ban list of a cluster: replicas that failed get no reads until ban_time is over. */

import type { Pool } from './pool.ts';
import type { FailureReason } from './settings.ts';

/** One ban. */
export interface Ban {
  readonly reason: FailureReason;
  readonly cause: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly ban_time_s: number;
}

/** Bans by pool. The primary is never banned: there is nobody else to write to. */
export class BanList {
  readonly #bans = new Map<Pool, Ban>();
  readonly #ban_time_s: number;

  constructor(ban_time_s: number) {
    this.#ban_time_s = ban_time_s;
  }

  get entries(): ReadonlyMap<Pool, Ban> {
    return this.#bans;
  }

  /** Bans a replica; true when it was not banned before. */
  ban(pool: Pool, reason: FailureReason, cause: string, now: number): boolean {
    if (pool.address.role === 'primary') return false;
    const known = this.#bans.has(pool);
    if (!known) pool.account.banned(reason);
    this.#bans.set(pool, { reason, cause, at: now, ban_time_s: this.#ban_time_s });
    return !known;
  }

  /** Whether `pool` is banned at `now`; a ban that is over is lifted, and the pool has to prove itself. */
  isBanned(pool: Pool, now: number): boolean {
    const ban = this.#bans.get(pool);
    if (ban === undefined) return false;
    if (now - ban.at < ban.ban_time_s * 1000) return true;
    this.lift(pool);
    return false;
  }

  /** What `list` says of `pool` holds for `heir`, which takes its place. */
  takeOver(list: BanList, pool: Pool, heir: Pool): void {
    const ban = list.#bans.get(pool);
    if (ban !== undefined) this.#bans.set(heir, ban);
    heir.suspect ||= pool.suspect;
  }

  /** The same, but nothing changes. */
  bans(pool: Pool, now: number): boolean {
    const ban = this.#bans.get(pool);
    return ban !== undefined && now - ban.at < ban.ban_time_s * 1000;
  }

  lift(pool: Pool): void {
    if (this.#bans.delete(pool)) pool.suspect = true;
  }
}
