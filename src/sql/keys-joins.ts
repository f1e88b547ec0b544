/** What a join makes of the columns of its two sides. */
import type { JoinExpr } from '@pgsql/types';
import { anyOf, equalTo } from './keys-plan.ts';
import { namesOf } from './keys-terms.ts';
import { type Column, concat, JoinSource, type Names, NO_NAMES, type Source, unqualified } from './scope.ts';

/** Both sides of a join. */
export interface Sides {
  readonly left: Names;
  readonly right: Names;
  /** Rows that have no partner stay. */
  readonly keeps_left: boolean;
  readonly keeps_right: boolean;
}

/** A column of USING. */
function merge(name: string, sides: Sides): { readonly column: Column; readonly covers: ReadonlySet<Source> } {
  const ours = sideColumn(sides.left, name);
  const theirs = sideColumn(sides.right, name);
  equate(ours, theirs, sides);
  // Where a side is kept, its column is the merged one; where both are, whichever is not NULL.
  const values = [sides.keeps_right && !sides.keeps_left ? undefined : ours, sides.keeps_right ? theirs : undefined];
  const known = values.filter(column => column !== undefined).map(column => column.value);
  const sure = known.filter(value => value !== undefined);
  return {
    column: {
      variables: [...(ours?.variables ?? []), ...(theirs?.variables ?? [])],
      value: sure.length > 0 && sure.length === known.length ? anyOf(sure) : undefined,
    },
    covers: new Set([...sides.left.visible, ...sides.right.visible]),
  };
}

/** The column that one side of a USING join has for certain. */
function sideColumn(names: Names, name: string): Column | undefined {
  const [source] = names.visible;
  return names.visible.length === 1 && !names.merged.has(name) ? source.column(name) : unqualified(names, name);
}

/** Both columns are equal where a row has both. */
function equate(left: Column | undefined, right: Column | undefined, sides: Sides): void {
  if (left === undefined || right === undefined) return;
  const link = (from: Column, to: Column) => {
    const { value } = to;
    if (value !== undefined) for (const variable of from.variables) variable.conditions.push(equalTo(value));
  };
  if (!sides.keeps_left) link(left, right);
  if (!sides.keeps_right) link(right, left);
}

/** The sources whose rows matter only where they meet the condition of the join: those of a kept side all do. */
export function restricted({ left, right, keeps_left, keeps_right }: Sides): readonly Source[] {
  return [...(keeps_left ? [] : left.all), ...(keeps_right ? [] : right.all)];
}

/** Columns that both sides of a NATURAL join have, if they do, are equal; only where each is one source. */
export function equateNatural(sides: Sides, columns: ReadonlySet<string>): void {
  const [left] = sides.left.all;
  const [right] = sides.right.all;
  if (sides.left.all.length > 1 || sides.right.all.length > 1) return;
  for (const column of columns) equate(left.column(column), right.column(column), sides);
}

/** What is seen of a join behind it. */
export function joined({ isNatural, usingClause, alias, join_using_alias }: JoinExpr, sides: Sides): Names {
  const { left, right, keeps_left, keeps_right } = sides;
  const both = concat(left, right);
  const merged = new Map(namesOf(usingClause).map(column => [column, merge(column, sides)]));
  const visible = [...both.visible];
  const { aliasname } = join_using_alias ?? {};
  if (aliasname !== undefined) visible.push(new JoinSource(aliasname, 'merged', name => merged.get(name)?.column));
  for (const source of [...(keeps_left ? right.all : []), ...(keeps_right ? left.all : [])]) source.nullable = true;
  const names = {
    visible,
    all: both.all,
    merged: merged.size === 0 ? both.merged : new Map([...both.merged, ...merged]),
    natural: both.natural || isNatural === true,
  };
  if (alias?.aliasname === undefined) return names;
  const find = (column: string) => (alias.colnames === undefined ? unqualified(names, column) : undefined);
  return { ...NO_NAMES, visible: [new JoinSource(alias.aliasname, 'join', find)], all: both.all };
}
