/** A fast client that pipelines: it sends exchanges without waiting, and each gets its reply whole and in order. */
import { connect, type Socket } from 'node:net';
import { breakOff } from '../chaos/proxy.ts';
import { type Decoded, decode, type Fields } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { LoginError } from '../client/raw.ts';

/** Whom to log in as; the other side must trust it. */
export interface PipelineLogin {
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly parameters?: Readonly<Record<string, string>>;
}

/** Everything that came for one exchange. */
export interface Reply {
  /** The types of its messages, a run of rows as one D; without notices, parameters, notifications and ReadyForQuery. */
  types: string;
  /** Lines of a COPY are rows of one value. */
  readonly rows: (string | null)[][];
  readonly tags: string[];
  readonly notices: Fields[];
  error: Fields | undefined;
  /** The last one, where another followed. */
  lastError: Fields | undefined;
  /** Transaction status of its ReadyForQuery; '' when the connection ended before that. */
  status: string;
  /** When it was sent, and from when on it was the first in line: ms of performance.now(). */
  readonly sent_ms: number;
  first_ms: number;
}

/** Messages to be answered by one ReadyForQuery, and who is told of the reply, in order. */
export interface Request {
  readonly bytes: Buffer;
  readonly done: (reply: Reply) => void;
}

interface Pending {
  readonly request: Request;
  readonly reply: Reply;
}

const HEADER_BYTES = 5;

export class PipelineClient {
  pid = 0;
  secret: Buffer = Buffer.alloc(0);
  /** Every ParameterStatus in order, those of the login first. */
  readonly parameters: (readonly [name: string, value: string])[] = [];
  /** Every notification in order. */
  readonly notifications: { readonly pid: number; readonly channel: string; readonly payload: string }[] = [];
  /** An error that came while nothing was owed. */
  stray: Fields | undefined;
  /** Why the connection is over; undefined while it is not. */
  over: string | undefined;
  /** Whether it ended within a message. */
  torn = false;

