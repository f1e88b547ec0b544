/** Gathers messages that stand next to each other in one buffer, so that they reach their client as one piece. */
import type { Framer } from '../wire/framer.ts';
import type { Exchange } from './exchange.ts';

export class Run {
  #buffer: Buffer | undefined;
  #start = 0;
  #end = 0;

  /** Adds the framer's part to what goes to `exchange`'s owner. */
  add({ buffer, start, end }: Framer, exchange: Exchange | undefined): void {
    if (this.#buffer === buffer && this.#end === start) {
      this.#end = end;
      return;
    }
    this.flush(exchange);
    this.#buffer = buffer;
    this.#start = start;
    this.#end = end;
  }

  /** Hands over what has been gathered. */
  flush(exchange: Exchange | undefined): void {
    const buffer = this.#buffer;
    if (buffer === undefined) return;
    this.#buffer = undefined;
    const isWhole = this.#start === 0 && this.#end === buffer.length;
    exchange?.owner.reply(isWhole ? buffer : buffer.subarray(this.#start, this.#end));
  }

  /** Forgets what has been gathered: nobody is to get it. */
  drop(): void {
    this.#buffer = undefined;
  }
}
