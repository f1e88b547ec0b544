/** PostgreSQL's partition hash: which of n partitions of a table PARTITION BY HASH has a key. */

/** HASH_PARTITION_SEED. */
const SEED_HIGH = 0x7a5b2236;
const SEED_LOW = 0x7996dcfd;

/** What hash_combine64 adds to the hash of the first column. */
const COMBINE_HIGH = 0x49a0f4dd;
const COMBINE_LOW = 0x15e5a8e3;

/** The most partitions: the remainders of two such numbers have a product of 32 bits. */
const PARTITIONS_MAX = 65_536;

/** Where a hash over `length` bytes starts. */
const start = (length: number) => (0x9e3779b9 + length + 3923095) | 0;

/** 64 bits are two halves here, since a double has only 53 of them. */
export class PartitionHash {
  readonly #partitions: number;
  /** 2^32 modulo the partitions. */
  readonly #wrap: number;

  /** @throws RangeError for what is no number of partitions. */
  constructor(partitions: number) {
    if (!Number.isInteger(partitions) || partitions < 1 || partitions > PARTITIONS_MAX) {
      throw new RangeError(`${partitions} is no number of partitions`);
    }
    this.#partitions = partitions;
    this.#wrap = 2 ** 32 % partitions;
  }

  /** The partition of an int8, int4 or int2 with these halves, unsigned, in two's complement. */
  ofInteger(high: number, low: number): number {
    // As hashint8 does it, so that equal values of all three types have equal hashes.
    const word = low ^ (high >= 0x80000000 ? ~high : high);
    return this.#finish((SEEDED_WORD[0] + word) | 0, SEEDED_WORD[1], SEEDED_WORD[2]);
  }

  /** The partition of a text or varchar with these bytes, or of a uuid. */
  ofBytes(bytes: Uint8Array): number {
    const [a, b, c] = mixed(bytes);
    return this.#finish(a, b, c);
  }

  /** Combines the hash as a partition's with that of no column, and divides. */
  #finish(a: number, b: number, c: number): number {
    c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
    a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
    b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
    c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
    a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
    b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
    c = ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
    const low = (c + COMBINE_LOW) >>> 0;
    const carry = low < COMBINE_LOW ? 1 : 0;
    const high = (b + COMBINE_HIGH + carry) >>> 0;
    const partitions = this.#partitions;
    const sum = ((Math.imul(high % partitions, this.#wrap) >>> 0) % partitions) + (low % partitions);
    return sum < partitions ? sum : sum - partitions;
  }
}

/** The state of lookup3, the hash that PostgreSQL uses, with all but the last mixing done. */
function mixed(bytes: Uint8Array): readonly [number, number, number] {
  const { length } = bytes;
  let a = start(length) + SEED_HIGH;
  let b = start(length) + SEED_LOW;
  let c = start(length);
  for (let at = 0; ; at += 12) {
    a = (a - c) ^ ((c << 4) | (c >>> 28));
    c = (c + b) | 0;
    b = (b - a) ^ ((a << 6) | (a >>> 26));
    a = (a + c) | 0;
    c = (c - b) ^ ((b << 8) | (b >>> 24));
    b = (b + a) | 0;
    a = (a - c) ^ ((c << 16) | (c >>> 16));
    c = (c + b) | 0;
    b = (b - a) ^ ((a << 19) | (a >>> 13));
    a = (a + c) | 0;
    c = (c - b) ^ ((b << 4) | (b >>> 28));
    b = (b + a) | 0;
    a = (a + word(bytes, at)) | 0;
    b = (b + word(bytes, at + 4)) | 0;
    // The lowest byte of the last c is the length's.
    if (at + 12 > length) return [a, b, (c + (word(bytes, at + 8) << 8)) | 0];
    c = (c + word(bytes, at + 8)) | 0;
  }
}

/** Four bytes, the lowest first; those behind the end are zero. */
function word(bytes: Uint8Array, at: number): number {
  const { length } = bytes;
  if (at + 4 <= length) return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
  let result = 0;
  for (let shift = 0; at < length; at++, shift += 8) result |= bytes[at] << shift;
  return result;
}

/** The state of a hash over four bytes that are all zero. */
const SEEDED_WORD = mixed(new Uint8Array(4));
