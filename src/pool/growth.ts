/** When a pool opens connections: for those who wait, within its size, its reserve and its caps, as fast as its server bears. */
import type { ServerConnection } from '../server/connection.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import type { CappedPool, Seat } from './caps.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { IdleConnections } from './idle.ts';
import type { Lease } from './lease.ts';
import type { Opener } from './opener.ts';
import type { WaitQueue } from './queue.ts';
import type { PoolSettings } from './settings.ts';
import { ENDED } from './turnover.ts';

/** The pool that grows. */
export interface GrowingPool {
  readonly settings: PoolSettings;
  readonly connections: ReadonlySet<ServerConnection>;
  /** Settings of a connection for anybody. */
  readonly defaults: SettingsProfile;
  /** Begins to open a connection. */
  open(startup: SettingsProfile): void;
  /** Tells those who wait that the server takes no logins. */
  refuseAll(): void;
}

/** What the pool has to do with connections. */
export interface GrowthParts {
  readonly opener: Opener;
  readonly waiters: WaitQueue;
  readonly idle: IdleConnections;
  readonly dispatcher: Dispatcher;
}

/** Microseconds of expected wait on shared connections past which another is opened. */
export const GROW_US = 1000;

export class Growth implements CappedPool {
  /** The pool's share of the caps that it shares with others. */
  readonly seat: Seat;
  readonly #pool: GrowingPool;
  readonly #parts: GrowthParts;
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(pool: GrowingPool, parts: GrowthParts, seatFor: (pool: CappedPool) => Seat) {
    this.#pool = pool;
    this.#parts = parts;
    this.seat = seatFor(this);
  }

  get waiting_since(): number | undefined {
    return this.#parts.waiters.first?.since;
  }

  get idle_since(): number | undefined {
    return this.#parts.idle.first?.used_at;
  }

  spare(): void {
    const connection = this.#parts.idle.first;
    if (connection !== undefined) this.#parts.idle.close(connection, ENDED.ceded);
  }

  cede(): void {
    this.#parts.dispatcher.reserve(performance.now());
  }

  /** Whether the pool is smaller than its size. */
  get hasRoom(): boolean {
    return this.#size < this.#pool.settings.pool_size;
  }

  /** Opens connections for those who wait; gives up an idle one that has the wrong startup settings if it must. */
  grow(): void {
    const { opener, waiters, dispatcher, idle } = this.#parts;
    if (this.#stopped || waiters.length === 0) return;
    const now = performance.now();
    if (opener.wasRefused) return this.#backOff(now);
    let lease = waiters.first;
    // Shared connections are free again so soon that opening another would take longer.
    const soon = dispatcher.freeWithin(GROW_US, now);
    for (let served = opener.count + soon; served > 0 && lease !== undefined; served--) lease = lease.next;
    for (; lease !== undefined; lease = lease.next) {
      if (!this.#hasRoomFor(lease, now)) {
        const unfit = idle.first;
        if (unfit !== undefined) idle.close(unfit, ENDED.unfit);
        return;
      }
      // One attempt tells whether a server that refused the last one takes logins again.
      if (opener.refusal !== undefined && opener.count > 0) return;
      if (!this.seat.take(lease.since)) return;
      this.#pool.open(lease.startup);
    }
  }

  /** Opens one more for those who share connections, if it costs nobody anything. */
  growSpare(): void {
    const { opener } = this.#parts;
    if (this.hasRoom && opener.count === 0 && !opener.wasRefused && this.seat.takeSpare())
      this.#pool.open(this.#pool.defaults);
  }

  /** Opens connections until there are so many. */
  growTo(count: number): void {
    const { opener } = this.#parts;
    while (!this.#stopped && this.#size < count && !opener.wasRefused) {
      if ((opener.refusal !== undefined && opener.count > 0) || !this.seat.takeSpare()) return;
      this.#pool.open(this.#pool.defaults);
    }
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
  }

  get #size(): number {
    return this.#pool.connections.size + this.#parts.opener.count;
  }

  /** Who has waited for long may use the reserve. */
  #hasRoomFor({ since }: Lease, now: number): boolean {
    const { pool_size, limits } = this.#pool.settings;
    const mayReserve = now - since >= limits.reserve_pool_timeout;
    return this.#size < pool_size + (mayReserve ? limits.reserve_pool_size : 0);
  }

  /** The server has refused a login a moment ago. */
  #backOff(now: number): void {
    const { opener, waiters } = this.#parts;
    if (opener.isTold && this.#size === 0) this.#pool.refuseAll();
    if (waiters.length === 0 || this.#retry !== undefined) return;
    this.#retry = setTimeout(
      () => {
        this.#retry = undefined;
        this.grow();
      },
      Math.max(1, opener.retry_at - now),
    );
  }
}
