/** One pool: the server connections of one database and user on one server, leased to one client at a time. */
import { errorText } from '../errors.ts';
import { type ConnectionOwner, type ConnectOptions, ServerConnection } from '../server/connection.ts';
import { ServerLoginError } from '../server/login.ts';
import { type SettingsProfile, settingsRefused } from '../server/parameters.ts';
import { PoolAverages, PoolCounters } from '../stats/counters.ts';
import type { PoolAddress } from './address.ts';
import { cleanUp, healthCheck, needsCleanup } from './cleanup.ts';
import { type Lease, type LeaseSource, WaitQueue } from './lease.ts';

/** The settings of a pool; times in milliseconds. */
export interface PoolSettings {
  readonly pool_size: number;
  readonly min_pool_size: number;
  readonly connect_timeout: number;
  readonly idle_timeout: number;
  readonly server_lifetime: number;
  readonly healthcheck_delay: number;
  readonly healthcheck_timeout: number;
  readonly server_round_robin: boolean;
  readonly cleanup_server_connections: boolean;
}

/** What a pool asks of the cluster it belongs to. */
export interface PoolOwner {
  /** How to open a connection with these startup settings. */
  connectOptions(pool: Pool, startup: SettingsProfile): ConnectOptions;
  readonly defaults: SettingsProfile;
  /** A server could not be reached, failed a health check or was lost in use; true when it is banned now. */
  serverFailed(pool: Pool, reason: FailureReason, cause: string): boolean;
  /** `lease` gets nothing from this pool: try another, or give up. */
  leaseRefused(lease: Lease, pool: Pool, cause: string): void;
  connectionOpened(pool: Pool, connection: ServerConnection): void;
  connectionClosed(pool: Pool, connection: ServerConnection, cause: string): void;
}

/** PgCat's names for why a server is banned. */
export type FailureReason = 'FailedCheckout' | 'FailedHealthCheck' | 'MessageReceiveFailed';

/** Share of server_lifetime by which connections end earlier than each other, so that they don't all end at once. */
const LIFETIME_SPREAD = 0.1;

/** How much the time of each lease counts in the moving average of those before it. */
const HELD_SHARE = 0.1;

/** Milliseconds before a pool that has connections asks for another after the server refused one. */
const REFUSED_RETRY_MS = 1000;

/** SQLSTATE of a server that has no connection slot left: it is busy, not broken. */
const TOO_MANY_CONNECTIONS = '53300';

export class Pool implements ConnectionOwner, LeaseSource {
  readonly address: PoolAddress;
  /** The server's share of what several could serve. */
  readonly weight: number;
  readonly settings: PoolSettings;
  readonly counters = new PoolCounters();
  readonly averages = new PoolAverages();
  readonly connections = new Set<ServerConnection>();
  /** Set after a ban: connections must pass a health check before they are used again. */
  suspect = false;
  /** Connections being opened. */
  opening = 0;
  /** Connections being tested. */
  testing = 0;
  /** How long a client keeps a connection from the next one, cleaning included: a moving average in milliseconds. */
  held_ms = 0;

  readonly #owner: PoolOwner;
  /** When connections were leased that are not free again. */
  readonly #leased_at = new Map<ServerConnection, number>();
  readonly #idle: ServerConnection[] = [];
  readonly #waiters = new WaitQueue();
  /** The last attempt to open a connection, if it failed, and when. */
  #refused: { readonly cause: string; readonly at: number } | undefined;
  #deadline: NodeJS.Timeout | undefined;
  #retired = false;

  constructor(address: PoolAddress, weight: number, settings: PoolSettings, owner: PoolOwner) {
    this.address = address;
    this.weight = weight;
    this.settings = settings;
    this.#owner = owner;
  }

  get idle(): number {
    return this.#idle.length;
  }

  /** Connections that serve a client or are being cleaned after one. */
  get active(): number {
    return this.connections.size - this.#idle.length - this.testing;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** Milliseconds that the oldest waiter has waited. */
  waited_ms(now: number): number {
    const first = this.#waiters.first;
    return first === undefined ? 0 : now - first.since;
  }

  /** The counters with what open connections have moved so far. */
  totals(): PoolCounters {
    const totals = Object.assign(new PoolCounters(), this.counters);
    for (const connection of this.connections) {
      totals.sent_bytes += connection.sent_bytes;
      totals.received_bytes += connection.counters.received_bytes;
    }
    return totals;
  }

  /** Clients that are served, cleaned up after, or wait. */
  get load(): number {
    return this.connections.size - this.#idle.length + this.#waiters.length;
  }

  /** Whether one more client could be served without waiting for another: what is being opened is for whoever comes. */
  get hasCapacity(): boolean {
    return this.load < this.settings.pool_size;
  }

  /** Milliseconds until it would be one more client's turn; not less than the oldest waiter has waited already. */
  expected_wait_ms(now: number): number {
    const { pool_size } = this.settings;
    const before = this.load - pool_size + 1;
    return before <= 0 ? 0 : Math.max((before * this.held_ms) / pool_size, this.waited_ms(now));
  }

  get #hasRoom(): boolean {
    return this.connections.size + this.opening < this.settings.pool_size;
  }

