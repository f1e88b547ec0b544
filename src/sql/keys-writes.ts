/** Walks statements that write, and utility statements: which rows they make, and which they must not change. */
import type {
  CopyStmt,
  DeleteStmt,
  InsertStmt,
  MergeStmt,
  MergeWhenClause,
  Node,
  OnConflictClause,
  RangeVar,
  ReturningClause,
  SelectStmt,
  UpdateStmt,
} from '@pgsql/types';
import { anyOf, type Condition, equalTo, type TableUse, UNKNOWN, type Variable } from './keys-plan.ts';
import { TermList } from './keys-terms.ts';
import { type QueryWalk, TooMuch, type Writes } from './keys-walk.ts';
import { concat, type Env, NO_NAMES, type Outputs, only, type Source, TableSource } from './scope.ts';

const NOWHERE: Env = { names: NO_NAMES, parent: undefined, ctes: undefined };

/** A row's value for a column: undefined when it is not given, or by DEFAULT. */
type Given = Condition | undefined;

export class StatementWalk implements Writes {
  readonly #walk: QueryWalk;

  constructor(walk: QueryWalk) {
    this.#walk = walk;
    walk.writes = this;
  }

  /** Walks a statement; false if it is none that is about rows. */
  statement(node: Node): boolean {
    if ('SelectStmt' in node || isWrite(node)) this.#walk.query(node, NOWHERE);
    else if ('ExplainStmt' in node) return this.#inner(node.ExplainStmt.query);
    else if ('DeclareCursorStmt' in node) return this.#inner(node.DeclareCursorStmt.query);
    else if ('PrepareStmt' in node) {
      // Its parameters get their values from an EXECUTE.
      this.#walk.terms.params = false;
      const known = this.#inner(node.PrepareStmt.query);
      this.#walk.terms.params = true;
      return known;
    } else if ('CreateTableAsStmt' in node) {
      this.#walk.mentions++;
      return this.#inner(node.CreateTableAsStmt.query);
    } else if ('CopyStmt' in node) this.#copy(node.CopyStmt);
    else if ('TruncateStmt' in node) this.#relations(node.TruncateStmt.relations, 'truncate');
    else if ('LockStmt' in node) this.#relations(node.LockStmt.relations, 'lock');
    else return false;
    return true;
  }

  write(node: Node, outer: Env): Outputs | undefined {
    if ('InsertStmt' in node) return this.#insert(node.InsertStmt, outer);
    if ('UpdateStmt' in node) return this.#update(node.UpdateStmt, outer);
    if ('DeleteStmt' in node) return this.#delete(node.DeleteStmt, outer);
    return 'MergeStmt' in node ? this.#merge(node.MergeStmt, outer) : undefined;
  }

