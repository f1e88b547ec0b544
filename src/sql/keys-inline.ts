/** Which columns of a select may as well be restricted inside of it, where a condition outside restricts them. */
import type { SelectStmt } from '@pgsql/types';
import { columnOf } from './keys-conditions.ts';
import { isFields } from './keys-terms.ts';
import type { Column, Env } from './scope.ts';

/** Which columns of a plain select may be asked for outside as well as inside. */
export function inliner(select: SelectStmt, env: Env): (column: Column) => boolean {
  const { distinctClause, groupClause, havingClause, windowClause, limitCount, limitOffset } = select;
  const isCut = limitCount !== undefined || limitOffset !== undefined;
  const isOn = distinctClause?.some(node => Object.keys(node).length > 0) === true;
  const isWindowed = windowClause !== undefined || hasWindow([select.targetList, select.sortClause]);
  if (isCut || isOn || isWindowed || (havingClause !== undefined && groupClause === undefined)) return () => false;
  if (groupClause === undefined) return () => true;
  if (groupClause.some(node => !('ColumnRef' in node))) return () => false;
  const grouped = new Set(
    groupClause.flatMap(node =>
      'ColumnRef' in node ? (columnOf(node.ColumnRef.fields, env)?.column.variables ?? []) : [],
    ),
  );
  return column => column.variables.every(variable => grouped.has(variable));
}

/** Whether a function looks at other rows, OVER a window. */
function hasWindow(root: unknown): boolean {
  const pending: unknown[] = [root];
  while (pending.length > 0) {
    const item = pending.pop();
    if (Array.isArray(item)) for (const child of item) pending.push(child);
    else if (isFields(item)) {
      if ('over' in item) return true;
      for (const key in item) pending.push(item[key]);
    }
  }
  return false;
}
