/** One pool: the server connections of one database and user on one server, leased to one client or shared by several. */
import { errorText } from '../errors.ts';
import type { ConnectionOwner, ServerConnection } from '../server/connection.ts';
import type { Share } from '../server/load.ts';
import type { ServerLoginError } from '../server/login.ts';
import { type SettingsProfile, settingsRefused } from '../server/parameters.ts';
import type { PoolCounters } from '../stats/counters.ts';
import type { PoolTimes, ServerAccount } from '../stats/ledger.ts';
import type { PoolAddress } from './address.ts';
import { cleanUp, healthCheck, needsCleanup } from './cleanup.ts';
import { Dispatcher, type DispatchOwner, type SharedFigures } from './dispatcher.ts';
import { GROW_US, type GrowingPool, Growth } from './growth.ts';
import { IdleConnections } from './idle.ts';
import type { Lease, LeaseSource, Refusal } from './lease.ts';
import { type Failure, INSUFFICIENT_RESOURCES, Opener, type OpenerOwner } from './opener.ts';
import { WaitQueue } from './queue.ts';
import { busyRefusal, loginRefusal, queueRefusal } from './refusal.ts';
import { type PoolOwner, type PoolSettings, SHUTTING_DOWN, waitLimit } from './settings.ts';
import { Tenure } from './tenure.ts';
import { ENDED, Turnover } from './turnover.ts';

/** SQLSTATEs of a server that has no connection slot left, and of want on either side: it is busy, not broken. */
const BUSY = ['53300', INSUFFICIENT_RESOURCES];

export class Pool implements ConnectionOwner, LeaseSource, DispatchOwner, OpenerOwner, GrowingPool {
  address: PoolAddress;
  /** The server's share of what several could serve. */
  weight: number;
  readonly settings: PoolSettings;
  /** What its server has done for its database and user, also before a reload made this pool. */
  readonly account: ServerAccount;
  readonly counters: PoolCounters;
  readonly times: PoolTimes;
  readonly connections = new Set<ServerConnection>();
  /** Set after a ban: connections must pass a health check before they are used again. */
  suspect = false;
  /** Connections being tested. */
  testing = 0;
  /** How long a client keeps a connection from the next one, cleaning included: a moving average in milliseconds. */
  held_ms = 0;

  #owner: PoolOwner<Pool>;
  readonly #tenure = new Tenure();
  readonly #idle: IdleConnections;
  readonly #dispatcher: Dispatcher;
  readonly #waiters: WaitQueue;
  readonly #opener: Opener;
  readonly #turnover = new Turnover();
  readonly #growth: Growth;
  /** Why it is to end, once it is. */
  #retired: string | undefined;
  #destroyed = false;

