/** What a database's own functions, operators, types, views and tables mean for a statement: a value made of rows. */
import { judgeFunction } from './functions.ts';
import { EFFECT, type Objection, qualifiedName, type ReasonCode, reasonWords, type Statement } from './statement.ts';

/** A name in a schema. */
export interface Named {
  readonly schema: string;
  readonly name: string;
}

/** The function behind something. */
export interface Called extends Named {
  /** `pg_proc.provolatile`: i(mmutable), s(table), v(olatile). */
  readonly volatility: string;
}

/** The functions of this name in a schema; of several the most volatile. */
export interface FunctionRow extends Called {
  /** Whether a volatile one takes a row as its one argument, so that `t.name` may call it. */
  readonly of_row: boolean;
}

/** An operator, or a type that values are cast to, and the function behind it. */
export interface CallRow extends Named {
  readonly calls: Called;
}

/** Something that speaks against reading a relation on a replica. */
export interface RelationRow extends Named {
  readonly reason: 'volatile_view' | 'row_security' | 'unlogged_table' | 'foreign_table';
  /** The function called, if it is one that speaks against it. */
  readonly calls: Called | undefined;
}

/** A relation that reads another, whose objections it has then. */
export interface UseRow extends Named {
  readonly uses: Named;
  /** Whether it is a parent that reads its child: row security of children does not count then. */
  readonly child: boolean;
}

/** The columns of a relation in their order. */
export interface ColumnsRow extends Named {
  readonly columns: readonly string[];
}

/** A view, and a relation that it is made of. */
export interface BaseRow extends Named {
  readonly base: Named;
}

/** Rows by name, whatever their schema. */
export type Rows<Row extends Named> = ReadonlyMap<string, readonly Row[]>;

/** What a catalog is made of: all of it about objects that are not PostgreSQL's own. */
export interface CatalogRows {
  readonly functions: Rows<FunctionRow>;
  readonly operators: Rows<CallRow>;
  readonly types: Rows<CallRow>;
  readonly relations: Rows<RelationRow>;
  readonly uses: Rows<UseRow>;
  readonly columns: Rows<ColumnsRow>;
  readonly bases: Rows<BaseRow>;
}

/** No rows: nothing is known. */
export const NO_ROWS: CatalogRows = {
  functions: new Map(),
  operators: new Map(),
  types: new Map(),
  relations: new Map(),
  uses: new Map(),
  columns: new Map(),
  bases: new Map(),
};

/** Lists of functions, `name` or `schema.name`, that decide whatever the catalog says; the first wins. */
export interface FunctionLists {
  readonly write_functions: readonly string[];
  readonly read_functions: readonly string[];
}

/** What is said of a statement when the catalog is known. */
export interface Judgement {
  readonly read: boolean;
  readonly reason: ReasonCode;
  readonly detail: string;
  /** Bits of {@link EFFECT}. */
  readonly effects: number;
  readonly shareable: boolean;
}

/** The verdict on one name: why it is a write, or that it is none; `clean` when it also leaves nothing behind. */
interface Verdict {
  readonly objection: Objection | undefined;
  readonly clean: boolean;
}

/** What keeps a statement off replicas, and yet lets it stand between those of others. */
const HARMLESS_TO_OTHERS: ReadonlySet<ReasonCode> = new Set<ReasonCode>([
  'writes',
  'modifying_cte',
  'unlogged_table',
  'foreign_table',
]);

const CLEAN: Verdict = { objection: undefined, clean: true };
/** A stable function may still change settings: its label is about tables. */
const READS: Verdict = { objection: undefined, clean: false };
const NO_LISTS: FunctionLists = { write_functions: [], read_functions: [] };

/**
 * Judges statements by what is known of a database. No search_path is known, so a name without a schema is the worst
 * of all that have it. An empty catalog takes every function that is not PostgreSQL's own for a write, and every
 * relation for a plain table.
 */
export class Catalog {
  static readonly empty: Catalog = new Catalog(NO_ROWS, NO_LISTS);

  /** What it is made of. */
  readonly rows: CatalogRows;
  readonly #writes: ReadonlySet<string>;
  readonly #reads: ReadonlySet<string>;
  readonly #judgements = new WeakMap<Statement, Judgement>();
  // What was found for names that rows have: with a schema for each tenant, thousands have the same.
  readonly #functions = new Map<string, Verdict>();
  readonly #relations = new Map<string, Objection | 'none'>();
  readonly #bases = new Map<string, readonly Named[]>();
  readonly #columns = new Map<string, readonly string[] | 'ambiguous'>();

