/** Reads the values that a shard plan asks for: literals of the text, parameters of a Bind. */
import type { Sharder, WrittenKey } from '../sharding/sharder.ts';
import type { KeyContext, KeyShard, KeyUse, Scalar } from '../sql/keys.ts';
import type { Literal } from '../sql/literal.ts';
import type { BindValues } from '../wire/bind.ts';

/** The key of a pool: column, and table and schema if the setting gives them. */
export type ShardingKey = KeyContext['key'];

/** `table.column`, `schema.table.column` or `*.column`, as the configuration has it, in parts. */
export function shardingKey(written: string): ShardingKey {
  const parts = written.split('.');
  const column = parts[parts.length - 1] ?? '';
  const table = parts[parts.length - 2];
  const schema = parts[parts.length - 3];
  return { schema: schema === '*' ? undefined : schema, table: table === '*' ? undefined : table, column };
}

/** Where the values of one statement are. */
export interface ValueSource {
  /** Literal `n` of the statement's text. */
  literal(n: number): Literal;
  /** Parameters; undefined where none have been bound. */
  readonly bound: BindValues | undefined;
  /** Whether the server takes the bytes of strings as they are. */
  readonly utf8: boolean;
  /** OID of the type of parameter `n` (from 1), as its Parse gives it; 0 if it does not. */
  type(n: number): number;
  /** The same as a server has told it. */
  toldType(n: number): number;
}

/** What is known of tables. */
export type Tables = Pick<KeyContext, 'columnsOf'> & {
  basesOf(table: string): ReturnType<NonNullable<KeyContext['basesOf']>>;
};

export class KeyReader implements KeyContext {
  readonly key: ShardingKey;
  readonly #sharder: Sharder;
  readonly #tables: Tables;
  readonly #source: ValueSource;
  readonly #ambiguous: ReadonlySet<number>;

  /** `ambiguous`: parameters whose type nobody knows who does not ask a server. */
  constructor(key: ShardingKey, sharder: Sharder, tables: Tables, source: ValueSource, ambiguous: ReadonlySet<number>) {
    this.key = key;
    this.#sharder = sharder;
    this.#tables = tables;
    this.#source = source;
    this.#ambiguous = ambiguous;
  }

  get shards(): number {
    return this.#sharder.shards;
  }

  columnsOf(table: string): readonly string[] | undefined {
    return this.#tables.columnsOf(table);
  }

  basesOf(table: string): ReturnType<Tables['basesOf']> {
    return this.#tables.basesOf(table);
  }

  shardOf(term: Scalar, use: KeyUse): KeyShard {
    const written = this.#written(term);
    return written === undefined ? 'unknown' : this.#sharder.shardOf(written, use, this.#source.utf8);
  }

  elementsOf(array: Scalar): readonly KeyShard[] | undefined {
    const written = this.#written(array);
    return written === undefined ? undefined : this.#sharder.elementsOf(written, this.#source.utf8);
  }

  rangeOf(from: Scalar, to: Scalar): readonly number[] | undefined {
    const first = this.#written(from);
    const last = this.#written(to);
    return first === undefined || last === undefined ? undefined : this.#sharder.rangeOf(first, last);
  }

  textOf(term: Scalar): string {
    const written = this.#written(term);
    if (written === undefined || written === 'null') return 'NULL';
    switch (written.form) {
      case 'text':
        return `'${written.bytes.toString()}'`;
      case 'binary':
        return `x'${written.bytes.toString('hex')}'`;
      case 'string':
        return `'${written.text}'`;
      default:
        return written.negative === true ? `-${written.text}` : written.text;
    }
  }

  #written(term: Scalar): WrittenKey | undefined {
    if (term === 'null') return 'null';
    if ('param' in term) return this.#parameter(term.param, term.cast);
    const { form, text } = 'hole' in term ? this.#source.literal(term.hole) : term.literal;
    return form === 'bits' ? undefined : { form, text, negative: term.negative, cast: term.cast };
  }

  /**
   * A cast around a parameter is its type, unless its Parse gives another. Without either the server takes the key's,
   * if it sees the parameter there first; a whole number in text means the same in every type of number.
   */
  #parameter(n: number, cast: string | undefined): WrittenKey | undefined {
    const value = this.#source.bound?.value(n);
    const isAmbiguous = this.#ambiguous.has(n);
    const declared = this.#source.type(n) || (isAmbiguous ? this.#source.toldType(n) : 0);
    const type = declared === 0 && cast !== undefined ? TYPES.get(cast) : declared;
    if (value === undefined || type === undefined) return undefined;
    if (cast !== undefined && declared !== 0 && TYPES.get(cast) !== declared) return undefined;
    if (value.length === -1) return 'null';
    const isSure =
      declared !== 0 || !isAmbiguous || (!value.binary && value.length <= EXACT_LENGTH && this.#sharder.takesNumbers);
    const bytes = this.#source.bound?.buffer.subarray(value.from, value.from + value.length);
    return bytes === undefined || !isSure ? undefined : { form: value.binary ? 'binary' : 'text', bytes, type };
  }
}

/** Digits of a whole number that no type of number rounds. */
const EXACT_LENGTH = 15;

/** OIDs of the types that a cast may name around a key. */
const TYPES: ReadonlyMap<string, number> = new Map([
  ['int2', 21],
  ['int4', 23],
  ['int8', 20],
  ['text', 25],
  ['varchar', 1043],
  ['uuid', 2950],
  ['_int2', 1005],
  ['_int4', 1007],
  ['_int8', 1016],
  ['_text', 1009],
  ['_varchar', 1015],
  ['_uuid', 2951],
]);
