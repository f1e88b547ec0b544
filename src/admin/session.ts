/** One client of the admin database after its login: reads its messages one at a time and answers them in order. */
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { errorText, PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { TlsFacts } from '../net/tls.ts';
import { ClientCounters } from '../stats/counters.ts';
import { dataRow, errorResponse, READY_IDLE, rowDescription } from '../wire/backend.ts';
import { type Framer, PART } from '../wire/framer.ts';
import { FRONTEND, HEADER_LENGTH, INSPECT_LENGTH_MAX } from '../wire/protocol.ts';
import { type Console, completion, type SessionParameters } from './console.ts';
import type { ClientView } from './control.ts';
import { Extended } from './extended.ts';
import { Fields } from './fields.ts';

/** Who logged in. */
export interface AdminLogin {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly application_name: string;
  readonly tls: TlsFacts | undefined;
  /** What ParameterStatus told it. */
  readonly parameters: SessionParameters;
}

/** Milliseconds in which a client should close its side after pglynx has closed its own. */
const LINGER_MS = 2000;

export class AdminSession implements ClientView {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly application_name: string;
  readonly tls: TlsFacts | undefined;
  /** As in PgCat: it never holds a server connection. */
  readonly state = 'idle';
  readonly counters = new ClientCounters();
  readonly connected_at = performance.now();

  readonly socket: Socket;
  readonly #framer: Framer;
  readonly #outbox: Outbox;
  readonly #console: Console;
  readonly #parameters: SessionParameters;
  readonly #extended: Extended;
  readonly #ended: (failure?: unknown) => void;
  #serving = false;
  /** Bytes that came while a message was being answered. */
  #ahead_bytes = 0;
  /** Ends the wait of the command that runs. */
  #running: AbortController | undefined;
  #over = false;
  /** Whether the client sends nothing more. */
  #isDeaf = false;
  /** After an error in the extended protocol everything up to Sync is left out. */
  #skipping = false;
  /** Continues {@link #serve} when the socket has room again or is gone. */
  #awake = () => {};

  /**
   * `socket` has no other readers any more, and `framer` may hold what the client sent ahead. `ended` is called once;
   * a `failure` is a fault of pglynx, for the log.
   */
  constructor(
    socket: Socket,
    framer: Framer,
    outbox: Outbox,
    login: AdminLogin,
    console: Console,
    ended: (failure?: unknown) => void,
  ) {
    this.id = login.id;
    this.database = login.database;
    this.user = login.user;
    this.application_name = login.application_name;
    this.tls = login.tls;
    this.socket = socket;
    this.#framer = framer;
    this.#outbox = outbox;
    this.#console = console;
    this.#parameters = login.parameters;
    this.#extended = new Extended(console, login.parameters);
    this.#ended = ended;
  }

  waiting_ms(): number {
    return 0;
  }

  /** Begins to read. */
  start(): void {
    this.#framer.length_max = INSPECT_LENGTH_MAX;
    const socket = this.socket;
    socket.on('data', chunk => {
      if (this.#over) return;
      this.#framer.feed(chunk);
      // While a command waits, the end of the client is to be seen.
      this.#ahead_bytes += chunk.length;
      if (this.#serving && this.#ahead_bytes > INSPECT_LENGTH_MAX) socket.pause();
      void this.#serve();
    });
    socket.on('end', () => this.#inputEnded());
    socket.on('error', () => this.close());
    socket.on('close', () => this.close());
    if (socket.destroyed) return this.close();
    void this.#serve();
  }

  /** What came before is answered, but nobody waits any longer. */
  #inputEnded(): void {
    this.#isDeaf = true;
    this.cancel();
    if (!this.#serving) this.close();
  }

  /** The socket has room again. */
  drained(): void {
    this.#awake();
  }

  /** The client wants no more of the command that runs. */
  cancel(): void {
    this.#running?.abort(pgError('query_canceled'));
  }

  /** Ends the session, with `error` as its last message. */
  close(error?: PgError): void {
    this.#end(error);
  }

  #end(error?: PgError, failure?: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.cancel();
    if (error !== undefined) this.#outbox.push(errorResponse(error));
    this.#outbox.end();
    // What still comes is read and dropped: unread bytes would turn the close into a reset, which eats the error.
    this.socket.resume();
    setTimeout(() => this.socket.destroy(), LINGER_MS).unref();
    this.#awake();
    this.#ended(failure);
  }

  /** Answers what has come, and reads on when that is done and has had room to leave. */
  async #serve(): Promise<void> {
    if (this.#serving) return;
    this.#serving = true;
    try {
      while (!this.#over && (await this.#next())) {
        while (this.#outbox.full && !this.#over) await this.#room();
      }
    } catch (thrown) {
      if (thrown instanceof PgError) this.#end(thrown);
      else this.#end(pgError('internal', errorText(thrown)), thrown);
    }
    this.#serving = false;
    if (this.#isDeaf) this.close();
    this.#ahead_bytes = 0;
    this.socket.resume();
  }

  #room(): Promise<void> {
    return new Promise(resolve => {
      this.#awake = resolve;
    });
  }

  /** Answers the next message; false when it has not come yet. */
  async #next(): Promise<boolean> {
    const framer = this.#framer;
    const part = framer.next();
    if (part === PART.none) return false;
    const { type, buffer, start, end, length } = framer;
    if (part === PART.whole) {
      await this.#message(type, new Fields(Buffer.from(buffer.subarray(start + HEADER_LENGTH, end))));
    } else if (length < HEADER_LENGTH) {
      throw pgError('protocol_violation', 'invalid message length');
    } else if (part === PART.bad || type !== FRONTEND.copyData) {
      throw pgError('message_too_large', String.fromCharCode(type), length, INSPECT_LENGTH_MAX);
    }
    // Each command has a turn of its own, so that a long pipeline holds up nobody else.
    if (type === FRONTEND.query || type === FRONTEND.execute) await nextTurn();
    return true;
  }

  async #message(type: number, fields: Fields): Promise<void> {
    if (type === FRONTEND.terminate) return this.close();
    if (this.#skipping && type !== FRONTEND.sync) return;
    switch (type) {
      case FRONTEND.query:
        return this.#query(fields.string());
      case FRONTEND.parse:
      case FRONTEND.bind:
      case FRONTEND.describe:
      case FRONTEND.execute:
      case FRONTEND.close:
        return this.#answer(type, fields);
      case FRONTEND.sync:
        this.#skipping = false;
        return this.#ready();
      case FRONTEND.flush:
        return this.#outbox.flush();
      case FRONTEND.functionCall:
        this.#refuse(pgError('admin_error', 'Unsupported function call against the admin database'));
        return this.#ready();
      case FRONTEND.copyData:
      case FRONTEND.copyDone:
      case FRONTEND.copyFail:
        // Late messages of a COPY that failed, which PostgreSQL drops too.
        return;
      default:
        throw pgError('protocol_violation', `invalid frontend message type ${type}`);
    }
  }

  async #query(sql: string): Promise<void> {
    try {
      for (const command of this.#console.commands(sql, this.#parameters)) {
        const { notices, rows } = await this.#abortable(signal => command.run(signal));
        if (this.#over) return;
        for (const notice of notices) this.#outbox.push(notice);
        if (command.columns !== undefined) this.#outbox.push(rowDescription(command.columns));
        for (const row of rows) this.#outbox.push(dataRow(row));
        this.#outbox.push(completion(command));
      }
    } catch (thrown) {
      this.#refuse(thrown);
    }
    this.#ready();
  }

  async #answer(type: number, fields: Fields): Promise<void> {
    try {
      const answer = await this.#abortable(signal => this.#extended.answer(type, fields, signal));
      if (!this.#over) for (const message of answer) this.#outbox.push(message);
    } catch (thrown) {
      this.#refuse(thrown);
      this.#skipping = true;
    }
  }

  async #abortable<Result>(run: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    const running = new AbortController();
    this.#running = running;
    if (this.#isDeaf) this.cancel();
    try {
      return await run(running.signal);
    } finally {
      this.#running = undefined;
    }
  }

  /** Answers with an ERROR; what is worse ends the session. */
  #refuse(thrown: unknown): void {
    if (this.#over) return;
    if (!(thrown instanceof PgError) || thrown.severity === 'FATAL') throw thrown;
    this.counters.error_count++;
    this.#outbox.push(errorResponse(thrown));
  }

  #ready(): void {
    if (this.#over) return;
    this.#extended.endTransaction();
    this.counters.query_count++;
    this.counters.xact_count++;
    this.#outbox.push(READY_IDLE);
  }
}