  /** `rows` may be many: they are looked up, never walked through. */
  constructor(rows: CatalogRows, lists: FunctionLists) {
    this.rows = rows;
    this.#writes = new Set(lists.write_functions);
    this.#reads = new Set(lists.read_functions);
  }

  /** Where this statement may run, and what it leaves behind. */
  judge(statement: Statement): Judgement {
    let judgement = this.#judgements.get(statement);
    if (judgement === undefined) {
      judgement = this.#judge(statement);
      this.#judgements.set(statement, judgement);
    }
    return judgement;
  }

  /**
   * Columns of a table or view in their order, named as in {@link Statement.tables}; undefined when it is not known, or
   * when the schemas do not agree on it.
   */
  columnsOf(name: string): readonly string[] | undefined {
    let columns = this.#columns.get(name);
    if (columns === undefined) {
      const [first, ...others] = matching(this.rows.columns, name);
      if (first === undefined) return undefined;
      columns = others.every(other => areEqual(other.columns, first.columns)) ? first.columns : 'ambiguous';
      this.#columns.set(name, columns);
    }
    return columns === 'ambiguous' ? undefined : columns;
  }

  /** What a view reads, also through other views; undefined for what is no view. */
  basesOf(name: string): readonly Named[] | undefined {
    let bases = this.#bases.get(name);
    if (bases === undefined) {
      const pending = [...matching(this.rows.bases, name)];
      if (pending.length === 0) return undefined;
      const found = new Map<string, Named>();
      const isView = ({ schema }: Named) => pending.some(row => row.schema === schema);
      // Where another schema has a table of this name, that is what is meant.
      if (!matching(this.rows.columns, name).every(isView)) pending.length = 0;
      for (const { base } of pending) {
        const at = nameOf(base);
        if (found.has(at)) continue;
        found.set(at, base);
        pending.push(...matching(this.rows.bases, at));
      }
      bases = [...found.values()];
      this.#bases.set(name, bases);
    }
    return bases.length === 0 ? undefined : bases;
  }

