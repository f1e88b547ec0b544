/** One client after login: takes its messages, finds them a server connection, and returns the replies. */
import type { Socket } from 'node:net';
import { type PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { Cluster } from '../pool/cluster.ts';
import { Lease, type LeaseOwner, type LeaseSource } from '../pool/lease.ts';
import { mayBeHint, parseHint } from '../routing/hints.ts';
import { Router } from '../routing/router.ts';
import type { ServerConnection } from '../server/connection.ts';
import { Exchange, OWED } from '../server/exchange.ts';
import { type SettingsProfile, settingsSql } from '../server/parameters.ts';
import { ClientCounters } from '../stats/counters.ts';
import { CLOSE_COMPLETE, commandComplete, errorResponse, READY_IDLE, readyForQuery } from '../wire/backend.ts';
import { type Framer, PART, type Part } from '../wire/framer.ts';
import { copyFail } from '../wire/frontend.ts';
import { FRONTEND, HEADER_LENGTH, INSPECT_LENGTH_MAX, STATUS } from '../wire/protocol.ts';
import { Batch, type Inspector } from './batch.ts';
import type { Cancelable } from './cancel.ts';
import { forwardBatch } from './forward.ts';
import { answerHint } from './hint.ts';
import { leftovers, sessionLeftovers } from './leftovers.ts';
import { Replies, type RepliesOwner } from './replies.ts';
import { ClientSettings } from './settings.ts';
import { ClientStatements } from './statements.ts';

/** The states of a session and what each may become; drawn in docs/ARCHITECTURE.md. */
export const SESSION_STATES = {
  /** Between exchanges; it holds a connection in a transaction and in session mode. */
  idle: ['waiting', 'active', 'closed'],
  /** A batch waits for a connection, or for a cancel to be settled. */
  waiting: ['idle', 'active', 'closed'],
  /** An exchange is under way. */
  active: ['idle', 'closed'],
  closed: [],
} as const;
export type SessionState = keyof typeof SESSION_STATES;

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

/** What happens to the parts of a long message from the client. */
type Stream = 'forward' | 'drop';

export class Session implements LeaseOwner, Cancelable, RepliesOwner {
  readonly login: SessionLogin;
  readonly counters = new ClientCounters();
  readonly connected_at = performance.now();
  readonly statements = new ClientStatements();
  readonly router: Router;
  readonly settings: ClientSettings;

  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #outbox: Outbox;
  readonly #context: SessionContext;
  readonly #replies: Replies;
  readonly #exchange: Exchange;
  readonly #lease: Lease;
  #cluster: Cluster;
  #batch: Batch;
  #state: SessionState = 'idle';
  #connection: ServerConnection | undefined;
  #pool: LeaseSource | undefined;
  #stream: Stream = 'drop';
  /** Set after an error that no server saw: everything up to the next Sync is ignored. */
  #skipping = false;
  #processing = false;
  #paused = false;
  #draining: PgError | undefined;
  /** An error that is the answer to whatever comes next. */
  #pendingError: PgError | undefined;
  #failedCheckouts = 0;
  /** Effects of all statements so far, for the end of a session-mode client. */
  #effects = 0;
  #started_at = 0;
  #xact_started_at = 0;
  #idle_since = 0;
  #canceled_at = 0;

  constructor(socket: Socket, framer: Framer, outbox: Outbox, login: SessionLogin, context: SessionContext) {
    this.login = login;
    this.#socket = socket;
    this.#framer = framer;
    this.#outbox = outbox;
    this.#context = context;
    this.#cluster = login.cluster;
    this.settings = new ClientSettings(login.profile, login.application_name, login.cluster);
    this.router = new Router(login.cluster.settings);
    this.#batch = this.#newBatch();
    this.#replies = new Replies(this, outbox);
    this.#exchange = new Exchange(this.#replies, false);
    this.#lease = new Lease(this, login.profile);
  }

  /** As the admin database tells it: `active` holds a server connection. */
  get state(): 'idle' | 'waiting' | 'active' {
    if (this.#state === 'waiting') return 'waiting';
    return this.#connection === undefined ? 'idle' : 'active';
  }

  get id(): number {
    return this.login.id;
  }

  get database(): string {
    return this.login.database;
  }

  get user(): string {
    return this.login.user;
  }

  get application_name(): string {
    return this.settings.application_name;
  }

  /** Whether the client has left. */
  get gone(): boolean {
    return this.#state === 'closed';
  }

  get connection(): ServerConnection | undefined {
    return this.#connection;
  }

  get exchange(): Exchange {
    return this.#exchange;
  }

  get batch(): Batch {
    return this.#batch;
  }

  /** Milliseconds that the current wait for a connection has lasted. */
  waiting_ms(now: number): number {
    return this.#state === 'waiting' ? now - this.#lease.since : 0;
  }

  /** Takes over the socket; what the login left unread is served first. */
  start(): void {
    const socket = this.#socket;
    socket.on('data', (chunk: Buffer) => {
      this.#framer.feed(chunk);
      this.process();
    });
    socket.on('error', error => this.#gone(error.message));
    socket.on('close', () => this.#gone('the client closed the connection'));
    this.process();
  }

  /** The client's socket has room again. */
  drained(): void {
    this.#connection?.resume();
    this.process();
  }

  /** Ends the session with an error the client can read. */
  close(error: PgError): void {
    if (this.#state === 'closed') return;
    error.severity = 'FATAL';
    this.#outbox.push(errorResponse(error));
    this.#hangUp(error.message);
  }

  /** Ends the session as soon as it is between transactions: now, or after the exchange that gets it there. */
  drain(error: PgError): void {
    this.#draining = error;
    const holdsWork =
      this.#connection !== undefined && !(this.#inSessionMode && this.#connection.status === STATUS.idle);
    if (this.#state === 'idle' && !holdsWork) this.close(error);
  }

  cancel(): void {
    if (this.#state === 'active') this.#connection?.cancel();
    else if (this.#state === 'waiting' && this.#connection === undefined) {
      this.#cluster.withdraw(this.#lease);
      this.#failBatch(pgError('query_canceled'));
      this.process();
    }
  }

  /** Enforces the time limits that need no precision; called a few times a second. */
  tick(now: number): void {
    const { statement_timeout, idle_client_in_transaction_timeout } = this.#cluster.settings;
    if (this.#state === 'active') {
      if (statement_timeout === 0 || now - this.#started_at < statement_timeout) return;
      if (this.#canceled_at === this.#started_at) return;
      this.#canceled_at = this.#started_at;
      this.#replies.timedOut = true;
      this.#connection?.cancel();
    } else if (this.#state === 'idle' && this.#connection !== undefined && idle_client_in_transaction_timeout > 0) {
      if (this.#connection.status === STATUS.idle || now - this.#idle_since < idle_client_in_transaction_timeout)
        return;
      this.#pendingError = pgError('idle_in_transaction');
      this.#release();
    }
  }

  leased(connection: ServerConnection, pool: LeaseSource): void {
    const now = performance.now();
    this.counters.wait_max_us = Math.max(this.counters.wait_max_us, (now - this.#lease.since) * 1000);
    this.#connection = connection;
    this.#pool = pool;
    connection.holder = this.#replies;
    connection.application_name = this.application_name;
    this.#xact_started_at = now;
    if (!this.#inSessionMode && connection.profile !== this.settings.profile) this.#applyProfile(connection);
    this.#send();
    this.process();
  }

  leaseFailed(error: PgError): void {
    this.counters.error_count++;
    this.#failBatch(error);
    const limit = this.#cluster.settings.checkout_failure_limit ?? 0;
    if (limit > 0 && ++this.#failedCheckouts >= limit)
      this.close(pgError('checkout_limit', this.#failedCheckouts, limit));
    this.process();
  }

  /** The server is done with the exchange. */
  exchangeEnded(status: number): void {
    const now = performance.now();
    const counters = this.#pool?.counters;
    this.counters.query_count++;
    if (this.#connection !== undefined) this.#connection.counters.query_count++;
    if (counters !== undefined) {
      counters.query_count++;
      counters.query_time_us += (now - this.#started_at) * 1000;
    }
    if (status === STATUS.idle) this.#countTransaction(now);
    this.#batch.clear();
    if (this.#state === 'closed') return this.#release();
    this.#to('idle');
    this.#idle_since = now;
    if (status === STATUS.idle && !this.#inSessionMode) this.#release();
    if (this.#draining !== undefined) this.drain(this.#draining);
    this.process();
  }

  /** Sends the batch under way once more, after an error that the client did not see. */
  repeat(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    for (const { type, name, statement } of this.#batch.items) {
      if (type === FRONTEND.parse && statement !== undefined) this.statements.define(name, statement);
    }
    this.#exchange.reset();
    connection.enqueue(this.#exchange);
    forwardBatch(this.#batch, connection, this.#exchange);
  }

  /** The server connection ended under this session; the client is told `error`, and stays if it can. */
  connectionLost(error: PgError): void {
    const pool = this.#pool;
    this.#connection = undefined;
    this.#pool = undefined;
    if (pool !== undefined) pool.counters.errors++;
    if (this.#state === 'closed') return;
    this.counters.error_count++;
    if (error.severity === 'FATAL' || this.#inSessionMode) return this.close(error);
    if (this.#state === 'active') this.#to('idle');
    const { sealed } = this.#exchange;
    this.#fail(error, sealed);
    this.#batch.clear();
    this.process();
  }

  /** Takes messages as long as it may; what it may not take yet stays in the framer and the socket is paused. */
  process(): void {
    if (this.#processing || this.#state === 'closed') return;
    this.#processing = true;
    const framer = this.#framer;
    while (this.#mayTake()) {
      const streamed = framer.streaming;
      const part = framer.next();
      if (part === PART.none) break;
      if (part === PART.bad) this.#refuseLength();
      else if (streamed) this.#passPart();
      else this.#take(part);
    }
    this.#processing = false;
    this.#regulate();
  }

  get #inSessionMode(): boolean {
    return this.#cluster.settings.pool_mode === 'session';
  }

  #mayTake(): boolean {
    if (this.#state === 'closed' || this.#state === 'waiting' || this.#outbox.full) return false;
    const connection = this.#connection;
    if (connection?.full) {
      connection.whenDrained(this);
      return false;
    }
    if (this.#state !== 'active' || !this.#exchange.sealed || this.#framer.streaming) return true;
    return isCopyMessage(this.#framer.nextType);
  }

  /** Reads from the client only while its messages can be taken. */
  #regulate(): void {
    const pause = this.#state !== 'closed' && this.#framer.unread;
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#socket.pause();
    else this.#socket.resume();
  }

  /** A whole message or the head of a long one. */
  #take(part: Part): void {
    const { type } = this.#framer;
    const partial = part === PART.first;
    if (type === FRONTEND.terminate) return this.#hangUp('the client said goodbye');
    if (isCopyMessage(type)) return this.#takeCopy(type, partial);
    if (partial) {
      this.#stream = 'drop';
      if (type !== FRONTEND.query && type !== FRONTEND.bind && type !== FRONTEND.functionCall)
        return this.#refuseLength();
    }
    if (this.#skipping) return this.#skip(type);
    if (this.#pendingError !== undefined) return this.#answerPendingError(type);
    switch (type) {
      case FRONTEND.query:
        return this.#takeQuery(partial);
      case FRONTEND.parse:
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.execute:
      case FRONTEND.close:
        if (this.#add(partial) && (partial || this.#batch.length > INSPECT_LENGTH_MAX)) this.#dispatch(partial);
        return;
      case FRONTEND.functionCall:
        if (this.#add(partial)) this.#dispatch(partial);
        return;
      case FRONTEND.sync:
        return this.#takeSync();
      case FRONTEND.flush:
        if (this.#state === 'active' && this.#exchange.copyIn) return;
        if (this.#batch.empty && this.#state !== 'active') return;
        if (this.#add(false)) this.#dispatch(false);
        return;
      default:
        this.close(pgError('protocol_violation', `invalid frontend message type ${type}`));
    }
  }

  #takeQuery(partial: boolean): void {
    const { buffer, start, end } = this.#framer;
    const from = start + HEADER_LENGTH;
    if (!partial && this.#connection === undefined && this.#batch.empty && mayBeHint(buffer, from, end)) {
      const hint = parseHint(buffer.toString('latin1', from, end - 1));
      if (hint !== undefined) return this.#outbox.push(answerHint(hint, this.router));
    }
    if (!this.#add(partial)) return;
    if (this.#state === 'idle' && this.#deallocate()) return;
    this.#dispatch(partial);
  }

  /** SQL's DEALLOCATE of a statement that the client prepared by protocol, whose name no server knows. */
  #deallocate(): boolean {
    const { query, items } = this.#batch;
    const name = query?.deallocates;
    const status = this.#connection?.status ?? STATUS.idle;
    if (name === undefined || items.length !== 1 || status === STATUS.failed) return false;
    if (this.statements.close(name) === undefined) return false;
    this.#batch.clear();
    this.#outbox.push(commandComplete('DEALLOCATE'));
    this.#outbox.push(readyForQuery(status));
    return true;
  }

  #takeSync(): void {
    if (this.#state === 'active' && this.#exchange.copyIn) return;
    const { items } = this.#batch;
    if (this.#state === 'idle' && this.#connection === undefined && items.every(isLocalClose)) {
      for (const _ of items) this.#outbox.push(CLOSE_COMPLETE);
      this.#batch.clear();
      this.#outbox.push(READY_IDLE);
      return;
    }
    if (this.#add(false)) this.#dispatch(false);
  }

  /** CopyData, CopyDone, CopyFail: for the exchange under way; late ones are ignored, as PostgreSQL does. */
  #takeCopy(type: number, partial: boolean): void {
    if (this.#state !== 'active') {
      this.#stream = 'drop';
      return;
    }
    this.#stream = 'forward';
    this.#passPart();
    if (type !== FRONTEND.copyData && !partial) this.#exchange.owe(OWED.copyEnd);
  }

  #passPart(): void {
    if (this.#stream === 'drop') return;
    const { buffer, start, end } = this.#framer;
    this.#connection?.write(start === 0 && end === buffer.length ? buffer : buffer.subarray(start, end));
  }

  /** Adds the framer's message to the batch; false when it was malformed and the client is gone. */
  #add(partial: boolean): boolean {
    const { type, buffer, start, end } = this.#framer;
    const problem = this.#batch.add(type, buffer, start, end, partial, this.#inspects);
    if (problem === undefined) return true;
    this.close(pgError('protocol_violation', problem));
    return false;
  }

  get #inspects(): boolean {
    return this.#connection === undefined && this.router.splitting;
  }

  /** Sends the batch, as soon as there is a connection to send it to. */
  #dispatch(partial: boolean): void {
    if (partial) this.#stream = 'forward';
    const connection = this.#connection;
    if (this.#state === 'active') return this.#send();
    if (connection === undefined) return this.#claim();
    if (!connection.canceling) return this.#send();
    this.#to('waiting');
    connection.whenCancelsSettled(() => {
      if (this.#state !== 'waiting') return;
      this.#send();
      this.process();
    });
  }

  #claim(): void {
    if (this.#cluster.retired && !this.#changeCluster()) return;
    const shard = this.#cluster.settings.default_shard;
    const { read, runs, sealed } = this.#batch;
    const route = this.router.route({
      read,
      open: runs && !sealed,
      hasReplica: this.#cluster.has('replica', shard),
    });
    this.#lease.role = route.role;
    this.#lease.shard = route.shard;
    this.#lease.startup = this.#inSessionMode ? this.login.profile : this.#cluster.defaults;
    this.#to('waiting');
    this.#cluster.lease(this.#lease);
  }

  /** A reload replaced the cluster: go on with the new one. */
  #changeCluster(): boolean {
    const { database, user } = this.login;
    const cluster = this.#context.clusterFor(database, user);
    if (cluster === undefined) {
      this.close(pgError('pool_removed', database, user));
      return false;
    }
    this.#cluster = cluster;
    this.router.configure(cluster.settings);
    return true;
  }

  #send(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    const batch = this.#batch;
    const exchange = this.#exchange;
    const begins = this.#state !== 'active';
    if (begins) {
      this.#to('active');
      this.#started_at = performance.now();
      exchange.reset();
      connection.enqueue(exchange);
    }
    this.#effects |= batch.effects;
    connection.dirty |= leftovers(batch.effects);
    this.#replies.begin(begins && batch.sealed && connection.status === STATUS.idle && this.#stream === 'drop');
    if (batch.items.length === 1 && batch.items[0].type === FRONTEND.query) this.statements.dropUnnamed();
    forwardBatch(batch, connection, exchange);
    if (!batch.sealed) batch.clear();
  }

  #applyProfile(connection: ServerConnection): void {
    const sql = settingsSql(connection.profile ?? this.#cluster.defaults, this.settings.profile);
    connection.profile = this.settings.profile;
    if (sql === undefined) return;
    // A server has accepted these settings before: the exchange need not wait to see them accepted again.
    connection.inject(sql, error => {
      if (error !== undefined) connection.close(`the server refused this client's settings: ${error.get('M')}`);
    });
  }

  #countTransaction(now: number): void {
    this.counters.xact_count++;
    if (this.#connection !== undefined) this.#connection.counters.xact_count++;
    const counters = this.#pool?.counters;
    if (counters === undefined) return;
    counters.xact_count++;
    counters.xact_time_us += (now - this.#xact_started_at) * 1000;
    this.#xact_started_at = now;
  }

  /** Gives the connection back. */
  #release(): void {
    const connection = this.#connection;
    const pool = this.#pool;
    this.#connection = undefined;
    this.#pool = undefined;
    if (connection === undefined || pool === undefined) return;
    connection.resume();
    if (this.#inSessionMode) connection.dirty |= sessionLeftovers(this.#effects);
    pool.release(connection);
  }

  #failBatch(error: PgError): void {
    this.#to('idle');
    const { sealed } = this.#batch;
    this.#batch.abandon();
    this.#fail(error, sealed);
  }

  /** Answers with an error of pglynx's own; the rest of an unfinished batch is ignored. */
  #fail(error: PgError, sealed: boolean): void {
    this.#stream = 'drop';
    this.#outbox.push(errorResponse(error));
    if (sealed) this.#outbox.push(READY_IDLE);
    else this.#skipping = true;
  }

  #skip(type: number): void {
    if (type !== FRONTEND.sync) return;
    this.#skipping = false;
    this.#outbox.push(READY_IDLE);
  }

  #answerPendingError(type: number): void {
    const error = this.#pendingError;
    this.#pendingError = undefined;
    if (error !== undefined)
      this.#fail(error, type === FRONTEND.query || type === FRONTEND.sync || type === FRONTEND.functionCall);
  }

  #refuseLength(): void {
    const { type, length, length_max } = this.#framer;
    this.close(pgError('message_too_large', String.fromCharCode(type), length, `${length_max} bytes`));
  }

  /** The client is leaving on purpose, or is made to leave. */
  #hangUp(cause: string): void {
    this.#outbox.end();
    this.#gone(cause);
  }

  /** The client is gone: its connection is made fit for the next one. */
  #gone(cause: string): void {
    if (this.#state === 'closed') return;
    const state = this.#state;
    this.#to('closed');
    this.#context.ended(this, cause);
    if (state === 'active') this.#finishExchange();
    else if (this.#connection !== undefined) this.#release();
    else if (state === 'waiting') this.#cluster.withdraw(this.#lease);
    // What the client has not read by then it never will.
    setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
  }

  /** Brings the exchange of a client that is gone to its end: data stops, the statement is cancelled, a Sync closes it. */
  #finishExchange(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    const exchange = this.#exchange;
    exchange.silent = true;
    connection.resume();
    const { remaining } = this.#framer;
    if (remaining > 0 && this.#stream === 'forward') {
      if (remaining > INSPECT_LENGTH_MAX) return connection.close('the client vanished in the middle of a message');
      connection.write(Buffer.alloc(remaining));
    }
    if (exchange.copyIn) {
      connection.write(copyFail('the client vanished'));
      exchange.owe(OWED.copyEnd);
    } else connection.cancel();
    if (!exchange.sealed) {
      this.#batch.clear();
      this.#batch.addSync();
      forwardBatch(this.#batch, connection, exchange);
    }
    const { connect_timeout } = this.#cluster.settings;
    const timer = setTimeout(() => {
      if (this.#connection === connection) connection.close('the statement of a client that vanished did not end');
    }, connect_timeout);
    timer.unref();
  }

  #newBatch(): Batch {
    return new Batch({
      inspector: this.#context.inspector,
      catalog: this.#cluster.statements,
      statements: this.statements,
    });
  }

  #to(state: SessionState): void {
    const allowed: readonly SessionState[] = SESSION_STATES[this.#state];
    if (!allowed.includes(state)) throw new Error(`a ${this.#state} session cannot become ${state}`);
    this.#state = state;
  }
}

/** Milliseconds for the last bytes to reach a client that is being disconnected. */
const LINGER_MS = 2000;

function isCopyMessage(type: number | undefined): boolean {
  return type === FRONTEND.copyData || type === FRONTEND.copyDone || type === FRONTEND.copyFail;
}

/** Whether a batch item is a Close that pglynx answers without asking a server. */
function isLocalClose({
  type,
  nameFrom,
  statement,
  name,
}: {
  type: number;
  nameFrom: number;
  statement: unknown;
  name: string;
}) {
  return type === FRONTEND.close && nameFrom !== 0 && (statement !== undefined || name === '');
}
