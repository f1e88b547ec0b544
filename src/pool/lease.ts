/** A client's claim to a server connection: what it wants, where it waits, and whom to tell. */
import type { PgError } from '../errors.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import type { PoolCounters } from '../stats/counters.ts';
import type { PoolAddress } from './address.ts';

/** Which servers may serve. */
export type Role = 'primary' | 'replica' | 'any';

/** What a claim knows of the pool that serves it. */
export interface LeaseSource {
  readonly address: PoolAddress;
  readonly counters: PoolCounters;
  readonly connections: ReadonlySet<ServerConnection>;
  /** Takes the connection back. */
  release(connection: ServerConnection): void;
  /** A connection was lost while it served a client. */
  lost(cause: string): void;
  /** Forgets a claim that has not been served. */
  withdraw(lease: Lease): void;
}

/** Gets the outcome of a claim, perhaps before the call that made it returns. */
export interface LeaseOwner {
  leased(connection: ServerConnection, pool: LeaseSource): void;
  leaseFailed(error: PgError): void;
}

/** One claim; a session makes one object and uses it again and again. */
export class Lease {
  readonly owner: LeaseOwner;
  role: Role = 'any';
  shard = 0;
  /** Startup settings of the connection wanted, where connections are not interchangeable (session mode). */
  startup: SettingsProfile;
  /** Milliseconds of `performance.now()` when the claim was made. */
  since = 0;
  /** When its wait for the pool that it waits for is over, on the same clock. */
  deadline = 0;
  /** The pool that it waits for. */
  pool: LeaseSource | undefined;
  /** Pools that failed it. */
  readonly tried: LeaseSource[] = [];
  /** Why the last of them failed. */
  cause = '';
  /** Whether it stands in that pool's queue. */
  queued = false;
  previous: Lease | undefined;
  next: Lease | undefined;

  constructor(owner: LeaseOwner, startup: SettingsProfile) {
    this.owner = owner;
    this.startup = startup;
  }
}

/** Claims in the order in which they came. */
export class WaitQueue {
  length = 0;
  #first: Lease | undefined;
  #last: Lease | undefined;

  get first(): Lease | undefined {
    return this.#first;
  }

  /** The first claim that a connection with these startup settings can serve. */
  firstFor(startup: SettingsProfile): Lease | undefined {
    let lease = this.#first;
    while (lease !== undefined && lease.startup !== startup) lease = lease.next;
    return lease;
  }

  push(lease: Lease): void {
    lease.queued = true;
    lease.previous = this.#last;
    lease.next = undefined;
    if (this.#last === undefined) this.#first = lease;
    else this.#last.next = lease;
    this.#last = lease;
    this.length++;
  }

  remove(lease: Lease): void {
    lease.queued = false;
    if (lease.previous === undefined) this.#first = lease.next;
    else lease.previous.next = lease.next;
    if (lease.next === undefined) this.#last = lease.previous;
    else lease.next.previous = lease.previous;
    lease.previous = undefined;
    lease.next = undefined;
    this.length--;
  }

  shift(): Lease | undefined {
    const lease = this.#first;
    if (lease !== undefined) this.remove(lease);
    return lease;
  }
}
