/** The clusters of a process by database and user, replaced as a whole by a reload. */
import { isDeepStrictEqual } from 'node:util';
import type { ClusterSettings } from '../config/cluster.ts';
import { pgError } from '../errors.ts';
import { Ledger } from '../stats/ledger.ts';
import { Activity } from './activity.ts';
import { AutoClusters, type AutoLimits, type AutoName } from './autodb.ts';
import { Cluster, type ClusterContext } from './cluster.ts';
import type { Gates } from './gates.ts';
import { SHUTTING_DOWN } from './settings.ts';
import { leaveMoved } from './turnover.ts';

/** The clusters of a configuration by their names, made and not yet at work. */
export type Plan = ReadonlyMap<string, Cluster>;

export class Registry {
  readonly #context: ClusterContext;
  #clusters: Plan = new Map();
  /** Those that a reload has replaced or removed and that clients are not done with. */
  readonly #retired = new Set<Cluster>();
  /** Those through which pglynx itself asks servers. */
  readonly #askers = new Set<Cluster>();
  readonly #auto: AutoClusters;
  readonly #limits: AutoLimits;

  constructor(context: ClusterContext, limits: AutoLimits) {
    this.#context = context;
    this.#limits = limits;
    this.#auto = new AutoClusters(limits);
  }

  get clusters(): Iterable<Cluster> {
    return this.#clusters.values();
  }

  /** What operators pause and disable. */
  get gates(): Gates {
    return this.#context.gates;
  }

