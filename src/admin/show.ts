/** The SHOW tables of the admin database, with PgCat's columns in PgCat's order; docs/ADMIN.md describes each. */
import type { SettingRow } from '../config/rows.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { Ban } from '../pool/health.ts';
import type { Pool } from '../pool/pool.ts';
import type { ServerConnection } from '../server/connection.ts';
import { ConnectionCounters } from '../stats/counters.ts';
import type { ClientView, ControlPlane } from './control.ts';
import { int4, numeric, type ShowTable, table, text } from './table.ts';

/** PgCat's word for the application of a server connection that has served none. */
const UNDEFINED = 'Undefined';

/** Each pool with its cluster, in the order of shards and servers. */
interface PoolSource {
  readonly cluster: Cluster;
  readonly pool: Pool;
}

function clustersOf(control: ControlPlane): Cluster[] {
  return [...control.clusters()].sort(
    ({ settings: a }, { settings: b }) => compare(a.database, b.database) || compare(a.username, b.username),
  );
}

function poolsOf(control: ControlPlane): PoolSource[] {
  return clustersOf(control).flatMap(cluster => cluster.pools.map(pool => ({ cluster, pool })));
}

function clientsOf(control: ControlPlane): ClientView[] {
  return [...control.clients()].sort((a, b) => a.id - b.id);
}

function bansOf(control: ControlPlane): (PoolSource & Ban & { readonly remaining_s: number })[] {
  const now = Date.now();
  return poolsOf(control).flatMap(({ cluster, pool }) => {
    const ban = cluster.bans.entries.get(pool);
    const remaining_s = ban === undefined ? 0 : Math.ceil(ban.ban_time_s - (now - ban.at) / 1000);
    return ban === undefined || remaining_s <= 0 ? [] : [{ cluster, pool, ...ban, remaining_s }];
  });
}

function databasesOf(control: ControlPlane): (PoolSource & { readonly isBanned: boolean })[] {
  const banned = new Set(bansOf(control).map(({ pool }) => pool));
  return poolsOf(control).map(({ cluster, pool }) => ({ cluster, pool, isBanned: banned.has(pool) }));
}

const databases = table(databasesOf, [
  text('name', ({ pool }) => pool.address.name),
  text('host', ({ pool }) => pool.address.host),
  text('port', ({ pool }) => String(pool.address.port)),
  text('database', ({ pool }) => pool.address.database),
  text('force_user', ({ cluster }) => cluster.settings.username),
  int4('pool_size', ({ cluster }) => cluster.settings.pool_size),
  int4('min_pool_size', ({ cluster }) => cluster.settings.min_pool_size),
  int4('reserve_pool', () => 0),
  text('pool_mode', ({ cluster }) => cluster.settings.pool_mode),
  int4('max_connections', ({ cluster }) => cluster.settings.pool_size),
  int4('current_connections', ({ pool }) => pool.connections.size),
  int4('paused', ({ cluster }) => (cluster.halted ? 1 : 0)),
  int4('disabled', ({ cluster, isBanned }) => (isBanned || cluster.gate.disabled ? 1 : 0)),
]);

/** A cluster's clients by state, and the longest of their present waits. */
class ClientTally {
  idle = 0;
  waiting = 0;
  active = 0;
  wait_us = 0;
}

function talliesOf(control: ControlPlane): (cluster: Cluster) => ClientTally {
  const now = performance.now();
  const tallies = new Map<string, ClientTally>();
  const tallyOf = (database: string, user: string) => {
    const key = JSON.stringify([database, user]);
    const tally = tallies.get(key) ?? new ClientTally();
    tallies.set(key, tally);
    return tally;
  };
  for (const client of control.clients()) {
    const tally = tallyOf(client.database, client.user);
    tally[client.state]++;
    tally.wait_us = Math.max(tally.wait_us, client.waiting_ms(now) * 1000);
  }
  return ({ settings }) => tallyOf(settings.database, settings.username);
}

function totalsOf(control: ControlPlane) {
  const tallyOf = talliesOf(control);
  return clustersOf(control).map(cluster => {
    return { settings: cluster.settings, pools: cluster.pools, clients: tallyOf(cluster) };
  });
}

