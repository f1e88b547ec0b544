/** A client's claim to a server connection: what it wants, where it waits, and whom to tell. */
import type { ErrorName, PgError } from '../errors.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Share } from '../server/load.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import type { PoolCounters } from '../stats/counters.ts';
import type { PoolTimes } from '../stats/ledger.ts';
import type { PoolAddress } from './address.ts';

/** Which servers may serve. */
export type Role = 'primary' | 'replica' | 'any';

/** Where a claim waits. */
export interface LeaseHolder {
  /** Why the server takes no more logins, if the last one failed. */
  readonly refusal: string | undefined;
  /** Forgets a claim that has not been served. */
  withdraw(lease: Lease): void;
}

/** What a claim knows of the pool that serves it. */
export interface LeaseSource extends LeaseHolder {
  readonly address: PoolAddress;
  readonly counters: PoolCounters;
  readonly times: PoolTimes;
  readonly connections: ReadonlySet<ServerConnection>;
  /** Takes the connection back. */
  release(connection: ServerConnection): void;
  /** An exchange on a shared connection is over; microseconds of the server's work on it. */
  settle(connection: ServerConnection, share: Share, now: number): number;
  /** A connection was lost while it served a client. */
  lost(cause: string): void;
}

/** Gets the outcome of a claim, perhaps before the call that made it returns. */
export interface LeaseOwner {
  leased(connection: ServerConnection, pool: LeaseSource): void;
  leaseFailed(error: PgError): void;
  /** A reload replaced its cluster while it was paused: what is claimed is to be claimed of the new one. */
  outlived?(): void;
}

/** Why a pool does not serve a claim; `sqlstate` is the server's own, where it refused a login. */
export interface Refusal {
  readonly cause: string;
  readonly sqlstate?: string;
  readonly kind?: ErrorName;
  /** Whether the server is there, and only too much in demand. */
  readonly busy?: boolean;
}

const NO_REFUSAL: Refusal = { cause: '' };

/** One claim; a session makes one object and uses it again and again. */
export class Lease implements Share {
  readonly owner: LeaseOwner;
  role: Role = 'any';
  shard = 0;
  /** Startup settings of the connection wanted, where connections are not interchangeable (session mode). */
  startup: SettingsProfile;
  /** Settings that the connection is to have. */
  profile: SettingsProfile;
  /** Whether a place among the exchanges of others will do. */
  shareable = false;
  /** Whether that is what it got. */
  shared = false;
  expected_us = 0;
  exclusive = true;
  /** Whether its reply may be large, as far as can be known. */
  large = true;
  sent_at = 0;
  /** Milliseconds of `performance.now()` when the claim was made. */
  since = 0;
  /** When pools were first asked for it, which a paused cluster puts off. */
  placed_at = 0;
  /** When it got its connection, or its place on one. */
  granted_at = 0;
  /** When its wait is over at the latest, if it began in a pool that a reload has replaced. */
  until = Number.POSITIVE_INFINITY;
  /** When its wait for the pool that it waits for is over, on the same clock. */
  deadline = 0;
  /** Where it waits: in a pool, or at the gate of a paused cluster. */
  pool: LeaseHolder | undefined;
  /** Pools that failed it. */
  tried: LeaseSource[] = [];
  /** Why the last of them failed. */
  refusal: Refusal = NO_REFUSAL;
  /** Whether it stands in that pool's queue. */
  queued = false;
  previous: Lease | undefined;
  next: Lease | undefined;

  constructor(owner: LeaseOwner, startup: SettingsProfile) {
    this.owner = owner;
    this.startup = startup;
    this.profile = startup;
  }

  /** Pools are asked for it from now on. */
  begin(now: number): void {
    this.placed_at = now;
    this.until = Number.POSITIVE_INFINITY;
    this.deadline = Number.POSITIVE_INFINITY;
  }
}
