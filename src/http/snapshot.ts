/** What the metrics of one scrape are made of: the process as it is now, with the totals of what is gone. */
import type { ControlPlane } from '../admin/control.ts';
import { TABLES } from '../admin/show.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { Pool } from '../pool/pool.ts';
import type { PoolCounters } from '../stats/counters.ts';
import type { ClusterAccount, ServerAccount } from '../stats/ledger.ts';
import type { Labels } from './exposition.ts';

/** The account of a server, whether or not a pool still stands for it. */
export interface AccountSource {
  readonly account: ServerAccount;
  readonly totals: PoolCounters;
  /** The labels of PgCat's metrics, and those of pglynx's own. */
  readonly pgcat: Labels;
  readonly own: Labels;
}

/** A pool in use. */
export interface PoolSource extends AccountSource {
  readonly cluster: Cluster;
  readonly pool: Pool;
  readonly isBanned: boolean;
  readonly isPaused: boolean;
}

/** A row of SHOW POOLS: a database and a user. */
export interface ClusterSource {
  readonly shown: ReadonlyMap<string, string>;
}

/** The account of a database and user; errors are those of clients that are here as well. */
export interface ClientsSource {
  readonly account: ClusterAccount;
  readonly errors: number;
}

export interface Snapshot {
  readonly accounts: readonly AccountSource[];
  readonly pools: readonly PoolSource[];
  readonly clusters: readonly ClusterSource[];
  readonly clients: readonly ClientsSource[];
}

export function takeSnapshot(control: ControlPlane): Snapshot {
  const accounts = Array.from(control.ledger.servers, accountSource);
  const byAccount = new Map(accounts.map(source => [source.account, source]));
  const now = Date.now();
  const pools = [...control.clusters()].flatMap(cluster =>
    cluster.pools.map(pool => {
      const source = byAccount.get(pool.account) ?? accountSource(pool.account);
      return { ...source, cluster, pool, isBanned: cluster.bans.bans(pool, now), isPaused: cluster.halted };
    }),
  );
  return {
    accounts,
    pools,
    clusters: rows(control, 'POOLS').map(shown => ({ shown })),
    clients: clientsSources(control),
  };
}

function accountSource(account: ServerAccount): AccountSource {
  const { database, user, shard, role, host, port, index, server_database } = account.key;
  return {
    account,
    totals: account.totals(),
    pgcat: { database: server_database, host, index, pool: database, role, shard, username: user },
    own: { database, host, port, role, shard, user },
  };
}

function clientsSources(control: ControlPlane): ClientsSource[] {
  const errors = new Map<string, number>();
  for (const { database, user, counters } of control.clients()) {
    const name = nameOf(database, user);
    errors.set(name, (errors.get(name) ?? 0) + counters.error_count);
  }
  return Array.from(control.ledger.clusters, account => {
    const ofThose = errors.get(nameOf(account.database, account.user)) ?? 0;
    return { account, errors: account.client_errors + ofThose };
  });
}

/** The rows of a SHOW table, by column. */
function rows(control: ControlPlane, name: string): ReadonlyMap<string, string>[] {
  const table = TABLES.get(name);
  if (table === undefined) throw new Error(`there is no table ${name}`);
  return table.rows(control).map(row => new Map(table.columns.map(({ name }, at) => [name, row[at]])));
}

function nameOf(...words: readonly (string | undefined)[]): string {
  return JSON.stringify(words);
}
