/** Explains where a text would go: what it is, its shard, its role, and what became of each server. */
import { PgError, pgError } from '../errors.ts';
import type { Demand } from '../routing/demand.ts';
import type { Judge } from '../routing/judge.ts';
import { ROUTE_REASONS, type Route, SHARD_REASONS } from '../routing/route.ts';
import type { Router } from '../routing/router.ts';
import { EFFECT, type Statement, unparsedStatement } from '../sql/statement.ts';
import { serves } from './balancer.ts';
import type { Cluster } from './cluster.ts';
import type { LeaseSource } from './lease.ts';
import type { Pool } from './pool.ts';

/** When a text is explained. */
export interface ExplainMoment {
  /** The server whose connection the client holds, if it holds one. */
  readonly held: LeaseSource | undefined;
  /** A BEGIN that waits for the text. */
  readonly begun: Statement | undefined;
  /** Whether the text is all there. */
  readonly whole: boolean;
}

/** Where a text is explained. */
export interface ExplainContext extends ExplainMoment {
  readonly cluster: Cluster;
  readonly router: Router;
  /** A judge for this text alone. */
  readonly judge: Judge;
}

/** Characters that are shown of a template, or of a list of names. */
const SHOWN_LENGTH = 500;

/** Rows of two columns: what is told, and what it is. */
export function explainRoute(context: ExplainContext, buffer: Buffer, start: number, end: number): string[][] {
  const { cluster, router, judge, held, begun, whole } = context;
  const statement = whole ? judge.analyze(buffer, start, end) : LONG;
  judge.query(statement);
  judge.wishOfText(buffer, start, end);
  const { demand } = judge;
  const rows = describe(statement, demand, judge.effects(statement));
  if (begun !== undefined) judge.join(begun);
  if (held !== undefined) {
    const { name, shard } = held.address;
    const refusal = router.refusalOn(shard, demand);
    rows.push(['shard', String(shard)], ['server', `${name}: the client holds a connection to it`]);
    return refusal === undefined ? rows : [...rows, ...refused(refusal, statement)];
  }
  const session = cluster.settings.pool_mode === 'session';
  const route = router.route(demand, { open: false, session, stale: staleness(cluster, demand, statement) });
  if (route instanceof PgError) return [...rows, ...refused(route, statement)];
  rows.push(['role', route.role], ['role reason', `${route.reason} (${ROUTE_REASONS[route.reason]})`]);
  rows.push(['shard', String(route.shard)], ['shard reason', shardWords(route)]);
  rows.push(['shareable', route.shareable ? 'yes' : 'no']);
  return [...rows, ...serverRows(cluster, route)];
}

/** What begins a message that is too long to be inspected. */
const LONG = unparsedStatement('its message is too long to be inspected');

function describe(statement: Statement, demand: Demand, effects: number): string[][] {
  const { template, kind, tables, functions, count } = statement;
  const unnamed = count === 0 ? 'none' : 'unknown';
  const rows = [['statement', `${kind || unnamed}${count > 1 ? `, the first of ${count}` : ''}`]];
  if (template !== '') rows.push(['template', cut(template)]);
  rows.push(['class', demand.read === true ? 'read' : 'write']);
  rows.push(['reason', `${demand.reason} (${demand.detail})`]);
  if (tables.read.length > 0) rows.push(['reads', cut(tables.read.join(', '))]);
  if (tables.written.length > 0) rows.push(['writes', cut(tables.written.join(', '))]);
  if (functions.length > 0) rows.push(['calls', cut(functions.join(', '))]);
  rows.push(['leaves in its session', effectWords(effects)]);
  return rows;
}

