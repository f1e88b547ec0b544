/** What is said of a statement's keys: `data.id = 5`, and what is missing. */
import type { Condition, KeyContext, Run, Scalar, TableUse, Term, Variable } from './keys-plan.ts';

/** Characters of a value, and values and keys, that are told. */
const TEXT_LENGTH = 40;
const TOLD = 3;
/** Variables that are looked through for a value. */
const SEARCHED = 50;

type TextOf = (scalar: Scalar) => string;

/** A mention of a table, and what is known of its key. */
export interface Found {
  readonly use: TableUse;
  readonly variable: Variable;
}

/** What may be wrong with the key of a table. */
export type Complaint =
  | 'view'
  | 'missing'
  | 'unclear'
  | 'unnamed'
  | 'assigned'
  | 'copy_from'
  | 'copy_to'
  | 'truncate'
  | 'lock';

const CHOOSE = 'choose a shard with SET SHARD TO or SET SHARDING KEY TO first';

/** A complaint in words. */
export function complain(complaint: Complaint, { words }: TableUse, key: string): string {
  switch (complaint) {
    case 'view':
      return `the sharding key ${key} is not looked for behind the view ${words}: ${CHOOSE}`;
    case 'missing':
      return `no value for the sharding key ${key} of table ${words}`;
    case 'unclear':
      return `no certain value for the sharding key ${key} of table ${words}`;
    case 'unnamed':
      return `the columns of table ${words} are not known: name them in INSERT INTO, the sharding key ${key} among them`;
    case 'assigned':
      return `the sharding key ${key} of table ${words} is assigned to, and no row can move to another shard`;
    case 'copy_from':
      return `COPY into table ${words} does not look at the sharding key ${key} of its rows: ${CHOOSE}`;
    case 'copy_to':
      return `COPY of table ${words} needs every shard: ${CHOOSE}, or copy a query for one ${key}`;
    case 'truncate':
      return `TRUNCATE of table ${words} needs every shard: ${CHOOSE}`;
    case 'lock':
      return `LOCK of table ${words} needs every shard: ${CHOOSE}`;
  }
}

/** How the shards of these tables were found, by what is known of their keys. */
export function describe(found: readonly Found[], context: KeyContext): string {
  const textOf: TextOf = context.textOf === undefined ? placeholder : scalar => context.textOf?.(scalar) ?? '?';
  const all = new Set<string>();
  for (const { use, variable } of found) {
    const { schema, name } = use;
    const key = `${schema === undefined ? '' : `${schema}.`}${name}.${context.key.column}`;
    all.add(`${key}${known(variable, textOf)}`);
  }
  if (all.size === 1) for (const one of all) return one;
  const told = [...all].slice(0, TOLD);
  return `${told.join(', ')}${told.length < all.size ? ', ...' : ''}`;
}

/** The nearest comparisons with values: its own, or those of what it equals. */
function known(variable: Variable, textOf: TextOf): string {
  const [first] = variable.conditions;
  if (first?.kind === 'terms') return ` ${comparison(first.terms, textOf)}`;
  const seen = new Set<Variable>();
  let level = [variable];
  while (level.length > 0 && seen.size < SEARCHED) {
    const near: Variable[] = [];
    const terms = level.flatMap(({ conditions }) => conditions.flatMap(condition => termsOf(condition, near)));
    if (terms.length > 0) return ` ${comparison(terms, textOf)}`;
    for (const at of level) seen.add(at);
    level = near.filter(at => !seen.has(at));
  }
  return '';
}

/** The terms in a condition; variables on the way go to `near`. */
function termsOf(condition: Condition, near: Variable[]): (Term | Run)[] {
  switch (condition.kind) {
    case 'terms':
      return [...condition.terms];
    case 'same':
      near.push(condition.variable);
      return [];
    case 'equal':
      return termsOf(condition.to, near);
    case 'one_of':
      near.push(...condition.variables);
      return [];
    case 'all':
    case 'any':
      return condition.of.flatMap(part => termsOf(part, near));
    case 'unknown':
      return [];
  }
}

function comparison(terms: readonly (Term | Run)[], textOf: TextOf): string {
  const [term] = terms;
  if (terms.length === 1 && term !== undefined && term !== 'null') {
    if ('array' in term) return `= ANY (${short(textOf(term.array))})`;
    if ('from' in term) return `BETWEEN ${short(textOf(term.from))} AND ${short(textOf(term.to))}`;
    if (!('count' in term)) return `= ${short(textOf(term))}`;
  }
  if (terms.length === 1 && term === 'null') return 'IS NULL';
  const texts = terms.slice(0, TOLD + 1).flatMap(item => scalarsOf(item).map(scalar => short(textOf(scalar))));
  return `IN (${texts.slice(0, TOLD).join(', ')}${texts.length > TOLD ? ', ...' : ''})`;
}

function scalarsOf(term: Term | Run): Scalar[] {
  if (term === 'null') return [term];
  if ('array' in term) return [term.array];
  if ('from' in term) return [term.from, term.to];
  if (!('count' in term)) return [term];
  const { of, first, step, count, cast } = term;
  return Array.from({ length: Math.min(count, TOLD + 1) }, (_, i) =>
    of === 'param' ? { param: first + i * step, cast } : { hole: first + i * step, negative: false, cast },
  );
}

function placeholder(scalar: Scalar): string {
  if (scalar === 'null') return 'NULL';
  if ('param' in scalar) return `$${scalar.param}`;
  return 'hole' in scalar ? '?' : `${scalar.negative ? '-' : ''}${scalar.literal.text}`;
}

function short(text: string): string {
  return text.length > TEXT_LENGTH ? `${text.slice(0, TEXT_LENGTH)}...` : text;
}
