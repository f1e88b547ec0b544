/** A client of single messages and bytes: what a test needs to say exactly what it sends and see exactly what comes. */
import { connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { inspect } from 'node:util';
import { type ScramBinding, ScramClient } from '../../src/auth/scram.ts';
import { KeyCache, md5Response, scramNonce } from '../../src/auth/secret.ts';
import { endpoint } from '../../src/net/address.ts';
import { breakOff } from '../chaos/proxy.ts';
import { type Decoded, decode, type Fields, type Message } from './backend.ts';
import * as frontend from './frontend.ts';

export interface Address {
  readonly port: number;
  /** The directory of a Unix socket if it begins with /. */
  readonly host?: string;
  /** The address of this machine to come from. */
  readonly from?: string;
}

export interface Login {
  readonly user: string;
  readonly database?: string;
  readonly password?: string;
  /** More of the startup packet: application_name, options, any setting. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** The protocol version to ask for; 3.0 when absent. */
  readonly protocol?: number;
  /** SCRAM with channel binding, or with a lie about it. */
  readonly scram?: ScramChoice;
}

/** The mechanism to choose, and how to stand to channel binding. */
export interface ScramChoice {
  readonly mechanism: string;
  readonly binding: ScramBinding;
}

/** How long a read waits, unless the call says otherwise, before the test fails with what has come until then. */
const TIMEOUT_MS = 10_000;

/** The largest message a test may receive: more is taken for garbage. */
const MAX_LENGTH = 2 ** 30;

const keys = new KeyCache(Buffer.alloc(32));

/** The server refused the login. */
export class LoginError extends Error {
  readonly fields: Fields;

  constructor(fields: Fields) {
    super(`${fields.severity} ${fields.code}: ${fields.message}`);
    this.fields = fields;
  }
}

/** One connection. Nothing is read from it but what a test asks for; nothing is sent but what it says. */
export class RawClient {
  /** The process number of BackendKeyData; 0 before it has come. */
  pid = 0;
  /** The secret of BackendKeyData, to be sent back with this length in a cancel request. */
  secret: Buffer = Buffer.alloc(0);
  /** The last value of every ParameterStatus that was read. */
  readonly parameters = new Map<string, string>();
  /** The messages of the login, from the first one of the server to ReadyForQuery. */
  greeting: Message[] = [];

  readonly #socket: Socket;
  #chunks: Buffer[] = [];
  #unread_bytes = 0;
  #over: string | undefined;
  #wake = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay();
    socket.on('data', chunk => {
      this.#chunks.push(chunk);
      this.#unread_bytes += chunk.length;
      this.#wake();
    });
    const over = (how: string) => {
      this.#over ??= how;
      this.#wake();
    };
    socket.on('end', () => over('the other side closed the connection'));
    socket.on('error', error => over(`the connection broke: ${error.message}`));
    socket.on('close', () => over('the connection was closed'));
  }

  /** A connection on which nothing has been said yet. */
  static async open({ port, host = '127.0.0.1', from }: Address): Promise<RawClient> {
    const socket = connect({ ...endpoint(host, port), ...(from && { localAddress: from }), allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new RawClient(socket);
  }

  /** One over a socket that is open, an encrypted one say. */
  static over(socket: Socket): RawClient {
    return new RawClient(socket);
  }

  /** Hands out the socket, of which nothing must have been read ahead: what comes now is for somebody else. */
  release(): Socket {
    if (this.#unread_bytes > 0) this.#fail('nothing', []);
    this.#socket.removeAllListeners('data');
    this.#socket.pause();
    return this.#socket;
  }

  /** A connection that is logged in, by trust, cleartext, MD5 or SCRAM as the server asks. Throws {@link LoginError}. */
  static async connect(options: Address & Login): Promise<RawClient> {
    const client = await RawClient.open(options);
    try {
      await client.login(options);
      return client;
    } catch (error) {
      client.destroy();
      throw error;
    }
  }

  /** Sends the startup packet and answers until ReadyForQuery. Throws {@link LoginError}. */
  async login({ user, database, password = '', parameters = {}, protocol, scram: choice }: Login): Promise<void> {
    this.send(frontend.startup({ user, ...(database === undefined ? {} : { database }), ...parameters }, protocol));
    const scram = new ScramClient(scramNonce(), choice?.binding);
    for (;;) {
      const message = await this.message();
      this.greeting.push(message);
      const decoded = decode(message);
      if (decoded.name === 'ReadyForQuery') return;
      if (decoded.name === 'ErrorResponse') throw new LoginError(decoded.fields);
      const answer = await answerTo(decoded, user, password, scram, choice?.mechanism);
      if (answer !== undefined) this.send(answer);
    }
  }

  /** Sends these bytes in one write. */
  send(...messages: Buffer[]): void {
    this.#socket.write(Buffer.concat(messages));
  }

  /** Sends bytes a few at a time, each in a packet of its own as far as the kernel lets it. */
  async trickle(bytes: Buffer, size_bytes = 1): Promise<void> {
    for (let at = 0; at < bytes.length; at += size_bytes) {
      await new Promise(resolve => this.#socket.write(bytes.subarray(at, at + size_bytes), resolve));
      await setImmediate();
    }
  }

  /** The next message. */
  async message(timeout_ms = TIMEOUT_MS): Promise<Message> {
    return (await this.next(timeout_ms)) ?? this.#fail('a message', []);
  }

  /** The next message; undefined when the other side has closed the connection instead. */
  next(timeout_ms = TIMEOUT_MS): Promise<Message | undefined> {
    return this.#next(Date.now() + timeout_ms, 'a message', []);
  }

  /** All messages up to and including the next one of this type. */
  async until(type: string, timeout_ms = TIMEOUT_MS): Promise<Message[]> {
    const wanted = `a message of type ${JSON.stringify(type)}`;
    const deadline = Date.now() + timeout_ms;
    const received: Message[] = [];
    while (received.at(-1)?.type !== type) {
      received.push((await this.#next(deadline, wanted, received)) ?? this.#fail(wanted, received));
    }
    return received;
  }

  /** All messages up to and including the next ReadyForQuery. */
  ready(timeout_ms = TIMEOUT_MS): Promise<Message[]> {
    return this.until('Z', timeout_ms);
  }

  /** Sends one simple query and returns its messages up to ReadyForQuery. */
  query(text: string, timeout_ms = TIMEOUT_MS): Promise<Message[]> {
    this.send(frontend.query(text));
    return this.ready(timeout_ms);
  }

  /** All messages until the other side closes the connection, which it must do. */
  async untilClosed(timeout_ms = TIMEOUT_MS): Promise<Message[]> {
    const deadline = Date.now() + timeout_ms;
    const received: Message[] = [];
    for (;;) {
      const message = await this.#next(deadline, 'the end of the connection', received);
      if (message === undefined) return received;
      received.push(message);
    }
  }

  /** True when no message comes for that long. */
  async silent(time_ms: number): Promise<boolean> {
    const deadline = Date.now() + time_ms;
    while (this.#unread_bytes === 0 && this.#over === undefined && Date.now() < deadline) await this.#wait(deadline);
    return this.#unread_bytes === 0 && this.#over === undefined;
  }

  /** The next bytes as they came, say the single one that answers an SSLRequest. */
  async bytes(length: number, timeout_ms = TIMEOUT_MS): Promise<Buffer> {
    if (!(await this.#have(length, Date.now() + timeout_ms))) this.#fail(`${length} bytes`, []);
    return this.#take(length);
  }

  /** How many bytes have come and not been read yet. */
  get unread_bytes(): number {
    return this.#unread_bytes;
  }

  /** True once the other side has closed the connection, or it broke. */
  get closed(): boolean {
    return this.#over !== undefined;
  }

  /** Stops reading from the socket, so that the other side's writes pile up. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Waits until everything sent has left this process. */
  async drained(): Promise<void> {
    if (this.#socket.writableLength > 0) await new Promise(resolve => this.#socket.write('', resolve));
  }

  /** Closes the sending direction only (FIN). */
  end(): void {
    this.#socket.end();
  }

  /** Says goodbye as libpq does and waits until the connection is gone. */
  async close(): Promise<void> {
    if (this.#socket.destroyed) return;
    const gone = new Promise(resolve => this.#socket.once('close', resolve));
    if (this.#socket.writable) this.#socket.end(frontend.terminate());
    this.#socket.resume();
    // Whoever does not answer a goodbye is not waited for any longer than this.
    const timer = setTimeout(() => this.#socket.destroy(), 1000);
    await gone;
    clearTimeout(timer);
  }

  /** Breaks the connection (RST), as a client whose machine died. */
  destroy(): void {
    breakOff(this.#socket);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The next message; undefined when the connection ended before it. Fails when the deadline passes first. */
  async #next(deadline: number, wanted: string, received: readonly Message[]): Promise<Message | undefined> {
    if (!(await this.#have(5, deadline))) {
      if (this.#over !== undefined && this.#unread_bytes === 0) return undefined;
      this.#fail(wanted, received);
    }
    const header = this.#take(5);
    const length = header.readUInt32BE(1);
    if (length < 4 || length > MAX_LENGTH) this.#fail(`${wanted}, not the header ${header.toString('hex')}`, received);
    if (!(await this.#have(length - 4, deadline))) this.#fail(`${length - 4} bytes of ${wanted}`, received);
    const message = { type: header.toString('latin1', 0, 1), body: this.#take(length - 4) };
    this.#note(message);
    return message;
  }

  #note(message: Message): void {
    if (message.type !== 'S' && message.type !== 'K') return;
    const decoded = decode(message);
    if (decoded.name === 'ParameterStatus') this.parameters.set(decoded.parameter, decoded.value);
    if (decoded.name === 'BackendKeyData') {
      this.pid = decoded.pid;
      this.secret = decoded.secret;
    }
  }

  async #have(length: number, deadline: number): Promise<boolean> {
    while (this.#unread_bytes < length && this.#over === undefined && Date.now() < deadline) await this.#wait(deadline);
    return this.#unread_bytes >= length;
  }

  async #wait(deadline: number): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, deadline - Date.now());
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #take(length: number): Buffer {
    const pieces: Buffer[] = [];
    for (let missing = length; missing > 0; ) {
      const chunk = this.#chunks[0];
      const piece = chunk.subarray(0, missing);
      if (piece.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(piece.length);
      pieces.push(piece);
      missing -= piece.length;
    }
    this.#unread_bytes -= length;
    return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
  }

  #fail(wanted: string, received: readonly Message[]): never {
    const state = this.#over ?? 'time is up';
    const last = received.slice(-20).map(message => inspect(decode(message), { breakLength: Infinity, depth: 4 }));
    if (received.length > last.length) last.unshift(`${received.length - last.length} messages more`);
    const unread = Buffer.concat(this.#chunks).toString('latin1').slice(0, 200);
    throw new Error(
      `${state} while waiting for ${wanted}; received ${last.join(', ') || 'nothing'}; unread ${JSON.stringify(unread)}`,
    );
  }
}

/** Sends a cancel request on a connection of its own and waits until the other side has closed that. */
export async function cancel(address: Address, { pid, secret }: Pick<RawClient, 'pid' | 'secret'>): Promise<void> {
  const client = await RawClient.open(address);
  client.send(frontend.cancelRequest(pid, secret));
  await client.untilClosed();
  client.destroy();
}

async function answerTo(
  request: Decoded,
  user: string,
  password: string,
  scram: ScramClient,
  mechanism = 'SCRAM-SHA-256',
): Promise<Buffer | undefined> {
  switch (request.name) {
    case 'AuthenticationCleartextPassword':
      return frontend.password(password);
    case 'AuthenticationMD5Password':
      return frontend.password(md5Response(user, password, request.salt) ?? '');
    case 'AuthenticationSASL':
      return frontend.saslInitialResponse(mechanism, scram.first());
    case 'AuthenticationSASLContinue': {
      const { salt, iterations } = scram.serverFirst(request.data);
      return frontend.saslResponse(scram.final(await keys.keys(password, salt, iterations)));
    }
    case 'AuthenticationSASLFinal':
      if (!scram.verify(request.data)) throw new Error('the server does not know the password');
      return undefined;
    default:
      return undefined;
  }
}
