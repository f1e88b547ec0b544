/** The time limits of a client: on its statements, its transactions, its waits for a connection, and its silence. */
import { type PgError, pgError } from '../errors.ts';
import { addressText } from '../net/address.ts';
import type { Outbox } from '../net/outbox.ts';
import type { Lease } from '../pool/lease.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Exchange } from '../server/exchange.ts';
import { noticeResponse } from '../wire/backend.ts';
import { INSPECT_LENGTH_MAX, STATUS } from '../wire/protocol.ts';
import type { Batch } from './batch.ts';
import { completeMessage, failCopyIn, rollBack } from './farewell.ts';
import type { Intake } from './intake.ts';
import { lossError, OUTCOME_UNKNOWN } from './loss.ts';
import type { SessionPhase } from './phases.ts';
import type { Replies } from './replies.ts';
import type { Waiting } from './waiting.ts';

/** The limits, in milliseconds; 0 is none. */
export interface TimeSettings {
  readonly statement_timeout: number;
  readonly idle_client_in_transaction_timeout: number;
  readonly limits: {
    readonly query_timeout: number;
    readonly transaction_timeout: number;
    readonly client_idle_timeout: number;
    readonly query_wait_timeout: number | undefined;
    readonly query_wait_notify: number;
  };
}

/** The session that they hold for. */
export interface LimitedOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  readonly claim: { readonly lease: Lease };
  readonly retries: { canceled: boolean };
  readonly batch: Batch;
  /** Transaction status as the client knows it. */
  readonly status: number;
  /** Ends the session with an error. */
  close(error: PgError): void;
  /** Gives the connection back, whatever state it is in. */
  release(): void;
}

/** Milliseconds for a cancel to end a statement; then its client is disconnected, and the connection sees to its own end. */
const HEED_MS = 5000;
/** Milliseconds for the queue of a pool to end a wait itself. */
const QUEUE_MS = 500;

export class TimeLimits {
  /** When the exchange under way began and when the last one ended, on the clock of `performance.now()`. */
  began_at = 0;
  ended_at = performance.now();

  readonly #owner: LimitedOwner;
  readonly #intake: Intake;
  readonly #replies: Replies;
  readonly #outbox: Outbox;
  readonly #waiting: Waiting;
  /** When the client asked for what is under way. */
  #asked_at = 0;
  /** When the transaction under way began; 0 outside one. */
  #xact_began_at = 0;
  /** The `#asked_at` of what was cancelled last. */
  #canceled_at = -1;
  /** When that was. */
  #cancel_sent_at = 0;
  /** When the wait began of which the client was told last. */
  #notified_since = -1;

  constructor(owner: LimitedOwner, intake: Intake, replies: Replies, outbox: Outbox, waiting: Waiting) {
    this.#owner = owner;
    this.#intake = intake;
    this.#replies = replies;
    this.#outbox = outbox;
    this.#waiting = waiting;
  }

  /** A batch is taken up: it has come by now, and what was before it is over. */
  ask(): void {
    this.#asked_at = Math.max(this.#intake.fed_at, this.ended_at);
  }

