/** How a session ends: with an error, at the client's goodbye, or when its socket closes. */
import type { Socket } from 'node:net';
import type { PgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Exchange } from '../server/exchange.ts';
import { errorResponse } from '../wire/backend.ts';
import type { Batch } from './batch.ts';
import { finishExchange } from './farewell.ts';
import type { Intake } from './intake.ts';
import type { SessionPhase } from './phases.ts';

/** The session that ends. */
export interface DepartingOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  readonly batch: Batch;
  /** Milliseconds. */
  readonly connect_timeout: number;
  /** Cancels what is under way. */
  cancel(): void;
  /** The session is closed from now on. */
  ended(cause: string): void;
  /** Whether it shares the connection with others. */
  readonly shared: boolean;
  /** Leaves its place on a shared connection. */
  leave(): void;
  /** Takes back its claim to a connection. */
  withdraw(): void;
  /** Gives its connection back. */
  release(): void;
}

/** Milliseconds for the last bytes to reach a client that is being disconnected. */
const LINGER_MS = 2000;

export class Departure {
  readonly #owner: DepartingOwner;
  readonly #socket: Socket;
  readonly #outbox: Outbox;
  readonly #intake: Intake;

  constructor(owner: DepartingOwner, socket: Socket, outbox: Outbox, intake: Intake) {
    this.#owner = owner;
    this.#socket = socket;
    this.#outbox = outbox;
    this.#intake = intake;
  }

  /** Ends the session with an error. */
  close(error: PgError): void {
    const { phase, exchange, connection } = this.#owner;
    if (phase === 'closed') return;
    error.severity = 'FATAL';
    // Behind a part of a message it would be taken for the rest of it.
    const inMessage = exchange.torn || (connection?.inMessage === true && connection.isHead(exchange));
    if (!inMessage) this.#outbox.push(errorResponse(error));
    this.hangUp(error.message);
  }

  /** Ends it without a word. */
  hangUp(cause: string): void {
    this.#outbox.end();
    this.#leave(cause);
  }

  /**
   * The client's socket is closed. What it sent before a goodbye takes place as in PostgreSQL, but reads are for nobody;
   * what takes longer than connect_timeout goes on without a place in the pool.
   */
  lose(cause: string): void {
    const owner = this.#owner;
    const isBusy = owner.phase === 'active' || owner.phase === 'waiting';
    if (!isBusy || !this.#intake.endsInGoodbye) return this.#leave(cause);
    this.#outbox.full = false;
    owner.connection?.resume();
    if (owner.batch.read === true) owner.cancel();
    const leave = () => {
      const text = 'a statement went on after its client had said goodbye';
      if (owner.phase === 'active' && !owner.shared) owner.connection?.close(text, new Map([['M', text]]));
      this.#leave(cause);
    };
    setTimeout(leave, owner.connect_timeout).unref();
  }

  /** The client is gone: what it holds is made fit for the next one. */
  #leave(cause: string): void {
    const owner = this.#owner;
    const { phase, connection } = owner;
    if (phase === 'closed') return;
    owner.ended(cause);
    // Nothing has been sent of what waits.
    if (phase === 'waiting') this.#intake.stream = 'drop';
    if (phase === 'waiting' && connection === undefined) owner.withdraw();
    else if (owner.shared) owner.leave();
    else if (phase === 'active' && connection !== undefined) {
      finishExchange(connection, owner.exchange, this.#intake, owner.connect_timeout);
    } else owner.release();
    const socket = this.#socket;
    // What still comes is dropped, so that the end of it is seen.
    socket.resume();
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }
}
