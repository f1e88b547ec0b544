/** SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS: what servers have done for clients. */
import type { PoolAverages, PoolCounters } from '../stats/counters.ts';
import type { ControlPlane } from './control.ts';
import { clustersOf, poolsOf, sum } from './sources.ts';
import { numeric, type ShowTable, table, text } from './table.ts';

function statsOf(control: ControlPlane) {
  return poolsOf(control).map(({ cluster, pool }) => {
    return {
      settings: cluster.settings,
      name: pool.address.name,
      totals: pool.account.totals(),
      averages: pool.account.averages,
    };
  });
}

export const stats: ShowTable = table(statsOf, [
  text('instance', ({ name }) => name),
  text('database', ({ settings }) => settings.database),
  text('user', ({ settings }) => settings.username),
  numeric('total_xact_count', ({ totals }) => totals.xact_count),
  numeric('total_query_count', ({ totals }) => totals.query_count),
  numeric('total_received', ({ totals }) => totals.received_bytes),
  numeric('total_sent', ({ totals }) => totals.sent_bytes),
  numeric('total_xact_time', ({ totals }) => Math.round(totals.xact_time_us / 1000)),
  numeric('total_query_time', ({ totals }) => Math.round(totals.query_time_us / 1000)),
  numeric('total_wait_time', ({ totals }) => Math.round(totals.wait_time_us)),
  numeric('total_errors', ({ totals }) => totals.errors),
  numeric('avg_xact_count', ({ averages }) => averages.xact_count),
  numeric('avg_query_count', ({ averages }) => averages.query_count),
  numeric('avg_recv', ({ averages }) => averages.received_bytes),
  numeric('avg_sent', ({ averages }) => averages.sent_bytes),
  numeric('avg_errors', ({ averages }) => averages.errors),
  numeric('avg_xact_time', ({ averages }) => averages.xact_time_us / 1000),
  numeric('avg_query_time', ({ averages }) => averages.query_time_us / 1000),
  numeric('avg_wait_time', ({ averages }) => averages.wait_time_us),
  numeric('total_shared_count', ({ totals }) => totals.shared_count),
  numeric('total_leased_count', ({ totals }) => totals.leased_count),
  numeric('total_moved_count', ({ totals }) => totals.moved_count),
  numeric('total_write_count', ({ totals }) => totals.write_count),
]);

/** What the servers of one database have done together. */
interface DatabaseStats {
  readonly database: string;
  readonly logins: number;
  readonly totals: readonly PoolCounters[];
  readonly averages: readonly PoolAverages[];
}

function databasesOf(control: ControlPlane): DatabaseStats[] {
  const groups = Map.groupBy(clustersOf(control), ({ settings }) => settings.database);
  return [...groups].map(([database, clusters]) => {
    const accounts = [...new Set(clusters.flatMap(cluster => cluster.pools.map(pool => pool.account)))];
    return {
      database,
      logins: sum(clusters, ({ account }) => account.client_count),
      totals: accounts.map(account => account.totals()),
      averages: accounts.map(account => account.averages),
    };
  });
}

type Figure = readonly [name: string, value: (source: DatabaseStats) => number];

const total = (name: string, field: Counted): Figure => [
  name,
  ({ totals }) => sum(totals, counters => counters[field]),
];

type Counted = Exclude<keyof PoolCounters, 'add'>;

/** PgBouncer's names of what is counted; times in microseconds, as there. */
const TOTALS: readonly Figure[] = [
  ['server_assignment_count', ({ totals }) => sum(totals, counters => counters.leased_count + counters.shared_count)],
  total('xact_count', 'xact_count'),
  total('query_count', 'query_count'),
  total('bytes_received', 'received_bytes'),
  total('bytes_sent', 'sent_bytes'),
  total('xact_time', 'xact_time_us'),
  total('query_time', 'query_time_us'),
  total('wait_time', 'wait_time_us'),
  total('server_parse_count', 'prepare_misses'),
  ['client_login_count', ({ logins }) => logins],
  total('errors', 'errors'),
];

type Rate = 'xact_count' | 'query_count' | 'received_bytes' | 'sent_bytes' | 'errors';
const rate = (name: string, field: Rate): Figure => [name, ({ averages }) => sum(averages, figures => figures[field])];

type Time = 'xact_time_us' | 'query_time_us' | 'wait_time_us';
/** The mean over all servers, by how often each was used. */
const mean = (name: string, field: Time, count: Rate): Figure => [
  name,
  ({ averages }) => {
    const times = sum(averages, figures => figures[count]);
    return times === 0 ? 0 : sum(averages, figures => figures[field] * figures[count]) / times;
  },
];

/** The same in the last full window: counts and sizes a second, times each. */
const AVERAGES: readonly Figure[] = [
  rate('xact_count', 'xact_count'),
  rate('query_count', 'query_count'),
  rate('bytes_received', 'received_bytes'),
  rate('bytes_sent', 'sent_bytes'),
  mean('xact_time', 'xact_time_us', 'xact_count'),
  mean('query_time', 'query_time_us', 'query_count'),
  mean('wait_time', 'wait_time_us', 'xact_count'),
  rate('errors', 'errors'),
];

function byDatabase(figures: readonly Figure[]): ShowTable {
  const columns = figures.map(([name, value]) => numeric<DatabaseStats>(name, value));
  return table(databasesOf, [text<DatabaseStats>('database', ({ database }) => database), ...columns]);
}

export const statsTotals: ShowTable = byDatabase(TOTALS);
export const statsAverages: ShowTable = byDatabase(AVERAGES);

/** Of all databases together. */
function allOf(control: ControlPlane): (readonly [string, number])[] {
  const databases = databasesOf(control);
  const all: DatabaseStats = {
    database: '',
    logins: sum(databases, ({ logins }) => logins),
    totals: databases.flatMap(({ totals }) => totals),
    averages: databases.flatMap(({ averages }) => averages),
  };
  const named = (prefix: string, figures: readonly Figure[]) =>
    figures.map(([name, value]) => [`${prefix}_${name}`, value(all)] as const);
  return [...named('total', TOTALS), ...named('avg', AVERAGES)];
}

export const totals: ShowTable = table(allOf, [text('name', ([name]) => name), numeric('value', ([, value]) => value)]);
