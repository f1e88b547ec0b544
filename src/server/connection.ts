/** One connection to a server: a queue of exchanges, fed by whoever holds it, whose replies go to their owners. */
import type { Socket } from 'node:net';
import { errorText } from '../errors.ts';
import { demanded, dial, type Line, within } from '../net/dial.ts';
import { MessageReader } from '../net/messages.ts';
import { Outbox } from '../net/outbox.ts';
import { ConnectionCounters } from '../stats/counters.ts';
import { errorFields, parameterStatusOf, parameterTypes, readyForQuery } from '../wire/backend.ts';
import { Framer, PART } from '../wire/framer.ts';
import { query, SYNC, TERMINATE } from '../wire/frontend.ts';
import { BACKEND, HEADER_LENGTH, REPORTED_MAX, SERVER_LOGIN_BYTES_MAX, STATUS } from '../wire/protocol.ts';
import { Cancels } from './cancels.ts';
import { Exchange, type ExchangeOwner, OWED, STEP } from './exchange.ts';
import { Load } from './load.ts';
import { logIn } from './login.ts';
import type { ConnectOptions } from './options.ts';
import type { SettingsProfile } from './parameters.ts';
import { ServerStatements } from './prepared.ts';
import { ExchangeQueue } from './queue.ts';
import { Run } from './run.ts';
import { ServerError, SilentOwner } from './silent.ts';
import { CONNECTION_STATES, type ConnectionState } from './states.ts';

/** Told of what happens to a connection while nobody's exchange is on it. */
export interface ConnectionOwner {
  /** `isTold` when the server said goodbye. */
  connectionClosed(connection: ServerConnection, cause: string, isTold: boolean): void;
}

const LIMITS = { eager: [BACKEND.dataRow, BACKEND.copyData], held: { types: [], length_max: 0 } };

export class ServerConnection {
  readonly options: ConnectOptions;
  /** The open socket, and how it is encrypted. */
  readonly line: Line;
  readonly counters = new ConnectionCounters();
  readonly statements: ServerStatements;
  readonly queue = new ExchangeQueue();
  /** What it has to do for clients that share it. */
  readonly load = new Load();
  readonly opened_at = performance.now();
  /** When, on the clock of `performance.now()`, it is too old to serve anybody else. */
  expires_at = Number.POSITIVE_INFINITY;
  /** Server process id, from BackendKeyData. */
  pid = 0;
  /** What the server last reported of its settings. */
  parameters = new Map<string, string>();
  /** The settings applied to it now; undefined when a client's SETs were not cleaned away. */
  profile: SettingsProfile | undefined;
  /** Transaction status of the last ReadyForQuery. */
  status: number = STATUS.idle;
  /** Bit set of {@link DIRTY}. */
  dirty = 0;
  /** Milliseconds of `performance.now()` when a byte last came. */
  used_at = performance.now();
  /** Whoever leases the connection: gets what the server sends between exchanges. */
  holder: ExchangeOwner | undefined;
  application_name = '';
  owner: ConnectionOwner | undefined;

  readonly #socket: Socket;
  readonly #outbox: Outbox;
  readonly #framer = new Framer(LIMITS);
  #state: ConnectionState = 'login';
  #reader: MessageReader | undefined;
  #secret: Buffer = Buffer.alloc(4);
  #lastError: Map<string, string> | undefined;
  #paused = false;
  readonly #cancels = new Cancels();
  /** Whom the current message goes to, if to anybody. */
  #receiver: ExchangeOwner | undefined;
  readonly #run = new Run();
  #writers = new Set<{ drained(): void }>();

  private constructor(options: ConnectOptions, line: Line) {
    this.options = options;
    this.line = line;
    this.statements = new ServerStatements(options.statements_max);
    this.#socket = line.socket;
    options.network.watch(line.socket);
    line.receive = chunk => this.#read(chunk);
    this.#outbox = new Outbox(this.#socket, this, 'turn');
    this.#socket.on('error', error => this.close(errorText(error)));
    this.#socket.on('end', () => this.close('the server closed the connection'));
    this.#socket.on('close', () => this.close('the connection was closed'));
  }

