/** Where one client's batches go: its judge and router, and what is remembered of the routes they took. */
import { PgError, pgError } from '../errors.ts';
import type { Cluster } from '../pool/cluster.ts';
import { explainRoute } from '../pool/explain.ts';
import type { LeaseSource } from '../pool/lease.ts';
import type { RouteUse } from '../pool/routes.ts';
import type { Demand } from '../routing/demand.ts';
import { type Inspector, Judge } from '../routing/judge.ts';
import type { Route } from '../routing/route.ts';
import { Router } from '../routing/router.ts';
import type { StatementCatalog } from '../server/prepared.ts';
import type { Statement } from '../sql/statement.ts';
import type { Opening } from './opening.ts';
import { isRefusal } from './replies.ts';
import type { ClientSettings } from './settings.ts';

/** SQLSTATEs by which a standby ends a read that stands in the way of its recovery. */
const RECOVERY_CONFLICTS: ReadonlySet<string | undefined> = new Set(['40001', '40P01']);
/** SQLSTATEs of a server that goes down or comes up. */
const SHUTDOWNS: ReadonlySet<string | undefined> = new Set(['57P01', '57P02', '57P03']);

export class ClientRouting {
  readonly judge: Judge;
  readonly router: Router;
  /** Of the batch that is under way, or ran last. */
  route: Route | undefined;

  readonly #inspector: Inspector;
  readonly #settings: ClientSettings;
  #cluster: Cluster;
  /** Statements that write, of the transaction under way. */
  #writing: Statement[] = [];
  #ddl = false;

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
    if (!this.judge.keyed && !this.router.splitting) return false;
    this.#cluster.schema.start();
    return this.judge.keyed || !held || this.#cluster.activity !== undefined;
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
    if (!(route instanceof PgError)) this.route = route;
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

  /** A batch is sent: its templates are noted in `uses`, its writes remembered. */
  sent(demand: Demand, uses: RouteUse[], now: number): void {
    const { route } = this;
    const { activity, routes } = this.#cluster;
    if (route === undefined) return;
    for (const { statement, judgement } of demand.judged) {
      uses.push(routes.note(statement, judgement.detail, route));
      if (activity === undefined || judgement.read) continue;
      this.#writing.push(statement);
      wrote(activity, statement, now);
    }
    if (activity !== undefined && demand.read === false && demand.judged.length === 0) activity.wroteAnything(now);
  }

  /** A statement of the transaction under way changes what the catalog says. */
  schemaChanged(): void {
    this.#ddl = true;
  }

  /** A transaction is over: what it wrote can be seen from now on. */
  transactionEnded(now: number): void {
    if (this.#ddl) this.#cluster.schema.ddlSeen();
    this.#ddl = false;
    if (this.#writing.length === 0) return;
    const { activity } = this.#cluster;
    if (activity !== undefined) for (const statement of this.#writing) wrote(activity, statement, now);
    this.#writing.length = 0;
  }

  /** Whether a read that `pool` ended with this error, or by being lost, may be sent to another server. */
  rescues(error: ReadonlyMap<string, string> | undefined, pool: LeaseSource | undefined): boolean {
    if (pool === undefined || this.route?.reason !== 'read') return false;
    const { shard, role } = pool.address;
    const onReplica = role === 'replica';
    if (error === undefined || SHUTDOWNS.has(error.get('C'))) return this.#cluster.hasOther(pool);
    if (isRefusal(error)) return onReplica && this.#cluster.has('primary', shard);
    return onReplica && RECOVERY_CONFLICTS.has(error.get('C')) && this.#cluster.hasOther(pool);
  }

  /** A read is sent to another server; `refused` when a replica took it for a write, which it is from now on. */
  rescued(demand: Demand, refused: boolean, pool: LeaseSource): void {
    const { route } = this;
    const [only, ...more] = demand.judged;
    if (route !== undefined) this.route = { ...route, role: refused ? 'primary' : 'any', reason: 'replayed' };
    if (only === undefined) return;
    // Of several it is not known which one; a statement is there once more for its Parse.
    const isAlone = more.every(({ statement }) => statement === only.statement);
    if (refused && isAlone) this.#cluster.directory.refused.add(only.statement);
    this.#cluster.replayed(only.statement, refused, pool);
  }

  /** The rows of EXPLAIN ROUTE for a text. */
  explain(buffer: Buffer, start: number, end: number, held: LeaseSource | undefined): string[][] {
    const judge = new Judge(this.#inspector, this.#settings, this.#cluster.directory);
    return explainRoute({ cluster: this.#cluster, router: this.router, judge, held }, buffer, start, end);
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

function wrote(activity: NonNullable<Cluster['activity']>, { tables }: Statement, now: number): void {
  if (tables.written.length === 0) activity.wroteAnything(now);
  else activity.wrote(tables.written, now);
}
