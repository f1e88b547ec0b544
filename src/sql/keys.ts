/** Sharding keys in statements: a plan made once for each template, and the shards that it gives for values. */
import type { Node, ParseResult } from '@pgsql/types';
import { answerShards } from './keys-answer.ts';
import type { Condition, KeyPlan, TableUse, Variable } from './keys-plan.ts';
import { type HoleAt, isFields, TermReader } from './keys-terms.ts';
import { QueryWalk, TooMuch } from './keys-walk.ts';
import { StatementWalk } from './keys-writes.ts';

export type { KeyContext, KeyPlan, KeyShard, KeyUse, Relation, Scalar, ShardAnswer, Term } from './keys-plan.ts';
export { answerShards };

/** Memory of a plan's parts, bytes, roughly. */
const USE_BYTES = 500;
const VARIABLE_BYTES = 200;
const CONDITION_BYTES = 100;
const TERM_BYTES = 100;
const PARAM_BYTES = 50;

/**
 * What the statements of a tree say about the keys of the rows they need; undefined when they name no table.
 * `columns` are the names of all columns that may be keys, in lower case.
 */
export function planKeys(tree: ParseResult, columns: ReadonlySet<string>, holeAt: HoleAt): KeyPlan | undefined {
  const uses: TableUse[] = [];
  let inserts = false;
  for (const { stmt } of tree.stmts ?? []) {
    if (stmt === undefined) continue;
    for (const use of usesOf(stmt, columns, holeAt)) {
      for (const name of use.keys.keys()) if (!columns.has(name.toLowerCase())) use.keys.delete(name);
      if (use.kind === 'insert') inserts = true;
      uses.push(use);
    }
  }
  return uses.length === 0 ? undefined : planOf(uses, inserts, ambiguousIn(tree));
}

function usesOf(stmt: Node, columns: ReadonlySet<string>, holeAt: HoleAt): readonly TableUse[] {
  const walk = new QueryWalk(new TermReader(holeAt), columns);
  const mentioned = relations(stmt);
  try {
    if (!new StatementWalk(walk).statement(stmt)) return [];
    walk.close();
    if (walk.mentions === mentioned.length) return walk.uses;
  } catch (error) {
    if (!(error instanceof TooMuch || error instanceof RangeError)) throw error;
  }
  // Something was left out: every table that is named may be read whole.
  return mentioned;
}

/** A use of every table that is named anywhere, without a key. */
function relations(root: unknown): TableUse[] {
  const uses: TableUse[] = [];
  const pending: unknown[] = [root];
  while (pending.length > 0) {
    const item = pending.pop();
    if (Array.isArray(item)) for (const child of item) pending.push(child);
    else if (isFields(item)) {
      if (typeof item.relname === 'string') uses.push(unrestricted(item.relname, item.schemaname));
      else for (const key in item) pending.push(item[key]);
    }
  }
  return uses;
}

/** See {@link KeyPlan.ambiguous}. */
function ambiguousIn(root: unknown): ReadonlySet<number> {
  const seen = new Set<number>();
  const repeated = new Set<number>();
  let hasDecimal = false;
  const pending: unknown[] = [root];
  while (pending.length > 0) {
    const item = pending.pop();
    if (Array.isArray(item)) for (const child of item) pending.push(child);
    else if (isFields(item)) {
      if ('fval' in item) hasDecimal = true;
      const number = isFields(item.ParamRef) ? item.ParamRef.number : undefined;
      if (typeof number === 'number') (seen.has(number) ? repeated : seen).add(number);
      else for (const key in item) pending.push(item[key]);
    }
  }
  return hasDecimal ? seen : repeated;
}

function unrestricted(name: string, schemaname: unknown): TableUse {
  const schema = typeof schemaname === 'string' ? schemaname : undefined;
  const words = schema === undefined ? name : `${schema}.${name}`;
  return { kind: 'rows', schema, name, words, keys: new Map(), assigned: new Set(), positions: undefined };
}

/** The plan of these uses, with the variables that matter for them. */
function planOf(uses: readonly TableUse[], inserts: boolean, ambiguous: ReadonlySet<number>): KeyPlan {
  const variables = new Set<Variable>();
  let linked = false;
  let bytes = 0;
  const pending: Condition[] = [];
  const reach = (variable: Variable | undefined) => {
    if (variable === undefined || variables.has(variable)) return;
    variables.add(variable);
    pending.push(...variable.conditions);
    if (variable.origin !== undefined && !('keys' in variable.origin)) pending.push(variable.origin);
  };
  for (const use of uses) {
    for (const variable of [...use.keys.values(), ...(use.positions ?? [])]) reach(variable);
  }
  for (let condition = pending.pop(); condition !== undefined; condition = pending.pop()) {
    bytes += CONDITION_BYTES;
    switch (condition.kind) {
      case 'terms':
        bytes += TERM_BYTES * condition.terms.length;
        break;
      case 'same':
        reach(condition.variable);
        linked = true;
        break;
      case 'one_of':
        condition.variables.forEach(reach);
        linked = true;
        break;
      case 'equal':
        pending.push(condition.to);
        break;
      case 'all':
      case 'any':
        pending.push(...condition.of);
        break;
    }
  }
  const ordered = [...variables].sort((a, b) => a.index - b.index);
  bytes += USE_BYTES * uses.length + VARIABLE_BYTES * ordered.length;
  bytes += PARAM_BYTES * ambiguous.size;
  return { uses, variables: renumbered(ordered), linked, inserts, ambiguous, bytes };
}

function renumbered(variables: readonly Variable[]): readonly Variable[] {
  for (const [index, variable] of variables.entries()) variable.index = index;
  return variables;
}