  /**
   * Connects and logs in.
   * @throws ServerLoginError the server refused; Error it could not be reached in `connect_timeout`
   */
  static open(options: ConnectOptions): Promise<ServerConnection> {
    const { connect_timeout } = options;
    const cause = `no connection after connect_timeout (${connect_timeout} ms)`;
    return within(connect_timeout, cause, async late => {
      const line = await dial(options, late);
      return new ServerConnection(options, line).#logIn(line, late);
    });
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Whether no exchange is under way and no cancel can hit the next one. */
  get quiet(): boolean {
    return this.queue.isEmpty && !this.#cancels.pending;
  }

  get canceling(): boolean {
    return this.#cancels.pending;
  }

  get sent_bytes(): number {
    return this.#outbox.sent_bytes;
  }

  get write_count(): number {
    return this.#outbox.flushes;
  }

  /** Whether the socket to the server is full: the client should not be read on. */
  get full(): boolean {
    return this.#outbox.full;
  }

  /** Whether a message is being passed on in parts and its end has not come. */
  get inMessage(): boolean {
    return this.#receiver !== undefined && this.#framer.streaming;
  }

  /** Appends an exchange: its replies come after those of all before it. */
  enqueue(exchange: Exchange): void {
    exchange.flushes = this.#outbox.flushes;
    this.queue.push(exchange);
  }

  /** Sends bytes of the newest exchange. */
  write(bytes: Buffer): void {
    this.#outbox.push(bytes);
  }

  /** Calls `writer.drained()` once when a full socket has room again. */
  whenDrained(writer: { drained(): void }): void {
    this.#writers.add(writer);
  }

  drained(): void {
    const writers = [...this.#writers];
    this.#writers.clear();
    for (const writer of writers) writer.drained();
  }

  /** Stops reading replies: their client is full. */
  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  /** Passes on what pglynx answers itself, where its turn has come. */
  passLocal(exchange: Exchange): void {
    if (!this.isHead(exchange)) return;
    for (let local = exchange.takeLocal(); local !== undefined; local = exchange.takeLocal()) {
      this.#run.flush();
      if (!exchange.silent) exchange.owner.reply(local);
    }
  }

  /** Sends a query of pglynx's own, in front of whatever is sent next; `ended` gets its error, if any. */
  inject(sql: string, ended: (error: Map<string, string> | undefined) => void): void {
    const exchange = new Exchange(new SilentOwner(ended), true);
    this.enqueue(exchange);
    exchange.owe(OWED.query);
    this.statements.unnamed = undefined;
    this.write(query(sql));
  }

  /** Sends what a server answers without any work; `ended` is told when it has. */
  ping(ended: () => void): void {
    const exchange = new Exchange(new SilentOwner(ended), true);
    this.enqueue(exchange);
    exchange.owe(OWED.sync);
    this.write(SYNC);
  }

  /**
   * Runs a query of pglynx's own to its end.
   * @throws ServerError the server's error, or the end of the connection
   */
  run(sql: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.inject(sql, error => (error === undefined ? resolve() : reject(new ServerError(error))));
    });
  }

  /**
   * Asks the server to cancel what runs here now. The connection stays un-{@link quiet} until that is settled, and what
   * is behind the exchange at the head is repeated if the cancel hits it instead.
   */
  cancel(): void {
    if (this.#state !== 'ready') return;
    this.queue.endanger();
    const { encryption } = this.options;
    const server = { ...this.options, encryption: this.line.tls && encryption && (() => demanded(encryption())) };
    this.#cancels.send(server, this.pid, this.#secret, failure =>
      // A cancel whose fate is unknown could still hit the next statement: this connection must not see one.
      this.close(`a cancel request could not be settled: ${failure}`),
    );
  }

