/** Cuts a byte stream into messages without copying them, within length limits, streaming those too long to hold. */
import { HEADER_LENGTH, INSPECT_LENGTH_MAX, MESSAGE_LENGTH_MAX } from './protocol.ts';

/** What {@link Framer.next} found. */
export const PART = {
  /** Nothing more in the bytes fed so far. */
  none: 0,
  /** A whole message. */
  whole: 1,
  /** The head of a message that goes on. */
  first: 2,
  /** More of that message, not its end. */
  middle: 3,
  /** The end of that message. */
  last: 4,
  /** A length that no message may have; see {@link Framer.type} and {@link Framer.length}. */
  bad: 5,
} as const;
export type Part = (typeof PART)[keyof typeof PART];

/** How much of a message a framer holds back until it is complete. */
export interface FramerLimits {
  /** Message types whose bytes need no inspection: they are passed on as they come. */
  readonly eager: readonly number[];
  /** Message types held whole up to this many bytes instead of {@link INSPECT_LENGTH_MAX}. */
  readonly held: { readonly types: readonly number[]; readonly length_max: number };
}

/**
 * A framer is fed chunks and asked for parts until it answers `none`. A part's bytes are `buffer[start, end)`:
 * they belong to the caller for as long as the fed chunk does.
 */
export class Framer {
  /** Where the current part's bytes are. */
  buffer: Buffer = EMPTY;
  start = 0;
  end = 0;
  /** Type byte of the current message. */
  type = 0;
  /** Length of the current message on the wire in bytes, type byte included. */
  length = 0;
  /** Longest message accepted now, in bytes; login phases lower it. */
  length_max = MESSAGE_LENGTH_MAX;

  readonly #hold = new Uint32Array(256).fill(INSPECT_LENGTH_MAX);
  #chunk: Buffer = EMPTY;
  #offset = 0;
  /** Bytes of a streamed message that have not come yet. */
  #remaining = 0;
  #pending: Buffer = EMPTY;
  #pendingLength = 0;

  constructor(limits: FramerLimits) {
    for (const type of limits.held.types) this.#hold[type] = limits.held.length_max;
    for (const type of limits.eager) this.#hold[type] = 0;
  }

  /** Whether bytes were fed that no part has covered yet. */
  get unread(): boolean {
    return this.#offset < this.#chunk.length;
  }

  /** Whether bytes of a message after the current one are here. */
  get isAhead(): boolean {
    return this.#chunk.length - this.#offset > this.#remaining;
  }

  /** Whether the bytes that no part has covered yet end in these. */
  endsIn(bytes: Buffer): boolean {
    const unread = this.#chunk.subarray(this.#offset);
    return unread.length >= bytes.length && unread.subarray(-bytes.length).equals(bytes);
  }

  /** Whether the rest of a message passes in parts now. */
  get streaming(): boolean {
    return this.#remaining > 0;
  }

  /** Bytes of that message still to come. */
  get remaining(): number {
    return this.#remaining;
  }