  readonly #socket: Socket;
  readonly #pending: Pending[] = [];
  readonly #idle: (() => void)[] = [];
  #chunks: Buffer[] = [];
  #unread_bytes = 0;
  /** How many bytes must be here before the first message is whole, as far as is known. */
  #needed_bytes = HEADER_BYTES;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay();
    socket.on('data', chunk => this.#feed(chunk));
    socket.on('end', () => this.#end('the other side closed the connection'));
    socket.on('error', error => this.#end(`the connection broke: ${error.message}`));
    socket.on('close', () => this.#end('the connection was closed'));
  }

  /** A connection that is logged in. Throws {@link LoginError}. */
  static async connect({ port, user, database, parameters }: PipelineLogin): Promise<PipelineClient> {
    const client = new PipelineClient(connect({ port, host: '127.0.0.1' }));
    const { error, status } = await client.exchange(frontend.startup({ user, database, ...parameters }));
    if (error !== undefined) throw new LoginError(error);
    if (status !== 'I') throw new Error(`not let in: ${client.over}`);
    return client;
  }

  /** How many exchanges have not been answered; while one is, those behind it. */
  get owed(): number {
    return this.#pending.length;
  }

  /** For how many ms the oldest exchange has been first in line. */
  waiting_ms(now: number): number {
    return this.#pending.length === 0 ? 0 : now - this.#pending[0].reply.first_ms;
  }

  /** Sends all of them in one write. */
  send(requests: readonly Request[]): void {
    const now = performance.now();
    for (const request of requests) this.#pending.push({ request, reply: newReply(now) });
    if (this.over === undefined) this.#socket.write(Buffer.concat(requests.map(({ bytes }) => bytes)));
    else this.#fail();
  }

  /** Sends one exchange and waits for its reply. */
  exchange(...messages: Buffer[]): Promise<Reply> {
    return new Promise(resolve => this.send([{ bytes: Buffer.concat(messages), done: resolve }]));
  }

  /** Sends one simple query and waits for its reply. */
  query(text: string): Promise<Reply> {
    return this.exchange(frontend.query(text));
  }

  /** Sends bytes that are no exchange: a part of one. */
  write(bytes: Buffer): void {
    if (this.over === undefined) this.#socket.write(bytes);
  }

  /** Returns when everything has been answered, or the connection is over. */
  async answered(): Promise<void> {
    if (this.#pending.length > 0) await new Promise<void>(resolve => this.#idle.push(resolve));
  }

  /** Stops reading, so that the other side's writes pile up. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Breaks the connection (RST). */
  destroy(): void {
    breakOff(this.#socket);
    this.#end('the client broke the connection');
  }

  /** Says goodbye, and reads no reply any more. */
  leave(): void {
    if (this.over !== undefined) return;
    this.#socket.end(frontend.terminate());
    this.#end('the client said goodbye');
  }

  #feed(chunk: Buffer): void {
    if (this.over !== undefined) return;
    this.#chunks.push(chunk);
    this.#unread_bytes += chunk.length;
    if (this.#unread_bytes < this.#needed_bytes) return;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    let at = 0;
    let length = HEADER_BYTES;
    while (bytes.length - at >= HEADER_BYTES) {
      length = bytes.readUInt32BE(at + 1) + 1;
      if (bytes.length - at < length) break;
      this.#take(bytes, at, at + length);
      at += length;
      length = HEADER_BYTES;
    }
    this.#chunks = at === bytes.length ? [] : [bytes.subarray(at)];
    this.#unread_bytes = bytes.length - at;
    this.#needed_bytes = length;
  }

  #take(bytes: Buffer, start: number, end: number): void {
    const type = String.fromCharCode(bytes[start]);
    const body = bytes.subarray(start + HEADER_BYTES, end);
    const pending = this.#pending.at(0);
    if ('SAKNE'.includes(type) && !this.#tells(decode({ type, body }), pending?.reply)) return;
    if (pending === undefined) return this.#unexpected(type);
    const { reply, request } = pending;
    switch (type) {
      case 'D':
        if (!reply.types.endsWith('D')) reply.types += type;
        reply.rows.push(valuesOf(body));
        break;
      case 'd':
        reply.types += type;
        reply.rows.push([body.toString()]);
        break;
      case 'Z':
        reply.status = String.fromCharCode(body[0]);
        this.#pending.shift();
        if (this.#pending.length > 0) this.#pending[0].reply.first_ms = performance.now();
        request.done(reply);
        if (this.#pending.length === 0) this.#answered();
        break;
      case 'C':
        reply.types += type;
        reply.tags.push(body.toString('utf8', 0, body.length - 1));
        break;
      default:
        reply.types += type;
    }
  }

  /** Notes what comes beside results; answers whether it is a part of the reply. */
  #tells(message: Decoded, reply: Reply | undefined): boolean {
    if (message.name === 'ParameterStatus') this.parameters.push([message.parameter, message.value]);
    else if (message.name === 'NotificationResponse') this.notifications.push(message);
    else if (message.name === 'NoticeResponse') reply?.notices.push(message.fields);
    else if (message.name === 'BackendKeyData') {
      this.pid = message.pid;
      // The chunk that it lies in is the socket's.
      this.secret = Buffer.from(message.secret);
    } else if (message.name === 'ErrorResponse') {
      if (reply === undefined) this.stray = message.fields;
      else {
        reply.error ??= message.fields;
        reply.lastError = message.fields;
      }
      return reply !== undefined;
    }
    return false;
  }

  #unexpected(type: string): void {
    this.#socket.destroy();
    this.#end(`a message of type ${type} came while nothing was owed`);
  }

  #answered(): void {
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #end(how: string): void {
    if (this.over !== undefined) return;
    this.over = how;
    this.torn = this.#unread_bytes > 0;
    this.#fail();
  }

  /** Whoever waits is told that nothing more comes. */
  #fail(): void {
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      next.request.done(next.reply);
    }
    this.#answered();
  }
}

function newReply(now: number): Reply {
  return {
    types: '',
    rows: [],
    tags: [],
    notices: [],
    error: undefined,
    lastError: undefined,
    status: '',
    sent_ms: now,
    first_ms: now,
  };
}

function valuesOf(body: Buffer): (string | null)[] {
  const values: (string | null)[] = [];
  const count = body.readUInt16BE(0);
  for (let at = 2; values.length < count; ) {
    const length = body.readInt32BE(at);
    at += 4;
    values.push(length < 0 ? null : body.toString('utf8', at, at + length));
    if (length > 0) at += length;
  }
  return values;
}
