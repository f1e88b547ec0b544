/** The time limits of a client that holds a server connection: on its statements, and on its silence. */
import { type PgError, pgError } from '../errors.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Exchange } from '../server/exchange.ts';
import { INSPECT_LENGTH_MAX, STATUS } from '../wire/protocol.ts';
import { completeMessage, failCopyIn, rollBack } from './farewell.ts';
import type { Intake } from './intake.ts';
import type { SessionPhase } from './phases.ts';
import type { Replies } from './replies.ts';

/** The limits, in milliseconds; 0 is none. */
export interface LimitSettings {
  readonly statement_timeout: number;
  readonly idle_client_in_transaction_timeout: number;
}

/** The session that they hold for. */
export interface LimitedOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  /** Ends the session with an error. */
  close(error: PgError): void;
  /** Gives the connection back, whatever state it is in. */
  release(): void;
}

export class TimeLimits {
  /** When the exchange under way began and when the last one ended, on the clock of `performance.now()`. */
  began_at = 0;
  ended_at = 0;

  readonly #owner: LimitedOwner;
  readonly #intake: Intake;
  readonly #replies: Replies;
  /** The `began_at` of the exchange that was cancelled last. */
  #canceled_at = -1;

  constructor(owner: LimitedOwner, intake: Intake, replies: Replies) {
    this.#owner = owner;
    this.#intake = intake;
    this.#replies = replies;
  }

  /** Ends what has taken too long at `now`; called a few times a second. */
  enforce(now: number, { statement_timeout, idle_client_in_transaction_timeout }: LimitSettings): void {
    const { phase, connection, exchange } = this.#owner;
    if (connection === undefined) return;
    if (idle_client_in_transaction_timeout > 0 && this.#silence(now, connection) >= idle_client_in_transaction_timeout)
      this.#endSilence(connection);
    else if (phase === 'active' && statement_timeout > 0 && !exchange.settled && connection.isHead(exchange)) {
      // It has not taken the time that it waited behind others.
      if (now - Math.max(this.began_at, connection.load.head_at) >= statement_timeout) this.#cancel(connection);
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

  #endSilence(connection: ServerConnection): void {
    const { phase, exchange } = this.#owner;
    const error = pgError('idle_in_transaction');
    if (phase === 'idle') {
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

  #cancel(connection: ServerConnection): void {
    if (this.#canceled_at === this.began_at) return;
    this.#canceled_at = this.began_at;
    const error = pgError('statement_timeout');
    if (this.#owner.exchange.copyIn) return this.#failCopyIn(connection, error);
    this.#replies.instead = { error, ofCancel: true };
    connection.cancel();
  }

  /** A server that waits for copy data does not hear of a cancel. */
  #failCopyIn(connection: ServerConnection, error: PgError): void {
    if (this.#intake.remaining > INSPECT_LENGTH_MAX) return this.#owner.close(error);
    this.#replies.instead = { error, ofCancel: false };
    completeMessage(connection, this.#intake);
    failCopyIn(connection, this.#owner.exchange, error.message);
  }
}
