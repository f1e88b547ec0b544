/** The types of key plans: what a statement says about the keys of the rows it needs, before any value is known. */
import type { Literal } from './literal.ts';

/** A value that a key is compared with, or stored as. */
export type Scalar =
  | { readonly hole: number; readonly negative: boolean; readonly cast: string | undefined }
  /** A constant that is no hole of the template. */
  | { readonly literal: Literal; readonly negative: boolean; readonly cast: string | undefined }
  /** `$n`, from 1. */
  | { readonly param: number; readonly cast: string | undefined }
  | 'null';

/** A scalar, an array whose elements are meant (its cast has an underscore: `_int8`), or both ends of BETWEEN. */
export type Term = Scalar | { readonly array: Scalar } | { readonly from: Scalar; readonly to: Scalar };

/** Holes or parameters at equal distances: long lists, and rows of VALUES, take one entry. */
export interface Run {
  readonly of: 'hole' | 'param';
  readonly first: number;
  readonly step: number;
  readonly count: number;
  readonly cast: string | undefined;
}

/** What a value is for; PostgreSQL rounds what it stores, and finds a place for NULL. */
export type KeyUse = 'compared' | 'stored';

/** The shard of a value. `unmatched`: no row can have it, or every server refuses it; `unknown`: it cannot be read. */
export type KeyShard = number | 'unmatched' | 'unknown';

/** What is known of a variable: the set of values that it has in rows that matter. */
export type Condition =
  | { readonly kind: 'terms'; readonly use: KeyUse; readonly terms: readonly (Term | Run)[] }
  /** It is the same column, seen from inside or outside of a sub-select. */
  | { readonly kind: 'same'; readonly variable: Variable }
  /** It is compared by `=` with something: that tells of it only when the types are those of keys. */
  | { readonly kind: 'equal'; readonly to: Condition }
  /** A name without a table: whichever of these exists. */
  | { readonly kind: 'one_of'; readonly variables: readonly Variable[] }
  | { readonly kind: 'all'; readonly of: readonly Condition[] }
  | { readonly kind: 'any'; readonly of: readonly Condition[] }
  | { readonly kind: 'unknown' };

/** A column of something in a FROM list. */
export interface Variable {
  /** Place among the variables of the plan; what it comes from has lower ones. */
  index: number;
  /** What it comes from: a table, or what a sub-select puts out, if that can be told. */
  origin: TableUse | Condition | undefined;
  readonly column: string;
  /** For what a sub-select puts out: whether it has this name for certain. */
  readonly certain: boolean;
  /** All of these hold. */
  readonly conditions: Condition[];
}

/** A table or view by name. */
export interface Relation {
  readonly schema: string | undefined;
  readonly name: string;
}

/** One mention of a table. */
export interface TableUse extends Relation {
  readonly kind: 'rows' | 'current' | 'insert' | 'copy_from' | 'copy_to' | 'truncate' | 'lock';
  /** `data`, or `data (d)` for `data AS d`. */
  readonly words: string;
  /** Variables by name of the column, those of possible keys; of an INSERT the columns that it gives values. */
  readonly keys: Map<string, Variable>;
  /** Columns that it assigns to, of possible keys. */
  readonly assigned: Set<string>;
  /** The values of an INSERT that does not name its columns, by position. */
  positions: readonly (Variable | undefined)[] | undefined;
}

/** What a tree says of the keys of the rows that its statements need. */
export interface KeyPlan {
  readonly uses: readonly TableUse[];
  readonly variables: readonly Variable[];
  /** Whether conditions speak of other variables, so that one look at each may not do. */
  readonly linked: boolean;
  /** Whether rows are inserted: values are rounded then, and must be the same before and after. */
  readonly inserts: boolean;
  /**
   * Parameters whose type the server may find out elsewhere than at a key: those that occur more than once, and all
   * beside a decimal.
   */
  readonly ambiguous: ReadonlySet<number>;
  /** Bytes it takes, roughly. */
  readonly bytes: number;
}

/** The shards that a statement's rows may be on; `how` is for humans. */
export type ShardAnswer =
  /** No sharded table, or no row of one: any shard will do. */
  | { readonly kind: 'none' }
  | { readonly kind: 'one'; readonly shard: number; readonly how: string }
  | { readonly kind: 'several'; readonly shards: readonly number[]; readonly how: string }
  | { readonly kind: 'every'; readonly how: string }
  /** It must not run without a shard chosen by the client. */
  | {
      readonly kind: 'refused';
      readonly how: string;
      /** Whether that would be in vain, since a key is assigned to. */
      readonly assigned?: boolean;
    };

/** What a plan needs to know to become an answer. */
export interface KeyContext {
  /** `table` is undefined for every table that has the column. */
  readonly key: { readonly schema: string | undefined; readonly table: string | undefined; readonly column: string };
  readonly shards: number;
  /**
   * Whether columns of any table that equal a key tell its shard, whatever their type; else only columns that are keys
   * themselves do, since `=` of other types may take different keys for equal (citext, float8).
   */
  readonly exact?: boolean;
  /** Columns in order, if known, of a table named as in the statement: `name` or `schema.name`. */
  columnsOf(table: string): readonly string[] | undefined;
  /** What a view reads, also through other views; undefined for what is no view. */
  basesOf?(table: string): readonly Relation[] | undefined;
  shardOf(term: Scalar, use: KeyUse): KeyShard;
  /** What the elements of an array answer, each answer once; undefined when it cannot be read. */
  elementsOf(array: Scalar): readonly KeyShard[] | undefined;
  /** The shards of everything between two values, when they are few. */
  rangeOf(from: Scalar, to: Scalar): readonly number[] | undefined;
  /** A value in words; answers are the same for all values when it is not there. */
  textOf?(term: Scalar): string;
}

export const UNKNOWN: Condition = { kind: 'unknown' };

/** All of them; one alone is itself. */
export function allOf(conditions: readonly Condition[]): Condition {
  return conditions.length === 1 ? conditions[0] : { kind: 'all', of: conditions };
}

/** Any of them; one alone is itself. */
export function anyOf(conditions: readonly Condition[]): Condition {
  return conditions.length === 1 ? conditions[0] : { kind: 'any', of: conditions };
}

/** Equal by `=` to what has this value: constants are read with the type of the key anyway. */
export function equalTo(value: Condition): Condition {
  return value.kind === 'terms' || value.kind === 'unknown' ? value : { kind: 'equal', to: value };
}
