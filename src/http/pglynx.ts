/** pglynx's own metrics of servers, pools and clients. */
import type { Histogram } from '../stats/histogram.ts';
import type { PoolTimes } from '../stats/ledger.ts';
import type { Labels } from './exposition.ts';
import { type Metric, metricsOf, type Row } from './metric.ts';
import type { AccountSource, ClientsSource, ClusterSource, PoolSource, Snapshot } from './snapshot.ts';

const SERVER_LABELS = ['database', 'host', 'port', 'role', 'shard', 'user'];
const CLIENT_LABELS = ['database', 'user'];

const US_PER_S = 1_000_000;

/** Totals of each server, which go on when its pool is gone. */
const TOTALS: readonly Row<AccountSource>[] = [
  [
    'shared_exchanges_total',
    'counter',
    'Exchanges that shared a server connection with those of other clients.',
    ({ totals }) => totals.shared_count,
  ],
  [
    'leases_total',
    'counter',
    'Times that a client had a server connection for itself.',
    ({ totals }) => totals.leased_count,
  ],
  [
    'moved_exchanges_total',
    'counter',
    'Exchanges that were sent once more, on another connection: what stood in front of them was slow or lost.',
    ({ totals }) => totals.moved_count,
  ],
  [
    'server_writes_total',
    'counter',
    'Writes to sockets of the server, each of which may hold statements of many clients.',
    ({ totals }) => totals.write_count,
  ],
  ['server_sent_bytes_total', 'counter', 'Bytes sent to the server.', ({ totals }) => totals.sent_bytes],
  ['server_received_bytes_total', 'counter', 'Bytes received from the server.', ({ totals }) => totals.received_bytes],
  [
    'server_errors_total',
    'counter',
    'Failures of the server: not reached, not healthy, lost, or without a free connection in time.',
    ({ totals }) => totals.errors,
  ],
  [
    'server_connections_opened_total',
    'counter',
    'Connections to the server that were opened.',
    ({ totals }) => totals.opened_count,
  ],
  [
    'prepared_statement_hits_total',
    'counter',
    'Prepared statements that the server connection had already.',
    ({ totals }) => totals.prepare_hits,
  ],
  [
    'prepared_statement_misses_total',
    'counter',
    'Prepared statements that had to be prepared on the server connection first.',
    ({ totals }) => totals.prepare_misses,
  ],
  [
    'prepared_statement_evictions_total',
    'counter',
    'Prepared statements that a server connection gave up for others.',
    ({ totals }) => totals.prepare_evictions,
  ],
];

/** What pools are like now. */
const POOLS: readonly Row<PoolSource>[] = [
  ['pool_size', 'gauge', 'Most connections of the pool.', ({ pool }) => pool.settings.pool_size],
  ['waiting_claims', 'gauge', 'Clients that wait for a connection of the pool.', ({ pool }) => pool.waiting],
  [
    'oldest_wait_seconds',
    'gauge',
    'How long the first of them has waited.',
    ({ pool }) => Math.max(0, pool.waited_ms(performance.now()) / 1000),
  ],
  ['shared_connections', 'gauge', 'Connections that clients share now.', ({ pool }) => pool.shared.connections],
  ['shared_exchanges', 'gauge', 'Exchanges under way on them.', ({ pool }) => pool.shared.exchanges],
  [
    'shared_expected_wait_seconds',
    'gauge',
    'The longest time that what is under way on one of them should take.',
    ({ pool }) => pool.shared.wait_us / US_PER_S,
  ],
  ['server_banned', 'gauge', '1 while the server is banned.', ({ isBanned }) => Number(isBanned)],
  [
    'server_up',
    'gauge',
    '0 while there is no connection to the server and the last attempt to open one failed.',
    ({ pool }) => Number(pool.unreachable === undefined),
  ],
];

/** What clients have done, which goes on when they and their pools are gone. */
const CLIENTS: readonly Row<ClientsSource>[] = [
  ['client_logins_total', 'counter', 'Clients that have logged in.', ({ account }) => account.client_count],
  ['client_errors_total', 'counter', 'Errors of pglynx itself that clients were told.', ({ errors }) => errors],
];

