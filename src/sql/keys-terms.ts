/** Reads constants and parameters out of a parse tree. */
import type { A_ArrayExpr, A_Const, Node, TypeCast, TypeName } from '@pgsql/types';
import type { Run, Scalar, Term } from './keys-plan.ts';
import type { Literal } from './literal.ts';

/** The hole that a constant with this location is: see Template.holeAt. */
export type HoleAt = (offset: number) => number | undefined;

/** Reads terms; `params` is false where parameters are of an inner statement, which has no values yet. */
export class TermReader {
  readonly #holeAt: HoleAt;
  params = true;

  constructor(holeAt: HoleAt) {
    this.#holeAt = holeAt;
  }

  /** The scalar that an expression is, undefined for any other. */
  scalar(node: Node | undefined): Scalar | undefined {
    if (node === undefined) return undefined;
    if ('A_Const' in node) return this.#constant(node.A_Const);
    if ('ParamRef' in node) return this.#param(node.ParamRef.number, undefined);
    if ('TypeCast' in node) return this.#cast(node.TypeCast);
    if ('A_Expr' in node) {
      const { kind, name, lexpr, rexpr } = node.A_Expr;
      if (kind === 'AEXPR_OP' && lexpr === undefined && operatorOf(name) === '-') return negated(this.scalar(rexpr));
    }
    return undefined;
  }

  /** The right side of `= ANY (...)`: an array as one value, or its elements. */
  array(node: Node | undefined): readonly (Term | Run)[] | undefined {
    if (node === undefined) return undefined;
    if ('A_ArrayExpr' in node) return this.#elements(node.A_ArrayExpr, undefined);
    if ('TypeCast' in node) {
      const { arg, typeName } = node.TypeCast;
      const type = typeOf(typeName);
      if (type === undefined || !type.startsWith('_') || arg === undefined) return undefined;
      if ('A_ArrayExpr' in arg) return this.#elements(arg.A_ArrayExpr, type.slice(1));
      return withCast(this.scalar(arg), type);
    }
    const scalar = this.scalar(node);
    return scalar === undefined || scalar === 'null' ? undefined : [{ array: scalar }];
  }

  #elements({ elements = [] }: A_ArrayExpr, cast: string | undefined): readonly (Term | Run)[] | undefined {
    const terms = new TermList();
    for (const element of elements) {
      const scalar = this.scalar(element);
      const typed = cast === undefined ? scalar : castTo(scalar, cast);
      if (typed === undefined) return undefined;
      terms.add(typed);
    }
    return terms.terms;
  }

  #cast({ arg, typeName }: TypeCast): Scalar | undefined {
    const type = typeOf(typeName);
    return type === undefined || type.startsWith('_') ? undefined : castTo(this.scalar(arg), type);
  }

  #param(number: number | undefined, cast: string | undefined): Scalar | undefined {
    return this.params && number !== undefined && number > 0 ? { param: number, cast } : undefined;
  }

  #constant(constant: A_Const): Scalar | undefined {
    if (constant.isnull === true) return 'null';
    const literal = literalOf(constant);
    const { location } = constant;
    if (literal === undefined || location === undefined || location < 0) return undefined;
    const negative = literal.form !== 'string' && literal.text.startsWith('-');
    const hole = this.#holeAt(location);
    if (hole !== undefined) return { hole, negative, cast: undefined };
    const text = negative ? literal.text.slice(1) : literal.text;
    return { literal: { form: literal.form, text }, negative, cast: undefined };
  }
}

/** Scalars in a row; holes and parameters at equal distances become one {@link Run}. */
export class TermList {
  readonly terms: (Term | Run)[] = [];

  add(scalar: Scalar): void {
    const numbered = numberOf(scalar);
    const last = this.terms.at(-1);
    if (numbered === undefined || last === undefined || last === 'null') {
      this.terms.push(scalar);
      return;
    }
    const run = 'count' in last ? last : 'array' in last || 'from' in last ? undefined : numberOf(last);
    const step = run === undefined ? 0 : run.count === 1 ? numbered.first - run.first : run.step;
    const continues =
      run !== undefined &&
      run.of === numbered.of &&
      run.cast === numbered.cast &&
      numbered.first === run.first + step * run.count;
    if (continues) this.terms[this.terms.length - 1] = { ...run, step, count: run.count + 1 };
    else this.terms.push(scalar);
  }
}

/** A hole or a parameter as the beginning of a run. */
function numberOf(scalar: Scalar): Run | undefined {
  if (scalar === 'null' || 'literal' in scalar) return undefined;
  const { cast } = scalar;
  if ('param' in scalar) return { of: 'param', first: scalar.param, step: 1, count: 1, cast };
  return scalar.negative ? undefined : { of: 'hole', first: scalar.hole, step: 1, count: 1, cast };
}

/** The name of an operator that is PostgreSQL's own as far as its schema tells, undefined for any other. */
export function operatorOf(name: readonly Node[] | undefined): string | undefined {
  const names = namesOf(name);
  return names.length === 1 || (names.length === 2 && names[0] === 'pg_catalog') ? names[names.length - 1] : undefined;
}

/** The strings of a list of names. */
export function namesOf(list: readonly Node[] | undefined): string[] {
  return (list ?? []).map(node => ('String' in node ? (node.String.sval ?? '') : ''));
}

function literalOf({ ival, fval, sval }: A_Const): Literal | undefined {
  if (ival !== undefined) return { form: 'integer', text: String(ival.ival ?? 0) };
  if (fval !== undefined) return { form: 'decimal', text: fval.fval ?? '' };
  return sval === undefined ? undefined : { form: 'string', text: sval.sval ?? '' };
}

/** The type's name as the catalog has it, `_` in front for arrays; undefined if it has a length, or a schema of its own. */
function typeOf(type: TypeName | undefined): string | undefined {
  if (type === undefined || type.typmods !== undefined || type.setof === true || type.pct_type === true)
    return undefined;
  const names = namesOf(type.names);
  const name = names.at(-1);
  if (name === undefined || names.length > 2 || (names.length === 2 && names[0] !== 'pg_catalog')) return undefined;
  return type.arrayBounds === undefined ? name : `_${name}`;
}

function castTo(scalar: Scalar | undefined, cast: string): Scalar | undefined {
  if (scalar === undefined || scalar === 'null') return scalar;
  return scalar.cast === undefined ? { ...scalar, cast } : undefined;
}

function withCast(scalar: Scalar | undefined, cast: string): readonly Term[] | undefined {
  const typed = castTo(scalar, cast);
  return typed === undefined || typed === 'null' ? undefined : [{ array: typed }];
}

/** `-5::int8` is -(5::int8). */
function negated(scalar: Scalar | undefined): Scalar | undefined {
  if (scalar === undefined || scalar === 'null' || 'param' in scalar || scalar.negative) return undefined;
  return scalar.cast === undefined ? undefined : { ...scalar, negative: true };
}

export function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
