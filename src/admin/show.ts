/** The SHOW tables of the admin database, with PgCat's columns in PgCat's order; docs/ADMIN.md describes each. */
import type { SettingRow } from '../config/rows.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { Ban } from '../pool/health.ts';
import type { Pool } from '../pool/pool.ts';
import type { ClientView, ControlPlane } from './control.ts';
import { dnsHosts, mem, state } from './process.ts';
import { clients, servers, sockets } from './sockets.ts';
import { belowSecond, clustersOf, type PoolSource, poolsOf, seconds, sum } from './sources.ts';
import { stats, statsAverages, statsTotals, totals } from './stats.ts';
import { int4, numeric, type ShowTable, table, text } from './table.ts';

function bansOf(control: ControlPlane): (PoolSource & Ban & { readonly remaining_s: number })[] {
  const now = Date.now();
  return poolsOf(control).flatMap(({ cluster, pool }) => {
    const ban = cluster.bans.entries.get(pool);
    const remaining_s = ban === undefined ? 0 : Math.ceil(ban.ban_time_s - (now - ban.at) / 1000);
    return ban === undefined || remaining_s <= 0 ? [] : [{ cluster, pool, ...ban, remaining_s }];
  });
}

interface DatabaseSource extends PoolSource {
  readonly isBanned: boolean;
  /** Clients of a database. */
  clientsOf(database: string): number;
}

function databasesOf(control: ControlPlane): DatabaseSource[] {
  const banned = new Set(bansOf(control).map(({ pool }) => pool));
  const counts = countsOf(control, ({ database }) => database);
  const clientsOf = (database: string) => counts.get(database) ?? 0;
  return poolsOf(control).map(({ cluster, pool }) => ({ cluster, pool, isBanned: banned.has(pool), clientsOf }));
}

/** How many clients there are of each kind. */
function countsOf(control: ControlPlane, kind: (client: ClientView) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const client of control.clients()) counts.set(kind(client), (counts.get(kind(client)) ?? 0) + 1);
  return counts;
}

const databases = table(databasesOf, [
  text('name', ({ pool }) => pool.address.name),
  text('host', ({ pool }) => pool.address.host),
  text('port', ({ pool }) => String(pool.address.port)),
  text('database', ({ pool }) => pool.address.database),
  text('force_user', ({ cluster }) => cluster.settings.username),
  int4('pool_size', ({ cluster }) => cluster.settings.pool_size),
  int4('min_pool_size', ({ cluster }) => cluster.settings.min_pool_size),
  int4('reserve_pool', ({ cluster }) => cluster.settings.limits.reserve_pool_size),
  text('pool_mode', ({ cluster }) => cluster.settings.pool_mode),
  int4('max_connections', ({ cluster }) => cluster.settings.pool_size),
  int4('current_connections', ({ pool }) => pool.connections.size),
  int4('paused', ({ cluster }) => (cluster.halted ? 1 : 0)),
  int4('disabled', ({ cluster, isBanned }) => (isBanned || cluster.gate.disabled ? 1 : 0)),
  numeric('server_lifetime', ({ cluster }) => cluster.settings.server_lifetime / 1000),
  text('load_balance_hosts', ({ cluster }) => cluster.settings.load_balancing_mode),
  int4('max_client_connections', ({ cluster }) => cluster.settings.limits.max_pool_clients),
  int4('current_client_connections', ({ cluster, clientsOf }) => clientsOf(cluster.settings.database)),
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
    const { settings, pools, halted: paused } = cluster;
    return { settings, pools, paused, clients: tallyOf(cluster) };
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
  numeric('cl_active_cancel_req', () => 0),
  numeric('cl_waiting_cancel_req', () => 0),
  numeric('sv_active_cancel', () => 0),
  numeric('sv_being_canceled', ({ pools }) => sum(pools, pool => canceling(pool))),
  text('load_balance_hosts', ({ settings }) => settings.load_balancing_mode),
  int4('paused', ({ paused }) => (paused ? 1 : 0)),
]);

function canceling({ connections }: Pool): number {
  return [...connections].filter(connection => connection.canceling).length;
}

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
    ['login_clients', control.logins],
    ['free_servers', sum(pools, pool => pool.idle)],
    ['used_servers', sum(pools, pool => pool.active)],
    ['dns_names', control.network.dns.hosts(performance.now()).length],
    ['dns_zones', 0],
    ['dns_queries', 0],
    ['dns_pending', control.network.dns.pending],
  ];
}

const lists = table(listsOf, [text('list', ([list]) => list), int4('items', ([, items]) => items)]);

function usersOf(control: ControlPlane) {
  const nameOf = (database: string, user: string) => JSON.stringify([database, user]);
  const counts = countsOf(control, ({ database, user }) => nameOf(database, user));
  return clustersOf(control).map(({ settings, pools }) => {
    return { settings, pools, clients: counts.get(nameOf(settings.database, settings.username)) ?? 0 };
  });
}

const users = table(usersOf, [
  text('name', ({ settings }) => settings.username),
  text('pool_mode', ({ settings }) => settings.pool_mode),
  text('database', ({ settings }) => settings.database),
  int4('pool_size', ({ settings }) => settings.pool_size),
  int4('current_connections', ({ pools }) => sum(pools, pool => pool.connections.size)),
  int4('max_user_client_connections', ({ settings }) => settings.limits.max_user_clients),
  int4('current_client_connections', ({ clients }) => clients),
  int4('reserve_pool_size', ({ settings }) => settings.limits.reserve_pool_size),
  int4('max_user_connections', ({ settings }) => settings.limits.max_user_connections),
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
  ['SOCKETS', sockets],
  ['USERS', users],
  ['VERSION', version],
  ['LISTS', lists],
  ['STATS', stats],
  ['STATS_TOTALS', statsTotals],
  ['STATS_AVERAGES', statsAverages],
  ['TOTALS', totals],
  ['MEM', mem],
  ['STATE', state],
  ['DNS_HOSTS', dnsHosts],
  ['BANS', bans],
  ['ROUTES', routes],
]);
