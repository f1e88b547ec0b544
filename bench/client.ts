/** A client of PostgreSQL's protocol that throws results away: it costs little beside what is measured. */
import { connect, type Socket } from 'node:net';
import { errorFields } from '../src/wire/backend.ts';
import { Framer, PART } from '../src/wire/framer.ts';
import { query, startupMessage, TERMINATE } from '../src/wire/frontend.ts';
import { BACKEND } from '../src/wire/protocol.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
  /** User and database; there is no password. */
  readonly user: string;
}

export class DiscardingClient {
  /** Bytes that have come. */
  bytes = 0;
  readonly #socket: Socket;
  readonly #framer = new Framer({ eager: [], held: { types: [], length_max: 0 } });
  #settle: ((error: Error | undefined) => void) | undefined;
  #error: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', chunk => this.#read(chunk));
    socket.on('error', error => this.#settle?.(error));
    socket.on('close', () => this.#settle?.(new Error('the connection was closed')));
  }

  /** Logs in. */
  static async connect({ host, port, user }: Address): Promise<DiscardingClient> {
    const client = new DiscardingClient(connect({ host, port, noDelay: true }));
    await client.#ask(
      startupMessage([
        ['user', user],
        ['database', user],
      ]),
    );
    return client;
  }

  /** Runs a query to the end of its results. */
  query(text: string): Promise<void> {
    return this.#ask(query(text));
  }

  close(): void {
    this.#settle = undefined;
    this.#socket.end(TERMINATE);
  }

  #ask(message: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#settle = error => {
        this.#settle = undefined;
        if (error === undefined) resolve();
        else reject(error);
      };
      this.#socket.write(message);
    });
  }

  #read(chunk: Buffer): void {
    const framer = this.#framer;
    this.bytes += chunk.length;
    framer.feed(chunk);
    for (let part = framer.next(); part !== PART.none; part = framer.next()) {
      if (part === PART.bad) this.#socket.destroy(new Error('a length that no message may have'));
      if (part === PART.bad) return;
      if (framer.type === BACKEND.errorResponse && part === PART.whole) {
        const fields = errorFields(framer.buffer, framer.start, framer.end);
        this.#error = new Error(`${fields.get('C')}: ${fields.get('M')}`);
        // No ReadyForQuery follows one that ends the connection.
        if (fields.get('S') === 'FATAL') this.#settle?.(this.#error);
      }
      if (framer.type === BACKEND.readyForQuery) {
        const error = this.#error;
        this.#error = undefined;
        this.#settle?.(error);
      }
    }
  }
}
