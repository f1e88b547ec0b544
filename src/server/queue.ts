/** The exchanges under way on one connection, in their order: the server works on the first, the others wait. */
import type { Exchange } from './exchange.ts';

export class ExchangeQueue {
  #exchanges: Exchange[] = [];

  /** The one that the server works on. */
  get head(): Exchange | undefined {
    return this.#exchanges[0];
  }

  get isEmpty(): boolean {
    return this.#exchanges.length === 0;
  }

  includes(exchange: Exchange): boolean {
    return this.#exchanges.includes(exchange);
  }

  push(exchange: Exchange): void {
    this.#exchanges.push(exchange);
  }

  shift(): void {
    this.#exchanges.shift();
  }

  /** Takes out all of them. */
  empty(): Exchange[] {
    return this.#exchanges.splice(0);
  }

  /** A cancel for the first may hit one that waits. */
  endanger(): void {
    for (const exchange of this.#exchanges.slice(1)) exchange.owner.endangered();
  }

  /** Lets those that wait go elsewhere; whether all that remain are nobody's. */
  moveWaiting(): boolean {
    let isFree = true;
    for (const exchange of this.#exchanges.slice(1)) if (!exchange.silent && !exchange.owner.moves()) isFree = false;
    return isFree;
  }

  /** Whether the first, which keeps others waiting, may be canceled. */
  headYields(): boolean {
    const [head, ...waiting] = this.#exchanges;
    return waiting.some(({ silent }) => !silent) && head.owner.yields();
  }
}
