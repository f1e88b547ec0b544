/** A server that means harm: it takes connections of pglynx and says what a test has it say. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { int32, message } from '../client/frontend.ts';

/** What it says to one connection, its first packet having come. */
export type Malice = (line: HostileLine) => Promise<void> | void;

/** One connection of pglynx. */
export class HostileLine {
  readonly socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #wake = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', chunk => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.on('close', () => this.#wake());
  }

  say(...messages: readonly Buffer[]): void {
    if (this.socket.writable) this.socket.write(Buffer.concat(messages));
  }

  /** The next packet without a type byte. */
  async packet(): Promise<Buffer> {
    const header = await this.#peek(4);
    return this.#take(header.readUInt32BE(0));
  }

  /** The next message. */
  async message(): Promise<{ type: string; body: Buffer }> {
    const header = await this.#peek(5);
    const bytes = await this.#take(header.readUInt32BE(1) + 1);
    return { type: String.fromCharCode(bytes[0]), body: bytes.subarray(5) };
  }

  async #peek(length: number): Promise<Buffer> {
    while (this.#bytes.length < length) {
      if (this.socket.destroyed) throw new HungUp();
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
    return this.#bytes;
  }

  async #take(length: number): Promise<Buffer> {
    const bytes = (await this.#peek(length)).subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return bytes;
  }
}

/** The other side has closed the connection, as it may. */
class HungUp extends Error {}

export class HostileServer {
  readonly host = '127.0.0.1';
  readonly port: number;
  /** How it behaves from the next connection on. */
  malice: Malice = () => {};
  /** Connections so far. */
  count = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** What went wrong in the test's own code. */
  #failure: Error | undefined;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
    server.on('connection', socket => {
      this.count++;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      void this.#act(new HostileLine(socket));
    });
  }

  static async start(): Promise<HostileServer> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (typeof address !== 'object' || address === null) throw new Error('no address');
    return new HostileServer(server, address.port);
  }

  async stop(): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #act(line: HostileLine): Promise<void> {
    try {
      await line.packet();
      await this.malice(line);
    } catch (error) {
      if (!(error instanceof HungUp)) this.#failure ??= error instanceof Error ? error : new Error(String(error));
    }
  }
}

/** An authentication request. */
export function authentication(code: number, data: Buffer | string = ''): Buffer {
  return message('R', Buffer.concat([int32(code), Buffer.from(data)]));
}

/** An ErrorResponse or NoticeResponse of these fields; `isEnded` false leaves out the zero byte at its end. */
export function fields(type: 'E' | 'N', texts: readonly string[], isEnded = true): Buffer {
  const body = texts.map(text => `${text}\0`).join('');
  return message(type, Buffer.from(isEnded ? `${body}\0` : body));
}

export const READY = message('Z', Buffer.from('I'));

/** All that a login needs, without a password. */
export const WELCOME = Buffer.concat([
  authentication(0),
  ...Object.entries({ server_version: '18.0', client_encoding: 'UTF8', standard_conforming_strings: 'on' }).map(
    ([name, value]) => message('S', Buffer.from(`${name}\0${value}\0`)),
  ),
  message('K', Buffer.concat([int32(1), int32(2)])),
  READY,
]);

/** Lets pglynx in, and does as {@link until}. */
export async function letIn(line: HostileLine, word: string): Promise<void> {
  line.say(WELCOME);
  await until(line, word);
}

/** Answers what pglynx asks of its own accord, until a query comes that has `word` in it. */
export async function until(line: HostileLine, word: string): Promise<void> {
  for (;;) {
    const { type, body } = await line.message();
    if (type === 'S') line.say(READY);
    if (type !== 'Q') continue;
    if (body.includes(word)) return;
    line.say(message('C', Buffer.from('SELECT 0\0')), READY);
  }
}
