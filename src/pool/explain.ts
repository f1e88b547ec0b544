/** Explains where a text would go: what it is, its shard, its role, and what became of each server. */
import { PgError } from '../errors.ts';
import type { Judge } from '../routing/judge.ts';
import { ROUTE_REASONS, type Route, SHARD_REASONS } from '../routing/route.ts';
import type { Router } from '../routing/router.ts';
import { EFFECT, type Statement } from '../sql/statement.ts';
import { serves } from './balancer.ts';
import type { Cluster } from './cluster.ts';
import type { LeaseSource } from './lease.ts';
import type { Pool } from './pool.ts';

/** Where a text is explained. */
export interface ExplainContext {
  readonly cluster: Cluster;
  readonly router: Router;
  /** A judge for this text alone. */
  readonly judge: Judge;
  /** The server whose connection the client holds, if it holds one. */
  readonly held: LeaseSource | undefined;
}

/** Characters of a template that are shown. */
const TEMPLATE_LENGTH = 500;

/** Rows of two columns: what is told, and what it is. */
export function explainRoute(context: ExplainContext, buffer: Buffer, start: number, end: number): string[][] {
  const { cluster, router, judge, held } = context;
  const statement = judge.analyze(buffer, start, end);
  judge.query(statement);
  judge.wishOfText(buffer, start, end);
  const { demand } = judge;
  const rows = describe(statement, demand.read === true, demand.reason ?? 'unparsed', demand.detail);
  const session = cluster.settings.pool_mode === 'session';
  const stale = demand.read === true ? cluster.activity?.read(statement.tables.read, performance.now()) : undefined;
  if (held !== undefined) {
    const refusal = router.refusalOn(held.address.shard, demand);
    rows.push(['server', `${held.address.name}: the client holds a connection to it`]);
    if (refusal !== undefined) rows.push(...refused(refusal));
    return rows;
  }
  const route = router.route(demand, { open: false, session, stale });
  if (route instanceof PgError) return [...rows, ...refused(route)];
  rows.push(['role', route.role], ['role reason', `${route.reason} (${ROUTE_REASONS[route.reason]})`]);
  rows.push(['shard', String(route.shard)], ['shard reason', shardWords(route)]);
  rows.push(['shareable', demand.shareable ? 'yes' : 'no']);
  for (const pool of cluster.shards[route.shard] ?? []) {
    const { name, host, port } = pool.address;
    rows.push(['server', `${name} (${host}:${port}): ${verdict(pool, route, cluster)}`]);
  }
  return rows;
}

function describe(statement: Statement, read: boolean, reason: string, detail: string): string[][] {
  const { template, kind, tables, functions, effects, count } = statement;
  const cut = template.length > TEMPLATE_LENGTH ? `${template.slice(0, TEMPLATE_LENGTH)}...` : template;
  const rows = [
    ['statement', `${kind === '' ? 'none' : kind}${count > 1 ? `, the first of ${count}` : ''}`],
    ['template', cut],
    ['class', read ? 'read' : 'write'],
    ['reason', `${reason} (${detail})`],
  ];
  if (tables.read.length > 0) rows.push(['reads', tables.read.join(', ')]);
  if (tables.written.length > 0) rows.push(['writes', tables.written.join(', ')]);
  if (functions.length > 0) rows.push(['calls', functions.join(', ')]);
  rows.push(['leaves in its session', effectWords(effects)]);
  return rows;
}

function effectWords(effects: number): string {
  const words = Object.entries(EFFECT)
    .filter(([, bit]) => (effects & bit) !== 0)
    .map(([name]) => name);
  return words.length === 0 ? 'nothing' : words.join(', ');
}

function refused(error: PgError): string[][] {
  return [
    ['refused', `${error.sqlstate}: ${error.message}`],
    ['hint', error.hint ?? ''],
  ];
}

function shardWords({ shardReason, how }: Route): string {
  const words = how === '' ? SHARD_REASONS[shardReason] : `${SHARD_REASONS[shardReason]}: ${how}`;
  return `${shardReason} (${words})`;
}

/** Why a server of the route's shard would get the statement, or would not. */
function verdict(pool: Pool, route: Route, cluster: Cluster): string {
  if (!serves(pool, route.role)) return `not a candidate: it is a ${pool.address.role}`;
  const now = Date.now();
  const ban = cluster.bans.entries.get(pool);
  if (ban !== undefined && cluster.bans.isBanned(pool, now)) {
    const left_s = Math.ceil(ban.ban_time_s - (now - ban.at) / 1000);
    return `not a candidate: banned for ${left_s} s more (${ban.reason}: ${ban.cause})`;
  }
  const { load_balancing_mode } = cluster.settings;
  const busy = `${pool.active} of ${pool.settings.pool_size} connections busy, ${pool.waiting} clients waiting`;
  return `candidate, chosen by ${load_balancing_mode}: ${busy}`;
}
