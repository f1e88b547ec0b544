/** One client's way to a server connection: its claim in the pools, and what goes in front of its batch there. */
import { type PgError, pgError } from '../errors.ts';
import type { Cluster } from '../pool/cluster.ts';
import { Lease, type LeaseOwner, type LeaseSource } from '../pool/lease.ts';
import type { Route } from '../routing/route.ts';
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import type { Opening } from './opening.ts';
import type { SessionPhase } from './phases.ts';
import { applyProfile } from './profile.ts';
import type { ClientSettings } from './settings.ts';

/** The session that claims. */
export interface ClaimOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly settings: ClientSettings;
  readonly opening: Opening;
  /** A connection was got; what goes in front of the batch is not sent yet. */
  connected(connection: ServerConnection, pool: LeaseSource): void;
  /** The connection cannot serve the batch, and is closed. */
  disconnected(): void;
  /** The batch may be sent. */
  proceed(): void;
  leaseFailed(error: PgError): void;
  /** The cluster was replaced while the batch waited for it. */
  outlived(): void;
}

export class Claim implements LeaseOwner {
  readonly lease: Lease;
  readonly #owner: ClaimOwner;
  #cluster: Cluster | undefined;

  constructor(owner: ClaimOwner, startup: SettingsProfile) {
    this.#owner = owner;
    this.lease = new Lease(this, startup);
  }

  /** Claims a connection for a batch; in session mode it must have been opened with `startup`. */
  make(cluster: Cluster, { role, shard }: Route, startup: SettingsProfile): void {
    const { lease } = this;
    lease.role = role;
    lease.shard = shard;
    lease.profile = this.#owner.settings.profile;
    lease.startup = cluster.settings.pool_mode === 'session' ? startup : cluster.defaults;
    this.#cluster = cluster;
    cluster.lease(lease);
  }

  /** Claims a connection for the same batch once more. */
  again(): void {
    this.#cluster?.lease(this.lease);
  }

  /** The same, of another server than those that `failed`, or than the last if all have. */
  elsewhere(failed: readonly LeaseSource[]): void {
    this.#cluster?.leaseElsewhere(this.lease, failed);
  }

  /** Whether it waits for a paused cluster. */
  get isHeld(): boolean {
    return this.#cluster?.halted === true && this.lease.pool === this.#cluster.gate;
  }

  withdraw(): void {
    this.#cluster?.withdraw(this.lease);
  }

  leased(connection: ServerConnection, pool: LeaseSource): void {
    const owner = this.#owner;
    const cluster = this.#cluster;
    owner.connected(connection, pool);
    const { profile } = owner.settings;
    const fits = cluster === undefined || cluster.settings.pool_mode === 'session' || connection.profile === profile;
    if (fits) return this.#begin(connection);
    const follows = applyProfile(connection, profile, cluster.defaults, refusal => {
      if (refusal === undefined) this.#begin(connection);
      else this.#refused(connection, refusal);
    });
    if (follows) this.#begin(connection);
  }

  leaseFailed(error: PgError): void {
    this.#owner.leaseFailed(error);
  }

  outlived(): void {
    this.#owner.outlived();
  }

  /** Sends a BEGIN that waits. */
  #begin(connection: ServerConnection): void {
    const { opening } = this.#owner;
    if (opening.statement === undefined) return this.#proceed(connection);
    // If the client leaves before it has begun, the next one must not find itself in it.
    connection.dirty |= DIRTY.pipeline;
    opening.begin(connection, error => {
      if (this.#isFor(connection)) connection.dirty &= ~DIRTY.pipeline;
      if (error === undefined) return this.#proceed(connection);
      this.#refused(connection, serverError(error));
      connection.close('the server refused BEGIN', error);
    });
  }

  #proceed(connection: ServerConnection): void {
    if (this.#isFor(connection)) this.#owner.proceed();
  }

  #refused(connection: ServerConnection, refusal: PgError): void {
    if (!this.#isFor(connection)) return;
    connection.holder = undefined;
    this.#owner.disconnected();
    this.#owner.leaseFailed(refusal);
  }

  /** Whether the client still waits for this connection. */
  #isFor(connection: ServerConnection): boolean {
    return this.#owner.phase === 'waiting' && this.#owner.connection === connection;
  }
}

/** The server's own error, for the client. */
function serverError(fields: ReadonlyMap<string, string>): PgError {
  const error = pgError('server_refused', fields.get('M') ?? '');
  error.sqlstate = fields.get('C') ?? error.sqlstate;
  return error;
}
