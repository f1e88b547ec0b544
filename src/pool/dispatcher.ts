/** The connections of one pool that clients share: which of them takes the next exchange, and what may follow what. */
import type { ServerConnection } from '../server/connection.ts';
import type { Share } from '../server/load.ts';
import type { SettingsProfile } from '../server/parameters.ts';

/** How far connections are shared. */
export interface DispatchSettings {
  readonly multiplexing: 'auto' | 'off';
  readonly multiplexing_max_depth: number;
  /** Milliseconds. */
  readonly multiplexing_max_wait: number;
}

/** Told of connections whose head keeps others waiting. */
export interface DispatchOwner {
  /** Claims that wait for a connection. */
  readonly waiting: number;
  blocked(connection: ServerConnection): void;
}

/** What operators are told. */
export interface SharedFigures {
  /** Connections that are shared now, and exchanges under way on them. */
  readonly connections: number;
  readonly exchanges: number;
  /** Microseconds that what is under way on one of them should take; the longest. */
  readonly wait_us: number;
}

/** Microseconds that bringing a connection to another application_name takes. */
const RENAME_US = 100;

export class Dispatcher {
  /** Exchanges under way on shared connections. */
  depth = 0;
  /** How many exchanges may be run twice for the sake of those that wait. */
  #spare = SPARE_MAX;
  /** Milliseconds to the server and back, without its work. */
  #trip_ms = Number.POSITIVE_INFINITY;
  readonly #settings: DispatchSettings;
  readonly #owner: DispatchOwner;
  readonly #shared: ServerConnection[] = [];
  #watch: NodeJS.Timeout | undefined;

  constructor(settings: DispatchSettings, owner: DispatchOwner) {
    this.#settings = settings;
    this.#owner = owner;
  }

