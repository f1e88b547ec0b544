/** Which column a name means: the FROM lists in sight, and what sub-selects put out. */
import { anyOf, type Condition, equalTo, type TableUse, type Variable } from './keys-plan.ts';

/** What a column name stands for. */
export interface Column {
  /** What is restricted when it is; of several, all but one may not exist. */
  readonly variables: readonly Variable[];
  /** What it equals, undefined if that cannot be told. */
  readonly value: Condition | undefined;
}

/** Something in a FROM list, or an alias of a join there. */
export interface Source {
  /** The name in front of its columns. */
  readonly name: string | undefined;
  readonly kind: 'table' | 'derived' | 'join' | 'merged';
  /** A table without an alias, which may be named with its schema. */
  readonly bare: TableUse | undefined;
  /** Whether a join may put NULL in place of its columns. */
  nullable: boolean;
  /** Undefined if it has no such column. */
  column(name: string): Column | undefined;
}

/** The sources of a FROM list, or of a part of it. */
export interface Names {
  readonly visible: readonly Source[];
  /** With those that an alias of a join hides. */
  readonly all: readonly Source[];
  /** Columns of USING. */
  readonly merged: ReadonlyMap<string, { readonly column: Column; readonly covers: ReadonlySet<Source> }>;
  /** A NATURAL join is among them: nobody knows what it merges. */
  readonly natural: boolean;
}

/** A WITH query in sight; without outputs, one whose text follows later. */
export interface Cte {
  readonly name: string;
  readonly outputs: Outputs | undefined;
  readonly next: Cte | undefined;
  /** Whether it was used before its outputs were known. */
  early: boolean;
}

/** What an expression sees. */
export interface Env {
  readonly names: Names;
  readonly parent: Env | undefined;
  readonly ctes: Cte | undefined;
}

export const NO_NAMES: Names = { visible: [], all: [], merged: new Map(), natural: false };

/** Makes variables, as many as there is room for, and says whose they are. */
export interface Variables {
  make(owner: Source, origin: Variable['origin'], column: string, certain: boolean): Variable;
}

/** One thing that a select puts out: a column, or all of something. */
export type Output =
  | { readonly name: string | undefined; readonly column: Column | undefined }
  | { readonly star: (name: string) => Column | undefined };

/**
 * Whether what restricts a column outside of a query may as well restrict it inside: never, always, or as far as both
 * have the type of a key.
 */
export type Inlining = 'never' | 'always' | 'of_keys';

/** What a query puts out. */
export class Outputs {
  readonly items: readonly Output[];
  readonly inlining: Inlining;
  readonly references: DerivedSource[] = [];
  /** Whether all that refer to it are known. */
  closed = true;

  constructor(items: readonly Output[], inlining: Inlining) {
    this.items = items;
    this.inlining = inlining;
  }

  /** The column at a position, undefined behind a star. */
  at(position: number): Column | undefined {
    for (let i = 0; i <= position; i++) {
      const item = this.items[i];
      if (item === undefined || 'star' in item) return undefined;
      if (i === position) return item.column;
    }
    return undefined;
  }

  /** The column of this name, under a key that is one for each column; undefined if there surely is none. */
  find(
    name: string,
  ): { readonly key: string; readonly column: Column | undefined; readonly certain: boolean } | undefined {
    const stars: Column[] = [];
    let open = false;
    for (const [position, item] of this.items.entries()) {
      if ('star' in item) {
        open = true;
        const column = item.star(name);
        if (column !== undefined) stars.push(column);
      } else if (item.name === name) return { key: `#${position}`, column: item.column, certain: true };
      else if (item.name === undefined) open = true;
    }
    if (stars.length === 0) return open ? { key: name, column: undefined, certain: false } : undefined;
    return { key: name, column: oneOf(stars, false), certain: false };
  }

  /** Conditions from outside reach the columns inside, if everybody outside has them. */
  close(): void {
    const [first] = this.references;
    if (!this.closed || first === undefined || this.inlining === 'never') return;
    for (const [key, { inner }] of first.columns) {
      const outer = this.references.map(reference => reference.columns.get(key)?.variable);
      if (inner === undefined) continue;
      const known = outer.filter(variable => variable !== undefined);
      if (known.length < outer.length) continue;
      const seen = anyOf(known.map(variable => ({ kind: 'same', variable })));
      for (const variable of inner.variables) {
        variable.conditions.push(this.inlining === 'of_keys' ? equalTo(seen) : seen);
      }
    }
  }
}

/** A table. */
export class TableSource implements Source {
  readonly name: string;
  readonly kind = 'table';
  readonly bare: TableUse | undefined;
  nullable = false;
  readonly #use: TableUse;
  readonly #variables: Variables;
  /** Its columns have other names here. */
  readonly #renamed: boolean;
  readonly #columns: Map<string, Variable>;

  constructor(use: TableUse, alias: string | undefined, renamed: boolean, variables: Variables) {
    this.#use = use;
    this.name = alias ?? use.name;
    this.bare = alias === undefined ? use : undefined;
    this.#renamed = renamed;
    this.#variables = variables;
    this.#columns = use.kind === 'rows' ? use.keys : new Map(use.keys);
  }

