/** SHOW MEM, STATE and DNS_HOSTS: the process as a whole. */
import type { ControlPlane } from './control.ts';
import { clustersOf, sum } from './sources.ts';
import { int4, numeric, type ShowTable, table, text } from './table.ts';

/** A kind of memory: bytes a piece if all have one size, pieces in use and free, bytes in all. */
interface Memory {
  readonly name: string;
  readonly size: number;
  readonly used: number;
  readonly free: number;
  readonly bytes: number;
}

function memoryOf(control: ControlPlane): Memory[] {
  const { rss, heapTotal, heapUsed, external, arrayBuffers } = process.memoryUsage();
  const clients = [...control.clients()].length;
  const pools = clustersOf(control).flatMap(cluster => cluster.pools);
  const catalogs = clustersOf(control).map(({ statements }) => statements);
  const count = (name: string, used: number, bytes = 0): Memory => ({ name, size: 0, used, free: 0, bytes });
  return [
    { name: 'process', size: 1, used: rss, free: 0, bytes: rss },
    { name: 'heap', size: 1, used: heapUsed, free: heapTotal - heapUsed, bytes: heapTotal },
    { name: 'external', size: 1, used: external, free: 0, bytes: external },
    { name: 'buffers', size: 1, used: arrayBuffers, free: 0, bytes: arrayBuffers },
    count('clients', clients),
    count(
      'servers',
      sum(pools, pool => pool.connections.size),
    ),
    count(
      'prepared_statements',
      sum(catalogs, ({ size }) => size),
      sum(catalogs, ({ bytes }) => bytes),
    ),
  ];
}

export const mem: ShowTable = table(memoryOf, [
  text('name', ({ name }) => name),
  int4('size', ({ size }) => size),
  numeric('used', ({ used }) => used),
  numeric('free', ({ free }) => free),
  numeric('memtotal', ({ bytes }) => bytes),
]);

function stateOf({ steering, draining }: ControlPlane): (readonly [string, boolean])[] {
  const { paused, suspended } = steering;
  return [
    ['active', !paused && !suspended && !draining],
    ['paused', paused],
    ['suspended', suspended],
    ['draining', draining],
  ];
}

export const state: ShowTable = table(stateOf, [
  text('key', ([key]) => key),
  text('value', ([, value]) => (value ? 'yes' : 'no')),
]);

export const dnsHosts: ShowTable = table(
  ({ network }: ControlPlane) => network.dns.hosts(performance.now()),
  [
    text('hostname', ({ hostname }) => hostname),
    int4('ttl', ({ ttl_s }) => ttl_s),
    text('addrs', ({ addresses }) => addresses.join(',')),
  ],
);
