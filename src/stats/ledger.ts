/** What is counted as long as the process lives: for each server and each cluster, whatever reloads make of their pools. */
import { type ConnectionCounters, PoolAverages, PoolCounters } from './counters.ts';
import { Histogram } from './histogram.ts';

/** Whose work is counted together: that of one database and user on one server. */
export interface ServerKey {
  /** What clients connect to, and as whom. */
  readonly database: string;
  readonly user: string;
  readonly shard: number;
  readonly role: string;
  readonly host: string;
  readonly port: number;
  /** Position in the shard's list of servers. */
  readonly index: number;
  /** The database's name on the server. */
  readonly server_database: string;
}

/** How long clients wait for a server's connections, and how long it serves them. */
export class PoolTimes {
  readonly query = new Histogram();
  readonly xact = new Histogram();
  readonly wait = new Histogram();
}

/** An open connection, as far as its own figures are not counted elsewhere. */
interface Traffic {
  readonly sent_bytes: number;
  readonly write_count: number;
  readonly counters: ConnectionCounters;
}

/** The account of one server, which all pools that stand for it share. */
export class ServerAccount {
  key: ServerKey;
  readonly counters = new PoolCounters();
  readonly averages = new PoolAverages();
  readonly times = new PoolTimes();
  /** How often it was banned, by the reason. */
  readonly bans = new Map<string, number>();
  /** Pools that stand for it now. */
  holders = 0;
  readonly #open = new Set<Traffic>();

  constructor(key: ServerKey) {
    this.key = key;
  }

  /** Whether anything may still be added. */
  get isOpen(): boolean {
    return this.holders > 0 || this.#open.size > 0;
  }

  opened(connection: Traffic): void {
    this.counters.opened_count++;
    this.#open.add(connection);
  }

  closed(connection: Traffic): void {
    if (this.#open.delete(connection)) addTraffic(this.counters, connection);
  }

  banned(reason: string): void {
    this.bans.set(reason, (this.bans.get(reason) ?? 0) + 1);
  }

  /** The counters with what open connections have moved so far. */
  totals(): PoolCounters {
    const totals = Object.assign(new PoolCounters(), this.counters);
    for (const connection of this.#open) addTraffic(totals, connection);
    return totals;
  }

  /** Adds what another has counted. */
  add(other: ServerAccount): void {
    this.counters.add(other.totals());
    this.times.query.add(other.times.query);
    this.times.xact.add(other.times.xact);
    this.times.wait.add(other.times.wait);
    for (const [reason, count] of other.bans) this.bans.set(reason, (this.bans.get(reason) ?? 0) + count);
  }
}

function addTraffic(counters: PoolCounters, { sent_bytes, write_count, counters: own }: Traffic): void {
  counters.sent_bytes += sent_bytes;
  counters.write_count += write_count;
  counters.received_bytes += own.received_bytes;
  counters.prepare_hits += own.prepare_hits;
  counters.prepare_misses += own.prepare_misses;
  counters.prepare_evictions += own.prepare_evictions;
}

/** How often claims were given a role for one reason. */
export class RouteCount {
  readonly role: string;
  readonly reason: string;
  count = 0;

  constructor(role: string, reason: string) {
    this.role = role;
    this.reason = reason;
  }
}

/** The account of one database and user. */
export class ClusterAccount {
  readonly database: string;
  readonly user: string;
  /** Clients that have logged in, and errors of those that have left. */
  client_count = 0;
  client_errors = 0;
  readonly #routes = new Map<string, RouteCount>();

  constructor(database: string, user: string) {
    this.database = database;
    this.user = user;
  }

  get routes(): Iterable<RouteCount> {
    return this.#routes.values();
  }

  /** Where claims with this role and reason are counted. */
  route(role: string, reason: string): RouteCount {
    const name = `${role} ${reason}`;
    const known = this.#routes.get(name);
    if (known !== undefined) return known;
    const count = new RouteCount(role, reason);
    this.#routes.set(name, count);
    return count;
  }

  /** Adds what another has counted. */
  add(other: ClusterAccount): void {
    this.client_count += other.client_count;
    this.client_errors += other.client_errors;
    for (const { role, reason, count } of other.routes) this.route(role, reason).count += count;
  }
}

/** Accounts kept apart; past it what was counted for the oldest that nobody adds to any more goes to one for all of them. */
const ACCOUNTS_MAX = 1000;
/** What that one is called. */
const OTHERS = 'others';

const OTHER_SERVERS: ServerKey = {
  database: OTHERS,
  user: OTHERS,
  shard: 0,
  role: OTHERS,
  host: OTHERS,
  port: 0,
  index: 0,
  server_database: OTHERS,
};

/** SQLSTATEs of failed logins counted apart: most are pglynx's own, the others a server's. */
const SQLSTATES_MAX = 100;

export class Ledger {
  /** Logins that failed, by SQLSTATE. */
  readonly login_failures = new Map<string, number>();
  readonly #servers = new Map<string, ServerAccount>();
  readonly #clusters = new Map<string, ClusterAccount>();
  readonly #accounts_max: number;

  constructor(accounts_max = ACCOUNTS_MAX) {
    this.#accounts_max = accounts_max;
  }

  get servers(): Iterable<ServerAccount> {
    return this.#servers.values();
  }

  get clusters(): Iterable<ClusterAccount> {
    return this.#clusters.values();
  }

  /** The account of a server, for a pool that stands for it from now on. */
  server(key: ServerKey): ServerAccount {
    const account = this.#server(key);
    account.key = key;
    account.holders++;
    if (this.#servers.size > this.#accounts_max) this.#forget();
    return account;
  }

  /** The account of a database and user. */
  cluster(database: string, user: string): ClusterAccount {
    const name = JSON.stringify([database, user]);
    let account = this.#clusters.get(name);
    if (account === undefined) {
      account = new ClusterAccount(database, user);
      this.#clusters.set(name, account);
    }
    return account;
  }

  loginFailed(sqlstate: string): void {
    const failures = this.login_failures;
    const name = failures.has(sqlstate) || failures.size < SQLSTATES_MAX ? sqlstate : OTHERS;
    failures.set(name, (failures.get(name) ?? 0) + 1);
  }

  #server(key: ServerKey): ServerAccount {
    const name = nameOf(key);
    let account = this.#servers.get(name);
    if (account === undefined) {
      account = new ServerAccount(key);
      this.#servers.set(name, account);
    }
    return account;
  }

  /** Closes accounts that nobody adds to, the oldest first, and those of their clusters when none is left. */
  #forget(): void {
    for (const [name, account] of this.#servers) {
      if (this.#servers.size <= this.#accounts_max) return;
      if (account.isOpen || account.key === OTHER_SERVERS) continue;
      this.#servers.delete(name);
      this.#server(OTHER_SERVERS).add(account);
      const { database, user } = account.key;
      const isLast = ![...this.#servers.values()].some(({ key }) => key.database === database && key.user === user);
      if (isLast) this.#forgetCluster(database, user);
    }
  }

  #forgetCluster(database: string, user: string): void {
    const account = this.cluster(database, user);
    this.#clusters.delete(JSON.stringify([database, user]));
    this.cluster(OTHERS, OTHERS).add(account);
  }
}

/** Its position says nothing: it changes when other servers come or go. */
function nameOf(key: ServerKey): string {
  return JSON.stringify(Object.values({ ...key, index: 0 }));
}
