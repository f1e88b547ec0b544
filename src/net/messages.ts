/** Reads messages one at a time for the phases where waiting is allowed: the logins on both sides. */
import { type Framer, PART } from '../wire/framer.ts';
import { HEADER_LENGTH } from '../wire/protocol.ts';

/** A message without its header. */
export interface Message {
  readonly type: number;
  readonly body: Buffer;
}

/** Takes messages out of a framer on demand; what nobody asked for stays in the framer for the next phase. */
export class MessageReader {
  readonly #framer: Framer;
  #waiting:
    | { readonly due: number | undefined; resolve(message: Message): void; reject(error: Error): void }
    | undefined;
  #failure: Error | undefined;
  /** Bytes that may still come. */
  #allowed: number;

  /** Fails when more than `bytes_max` come. */
  constructor(framer: Framer, bytes_max = Number.POSITIVE_INFINITY) {
    this.#framer = framer;
    this.#allowed = bytes_max;
  }

  /** Whether more has come than was asked for. */
  get isAhead(): boolean {
    return this.#waiting === undefined && this.#framer.unread;
  }

  /** Adds bytes from the socket. */
  feed(chunk: Buffer): void {
    this.#allowed -= chunk.length;
    if (this.#allowed < 0) return this.fail(new Error('more was sent than a login may take'));
    this.#framer.feed(chunk);
    if (this.#waiting !== undefined) this.#settle();
  }

  /** The stream ended or broke: whoever waits, or asks later, gets this error. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    this.#waiting = undefined;
  }

  /**
   * The next message. One of another type than is `due`, if any is, is not waited for to its end.
   * @throws Error the stream's failure, or a message longer than this phase allows, or not the one due
   */
  next(due?: number): Promise<Message> {
    return new Promise((resolve, reject) => {
      this.#waiting = { due, resolve, reject };
      this.#settle();
    });
  }

  #settle(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    const { nextType } = this.#framer;
    if (nextType !== undefined && nextType !== (waiting.due ?? nextType))
      this.#failure ??= new Error(`expected message type ${waiting.due}, got message type ${nextType}`);
    const part = this.#failure === undefined ? this.#framer.next() : PART.none;
    if (part === PART.none && this.#failure === undefined) return;
    this.#waiting = undefined;
    const { type, buffer, start, end, length } = this.#framer;
    if (part === PART.whole) waiting.resolve({ type, body: Buffer.from(buffer.subarray(start + HEADER_LENGTH, end)) });
    else waiting.reject(this.#failure ?? new Error(`a message of ${length} bytes is not allowed during login`));
  }
}
