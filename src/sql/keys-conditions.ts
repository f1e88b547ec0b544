/** What a condition of WHERE or ON says about columns. */
import type { A_Expr, BoolExpr, Node, NullTest, SubLink } from '@pgsql/types';
import { allOf, anyOf, type Condition, equalTo, type Term, type Variable } from './keys-plan.ts';
import { namesOf, operatorOf, TermList, type TermReader } from './keys-terms.ts';
import { type Column, type DerivedSource, type Env, lookUp, type Source } from './scope.ts';

/** AND and OR in each other; what is deeper restricts nothing. */
const DEPTH_MAX = 100;

/** The walk that this is a part of. */
export interface Walk {
  /** Visits the sub-selects anywhere in an expression. */
  expressions(root: unknown, env: Env): void;
  /** The outputs of a sub-select in an expression. */
  subselect(link: SubLink, env: Env): DerivedSource | undefined;
  /** Whose column it is. */
  ownerOf(variable: Variable): Source | undefined;
}

/** Where a condition stands: what it sees, and which sources have no rows that matter but those that meet it. */
interface Place {
  readonly env: Env;
  readonly restricts: ReadonlySet<Source>;
}

/** Variables, and what must hold for each. */
type Facts = Map<Variable, Condition[]>;

export class ConditionReader {
  readonly #terms: TermReader;
  readonly #walk: Walk;

  constructor(terms: TermReader, walk: Walk) {
    this.#terms = terms;
    this.#walk = walk;
  }

  /** Notes what a condition says of the sources that it restricts. */
  read(node: Node | undefined, env: Env, restricts: readonly Source[]): void {
    if (node === undefined) return;
    const facts = this.#factsOf(node, { env, restricts: new Set(restricts) }, 0);
    for (const [variable, conditions] of facts) variable.conditions.push(...conditions);
  }

  /** What an expression equals; undefined for what is no constant, parameter, column or sub-select. */
  valueOf(node: Node | undefined, env: Env): Condition | undefined {
    if (node === undefined) return undefined;
    const scalar = this.#terms.scalar(node);
    if (scalar !== undefined) return { kind: 'terms', use: 'compared', terms: [scalar] };
    if ('SubLink' in node) {
      if (node.SubLink.subLinkType !== 'EXPR_SUBLINK') return undefined;
      return this.#walk.subselect(node.SubLink, env)?.at(0, '').value;
    }
    return this.#columnOf(node, env)?.column.value;
  }

