/** What the commands of the admin database do to a running process: pause it, renew its connections, ban its servers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type PgError, pgError } from '../errors.ts';
import type { Cluster } from '../pool/cluster.ts';
import { isWithin, type Scope } from '../pool/gates.ts';
import type { Pool } from '../pool/pool.ts';
import type { Registry } from '../pool/registry.ts';
import { isOutdated } from '../pool/turnover.ts';

/** A client as far as operators have power over it. */
export interface SteeredClient {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  /** Ends it with an error. */
  close(error: PgError): void;
}

/** What SUSPEND stops. */
export interface Suspendable {
  suspended: boolean;
  /** Whether everything that is for the client has left the process. */
  readonly flushed: boolean;
  /** Reads on, if it may. */
  process(): void;
}

/** A client of a cluster. */
export interface SteeredSession extends SteeredClient {
  readonly intake: Suspendable;
}

/** What a process lets its operators steer. */
export interface Steered {
  readonly registry: Registry;
  sessions(): Iterable<SteeredSession>;
  /** Clients of the admin database. */
  consoles(): Iterable<SteeredClient>;
  /** Milliseconds for SUSPEND. */
  suspend_timeout(): number;
}

/** One pool with the cluster that it belongs to. */
export interface PoolOfCluster {
  readonly cluster: Cluster;
  readonly pool: Pool;
}

/** Milliseconds between looks at what a command waits for. */
const POLL_MS = 10;

export class Steering {
  readonly #steered: Steered;
  #suspended = false;

  constructor(steered: Steered) {
    this.#steered = steered;
  }

