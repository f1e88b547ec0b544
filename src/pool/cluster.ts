/** One cluster: shards x servers of one database and user; finds each lease a pool, and keeps what its clients share. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { KeyCache } from '../auth/secret.ts';
import type { ClusterSettings } from '../config/cluster.ts';
import type { ServerTlsSettings } from '../config/encryption.ts';
import { type PgError, pgError } from '../errors.ts';
import type { Encryption } from '../net/dial.ts';
import type { Network } from '../net/network.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { ConnectOptions } from '../server/options.ts';
import type { ProfileCatalog, SettingsProfile } from '../server/parameters.ts';
import { StatementCatalog } from '../server/prepared.ts';
import { type Catalog, NO_ROWS } from '../sql/catalog.ts';
import type { Statement } from '../sql/statement.ts';
import type { ClusterAccount, Ledger, ServerAccount } from '../stats/ledger.ts';
import type { Activity } from './activity.ts';
import type { PoolAddress } from './address.ts';
import { choose, serves } from './balancer.ts';
import { type CappedPool, type Caps, capsOf, type Seat } from './caps.ts';
import { Credentials } from './credentials.ts';
import { Directory } from './directory.ts';
import type { Gate, Gates } from './gates.ts';
import { BanList } from './health.ts';
import { addressesOf, differInServersOnly, predecessor, routeAlike } from './heirs.ts';
import type { Lease, LeaseSource, Refusal, Role } from './lease.ts';
import { type ClusterLog, logClosed, logOpened } from './log.ts';
import { Pool } from './pool.ts';
import { exhaustedError } from './refusal.ts';
import { RouteTable } from './routes.ts';
import { SchemaReader } from './schema.ts';
import { type FailureReason, type PoolOwner, REPLACED, waitLimit } from './settings.ts';

/** What all clusters of a process share. */
export interface ClusterContext {
  readonly keys: KeyCache;
  readonly profiles: ProfileCatalog;
  readonly caps: Caps;
  readonly log: ClusterLog;
  readonly network: Network;
  /** How to encrypt, with the certificates as they were read last. Throws when they cannot be. */
  encryption(settings: ServerTlsSettings): Encryption;
  readonly ledger: Ledger;
  readonly gates: Gates;
}

/** Definitions of prepared statements kept for sharing, in entries and bytes. */
const STATEMENTS_MAX = 10_000;
const STATEMENTS_LENGTH_MAX = 64 * 1024 * 1024;

export class Cluster implements PoolOwner<Pool> {
  readonly settings: ClusterSettings;
  readonly shards: readonly (readonly Pool[])[];
  readonly bans: BanList;
  readonly statements = new StatementCatalog(STATEMENTS_MAX, STATEMENTS_LENGTH_MAX);
  readonly context: ClusterContext;
  /** What its clients have done, also before a reload made this cluster. */
  readonly account: ClusterAccount;
  readonly gate: Gate;
  /** What a server, the primary if there is one, reports of its settings when nothing was asked of it. */
  baseline: ReadonlyMap<string, string> | undefined;

  readonly directory: Directory;
  readonly routes: RouteTable;
  /** What servers are logged in to with. */
  readonly credentials: Credentials;
  /** What is known of the database's own functions, views and tables. */
  readonly schema: SchemaReader;
  /** What was written of late, if reads depend on it. */
  readonly activity: Activity | undefined;

  /** The pools of each shard that may serve a role. */
  readonly #byRole: readonly Readonly<Record<Role, readonly Pool[]>>[];

  /** Finds the cluster that serves its clients now, once a reload has replaced or removed this one. */
  #successor: (() => Cluster | undefined) | undefined;
  #gone: readonly Pool[] = [];
  /** What {@link begin} takes over. */
  #legacy: (() => void)[] = [];