  constructor(address: PoolAddress, weight: number, settings: PoolSettings, owner: PoolOwner<Pool>) {
    this.address = address;
    this.weight = weight;
    this.settings = settings;
    this.#owner = owner;
    this.account = owner.accountOf(address);
    this.counters = this.account.counters;
    this.times = this.account.times;
    this.#idle = new IdleConnections(settings.server_round_robin);
    this.#opener = new Opener(this, settings);
    this.#dispatcher = new Dispatcher(settings, this);
    this.#waiters = new WaitQueue(waitLimit(settings)[1], lease => this.#expire(lease));
    const parts = { opener: this.#opener, waiters: this.#waiters, idle: this.#idle, dispatcher: this.#dispatcher };
    this.#growth = new Growth(this, parts, growth => owner.seatFor(growth, address));
  }

  /** What goes on on shared connections. */
  get shared(): SharedFigures {
    return this.#dispatcher.figures;
  }

  get idle(): number {
    return this.#idle.length;
  }

  /** Connections that serve clients or are being cleaned after one. */
  get active(): number {
    return this.connections.size - this.#idle.length - this.testing;
  }

  /** Connections being opened. */
  get opening(): number {
    return this.#opener.count;
  }

  get refusal(): string | undefined {
    return this.#opener.refusal;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** Milliseconds that the oldest waiter has waited. */
  waited_ms(now: number): number {
    return this.#waiters.waited_ms(now);
  }

  /** Why its server cannot be reached, as far as is known: there is no connection, and the last attempt failed. */
  get unreachable(): string | undefined {
    return this.connections.size > 0 ? undefined : this.#opener.refusal;
  }

  /** Clients that are served, cleaned up after, or wait. */
  get load(): number {
    const { depth, connections } = this.#dispatcher;
    return this.connections.size - this.#idle.length - connections.length + depth + this.#waiters.length;
  }

  /** Whether one more client could be served without waiting for another: what is being opened is for whoever comes. */
  get hasCapacity(): boolean {
    const isAtHand = this.load < this.connections.size + this.opening;
    return isAtHand || (this.load < this.settings.pool_size && this.#growth.seat.full === undefined);
  }

  /** Milliseconds until it would be one more client's turn; not less than the oldest waiter has waited already. */
  expected_wait_ms(now: number): number {
    const { pool_size } = this.settings;
    const before = this.load - pool_size + 1;
    return before <= 0 ? 0 : Math.max((before * this.held_ms) / pool_size, this.waited_ms(now));
  }

  get defaults(): SettingsProfile {
    return this.#owner.defaults;
  }

  /** Serves `lease` with a connection of its own now, or when its turn comes. */
  lease(lease: Lease, now: number): void {
    lease.pool = this;
    const connection = this.#waiters.length === 0 ? this.#idle.take(lease) : undefined;
    if (connection === undefined) this.#wait(lease, now);
    else this.#use(connection, lease, now);
  }

  /** Serves `lease` with a place on a shared connection now, or when its turn comes. */
  dispatch(lease: Lease, now: number): void {
    lease.pool = this;
    const connection = this.#idle.take(lease);
    if (connection !== undefined) return this.#use(connection, lease, now);
    const shared = this.#dispatcher.best(lease.profile, now);
    if (shared === undefined) return this.#wait(lease, now);
    if (shared.load.expected_us > GROW_US) this.#growth.growSpare();
    this.#grant(lease, shared, now);
  }

  /** Takes back a lease that has not been served. */
  withdraw(lease: Lease): void {
    lease.pool = undefined;
    if (lease.queued) this.#waiters.remove(lease);
  }

  settle(connection: ServerConnection, share: Share, now: number): number {
    if (connection.state === 'closed') return 0;
    const time_us = this.#dispatcher.settle(connection, share, now);
    connection.resume();
    if (connection.load.depth === 0) this.release(connection);
    else this.#serveShared(connection, now);
    return time_us;
  }

  blocked(connection: ServerConnection): void {
    if (connection.load.stalled) connection.queue.head?.owner.unread();
    const now = performance.now();
    // Who was to get it, or counted on its being free soon, does no longer.
    connection.load.reserved = false;
    this.grow();
    this.#reserve();
    if (!this.#dispatcher.spares(connection, now)) return;
    const canMove = this.#idle.length > 0 || this.#growth.hasRoom || this.#dispatcher.hasOther(connection, now);
    if (canMove && connection.queue.moveWaiting()) return;
    connection.yieldHead();
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
    this.#opener.serverLeft();
    this.#owner.serverFailed(this, 'MessageReceiveFailed', cause);
  }

  /** Opens the reserve for who has waited long enough; called a few times a second. */
  tick(): void {
    if (this.settings.limits.reserve_pool_size > 0) this.grow();
  }

  /** Closes what is too old or idle for too long, and opens what min_pool_size asks for. */
  maintain(now: number): void {
    this.#turnover.maintain(this.#idle, this.connections, this.settings, now);
    this.#growTo(this.settings.min_pool_size);
    this.grow();
  }

  /** A reload made another cluster of its servers, and nothing of this one has changed: it goes on there. */
  moveTo(owner: PoolOwner<Pool>, address: PoolAddress, weight: number): void {
    this.#owner = owner;
    this.address = address;
    this.weight = weight;
  }

  /** Ends the pool: idle connections now, the others when nobody needs them any more; who waits may go elsewhere. */
  retire(cause: string, isReplaced: boolean): void {
    if (this.#retired === undefined) this.account.holders--;
    this.#retired = cause;
    // What is being opened serves as many: however fast reloads follow each other, somebody is served.
    this.#waiters.each(isReplaced ? this.opening : 0, lease => this.#owner.poolRetired(lease));
    this.#idle.closeAll(cause);
  }

  /** Gives up all who wait, and idle connections; the others end when they are free, since the cluster is halted. */
  halt(): Lease[] {
    this.#idle.closeAll(ENDED.paused);
    return this.#waiters.clear();
  }

  /** Replaces every connection as soon as it is free. */
  reconnect(): void {
    this.#turnover.renew(this.connections);
    this.#idle.closeAll(ENDED.outdated);
  }

  /** Closes every connection, whoever uses it. */
  destroy(): void {
    this.#destroyed = true;
    this.#waiters.stop();
    this.#growth.stop();
    this.#dispatcher.stop();
    for (const connection of [...this.connections]) connection.close(SHUTTING_DOWN);
  }

  /** Opens the first connection before anybody asks for it; what goes wrong is logged. */
  warmUp(): void {
    this.#growTo(Math.max(1, this.settings.min_pool_size));
  }

  /** Tries a server that could not be reached, unless that was a moment ago. */
  probe(): void {
    if (this.unreachable !== undefined && !this.#opener.wasRefused) this.warmUp();
  }

  connectionClosed(connection: ServerConnection, cause: string, isTold: boolean): void {
    if (isTold) this.#opener.serverLeft();
    this.connections.delete(connection);
    this.#tenure.forget(connection);
    this.#dispatcher.forget(connection);
    this.#idle.remove(connection);
    this.account.closed(connection);
    this.#growth.seat.leave();
    this.#owner.connectionClosed(this, connection, cause);
    this.grow();
    this.#reserve();
  }

  #grant(lease: Lease, connection: ServerConnection, now: number): void {
    lease.pool = undefined;
    lease.granted_at = now;
    const wait_us = (now - lease.since) * 1000;
    this.counters.wait_time_us += wait_us;
    this.times.wait.observe(wait_us);
    lease.shared = lease.shareable;
    if (lease.shared) {
      lease.sent_at = now;
      this.counters.shared_count++;
      this.#dispatcher.add(connection, lease);
    } else {
      this.counters.leased_count++;
      this.#tenure.leased(connection, now);
    }
    lease.owner.leased(connection, this);
  }

  /** Uses an idle connection, tested if nobody has for long. */
  #use(connection: ServerConnection, lease: Lease, now: number): void {
    if (this.suspect || now - connection.used_at > this.settings.healthcheck_delay) this.#test(connection, lease);
    else this.#grant(lease, connection, now);
  }

  #wait(lease: Lease, now: number): void {
    if (this.#destroyed) return this.#refuse(lease, { cause: SHUTTING_DOWN });
    const { max_waiting_clients } = this.settings.limits;
    // Those for whom there is room wait for no other client.
    const room = Math.max(0, this.settings.pool_size - this.connections.size);
    if (max_waiting_clients > 0 && this.#waiters.length >= max_waiting_clients + room)
      return this.#refuse(lease, queueRefusal(max_waiting_clients));
    this.#waiters.push(lease, now);
    this.grow();
    this.#reserve();
    this.#dispatcher.watch();
  }

  /** Sends behind what is under way on a connection whatever waits at the front of the queue and may be sent there. */
  #serveShared(connection: ServerConnection, now: number): void {
    for (;;) {
      const lease = this.#waiters.first;
      if (lease === undefined || !lease.shareable || !this.#dispatcher.takes(connection, lease.profile, now)) return;
      this.#waiters.remove(lease);
      this.#grant(lease, connection, now);
    }
  }

  /** Keeps a shared connection from taking more for everybody who waits for one of his own. */
  #reserve(): void {
    if (this.#waiters.length === 0) return;
    const now = performance.now();
    let wanted = -this.#dispatcher.reserved;
    for (let lease = this.#waiters.first; lease !== undefined; lease = lease.next) {
      const needsOwn = !lease.shareable || !this.#dispatcher.speaks(lease.profile);
      if (needsOwn && ++wanted > 0 && !this.#dispatcher.reserve(now)) return;
    }
  }

  /** Opens connections for those who wait, as far as that is allowed by now. */
  grow(): void {
    this.#growth.grow();
  }

  #growTo(count: number): void {
    if (this.#retired === undefined && !this.#owner.halted) this.#growth.growTo(count);
  }

  open(startup: SettingsProfile): void {
    this.#opener.open(this.#owner.connectOptions(this, startup), startup === this.#owner.defaults);
  }

  opened(connection: ServerConnection): void {
    if (this.#destroyed) {
      this.#growth.seat.leave();
      return connection.close(SHUTTING_DOWN);
    }
    connection.owner = this;
    this.#turnover.opened(connection);
    this.connections.add(connection);
    this.account.opened(connection);
    this.suspect = false;
    this.#owner.connectionOpened(this, connection);
    this.#dispatcher.measure(connection);
    this.#offer(connection);
    // A server that takes logins again was asked for one only.
    this.grow();
  }

  openFailed({ cause, sqlstate }: Failure): void {
    this.#growth.seat.leave();
    if (!BUSY.includes(sqlstate)) this.#owner.serverFailed(this, 'FailedCheckout', cause);
    // Clients may still get a connection that another holds; without any, waiting would be in vain.
    if (this.connections.size === 0 && this.opening === 0) this.refuseAll();
    this.grow();
  }

  /** These startup settings no server takes: whoever asks for them is told so, and no server is to blame. */
  settingsRefused(startup: SettingsProfile, error: ServerLoginError): void {
    this.#growth.seat.leave();
    for (let lease = this.#waiters.firstFor(startup); lease !== undefined; lease = this.#waiters.firstFor(startup)) {
      this.withdraw(lease);
      lease.owner.leaseFailed(settingsRefused(error));
    }
    this.grow();
  }

  /** A connection that is free: for the first waiter, or for later. */
  #offer(connection: ServerConnection): void {
    const now = performance.now();
    this.held_ms = this.#tenure.freed(connection, now, this.held_ms);
    const over = this.#turnover.over(connection, now);
    if (over !== undefined) return connection.close(over);
    if (this.#growth.seat.owes(this.#growth.waiting_since ?? now)) return connection.close(ENDED.ceded);
    const lease = this.#waiters.firstFor(connection.options.startup);
    if (lease !== undefined) {
      this.#waiters.remove(lease);
      this.#grant(lease, connection, now);
      if (lease.shareable) this.#serveShared(connection, now);
      this.#reserve();
      if (this.#waiters.length > 0) this.#dispatcher.watch();
    } else if (this.#retired !== undefined) connection.close(this.#retired);
    else if (this.#owner.halted) connection.close(ENDED.paused);
    else if (this.#waiters.length > 0) connection.close(ENDED.unfit);
    else this.#idle.add(connection);
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
    const { since } = lease;
    healthCheck(connection, this.settings.healthcheck_timeout).then(
      () => this.#tested(connection, lease, since, undefined),
      error => this.#tested(connection, lease, since, errorText(error)),
    );
  }

  /** A test is over that was for the claim made at `since`. */
  #tested(connection: ServerConnection, lease: Lease, since: number, failure: string | undefined): void {
    this.testing--;
    const isWanted = lease.pool === this && lease.since === since;
    if (failure === undefined) {
      this.suspect = false;
      return isWanted ? this.#grant(lease, connection, performance.now()) : this.#offer(connection);
    }
    // KILL is not the server's fault.
    const banned = !this.#owner.halted && this.#owner.serverFailed(this, 'FailedHealthCheck', failure);
    if (isWanted && (banned || this.#owner.halted)) this.#refuse(lease, { cause: failure });
    // Perhaps the connection is all that is broken: a new one will tell.
    else if (isWanted) this.#wait(lease, performance.now());
    connection.close(failure);
    this.grow();
  }

  #refuse(lease: Lease, refusal: Refusal): void {
    if (lease.pool !== this) return;
    lease.pool = undefined;
    this.#owner.leaseRefused(lease, this, refusal);
  }

  /** Nobody is served here now; who can go nowhere else waits for a server that is coming up. */
  refuseAll(): void {
    const { failure } = this.#opener;
    if (failure === undefined) return;
    const isComingUp = this.#opener.isComingUp(failure.sqlstate);
    for (const lease of this.#waiters.list()) {
      if (!lease.queued || (isComingUp && this.#owner.isOnlyChoice(lease, this))) continue;
      this.#waiters.remove(lease);
      this.#refuse(lease, loginRefusal(failure));
    }
  }

  /** Nobody gave up a connection in time. */
  #expire(lease: Lease): void {
    this.#refuse(lease, busyRefusal(this, this.settings, this.#growth.seat.full));
  }
}
