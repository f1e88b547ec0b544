/** Takes one client's messages out of the byte stream, gathers them into batches, and answers what needs no server. */
import type { Socket } from 'node:net';
import { errorText, type PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import { mayBeHint, parseHint } from '../routing/hints.ts';
import type { Router } from '../routing/router.ts';
import type { ServerConnection } from '../server/connection.ts';
import { type Exchange, OWED } from '../server/exchange.ts';
import { CLOSE_COMPLETE, commandComplete, errorResponse, READY_IDLE, readyForQuery } from '../wire/backend.ts';
import { type Framer, PART } from '../wire/framer.ts';
import { FRONTEND, HEADER_LENGTH, INSPECT_LENGTH_MAX, STATUS } from '../wire/protocol.ts';
import type { Batch, BatchItem } from './batch.ts';
import { answerHint } from './hint.ts';
import type { ClientStatements } from './statements.ts';

/** The session that the messages belong to. */
export interface IntakeOwner {
  readonly phase: 'idle' | 'waiting' | 'active' | 'closed';
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  readonly statements: ClientStatements;
  readonly router: Router;
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

  readonly #owner: IntakeOwner;
  readonly #socket: Socket;
  readonly #framer: Framer;
  readonly #outbox: Outbox;
  /** Set after an error that no server saw: everything up to the next Sync is ignored. */
  #skipping = false;
  /** An error that is the answer to whatever comes next. */
  #pendingError: PgError | undefined;
  #processing = false;
  #paused = false;

  constructor(owner: IntakeOwner, socket: Socket, framer: Framer, outbox: Outbox, batch: Batch) {
    this.#owner = owner;
    this.#socket = socket;
    this.#framer = framer;
    this.#outbox = outbox;
    this.batch = batch;
  }

  /** Type byte of the client's current message. */
  get type(): number {
    return this.#framer.type;
  }

  /** Bytes of it that have not come yet. */
  get remaining(): number {
    return this.#framer.remaining;
  }

  /** Whether more of the client's messages are here than may be taken now. */
  get pipelines(): boolean {
    return this.#framer.unread;
  }

  /** Adds bytes from the client. */
  feed(chunk: Buffer): void {
    this.#framer.feed(chunk);
    this.process();
  }

  /** Takes messages as long as it may; what it may not take yet stays in the framer, and the socket is paused. */
  process(): void {
    if (this.#processing) return;
    this.#processing = true;
    try {
      while (this.#mayTake() && this.#next());
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
    if (part === PART.none) return false;
    if (part === PART.bad) this.#refuseLength();
    else if (streamed) this.#pass();
    else this.#take(part === PART.first);
    return true;
  }

  /** Answers with an error of pglynx's own; the rest of an unfinished batch is ignored. */
  fail(error: PgError, sealed: boolean): void {
    this.stream = 'drop';
    this.#outbox.push(errorResponse(error));
    if (sealed) this.#outbox.push(READY_IDLE);
    else this.#skipping = true;
  }

  /** Answers the batch that waits with an error; nothing of it has taken place. */
  failBatch(error: PgError): void {
    const { sealed } = this.batch;
    this.batch.abandon();
    this.fail(error, sealed);
  }

  /** Answers whatever comes next with an error, as the rest of a batch that was begun. */
  failNext(error: PgError): void {
    this.batch.abandon();
    this.#pendingError = error;
  }

  #mayTake(): boolean {
    const { phase, connection, exchange } = this.#owner;
    if (phase === 'closed' || phase === 'waiting' || this.#outbox.full) return false;
    if (connection?.full) {
      connection.whenDrained(this);
      return false;
    }
    if (phase !== 'active' || !exchange.sealed || this.#framer.streaming) return true;
    return isCopyMessage(this.#framer.nextType);
  }

  /** The server's socket has room again. */
  drained(): void {
    this.process();
  }

  /** Reads from the client only while its messages can be taken. */
  #regulate(): void {
    const pause = this.#owner.phase !== 'closed' && this.#framer.unread;
    if (pause === this.#paused) return;
    this.#paused = pause;
    if (pause) this.#socket.pause();
    else this.#socket.resume();
  }

  /** A whole message, or the head of a long one. */
  #take(partial: boolean): void {
    const { type } = this.#framer;
    if (type === FRONTEND.terminate) return this.#owner.hangUp('the client said goodbye');
    if (isCopyMessage(type)) return this.#takeCopy(type);
    this.stream = 'drop';
    if (partial && !STREAMED.has(type)) return this.#refuseLength();
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
        this.#owner.close(pgError('protocol_violation', `invalid frontend message type ${type}`));
    }
  }

  #takeQuery(partial: boolean): void {
    const { buffer, start, end } = this.#framer;
    const { connection, router, phase } = this.#owner;
    const from = start + HEADER_LENGTH;
    if (!partial && connection === undefined && this.batch.empty && mayBeHint(buffer, from, end)) {
      const hint = parseHint(buffer.toString('latin1', from, end - 1));
      if (hint !== undefined) return this.#outbox.push(answerHint(hint, router));
    }
    if (!this.#add(partial)) return;
    if (phase === 'idle' && this.#deallocate()) return;
    this.#dispatch(partial);
  }

  /** SQL's DEALLOCATE of a statement that the client prepared by protocol, whose name no server knows. */
  #deallocate(): boolean {
    const { query, items } = this.batch;
    const { connection, statements } = this.#owner;
    const name = query?.deallocates;
    const status = connection?.status ?? STATUS.idle;
    if (name === undefined || items.length !== 1 || status === STATUS.failed) return false;
    if (statements.close(name) === undefined) return false;
    this.batch.clear();
    this.#outbox.push(commandComplete('DEALLOCATE'));
    this.#outbox.push(readyForQuery(status));
    return true;
  }

  #takeSync(): void {
    const { phase, connection, exchange } = this.#owner;
    if (phase === 'active' && exchange.copyIn) return;
    const { items } = this.batch;
    if (phase === 'idle' && connection === undefined && items.every(isLocalClose)) {
      for (const _ of items) this.#outbox.push(CLOSE_COMPLETE);
      this.batch.clear();
      this.#outbox.push(READY_IDLE);
      return;
    }
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
    const { connection, router } = this.#owner;
    const inspect = connection === undefined && router.splitting;
    const problem = this.batch.add(type, buffer, start, end, partial, inspect);
    if (problem === undefined) return true;
    this.#owner.close(pgError('protocol_violation', problem));
    return false;
  }

  #dispatch(partial: boolean): void {
    if (partial) this.stream = 'forward';
    this.#owner.dispatch();
  }

  #skip(type: number): void {
    if (type !== FRONTEND.sync) return;
    this.#skipping = false;
    this.#outbox.push(READY_IDLE);
  }

  #answerPendingError(type: number): void {
    const error = this.#pendingError;
    this.#pendingError = undefined;
    if (error !== undefined) this.fail(error, SEALING.has(type));
  }

  #refuseLength(): void {
    const { type, length, length_max } = this.#framer;
    const letter = String.fromCharCode(type);
    this.#owner.close(pgError('message_too_large', letter, length, `${length_max} bytes`));
  }
}

/** Messages that may be longer than what is held whole. */
const STREAMED = new Set<number>([FRONTEND.query, FRONTEND.bind, FRONTEND.functionCall]);
/** Messages that ReadyForQuery answers. */
const SEALING = new Set<number>([FRONTEND.query, FRONTEND.sync, FRONTEND.functionCall]);

function isCopyMessage(type: number | undefined): boolean {
  return type === FRONTEND.copyData || type === FRONTEND.copyDone || type === FRONTEND.copyFail;
}

/** Whether a batch item is a Close that pglynx answers without asking a server. */
function isLocalClose({ type, nameFrom, statement, name }: BatchItem): boolean {
  return type === FRONTEND.close && nameFrom !== 0 && (statement !== undefined || name === '');
}
