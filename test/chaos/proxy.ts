/** A TCP proxy that misbehaves on request: slow, narrow, cut in pieces, silent, half closed, reset or refusing. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';

/** What is wrong with the network; it may change at any time and holds for open connections too. */
export interface Faults {
  /** Added to every byte's way, in each direction. */
  latency_ms?: number;
  /** The most that passes in each direction of a connection. */
  bytes_per_second?: number;
  /** Cuts everything into pieces of at most so many bytes, each written in a turn of its own. */
  piece_bytes?: number;
  /** Nothing passes while this is true; what was sent meanwhile arrives afterwards, as after a network split. */
  silent?: boolean;
}

export type Side = 'client' | 'server';

/** Where a proxy forwards to. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

const QUEUE_BYTES = 1 << 20;
const POLL_MS = 5;

export class ChaosProxy {
  readonly host = '127.0.0.1';
  /** The faults in force; assign or change them freely. */
  faults: Faults = {};
  readonly #target: Target;
  readonly #server: Server;
  readonly #connections = new Set<Record<Side, Socket>>();
  #port = 0;

  private constructor(target: Target) {
    this.#target = target;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, client => this.#accept(client));
  }

  /** Listens on a free port of 127.0.0.1 and forwards every connection to `target`. */
  static async start(target: Target, faults: Faults = {}): Promise<ChaosProxy> {
    const proxy = new ChaosProxy(target);
    proxy.faults = faults;
    await proxy.accept();
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  /** How many connections are open. */
  get connections(): number {
    return this.#connections.size;
  }

  /** From now on new connections are refused (ECONNREFUSED); open ones go on. */
  refuse(): void {
    this.#server.close();
  }

  /** Takes new connections again, on the same port. */
  async accept(): Promise<void> {
    this.#server.listen(this.#port, this.host);
    await once(this.#server, 'listening');
    const address = this.#server.address();
    if (typeof address === 'object' && address !== null) this.#port = address.port;
  }

  /** Breaks every open connection with RST, in both directions. */
  reset(): void {
    for (const { client, server } of this.#connections) {
      breakOff(client);
      breakOff(server);
    }
  }

  /** Sends FIN to one side of every open connection; what that side still sends goes on to the other. */
  halfClose(side: Side): void {
    for (const connection of this.#connections) connection[side].end();
  }

  /** Breaks what is open and stops listening. */
  async stop(): Promise<void> {
    this.reset();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #accept(client: Socket): void {
    const server = connect({ host: this.#target.host, port: this.#target.port, allowHalfOpen: true, noDelay: true });
    const connection = { client, server };
    this.#connections.add(connection);
    const breakBoth = () => {
      breakOff(client);
      breakOff(server);
    };
    for (const socket of [client, server]) {
      socket.on('error', breakBoth);
      socket.on('close', () => {
        if (client.destroyed && server.destroyed) this.#connections.delete(connection);
      });
    }
    new Direction(client, server, () => this.faults);
    new Direction(server, client, () => this.faults);
  }
}

/** One direction of a connection: a queue of what has arrived and when it is due on the other side. */
class Direction {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #faults: () => Faults;
  readonly #queue: { readonly bytes: Buffer | 'end'; readonly arrived_ms: number }[] = [];
  #queued_bytes = 0;
  #pumping = false;

  constructor(source: Socket, sink: Socket, faults: () => Faults) {
    this.#source = source;
    this.#sink = sink;
    this.#faults = faults;
    source.on('data', bytes => this.#add(bytes));
    source.on('end', () => this.#add('end'));
  }

  #add(bytes: Buffer | 'end'): void {
    this.#queue.push({ bytes, arrived_ms: performance.now() });
    this.#queued_bytes += bytes.length;
    if (this.#queued_bytes > QUEUE_BYTES) this.#source.pause();
    if (!this.#pumping) void this.#pump();
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      const wait_ms = next.arrived_ms + (this.#faults().latency_ms ?? 0) - performance.now();
      if (wait_ms > 0) await sleep(wait_ms);
      if (next.bytes === 'end') {
        await this.#passable();
        this.#sink.end();
      } else {
        await this.#write(next.bytes);
      }
      this.#queued_bytes -= next.bytes.length;
      if (this.#queued_bytes <= QUEUE_BYTES) this.#source.resume();
    }
    this.#pumping = false;
  }

  async #write(bytes: Buffer): Promise<void> {
    const { piece_bytes, bytes_per_second } = this.#faults();
    const narrow_bytes = bytes_per_second === undefined ? Number.POSITIVE_INFINITY : Math.ceil(bytes_per_second / 100);
    const step = Math.min(piece_bytes ?? bytes.length, narrow_bytes);
    for (let start = 0; start < bytes.length; start += step) {
      await this.#passable();
      if (!this.#sink.writable) return;
      const piece = bytes.subarray(start, start + step);
      await new Promise(resolve => this.#sink.write(piece, resolve));
      if (bytes_per_second !== undefined) await sleep((piece.length / bytes_per_second) * 1000);
      else if (piece_bytes !== undefined) await turn();
    }
  }

  async #passable(): Promise<void> {
    while (this.#faults().silent === true && !this.#sink.destroyed) await sleep(POLL_MS);
  }
}

/** Breaks a connection with RST; Node cannot do that while the socket is sending its FIN, and would never end. Unix sockets have none. */
export function breakOff(socket: Socket): void {
  if (socket.writableEnded || socket.remoteAddress === undefined) socket.destroy();
  else socket.resetAndDestroy();
}