  #inner(query: Node | undefined): boolean {
    return query !== undefined && this.statement(query);
  }

  #copy({ relation, query, is_from, whereClause }: CopyStmt): void {
    if (query !== undefined) this.#inner(query);
    if (relation !== undefined) this.#walk.use(relation, is_from === true ? 'copy_from' : 'copy_to');
    this.#walk.expressions(whereClause, NOWHERE);
  }

  #relations(relations: readonly Node[] = [], kind: TableUse['kind']): void {
    for (const node of relations) if ('RangeVar' in node) this.#walk.use(node.RangeVar, kind);
  }

  #update(
    { relation, targetList, fromClause, whereClause, returningClause, withClause }: UpdateStmt,
    outer: Env,
  ): Outputs {
    if (relation === undefined) throw new TooMuch();
    const base = this.#walk.inside(withClause, outer);
    const target = this.#target(relation, whereClause);
    this.#assign(target.use, targetList);
    const env = this.#scan(target.source, fromClause, whereClause, base);
    this.#walk.expressions(targetList, env);
    return this.#returning(returningClause, env);
  }

  #delete({ relation, usingClause, whereClause, returningClause, withClause }: DeleteStmt, outer: Env): Outputs {
    if (relation === undefined) throw new TooMuch();
    const base = this.#walk.inside(withClause, outer);
    const target = this.#target(relation, whereClause);
    return this.#returning(returningClause, this.#scan(target.source, usingClause, whereClause, base));
  }

  #target(relation: RangeVar, where: Node | undefined): { readonly use: TableUse; readonly source: Source } {
    // The row of a cursor is where the cursor is.
    const kind = where !== undefined && 'CurrentOfExpr' in where ? 'current' : 'rows';
    return this.#table(relation, kind);
  }

  #table(relation: RangeVar, kind: TableUse['kind']): { readonly use: TableUse; readonly source: Source } {
    const use = this.#walk.use(relation, kind);
    return {
      use,
      source: new TableSource(use, relation.alias?.aliasname, relation.alias?.colnames !== undefined, this.#walk),
    };
  }

  /** What is seen behind FROM or USING, when the conditions have been read. */
  #scan(target: Source, list: readonly Node[] = [], where: Node | undefined, base: Env): Env {
    let names = only(target);
    for (const item of list) names = concat(names, this.#walk.from(item, base, names));
    const env = { ...base, names };
    this.#walk.conditions.read(where, env, names.all);
    return env;
  }

  #assign(use: TableUse, list: readonly Node[] = []): void {
    for (const node of list) {
      const name = 'ResTarget' in node ? (node.ResTarget.name ?? '') : '';
      if (this.#walk.columns.has(name.toLowerCase())) use.assigned.add(name);
    }
  }

  #returning(clause: ReturningClause | undefined, env: Env): Outputs {
    const list = clause?.exprs ?? [];
    this.#walk.expressions(list, env);
    return this.#walk.outputs(this.#walk.targets(list, env), 'never');
  }

  #insert(
    { relation, cols, selectStmt, onConflictClause, returningClause, withClause }: InsertStmt,
    outer: Env,
  ): Outputs {
    if (relation === undefined) throw new TooMuch();
    const base = this.#walk.inside(withClause, outer);
    const use = this.#walk.use(relation, 'insert');
    const names = cols?.map(node => ('ResTarget' in node ? (node.ResTarget.name ?? '') : ''));
    if (selectStmt !== undefined && 'SelectStmt' in selectStmt) {
      const { valuesLists } = selectStmt.SelectStmt;
      if (valuesLists === undefined) this.#insertQuery(use, names, this.#walk.query(selectStmt, base));
      else this.#insertRows(use, names, valuesLists, selectStmt.SelectStmt, base);
    }
    const target = new TableSource(use, relation.alias?.aliasname, false, this.#walk);
    const env = { ...base, names: only(target) };
    if (onConflictClause !== undefined) this.#conflict(use, onConflictClause, target, env);
    return this.#returning(returningClause, env);
  }

  #conflict(use: TableUse, clause: OnConflictClause, target: Source, env: Env): void {
    this.#assign(use, clause.targetList);
    const excluded = new TableSource(use, 'excluded', false, this.#walk);
    this.#walk.expressions(clause, { ...env, names: concat(only(target), only(excluded)) });
  }

  #insertRows(
    use: TableUse,
    names: readonly string[] | undefined,
    rows: readonly Node[],
    select: SelectStmt,
    base: Env,
  ): void {
    const env = this.#walk.inside(select.withClause, base);
    const lists = rows.map(row => ('List' in row ? (row.List.items ?? []) : []));
    this.#give(use, names, names?.length ?? lists[0]?.length ?? 0, position => {
      const stored = new TermList();
      const others: Condition[] = [];
      for (const list of lists) {
        const item = list[position];
        if (item === undefined || 'SetToDefault' in item) return undefined;
        const scalar = this.#walk.terms.scalar(item);
        if (scalar !== undefined) stored.add(scalar);
        else others.push(this.#valueOf(item, env));
      }
      const terms: Condition = { kind: 'terms', use: 'stored', terms: stored.terms };
      return anyOf(stored.terms.length === 0 ? others : [terms, ...others]);
    });
    const { withClause: _, ...rest } = select;
    this.#walk.expressions(rest, env);
  }

  #insertQuery(use: TableUse, names: readonly string[] | undefined, outputs: Outputs): void {
    this.#give(use, names, names?.length ?? outputs.items.length, position => {
      const value = outputs.at(position)?.value;
      return value === undefined ? UNKNOWN : equalTo(value);
    });
  }

  #valueOf(node: Node, env: Env): Condition {
    const value = this.#walk.conditions.valueOf(node, env);
    return value === undefined ? UNKNOWN : equalTo(value);
  }

  /** Notes the values of what may be keys: of all columns if nobody says which they are. */
  #give(use: TableUse, names: readonly string[] | undefined, count: number, given: (position: number) => Given): void {
    const make = (name: string, position: number): Variable | undefined => {
      const condition = given(position);
      if (condition === undefined) return undefined;
      const variable = this.#walk.make(undefined, use, name, true);
      variable.conditions.push(condition);
      return variable;
    };
    if (names === undefined) {
      use.positions = Array.from({ length: count }, (_, position) => make('', position));
      return;
    }
    for (const [position, name] of names.entries()) {
      if (!this.#walk.columns.has(name.toLowerCase())) continue;
      const variable = make(name, position);
      if (variable !== undefined) use.keys.set(name, variable);
    }
  }

  #merge(
    { relation, sourceRelation, joinCondition, mergeWhenClauses, returningClause, withClause }: MergeStmt,
    outer: Env,
  ): Outputs {
    if (relation === undefined || sourceRelation === undefined) throw new TooMuch();
    const base = this.#walk.inside(withClause, outer);
    const { use, source: target } = this.#table(relation, 'rows');
    const source = this.#walk.from(sourceRelation, base, NO_NAMES);
    const clauses = (mergeWhenClauses ?? []).flatMap(node => ('MergeWhenClause' in node ? [node.MergeWhenClause] : []));
    const keeps_target = clauses.some(({ matchKind }) => matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_SOURCE');
    const keeps_source = clauses.some(({ matchKind }) => matchKind === 'MERGE_WHEN_NOT_MATCHED_BY_TARGET');
    const env = { ...base, names: concat(only(target), source) };
    this.#walk.conditions.read(joinCondition, env, [
      ...(keeps_target ? [] : [target]),
      ...(keeps_source ? [] : source.all),
    ]);
    for (const clause of clauses) this.#when(clause, use, relation, env);
    return this.#returning(returningClause, env);
  }

  #when(
    { commandType, condition, targetList, values }: MergeWhenClause,
    use: TableUse,
    relation: RangeVar,
    env: Env,
  ): void {
    this.#walk.expressions([condition, targetList, values], env);
    if (commandType === 'CMD_UPDATE') this.#assign(use, targetList);
    if (commandType !== 'CMD_INSERT') return;
    const { alias: _, ...table } = relation;
    const inserted = this.#walk.use(table, 'insert');
    // The table was named once only.
    this.#walk.mentions--;
    const names = targetList?.map(node => ('ResTarget' in node ? (node.ResTarget.name ?? '') : ''));
    this.#give(inserted, names, values?.length ?? 0, position => {
      const item = values?.[position];
      if (item === undefined || 'SetToDefault' in item) return undefined;
      const scalar = this.#walk.terms.scalar(item);
      return scalar === undefined ? this.#valueOf(item, env) : { kind: 'terms', use: 'stored', terms: [scalar] };
    });
  }
}

function isWrite(node: Node): boolean {
  return 'InsertStmt' in node || 'UpdateStmt' in node || 'DeleteStmt' in node || 'MergeStmt' in node;
}