  get figures(): SharedFigures {
    const wait_us = this.#shared.reduce((most, { load }) => Math.max(most, load.expected_us), 0);
    return { connections: this.#shared.length, exchanges: this.depth, wait_us };
  }

  /** Connections that are shared now. */
  get connections(): readonly ServerConnection[] {
    return this.#shared;
  }

  /** Whether one is shared by clients with settings that need the same SQL texts read the same way. */
  speaks({ dialect }: SettingsProfile): boolean {
    return this.#shared.some(({ profile, load }) => profile?.dialect === dialect && !load.reserved);
  }

  /** Measures the way to the server on a connection that was just opened, in front of what it is used for. */
  measure(connection: ServerConnection, times = PINGS): void {
    if (this.#settings.multiplexing === 'off' || times === 0) return;
    const sent_at = performance.now();
    connection.ping(() => {
      if (connection.state === 'closed') return;
      this.#trip_ms = Math.min(this.#trip_ms, performance.now() - sent_at);
      // In the middle of what a client sends it would end a transaction.
      if (connection.quiet && connection.holder === undefined) this.measure(connection, times - 1);
    });
  }

  /** The shared connection with the least expected wait that may take one more exchange. */
  best(profile: SettingsProfile, now: number): ServerConnection | undefined {
    let best: ServerConnection | undefined;
    let least_us = Number.POSITIVE_INFINITY;
    for (const connection of this.#shared) {
      const wait_us = connection.load.expected_us + (connection.profile === profile ? 0 : RENAME_US);
      if (wait_us < least_us && this.takes(connection, profile, now)) {
        best = connection;
        least_us = wait_us;
      }
    }
    return best;
  }

  /** Whether an exchange may be sent behind what is under way on a connection. */
  takes(connection: ServerConnection, profile: SettingsProfile, now: number): boolean {
    const { load } = connection;
    const { multiplexing_max_depth, multiplexing_max_wait } = this.#settings;
    if (load.depth >= multiplexing_max_depth || load.expected_us > multiplexing_max_wait * 1000) return false;
    if (load.exclusive || load.reserved || load.stalled || this.#isSlow(connection, now)) return false;
    if (connection.state !== 'ready' || connection.dirty !== 0 || now > connection.expires_at) return false;
    if (connection.canceling || connection.full) return false;
    // Settings that a cancel for somebody else could hit on their way must not matter.
    return connection.profile === profile || connection.profile?.dialect === profile.dialect;
  }

  /** Whether another connection than this takes exchanges. */
  hasOther(connection: ServerConnection, now: number): boolean {
    return this.#shared.some(
      other => other !== connection && other.profile !== undefined && this.takes(other, other.profile, now),
    );
  }

  /** An exchange is about to be sent. */
  add(connection: ServerConnection, share: Share): void {
    if (connection.load.depth === 0) this.#shared.push(connection);
    connection.load.add(share);
    this.depth++;
    this.#spare = Math.min(SPARE_MAX, this.#spare + SPARE_SHARE);
    if (connection.load.depth > 1) this.watch();
  }

  /** Something waits that a slow exchange may keep waiting. */
  watch(): void {
    if (this.#watch === undefined && this.#shared.length > 0) this.#arm();
  }

  /** Whether as many exchanges as wait on a connection may be run twice: of all, few are, unless nothing else helps. */
  spares({ load }: ServerConnection, now: number): boolean {
    const isStuck = now - load.head_at > STUCK_MS;
    const waiting = load.depth - 1;
    if (this.#spare < waiting && !isStuck) return false;
    this.#spare = Math.max(0, this.#spare - waiting);
    return true;
  }

  /** An exchange is over; microseconds of the server's work on it. */
  settle(connection: ServerConnection, share: Share, now: number): number {
    const { load } = connection;
    // Nothing takes less than the way there and back.
    this.#trip_ms = Math.min(this.#trip_ms, now - share.sent_at);
    const time_us = load.settle(share, this.#trip_ms, now);
    this.depth--;
    if (load.depth === 0) this.#remove(connection);
    return time_us;
  }

  /** A connection is gone. */
  forget(connection: ServerConnection): void {
    const { load } = connection;
    if (load.depth === 0) return;
    this.depth -= load.depth;
    load.depth = 0;
    this.#remove(connection);
  }

  /** Keeps the connection that should be free first from taking more; false when there is none left to keep. */
  reserve(now: number): boolean {
    let first: ServerConnection | undefined;
    for (const connection of this.#shared) {
      if (connection.load.reserved) continue;
      if (first === undefined || this.#readiness(connection, now) < this.#readiness(first, now)) first = connection;
    }
    if (first === undefined) return false;
    first.load.reserved = true;
    return true;
  }

  /** How many connections are kept from taking more. */
  get reserved(): number {
    return this.#shared.reduce((sum, { load }) => sum + (load.reserved ? 1 : 0), 0);
  }

  /** How many shared connections should be free within so many microseconds. */
  freeWithin(us: number, now: number): number {
    return this.#shared.reduce((sum, connection) => sum + (this.#readiness(connection, now) <= us ? 1 : 0), 0);
  }

  stop(): void {
    clearTimeout(this.#watch);
  }

  #remove(connection: ServerConnection): void {
    connection.load.reserved = false;
    const at = this.#shared.indexOf(connection);
    if (at !== -1) this.#shared.splice(at, 1);
  }

  /** Microseconds until a connection should be free; what is slow, or not known, is so late as cannot be told. */
  #readiness(connection: ServerConnection, now: number): number {
    const { load } = connection;
    const isLate = load.exclusive || load.stalled || this.#isSlow(connection, now);
    return isLate ? SLOW_US + load.depth : load.expected_us;
  }

  #isSlow({ load }: ServerConnection, now: number): boolean {
    return now - load.head_at > this.#settings.multiplexing_max_wait + this.#trip_ms;
  }

  /** Looks after connections on which something waits, as long as there are any. */
  #arm(): void {
    // What has come meanwhile is read first: it is not the server that was slow then.
    this.#watch = setTimeout(() => setImmediate(() => this.#look()), this.#settings.multiplexing_max_wait);
  }

  #look(): void {
    this.#watch = undefined;
    const now = performance.now();
    const keeps = ({ load }: ServerConnection) => load.depth > 1 || this.#owner.waiting > 0;
    const keeping = this.#shared.filter(keeps);
    for (const connection of keeping) if (this.#isSlow(connection, now)) this.#owner.blocked(connection);
    if (keeping.length > 0) this.watch();
  }
}

const SLOW_US = 1e9;
/** Measurements of the way to the server on each connection, the shortest of which counts: any may be held up. */
const PINGS = 5;
/** The part of all exchanges that may be run twice, and how many at once. */
const SPARE_SHARE = 0.02;
const SPARE_MAX = 64;
/** Milliseconds after which something has to be done in any case. */
const STUCK_MS = 500;
