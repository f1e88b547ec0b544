/** The clusters of a process by database and user, replaced as a whole by a reload. */
import type { ClusterSettings } from '../config/cluster.ts';
import { Activity } from './activity.ts';
import { Cluster, type ClusterContext } from './cluster.ts';

export class Registry {
  readonly #context: ClusterContext;
  #clusters = new Map<string, Cluster>();

  constructor(context: ClusterContext) {
    this.#context = context;
  }

  get clusters(): Iterable<Cluster> {
    return this.#clusters.values();
  }

  find(database: string, user: string): Cluster | undefined {
    return this.#clusters.get(key(database, user));
  }

  /** Serves these clusters from now on; one of which `isUnchanged` holds keeps its connections. */
  replace(settings: readonly ClusterSettings[], isUnchanged: (settings: ClusterSettings) => boolean): void {
    const before = this.#clusters;
    this.#clusters = new Map();
    /** Users of one database read each other's writes. */
    const activities = new Map<string, Activity>();
    for (const { settings: known, activity } of before.values()) {
      if (
        activity !== undefined &&
        settings.some(wanted => isUnchanged(wanted) && wanted.database === known.database)
      ) {
        activities.set(known.database, activity);
      }
    }
    for (const wanted of settings) {
      const name = key(wanted.database, wanted.username);
      const kept = isUnchanged(wanted) ? before.get(name) : undefined;
      const activity = activities.get(wanted.database) ?? new Activity(wanted.activity);
      activities.set(wanted.database, activity);
      this.#clusters.set(name, kept ?? new Cluster(wanted, this.#context, activity, before.get(name)));
      if (kept !== undefined) before.delete(name);
    }
    for (const cluster of before.values()) cluster.retire();
  }

  /** Closes what is too old or idle, and opens what min_pool_size asks for. */
  maintain(now: number): void {
    for (const cluster of this.clusters) for (const pool of cluster.pools) pool.maintain(now);
  }

  /** Ends all clusters and every connection, used or not. */
  destroy(): void {
    for (const cluster of this.clusters) {
      cluster.retire();
      for (const pool of cluster.pools) pool.destroy();
    }
  }
}

function key(database: string, user: string): string {
  return JSON.stringify([database, user]);
}