const pools = table(totalsOf, [
  text('database', ({ settings }) => settings.database),
  text('user', ({ settings }) => settings.username),
  text('pool_mode', ({ settings }) => settings.pool_mode),
  numeric('cl_idle', ({ clients }) => clients.idle),
  numeric('cl_active', ({ clients }) => clients.active),
  numeric('cl_waiting', ({ clients }) => clients.waiting),
  numeric('cl_cancel_req', () => 0),
  numeric('sv_active', ({ pools }) => sum(pools, pool => pool.active)),
  numeric('sv_idle', ({ pools }) => sum(pools, pool => pool.idle)),
  numeric('sv_used', () => 0),
  numeric('sv_tested', ({ pools }) => sum(pools, pool => pool.testing)),
  numeric('sv_login', ({ pools }) => sum(pools, pool => pool.opening)),
  numeric('maxwait', ({ clients }) => seconds(clients.wait_us)),
  numeric('maxwait_us', ({ clients }) => belowSecond(clients.wait_us)),
  numeric('sv_shared', ({ pools }) => sum(pools, pool => pool.shared.connections)),
  numeric('depth', ({ pools }) => sum(pools, pool => pool.shared.exchanges)),
  numeric('expected_wait_us', ({ pools }) => Math.round(Math.max(0, ...pools.map(pool => pool.shared.wait_us)))),
]);

function sessionsOf(control: ControlPlane) {
  const now = performance.now();
  return clientsOf(control).map(client => {
    const wait_us = Math.max(client.counters.wait_max_us, client.waiting_ms(now) * 1000);
    return { client, counters: client.counters, wait_us, age_ms: now - client.connected_at };
  });
}

const clients = table(sessionsOf, [
  text('client_id', ({ client }) => hex(client.id)),
  text('database', ({ client }) => client.database),
  text('user', ({ client }) => client.user),
  text('application_name', ({ client }) => client.application_name),
  text('state', ({ client }) => client.state),
  numeric('transaction_count', ({ counters }) => counters.xact_count),
  numeric('query_count', ({ counters }) => counters.query_count),
  numeric('error_count', ({ counters }) => counters.error_count),
  numeric('age_seconds', ({ age_ms }) => Math.floor(age_ms / 1000)),
  numeric('maxwait', ({ wait_us }) => seconds(wait_us)),
  numeric('maxwait_us', ({ wait_us }) => belowSecond(wait_us)),
]);

interface ServerSource extends PoolSource {
  readonly state: 'login' | 'active' | 'tested' | 'idle';
  /** Undefined while it is being opened. */
  readonly connection: ServerConnection | undefined;
}

/** The connections of a pool, then those that are being opened. */
function serversOf({ cluster, pool }: PoolSource): ServerSource[] {
  let untold = pool.testing;
  const open = [...pool.connections].map((connection): ServerSource => {
    if (connection.holder !== undefined) return { cluster, pool, state: 'active', connection };
    if (connection.quiet) return { cluster, pool, state: 'idle', connection };
    // Busy for nobody: under test, or being cleaned, which the pool counts as active.
    return { cluster, pool, state: untold-- > 0 ? 'tested' : 'active', connection };
  });
  const opening = Array.from({ length: pool.opening }, (): ServerSource => {
    return { cluster, pool, state: 'login', connection: undefined };
  });
  return [...open, ...opening];
}

function applicationOf({ state, connection }: ServerSource): string {
  return state === 'login' || state === 'tested' ? UNDEFINED : connection?.application_name || UNDEFINED;
}

function connectionsOf(control: ControlPlane) {
  const now = performance.now();
  const none = new ConnectionCounters();
  return poolsOf(control)
    .flatMap(serversOf)
    .map(server => {
      const opened_at = server.connection?.opened_at ?? now;
      return { server, counters: server.connection?.counters ?? none, age_ms: now - opened_at };
    });
}

const servers = table(connectionsOf, [
  text('server_id', ({ server }) => hex(server.connection?.pid ?? 0)),
  text('database_name', ({ server }) => server.cluster.settings.database),
  text('user', ({ server }) => server.cluster.settings.username),
  text('address_id', ({ server }) => server.pool.address.name),
  text('application_name', ({ server }) => applicationOf(server)),
  text('state', ({ server }) => server.state),
  numeric('transaction_count', ({ counters }) => counters.xact_count),
  numeric('query_count', ({ counters }) => counters.query_count),
  numeric('bytes_sent', ({ server }) => server.connection?.sent_bytes ?? 0),
  numeric('bytes_received', ({ counters }) => counters.received_bytes),
  numeric('age_seconds', ({ age_ms }) => Math.floor(age_ms / 1000)),
  numeric('prepare_cache_hit', ({ counters }) => counters.prepare_hits),
  numeric('prepare_cache_miss', ({ counters }) => counters.prepare_misses),
  numeric('prepare_cache_eviction', ({ counters }) => counters.prepare_evictions),
  numeric('prepare_cache_size', ({ server }) => server.connection?.statements.size ?? 0),
]);

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

