/** Caps on server connections that several pools share: who may open one, who makes room, and whose turn it is. */
import type { ClusterSettings } from '../config/cluster.ts';
import type { PoolAddress } from './address.ts';

/** One cap: the pools that share it have `max` connections together; 0 is any number. */
export interface Cap {
  /** The same for all that share it. */
  readonly name: string;
  readonly max: number;
  /** The setting that it comes from. */
  readonly setting: string;
}

/** A pool as the others see it. */
export interface CappedPool {
  /** When the first of those who wait began to, in milliseconds of `performance.now()`. */
  readonly waiting_since: number | undefined;
  /** When that of its idle connections was used last that nobody has used for longest. */
  readonly idle_since: number | undefined;
  /** Closes that connection. */
  spare(): void;
  /** Sees to it that one of those that clients share becomes free. */
  cede(): void;
  /** Opens what it needs, if it may by now. */
  grow(): void;
}

/** Milliseconds that a client must have waited longer than those of another pool to be given a connection of theirs. */
const FAIR_MS = 100;
/** Milliseconds after which a place is kept for whoever needs several that become free at different times. */
const PATIENCE_MS = 1000;

/** The pools that share a cap and have connections. */
class Group {
  readonly name: string;
  readonly members = new Set<Seat>();
  count = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** The one whose idle connection nobody has used for longest. */
  get idlest(): Seat | undefined {
    let idlest: Seat | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const seat of this.members) {
      const since = seat.pool.idle_since;
      if (since === undefined || since >= least) continue;
      idlest = seat;
      least = since;
    }
    return idlest;
  }
}

/** All caps of a process. */
export class Caps {
  /** Pools that may open no more for clients who wait. */
  readonly blocked = new Set<Seat>();
  readonly #groups = new Map<string, Group>();
  #serving = false;

  /** Has a pool share these caps. */
  seat(pool: CappedPool, caps: readonly Cap[]): Seat {
    return new Seat(this, pool, caps);
  }

  /** The group of this name: it exists while it has members. */
  group(name: string): Group | undefined {
    return this.#groups.get(name);
  }

  enter(name: string, seat: Seat): void {
    const group = this.#groups.get(name) ?? new Group(name);
    this.#groups.set(name, group);
    group.count++;
    group.members.add(seat);
  }

  leave(name: string, seat: Seat): void {
    const group = this.#groups.get(name);
    if (group === undefined) return;
    group.count--;
    if (seat.count === 0) group.members.delete(seat);
    if (group.count === 0) this.#groups.delete(name);
  }

  /** A connection is gone: whoever has waited longest is served at the end of this turn. */
  freed(): void {
    if (this.#serving || this.blocked.size === 0) return;
    this.#serving = true;
    setImmediate(() => {
      this.#serving = false;
      this.#serve();
    });
  }

  /** Looks after those who may open no more; called a few times a second. */
  tick(): void {
    if (this.blocked.size === 0) return;
    for (const seat of this.#serve()) seat.claim();
  }

  /** Lets them try again, who waits longest first; those for whom it was in vain. */
  #serve(): Seat[] {
    const seats = [...this.blocked].sort((a, b) => a.since - b.since);
    for (const seat of seats) {
      this.blocked.delete(seat);
      seat.pool.grow();
    }
    return seats.filter(seat => this.blocked.has(seat));
  }
}

/** One pool's share of its caps. */
export class Seat {
  readonly pool: CappedPool;
  /** Connections of the pool, those being opened included. */
  count = 0;
  /** Since when the first client waits whom a cap keeps waiting. */
  since = 0;
  readonly #caps: Caps;
  readonly #limits: readonly Cap[];

  constructor(caps: Caps, pool: CappedPool, limits: readonly Cap[]) {
    this.#caps = caps;
    this.pool = pool;
    this.#limits = limits;
  }