  #judge(statement: Statement): Judgement {
    let objection: Objection | undefined;
    let clean = true;
    let alone = false;
    const object = (other: Objection | undefined) => {
      objection ??= other;
      alone ||= other !== undefined && !HARMLESS_TO_OTHERS.has(other.reason);
    };
    const hear = (verdict: Verdict) => {
      object(verdict.objection);
      clean &&= verdict.clean;
    };
    for (const stated of statement.objections) hear(this.#review(stated));
    for (const name of statement.functions) hear(this.#function(name));
    for (const name of statement.operators) hear(this.#operator(name) ?? CLEAN);
    for (const name of statement.types) hear(this.#type(name));
    for (const name of statement.attributes) hear(this.#attribute(name));
    for (const name of statement.tables.read) object(this.#relation(name));
    const { read_reason, plain, known_effects } = statement;
    const effects = known_effects | (clean ? 0 : EFFECT.unknown);
    const shareable = plain && effects === 0 && !alone;
    if (objection !== undefined) {
      const { reason, about } = objection;
      return { read: false, reason, detail: reasonWords(reason, about), effects, shareable };
    }
    const detail = statement.read ? statement.detail : reasonWords(read_reason, '');
    return { read: true, reason: read_reason, detail, effects, shareable };
  }

  /** What becomes of an objection that the text alone raised. */
  #review(stated: Objection): Verdict {
    const { reason, about } = stated;
    if (reason !== 'unknown_function' && reason !== 'volatile_function') return { objection: stated, clean: true };
    if (!about.startsWith('OPERATOR(')) return this.#function(about);
    return this.#operator(about.slice('OPERATOR('.length, -1)) ?? { objection: stated, clean: false };
  }

  /** The verdict on a function as written: the worst of PostgreSQL's own and the user's that it may be. */
  #function(name: string): Verdict {
    const listed = this.#listed(name);
    if (listed !== undefined) return listed;
    const own = this.#own(name);
    const { nature } = judgeFunction(partsOf(name));
    if (nature === 'volatile') {
      return { objection: { reason: 'volatile_function', about: name }, clean: own?.clean ?? true };
    }
    if (own !== undefined) return own;
    return nature === 'harmless' ? CLEAN : { objection: { reason: 'unknown_function', about: name }, clean: false };
  }

  /** The verdict on the user's functions of this name; undefined when there are none. */
  #own(name: string): Verdict | undefined {
    const known = this.#functions.get(name);
    if (known !== undefined) return known;
    const found = worst(matching(this.rows.functions, name).map(row => this.#called(row)));
    // Names of three parts are as many as clients can think of.
    if (found !== undefined && partsOf(name).length <= 2) this.#functions.set(name, found);
    return found;
  }

  /** The verdict on the user's operators of this name; undefined when there are none. */
  #operator(name: string): Verdict | undefined {
    return worst(
      matching(this.rows.operators, name).map(row => {
        const verdict = this.#called(row.calls);
        return about(verdict, `OPERATOR(${nameOf(row)}), which calls ${nameOf(row.calls)}`);
      }),
    );
  }

  #type(name: string): Verdict {
    const rows = matching(this.rows.types, name);
    const verdicts = rows.map(row =>
      about(this.#called(row.calls), `the type ${nameOf(row)}, which calls ${nameOf(row.calls)}`),
    );
    return worst(verdicts) ?? CLEAN;
  }

  /** `t.name` may call a function. */
  #attribute(name: string): Verdict {
    const rows = this.rows.functions.get(name)?.filter(row => row.of_row) ?? [];
    return worst(rows.map(row => this.#called(row))) ?? CLEAN;
  }

  /** What the lists say of a function as written: without a schema it may be one of pg_catalog. */
  #listed(name: string): Verdict | undefined {
    if (this.#writes.size === 0 && this.#reads.size === 0) return undefined;
    const parts = partsOf(name);
    const last = qualifiedName(parts.slice(-1));
    const full = parts.length === 1 ? `pg_catalog.${last}` : name;
    const isIn = (list: ReadonlySet<string>) => list.has(last) || list.has(full);
    if (isIn(this.#writes)) return { objection: { reason: 'write_functions', about: name }, clean: false };
    return isIn(this.#reads) ? READS : undefined;
  }

  /** The verdict on one function of a schema. */
  #called(called: Called): Verdict {
    const name = nameOf(called);
    const listed = this.#listed(name);
    if (listed !== undefined) return listed;
    const { schema, volatility } = called;
    if (schema === 'pg_catalog' && judgeFunction([schema, called.name]).nature === 'harmless') return CLEAN;
    if (volatility === 'v') return { objection: { reason: 'volatile_function', about: name }, clean: false };
    return volatility === 'i' ? CLEAN : READS;
  }

  /** What speaks against reading a relation as written. */
  #relation(name: string): Objection | undefined {
    const { relations, uses } = this.rows;
    if (matching(relations, name).length === 0 && matching(uses, name).length === 0) return undefined;
    const known = this.#relations.get(name) ?? this.#search(name) ?? 'none';
    this.#relations.set(name, known);
    return known === 'none' ? undefined : known;
  }

  /** What speaks against reading a relation, or one that it reads in turn. */
  #search(name: string): Objection | undefined {
    const seen = new Set<string>();
    const pending: { name: string; path: string; child: boolean }[] = [{ name, path: '', child: false }];
    // The list grows while it is walked.
    for (const { name, path, child } of pending) {
      for (const row of matching(this.rows.relations, name)) {
        const { reason, calls } = row;
        if (child && reason === 'row_security') continue;
        const at = `${path}${nameOf(row)}`;
        if (calls === undefined) return { reason, about: at };
        if (this.#called(calls).objection !== undefined) return { reason, about: `${at} calls ${nameOf(calls)}` };
      }
      for (const row of matching(this.rows.uses, name)) {
        const used = nameOf(row.uses);
        if (seen.has(used)) continue;
        seen.add(used);
        pending.push({ name: used, path: `${path}${nameOf(row)} reads `, child: row.child });
      }
    }
    return undefined;
  }
}

/** The rows that a name, as written, may mean. */
function matching<Row extends Named>(rows: Rows<Row>, name: string): readonly Row[] {
  if (rows.size === 0) return NOTHING;
  const parts = partsOf(name);
  const named = rows.get(parts[parts.length - 1] ?? '') ?? NOTHING;
  return parts.length === 1 ? named : named.filter(({ schema }) => schema === parts[parts.length - 2]);
}

const NOTHING: readonly never[] = [];

/** The worst of several verdicts, none if there is none: an objection first, then what is not clean. */
function worst(verdicts: readonly Verdict[]): Verdict | undefined {
  return (
    verdicts.find(({ objection }) => objection !== undefined) ?? verdicts.find(({ clean }) => !clean) ?? verdicts[0]
  );
}

/** The same verdict in other words. */
function about({ objection, clean }: Verdict, words: string): Verdict {
  return { objection: objection && { ...objection, about: words }, clean };
}

function nameOf({ schema, name }: Named): string {
  return qualifiedName([schema, name]);
}

/** The parts of a name that {@link qualifiedName} made. */
function partsOf(name: string): string[] {
  const parts = name.match(/"(?:[^"]|"")*"|[^."]+/g) ?? [];
  return parts.map(part => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part));
}

function areEqual(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((column, at) => column === other[at]);
}