const stats = table(statsOf, [
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

/** The counts of SHOW LISTS; what PgCat has no use for stays 0, as there. */
function listsOf(control: ControlPlane): [string, number][] {
  const pools = clustersOf(control).flatMap(cluster => cluster.pools);
  const states = Array.from(control.clients(), ({ state }) => state);
  // The admin database and its user count as well.
  const databases = pools.length + 1;
  return [
    ['databases', databases],
    ['users', clustersOf(control).length + 1],
    ['pools', databases],
    ['free_clients', states.filter(state => state === 'idle').length],
    ['used_clients', states.filter(state => state === 'active').length],
    ['login_clients', 0],
    ['free_servers', sum(pools, pool => pool.idle)],
    ['used_servers', sum(pools, pool => pool.active)],
    ['dns_names', 0],
    ['dns_zones', 0],
    ['dns_queries', 0],
    ['dns_pending', 0],
  ];
}

const lists = table(listsOf, [text('list', ([list]) => list), int4('items', ([, items]) => items)]);

const users = table(clustersOf, [
  text('name', ({ settings }) => settings.username),
  text('pool_mode', ({ settings }) => settings.pool_mode),
]);

function settingsOf(control: ControlPlane): readonly SettingRow[] {
  return control.settings();
}

const config = table(settingsOf, [
  text('key', ({ key }) => key),
  text('value', ({ value }) => value),
  text('default', row => row.default),
  text('changeable', ({ changeable }) => changeable),
]);

function versionsOf(control: ControlPlane): string[] {
  return [control.version];
}

const version = table(versionsOf, [text('version', number => `pglynx ${number}`)]);

const bans = table(
  bansOf,
  [
    text('db', ({ cluster }) => cluster.settings.database),
    text('user', ({ cluster }) => cluster.settings.username),
    text('role', ({ pool }) => pool.address.role),
    text('host', ({ pool }) => pool.address.host),
    text('reason', ({ reason }) => reason),
    text('ban_time', ({ at }) => new Date(at).toISOString().slice(0, 19).replace('T', ' ')),
    text('ban_duration_seconds', ({ ban_time_s }) => String(ban_time_s)),
    text('ban_remaining_seconds', ({ remaining_s }) => String(remaining_s)),
  ],
  'SHOW BANS',
);

function routesOf(control: ControlPlane) {
  return clustersOf(control).flatMap(({ settings, routes }) =>
    [...routes.uses].sort((a, b) => b.uses - a.uses).map(use => ({ settings, use })),
  );
}

/** Characters that are shown of a template. */
const TEMPLATE_LENGTH = 500;
/** A template as far as it is shown. */
function shown(template: string): string {
  return template.length > TEMPLATE_LENGTH ? `${template.slice(0, TEMPLATE_LENGTH)}...` : template;
}

const routes = table(routesOf, [
  text('database', ({ settings }) => settings.database),
  text('user', ({ settings }) => settings.username),
  text('template', ({ use }) => shown(use.template)),
  numeric('times', ({ use }) => use.uses),
  text('class', ({ use }) => use.detail),
  text('role', ({ use }) => use.route.role),
  text('reason', ({ use }) => use.route.reason),
  text('shard_rule', ({ use }) => use.route.shardReason),
  text('shareable', ({ use }) => (use.route.shareable ? 'yes' : 'no')),
  numeric('replays', ({ use }) => use.replays),
  numeric('mean_time', ({ use }) => (use.timed === 0 ? 0 : Math.round(use.time_us / use.timed))),
]);

/** The tables by what follows SHOW, in the order of SHOW HELP. */
export const TABLES: ReadonlyMap<string, ShowTable> = new Map([
  ['CONFIG', config],
  ['DATABASES', databases],
  ['POOLS', pools],
  ['CLIENTS', clients],
  ['SERVERS', servers],
  ['USERS', users],
  ['VERSION', version],
  ['LISTS', lists],
  ['STATS', stats],
  ['BANS', bans],
  ['ROUTES', routes],
]);

function sum<Item>(items: readonly Item[], value: (item: Item) => number): number {
  return items.reduce((total, item) => total + value(item), 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function hex(id: number): string {
  return `0x${(id >>> 0).toString(16).toUpperCase().padStart(8, '0')}`;
}

function seconds(time_us: number): number {
  return Math.floor(time_us / 1_000_000);
}

function belowSecond(time_us: number): number {
  return Math.floor(time_us % 1_000_000);
}
