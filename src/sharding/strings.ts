/** Sharding keys whose bytes are hashed: text, varchar and uuid. */
import { KEY_LENGTH_MAX, type KeyShard, type KeyType, type KeyUse, typeOf, type WrittenKey } from './key.ts';
import type { PartitionHash } from './pghash.ts';
import { parseUuid, UUID_BYTES } from './uuid.ts';

const SPACE = 0x20;

/** Text and varchar, of any collation to which only equal bytes are equal. */
export class TextKeys implements KeyType {
  readonly #hash: PartitionHash;

  constructor(hash: PartitionHash) {
    this.#hash = hash;
  }

  shardOf(key: Exclude<WrittenKey, 'null'>, use: KeyUse, utf8: boolean): KeyShard {
    const type = typeOf(key);
    if (type !== undefined && type !== 'text' && type !== 'varchar') return 'unknown';
    const bytes = bytesOf(key);
    if (bytes === undefined || bytes.length > KEY_LENGTH_MAX) return 'unknown';
    // A varchar(n) drops blanks that are too many when it is stored.
    if (use === 'stored' && bytes[bytes.length - 1] === SPACE) return 'unknown';
    return utf8 || isAscii(bytes) ? this.#hash.ofBytes(bytes) : 'unknown';
  }

  rangeOf(): undefined {
    return undefined;
  }
}

export class UuidKeys implements KeyType {
  readonly #hash: PartitionHash;

  constructor(hash: PartitionHash) {
    this.#hash = hash;
  }

  shardOf(key: Exclude<WrittenKey, 'null'>): KeyShard {
    const type = typeOf(key);
    if (type !== undefined && type !== 'uuid') return 'unknown';
    if (key.form === 'binary') return key.bytes.length === UUID_BYTES ? this.#hash.ofBytes(key.bytes) : 'unknown';
    const written = bytesOf(key);
    if (written === undefined) return 'unknown';
    const bytes = parseUuid(written.toString('latin1'));
    return bytes === undefined ? 'unmatched' : this.#hash.ofBytes(bytes);
  }

  rangeOf(): undefined {
    return undefined;
  }
}

/** The bytes of a parameter or of a string; undefined for a number, and for what has a minus in front. */
function bytesOf(key: Exclude<WrittenKey, 'null'>): Buffer | undefined {
  if ('bytes' in key) return key.bytes;
  return key.form === 'string' && key.negative !== true ? Buffer.from(key.text) : undefined;
}

function isAscii(bytes: Buffer): boolean {
  return bytes.every(byte => byte < 0x80);
}