  /** Serves `lease` now, or when its turn comes. */
  lease(lease: Lease, now: number): void {
    lease.pool = this;
    const connection = this.#waiters.length === 0 ? this.#takeIdle(lease.startup) : undefined;
    if (connection === undefined) {
      this.#queue(lease, now);
      this.#grow();
    } else if (this.suspect || now - connection.used_at > this.settings.healthcheck_delay)
      this.#test(connection, lease);
    else this.#grant(lease, connection);
  }

  /** Takes back a lease that has not been served. */
  withdraw(lease: Lease): void {
    lease.pool = undefined;
    if (lease.queued) this.#waiters.remove(lease);
  }

  /** Takes a connection back from a client; it serves the next one when it is idle, clean and safe from late cancels. */
  release(connection: ServerConnection): void {
    connection.holder = undefined;
    if (connection.state === 'closed') return;
    if (connection.canceling) connection.whenCancelsSettled(() => this.release(connection));
    else if (needsCleanup(connection)) this.#clean(connection);
    else this.#offer(connection);
  }

  lost(cause: string): void {
    this.#owner.serverFailed(this, 'MessageReceiveFailed', cause);
  }

  /** Closes what is too old or idle for too long, and opens what min_pool_size asks for. */
  maintain(now: number): void {
    const { idle_timeout, min_pool_size } = this.settings;
    for (const connection of [...this.#idle]) {
      if (now > connection.expires_at) this.#drop(connection, 'server_lifetime is over');
      else if (now - connection.used_at > idle_timeout && this.connections.size > min_pool_size) {
        this.#drop(connection, 'idle_timeout is over');
      }
    }
    let missing = this.#retired ? 0 : min_pool_size - this.connections.size - this.opening;
    while (missing-- > 0) this.#open(this.#owner.defaults);
    this.#grow();
  }

  /** Ends the pool: idle connections now, the others when nobody needs them any more; who waits is still served. */
  retire(): void {
    this.#retired = true;
    for (const connection of [...this.#idle]) this.#drop(connection, 'the pool was taken out of the configuration');
  }

  /** Closes every connection, whoever uses it. */
  destroy(): void {
    clearTimeout(this.#deadline);
    for (const connection of [...this.connections]) connection.close('the pooler is shutting down');
  }

  /** Opens the first connection before anybody asks for it; what goes wrong is logged. */
  warmUp(): void {
    const wanted = Math.max(1, this.settings.min_pool_size) - this.connections.size - this.opening;
    for (let missing = wanted; missing > 0; missing--) this.#open(this.#owner.defaults);
  }

  connectionClosed(connection: ServerConnection, cause: string): void {
    this.connections.delete(connection);
    this.#leased_at.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
    this.counters.sent_bytes += connection.sent_bytes;
    this.counters.received_bytes += connection.counters.received_bytes;
    this.#owner.connectionClosed(this, connection, cause);
    this.#grow();
  }

  #grant(lease: Lease, connection: ServerConnection): void {
    lease.pool = undefined;
    const now = performance.now();
    this.counters.wait_time_us += (now - lease.since) * 1000;
    this.#leased_at.set(connection, now);
    lease.owner.leased(connection, this);
  }

  #takeIdle(startup: SettingsProfile): ServerConnection | undefined {
    const idle = this.#idle;
    const fits = (connection: ServerConnection) => connection.options.startup === startup;
    const at = this.settings.server_round_robin ? idle.findIndex(fits) : idle.findLastIndex(fits);
    if (at <= 0) return at === 0 ? idle.shift() : undefined;
    return at === idle.length - 1 ? idle.pop() : idle.splice(at, 1)[0];
  }

  /** Opens connections for those who wait; gives up an idle one that has the wrong startup settings if it must. */
  #grow(): void {
    const refused = this.#refused;
    if (refused !== undefined && this.connections.size > 0 && performance.now() - refused.at < REFUSED_RETRY_MS) return;
    let lease = this.#waiters.first;
    for (let served = this.opening; served > 0 && lease !== undefined; served--) lease = lease.next;
    for (; lease !== undefined; lease = lease.next) {
      if (!this.#hasRoom) {
        const [unfit] = this.#idle;
        if (unfit === undefined) return;
        this.#drop(unfit, 'its place is needed for other startup settings');
        return;
      }
      this.#open(lease.startup);
    }
  }

  #open(startup: SettingsProfile): void {
    this.opening++;
    ServerConnection.open(this.#owner.connectOptions(this, startup)).then(
      connection => {
        this.opening--;
        this.#opened(connection);
      },
      error => {
        this.opening--;
        if (startup !== this.#owner.defaults && error instanceof ServerLoginError && error.concernsSettings) {
          this.#refuseSettings(startup, error);
        } else this.#openFailed(error);
      },
    );
  }