  /** Those that have connections or may get some: in use, or retired by a reload and not done with. */
  get all(): Cluster[] {
    return [...this.#everything()];
  }

  /** The hosts of all servers. */
  get hosts(): ReadonlySet<string> {
    return new Set([...this.#everything()].flatMap(({ pools }) => pools.map(({ address }) => address.host)));
  }

  get retired(): ReadonlySet<Cluster> {
    return this.#retired;
  }

  /** Server connections, those of retired clusters included. */
  get connections(): number {
    const pools = [...this.#everything()].flatMap(cluster => cluster.own);
    return pools.reduce((sum, { connections }) => sum + connections.size, 0);
  }

  find(database: string, user: string): Cluster | undefined {
    return this.#clusters.get(key(database, user));
  }

  /** What such a client runs with, whether its cluster has been made or not. */
  settingsFor(database: string, user: string): ClusterSettings | undefined {
    return this.find(database, user)?.settings ?? this.#limits.settings(database, user);
  }

  /** Clusters that the file does not list, made for `*`. */
  get autoNames(): AutoName[] {
    return [...this.#auto.names];
  }

  /**
   * The cluster for a client that has logged in, made now if `*` stands for it.
   * @throws PgError there are too many of those
   */
  open(database: string, user: string, now: number): Cluster | undefined {
    const known = this.find(database, user);
    const settings = this.#limits.settings(database, user);
    if (settings === undefined) return known;
    const name = { database, username: user };
    if (known === undefined) this.#makeRoom(now);
    this.#auto.used(name, now);
    if (known !== undefined) return known;
    const activity = [...this.clusters].find(cluster => cluster.settings.database === database)?.activity;
    const cluster = new Cluster(settings, this.#context, activity ?? new Activity(settings.activity));
    this.replace(new Map(this.#clusters).set(key(database, user), cluster));
    return cluster;
  }

  /** A cluster for pglynx's own questions: operators steer it as others, and what it does is nobody's. */
  ask(settings: ClusterSettings): Cluster {
    const cluster = new Cluster(settings, { ...this.#context, ledger: new Ledger() });
    this.#askers.add(cluster);
    return cluster;
  }

  /** Ends such a cluster. */
  dismiss(cluster: Cluster): void {
    this.#askers.delete(cluster);
    this.#retired.add(cluster);
    cluster.retire();
    this.#prune();
  }

  #makeRoom(now: number): void {
    const victim = this.#auto.victim(now);
    if (victim === 'none') throw pgError('too_many_pools', this.#limits.pools_max());
    if (victim !== undefined) this.#drop([victim]);
  }

  /** Ends clusters that were made for `*`. */
  #drop(names: readonly AutoName[]): void {
    if (names.length === 0) return;
    const plan = new Map(this.#clusters);
    for (const name of names) {
      this.#auto.delete(name);
      plan.delete(key(name.database, name.username));
    }
    this.replace(plan);
  }

  /**
   * The clusters for these settings: one that has them already is kept. Nothing changes by that.
   * @throws Error settings that cannot be served
   */
  plan(settings: readonly ClusterSettings[]): Plan {
    const before = this.#clusters;
    const plan = new Map<string, Cluster>();
    /** Users of one database read each other's writes. */
    const activities = new Map<string, Activity>();
    for (const { settings, activity } of before.values()) {
      if (activity !== undefined) activities.set(settings.database, activity);
    }
    for (const wanted of settings) {
      const name = key(wanted.database, wanted.username);
      const known = before.get(name);
      const activity = activities.get(wanted.database) ?? new Activity(wanted.activity);
      activities.set(wanted.database, activity);
      const kept = isDeepStrictEqual(known?.settings, wanted) ? known : undefined;
      plan.set(name, kept ?? new Cluster(wanted, this.#context, activity, known));
    }
    return plan;
  }

  /** Serves the clusters of `plan` from now on, and returns those that are new. */
  replace(plan: Plan, cause?: string): Cluster[] {
    const before = this.#clusters;
    this.#clusters = plan;
    const fresh = [...plan].filter(([name, cluster]) => before.get(name) !== cluster).map(([, cluster]) => cluster);
    for (const cluster of fresh) cluster.begin();
    for (const [name, cluster] of before) {
      if (plan.get(name) === cluster) continue;
      if (!plan.has(name)) this.#auto.delete(cluster.settings);
      this.#retired.add(cluster);
      cluster.retire(() => this.#clusters.get(name), cause);
    }
    this.#prune();
    this.#forget();
    return fresh;
  }

  #prune(): void {
    const asking = new Set([...this.#askers].map(({ settings }) => key(settings.database, settings.username)));
    this.gates.prune((database, user) => {
      const name = key(database, user);
      return this.#clusters.has(name) || asking.has(name);
    });
  }

  /** Looks after clients who wait; called a few times a second. */
  tick(): void {
    this.#context.caps.tick();
    for (const cluster of this.#everything()) for (const pool of cluster.own) pool.tick();
  }

  /** Closes what is too old or idle, and opens what min_pool_size asks for. */
  maintain(now: number): void {
    const made = this.autoNames.map(({ database, username }) => this.find(database, username));
    const vain = made.filter(cluster => cluster !== undefined).filter(({ isVain, halted }) => isVain && !halted);
    for (const cluster of this.#everything()) {
      for (const pool of cluster.own) leaveMoved(pool.connections);
      // A database that may not be there is not asked for again and again.
      if (cluster.credentials.missing || vain.includes(cluster)) continue;
      for (const pool of cluster.own) pool.maintain(now);
    }
    const ended = vain.filter(({ isEmpty }) => isEmpty).map(({ settings }) => settings);
    this.#drop([...this.#auto.idle(now), ...this.#auto.unused(ended, now)]);
    this.#forget();
  }

  /** Ends all clusters: connections that nobody uses now, the others when they are free. */
  retire(): void {
    for (const cluster of [...this.#askers]) this.dismiss(cluster);
    this.replace(new Map(), SHUTTING_DOWN);
  }

  /** Ends all clusters and every connection, used or not. */
  destroy(): void {
    this.retire();
    for (const cluster of this.#retired) for (const pool of cluster.own) pool.destroy();
    this.#retired.clear();
  }

  *#everything(): Generator<Cluster> {
    yield* this.#clusters.values();
    yield* this.#askers;
    yield* this.#retired;
  }

  #forget(): void {
    for (const cluster of this.#retired) {
      if (!cluster.isEmpty) continue;
      for (const pool of cluster.own) pool.destroy();
      this.#retired.delete(cluster);
    }
  }
}

function key(database: string, user: string): string {
  return JSON.stringify([database, user]);
}