  /** An exchange is over, and leaves this transaction status. */
  exchangeEnded(status: number, now: number): void {
    this.ended_at = now;
    if (status === STATUS.idle) this.#xact_began_at = 0;
    else if (this.#xact_began_at === 0) this.#xact_began_at = this.began_at;
  }

  /** Ends what has taken too long at `now`; called a few times a second. */
  enforce(now: number, settings: TimeSettings): void {
    const { statement_timeout, idle_client_in_transaction_timeout, limits } = settings;
    const { phase, connection, status, exchange } = this.#owner;
    if (phase === 'closed') return;
    // Whom nobody listens to is not silent.
    if (this.#intake.suspended) this.#intake.fed_at = now;
    const { transaction_timeout } = limits;
    if (this.#xact_began_at > 0 && isOver(transaction_timeout, now - this.#xact_began_at))
      return this.#owner.close(pgError('transaction_timeout', transaction_timeout));
    // Who has asked for nothing more is silent, not slow.
    const isAsked = phase === 'waiting' || (phase === 'active' && !exchange.settled);
    if (isAsked && isOver(limits.query_timeout, now - this.#asked_at))
      return this.#endQuery(connection, pgError('query_timeout', limits.query_timeout));
    if (phase === 'idle' && status === STATUS.idle) return this.#endIdleness(now, limits.client_idle_timeout);
    if (connection === undefined) return this.#endWait(now, limits);
    if (isOver(idle_client_in_transaction_timeout, this.#silence(now, connection))) this.#endSilence(connection);
    else if (isOver(statement_timeout, this.#worked(now, connection)))
      this.#cancel(connection, pgError('statement_timeout', statement_timeout));
  }

  /** The client says nothing, and nothing is open. */
  #endIdleness(now: number, client_idle_timeout: number): void {
    const silent_ms = now - Math.max(this.ended_at, this.#intake.fed_at);
    // Who still reads a reply is not idle.
    if (isOver(client_idle_timeout, silent_ms) && this.#outbox.unsent_bytes === 0)
      this.#owner.close(pgError('client_idle', client_idle_timeout));
  }

  /** The client waits for a connection. */
  #endWait(now: number, { query_wait_timeout = 0, query_wait_notify }: TimeSettings['limits']): void {
    const { phase, claim } = this.#owner;
    if (phase !== 'waiting') return;
    const { since, pool, queued } = claim.lease;
    // The queue of a pool ends it by itself, and knows why.
    const grace_ms = queued ? QUEUE_MS : 0;
    if (isOver(query_wait_timeout, now - since - grace_ms)) {
      const trouble = pool?.refusal === undefined ? '' : `; another could not be opened: ${pool.refusal}`;
      this.#waiting.end(pgError('query_wait_timeout', query_wait_timeout, trouble));
    } else if (isOver(query_wait_notify, now - since) && this.#notified_since !== since) {
      this.#notified_since = since;
      this.#outbox.push(noticeResponse('no server connection is free; the statement waits for one'));
    }
  }

  /** Milliseconds for which the server, in a transaction, a batch or a COPY, has waited for the client. */
  #silence(now: number, connection: ServerConnection): number {
    const { phase, exchange } = this.#owner;
    const { fed_at } = this.#intake;
    if (phase === 'idle' && connection.status !== STATUS.idle) return now - Math.max(this.ended_at, fed_at);
    if (phase === 'active' && exchange.awaitsClient) return now - Math.max(connection.used_at, fed_at);
    return 0;
  }

  /** Milliseconds for which the server has worked on what the client asked for; not those that it waited behind others. */
  #worked(now: number, connection: ServerConnection): number {
    const { phase, exchange } = this.#owner;
    if (phase !== 'active' || exchange.settled || !connection.isHead(exchange)) return 0;
    return now - Math.max(this.began_at, this.#asked_at, connection.load.head_at);
  }

  #endSilence(connection: ServerConnection): void {
    const { phase, exchange } = this.#owner;
    const error = pgError('idle_in_transaction');
    if (phase === 'idle') {
      this.#xact_began_at = 0;
      this.#intake.failNext(error);
      this.#owner.release();
    } else if (exchange.copyIn) this.#failCopyIn(connection, error);
    else {
      if (exchange.skipping) this.#intake.skip();
      else this.#intake.fail(error, false);
      exchange.silent = true;
      rollBack(connection, exchange);
    }
  }

  #endQuery(connection: ServerConnection | undefined, error: PgError): void {
    const { phase } = this.#owner;
    if (this.#waiting.giveUp(error) || connection === undefined) return;
    if (phase === 'active') return this.#cancel(connection, error);
    // What goes in front of it is under way: it is canceled when it is sent itself.
    this.#replies.instead = { error, ofCancel: true };
    this.#owner.retries.canceled = true;
  }

  /** Cancels what is under way, once; nothing of others, and it is not sent again. */
  #cancel(connection: ServerConnection, error: PgError): void {
    const now = performance.now();
    if (this.#canceled_at === this.#asked_at) {
      // The server does not heed it, or cannot since the client does not read what came before.
      if (now - this.#cancel_sent_at > HEED_MS) this.#owner.close(this.#doubt(connection, error));
      return;
    }
    this.#canceled_at = this.#asked_at;
    this.#cancel_sent_at = now;
    const { exchange, retries } = this.#owner;
    if (exchange.copyIn) return this.#failCopyIn(connection, error);
    retries.canceled = true;
    this.#replies.instead = { error, ofCancel: true };
    connection.cancelExchange(exchange);
  }

  /** What the client of a statement that goes on is told: whether it takes effect is not known, unless it only reads. */
  #doubt(connection: ServerConnection, error: PgError): PgError {
    const { host, port } = connection.options;
    const inTransaction = connection.status !== STATUS.idle;
    const cause = `${error.message}, and the server did not end it`;
    const { batch } = this.#owner;
    const loss = lossError({ server: addressText(host, port), cause, active: true, inTransaction, cut: true, batch });
    return loss.sqlstate === OUTCOME_UNKNOWN ? loss : error;
  }

  /** A server that waits for copy data does not hear of a cancel. */
  #failCopyIn(connection: ServerConnection, error: PgError): void {
    if (this.#intake.remaining > INSPECT_LENGTH_MAX) return this.#owner.close(error);
    this.#replies.instead = { error, ofCancel: false };
    completeMessage(connection, this.#intake);
    failCopyIn(connection, this.#owner.exchange, error.message);
  }
}

function isOver(limit_ms: number, time_ms: number): boolean {
  return limit_ms > 0 && time_ms >= limit_ms;
}
