/** Walks queries: their FROM lists, conditions and sub-selects, and what they put out. */
import type {
  CommonTableExpr,
  JoinExpr,
  Node,
  RangeVar,
  ResTarget,
  SelectStmt,
  SubLink,
  WithClause,
} from '@pgsql/types';
import { ConditionReader, columnOf, type Walk } from './keys-conditions.ts';
import { isInlined } from './keys-inline.ts';
import { equateNatural, joined, restricted, type Sides } from './keys-joins.ts';
import { anyOf, type Condition, type TableUse, type Variable } from './keys-plan.ts';
import { isFields, namesOf, TermList, type TermReader } from './keys-terms.ts';
import {
  type Column,
  type Cte,
  concat,
  DerivedSource,
  type Env,
  findCte,
  type Inlining,
  type Names,
  NO_NAMES,
  type Output,
  Outputs,
  only,
  type Source,
  TableSource,
  unqualified,
  type Variables,
} from './scope.ts';

/** Selects, joins and the like inside each other; deeper ones are not looked into. */
const DEPTH_MAX = 150;
/** Columns asked for, and sources. */
const VARIABLES_MAX = 5_000;

/** What a walk gives up with; the tables of the statement are then taken to be without keys. */
export class TooMuch extends Error {}

/** What statements other than SELECT need of the walk, and what they do for it. */
export interface Writes {
  /** The outputs of an INSERT, UPDATE, DELETE or MERGE, undefined for anything else. */
  write(node: Node, env: Env): Outputs | undefined;
}

export class QueryWalk implements Walk, Variables {
  readonly uses: TableUse[] = [];
  readonly variables: Variable[] = [];
  readonly conditions: ConditionReader;
  readonly terms: TermReader;
  readonly columns: ReadonlySet<string>;
  /** Names of tables that were come across, WITH queries among them. */
  mentions = 0;
  writes: Writes | undefined;
  #depth = 0;
  readonly #owners = new Map<Variable, Source>();
  readonly #outputs: Outputs[] = [];
  readonly #subselects = new Map<SubLink, DerivedSource | undefined>();

  constructor(terms: TermReader, columns: ReadonlySet<string>) {
    this.terms = terms;
    this.columns = columns;
    this.conditions = new ConditionReader(terms, this);
  }