/** States of server connections, and how many of a pool are in each. */
const SERVER_STATES: readonly (readonly [string, (source: PoolSource) => number])[] = [
  ['idle', ({ pool }) => pool.idle],
  ['active', ({ pool }) => pool.active],
  ['tested', ({ pool }) => pool.testing],
  ['login', ({ pool }) => pool.opening],
];

/** States of clients, as SHOW POOLS has them. */
const CLIENT_STATES = ['idle', 'active', 'waiting'];

export const PGLYNX_METRICS: readonly Metric<Snapshot>[] = [
  histogram(
    'query_duration_seconds',
    'Time from the sending of a query to the end of its reply.',
    ({ query }) => query,
  ),
  histogram(
    'transaction_duration_seconds',
    'Time from the moment that a transaction had its connection to its end.',
    ({ xact }) => xact,
  ),
  histogram(
    'wait_duration_seconds',
    'Time that clients waited for a connection that they got, most often none.',
    ({ wait }) => wait,
  ),
  ...metricsOf('pglynx', TOTALS, SERVER_LABELS, ({ accounts }) => accounts, ownLabels),
  ...metricsOf('pglynx', POOLS, SERVER_LABELS, ({ pools }) => pools, ownLabels),
  {
    name: 'pglynx_server_connections',
    type: 'gauge',
    help: 'Connections to the server by state: idle, active, tested (under a health check), login (being opened).',
    labels: [...SERVER_LABELS, 'state'],
    sample: ({ pools }, samples) => {
      for (const source of pools) {
        for (const [state, count] of SERVER_STATES) samples.add({ ...source.own, state }, count(source));
      }
    },
  },
  {
    name: 'pglynx_bans_total',
    type: 'counter',
    help: 'Times that the server was banned, by the reason that SHOW BANS gives.',
    labels: [...SERVER_LABELS, 'reason'],
    sample: ({ accounts }, samples) => {
      for (const { account, own } of accounts) {
        for (const [reason, count] of account.bans) samples.add({ ...own, reason }, count);
      }
    },
  },
  {
    name: 'pglynx_routes_total',
    type: 'counter',
    help: 'Batches and transactions that got a server of this role, by the reason that docs/ROUTING.md lists.',
    labels: [...CLIENT_LABELS, 'reason', 'role'],
    sample: ({ clients }, samples) => {
      for (const { account } of clients) {
        for (const { role, reason, count } of account.routes) {
          samples.add({ ...clientLabels({ account }), reason, role }, count);
        }
      }
    },
  },
  ...metricsOf('pglynx', CLIENTS, CLIENT_LABELS, ({ clients }) => clients, clientLabels),
  {
    name: 'pglynx_clients',
    type: 'gauge',
    help: 'Clients by state: idle, active (with a server connection), waiting (for one).',
    labels: [...CLIENT_LABELS, 'state'],
    sample: ({ clusters }, samples) => {
      for (const { shown } of clusters) {
        for (const state of CLIENT_STATES) {
          samples.add({ ...shownLabels({ shown }), state }, Number(shown.get(`cl_${state}`)));
        }
      }
    },
  },
];

function histogram(name: string, help: string, of: (times: PoolTimes) => Histogram): Metric<Snapshot> {
  return {
    name: `pglynx_${name}`,
    type: 'histogram',
    help,
    labels: SERVER_LABELS,
    sample: ({ accounts }, samples) => {
      for (const { account, own } of accounts) samples.addHistogram(own, of(account.times));
    },
  };
}

function ownLabels({ own }: AccountSource): Labels {
  return own;
}

function clientLabels({ account }: Pick<ClientsSource, 'account'>): Labels {
  return { database: account.database, user: account.user };
}

function shownLabels({ shown }: ClusterSource): Labels {
  return { database: shown.get('database') ?? '', user: shown.get('user') ?? '' };
}