function cut(text: string): string {
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}...` : text;
}

function effectWords(effects: number): string {
  const words = Object.entries(EFFECT)
    .filter(([, bit]) => (effects & bit) !== 0)
    .map(([name]) => name);
  return words.length === 0 ? 'nothing' : words.join(', ');
}

/** Why a read must not go to a replica now. */
function staleness({ activity }: Cluster, { read }: Demand, { tables, unknown }: Statement) {
  if (activity === undefined || read !== true) return undefined;
  const now = performance.now();
  return unknown.length > 0 ? activity.readAnything(now) : activity.read(tables.read, now);
}

/** Why nothing of the text would run. */
function refused({ kind, sqlstate, message, hint }: PgError, { template }: Statement): string[][] {
  const isOpen = OPEN.has(kind) && PARAMETER.test(template);
  const refusal = ['refused', `${sqlstate}: ${message}`];
  const advice = isOpen ? 'The value of a parameter may tell the shard when the statement is run.' : hint;
  return advice === undefined ? [refusal] : [refusal, ['hint', advice]];
}

/** Refusals that a value could make unnecessary. */
const OPEN: ReadonlySet<string> = new Set(['every_shard', 'shard_refused']);
const PARAMETER = /(?<![\w$"])\$\d/;

function shardWords({ shardReason, how }: Route): string {
  const words = how === '' ? SHARD_REASONS[shardReason] : `${SHARD_REASONS[shardReason]}: ${how}`;
  return `${shardReason} (${words})`;
}

/** Each server of the route's shard, and why it would get the statement or would not. */
function serverRows(cluster: Cluster, { shard, role }: Route): string[][] {
  const servers = cluster.shards[shard] ?? [];
  const serving = servers.filter(pool => serves(pool, role));
  if (serving.length === 0) {
    const kind = role === 'any' ? 'server' : role;
    const { database } = cluster.settings;
    const cause = `AllServersDown: no ${kind} is configured in shard ${shard} of ${database}`;
    return [['refused', `58000: ${pgError('checkout_failed', cause).message}`]];
  }
  const now = Date.now();
  const free = serving.filter(pool => !cluster.bans.isBanned(pool, now));
  // When all are banned, the bans are lifted.
  const weighed = weightiest(free.length > 0 ? free : serving);
  const able = weighed.filter(pool => pool.hasCapacity);
  const best = able.length > 0 ? able : weighed;
  return servers.map(pool => {
    const { name, host, port } = pool.address;
    const verdict = serves(pool, role) ? verdictOn(pool, best, cluster) : `no: it is a ${pool.address.role}`;
    return ['server', `${name} (${host}:${port}): ${verdict}`];
  });
}

/** Those of weight 0 serve only when there is no other. */
function weightiest(pools: readonly Pool[]): readonly Pool[] {
  const some = pools.filter(({ weight }) => weight > 0);
  return some.length > 0 ? some : pools;
}

/** Of a server that may serve the role, while `best` are those that one is chosen of. */
function verdictOn(pool: Pool, best: readonly Pool[], { bans, settings }: Cluster): string {
  const ban = bans.entries.get(pool);
  const left_s = ban === undefined ? 0 : Math.ceil(ban.ban_time_s - (Date.now() - ban.at) / 1000);
  const banned = ban === undefined ? '' : `banned for ${left_s} s more (${ban.reason}: ${ban.cause})`;
  if (!best.includes(pool)) {
    if (ban !== undefined) return `no: ${banned}`;
    return pool.weight === 0 ? 'no: its weight is 0' : `no: ${load(pool)}`;
  }
  const lifted = ban === undefined ? '' : `, though ${banned}, as all are`;
  const { load_balancing_mode } = settings;
  const weight = best.some(other => other.weight !== pool.weight) ? `, weight ${pool.weight}` : '';
  const choice =
    best.length === 1 ? 'the one candidate' : `one of ${best.length} candidates (${load_balancing_mode}${weight})`;
  // Where nothing was opened, from the shell above all, there is no load to tell of.
  return `${choice}${lifted}${pool.connections.size === 0 && pool.waiting === 0 ? '' : `: ${load(pool)}`}`;
}

function load({ active, settings, waiting }: Pool): string {
  return `${active} of ${settings.pool_size} connections busy, ${waiting} waiting`;
}