  /** To be called once when everything has been walked. */
  close(): void {
    for (const outputs of this.#outputs) outputs.close();
  }

  make(owner: Source | undefined, origin: Variable['origin'], column: string, certain: boolean): Variable {
    const index = this.variables.length;
    if (index >= VARIABLES_MAX) throw new TooMuch();
    const variable: Variable = { index, origin, column, certain, conditions: [] };
    this.variables.push(variable);
    if (owner !== undefined) this.#owners.set(variable, owner);
    return variable;
  }

  ownerOf(variable: Variable): Source | undefined {
    return this.#owners.get(variable);
  }

  expressions(root: unknown, env: Env): void {
    const pending: unknown[] = [root];
    while (pending.length > 0) {
      const item = pending.pop();
      if (Array.isArray(item)) for (const child of item) pending.push(child);
      else if (isSubLink(item)) {
        this.subselect(item.SubLink, env);
        pending.push(item.SubLink.testexpr);
      } else if (isSelect(item)) this.query(item, env);
      else if (isFields(item)) for (const key in item) pending.push(item[key]);
    }
  }

  subselect(link: SubLink, env: Env): DerivedSource | undefined {
    const known = this.#subselects.get(link);
    if (known !== undefined || this.#subselects.has(link)) return known;
    const outputs = link.subselect === undefined ? undefined : this.query(link.subselect, env);
    const source = outputs && new DerivedSource(undefined, outputs, [], this);
    this.#subselects.set(link, source);
    return source;
  }

  /** What stands as a query: in brackets, in WITH, behind EXPLAIN. */
  query(node: Node, env: Env): Outputs {
    if (++this.#depth > DEPTH_MAX) throw new TooMuch();
    const outputs = 'SelectStmt' in node ? this.#select(node.SelectStmt, env) : this.writes?.write(node, env);
    this.#depth--;
    if (outputs === undefined) throw new TooMuch();
    return outputs;
  }

  /** Outputs that are told, at the end, who refers to them. */
  outputs(items: readonly Output[], inlining: Inlining): Outputs {
    const outputs = new Outputs(items, inlining);
    this.#outputs.push(outputs);
    return outputs;
  }

  /** What the inside of a query sees from its start: its WITH queries, and what is outside. */
  inside(clause: WithClause | undefined, outer: Env): Env {
    let env: Env = { names: NO_NAMES, parent: outer, ctes: outer.ctes };
    if (clause === undefined) return env;
    const queries = (clause.ctes ?? []).flatMap(node => ('CommonTableExpr' in node ? [node.CommonTableExpr] : []));
    if (clause.recursive === true) {
      for (const { ctename = '' } of queries) {
        env = { ...env, ctes: { name: ctename, outputs: undefined, next: env.ctes, early: false } };
      }
    }
    for (const query of queries) {
      const early = clause.recursive === true ? findCte(env, query.ctename ?? '') : undefined;
      const cte = this.#cte(query, env, early);
      if (cte.outputs !== undefined && early?.early === true) cte.outputs.closed = false;
      env = { ...env, ctes: cte };
    }
    return env;
  }

  #cte(query: CommonTableExpr, env: Env, early: Cte | undefined): Cte {
    const { ctename: name = '', ctequery, aliascolnames } = query;
    if (ctequery === undefined) throw new TooMuch();
    const renames = namesOf(aliascolnames);
    const select = 'SelectStmt' in ctequery ? ctequery.SelectStmt : undefined;
    const isRecursive = early !== undefined && select?.op === 'SETOP_UNION';
    const outputs = isRecursive
      ? this.#recursive(name, select, renames, env)
      : renamed(this.query(ctequery, env), renames, this);
    // A WITH query that asks for itself in any other way has rows that nobody knows of.
    return { name, outputs, next: env.ctes, early: false };
  }

  /** A column that the second part takes over from itself has the values of the first part, and no others. */
  #recursive(
    name: string,
    { larg, rarg, withClause, ...rest }: SelectStmt,
    renames: readonly string[],
    outer: Env,
  ): Outputs {
    if (larg === undefined || rarg === undefined) throw new TooMuch();
    const env = this.inside(withClause, outer);
    const first = renamed(this.query({ SelectStmt: larg }, env), renames, this);
    const self = new Outputs(first.items.map(blank), 'never');
    const second = this.query(
      { SelectStmt: rarg },
      { ...env, ctes: { name, outputs: self, next: env.ctes, early: false } },
    );
    this.expressions(rest, env);
    const items = first.items.map((item, position): Output => {
      if ('star' in item) return blank(item);
      const base = item.column?.value;
      const next = second.at(position)?.value;
      const column: Column = { variables: [], value: base };
      for (const { columns } of self.references) {
        const own = columns.get(`#${position}`)?.variable;
        if (base === undefined || own === undefined || !takesOver(own, next)) continue;
        own.origin = base;
        own.conditions.push(base);
        return { name: item.name, column };
      }
      return blank(item);
    });
    return this.outputs(items, 'never');
  }

  #select(select: SelectStmt, outer: Env): Outputs {
    const env = this.inside(select.withClause, outer);
    const { larg, rarg, valuesLists, sortClause, limitCount, limitOffset, intoClause, lockingClause } = select;
    if (intoClause !== undefined) this.mentions++;
    for (const lock of lockingClause ?? []) {
      if ('LockingClause' in lock) this.mentions += lock.LockingClause.lockedRels?.length ?? 0;
    }
    this.expressions([limitCount, limitOffset], env);
    if (larg !== undefined && rarg !== undefined) {
      const sides = [larg, rarg].map(side => this.query({ SelectStmt: side }, env));
      this.expressions(sortClause, env);
      return this.#united(sides, limitCount !== undefined || limitOffset !== undefined);
    }
    if (valuesLists !== undefined) {
      this.expressions(sortClause, env);
      return this.#values(valuesLists, env);
    }
    return this.#plain(select, env);
  }

