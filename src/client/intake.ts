/** Takes one client's messages out of the byte stream, gathers them into batches, and answers what needs no server. */
import type { Socket } from 'node:net';
import { errorText, type PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { ServerConnection } from '../server/connection.ts';
import { COUNT_SYNCS, type Exchange, OWED } from '../server/exchange.ts';
import { errorResponse, readyForQuery } from '../wire/backend.ts';
import { type Framer, PART } from '../wire/framer.ts';
import { copyFail, FLUSH, SYNC, TERMINATE } from '../wire/frontend.ts';
import { FRONTEND, INSPECT_LENGTH_MAX, SHORT_LENGTH_MAX } from '../wire/protocol.ts';
import { type AnsweredOwner, Answers } from './answers.ts';
import type { Batch } from './batch.ts';
import type { Opening } from './opening.ts';
import type { SessionPhase } from './phases.ts';

/** The session that the messages belong to. */
export interface IntakeOwner extends AnsweredOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  readonly opening: Opening;
  /** Whether every statement must be inspected, also those for a connection that the client holds. */
  readonly inspects: boolean;
  /** A message comes, perhaps the first of a batch; false when the session is over. */
  begins(): boolean;
  /** The batch is to be sent as soon as there is a connection for it. */
  dispatch(): void;
  /** Ends the session with an error. */
  close(error: PgError): void;
  /** The client said that it leaves. */
  hangUp(cause: string): void;
}

export class Intake {
  readonly batch: Batch;
  /** What happens to the parts of a long message: they follow its head to the server, or go nowhere. */
  stream: 'forward' | 'drop' = 'drop';
  /** Milliseconds of `performance.now()` when a byte last came. */
  fed_at = 0;

  readonly #owner: IntakeOwner;
  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #outbox: Outbox;
  readonly #answers: Answers;
  /** Set after an error that no server saw: everything up to the next Sync is ignored. */
  #skipping = false;
  /** The error of a batch that is being ignored and may have begun a transaction. */
  #unbegun: PgError | undefined;
  /** An error that is the answer to whatever comes next. */
  #pendingError: PgError | undefined;
  /** Type byte of a message that PostgreSQL does not take among copy data, once the COPY was made to fail for it. */
  #copyViolation: number | undefined;
  /** Whether a message waits for the end of a COPY. */
  #awaitingCopy = false;
  #processing = false;
  #paused = false;
  /** Set by SUSPEND: nothing more is taken, or read. */
  suspended = false;

  constructor(owner: IntakeOwner, socket: Socket, framer: Framer, outbox: Outbox, batch: Batch) {
    this.#owner = owner;
    this.#socket = socket;
    this.#framer = framer;
    this.#outbox = outbox;
    this.batch = batch;
    this.#answers = new Answers(owner, outbox, batch);
  }

  /** Type byte of the client's current message. */
  get type(): number {
    return this.#framer.type;
  }

  /** Bytes of it that have not come yet. */
  get remaining(): number {
    return this.#framer.remaining;
  }

  /** Whether what the client has sent ends in a Terminate that has not been taken yet. */
  get endsInGoodbye(): boolean {
    return this.#framer.endsIn(TERMINATE);
  }

  /** Whether more of the client's messages are here than may be taken now. */
  get pipelines(): boolean {
    return this.#framer.isAhead;
  }

  /** Whether everything that is for the client has left the process. */
  get flushed(): boolean {
    return this.#outbox.unsent_bytes === 0;
  }

