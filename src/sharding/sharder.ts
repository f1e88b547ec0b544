/** Finds the shards of keys, however they are written. */
import { parseArray, readArray } from './array.ts';
import { IntegerKeys } from './integers.ts';
import {
  KEY_LENGTH_MAX,
  type KeyShard,
  type KeyType,
  type KeyUse,
  type ShardingFunction,
  typeName,
  typeOf,
  type WrittenKey,
} from './key.ts';
import { PartitionHash } from './pghash.ts';
import { Sha1Hash } from './sha1.ts';
import { TextKeys, UuidKeys } from './strings.ts';

export type { KeyShard, KeyUse, ShardingFunction, WrittenKey } from './key.ts';

/**
 * `utf8` says of each method whether the client and the database use UTF8. If they don't, a text beyond ASCII may be
 * stored as other bytes than those that came, and its shard is unknown.
 */
export class Sharder {
  readonly shards: number;
  readonly #function: ShardingFunction;
  readonly #type: KeyType;

  /** @throws RangeError for what is no number of shards. */
  constructor(fn: ShardingFunction, shards: number) {
    this.shards = shards;
    this.#function = fn;
    this.#type = keyType(fn, shards);
  }

  /** Whether keys are whole numbers. */
  get takesNumbers(): boolean {
    return this.#function === 'pg_bigint_hash' || this.#function === 'sha1';
  }

  /** The shard of one value. */
  shardOf(key: WrittenKey, use: KeyUse, utf8 = true): KeyShard {
    if (key !== 'null') return this.#type.shardOf(key, use, utf8);
    if (use === 'compared') return 'unmatched';
    // PostgreSQL leaves NULL out of the hash, which stays 0; PgCat has no answer.
    return this.#function === 'sha1' ? 'unknown' : 0;
  }

  /** What the elements of an array answer to {@link shardOf}, each answer once; undefined for what cannot be read. */
  elementsOf(array: WrittenKey, utf8 = true): readonly KeyShard[] | undefined {
    if (array === 'null') return [];
    const elements = elementsOf(array);
    if (elements === undefined) return undefined;
    const answers = new Set<KeyShard>();
    for (const element of elements) answers.add(this.shardOf(element, 'compared', utf8));
    return [...answers];
  }

  /** The shards of the whole numbers from one to another, both included; undefined if they are many or no such. */
  rangeOf(from: WrittenKey, to: WrittenKey): readonly number[] | undefined {
    return this.#type.rangeOf(from, to);
  }

  /** The shard of what stands in SET SHARDING KEY TO, without quotes; undefined for what is no key. */
  shardOfText(text: string, utf8 = true): number | undefined {
    const shard = this.#type.shardOf({ form: 'string', text }, 'compared', utf8);
    return typeof shard === 'number' ? shard : undefined;
  }
}

function keyType(fn: ShardingFunction, shards: number): KeyType {
  const hash = new PartitionHash(shards);
  switch (fn) {
    case 'pg_bigint_hash':
      return new IntegerKeys(hash);
    case 'pg_text_hash':
      return new TextKeys(hash);
    case 'pg_uuid_hash':
      return new UuidKeys(hash);
    case 'sha1':
      return new IntegerKeys(new Sha1Hash(shards));
  }
}

function elementsOf(array: Exclude<WrittenKey, 'null'>): WrittenKey[] | undefined {
  if (array.form === 'integer' || array.form === 'decimal') return undefined;
  if (('bytes' in array ? array.bytes : array.text).length > KEY_LENGTH_MAX) return undefined;
  const type = typeOf(array);
  if (type !== undefined && !type.startsWith('_')) return undefined;
  const element = type?.slice(1);
  if (array.form === 'binary') {
    const read = readArray(array.bytes);
    if (read === undefined || (element !== undefined && element !== typeName(read.type))) return undefined;
    return read.elements.map(bytes => (bytes === null ? 'null' : { form: 'binary', bytes, type: read.type }));
  }
  // A parameter in text format is read as a literal of its type is.
  const written = 'bytes' in array ? array.bytes.toString() : array.text;
  return parseArray(written)?.map(text => (text === null ? 'null' : { form: 'string', text, cast: element }));
}