  #factsOf(node: Node, place: Place, depth: number): Facts {
    const facts: Facts = new Map();
    if ('BoolExpr' in node && node.BoolExpr.boolop !== 'NOT_EXPR' && depth < DEPTH_MAX) {
      return this.#connected(node.BoolExpr, place, depth);
    }
    if ('A_Expr' in node) this.#comparison(node.A_Expr, place, facts);
    else if ('SubLink' in node) this.#membership(node.SubLink, place, facts);
    else if ('NullTest' in node) this.#nullTest(node.NullTest, place, facts);
    this.#walk.expressions(node, place.env);
    return facts;
  }

  #connected({ boolop, args = [] }: BoolExpr, place: Place, depth: number): Facts {
    const parts = args.map(arg => this.#factsOf(arg, place, depth + 1));
    const facts: Facts = new Map();
    if (boolop === 'AND_EXPR') {
      for (const part of parts) for (const [variable, conditions] of part) add(facts, variable, ...conditions);
      return facts;
    }
    const [first, ...others] = parts;
    for (const [variable, conditions] of first ?? []) {
      const sides = others.map(part => part.get(variable)).filter(side => side !== undefined);
      if (sides.length === others.length) add(facts, variable, anyOf([conditions, ...sides].map(allOf)));
    }
    return facts;
  }

  #comparison({ kind, name, lexpr, rexpr }: A_Expr, place: Place, facts: Facts): void {
    if (lexpr === undefined || rexpr === undefined) return;
    if (kind === 'AEXPR_BETWEEN') return this.#between(lexpr, rexpr, place, facts);
    if (operatorOf(name) !== '=') return;
    if (kind === 'AEXPR_OP') this.#equality(lexpr, rexpr, place, facts);
    else if (kind === 'AEXPR_IN') this.#list(lexpr, rexpr, place, facts);
    else if (kind === 'AEXPR_OP_ANY') {
      const terms = this.#terms.array(rexpr);
      if (terms !== undefined) this.#restrict(lexpr, place, facts, { kind: 'terms', use: 'compared', terms });
    }
  }

  #equality(left: Node, right: Node, place: Place, facts: Facts): void {
    if ('RowExpr' in left && 'RowExpr' in right) {
      const others = right.RowExpr.args ?? [];
      for (const [i, arg] of (left.RowExpr.args ?? []).entries()) {
        if (others[i] !== undefined) this.#equality(arg, others[i], place, facts);
      }
      return;
    }
    this.#restrict(left, place, facts, this.valueOf(right, place.env));
    this.#restrict(right, place, facts, this.valueOf(left, place.env));
  }

  #list(left: Node, right: Node, place: Place, facts: Facts): void {
    if (!('List' in right)) return;
    const items = right.List.items ?? [];
    if (!('RowExpr' in left)) return this.#restrict(left, place, facts, this.#anyItem(items, place));
    for (const [i, arg] of (left.RowExpr.args ?? []).entries()) {
      const column = items.map(item => ('RowExpr' in item ? item.RowExpr.args?.[i] : undefined));
      const known = column.filter(item => item !== undefined);
      if (known.length === items.length) this.#restrict(arg, place, facts, this.#anyItem(known, place));
    }
  }

  #anyItem(items: readonly Node[], { env }: Place): Condition | undefined {
    const list = new TermList();
    const others: Condition[] = [];
    for (const item of items) {
      const scalar = this.#terms.scalar(item);
      if (scalar !== undefined) {
        list.add(scalar);
        continue;
      }
      const value = this.valueOf(item, env);
      if (value === undefined) return undefined;
      others.push(equalTo(value));
    }
    const terms: Condition = { kind: 'terms', use: 'compared', terms: list.terms };
    return anyOf(list.terms.length === 0 && others.length > 0 ? others : [terms, ...others]);
  }

  #between(left: Node, right: Node, place: Place, facts: Facts): void {
    const [from, to] = ('List' in right ? (right.List.items ?? []) : []).map(item => this.#terms.scalar(item));
    if (from === undefined || to === undefined) return;
    const term: Term = { from, to };
    this.#restrict(left, place, facts, { kind: 'terms', use: 'compared', terms: [term] });
  }

  /** `x IN (SELECT ...)`, `x = ANY (SELECT ...)`. That it may be NULL instead of false makes no difference here. */
  #membership(link: SubLink, place: Place, facts: Facts): void {
    const { subLinkType, testexpr, operName } = link;
    if (subLinkType !== 'ANY_SUBLINK' || testexpr === undefined) return;
    if (operName !== undefined && operatorOf(operName) !== '=') return;
    const members = this.#walk.subselect(link, place.env);
    if (members === undefined) return;
    for (const [i, test] of ('RowExpr' in testexpr ? (testexpr.RowExpr.args ?? []) : [testexpr]).entries()) {
      const { variables, value } = members.at(i, '');
      this.#restrict(test, place, facts, value);
      const tested = this.valueOf(test, place.env);
      if (tested !== undefined) for (const variable of variables) variable.conditions.push(equalTo(tested));
    }
  }

  /** A join may have made the NULL, so this says nothing of rows that a join may lack. */
  #nullTest({ arg, nulltesttype }: NullTest, place: Place, facts: Facts): void {
    if (nulltesttype !== 'IS_NULL' || arg === undefined) return;
    for (const variable of this.#restricted(arg, place)) {
      const owner = this.#walk.ownerOf(variable);
      if (owner?.kind === 'table' && !owner.nullable) {
        add(facts, variable, { kind: 'terms', use: 'stored', terms: ['null'] });
      }
    }
  }

  /** `node` equals `value`: a fact if it is a column of what the condition restricts. */
  #restrict(node: Node, place: Place, facts: Facts, value: Condition | undefined): void {
    if (value === undefined) return;
    const condition = equalTo(value);
    for (const variable of this.#restricted(node, place)) add(facts, variable, condition);
  }

  #restricted(node: Node, { env, restricts }: Place): readonly Variable[] {
    const found = this.#columnOf(node, env);
    if (found === undefined) return [];
    return found.column.variables.filter(variable => {
      const owner = this.#walk.ownerOf(variable);
      return owner !== undefined && restricts.has(owner);
    });
  }

  #columnOf(node: Node, env: Env): { readonly column: Column; readonly local: boolean } | undefined {
    return 'ColumnRef' in node ? columnOf(node.ColumnRef.fields, env) : undefined;
  }
}

/** The column that the fields of a ColumnRef mean. */
export function columnOf(
  fields: readonly Node[] | undefined,
  env: Env,
): { readonly column: Column; readonly local: boolean } | undefined {
  const path = namesOf(fields);
  return path.length === 0 || path.includes('') ? undefined : lookUp(env, path);
}

function add(facts: Facts, variable: Variable, ...conditions: readonly Condition[]): void {
  const known = facts.get(variable);
  if (known === undefined) facts.set(variable, [...conditions]);
  else known.push(...conditions);
}
