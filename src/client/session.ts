/** One client after login: finds its batches a server connection, holds it as long as it must, and ends in good order. */
import type { Socket } from 'node:net';
import { type PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { Cluster } from '../pool/cluster.ts';
import { Lease, type LeaseOwner, type LeaseSource } from '../pool/lease.ts';
import { Router } from '../routing/router.ts';
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import { Exchange } from '../server/exchange.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import { ClientCounters } from '../stats/counters.ts';
import { errorResponse } from '../wire/backend.ts';
import type { Framer } from '../wire/framer.ts';
import { FRONTEND, STATUS } from '../wire/protocol.ts';
import { Batch, type Inspector, OWN_SYNC } from './batch.ts';
import type { Cancelable } from './cancel.ts';
import { completeMessage, finishExchange } from './farewell.ts';
import { forwardBatch } from './forward.ts';
import { Intake, type IntakeOwner } from './intake.ts';
import { leftovers, sessionLeftovers } from './leftovers.ts';
import { type LimitedOwner, TimeLimits } from './limits.ts';
import { applyProfile } from './profile.ts';
import { Replies, type RepliesOwner } from './replies.ts';
import { ClientSettings } from './settings.ts';
import { ClientStatements } from './statements.ts';

/** The phases of a session and what each may become; drawn in docs/STATES.md. */
export const SESSION_PHASES = {
  /** Between exchanges; it holds a connection in a transaction and in session mode. */
  idle: ['waiting', 'active', 'closed'],
  /** A batch waits for a connection, or for a cancel to be settled. */
  waiting: ['idle', 'active', 'closed'],
  /** An exchange is under way. */
  active: ['idle', 'closed'],
  closed: [],
} as const;
export type SessionPhase = keyof typeof SESSION_PHASES;

/** What a login found out. */
export interface SessionLogin {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly application_name: string;
  readonly cluster: Cluster;
  readonly profile: SettingsProfile;
}

/** What all sessions share. */
export interface SessionContext {
  readonly inspector: Inspector;
  /** The cluster that serves this database and user now; undefined when a reload removed it. */
  clusterFor(database: string, user: string): Cluster | undefined;
  /** The session is over. */
  ended(session: Session, cause: string): void;
}

/** Milliseconds for the last bytes to reach a client that is being disconnected. */
const LINGER_MS = 2000;

export class Session implements LeaseOwner, Cancelable, RepliesOwner, IntakeOwner, LimitedOwner {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly counters = new ClientCounters();
  readonly connected_at = performance.now();
  readonly statements = new ClientStatements();
  readonly settings: ClientSettings;
  readonly router: Router;
  readonly exchange: Exchange;
  phase: SessionPhase = 'idle';
  connection: ServerConnection | undefined;

  readonly #socket: Socket;
  readonly #outbox: Outbox;
  readonly #context: SessionContext;
  readonly #intake: Intake;
  readonly #replies: Replies;
  readonly #limits: TimeLimits;
  readonly #lease: Lease;
  readonly #startup: SettingsProfile;
  #cluster: Cluster;
  #pool: LeaseSource | undefined;
  #draining: PgError | undefined;
  #failedCheckouts = 0;
  /** Effects of all statements so far, for the end of a session-mode client. */
  #effects = 0;
  #xact_started_at = 0;

  constructor(socket: Socket, framer: Framer, outbox: Outbox, login: SessionLogin, context: SessionContext) {
    const { cluster, profile } = login;
    this.id = login.id;
    this.database = login.database;
    this.user = login.user;
    this.settings = new ClientSettings(profile, login.application_name, cluster);
    this.router = new Router(cluster.settings);
    this.#socket = socket;
    this.#outbox = outbox;
    this.#context = context;
    this.#cluster = cluster;
    this.#startup = profile;
    const { inspector } = context;
    const { statements, settings } = this;
    const batch = new Batch({ inspector, catalog: cluster.statements, statements, settings });
    this.#intake = new Intake(this, socket, framer, outbox, batch);
    this.#replies = new Replies(this, outbox);
    this.#limits = new TimeLimits(this, this.#intake, this.#replies);
    this.exchange = new Exchange(this.#replies, false);
    this.#lease = new Lease(this, profile);
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
    return this.#intake.batch;
  }

  get pipelines(): boolean {
    return this.#intake.pipelines;
  }

  get #inSessionMode(): boolean {
    return this.#cluster.settings.pool_mode === 'session';
  }

  /** Milliseconds that the current wait for a connection has lasted. */
  waiting_ms(now: number): number {
    return this.phase === 'waiting' ? now - this.#lease.since : 0;
  }

  /** Takes over the socket; what the login left unread is served first. */
  start(): void {
    const socket = this.#socket;
    let cause = 'the client closed the connection';
    socket.on('data', (chunk: Buffer) => this.#intake.feed(chunk));
    socket.on('error', error => {
      cause = error.message;
    });
    socket.on('close', () => this.#lose(cause));
    this.process();
  }

  process(): void {
    this.#intake.process();
  }

  /** The client's socket has room again. */
  drained(): void {
    this.connection?.resume();
    this.process();
  }

  close(error: PgError): void {
    if (this.phase === 'closed') return;
    error.severity = 'FATAL';
    // Behind a part of a message it would be taken for the rest of it.
    const inMessage = this.exchange.torn || this.connection?.inMessage === true;
    if (!inMessage) this.#outbox.push(errorResponse(error));
    this.hangUp(error.message);
  }

  hangUp(cause: string): void {
    this.#outbox.end();
    this.#leave(cause);
  }

  /** Ends the session as soon as it is between transactions: now, or after the exchange that gets it there. */
  drain(error: PgError): void {
    this.#draining = error;
    const inTransaction = this.connection !== undefined && this.connection.status !== STATUS.idle;
    if (this.phase === 'idle' && !inTransaction) this.close(error);
  }

  cancel(): void {
    if (this.phase === 'active') this.connection?.cancel();
    else if (this.phase === 'waiting' && this.connection === undefined) {
      this.#cluster.withdraw(this.#lease);
      this.#to('idle');
      this.#intake.failBatch(pgError('query_canceled'));
      this.process();
    }
  }

  /** Enforces the time limits that need no precision; called a few times a second. */
  tick(now: number): void {
    this.#limits.enforce(now, this.#cluster.settings);
  }

  dispatch(): void {
    const connection = this.connection;
    if (this.phase === 'active') this.#send();
    else if (connection === undefined) this.#claim();
    else if (connection.canceling) {
      this.#to('waiting');
      connection.whenCancelsSettled(() => {
        if (this.phase !== 'waiting') return;
        this.#send();
        this.process();
      });
    } else this.#send();
  }

  leased(connection: ServerConnection, pool: LeaseSource): void {
    const now = performance.now();
    this.counters.wait_max_us = Math.max(this.counters.wait_max_us, (now - this.#lease.since) * 1000);
    this.connection = connection;
    this.#pool = pool;
    connection.holder = this.#replies;
    this.settings.begin();
    connection.application_name = this.settings.application_name;
    this.#xact_started_at = now;
    if (this.#inSessionMode || connection.profile === this.settings.profile || this.#applyProfile(connection)) {
      this.#send();
      this.process();
    }
  }

  leaseFailed(error: PgError): void {
    this.counters.error_count++;
    this.#to('idle');
    // Statements sent behind this one may rely on it: without a transaction that never began, say.
    if (this.pipelines) return this.close(error);
    this.#intake.failBatch(error);
    const limit = this.#cluster.settings.checkout_failure_limit ?? 0;
    if (limit > 0 && ++this.#failedCheckouts >= limit)
      this.close(pgError('checkout_limit', this.#failedCheckouts, limit));
    this.process();
  }

  exchangeEnded(status: number): void {
    const now = performance.now();
    this.#count(status, now);
    this.batch.clear();
    if (this.phase === 'closed') return this.release();
    this.#to('idle');
    this.#limits.ended_at = now;
    if (this.exchange.skipping) this.#intake.skip();
    if (status === STATUS.idle && !this.#inSessionMode) this.release();
    if (this.#draining !== undefined) this.drain(this.#draining);
    this.process();
  }

  serverFailed(message: Buffer): void {
    this.#intake.serverFailed(message);
    // The server may wait for a Sync that the client has yet to send.
    if (!this.exchange.sealed && this.batch.sealed) this.batch.clear();
    this.process();
  }

  repeat(): void {
    const { connection, batch, exchange } = this;
    if (connection === undefined) return;
    for (const { type, name, statement, taken, undo } of batch.items) {
      if (statement !== undefined && statement === connection.statements.unnamed)
        connection.statements.unnamed = undefined;
      if (type === FRONTEND.parse && statement !== undefined && taken === undefined) {
        this.statements.define(name, statement);
      } else if (type === FRONTEND.close || type === FRONTEND.query) this.statements.close(name);
      else if (type === FRONTEND.execute && undo !== undefined) this.statements.drop(name);
    }
    exchange.reset();
    connection.enqueue(exchange);
    forwardBatch(batch, connection, exchange);
  }

  connectionLost(error: PgError, crashed: boolean): void {
    const pool = this.#pool;
    this.connection = undefined;
    this.#pool = undefined;
    // A connection that pglynx closed after a client that vanished says nothing of the server.
    if (this.phase === 'closed') return;
    if (crashed) pool?.lost(error.message);
    this.counters.error_count++;
    if (error.severity === 'FATAL' || this.#inSessionMode) return this.close(error);
    if (this.phase !== 'active') return;
    this.#to('idle');
    this.batch.clear();
    this.#intake.fail(error, this.exchange.isAwaited);
    this.process();
  }

  #claim(): void {
    if (this.#cluster.retired && !this.#changeCluster()) return;
    const { read, sealed, preparesOnly } = this.batch;
    const shard = this.#cluster.firstShard;
    const hasReplica = this.#cluster.has('replica', shard);
    const session = this.#inSessionMode;
    const route = this.router.route({ shard, read, open: !sealed && !preparesOnly, session, hasReplica });
    this.#lease.role = route.role;
    this.#lease.shard = route.shard;
    this.#lease.startup = this.#inSessionMode ? this.#startup : this.#cluster.defaults;
    this.#to('waiting');
    this.#cluster.lease(this.#lease);
  }

  /** A reload replaced the cluster: go on with the new one. */
  #changeCluster(): boolean {
    const cluster = this.#context.clusterFor(this.database, this.user);
    if (cluster === undefined) {
      this.close(pgError('pool_removed', this.database, this.user));
      return false;
    }
    this.#cluster = cluster;
    this.router.configure(cluster.settings);
    return true;
  }

  #send(): void {
    const { connection, batch, exchange } = this;
    if (connection === undefined) return;
    const begins = this.phase !== 'active';
    if (begins) {
      this.#to('active');
      this.#limits.began_at = performance.now();
      exchange.reset();
      connection.enqueue(exchange);
    }
    this.#effects |= batch.effects;
    connection.dirty |= leftovers(batch.effects);
    const isApart = begins && connection.status === STATUS.idle;
    if (isApart && batch.preparesOnly) batch.sealItself();
    const last = batch.items.at(-1)?.type;
    this.#replies.begin(isApart && (last === FRONTEND.sync || last === OWN_SYNC));
    forwardBatch(batch, connection, exchange);
    if (!batch.sealed || exchange.skipping) batch.clear();
  }

  /** Whether the batch may follow at once. */
  #applyProfile(connection: ServerConnection): boolean {
    return applyProfile(connection, this.settings.profile, this.#cluster.defaults, refusal => {
      if (this.phase !== 'waiting' || this.connection !== connection) return;
      if (refusal !== undefined) {
        connection.holder = undefined;
        this.connection = undefined;
        this.#pool = undefined;
        return this.leaseFailed(refusal);
      }
      this.#send();
      this.process();
    });
  }

  #count(status: number, now: number): void {
    const query_time_us = (now - this.#limits.began_at) * 1000;
    const inTransaction = status !== STATUS.idle;
    this.counters.query_count++;
    if (!inTransaction) this.counters.xact_count++;
    const { connection } = this;
    if (connection !== undefined) {
      connection.counters.query_count++;
      if (!inTransaction) connection.counters.xact_count++;
    }
    const counters = this.#pool?.counters;
    if (counters === undefined) return;
    counters.query_count++;
    counters.query_time_us += query_time_us;
    if (inTransaction) return;
    counters.xact_count++;
    counters.xact_time_us += (now - this.#xact_started_at) * 1000;
    this.#xact_started_at = now;
  }

  /** Gives the connection back. */
  release(): void {
    const connection = this.connection;
    const pool = this.#pool;
    this.connection = undefined;
    this.#pool = undefined;
    if (connection === undefined || pool === undefined) return;
    connection.resume();
    completeMessage(connection, this.#intake);
    if (connection.status !== STATUS.idle || (connection.dirty & DIRTY.pipeline) !== 0) this.settings.rollBack();
    if (this.#inSessionMode) connection.dirty |= sessionLeftovers(this.#effects);
    pool.release(connection);
  }

  /**
   * The client's socket is closed. What it sent before a goodbye takes place as in PostgreSQL, but reads are for nobody;
   * what takes longer than connect_timeout goes on without a place in the pool.
   */
  #lose(cause: string): void {
    const isBusy = this.phase === 'active' || this.phase === 'waiting';
    if (!isBusy || !this.#intake.endsInGoodbye) return this.#leave(cause);
    this.#outbox.full = false;
    this.connection?.resume();
    if (this.batch.read === true) this.cancel();
    const leave = () => {
      const text = 'a statement went on after its client had said goodbye';
      if (this.phase === 'active') this.connection?.close(text, new Map([['M', text]]));
      this.#leave(cause);
    };
    setTimeout(leave, this.#cluster.settings.connect_timeout).unref();
  }

  /** The client is gone: what it holds is made fit for the next one. */
  #leave(cause: string): void {
    if (this.phase === 'closed') return;
    const { phase, connection } = this;
    this.#to('closed');
    this.#context.ended(this, cause);
    // Nothing has been sent of what waits.
    if (phase === 'waiting') this.#intake.stream = 'drop';
    if (phase === 'waiting' && connection === undefined) this.#cluster.withdraw(this.#lease);
    else if (phase === 'active' && connection !== undefined) {
      finishExchange(connection, this.exchange, this.#intake, this.#cluster.settings.connect_timeout);
    } else this.release();
    const socket = this.#socket;
    // What still comes is dropped, so that the end of it is seen.
    socket.resume();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }

  #to(phase: SessionPhase): void {
    const allowed: readonly SessionPhase[] = SESSION_PHASES[this.phase];
    if (!allowed.includes(phase)) throw new Error(`a session that is ${this.phase} cannot become ${phase}`);
    this.phase = phase;
  }
}
