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

/** Whether an operator asked for it. */
function isAdmins({ reason }: Ban): boolean {
  return reason.startsWith('AdminBan');
}

/** Milliseconds since the epoch when it is over. */
function end({ at, ban_time_s }: Ban): number {
  return at + ban_time_s * 1000;
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

  /** Bans a replica; true when it was not banned before. What an operator has banned for longer stays so. */
  ban(pool: Pool, reason: FailureReason, cause: string, now: number): boolean {
    const before = this.#bans.get(pool);
    const ban = { reason, cause, at: now, ban_time_s: this.#ban_time_s };
    if (pool.address.role === 'primary' || (before !== undefined && isAdmins(before) && end(before) > end(ban)))
      return false;
    this.#bans.set(pool, ban);
    const isNew = before === undefined || end(before) <= now;
    if (isNew) pool.account.banned(reason);
    return isNew;
  }

  /** An operator bans a replica, for so many seconds or for ban_time. */
  adminBan(pool: Pool, now: number, ban_time_s = this.#ban_time_s): void {
    this.#bans.set(pool, { reason: `AdminBan(${ban_time_s})`, cause: 'BAN', at: now, ban_time_s });
    pool.account.banned('AdminBan');
  }

  /** Whether `pool` is banned at `now`; a ban that is over is lifted, and the pool has to prove itself. */
  isBanned(pool: Pool, now: number): boolean {
    const ban = this.#bans.get(pool);
    if (ban === undefined) return false;
    if (now < end(ban)) return true;
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
    return ban !== undefined && now < end(ban);
  }

  /** Whether an operator banned it. */
  isAdmins(pool: Pool): boolean {
    const ban = this.#bans.get(pool);
    return ban !== undefined && isAdmins(ban);
  }

  lift(pool: Pool): void {
    if (this.#bans.delete(pool)) pool.suspect = true;
  }
}