  #plain(select: SelectStmt, base: Env): Outputs {
    const {
      fromClause = [],
      whereClause,
      targetList = [],
      groupClause,
      havingClause,
      windowClause,
      sortClause,
    } = select;
    let names = NO_NAMES;
    for (const item of fromClause) names = concat(names, this.from(item, base, names));
    const env: Env = { ...base, names, parent: base.parent };
    this.conditions.read(whereClause, env, names.all);
    this.expressions([targetList, groupClause, havingClause, windowClause, sortClause, select.distinctClause], env);
    return this.outputs(this.targets(targetList, env), isInlined(select) ? 'always' : 'never');
  }

  /** The columns of a target list or of RETURNING. */
  targets(list: readonly Node[], env: Env): Output[] {
    return list.map((node): Output => {
      if (!('ResTarget' in node)) return { name: undefined, column: undefined };
      return this.#target(node.ResTarget, env);
    });
  }

  #target({ name, val }: ResTarget, env: Env): Output {
    if (val === undefined) return { name, column: undefined };
    if (!('ColumnRef' in val)) {
      const value = this.conditions.valueOf(val, env);
      return { name, column: value && { variables: [], value } };
    }
    const { fields = [] } = val.ColumnRef;
    const last = fields.at(-1);
    if (last !== undefined && 'A_Star' in last) {
      const path = fields.slice(0, -1);
      if (path.length === 0) return { star: column => unqualified(env.names, column) };
      return {
        star: column => {
          const found = columnOf([...path, { String: { sval: column } }], env);
          return found && (found.local ? found.column : { ...found.column, variables: [] });
        },
      };
    }
    const found = columnOf(fields, env);
    const column = found && (found.local ? found.column : { ...found.column, variables: [] });
    return { name: name ?? namesOf(fields).at(-1), column };
  }

  #united([left, right]: readonly Outputs[], is_cut: boolean): Outputs {
    const isInlined = !is_cut && left.inlining !== 'never' && right.inlining !== 'never';
    const items = left.items.map((item, position): Output => {
      if ('star' in item) return blank(item);
      const ours = item.column;
      const theirs = right.at(position);
      if (ours?.value === undefined || theirs?.value === undefined) return { name: item.name, column: undefined };
      const variables = isInlined ? [...ours.variables, ...theirs.variables] : [];
      return { name: item.name, column: { variables, value: anyOf([ours.value, theirs.value]) } };
    });
    return this.outputs(items, 'of_keys');
  }

  #values(rows: readonly Node[], env: Env): Outputs {
    const columns: { readonly list: TermList; readonly others: Condition[]; known: boolean }[] = [];
    for (const row of rows) {
      for (const [i, item] of ('List' in row ? (row.List.items ?? []) : []).entries()) {
        columns[i] ??= { list: new TermList(), others: [], known: true };
        const column = columns[i];
        const scalar = this.terms.scalar(item);
        const value = scalar === undefined ? this.conditions.valueOf(item, env) : undefined;
        if (scalar !== undefined) column.list.add(scalar);
        else if (value !== undefined) column.others.push(value);
        else column.known = false;
      }
    }
    this.expressions(rows, env);
    const items = columns.map(({ list, others, known }, i): Output => {
      const terms: Condition = { kind: 'terms', use: 'compared', terms: list.terms };
      const all = list.terms.length === 0 ? others : [terms, ...others];
      return { name: `column${i + 1}`, column: known ? { variables: [], value: anyOf(all) } : undefined };
    });
    return this.outputs(items, 'never');
  }

  /** The sources of an item of a FROM list; `left` are those that a LATERAL one sees. */
  from(node: Node, base: Env, left: Names): Names {
    if (++this.#depth > DEPTH_MAX) throw new TooMuch();
    const names = this.#from(node, base, left);
    this.#depth--;
    return names;
  }

  #from(node: Node, base: Env, left: Names): Names {
    if ('RangeVar' in node) return only(this.#relation(node.RangeVar, base));
    if ('JoinExpr' in node) return this.#join(node.JoinExpr, base, left);
    const sideways: Env = { ...base, names: left };
    if ('RangeSubselect' in node) {
      const { subquery, alias, lateral } = node.RangeSubselect;
      if (subquery === undefined) throw new TooMuch();
      const outputs = this.query(subquery, lateral === true ? sideways : base);
      return only(new DerivedSource(alias?.aliasname, outputs, namesOf(alias?.colnames), this));
    }
    if ('RangeTableSample' in node) {
      const { relation, args, repeatable } = node.RangeTableSample;
      this.expressions([args, repeatable], base);
      if (relation === undefined) throw new TooMuch();
      return this.from(relation, base, left);
    }
    this.expressions(node, sideways);
    if ('RangeFunction' in node) return only(this.#opaque(node.RangeFunction.alias?.aliasname));
    if ('RangeTableFunc' in node) return only(this.#opaque(node.RangeTableFunc.alias?.aliasname));
    if ('JsonTable' in node) return only(this.#opaque(node.JsonTable.alias?.aliasname));
    throw new TooMuch();
  }

  #opaque(name: string | undefined): Source {
    return new DerivedSource(name, undefined, [], this);
  }

  #relation(relation: RangeVar, env: Env): Source {
    const { relname = '', schemaname, catalogname, alias } = relation;
    const cte = schemaname === undefined && catalogname === undefined ? findCte(env, relname) : undefined;
    const renames = namesOf(alias?.colnames);
    if (cte === undefined) return this.table(relation, 'rows');
    this.mentions++;
    if (cte.outputs === undefined) {
      cte.early = true;
      return this.#opaque(alias?.aliasname ?? relname);
    }
    return new DerivedSource(alias?.aliasname ?? relname, cte.outputs, renames, this);
  }

  /** A table, and its use. */
  table(relation: RangeVar, kind: TableUse['kind']): TableSource {
    const use = this.use(relation, kind);
    return new TableSource(use, relation.alias?.aliasname, relation.alias?.colnames !== undefined, this);
  }

  use({ relname = '', schemaname, alias }: RangeVar, kind: TableUse['kind']): TableUse {
    this.mentions++;
    const name = schemaname === undefined ? relname : `${schemaname}.${relname}`;
    const use: TableUse = {
      kind,
      schema: schemaname,
      name: relname,
      words: alias?.aliasname === undefined || alias.aliasname === relname ? name : `${name} (${alias.aliasname})`,
      keys: new Map(),
      assigned: new Set(),
      positions: undefined,
    };
    this.uses.push(use);
    return use;
  }

  #join(join: JoinExpr, base: Env, before: Names): Names {
    const { larg, rarg, jointype, quals, isNatural } = join;
    if (larg === undefined || rarg === undefined) throw new TooMuch();
    const left = this.from(larg, base, before);
    const right = this.from(rarg, base, concat(before, left));
    const sides: Sides = {
      left,
      right,
      keeps_left: jointype === 'JOIN_LEFT' || jointype === 'JOIN_FULL',
      keeps_right: jointype === 'JOIN_RIGHT' || jointype === 'JOIN_FULL',
    };
    this.conditions.read(quals, { ...base, names: concat(left, right) }, restricted(sides));
    if (isNatural === true) equateNatural(sides, this.columns);
    return joined(join, sides);
  }
}

/** Whether a column of the second part of a recursive query is just what it was before. */
function takesOver(own: Variable | undefined, value: Condition | undefined): boolean {
  if (own === undefined || value?.kind !== 'same') return false;
  if (value.variable === own) return true;
  return value.variable.conditions.some(
    condition => condition.kind === 'equal' && condition.to.kind === 'same' && condition.to.variable === own,
  );
}

/** The same name, and nothing known of its values. */
function blank(item: Output): Output {
  return 'star' in item ? { star: () => undefined } : { name: item.name, column: undefined };
}

/** Outputs under the names that a WITH clause gives them. */
function renamed(outputs: Outputs, names: readonly string[], walk: QueryWalk): Outputs {
  if (names.length === 0) return outputs;
  const items = outputs.items.map((item, i) => {
    if ('star' in item) return { star: () => undefined };
    return { name: names[i] ?? item.name, column: item.column };
  });
  return walk.outputs(items, outputs.inlining);
}

function isSubLink(value: unknown): value is { readonly SubLink: SubLink } {
  return isFields(value) && isFields(value.SubLink);
}

function isSelect(value: unknown): value is { readonly SelectStmt: SelectStmt } {
  return isFields(value) && isFields(value.SelectStmt);
}
