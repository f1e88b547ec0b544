/** Values of sharding keys as statements write them, and the types that a key may have. */

/** How a shard follows from a key; the first three are PostgreSQL's own partition hashes. */
export type ShardingFunction = 'pg_bigint_hash' | 'pg_text_hash' | 'pg_uuid_hash' | 'sha1';

/** A value as it arrives. */
export type WrittenKey =
  | {
      /** A literal: numbers without underscores, strings without quotes and escapes. */
      readonly form: 'integer' | 'decimal' | 'string';
      readonly text: string;
      readonly negative?: boolean;
      /** The type it is cast to, as the catalog names it (`int8`, `_int8`), if the cast has no length. */
      readonly cast?: string | undefined;
    }
  | {
      /** A parameter of a Bind, in the format of this name. */
      readonly form: 'text' | 'binary';
      readonly bytes: Buffer;
      /** OID of its type; 0 when the server finds it out. */
      readonly type: number;
    }
  | 'null';

/**
 * What a value is for: `compared` with a key, or `stored` as one. PostgreSQL rounds what it stores in an integer, takes
 * blanks off the end of what is too long for a varchar, and finds a partition for NULL.
 */
export type KeyUse = 'compared' | 'stored';

/**
 * The shard of a value. `unmatched`: no row can have it, or the server will raise an error wherever the statement
 * goes. `unknown`: it cannot be read for certain.
 */
export type KeyShard = number | 'unmatched' | 'unknown';

/** Bytes of a key, or of an array of keys; what is longer is not read, since everybody else would have to wait. */
export const KEY_LENGTH_MAX = 2 ** 18;

/** How keys of one type are read. */
export interface KeyType {
  /** `utf8`: the client and the database use UTF8, so text is stored as it came. */
  shardOf(key: Exclude<WrittenKey, 'null'>, use: KeyUse, utf8: boolean): KeyShard;
  /** The shards of the whole numbers between two, if they are few. */
  rangeOf(from: WrittenKey, to: WrittenKey): readonly number[] | undefined;
}

/** Names of types by OID. A literal that is cast and a parameter of that type are read alike. */
const TYPES: ReadonlyMap<number, string> = new Map([
  [20, 'int8'],
  [21, 'int2'],
  [23, 'int4'],
  [25, 'text'],
  [1043, 'varchar'],
  [1700, 'numeric'],
  [2950, 'uuid'],
  [1005, '_int2'],
  [1007, '_int4'],
  [1009, '_text'],
  [1015, '_varchar'],
  [1016, '_int8'],
  [1231, '_numeric'],
  [2951, '_uuid'],
]);

/** A parameter whose type is UNKNOWN is of no type, to the server as well. */
const UNKNOWN_OID = 705;

/** The type that a value is said to have, by name; undefined if nobody says, `other` if no key is read from it. */
export function typeOf(key: Exclude<WrittenKey, 'null'>): string | undefined {
  if (!('bytes' in key)) return key.cast;
  return key.type === 0 || key.type === UNKNOWN_OID ? undefined : typeName(key.type);
}

/** The name of the type with this OID. */
export function typeName(oid: number): string {
  return TYPES.get(oid) ?? 'other';
}
