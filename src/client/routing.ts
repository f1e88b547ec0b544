/** Where one client's batches go: its judge and router, and what is remembered of the routes they took. */
import { PgError, pgError } from '../errors.ts';
import type { Activity } from '../pool/activity.ts';
import type { Cluster } from '../pool/cluster.ts';
import { type ExplainMoment, explainRoute } from '../pool/explain.ts';
import type { Lease, LeaseSource } from '../pool/lease.ts';
import type { RouteUse } from '../pool/routes.ts';
import type { Demand } from '../routing/demand.ts';
import { type Inspector, Judge } from '../routing/judge.ts';
import type { Route } from '../routing/route.ts';
import { Router } from '../routing/router.ts';
import type { StatementCatalog } from '../server/prepared.ts';
import type { Judgement } from '../sql/catalog.ts';
import { EFFECT, type ReasonCode, type Statement } from '../sql/statement.ts';
import type { RouteCount } from '../stats/ledger.ts';
import { errorFields } from '../wire/backend.ts';
import type { Opening } from './opening.ts';
import { isRefusal } from './refusal.ts';
import type { ClientSettings } from './settings.ts';

/** SQLSTATEs by which a standby ends a read that stands in the way of its recovery. */
const RECOVERY_CONFLICTS: ReadonlySet<string | undefined> = new Set(['40001', '40P01']);
/** SQLSTATEs of a server that goes down or comes up. */
const SHUTDOWNS: ReadonlySet<string | undefined> = new Set(['57P01', '57P02', '57P03']);

/** Microseconds expected of a batch that only prepares or describes. */
const PREPARING_US = 100;
/** Bytes of a reply that is too large to keep others waiting for. */
const LARGE_BYTES = 64 * 1024;
/** What takes more than this part of the longest wait is too slow for that. */
const SLOW_SHARE = 2;

/** Tables that a transaction may write before it counts as writing any. */
const WRITTEN_MAX = 100;

export class ClientRouting {
  readonly judge: Judge;
  readonly router: Router;
  /** Of the batch that is under way, or ran last. */
  route: Route | undefined;

  readonly #inspector: Inspector;
  readonly #settings: ClientSettings;
  #cluster: Cluster;
  /** Tables that the transaction under way writes, and whether it may write others too. */
  readonly #written = new Set<string>();
  #writesMore = false;
  #ddl = false;
  /** The route that was counted last, and where. */
  #counted: Route | undefined;
  #count: RouteCount | undefined;
  /** The statement of the exchange under way, if there is one only. */
  #only: Statement | undefined;

  constructor(inspector: Inspector, settings: ClientSettings, cluster: Cluster) {
    this.#inspector = inspector;
    this.#settings = settings;
    this.#cluster = cluster;
    this.judge = new Judge(inspector, settings, cluster.directory);
    this.router = new Router(cluster.directory);
  }

  /** A reload replaced the cluster. */
  configure(cluster: Cluster): void {
    this.#cluster = cluster;
    this.judge.configure(cluster.directory);
    this.router.configure(cluster.directory);
  }

  /** The prepared statements that clients share. */
  get catalog(): StatementCatalog {
    return this.#cluster.statements;
  }