  /** A reload is to put it in the place of `before`: what is known and was counted stays so, and pools may go on. */
  constructor(settings: ClusterSettings, context: ClusterContext, activity?: Activity, before?: Cluster) {
    this.settings = settings;
    this.context = context;
    this.account = context.ledger.cluster(settings.database, settings.username);
    this.credentials = new Credentials(settings, before?.credentials);
    this.gate = context.gates.of(settings.database, settings.username);
    this.activity = settings.activity.enabled ? activity : undefined;
    this.bans = new BanList(settings.ban_time);
    this.routes = before?.routes ?? new RouteTable();
    const addresses = settings.shards.map(shard => addressesOf(settings.database, shard));
    this.shards = settings.shards.map(({ servers }, shard) =>
      servers.map(({ weight }, at) => this.#poolAt(addresses[shard][at], weight, before)),
    );
    this.#byRole = this.shards.map(pools => ({
      any: pools,
      primary: pools.filter(pool => serves(pool, 'primary')),
      replica: pools.filter(pool => serves(pool, 'replica')),
    }));
    this.directory = new Directory(this, Math.random);
    const isSame = before !== undefined && isDeepStrictEqual(before.firstServers, this.firstServers);
    this.schema = new SchemaReader(this, this.directory.key !== undefined, isSame ? before.catalog.rows : NO_ROWS);
  }

  /** The pool of a server: that of the cluster before, if only other servers came or went. */
  #poolAt(address: PoolAddress, weight: number, before: Cluster | undefined): Pool {
    const old = predecessor(address, before?.pools ?? []);
    if (old === undefined || before === undefined) return new Pool(address, weight, this.settings, this);
    const stays = differInServersOnly(before.settings, this.settings);
    const pool = stays ? old : new Pool(address, weight, this.settings, this);
    pool.held_ms = old.held_ms;
    this.#legacy.push(() => {
      if (stays) old.moveTo(this, address, weight);
      this.bans.takeOver(before.bans, old, pool);
    });
    return pool;
  }

  /** Takes the place of the cluster before it, which is retired next. */
  begin(): void {
    for (const takeOver of this.#legacy.splice(0)) takeOver();
    this.activity?.configure(this.settings.activity);
  }

  /** Whether a reload replaced or removed it: sessions look for the new one before their next statement. */
  get retired(): boolean {
    return this.#successor !== undefined;
  }

  /** Its pools without those that have gone on in the cluster after it. */
  get own(): Pool[] {
    return this.pools.filter(pool => !this.#gone.includes(pool));
  }

  /** Whether no client, and no server, has anything to do with it any more. */
  get isEmpty(): boolean {
    return this.own.every(({ connections, opening, waiting }) => connections.size + opening + waiting === 0);
  }

  /** Ends every connection, whoever uses it; what runs on them is canceled. */
  kill(): void {
    for (const connection of this.own.flatMap(pool => [...pool.connections])) {
      if (!connection.queue.isEmpty && !connection.canceling) connection.cancel();
      connection.close('KILL');
    }
  }

  /** An operator keeps a replica from reads, for so many seconds or for ban_time. */
  adminBan(pool: Pool, seconds: number | undefined): void {
    this.bans.adminBan(pool, Date.now(), seconds);
    this.context.log.warn({ cluster: this.name, server: pool.address.name, seconds }, 'BAN of an operator');
  }

  get catalog(): Catalog {
    return this.schema.catalog;
  }

  get halted(): boolean {
    return this.gate.closed;
  }

  get defaults(): SettingsProfile {
    return this.context.profiles.defaults;
  }

  get pools(): Pool[] {
    return this.shards.flat();
  }

  /** The shard for what any shard can answer. */
  get firstShard(): number {
    const { default_shard } = this.settings;
    return typeof default_shard === 'number' ? default_shard : 0;
  }

  /** The servers of that shard. */
  get firstServers(): ClusterSettings['shards'][number] | undefined {
    return this.settings.shards[this.firstShard];
  }

  /** Whether no server has ever let it in. */
  get isVain(): boolean {
    return this.pools.every(({ account }) => account.counters.opened_count === 0);
  }

  /** `database/user`, for logs. */
  get name(): string {
    return `${this.settings.database}/${this.settings.username}`;
  }

  /** Whether clients may share connections. */
  get multiplexes(): boolean {
    return this.settings.multiplexing === 'auto' && this.settings.pool_mode === 'transaction';
  }

  /** Whether they may by now: it is known which functions of the database's own leave something behind. */
  get isSharing(): boolean {
    return this.multiplexes && this.schema.isKnown;
  }

  /** Finds `lease` a connection of its shard and role; its owner is told, perhaps before this returns. */
  lease(lease: Lease): void {
    const now = performance.now();
    lease.since = now;
    lease.begin(now);
    if (lease.tried.length > 0) lease.tried = [];
    if (!this.retired || !this.#passOn(lease, now)) this.#place(lease, now);
  }

  admit(lease: Lease): void {
    const now = performance.now();
    lease.begin(now);
    lease.tried = [];
    if (!this.retired || !this.#passOn(lease, now)) this.#place(lease, now);
  }

  /** The gate was closed: who waits for a pool waits there from now on, and connections end as they become free. */
  halt(): void {
    const waiting = this.own.flatMap(pool => pool.halt());
    for (const lease of waiting.sort((a, b) => a.since - b.since)) this.gate.hold(lease, this);
  }

  /** The same, but not of the server that failed it. */
  leaseElsewhere(lease: Lease, failed: readonly LeaseSource[]): void {
    const now = performance.now();
    lease.since = now;
    lease.begin(now);
    const isAnyLeft = failed.length < (this.shards[lease.shard]?.length ?? 0);
    lease.tried = failed.slice(isAnyLeft ? 0 : -1);
    lease.refusal = { cause: 'it failed a read, which was to run elsewhere' };
    this.#place(lease, now);
  }

  /** Takes back a lease that has not been served. */
  withdraw(lease: Lease): void {
    lease.pool?.withdraw(lease);
  }

  /** Whether a server of this role is configured in this shard. */
  has(role: 'primary' | 'replica', shard: number): boolean {
    return this.shards[shard]?.some(pool => pool.address.role === role) ?? false;
  }

  /** Resolves when statements can find their shards, or when that has taken too long to wait for. */
  async prepared(): Promise<void> {
    if (this.directory.key === undefined) return;
    this.schema.start();
    const waiting = new AbortController();
    const { signal } = waiting;
    const late = sleep(this.settings.connect_timeout, undefined, { ref: false, signal }).catch(() => undefined);
    await Promise.race([this.schema.ready, late]);
    waiting.abort();
  }

  /** Whether the shard of this server has another. */
  hasOther({ address }: LeaseSource): boolean {
    return (this.shards[address.shard]?.length ?? 0) > 1;
  }

  /** Whether no server of the shard is banned. */
  isHealthy(shard: number): boolean {
    if (this.bans.entries.size === 0) return true;
    const now = Date.now();
    return !this.shards[shard]?.some(pool => this.bans.isBanned(pool, now));
  }

  /** A read is sent to another server, since this one refused it as a write, or was lost; told once a template. */
  replayed(statement: Statement, refused: boolean, { address }: LeaseSource): void {
    if (!this.routes.replayed(statement)) return;
    const fields = { cluster: this.name, server: address.name, template: statement.template };
    const text = refused
      ? 'A replica refused a read as a write; it was run on the primary, where it goes from now on'
      : 'A read was lost with its server and run on another';
    this.context.log.warn(fields, text);
  }

  /** DDL has passed: what is known of functions, views and tables may be wrong. */
  schemaChanged(): void {
    this.#successor?.()?.schemaChanged();
    this.schema.ddlSeen();
    this.directory.forgetRefusals();
  }

  /** Opens connections to every server before a client asks for one, if that can be. */
  warmUp(): void {
    if (this.credentials.missing) return;
    for (const pool of this.pools) pool.warmUp();
  }

  /** Closes a window of averages in every pool. */
  rollAverages(window_s: number): void {
    for (const { account } of this.pools) account.averages.roll(account.totals(), window_s);
  }

  /**
   * Ends all pools that do not go on in the cluster that `successor` finds: those of clients at work when they are done.
   * Who waits does so in that cluster from now on, or is told that there is none.
   */
  retire(successor: () => Cluster | undefined = () => undefined, cause = REPLACED): void {
    this.#successor = successor;
    this.schema.stop();
    const next = successor();
    this.#gone = next === undefined ? [] : this.pools.filter(pool => next.pools.includes(pool));
    for (const pool of this.own) pool.retire(cause, next !== undefined);
  }

  poolRetired(lease: Lease): void {
    this.#passOn(lease, performance.now());
  }

  connectOptions(pool: Pool, startup: SettingsProfile): ConnectOptions {
    const { server_username, connect_timeout, prepared_statements_cache_size } = this.settings;
    const { host, port, database } = pool.address;
    const { password, proven } = this.credentials;
    const settings = new Map(startup.values);
    if (!settings.has('application_name')) settings.set('application_name', 'pglynx');
    return {
      host,
      port,
      require_auth: this.settings.server_require_auth,
      scram_iterations_max: this.settings.server_scram_iterations_max,
      encryption:
        this.settings.server_tls.mode === 'disable'
          ? undefined
          : () => this.context.encryption(this.settings.server_tls),
      identity: { user: server_username, password, proven, database, settings },
      startup,
      keys: this.context.keys,
      connect_timeout,
      network: this.context.network,
      statements_max: prepared_statements_cache_size,
    };
  }

  seatFor(pool: CappedPool, address: PoolAddress): Seat {
    return this.context.caps.seat(pool, capsOf(this.settings, address));
  }

  accountOf({ shard, role, host, port, index, database }: PoolAddress): ServerAccount {
    const { database: name, username: user } = this.settings;
    const server = { shard, role, host, port, index, server_database: database };
    return this.context.ledger.server({ database: name, user, ...server });
  }

  serverFailed(pool: Pool, reason: FailureReason, cause: string): boolean {
    pool.counters.errors++;
    const fields = { cluster: this.name, server: pool.address.name, reason, cause };
    if (this.bans.ban(pool, reason, cause, Date.now())) {
      this.context.log.warn(fields, `Banning instance ${pool.address.name}, reason: ${reason}`);
    } else this.context.log.warn(fields, `${pool.address.name} failed: ${cause}`);
    return this.bans.entries.has(pool);
  }

  isOnlyChoice(lease: Lease, pool: Pool): boolean {
    const now = Date.now();
    const serving = this.#byRole[lease.shard]?.[lease.role] ?? [];
    return !serving.some(other => other !== pool && !lease.tried.includes(other) && !this.bans.isBanned(other, now));
  }

  leaseRefused(lease: Lease, pool: Pool, refusal: Refusal): void {
    lease.tried.push(pool);
    lease.refusal = refusal;
    const now = performance.now();
    if (!this.retired || !this.#passOn(lease, now)) this.#place(lease, now);
  }

  connectionOpened(pool: Pool, connection: ServerConnection): void {
    logOpened(this.context.log, this.name, pool.address.name, connection);
    if (connection.options.startup !== this.defaults) return;
    const isUsual = pool.address.role === 'primary' || !this.has('primary', pool.address.shard);
    if (isUsual || this.baseline === undefined) this.baseline = new Map(connection.parameters);
  }

  connectionClosed(pool: Pool, connection: ServerConnection, cause: string): void {
    logClosed(this.context.log, this.name, pool.address.name, connection, cause);
  }

  /** Has a claim served by the cluster that has taken this one's place; false when it has no place for it. */
  #passOn(lease: Lease, now: number): boolean {
    const successor = this.#successor?.();
    const { database, username } = this.settings;
    if (successor === undefined) {
      this.withdraw(lease);
      lease.pool = undefined;
      lease.owner.leaseFailed(pgError('pool_removed', database, username));
      return true;
    }
    const serving = successor.#byRole[lease.shard]?.[lease.role] ?? [];
    if (serving.length === 0 || !routeAlike(this.settings, successor.settings)) return false;
    lease.until = Math.min(lease.until, lease.deadline);
    this.withdraw(lease);
    lease.tried = [];
    lease.shareable &&= successor.isSharing;
    successor.#place(lease, now);
    return true;
  }

  #place(lease: Lease, now: number): void {
    if (this.gate.closed) return this.gate.hold(lease, this);
    const shard = this.#byRole[lease.shard];
    if (shard === undefined) return this.#fail(lease, pgError('checkout_failed', `InvalidShardId(${lease.shard})`));
    const serving = shard[lease.role];
    const untried = lease.tried.length === 0 ? serving : serving.filter(pool => !lease.tried.includes(pool));
    if (untried.length === 0) return this.#fail(lease, exhaustedError(lease, this.settings.database));
    const first = choose(this.#allowed(untried), this.settings.load_balancing_mode, now, Math.random);
    // Who has waited for one server does not stand in the queue of another.
    const isLate = lease.tried.length > 0 && now - lease.placed_at >= waitLimit(this.settings)[1];
    if (isLate && !first.hasCapacity) this.#fail(lease, exhaustedError(lease, this.settings.database));
    else if (lease.shareable) first.dispatch(lease, now);
    else first.lease(lease, now);
  }

  /** The candidates that are not banned; when all are, the list is cleared, since a doubtful server beats none. */
  #allowed(candidates: readonly Pool[]): readonly Pool[] {
    if (this.bans.entries.size === 0) return candidates;
    const now = Date.now();
    const allowed = candidates.filter(pool => !this.bans.isBanned(pool, now));
    if (allowed.length > 0) return allowed;
    // What failed is rather tried again than what an operator wants spared.
    const failed = candidates.filter(pool => !this.bans.isAdmins(pool));
    const lifted = failed.length > 0 ? failed : candidates;
    this.context.log.warn({ cluster: this.name }, 'Unbanning all replicas.');
    for (const pool of lifted) this.bans.lift(pool);
    return lifted;
  }

  #fail(lease: Lease, error: PgError): void {
    for (const pool of lease.tried) pool.counters.errors++;
    lease.pool = undefined;
    lease.owner.leaseFailed(error);
  }
}