  /** The first cap that is reached. */
  get full(): Cap | undefined {
    return this.#limits.find(cap => this.#isFull(cap, 0));
  }

  /** Counts one connection more for a client who waits since then, if there is room or another pool can make some. */
  take(since: number): boolean {
    const isTurn = !this.#isBehind(since, performance.now());
    if (isTurn && (this.full === undefined || this.#evict())) return this.#enter();
    this.since = since;
    this.#caps.blocked.add(this);
    return false;
  }

  /** The same for nobody in particular: other pools give up nothing, and those whose clients wait come first. */
  takeSpare(): boolean {
    const now = performance.now();
    return this.full === undefined && !this.#isBehind(now, now) && this.#enter();
  }

  /** A connection is closed, or could not be opened. */
  leave(): void {
    this.count--;
    for (const { name } of this.#limits) this.#caps.leave(name, this);
    this.#caps.freed();
  }

  /** Whether a connection that is free is better closed for a client of another pool; `since` is when this one's came. */
  owes(since: number): boolean {
    if (this.#caps.blocked.size === 0) return false;
    for (const other of this.#caps.blocked) {
      if (other !== this && other.since + FAIR_MS <= since && other.#needs(this, 0)) return true;
    }
    return false;
  }

  /** Has the pool that has most of what its clients wait for give up a connection, if its own have not waited as long. */
  claim(): void {
    for (const cap of this.#limits) {
      if (!this.#isFull(cap, 0)) continue;
      let richest: Seat | undefined;
      for (const seat of this.#caps.group(cap.name)?.members ?? []) {
        const { waiting_since = Number.POSITIVE_INFINITY } = seat.pool;
        const isDue = seat !== this && this.since + FAIR_MS <= waiting_since;
        if (isDue && (richest === undefined || seat.count > richest.count)) richest = seat;
      }
      richest?.pool.cede();
    }
  }

  /** Whether clients of another pool, who came earlier, are to have the room that there is. */
  #isBehind(since: number, now: number): boolean {
    for (const other of this.#caps.blocked) {
      if (other === this || other.since >= since || !other.#needs(this, 1)) continue;
      if (other.full === undefined || now - other.since > PATIENCE_MS) return true;
    }
    return false;
  }

  /** Whether this one's clients wait for a cap that it shares with the other: all but `left` of it is used. */
  #needs(other: Seat, left: number): boolean {
    return this.#limits.some(cap => this.#isFull(cap, left) && other.#limits.some(({ name }) => name === cap.name));
  }

  #isFull({ name, max }: Cap, left: number): boolean {
    return max > 0 && (this.#caps.group(name)?.count ?? 0) >= max - left;
  }

  /** Closes idle connections until there is room; none if there are too few. */
  #evict(): boolean {
    const reached = this.#limits.filter(cap => this.#isFull(cap, 0));
    if (!reached.every(({ name }) => this.#caps.group(name)?.idlest !== undefined)) return false;
    for (let cap = this.full; cap !== undefined; cap = this.full) {
      const idlest = this.#caps.group(cap.name)?.idlest;
      if (idlest === undefined) return false;
      idlest.pool.spare();
    }
    return true;
  }

  #enter(): true {
    this.count++;
    for (const { name } of this.#limits) this.#caps.enter(name, this);
    this.#caps.blocked.delete(this);
    return true;
  }
}

/** The caps that the connections of a user of a pool to one server share with others. */
export function capsOf({ database, username, limits }: ClusterSettings, { host, port }: PoolAddress): Cap[] {
  const { max_server_connections, max_db_connections, max_user_connections } = limits;
  const name = (...words: string[]) => JSON.stringify([host, port, ...words]);
  return [
    { name: name(), max: max_server_connections, setting: 'max_server_connections' },
    { name: name('database', database), max: max_db_connections, setting: 'max_db_connections' },
    { name: name('user', username), max: max_user_connections, setting: 'max_user_connections' },
  ];
}
