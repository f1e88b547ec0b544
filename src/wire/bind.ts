/** The parameter values of a Bind message, read in place. */

/** One value: where its bytes are, in text or binary format; `length` -1 is NULL. */
export interface BindValue {
  readonly binary: boolean;
  readonly from: number;
  readonly length: number;
}

/** The values of one Bind, valid as long as its buffer is. */
export class BindValues {
  readonly buffer: Buffer;
  readonly #end: number;
  /** Where the format codes begin, behind their count. */
  readonly #formats: number;
  readonly #formatCount: number;
  /** Number of values. */
  readonly count: number;
  /** Where the values stand that were passed over, each once, whatever the order in which they are asked for. */
  readonly #starts: number[] = [];
  /** Where the next one stands. */
  #at: number;

  /** `from` is behind the statement's name; `end` is the message's. */
  constructor(buffer: Buffer, from: number, end: number) {
    this.buffer = buffer;
    this.#end = end;
    this.#formatCount = uint16(buffer, from, end);
    this.#formats = from + 2;
    const counted = this.#formats + 2 * this.#formatCount;
    this.count = uint16(buffer, counted, end);
    this.#at = counted + 2;
  }

  /** The value of parameter `n`, the first being 1; undefined when the message has no such value. */
  value(n: number): BindValue | undefined {
    if (n < 1 || n > this.count) return undefined;
    while (this.#starts.length < n) if (!this.#pass()) return undefined;
    const at = this.#starts[n - 1];
    return { binary: this.#isBinary(n), from: at + 4, length: this.buffer.readInt32BE(at) };
  }

  /** Passes over the next value; false when it is not whole. */
  #pass(): boolean {
    const at = this.#at;
    if (at + 4 > this.#end) return false;
    const length = this.buffer.readInt32BE(at);
    const next = at + 4 + Math.max(0, length);
    if (length < -1 || next > this.#end) return false;
    this.#starts.push(at);
    this.#at = next;
    return true;
  }

  /** No code is text for all, one code is for all, else each value has its own. */
  #isBinary(n: number): boolean {
    if (this.#formatCount === 0) return false;
    const at = this.#formats + (this.#formatCount === 1 ? 0 : 2 * (n - 1));
    return uint16(this.buffer, at, this.#end) === 1;
  }
}

function uint16(buffer: Buffer, at: number, end: number): number {
  return at + 2 <= end ? buffer.readUInt16BE(at) : 0;
}
