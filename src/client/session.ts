/** One client after login: finds its batches a server connection, holds it as long as it must, and ends in good order. */
import type { Socket } from 'node:net';
import { PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { TlsFacts } from '../net/tls.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { LeaseSource } from '../pool/lease.ts';
import type { Router } from '../routing/router.ts';
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import { Exchange } from '../server/exchange.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import { ClientCounters } from '../stats/counters.ts';
import type { Framer } from '../wire/framer.ts';
import { FRONTEND, STATUS } from '../wire/protocol.ts';
import { Batch } from './batch.ts';
import type { Cancelable } from './cancel.ts';
import { Claim, type ClaimOwner } from './claim.ts';
import { Commands, type CommandsOwner } from './commands.ts';
import type { SessionContext, SessionLogin } from './context.ts';
import { type DepartingOwner, Departure } from './departure.ts';
import { completeMessage } from './farewell.ts';
import { forwardBatch } from './forward.ts';
import { Intake, type IntakeOwner } from './intake.ts';
import { leftovers, sessionLeftovers } from './leftovers.ts';
import { type LimitedOwner, TimeLimits } from './limits.ts';
import { Opening } from './opening.ts';
import { SESSION_PHASES, type SessionPhase } from './phases.ts';
import { Place, type PlacedOwner } from './place.ts';
import { Replies, type RepliesOwner } from './replies.ts';
import { type RetriedOwner, Retries } from './retries.ts';
import { ClientRouting } from './routing.ts';
import { ClientSettings } from './settings.ts';
import { ClientStatements } from './statements.ts';
import { Succession } from './succession.ts';
import { Tally } from './tally.ts';
import { Waiting, type WaitingOwner } from './waiting.ts';

export class Session
  implements
    ClaimOwner,
    Cancelable,
    RepliesOwner,
    IntakeOwner,
    LimitedOwner,
    CommandsOwner,
    DepartingOwner,
    PlacedOwner,
    RetriedOwner,
    WaitingOwner
{
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly tls: TlsFacts | undefined;
  readonly counters = new ClientCounters();
  readonly connected_at = performance.now();
  readonly statements = new ClientStatements();
  readonly settings: ClientSettings;
  readonly commands: Commands;
  readonly opening = new Opening();
  exchange: Exchange;
  readonly retries = new Retries(this);
  readonly claim: Claim;
  readonly place: Place;
  readonly tally = new Tally(this.counters, this);
  readonly routing: ClientRouting;
  cluster: Cluster;
  phase: SessionPhase = 'idle';
  connection: ServerConnection | undefined;
  pool: LeaseSource | undefined;

  readonly socket: Socket;
  readonly #departure: Departure;
  readonly #context: SessionContext;
  readonly intake: Intake;
  readonly #replies: Replies;
  readonly #waiting: Waiting;
  readonly #limits: TimeLimits;
  readonly #startup: SettingsProfile;
  readonly #succession: Succession;
  #draining: PgError | undefined;
  /** Effects of all statements so far, for the end of a session-mode client. */
  #effects = 0;
  constructor(socket: Socket, framer: Framer, outbox: Outbox, login: SessionLogin, context: SessionContext) {
    const { cluster, profile } = login;
    this.id = login.id;
    this.database = login.database;
    this.user = login.user;
    this.tls = login.tls;
    this.settings = new ClientSettings(profile, login.application_name, cluster);
    this.routing = new ClientRouting(context.inspector, this.settings, cluster);
    this.commands = new Commands(this);
    this.socket = socket;
    this.#context = context;
    this.#succession = new Succession(this, context.clusterFor);
    this.cluster = cluster;
    this.statements.max = cluster.settings.limits.max_client_prepared_statements;
    this.#startup = profile;
    const { statements, settings } = this;
    const batch = new Batch({ routing: this.routing, statements, settings });
    this.intake = new Intake(this, socket, framer, outbox, batch);
    this.#replies = new Replies(this, outbox);
    this.#departure = new Departure(this, socket, outbox, this.intake);
    this.#waiting = new Waiting(this, this.intake, this.#replies);
    this.#limits = new TimeLimits(this, this.intake, this.#replies, outbox, this.#waiting);
    this.exchange = new Exchange(this.#replies, false);
    this.claim = new Claim(this, profile);
    this.place = new Place(this, this.claim.lease, outbox);
  }

  get router(): Router {
    return this.routing.router;
  }

  /** Transaction status as the client knows it. */
  get status(): number {
    return this.connection?.status ?? this.opening.status;
  }

  /** Whether statements must be inspected. */
  get inspects(): boolean {
    return this.routing.inspects(this.connection !== undefined);
  }

  get application_name(): string {
    return this.settings.application_name;
  }

  /** As the admin database tells it: `active` holds a server connection. */
  get state(): 'idle' | 'waiting' | 'active' {
    if (this.phase === 'waiting') return 'waiting';
    return this.connection === undefined ? 'idle' : 'active';
  }

  /** Whether the client has left. */
  get gone(): boolean {
    return this.phase === 'closed';
  }

  get batch(): Batch {
    return this.intake.batch;
  }

  get shared(): boolean {
    return this.connection !== undefined && this.claim.lease.shared;
  }

  get pipelines(): boolean {
    return this.intake.pipelines;
  }

  get connect_timeout(): number {
    return this.cluster.settings.connect_timeout;
  }

  get #inSessionMode(): boolean {
    return this.cluster.settings.pool_mode === 'session';
  }

  /** Milliseconds that the current wait for a connection has lasted. */
  waiting_ms(now: number): number {
    return this.phase === 'waiting' ? now - this.claim.lease.since : 0;
  }

  /** Takes over the socket; what the login left unread is served first. */
  start(): void {
    const socket = this.socket;
    let cause = 'the client closed the connection';
    socket.on('data', (chunk: Buffer) => this.intake.feed(chunk));
    socket.on('error', error => {
      cause = error.message;
    });
    socket.on('close', () => this.#departure.lose(cause));
    this.process();
  }

  process(): void {
    this.intake.process();
  }

  /** The client's socket has room again. */
  drained(): void {
    this.place.drained();
    this.process();
  }

  close(error: PgError): void {
    this.#departure.close(error);
  }

  hangUp(cause: string): void {
    this.#departure.hangUp(cause);
  }

  ended(cause: string): void {
    this.#to('closed');
    this.#context.ended(cause);
  }

  withdraw(): void {
    this.claim.withdraw();
  }

  /** Ends the session as soon as it is between transactions: now, or after the exchange that gets it there. */
  drain(error: PgError): void {
    this.#draining = error;
    const isUnserved = this.phase === 'waiting' && this.connection === undefined;
    const isBetween = (this.phase === 'idle' || isUnserved) && this.status === STATUS.idle;
    if (isBetween || this.claim.isHeld) this.close(error);
  }

  cancel(): void {
    this.retries.canceled = this.phase !== 'idle';
    if (this.phase === 'active') this.connection?.cancelExchange(this.exchange);
    else this.#waiting.giveUp(pgError('query_canceled'));
  }

  /** Enforces the time limits that need no precision; called a few times a second. */
  tick(now: number): void {
    if (this.#draining !== undefined && this.phase === 'idle') this.drain(this.#draining);
    const cluster = this.cluster.retired ? this.#context.clusterFor(this.database, this.user) : undefined;
    this.#limits.enforce(now, (cluster ?? this.cluster).settings);
  }

  /** The rows of EXPLAIN ROUTE. */
  explain(buffer: Buffer, start: number, end: number, whole: boolean): string[][] {
    // The catalog that judges statements is read as soon as one is asked about.
    this.routing.inspects(false);
    return this.routing.explain(buffer, start, end, { held: this.pool, begun: this.opening.statement, whole });
  }

  unfit(): PgError | undefined {
    return this.routing.unfit(this.pool);
  }

  defers(): Buffer | undefined {
    const canWait = this.connection === undefined && !this.#inSessionMode && this.routing.waitsForKey;
    return canWait ? this.opening.take(this.batch) : undefined;
  }

  refuse(error: PgError, type: number): void {
    this.counters.error_count++;
    this.commands.end();
    const { connection, batch } = this;
    if (connection === undefined || (this.phase === 'idle' && connection.status !== STATUS.transaction)) {
      const { mayBegin } = batch;
      batch.abandon();
      return this.intake.fail(error, type !== FRONTEND.flush, mayBegin);
    }
    this.#replies.instead = { error, ofCancel: false };
    this.intake.stream = 'drop';
    batch.poison(error.message, type);
    this.dispatch();
  }

  begins(): boolean {
    const isBetween = this.phase === 'idle' && this.connection === undefined && this.batch.empty;
    return !isBetween || !this.cluster.retired || this.#succession.takePlace();
  }

  outlived(): void {
    this.#to('idle');
    this.dispatch();
    this.process();
  }

  dispatch(): void {
    const connection = this.connection;
    if (this.phase !== 'active' || this.exchange.settled) this.#limits.ask();
    // What the server skips may be anything.
    const isSkipped = this.phase === 'active' && this.exchange.skipping;
    const refusal = isSkipped ? undefined : (this.batch.refusal ?? this.routing.refusal(this.batch.demand, this.pool));
    if (refusal !== undefined) this.refuse(refusal, this.batch.endType);
    else if (this.phase === 'active') this.#send();
    else if (connection === undefined) this.#route();
    else if (connection.canceling) {
      this.#to('waiting');
      connection.whenCancelsSettled(() => {
        if (this.phase !== 'waiting') return;
        this.#send();
        this.process();
      });
    } else this.#send();
  }

  connected(connection: ServerConnection, pool: LeaseSource): void {
    const { since, granted_at } = this.claim.lease;
    this.counters.wait_max_us = Math.max(this.counters.wait_max_us, (granted_at - since) * 1000);
    this.connection = connection;
    this.pool = pool;
    if (!this.claim.lease.shared) connection.holder = this.#replies;
    this.settings.begin();
    connection.application_name = this.settings.application_name;
    this.tally.xact_started_at = granted_at;
  }

  disconnected(): void {
    this.connection = undefined;
    this.pool = undefined;
  }

  proceed(): void {
    this.#send();
    this.process();
  }

  leaseFailed(error: PgError): void {
    this.#waiting.fail(error);
  }

  rest(): void {
    this.#limits.ended_at = performance.now();
    this.#to('idle');
  }

  exchangeEnded(status: number): void {
    const now = performance.now();
    this.tally.exchangeEnded(status, this.#limits.began_at, now, this.connection, this.pool);
    if (status === STATUS.idle) this.routing.transactionEnded(now);
    this.batch.clear();
    this.retries.canceled = false;
    if (this.phase === 'closed') return this.release();
    this.#to('idle');
    if (status !== STATUS.idle && this.shared) return this.#break();
    this.#limits.exchangeEnded(status, now);
    if (this.exchange.skipping) this.intake.skip();
    if (status === STATUS.idle && !this.#inSessionMode) this.release();
    if (this.#draining !== undefined) this.drain(this.#draining);
    this.process();
  }

  schemaChanged(): void {
    this.routing.schemaChanged();
  }

  serverFailed(message: Buffer): void {
    this.intake.serverFailed(message);
    this.routing.failed(message, this.pool);
    // The server may wait for a Sync that the client has yet to send.
    if (!this.exchange.sealed && this.batch.sealed) this.batch.clear();
    this.process();
  }

  waits(): void {
    this.#to('idle');
    this.#to('waiting');
  }

  leave(): void {
    this.place.leave(this.batch.read === true || !this.intake.endsInGoodbye);
    this.exchange = new Exchange(this.#replies, false);
    this.disconnected();
  }

  connectionLost(error: PgError, crashed: boolean): void {
    const pool = this.pool;
    this.disconnected();
    // A connection that pglynx closed after a client that vanished says nothing of the server.
    if (this.phase === 'closed') return;
    if (crashed) pool?.lost(error.message);
    this.counters.error_count++;
    this.routing.transactionEnded(performance.now());
    if (error.severity === 'FATAL' || this.#inSessionMode) return this.close(error);
    if (this.phase !== 'active') return;
    this.rest();
    this.batch.clear();
    this.intake.fail(error, this.exchange.isAwaited);
    this.process();
  }

  #route(): void {
    if (this.cluster.retired && !this.#succession.takeBatch()) return;
    const { sealed, preparesOnly, demand, endType } = this.batch;
    this.routing.join(this.opening);
    const route = this.routing.find(demand, !sealed && !preparesOnly, this.#inSessionMode);
    if (route instanceof PgError) return this.refuse(route, endType);
    const { lease } = this.claim;
    const mayShare = this.batch.isShareable && this.cluster.isSharing && !this.settings.profile.hasRights;
    lease.shareable = mayShare && route.shareable && this.opening.statement === undefined;
    if (lease.shareable) this.routing.expect(demand, lease);
    this.retries.begin();
    this.#to('waiting');
    this.claim.make(this.cluster, route, this.#startup);
  }

  /** What may stand between the statements of others never leaves a transaction open: nobody is to go on with it. */
  #break(): void {
    const cause = 'a shared connection was left in a transaction';
    this.connection?.close(cause);
    this.letGo();
    this.close(pgError('internal', cause));
  }

  letGo(): void {
    this.#limits.ended_at = performance.now();
    if (this.connection?.state !== 'closed') return this.release();
    this.disconnected();
  }

  #send(): void {
    const { connection, batch, exchange } = this;
    if (connection === undefined) return;
    const begins = this.phase !== 'active';
    if (begins) {
      this.#to('active');
      this.#limits.began_at = this.claim.lease.shared ? this.claim.lease.granted_at : performance.now();
      this.tally.begin();
      exchange.reset();
      connection.enqueue(exchange);
    }
    this.#effects |= batch.effects;
    connection.dirty |= leftovers(batch.effects);
    const isApart = begins && connection.status === STATUS.idle;
    if (isApart && batch.preparesOnly) batch.sealItself();
    const isRescuable = batch.read === true && this.retries.mayRescue && !this.#inSessionMode;
    this.#replies.begin(isApart && batch.isWhole && this.retries.left, isRescuable);
    this.routing.sent(batch.demand, begins && batch.isWhole, this.tally, this.#limits.began_at);
    if (!batch.sealed) this.tally.sent(batch);
    forwardBatch(batch, connection, exchange);
    if (begins && this.retries.canceled) connection.cancelExchange(exchange);
    if (!batch.sealed || exchange.skipping) batch.clear();
  }

  /** Gives the connection back. */
  release(): void {
    const connection = this.connection;
    const pool = this.pool;
    this.disconnected();
    if (connection === undefined || pool === undefined) return;
    if (this.claim.lease.shared) {
      this.tally.served(pool.settle(connection, this.claim.lease, this.#limits.ended_at), this.#replies.length);
      return;
    }
    connection.resume();
    completeMessage(connection, this.intake);
    if (connection.status !== STATUS.idle || (connection.dirty & DIRTY.pipeline) !== 0) this.settings.rollBack();
    if (this.#inSessionMode) connection.dirty |= sessionLeftovers(this.#effects);
    pool.release(connection);
  }

  #to(phase: SessionPhase): void {
    const allowed: readonly SessionPhase[] = SESSION_PHASES[this.phase];
    if (!allowed.includes(phase)) throw new Error(`a session that is ${this.phase} cannot become ${phase}`);
    this.phase = phase;
  }
}