  #opened(connection: ServerConnection): void {
    connection.owner = this;
    this.connections.add(connection);
    const lifetime = this.settings.server_lifetime * (1 - Math.random() * LIFETIME_SPREAD);
    connection.expires_at = connection.opened_at + lifetime;
    this.suspect = false;
    this.#refused = undefined;
    this.#owner.connectionOpened(this, connection);
    this.#offer(connection);
  }

  #openFailed(error: unknown): void {
    const cause = errorText(error);
    this.#refused = { cause, at: performance.now() };
    const isFull = error instanceof ServerLoginError && error.sqlstate === TOO_MANY_CONNECTIONS;
    if (!isFull) this.#owner.serverFailed(this, 'FailedCheckout', cause);
    // Clients may still get a connection that another holds; without any, waiting would be in vain.
    if (this.connections.size === 0 && this.opening === 0) this.#refuseAll(cause);
  }

  /** These startup settings no server takes: whoever asks for them is told so, and no server is to blame. */
  #refuseSettings(startup: SettingsProfile, error: ServerLoginError): void {
    for (let lease = this.#waiters.firstFor(startup); lease !== undefined; lease = this.#waiters.firstFor(startup)) {
      this.withdraw(lease);
      lease.owner.leaseFailed(settingsRefused(error));
    }
    this.#grow();
  }

  /** A connection that is free: for the first waiter, or for later. */
  #offer(connection: ServerConnection): void {
    const now = performance.now();
    const leased_at = this.#leased_at.get(connection);
    if (leased_at !== undefined) {
      this.#leased_at.delete(connection);
      this.held_ms += (now - leased_at - this.held_ms) * HELD_SHARE;
    }
    if (now > connection.expires_at) return connection.close('server_lifetime is over');
    const lease = this.#waiters.firstFor(connection.options.startup);
    if (lease !== undefined) {
      this.#waiters.remove(lease);
      this.#grant(lease, connection);
    } else if (this.#retired) connection.close('the pool was taken out of the configuration');
    else if (this.#waiters.length > 0) connection.close('its place is needed for other startup settings');
    else this.#idle.push(connection);
  }

  #drop(connection: ServerConnection, cause: string): void {
    const at = this.#idle.indexOf(connection);
    if (at !== -1) this.#idle.splice(at, 1);
    connection.close(cause);
  }

  #clean(connection: ServerConnection): void {
    const { cleanup_server_connections, connect_timeout } = this.settings;
    cleanUp(connection, connection.options.startup, cleanup_server_connections, connect_timeout).then(
      () => this.release(connection),
      error => connection.close(errorText(error)),
    );
  }

  #test(connection: ServerConnection, lease: Lease): void {
    this.testing++;
    const since = lease.since;
    healthCheck(connection, this.settings.healthcheck_timeout).then(
      () => {
        this.testing--;
        this.suspect = false;
        if (lease.pool === this && lease.since === since) this.#grant(lease, connection);
        else this.#offer(connection);
      },
      error => {
        this.testing--;
        const cause = errorText(error);
        const banned = this.#owner.serverFailed(this, 'FailedHealthCheck', cause);
        if (lease.pool === this && lease.since === since) {
          if (banned) this.#refuse(lease, cause);
          // Perhaps the connection is all that is broken: a new one will tell.
          else this.#queue(lease, performance.now());
        }
        connection.close(cause);
        this.#grow();
      },
    );
  }

  #refuse(lease: Lease, cause: string): void {
    if (lease.pool !== this) return;
    lease.pool = undefined;
    this.#owner.leaseRefused(lease, this, cause);
  }

  #refuseAll(cause: string): void {
    for (let lease = this.#waiters.shift(); lease !== undefined; lease = this.#waiters.shift())
      this.#refuse(lease, cause);
  }

  #queue(lease: Lease, now: number): void {
    lease.deadline = now + this.settings.connect_timeout;
    this.#waiters.push(lease);
    this.#armDeadline(now);
  }

  /** One timer serves the queue: who came first has the first deadline. */
  #armDeadline(now: number): void {
    const first = this.#waiters.first;
    if (this.#deadline !== undefined || first === undefined) return;
    const wait_ms = Math.max(1, first.deadline - now);
    this.#deadline = setTimeout(() => this.#expireWaiters(), wait_ms);
  }

  #expireWaiters(): void {
    this.#deadline = undefined;
    const now = performance.now();
    const { connect_timeout } = this.settings;
    for (let lease = this.#waiters.first; lease !== undefined; lease = this.#waiters.first) {
      if (lease.deadline > now) break;
      this.#waiters.shift();
      const busy = `all ${this.connections.size} connections of ${this.address.name} are busy`;
      const refused = this.#refused === undefined ? '' : `; another could not be opened: ${this.#refused.cause}`;
      this.#refuse(lease, `${busy}; none became free in connect_timeout (${connect_timeout} ms)${refused}`);
    }
    this.#armDeadline(now);
  }
}