  /** Adds bytes from the client. */
  feed(chunk: Buffer): void {
    if (this.#owner.phase === 'closed') return;
    this.fed_at = performance.now();
    this.#framer.feed(chunk);
    this.process();
  }

  /** Takes messages as long as it may; what it may not take yet stays in the framer, and the socket is paused. */
  process(): void {
    if (this.#processing) return;
    this.#processing = true;
    try {
      while (this.#mayTake() && this.#next());
      this.#countSyncs();
    } catch (error) {
      this.#owner.close(pgError('internal', errorText(error)));
    } finally {
      this.#processing = false;
    }
    this.#regulate();
  }

  /** Takes the next part; false when there is none. */
  #next(): boolean {
    const streamed = this.#framer.streaming;
    const part = this.#framer.next();
    if (part === PART.none) {
      const type = this.#framer.nextType;
      // Nobody waits for the rest of what cannot be a message.
      if (type !== undefined && !TYPES.has(type)) this.#refuseType(type);
      return false;
    }
    if (part === PART.bad) this.#refuseLength(`${this.#framer.length_max} bytes`);
    else if (streamed) this.#pass();
    else this.#take(part === PART.first);
    return true;
  }

  /**
   * Answers with an error of pglynx's own; the rest of an unfinished batch is ignored. `begins` when what fails may have
   * begun a transaction: what was sent behind it would run by itself, so that a client that has sent more is ended.
   */
  fail(error: PgError, sealed: boolean, begins = false): void {
    const { commands, opening } = this.#owner;
    const isUnbegun = begins && opening.statement === undefined;
    this.stream = 'drop';
    this.#copyViolation = undefined;
    commands.end();
    opening.fail();
    if (isUnbegun && sealed && this.pipelines) return this.#owner.close(error);
    this.#unbegun = isUnbegun && !sealed ? error : undefined;
    this.#outbox.push(errorResponse(error));
    if (sealed) this.#outbox.push(readyForQuery(this.#owner.status));
    else this.#skipping = true;
  }

  /** An error came from the server: the client cannot go on if its own violation of copy mode is the cause. */
  serverFailed(message: Buffer): void {
    const type = this.#copyViolation;
    this.#copyViolation = undefined;
    if (type !== undefined && message.includes(VIOLATION)) {
      const code = type.toString(16).toUpperCase().padStart(2, '0');
      this.#owner.close(pgError('protocol_violation', `unexpected message type 0x${code} during COPY from stdin`));
    }
  }

  /** The exchange is over, and the server would now skip everything up to the next Sync. */
  skip(): void {
    this.#skipping = true;
  }

  /** Answers the batch that waits with an error; nothing of it has taken place. */
  failBatch(error: PgError): void {
    const { isAwaited, mayBegin } = this.batch;
    this.batch.abandon();
    this.fail(error, isAwaited, mayBegin);
  }

  /** Answers whatever comes next with an error, as the rest of a batch that was begun. */
  failNext(error: PgError): void {
    this.batch.abandon();
    this.#pendingError = error;
  }

  #mayTake(): boolean {
    const { phase, connection, exchange } = this.#owner;
    if (phase === 'closed' || phase === 'waiting' || this.#outbox.full || this.suspended) return false;
    if (connection?.full) {
      connection.whenDrained(this);
      return false;
    }
    if (this.#framer.streaming) return true;
    const type = this.#framer.nextType;
    if (phase !== 'active') return !this.#sendsBefore(type);
    if (exchange.copyIn) return this.#mayTakeInCopy(type);
    if (exchange.sealed) return isCopyMessage(type);
    if (this.#awaitsCopy(type)) return false;
    return this.#copyViolation === undefined && !this.#sendsBefore(type);
  }

  /** A COPY may begin without Sync or Flush: what stands before its data is sent. Whether taking must wait for that. */
  #sendsBefore(type: number | undefined): boolean {
    if (!isCopyMessage(type) || this.batch.empty) return false;
    this.#owner.dispatch();
    return this.#owner.phase !== 'active';
  }

  /** Anything but data, Sync, Flush and Terminate ends the client, unless the COPY has failed before it is read. */
  #mayTakeInCopy(type: number | undefined): boolean {
    const { connection, exchange } = this.#owner;
    const refused = this.batch.empty ? type : this.batch.items[0].type;
    if (refused === undefined || COPYING.has(refused)) return true;
    this.#copyViolation = refused;
    connection?.write(copyFail(VIOLATION));
    exchange.owe(OWED.copyEnd);
    return false;
  }

  /** Behind a COPY that may have failed, whether the server skips a message must be known before it is sent. */
  #awaitsCopy(type: number | undefined): boolean {
    const { connection, exchange } = this.#owner;
    const waits = exchange.undecided && type !== undefined && !COPYING.has(type);
    // The server says how the COPY ended at the next Flush only.
    if (waits && !this.#awaitingCopy) connection?.write(FLUSH);
    this.#awaitingCopy = waits;
    return waits;
  }

  /** After a failed COPY: asks which Syncs count, as soon as the server is not in the middle of a message. */
  #countSyncs(): void {
    const { connection, exchange } = this.#owner;
    if (!exchange.unclear || (this.#framer.streaming && this.stream === 'forward')) return;
    exchange.unclear = false;
    connection?.write(COUNT_SYNCS);
  }

  /** The server's socket has room again. */
  drained(): void {
    this.process();
  }

  /** Reads from the client only while its messages can be taken. */
  #regulate(): void {
    const pause = this.#owner.phase !== 'closed' && (this.#framer.unread || this.suspended);
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#socket.pause();
    else this.#socket.resume();
  }

  /** A whole message, or the head of a long one. */
  #take(partial: boolean): void {
    const { type, length } = this.#framer;
    if (length > SHORT_LENGTH_MAX && SHORT.has(type)) return this.#refuseLength(`${SHORT_LENGTH_MAX} bytes`);
    if (type === FRONTEND.terminate) return this.#owner.hangUp('the client said goodbye');
    if (isCopyMessage(type)) return this.#takeCopy(type);
    this.stream = 'drop';
    if (partial && type === FRONTEND.parse) return this.#refuseLength('general.max_message_size');
    if (this.#skipping) return this.#skip(type);
    if (this.#pendingError !== undefined) return this.#answerPendingError(type);
    if (!this.#owner.begins() || this.#answers.takesCommand(this.#framer, partial)) return;
    switch (type) {
      case FRONTEND.query:
        return this.#takeQuery(partial);
      case FRONTEND.parse:
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.execute:
      case FRONTEND.close:
        // A batch that grows without a Sync is sent as it comes: it is bounded, and the server works meanwhile.
        if (this.#add(partial) && (partial || this.batch.length > INSPECT_LENGTH_MAX)) this.#dispatch(partial);
        return;
      case FRONTEND.functionCall:
        if (this.#add(partial)) this.#dispatch(partial);
        return;
      case FRONTEND.sync:
        return this.#takeSync();
      case FRONTEND.flush:
        return this.#takeFlush();
      default:
        this.#refuseType(type);
    }
  }

  #takeQuery(partial: boolean): void {
    if (!this.#add(partial)) return;
    if (this.#owner.phase === 'idle' && this.#answers.takesQuery()) return;
    this.#dispatch(partial);
  }

  #takeSync(): void {
    const { phase, connection, exchange } = this.#owner;
    if (phase === 'active' && exchange.copyIn) {
      connection?.write(SYNC);
      return exchange.owe(OWED.copySync);
    }
    if (phase === 'idle' && connection === undefined && this.#answers.takesSync()) return;
    if (this.#add(false)) this.#dispatch(false);
  }

  #takeFlush(): void {
    const { phase, exchange } = this.#owner;
    if (phase === 'active' ? exchange.copyIn : this.batch.empty) return;
    if (this.#add(false)) this.#dispatch(false);
  }

  /** CopyData, CopyDone, CopyFail: for the exchange under way; late ones are ignored, as PostgreSQL does. */
  #takeCopy(type: number): void {
    if (this.#owner.phase !== 'active') {
      this.stream = 'drop';
      return;
    }
    this.stream = 'forward';
    this.#pass();
    if (type !== FRONTEND.copyData) this.#owner.exchange.owe(OWED.copyEnd);
  }

  #pass(): void {
    if (this.stream === 'drop') return;
    const { buffer, start, end } = this.#framer;
    this.#owner.connection?.write(start === 0 && end === buffer.length ? buffer : buffer.subarray(start, end));
  }

  /** Adds the framer's message to the batch; false when it was malformed and the client is gone. */
  #add(partial: boolean): boolean {
    const { type, buffer, start, end } = this.#framer;
    if (this.batch.add(type, buffer, start, end, partial, this.#owner.inspects)) return true;
    this.#owner.close(pgError('protocol_violation', 'invalid string in message'));
    return false;
  }

  #dispatch(partial: boolean): void {
    if (partial) this.stream = 'forward';
    this.#owner.dispatch();
  }

  #skip(type: number): void {
    if (type !== FRONTEND.sync) return;
    this.#skipping = false;
    const error = this.#unbegun;
    this.#unbegun = undefined;
    if (error !== undefined && this.pipelines) return this.#owner.close(error);
    this.#outbox.push(readyForQuery(this.#owner.status));
  }

  #answerPendingError(type: number): void {
    const error = this.#pendingError;
    this.#pendingError = undefined;
    // What was sent behind it was meant for the transaction that is over.
    if (error !== undefined) this.fail(error, SEALING.has(type), true);
  }

  #refuseType(type: number): void {
    this.#owner.close(pgError('protocol_violation', `invalid frontend message type ${type}`));
  }

  #refuseLength(limit: string): void {
    const { type, length } = this.#framer;
    this.#owner.close(pgError('message_too_large', String.fromCharCode(type), length, limit));
  }
}

/** What a server may be sent while it takes copy data, and what ends the client. */
const COPYING = new Set<number>([
  FRONTEND.copyData,
  FRONTEND.copyDone,
  FRONTEND.copyFail,
  FRONTEND.sync,
  FRONTEND.flush,
  FRONTEND.terminate,
]);
/** The reason of a CopyFail that pglynx sends by itself; comes back in the server's error. */
const VIOLATION = 'pglynx: the client sent something that is no copy data';
/** Messages that a client may send after its login. */
const TYPES = new Set<number>(Object.values(FRONTEND).filter(type => type !== FRONTEND.password));
/** Messages that PostgreSQL takes up to {@link SHORT_LENGTH_MAX} only: a longer one would cost a server connection. */
const SHORT = new Set<number>([
  FRONTEND.close,
  FRONTEND.copyDone,
  FRONTEND.copyFail,
  FRONTEND.describe,
  FRONTEND.execute,
  FRONTEND.flush,
  FRONTEND.sync,
]);
/** Messages that ReadyForQuery answers. */
const SEALING = new Set<number>([FRONTEND.query, FRONTEND.sync, FRONTEND.functionCall]);

function isCopyMessage(type: number | undefined): boolean {
  return type === FRONTEND.copyData || type === FRONTEND.copyDone || type === FRONTEND.copyFail;
}