  /** Clusters that a reload replaced and that still have connections. */
  get retired(): Cluster[] {
    return [...this.#steered.registry.retired];
  }

  get suspended(): boolean {
    return this.#suspended;
  }

  /** Whether new statements of everybody wait. */
  get paused(): boolean {
    return this.isPaused({});
  }

  /** Whether new statements of everybody within a scope wait. */
  isPaused(scope: Scope): boolean {
    return this.#steered.registry.gates.isClosed(scope);
  }

  /**
   * Has new statements wait, and resolves when the connections to servers are gone, each of which ends when it is free.
   * @throws PgError there is no such pool, the command was canceled, which resumes, or somebody else resumed
   */
  async pause(scope: Scope, signal: AbortSignal): Promise<void> {
    this.#check(scope);
    const before = this.isPaused(scope);
    this.#halt(scope);
    try {
      await until(() => !this.isPaused(scope) || this.#clusters(scope).every(({ isEmpty }) => isEmpty), signal);
    } catch (error) {
      if (!before) this.#open(scope);
      throw error;
    }
    if (!this.isPaused(scope)) throw pgError('admin_error', 'the pause was ended by RESUME');
  }

  /**
   * Lets statements go on, and reads from everybody again.
   * @throws PgError there is no such pool
   */
  resume(scope: Scope): void {
    this.#check(scope);
    if (scope.database === undefined) this.#suspend(false);
    this.#open(scope);
  }

  /**
   * Reads nothing more from clients; resolves when all that is for them has left the process. Who does not take it in
   * suspend_timeout is disconnected.
   * @throws PgError the command was canceled, and everybody is read from again
   */
  async suspend(signal: AbortSignal): Promise<void> {
    this.#suspend(true);
    const deadline = performance.now() + this.#steered.suspend_timeout();
    const unflushed = () => [...this.#steered.sessions()].filter(({ intake }) => !intake.flushed);
    const isOver = () => !this.#suspended || unflushed().length === 0 || performance.now() > deadline;
    try {
      await until(isOver, signal);
    } catch (error) {
      this.#suspend(false);
      throw error;
    }
    if (!this.#suspended) throw pgError('admin_error', 'SUSPEND was ended by RESUME');
    for (const session of unflushed()) session.close(pgError('killed', 'SUSPEND'));
  }

  /** A client has logged in. */
  joined(session: SteeredSession): void {
    session.intake.suspended = this.#suspended;
  }

  /**
   * Replaces connections to servers as soon as they are free.
   * @throws PgError there is no such database
   */
  reconnect(scope: Scope): void {
    this.#check(scope);
    for (const { pool } of this.#pools(scope)) pool.reconnect();
  }

  /**
   * Resolves when the connections are gone that RECONNECT or a reload has replaced.
   * @throws PgError there is no such database, or the command was canceled
   */
  async waitClose(scope: Scope, signal: AbortSignal): Promise<void> {
    this.#check(scope);
    const isRenewed = (cluster: Cluster) =>
      cluster.retired ? cluster.isEmpty : cluster.pools.every(pool => ![...pool.connections].some(isOutdated));
    await until(() => this.#clusters(scope).every(isRenewed), signal);
  }

  /**
   * Ends all clients and all connections to servers now; who comes waits until RESUME.
   * @throws PgError there is no such database
   */
  kill(scope: Scope): void {
    this.#check(scope);
    this.#halt(scope);
    for (const session of [...this.#steered.sessions()])
      if (isWithin(session.database, session.user, scope)) session.close(pgError('killed', 'KILL'));
    for (const cluster of this.#clusters(scope)) cluster.kill();
  }

  /**
   * Ends one client.
   * @throws PgError there is none of this id
   */
  killClient(id: number): void {
    const client = [...this.#steered.sessions(), ...this.#steered.consoles()].find(other => other.id === id);
    if (client === undefined) throw pgError('admin_error', `no such client: ${id}`);
    client.close(pgError('killed', 'KILL_CLIENT'));
  }

  /**
   * Refuses new clients of a database, or lets them in again.
   * @throws PgError there is no such database
   */
  setDisabled(database: string, isDisabled: boolean): void {
    this.#check({ database });
    const { disabled } = this.#steered.registry.gates;
    if (isDisabled) disabled.add(database);
    else disabled.delete(database);
  }

  /**
   * Keeps the replicas on a host from reads for so many seconds, or for their ban_time; those that are banned now.
   * @throws PgError only primaries are on this host
   */
  ban(host: string, seconds: number | undefined): PoolOfCluster[] {
    const found = this.#on(host);
    const replicas = found.filter(({ pool }) => pool.address.role !== 'primary');
    if (found.length > 0 && replicas.length === 0)
      throw pgError('admin_error', `a primary cannot be banned, and ${host} is the host of nothing else`);
    for (const { cluster, pool } of replicas) cluster.adminBan(pool, seconds);
    return replicas;
  }

  /** Lifts all bans of servers on a host. */
  unban(host: string): PoolOfCluster[] {
    const banned = this.#on(host).filter(({ cluster, pool }) => cluster.bans.isBanned(pool, Date.now()));
    for (const { cluster, pool } of banned) cluster.bans.lift(pool);
    return banned;
  }

  #halt(scope: Scope): void {
    this.#steered.registry.gates.close(scope);
    for (const cluster of this.#clusters(scope)) cluster.halt();
  }

  #open(scope: Scope): void {
    this.#steered.registry.gates.open(scope);
  }

  #suspend(isSuspended: boolean): void {
    if (this.#suspended === isSuspended) return;
    this.#suspended = isSuspended;
    for (const { intake } of [...this.#steered.sessions()]) {
      intake.suspended = isSuspended;
      intake.process();
    }
  }

  #check(scope: Scope): void {
    const { database, user } = scope;
    if (database === undefined || this.#clusters(scope).some(({ retired }) => !retired)) return;
    if (user === undefined) throw pgError('admin_error', `no such database: ${database}`);
    throw pgError('admin_error', `No pool configured for database: ${database}, user: ${user}`);
  }

  /** Those in use, and those that a reload replaced and that still have connections. */
  #clusters(scope: Scope): Cluster[] {
    const { registry } = this.#steered;
    return registry.all.filter(({ settings }) => isWithin(settings.database, settings.username, scope));
  }

  #pools(scope: Scope): PoolOfCluster[] {
    const clusters = this.#clusters(scope).filter(({ retired }) => !retired);
    return clusters.flatMap(cluster => cluster.pools.map(pool => ({ cluster, pool })));
  }

  #on(host: string): PoolOfCluster[] {
    return this.#pools({}).filter(({ pool }) => pool.address.host === host);
  }
}

/** Resolves when `isDone`; rejects with the reason of `signal`. */
async function until(isDone: () => boolean, signal: AbortSignal): Promise<void> {
  while (!isDone()) {
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    signal.throwIfAborted();
  }
}
