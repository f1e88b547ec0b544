/** PgCat's `sha1`: which shard has a whole number. */
import { hash } from 'node:crypto';
import { Integer } from './integer.ts';

export class Sha1Hash {
  readonly #shards: number;
  readonly #integer = new Integer();

  constructor(shards: number) {
    this.#shards = shards;
  }

  /** The last four bytes of the hash of the decimal digits, modulo the shards. */
  ofInteger(high: number, low: number): number {
    this.#integer.high = high;
    this.#integer.low = low;
    return hash('sha1', `${this.#integer.value}`, 'buffer').readUInt32BE(16) % this.#shards;
  }
}