  /** Cancels an exchange now, or when its turn comes; one request at a time, however often it is asked for. */
  cancelExchange(exchange: Exchange): void {
    exchange.canceled = true;
    if (!this.isHead(exchange)) return;
    if (!this.canceling) this.cancel();
    this.#cancels.later(exchange, () => {
      if (!this.isHead(exchange) || !exchange.canceled) return;
      if (this.canceling) this.cancelExchange(exchange);
      else this.cancel();
    });
  }

  /** Calls back when no cancel is under way any more: now, if none is. */
  whenCancelsSettled(callback: () => void): void {
    this.#cancels.whenSettled(callback);
  }

  /** Cancels a slow exchange for the sake of those behind it, if its owner agrees. */
  yieldHead(): void {
    if (!this.canceling && this.queue.headYields()) this.cancel();
  }

  /** Whether this exchange is the one that the server works on. */
  isHead(exchange: Exchange): boolean {
    return exchange === this.queue.head;
  }

  /** Ends the connection; exchanges under way learn that it was lost, by an `error` of the server or by its own fault. */
  close(cause: string, error = this.#lastError): void {
    if (this.#state === 'closed') return;
    const polite = this.#state === 'ready' && this.queue.isEmpty;
    this.#to('closed');
    if (polite && !this.#socket.destroyed) this.#socket.end(TERMINATE, () => this.#socket.destroy());
    else this.#socket.destroy();
    const text = error?.get('M') ?? cause;
    this.#reader?.fail(new Error(text));
    this.#run.drop();
    const exchanges = this.queue.empty();
    if (exchanges.length > 0) exchanges[0].torn = this.inMessage;
    else this.holder?.connectionLost(text, error);
    for (const [at, exchange] of exchanges.entries()) {
      if (this.#outbox.pending && exchange.flushes === this.#outbox.flushes) exchange.fate = 'unsent';
      // A server that says goodbye in good order has not looked at what is behind what it was doing.
      else if (at > 0 && error !== undefined && error === this.#lastError) exchange.fate = 'unbegun';
      exchange.abandon();
      exchange.owner.connectionLost(text, error);
    }
    this.drained();
    this.#cancels.release();
    this.owner?.connectionClosed(this, text, error !== undefined);
  }

  #to(state: ConnectionState): void {
    const allowed: readonly ConnectionState[] = CONNECTION_STATES[this.#state];
    if (!allowed.includes(state)) throw new Error(`a ${this.#state} connection cannot become ${state}`);
    this.#state = state;
  }

  async #logIn({ binding }: Line, late: AbortSignal): Promise<this> {
    const { identity, keys, startup, require_auth, scram_iterations_max } = this.options;
    const reader = new MessageReader(this.#framer, SERVER_LOGIN_BYTES_MAX);
    this.#reader = reader;
    late.addEventListener('abort', () => this.close(errorText(late.reason)));
    const send = (bytes: Buffer) => this.#outbox.push(bytes);
    try {
      const welcome = await logIn({ reader, send, binding, require_auth, scram_iterations_max }, identity, keys);
      if (this.#state === 'closed') throw new Error('closed during login');
      this.#reader = undefined;
      this.pid = welcome.pid;
      this.#secret = welcome.secret;
      this.parameters = welcome.parameters;
      this.status = welcome.status;
      this.profile = startup;
      this.#to('ready');
      return this;
    } catch (error) {
      this.close(errorText(error));
      throw error;
    }
  }

  #read(chunk: Buffer): void {
    this.counters.received_bytes += chunk.length;
    try {
      if (this.#reader !== undefined) this.#reader.feed(chunk);
      else this.#receive(chunk);
    } catch (error) {
      this.close(`internal error: ${errorText(error)}`);
    }
  }

  #receive(chunk: Buffer): void {
    this.used_at = performance.now();
    const framer = this.#framer;
    framer.feed(chunk);
    for (;;) {
      const part = framer.next();
      if (part === PART.none) break;
      if (part === PART.bad) return this.#broken(`a message of ${framer.length} bytes`);
      if (part === PART.whole || part === PART.first) this.#message();
      else if (this.#receiver !== undefined) this.#run.add(framer, this.#receiver);
      if (this.#state === 'closed') return;
    }
    this.#run.flush();
  }

  /** A message, or the head of a long one. */
  #message(): void {
    const framer = this.#framer;
    const type = framer.type;
    const exchange = this.queue.head;
    this.#receiver = exchange === undefined || exchange.silent ? undefined : exchange.owner;
    if (type === BACKEND.dataRow && exchange !== undefined) {
      const head = exchange.head;
      if (head === OWED.execute || head === OWED.query) return this.#pass();
    }
    if (type === BACKEND.noticeResponse || type === BACKEND.parameterStatus || type === BACKEND.notificationResponse) {
      return this.#asynchronous(type, exchange);
    }
    if (type === BACKEND.errorResponse && this.#isFatal()) return;
    if (exchange === undefined) return this.#broken(`an unexpected message of type ${String.fromCharCode(type)}`);
    if (type === BACKEND.errorResponse && exchange.sealed && this.#repeats(exchange)) return;
    this.passLocal(exchange);
    const step = exchange.step(type);
    switch (step) {
      case STEP.illegal:
        return this.#broken(`a message of type ${String.fromCharCode(type)} that was not owed`);
      case STEP.count:
        return this.#ready(exchange.count());
      case STEP.end:
        this.#ready(exchange.head !== OWED.syncInjected);
        return this.#end(exchange);
      case STEP.swallow:
        this.#receiver = undefined;
        exchange.settle();
        break;
      case STEP.copyIn:
        this.#pass();
        exchange.beginCopyIn();
        this.#run.flush();
        exchange.owner.copyChanged();
        break;
      default:
        if (type === BACKEND.errorResponse) return this.#error(exchange, step === STEP.skip);
        this.#pass();
        if (type === BACKEND.parameterDescription)
          exchange.owner.described(parameterTypes(framer.buffer, framer.start, framer.end), exchange.statement);
        if (type === BACKEND.commandComplete)
          exchange.owner.completed(framer.buffer, framer.start + HEADER_LENGTH, framer.end);
        if (type === BACKEND.commandComplete && exchange.complete()) exchange.owner.copyChanged();
        if (step === STEP.settle) exchange.settle();
    }
    if (!exchange.sealed) this.passLocal(exchange);
  }

  /** Keeps an error and all that follows it from the client when the exchange's owner will repeat it. */
  #repeats(exchange: Exchange): boolean {
    if (exchange.silent) return false;
    const { buffer, start, end } = this.#framer;
    this.#run.flush();
    if (!exchange.owner.repeatsAfter(buffer.subarray(start, end))) return false;
    exchange.silent = true;
    this.#receiver = undefined;
    // After the error of a simple query its ReadyForQuery comes by itself.
    if (exchange.head !== OWED.query) exchange.skip();
    return true;
  }

  #pass(): void {
    if (this.#receiver !== undefined) this.#run.add(this.#framer, this.#receiver);
  }

  #error(exchange: Exchange, skip: boolean): void {
    const { buffer, start, end } = this.#framer;
    this.#run.flush();
    const { statement } = exchange;
    exchange.fail(skip);
    exchange.owner.replyError(buffer.subarray(start, end), statement);
  }

  #ready(isOwed: boolean): void {
    const { buffer, start, length } = this.#framer;
    this.status = buffer[start + HEADER_LENGTH];
    if (!isOwed) this.#receiver = undefined;
    if (length === HEADER_LENGTH + 1) this.#pass();
    this.#run.flush();
    // PolarDB appends an LSN, which no client expects.
    if (length > HEADER_LENGTH + 1) this.#receiver?.reply(readyForQuery(this.status));
    this.#receiver = undefined;
  }

  #end(exchange: Exchange): void {
    if (!exchange.end()) return;
    this.queue.shift();
    exchange.owner.exchangeEnded(this.status);
    const next = this.queue.head;
    if (next === undefined) return;
    if (next.canceled) this.cancelExchange(next);
    if (!next.sealed) this.passLocal(next);
  }

  /** Notices, notifications and parameter changes may come at any time, for an exchange or for the holder. */
  #asynchronous(type: number, exchange: Exchange | undefined): void {
    // It comes of a message behind those that need no server.
    if (exchange !== undefined) this.passLocal(exchange);
    const { buffer, start, end } = this.#framer;
    const owner = exchange === undefined ? this.holder : exchange.owner;
    if (type === BACKEND.parameterStatus) {
      const [name, value] = parameterStatusOf(buffer, start, end);
      this.parameters.set(name, value);
      if (this.parameters.size > REPORTED_MAX) return this.#broken('more settings than a server has');
      owner?.parameterChanged(name, value);
    }
    if (exchange === undefined) this.#receiver = owner;
    this.#pass();
  }

  /** Keeps a FATAL error back: the connection ends with it, and its owners are told then. */
  #isFatal(): boolean {
    const { buffer, start, end } = this.#framer;
    const fields = errorFields(buffer, start, end);
    const severity = fields.get('V') ?? fields.get('S');
    if (severity !== 'FATAL' && severity !== 'PANIC') return false;
    this.#lastError = fields;
    this.#receiver = undefined;
    return true;
  }

  #broken(what: string): void {
    this.close(`the server sent ${what}`);
  }
}
