/** Gathers messages that stand next to each other in one buffer, so that they reach their receiver as one piece. */
import type { Framer } from '../wire/framer.ts';
import type { ExchangeOwner } from './exchange.ts';

export class Run {
  #receiver: ExchangeOwner | undefined;
  #buffer: Buffer | undefined;
  #start = 0;
  #end = 0;

  /** Adds the framer's part to what goes to `receiver`. */
  add({ buffer, start, end }: Framer, receiver: ExchangeOwner): void {
    if (this.#buffer === buffer && this.#end === start && this.#receiver === receiver) {
      this.#end = end;
      return;
    }
    this.flush();
    this.#receiver = receiver;
    this.#buffer = buffer;
    this.#start = start;
    this.#end = end;
  }

  /** Hands over what has been gathered. */
  flush(): void {
    const buffer = this.#buffer;
    if (buffer === undefined) return;
    this.#buffer = undefined;
    const isWhole = this.#start === 0 && this.#end === buffer.length;
    this.#receiver?.reply(isWhole ? buffer : buffer.subarray(this.#start, this.#end));
  }

  /** Forgets what has been gathered: nobody is to get it. */
  drop(): void {
    this.#buffer = undefined;
  }
}
