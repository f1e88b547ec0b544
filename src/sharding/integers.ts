/** Sharding keys that are whole numbers: smallint, integer, bigint. */
import { Integer } from './integer.ts';
import { type KeyShard, type KeyType, type KeyUse, typeOf, type WrittenKey } from './key.ts';

/** Finds the shard of a whole number. */
export interface IntegerHash {
  ofInteger(high: number, low: number): number;
}

/** Bytes of each type in binary. */
const BYTES: ReadonlyMap<string | undefined, number> = new Map([
  ['int2', 2],
  ['int4', 4],
  ['int8', 8],
]);

/** Longer texts are no numbers that anybody means. */
const LENGTH_MAX = 1000;

/**
 * How strings begin that another type of number may read: without a type of its own a string takes that of its
 * neighbours, so that '5.0' is 5 in `id IN ('5.0', 6.5)` and an error in `id = '5.0'`.
 */
const NUMBER_LIKE = /^[\s+-]*[\d.\x80-\uffff]/;

const DECIMAL = /^\s*([+-]?)(?=\.?\d)(\d*)(?:\.(\d*))?\s*$/;

/** Numbers in a range that are looked at one by one. */
const RANGE_MAX = 256n;

export class IntegerKeys implements KeyType {
  readonly #hash: IntegerHash;
  readonly #integer = new Integer();

  constructor(hash: IntegerHash) {
    this.#hash = hash;
  }

  shardOf(key: Exclude<WrittenKey, 'null'>, use: KeyUse): KeyShard {
    const found = this.#read(key, use);
    return found === 'read' ? this.#hash.ofInteger(this.#integer.high, this.#integer.low) : found;
  }

  rangeOf(from: WrittenKey, to: WrittenKey): readonly number[] | undefined {
    if (from === 'null' || to === 'null' || this.#read(to, 'compared') !== 'read') return undefined;
    const last = this.#integer.value;
    if (this.#read(from, 'compared') !== 'read') return undefined;
    const count = last - this.#integer.value + 1n;
    if (count > RANGE_MAX) return undefined;
    const shards = new Set<number>();
    for (let n = 0; n < count; n++) {
      shards.add(this.#hash.ofInteger(this.#integer.high, this.#integer.low));
      this.#integer.increment();
    }
    return [...shards];
  }

  /** Reads a value into `#integer`. */
  #read(key: Exclude<WrittenKey, 'null'>, use: KeyUse): 'read' | 'unmatched' | 'unknown' {
    const type = typeOf(key);
    switch (key.form) {
      case 'binary':
        if (type !== undefined && BYTES.get(type) !== key.bytes.length) return 'unknown';
        return this.#integer.readBinary(key.bytes) ? 'read' : 'unknown';
      case 'text': {
        if (key.bytes.length > LENGTH_MAX) return 'unknown';
        const text = key.bytes.toString('latin1');
        return type === 'numeric'
          ? this.#readNumber(text, false, use === 'stored')
          : this.#readString(text, false, type);
      }
      case 'string':
        // The server knows no negative of a string without a type.
        if (key.negative === true && type === undefined) return 'unknown';
        return this.#readString(key.text, key.negative === true, type);
      default:
        if (type !== undefined && !BYTES.has(type)) return 'unknown';
        return this.#readNumber(key.text, key.negative === true, type !== undefined || use === 'stored');
    }
  }

  #readString(text: string, negative: boolean, type: string | undefined): 'read' | 'unmatched' | 'unknown' {
    if (text.length > LENGTH_MAX || (type !== undefined && !BYTES.has(type))) return 'unknown';
    if (this.#integer.read(text, negative)) return 'read';
    return type === undefined && NUMBER_LIKE.test(text) ? 'unknown' : 'unmatched';
  }

  /** A numeric: with a fraction it equals no integer, but becomes one when it is cast or stored. */
  #readNumber(text: string, negative: boolean, isRounded: boolean): 'read' | 'unmatched' | 'unknown' {
    if (text.length > LENGTH_MAX) return 'unknown';
    if (this.#integer.read(text, negative)) return 'read';
    const match = DECIMAL.exec(text);
    if (match === null) return 'unknown';
    const [, sign, whole, fraction = ''] = match;
    if (/[1-9]/.test(fraction)) return isRounded ? 'unknown' : 'unmatched';
    return this.#integer.read(`${sign}0${whole}`, negative) ? 'read' : 'unmatched';
  }
}
