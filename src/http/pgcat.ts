/** PgCat's metrics, with its names, labels and units, so that its dashboards and alerts go on. */
import type { Labels } from './exposition.ts';
import { type Metric, metricsOf, type Row } from './metric.ts';
import type { AccountSource, ClusterSource, PoolSource, Snapshot } from './snapshot.ts';

const SERVER_LABELS = ['database', 'host', 'index', 'pool', 'role', 'shard', 'username'];

/** Totals of each server, which go on when its pool is gone. */
const TOTALS: readonly Row<AccountSource>[] = [
  ['stats_total_query_count', 'counter', 'Queries: simple ones, and Syncs.', ({ totals }) => totals.query_count],
  [
    'stats_total_query_time',
    'counter',
    'Milliseconds that clients waited for the replies to queries, once sent.',
    ({ totals }) => totals.query_time_us / 1000,
  ],
  ['stats_total_received', 'counter', 'Bytes received from the server.', ({ totals }) => totals.received_bytes],
  ['stats_total_sent', 'counter', 'Bytes sent to the server.', ({ totals }) => totals.sent_bytes],
  ['stats_total_xact_count', 'counter', 'Transactions.', ({ totals }) => totals.xact_count],
  ['stats_total_xact_time', 'counter', 'Milliseconds of transactions.', ({ totals }) => totals.xact_time_us / 1000],
  [
    'stats_total_wait_time',
    'counter',
    'Microseconds that clients waited for a connection.',
    ({ totals }) => totals.wait_time_us,
  ],
  ['servers_bytes_received', 'counter', 'Bytes received from the server.', ({ totals }) => totals.received_bytes],
  ['servers_bytes_sent', 'counter', 'Bytes sent to the server.', ({ totals }) => totals.sent_bytes],
  ['servers_transaction_count', 'counter', 'Transactions that the server ran.', ({ totals }) => totals.xact_count],
  ['servers_query_count', 'counter', 'Queries that the server ran.', ({ totals }) => totals.query_count],
  [
    'servers_error_count',
    'counter',
    'Failures of the server: not reached, not healthy, lost, or without a free connection in time.',
    ({ totals }) => totals.errors,
  ],
];

/** What pools are like now. */
const POOLS: readonly Row<PoolSource>[] = [
  ['stats_avg_query_count', 'gauge', 'Queries a second.', ({ account }) => account.averages.query_count],
  ['stats_avg_query_time', 'gauge', 'Milliseconds a query.', ({ account }) => account.averages.query_time_us / 1000],
  ['stats_avg_recv', 'gauge', 'Bytes a second from the server.', ({ account }) => account.averages.received_bytes],
  ['stats_avg_sent', 'gauge', 'Bytes a second to the server.', ({ account }) => account.averages.sent_bytes],
  ['stats_avg_errors', 'gauge', 'Failures of the server a second.', ({ account }) => account.averages.errors],
  ['stats_avg_xact_count', 'gauge', 'Transactions a second.', ({ account }) => account.averages.xact_count],
  [
    'stats_avg_xact_time',
    'gauge',
    'Milliseconds a transaction.',
    ({ account }) => account.averages.xact_time_us / 1000,
  ],
  [
    'stats_avg_wait_time',
    'gauge',
    'Microseconds of waiting a transaction.',
    ({ account }) => account.averages.wait_time_us,
  ],
  ['servers_idle_count', 'gauge', 'Connections that nobody uses.', ({ pool }) => pool.idle],
  ['servers_active_count', 'gauge', 'Connections that serve clients.', ({ pool }) => pool.active],
  ['servers_tested_count', 'gauge', 'Connections under a health check.', ({ pool }) => pool.testing],
  ['servers_login_count', 'gauge', 'Connections being opened.', ({ pool }) => pool.opening],
  ['servers_is_banned', 'gauge', '1 while the server is banned.', ({ isBanned }) => Number(isBanned)],
  ['servers_is_paused', 'gauge', '1 while the pool is paused.', ({ isPaused }) => Number(isPaused)],
  ['databases_pool_size', 'gauge', 'Most connections of the pool.', ({ pool }) => pool.settings.pool_size],
  ['databases_current_connections', 'gauge', 'Open connections of the pool.', ({ pool }) => pool.connections.size],
];

/** Columns of SHOW POOLS. */
const CLUSTERS: readonly Row<ClusterSource>[] = [
  ['pools_cl_idle', 'gauge', 'Clients without a server connection.', shown('cl_idle')],
  ['pools_cl_active', 'gauge', 'Clients with a server connection.', shown('cl_active')],
  ['pools_cl_waiting', 'gauge', 'Clients that wait for a server connection.', shown('cl_waiting')],
  ['pools_sv_idle', 'gauge', 'Server connections that nobody uses.', shown('sv_idle')],
  ['pools_sv_active', 'gauge', 'Server connections that serve clients.', shown('sv_active')],
  ['pools_sv_tested', 'gauge', 'Server connections under a health check.', shown('sv_tested')],
  ['pools_sv_login', 'gauge', 'Server connections being opened.', shown('sv_login')],
  ['pools_maxwait', 'gauge', 'Longest present wait of a client: whole seconds.', shown('maxwait')],
  [
    'pools_maxwait_us',
    'gauge',
    'Longest present wait of a client: microseconds of the last second.',
    shown('maxwait_us'),
  ],
];

export const PGCAT_METRICS: readonly Metric<Snapshot>[] = [
  ...metricsOf('pgcat', TOTALS, SERVER_LABELS, ({ accounts }) => accounts, pgcatLabels),
  ...metricsOf('pgcat', POOLS, SERVER_LABELS, ({ pools }) => pools, pgcatLabels),
  ...metricsOf('pgcat', CLUSTERS, ['pool', 'user'], ({ clusters }) => clusters, clusterLabels),
];

function pgcatLabels({ pgcat }: AccountSource): Labels {
  return pgcat;
}

function clusterLabels({ shown }: ClusterSource): Labels {
  return { pool: shown.get('database') ?? '', user: shown.get('user') ?? '' };
}

function shown(column: string): (source: ClusterSource) => number {
  return ({ shown }) => Number(shown.get(column));
}