  /** Type byte of the message that comes next, if a byte of it is here. */
  get nextType(): number | undefined {
    if (this.#pendingLength > 0) return this.#pending[0];
    return this.unread ? this.#chunk[this.#offset] : undefined;
  }

  /** Whether the stream stands between two messages. */
  get atBoundary(): boolean {
    return this.#remaining === 0 && this.#pendingLength === 0 && !this.unread;
  }

  /** Adds the next bytes of the stream. */
  feed(chunk: Buffer): void {
    if (this.unread) this.#chunk = Buffer.concat([this.#chunk.subarray(this.#offset), chunk]);
    else this.#chunk = chunk;
    this.#offset = 0;
  }

  /** Takes back what was fed and not covered, for whoever reads the stream from here on (TLS). */
  takeUnread(): Buffer {
    const rest = Buffer.concat([this.#pending.subarray(0, this.#pendingLength), this.#chunk.subarray(this.#offset)]);
    this.#pendingLength = 0;
    this.#chunk = EMPTY;
    this.#offset = 0;
    return rest;
  }

  /** Moves to the next part. */
  next(): Part {
    if (this.#remaining > 0) return this.#stream();
    if (this.#pendingLength > 0) return this.#resume();
    const chunk = this.#chunk;
    const offset = this.#offset;
    const available = chunk.length - offset;
    if (available < HEADER_LENGTH) return available === 0 ? this.#finish() : this.#keep(available, HEADER_LENGTH);
    this.type = chunk[offset];
    const length = messageLength(chunk, offset);
    this.length = length;
    if (length < HEADER_LENGTH || length > this.length_max) return PART.bad;
    if (length <= available) {
      this.buffer = chunk;
      this.start = offset;
      this.end = this.#offset = offset + length;
      return PART.whole;
    }
    const hold = this.#hold[this.type];
    if (length <= hold) return this.#keep(available, length);
    const head = Math.min(hold, INSPECT_LENGTH_MAX);
    if (available < head) return this.#keep(available, head);
    this.#remaining = length;
    this.#stream();
    return PART.first;
  }

  /** Lets go of a chunk that is used up, so that an idle connection pins no memory. */
  #finish(): Part {
    this.#chunk = EMPTY;
    this.buffer = EMPTY;
    this.#offset = 0;
    return PART.none;
  }

  #stream(): Part {
    const take = Math.min(this.#chunk.length - this.#offset, this.#remaining);
    if (take === 0) return this.#finish();
    this.buffer = this.#chunk;
    this.start = this.#offset;
    this.end = this.#offset += take;
    this.#remaining -= take;
    return this.#remaining === 0 ? PART.last : PART.middle;
  }

  /** Sets the unread bytes aside, with room for what is known to follow. */
  #keep(available: number, wanted: number): Part {
    this.#pending = Buffer.allocUnsafe(Math.min(wanted, Math.max(256, available * 2)));
    this.#chunk.copy(this.#pending, 0, this.#offset);
    this.#pendingLength = available;
    return this.#finish();
  }

  /** Completes what was set aside; grows by doubling, so a length alone reserves no memory. */
  #resume(): Part {
    if (this.#pendingLength < HEADER_LENGTH && !this.#fill(HEADER_LENGTH)) return this.#finish();
    const length = messageLength(this.#pending, 0);
    this.type = this.#pending[0];
    this.length = length;
    if (length < HEADER_LENGTH || length > this.length_max) return PART.bad;
    const hold = this.#hold[this.type];
    const wanted = length <= hold ? length : Math.max(HEADER_LENGTH, Math.min(hold, INSPECT_LENGTH_MAX));
    if (!this.#fill(wanted)) return this.#finish();
    this.buffer = this.#pending;
    this.start = 0;
    this.end = wanted;
    this.#remaining = length - wanted;
    this.#pending = EMPTY;
    this.#pendingLength = 0;
    return this.#remaining === 0 ? PART.whole : PART.first;
  }

  #fill(wanted: number): boolean {
    const take = Math.min(wanted - this.#pendingLength, this.#chunk.length - this.#offset);
    const length = this.#pendingLength + take;
    if (length > this.#pending.length) {
      const grown = Buffer.allocUnsafe(Math.min(Math.max(wanted, length), Math.max(256, length * 2)));
      this.#pending.copy(grown, 0, 0, this.#pendingLength);
      this.#pending = grown;
    }
    this.#chunk.copy(this.#pending, this.#pendingLength, this.#offset, this.#offset + take);
    this.#offset += take;
    this.#pendingLength = length;
    return length >= wanted;
  }
}

const EMPTY: Buffer = Buffer.alloc(0);

/** Length on the wire of the message at `offset`, type byte included; a length word above 2^31 stays positive. */
function messageLength(buffer: Buffer, offset: number): number {
  return (
    (((buffer[offset + 1] << 24) | (buffer[offset + 2] << 16) | (buffer[offset + 3] << 8) | buffer[offset + 4]) >>> 0) +
    1
  );
}
