/** What the SHOW tables have rows of, in a stable order, and how numbers are written in them. */
import type { Cluster } from '../pool/cluster.ts';
import type { Pool } from '../pool/pool.ts';
import type { ClientView, ControlPlane } from './control.ts';

/** Each pool with its cluster, in the order of shards and servers. */
export interface PoolSource {
  readonly cluster: Cluster;
  readonly pool: Pool;
}

export function clustersOf(control: ControlPlane): Cluster[] {
  return [...control.clusters()].sort(
    ({ settings: a }, { settings: b }) => compare(a.database, b.database) || compare(a.username, b.username),
  );
}

export function poolsOf(control: ControlPlane): PoolSource[] {
  return clustersOf(control).flatMap(cluster => cluster.pools.map(pool => ({ cluster, pool })));
}

export function clientsOf(control: ControlPlane): ClientView[] {
  return [...control.clients()].sort((a, b) => a.id - b.id);
}

export function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** A number as PgCat writes ids. */
export function hex(id: number): string {
  return `0x${(id >>> 0).toString(16).toUpperCase().padStart(8, '0')}`;
}

/** Whole seconds. */
export function seconds(time_us: number): number {
  return Math.floor(time_us / 1_000_000);
}

/** Microseconds below the second. */
export function belowSecond(time_us: number): number {
  return Math.floor(time_us % 1_000_000);
}
