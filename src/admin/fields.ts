/** Reads the fields of one client message from its front to its end. */
import { pgError } from '../errors.ts';

/** A body without its header. Every method throws PgError when the message is too short for what it should hold. */
export class Fields {
  readonly #body: Buffer;
  #at = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  /** A string up to its NUL. */
  string(): string {
    const end = this.#body.indexOf(0, this.#at);
    if (end === -1) throw malformed();
    const text = this.#body.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  /** One character. */
  kind(): string {
    return String.fromCharCode(this.#body[this.#take(1)]);
  }

  int16(): number {
    return this.#body.readInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#body.readInt32BE(this.#take(4));
  }

  /** Passes over `length` bytes. */
  skip(length: number): void {
    this.#take(length);
  }

  #take(length: number): number {
    const at = this.#at;
    if (length < 0 || at + length > this.#body.length) throw malformed();
    this.#at += length;
    return at;
  }
}

function malformed() {
  return pgError('protocol_violation', 'invalid message format');
}