  /** Whether statements must be inspected; `held` when the client holds a connection. */
  inspects(held: boolean): boolean {
    const { activity, settings, schema } = this.#cluster;
    // Also who has chosen a role writes what others read.
    const isWatched = activity !== undefined && settings.query_parser_enabled;
    const isAlone = !held && (this.router.splitting || this.#cluster.multiplexes);
    if (!this.judge.keyed && !isAlone && !isWatched) return false;
    schema.start();
    return true;
  }

  /** Whether the key in a statement is all that can tell a shard, so that a BEGIN is better sent with one. */
  get waitsForKey(): boolean {
    return this.judge.keyed && this.router.chosenShard === undefined && this.judge.demand.wish === undefined;
  }

  /** The batch begins a transaction that has waited for it; one that has failed meanwhile may be on any shard. */
  join({ statement, failed }: Opening): void {
    if (statement === undefined) return;
    if (failed) this.judge.demand.clear();
    this.judge.join(statement);
  }

  /** The route of a batch, or why it must not run. */
  find(demand: Demand, open: boolean, session: boolean): Route | PgError {
    const route = this.router.route(demand, { open, session, stale: this.#stale(demand) });
    if (!(route instanceof PgError)) this.#take(route);
    return route;
  }

  /** Why a batch must not run on the connection that the client holds, if it must not. */
  refusal(demand: Demand, pool: LeaseSource | undefined): PgError | undefined {
    if (pool === undefined || (!this.judge.keyed && demand.wish === undefined)) return undefined;
    return this.router.refusalOn(pool.address.shard, demand);
  }

  /** Why the router's choices cannot be followed on the connection that a session keeps, if they cannot. */
  unfit(pool: LeaseSource | undefined): PgError | undefined {
    if (pool === undefined) return undefined;
    const { chosenShard, serverRole } = this.router;
    const { shard, role, name } = pool.address;
    const hasShard = chosenShard === undefined || chosenShard === shard;
    const hasRole = serverRole === 'any' || serverRole === role || (serverRole === 'auto' && role === 'primary');
    return hasShard && hasRole ? undefined : pgError('command_in_session', name);
  }

  /** A batch is sent: its templates are noted, its writes remembered. */
  sent(demand: Demand, whole: boolean, tally: { note(use: RouteUse): void }, now: number): void {
    const { route } = this;
    this.#only = whole && !demand.more && demand.judged.length === 1 ? demand.judged[0].statement : undefined;
    const { activity, routes } = this.#cluster;
    if (route === undefined) return;
    for (const { statement, judgement } of demand.judged) {
      tally.note(routes.note(statement, judgement.detail, route));
      if (activity === undefined || judgement.read) continue;
      for (const table of statement.tables.written) this.#written.add(table);
      if (this.#written.size > WRITTEN_MAX) this.#writesMore = true;
      this.#writesMore ||= mayWriteMore(statement, judgement);
    }
    if (activity === undefined || demand.read !== false) return;
    this.#writesMore ||= demand.more;
    this.#note(activity, now);
  }

  /** A statement of the transaction under way changes what the catalog says. */
  schemaChanged(): void {
    this.#ddl = true;
  }

  /** A transaction is over: what it wrote can be seen from now on. */
  transactionEnded(now: number): void {
    if (this.#ddl) this.#cluster.schemaChanged();
    this.#ddl = false;
    const { activity } = this.#cluster;
    if (activity === undefined || (this.#written.size === 0 && !this.#writesMore)) return;
    this.#note(activity, now);
    this.#written.clear();
    this.#writesMore = false;
  }

  /** Tells a claim what servers should take for its batch. */
  expect(demand: Demand, lease: Lease): void {
    let time_us = 0;
    let isLarge = demand.more;
    for (const { statement } of demand.judged) {
      const service = this.#cluster.routes.service(statement);
      if (service === undefined || service.count === 0) isLarge = true;
      else {
        time_us += service.time_us;
        isLarge ||= service.result_bytes > LARGE_BYTES;
      }
    }
    lease.expected_us = time_us || PREPARING_US;
    lease.large = isLarge;
    lease.exclusive = isLarge || time_us > (this.#cluster.settings.multiplexing_max_wait * 1000) / SLOW_SHARE;
  }

  /** Whether the batch may run on any server of its shard. */
  get isFree(): boolean {
    const { route } = this;
    return route?.reason === 'read' || (route?.reason === 'replayed' && route.role === 'any');
  }

  /** Whether a read that `pool` ended with this error, or by being lost, may be sent to another server. */
  rescues(error: ReadonlyMap<string, string> | undefined, pool: LeaseSource | undefined): boolean {
    if (pool === undefined) return false;
    if (error === undefined || SHUTDOWNS.has(error.get('C'))) return true;
    if (!this.isFree) return false;
    const { shard, role } = pool.address;
    const onReplica = role === 'replica';
    if (isRefusal(error)) return onReplica && this.#cluster.has('primary', shard);
    return onReplica && RECOVERY_CONFLICTS.has(error.get('C')) && this.#cluster.hasOther(pool);
  }

  /** A statement failed on `pool`; a read that a replica refused goes to the primary from now on. */
  failed(message: Buffer, pool: LeaseSource | undefined): void {
    const only = this.#only;
    if (this.route?.reason !== 'read' || pool?.address.role !== 'replica' || only === undefined) return;
    if (isRefusal(errorFields(message, 0, message.length))) this.#cluster.directory.refused.add(only);
  }

  /** A read is sent to another server; `refused` when a replica took it for a write, which it is from now on. */
  rescued(demand: Demand, refused: boolean, pool: LeaseSource): void {
    const { route } = this;
    const [first] = demand.judged;
    const role = refused ? 'primary' : 'any';
    if (route !== undefined) this.#take({ ...route, role: this.isFree ? role : route.role, reason: 'replayed' });
    if (first === undefined) return;
    // Nothing has been answered, so it was the first.
    if (refused) this.#cluster.directory.refused.add(first.statement);
    this.#writesMore ||= refused;
    this.#cluster.replayed(first.statement, refused, pool);
  }

  /** The rows of EXPLAIN ROUTE for a text. */
  explain(buffer: Buffer, start: number, end: number, moment: ExplainMoment): string[][] {
    const judge = new Judge(this.#inspector, this.#settings, this.#cluster.directory);
    return explainRoute({ cluster: this.#cluster, router: this.router, judge, ...moment }, buffer, start, end);
  }

  /** The batch takes this route, most often the one of the batch before. */
  #take(route: Route): void {
    this.route = route;
    if (this.#count === undefined || this.#counted !== route) {
      this.#count = this.#cluster.account.route(route.role, route.reason);
      this.#counted = route;
    }
    this.#count.count++;
  }

  #note(activity: Activity, now: number): void {
    if (this.#writesMore) activity.wroteAnything(now);
    else activity.wrote([...this.#written], now);
  }

  #stale(demand: Demand): 'initializing' | 'recently_written' | undefined {
    const { activity } = this.#cluster;
    if (activity === undefined || demand.read !== true) return undefined;
    const now = performance.now();
    for (const { statement } of demand.judged) {
      const { tables, unknown } = statement;
      const stale = unknown.length > 0 ? activity.readAnything(now) : activity.read(tables.read, now);
      if (stale !== undefined) return stale;
    }
    return undefined;
  }
}

/** Judgements that leave open which tables a statement writes. */
const OPEN: ReadonlySet<ReasonCode> = new Set<ReasonCode>(['unparsed', 'refused', 'volatile_view', 'row_security']);
const DDL = /^(?:CREATE|ALTER|DROP|IMPORT) /;

/** Whether a write may be of other tables than it names: what functions do is not known, nor what reads of a view need. */
function mayWriteMore({ tables, kind }: Statement, { effects, reason }: Judgement): boolean {
  if ((effects & EFFECT.unknown) !== 0 || OPEN.has(reason)) return true;
  return tables.written.length === 0 && DDL.test(kind);
}
