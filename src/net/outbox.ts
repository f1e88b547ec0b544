/** Gathers what is written to a socket and hands it over in one write, watching back-pressure. */
import type { Socket } from 'node:net';

/** Bytes that are gathered before they leave without waiting for the end of the callback. */
const GATHER_LENGTH_MAX = 256 * 1024;
/** Bytes up to which pieces are copied together; longer ones leave by a vectored write. */
const COPY_LENGTH_MAX = 16 * 1024;

/**
 * How long an outbox gathers: to the end of the callback, or of the turn of the event loop, in which many callbacks
 * may add to it.
 */
export type Gathers = 'callback' | 'turn';

/** Told when a socket that was full has room again. */
export interface OutboxOwner {
  drained(): void;
}

/** One socket's outgoing bytes. Pieces pushed here must stay unchanged until they have left. */
export class Outbox {
  readonly #socket: Socket;
  readonly #owner: OutboxOwner;
  #pieces: Buffer[] = [];
  #length = 0;
  #listed = false;
  /** Whether the socket asked to wait: nobody should produce more until `drained`. */
  full = false;
  /** Bytes handed to the socket since it was opened, and in how many writes. */
  sent_bytes = 0;
  flushes = 0;

  readonly #moment: Moment;

  constructor(socket: Socket, owner: OutboxOwner, gathers: Gathers) {
    this.#socket = socket;
    this.#owner = owner;
    this.#moment = MOMENTS[gathers];
    socket.on('drain', () => {
      this.full = false;
      this.#owner.drained();
    });
  }

  /** Whether something waits to be handed to the socket. */
  get pending(): boolean {
    return this.#length > 0;
  }

  /** Bytes that have not left the process. */
  get unsent_bytes(): number {
    return this.#length + this.#socket.writableLength;
  }

  /** Adds a piece to the write under way. */
  push(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (this.#length >= GATHER_LENGTH_MAX) this.flush();
    else if (!this.#listed) {
      this.#listed = true;
      this.#moment.list(this);
    }
  }

  /** Writes what has been gathered now. */
  flush(): void {
    this.#listed = false;
    const pieces = this.#pieces;
    if (pieces.length === 0) return;
    const socket = this.#socket;
    const length = this.#length;
    this.#length = 0;
    if (socket.destroyed || socket.writableEnded) {
      this.#pieces = [];
      return;
    }
    this.sent_bytes += length;
    this.flushes++;
    let room: boolean;
    if (pieces.length === 1) {
      // Emptied this way it keeps its room, and costs a fraction of what setting its length does.
      room = socket.write(pieces[0]);
      pieces.pop();
    } else {
      this.#pieces = [];
      room = length <= COPY_LENGTH_MAX ? socket.write(Buffer.concat(pieces, length)) : writeAll(socket, pieces);
    }
    if (!room) this.full = true;
  }

  /** Writes what has been gathered and ends the socket after it. */
  end(): void {
    this.flush();
    this.#socket.end();
  }
}

function writeAll(socket: Socket, pieces: Buffer[]): boolean {
  let room = true;
  socket.cork();
  for (const piece of pieces) room = socket.write(piece);
  socket.uncork();
  return room;
}

/** Outboxes that gather until the same moment. */
class Moment {
  readonly #schedule: (flush: () => void) => void;
  #listed: Outbox[] = [];

  constructor(schedule: (flush: () => void) => void) {
    this.#schedule = schedule;
  }

  list(outbox: Outbox): void {
    if (this.#listed.push(outbox) === 1) this.#schedule(this.#flush);
  }

  readonly #flush = (): void => {
    const full = this.#listed;
    this.#listed = [];
    for (const outbox of full) outbox.flush();
  };
}

const MOMENTS: Readonly<Record<Gathers, Moment>> = {
  /** A microtask measures a little faster here than the end of the turn. */
  callback: new Moment(queueMicrotask),
  /** What all clients that were read in a turn sent to one server leaves in one write. */
  turn: new Moment(setImmediate),
};
