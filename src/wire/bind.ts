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
  /** Where the values begin, behind their count. */
  readonly #values: number;
  /** Number of values. */
  readonly count: number;
  /** Where the value after the last one read stands, so that reading in order passes over each once. */
  #next = 1;
  #at: number;

  /** `from` is behind the statement's name; `end` is the message's. */
  constructor(buffer: Buffer, from: number, end: number) {
    this.buffer = buffer;
    this.#end = end;
    this.#formatCount = uint16(buffer, from, end);
    this.#formats = from + 2;
    const counted = this.#formats + 2 * this.#formatCount;
    this.count = uint16(buffer, counted, end);
    this.#values = counted + 2;
    this.#at = this.#values;
  }

  /** The value of parameter `n`, the first being 1; undefined when the message has no such value. */
  value(n: number): BindValue | undefined {
    if (n < 1 || n > this.count) return undefined;
    if (n < this.#next) {
      this.#next = 1;
      this.#at = this.#values;
    }
    for (;;) {
      if (this.#at + 4 > this.#end) return undefined;
      const length = this.buffer.readInt32BE(this.#at);
      const from = this.#at + 4;
      if (length < -1 || from + Math.max(0, length) > this.#end) return undefined;
      this.#at = from + Math.max(0, length);
      if (this.#next++ === n) return { binary: this.#isBinary(n), from, length };
    }
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
