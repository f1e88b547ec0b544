/** The analysis of one SQL text: where it may run, why, and what it leaves behind in its session. */
import type { KeyPlan } from './keys.ts';

/** What a text leaves in its session beyond its own transaction: bits of {@link Statement.effects}. */
export const EFFECT = {
  /** A setting of the session: SET, RESET, set_config(..., false), SET ROLE, SET SESSION CHARACTERISTICS. */
  set: 1,
  /** A statement prepared by SQL's PREPARE. */
  prepare: 2,
  /** LISTEN. */
  listen: 4,
  /** A temporary table, view, sequence or function, made or used. */
  temp: 8,
  /** A cursor WITH HOLD. */
  hold_cursor: 16,
  /** An advisory lock of the session, taken or released. */
  advisory_lock: 32,
  /** The session's memory of sequences: nextval, setval, currval, lastval. */
  sequence: 64,
  /** A library loaded into the server process. */
  load: 128,
  /** Anything at all: DO, CALL, EXECUTE, functions that are not PostgreSQL's own, text that did not parse. */
  unknown: 256,
  /** A setting that ends with its transaction: SET LOCAL, SET TRANSACTION, SET CONSTRAINTS. */
  set_local: 512,
  /** DISCARD ALL. */
  discard_all: 1024,
  /** DEALLOCATE ALL. */
  deallocate_all: 2048,
} as const;

/** Why a text may run on a replica, or may not: code and words. The first six are the reasons of reads. */
export const REASONS = {
  select: 'only reads',
  explain: 'explains a read',
  show: 'shows a setting',
  copy_to: 'copies a read to the client',
  begin_read_only: 'begins a read-only transaction',
  empty: 'holds no statement',
  writes: 'writes',
  copy: 'copies into a table, or to a file or program of the server',
  select_into: 'creates a table by SELECT INTO',
  modifying_cte: 'writes inside a WITH query',
  row_lock: 'locks rows',
  write_functions: 'calls a function that write_functions names',
  volatile_function: 'calls a function that writes, keeps state or works on the primary only',
  unknown_function: 'calls a function or operator that neither PostgreSQL nor the catalog knows',
  volatile_view: 'reads a view that locks rows or calls a function not for replicas',
  row_security: 'reads a table whose row security calls a function not for replicas',
  unlogged_table: 'reads an unlogged table, which replicas do not have',
  foreign_table: 'reads a foreign table, whose data may be on its server alone',
  temp_table: 'uses a temporary object of its session',
  transaction: 'controls a transaction',
  setting: 'changes a setting, or asks whether the session can write',
  utility: 'is a utility statement',
  unknown_syntax: 'holds syntax that is not known to be a read',
  unparsed: 'was not parsed',
  refused: 'was refused by a replica as a write',
} as const;

/** A code of {@link REASONS}. */
export type ReasonCode = keyof typeof REASONS;

/**
 * What a text does to the transaction it runs in: `commit` is everything that ends one (COMMIT, END, ROLLBACK, ABORT,
 * PREPARE TRANSACTION), `other` the rest (savepoints, COMMIT PREPARED).
 */
export type TransactionControl = 'none' | 'begin' | 'begin_read_only' | 'commit' | 'other';

/** One thing that keeps a text off replicas. */
export interface Objection {
  readonly reason: ReasonCode;
  /** What it is about: a function as written, `OPERATOR(s.+)`, a kind of statement, or ''. */
  readonly about: string;
}

/** Tables of a text, `schema.table` or `table` as the parser folds them, each once; names of WITH queries left out. */
export interface Tables {
  readonly read: readonly string[];
  readonly written: readonly string[];
}

/** The analysis of one SQL text. A plain value, shared by every session that sends the same text. */
export interface Statement {
  /** The text with its literals emptied, readable. */
  readonly template: string;
  /** What the first statement is, nearly as PostgreSQL's command tags have it: `SELECT`, `CREATE TABLE AS`; '' for none. */
  readonly kind: string;
  /** Whether every statement of the text may run on a replica. */
  readonly read: boolean;
  /** Why. When some statements are reads and some are not, the reason of the first that is not. */
  readonly reason: ReasonCode;
  /** The words of `reason`, with the name they are about: a function, a kind of statement, the parser's message. */
  readonly detail: string;
  /** Top-level statements of the text: 0 if it is empty or holds comments only, 1 if it was not parsed. */
  readonly count: number;
  /** The first transaction control at top level. */
  readonly transaction: TransactionControl;
  /** Bits of {@link EFFECT}, of every statement of the text. */
  readonly effects: number;
  /** Name that DEALLOCATE, alone in its text, drops. */
  readonly deallocates: string | undefined;
  /** Name that EXECUTE, alone in its text, runs. */
  readonly executes: string | undefined;
  /** Name that PREPARE, alone in its text, makes. */
  readonly prepares: string | undefined;
  /** Whether the text is one plain SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE or MERGE. */
  readonly plain: boolean;
  /** Whether it is plain and leaves nothing in its session, so that it may run between statements of others. */
  readonly shareable: boolean;
  /** Everything that keeps it off replicas, the one worth telling first; none for a read. */
  readonly objections: readonly Objection[];
  /** The reason if nothing spoke against it. */
  readonly read_reason: ReasonCode;
  /** `effects` without those of functions that only the catalog knows. */
  readonly known_effects: number;
  readonly tables: Tables;
  /** Functions called, as written, each once. */
  readonly functions: readonly string[];
  /** Those of them that are not PostgreSQL's own. */
  readonly unknown: readonly string[];
  /** Operators used, as written (`+`, `other.+`), each once. */
  readonly operators: readonly string[];
  /** Types named, as the parser spells them (`pg_catalog.int4`, `mood`), each once. */
  readonly types: readonly string[];
  /** Names behind a dot (`t.name`, `(t).name`): a column, or the call of a function on a row of t. */
  readonly attributes: readonly string[];
  /** What the grammar says of a text with a mistake. */
  readonly mistake: string | undefined;
  /** What it says of sharding keys; undefined when it says nothing, or there are none. */
  readonly keys: KeyPlan | undefined;
}

const NOTHING: readonly never[] = [];

/** The words of `reason`, and the name they are about, if any. */
export function reasonWords(reason: ReasonCode, about: string): string {
  return about === '' ? REASONS[reason] : `${REASONS[reason]}: ${about}`;
}

/** A name of several parts as one text; a part that holds a dot or a quote is quoted, so that names stay distinct. */
export function qualifiedName(parts: readonly string[]): string {
  return parts.map(part => (/[."]/.test(part) ? `"${part.replaceAll('"', '""')}"` : part)).join('.');
}

/** A text that the parser did not take: `why` says so. It goes to the primary, and may leave anything behind. */
export function unparsedStatement(why: string, template = '', mistake?: string): Statement {
  return {
    template,
    kind: '',
    read: false,
    reason: 'unparsed',
    detail: reasonWords('unparsed', why),
    count: 1,
    transaction: 'none',
    effects: EFFECT.unknown,
    deallocates: undefined,
    executes: undefined,
    prepares: undefined,
    plain: false,
    shareable: false,
    objections: [{ reason: 'unparsed', about: why }],
    read_reason: 'select',
    known_effects: EFFECT.unknown,
    tables: { read: NOTHING, written: NOTHING },
    functions: NOTHING,
    unknown: NOTHING,
    operators: NOTHING,
    types: NOTHING,
    attributes: NOTHING,
    mistake,
    keys: undefined,
  };
}