  column(name: string): Column | undefined {
    if (this.#renamed) return { variables: [], value: undefined };
    let variable = this.#columns.get(name);
    if (variable === undefined) {
      variable = this.#variables.make(this, this.#use, name, true);
      this.#columns.set(name, variable);
    }
    return { variables: [variable], value: { kind: 'same', variable } };
  }
}

/** A sub-select, a WITH query, VALUES, or a function: whatever has outputs, or none that are known. */
export class DerivedSource implements Source {
  readonly name: string | undefined;
  readonly bare = undefined;
  readonly kind = 'derived';
  nullable = false;
  /** Columns asked for, by the outputs' own key. */
  readonly columns = new Map<string, { readonly variable: Variable; readonly inner: Column | undefined }>();
  readonly #outputs: Outputs | undefined;
  readonly #renames: readonly string[];
  readonly #variables: Variables;

  constructor(
    name: string | undefined,
    outputs: Outputs | undefined,
    renames: readonly string[],
    variables: Variables,
  ) {
    this.name = name;
    this.#outputs = outputs;
    this.#renames = renames;
    this.#variables = variables;
    outputs?.references.push(this);
  }

  column(name: string): Column | undefined {
    if (this.#outputs === undefined) return this.#at(name, name, undefined, false);
    const position = this.#renames.indexOf(name);
    if (position !== -1) return this.at(position, name);
    const found = this.#outputs.find(name);
    if (found === undefined) return undefined;
    // Its column has another name here, or may have.
    const isRenamed =
      this.#renames.length > 0 && (!found.key.startsWith('#') || Number(found.key.slice(1)) < this.#renames.length);
    return isRenamed ? { variables: [], value: undefined } : this.#at(found.key, name, found.column, found.certain);
  }

  /** The column at a position. */
  at(position: number, name: string): Column {
    return this.#at(`#${position}`, name, this.#outputs?.at(position), true);
  }

  #at(key: string, name: string, inner: Column | undefined, certain: boolean): Column {
    let column = this.columns.get(key);
    if (column === undefined) {
      const variable = this.#variables.make(this, inner?.value, name, certain);
      if (inner?.value !== undefined) variable.conditions.push(inner.value);
      column = { variable, inner };
      this.columns.set(key, column);
    }
    const { variable } = column;
    return { variables: [variable], value: { kind: 'same', variable } };
  }
}

/** The alias of a join, or of what its USING merges. */
export class JoinSource implements Source {
  readonly name: string;
  readonly bare = undefined;
  readonly kind: 'join' | 'merged';
  nullable = false;
  readonly #column: (name: string) => Column | undefined;

  constructor(name: string, kind: 'join' | 'merged', column: (name: string) => Column | undefined) {
    this.name = name;
    this.kind = kind;
    this.#column = column;
  }

  column(name: string): Column | undefined {
    return this.#column(name);
  }
}

/** A list of one. */
export function only(source: Source): Names {
  return { visible: [source], all: [source], merged: NO_NAMES.merged, natural: false };
}

/** Both lists, one behind the other. */
export function concat(left: Names, right: Names): Names {
  if (left.all.length === 0) return right;
  if (right.all.length === 0) return left;
  return {
    visible: [...left.visible, ...right.visible],
    all: [...left.all, ...right.all],
    merged: right.merged.size === 0 ? left.merged : new Map([...left.merged, ...right.merged]),
    natural: left.natural || right.natural,
  };
}

/** The column that a name without a table means in this list; undefined if no source can have it. */
export function unqualified(names: Names, name: string): Column | undefined {
  const merged = names.merged.get(name);
  const columns = merged === undefined ? [] : [merged.column];
  for (const source of names.visible) {
    if (source.kind === 'merged' || merged?.covers.has(source) === true) continue;
    const column = source.column(name);
    if (column !== undefined) columns.push(column);
  }
  if (columns.length === 0) return undefined;
  const { variables, value } = oneOf(columns, names.natural);
  return { variables, value: merged === undefined ? value : merged.column.value };
}

/** One of these, nobody knows which: at most one exists. */
function oneOf(columns: readonly Column[], natural: boolean): Column {
  const variables: Variable[] = [];
  let known = !natural;
  for (const { value } of columns) {
    if (value?.kind === 'same') variables.push(value.variable);
    else if (value?.kind === 'one_of') variables.push(...value.variables);
    else known = false;
  }
  return {
    variables: columns.flatMap(column => column.variables),
    value: known ? { kind: 'one_of', variables } : undefined,
  };
}

/** The column that the path of a ColumnRef means, and whether it is one of the innermost list. */
export function lookUp(
  env: Env,
  path: readonly string[],
): { readonly column: Column; readonly local: boolean } | undefined {
  const name = path[path.length - 1];
  const table = path[path.length - 2];
  const schema = path[path.length - 3];
  for (let at: Env | undefined = env; at !== undefined; at = at.parent) {
    const local = at === env;
    if (table === undefined) {
      const column = unqualified(at.names, name);
      if (column !== undefined) return { column, local };
    } else {
      const sources = sourcesOf(at.names, table, schema);
      if (sources.length > 1) return undefined;
      const column = sources[0]?.column(name);
      if (sources.length === 1) return column === undefined ? undefined : { column, local };
    }
  }
  return undefined;
}

/** The sources that a name of a table means; more than one are an error of the statement. */
function sourcesOf(names: Names, table: string, schema: string | undefined): readonly Source[] {
  const named = names.visible.filter(source => source.name === table);
  if (schema === undefined) return named;
  const exact = named.filter(({ bare }) => bare?.schema === schema);
  return exact.length > 0 ? exact : named.filter(({ bare }) => bare !== undefined && bare.schema === undefined);
}

/** The WITH query of this name in sight. */
export function findCte(env: Env, name: string): Cte | undefined {
  for (let cte = env.ctes; cte !== undefined; cte = cte.next) if (cte.name === name) return cte;
  return undefined;
}
