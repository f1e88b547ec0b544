/** Whether the columns of a select may as well be restricted inside of it, where a condition outside restricts them. */
import type { SelectStmt } from '@pgsql/types';
import { isFields } from './keys-terms.ts';

/**
 * False where rows depend on others that would be left out: those that LIMIT, DISTINCT ON or a window count. A group
 * has one value of each column that it puts out, unless there are several ways to group.
 */
export function isInlined(select: SelectStmt): boolean {
  const { distinctClause, groupClause, windowClause, limitCount, limitOffset } = select;
  if (limitCount !== undefined || limitOffset !== undefined) return false;
  if (distinctClause?.some(node => Object.keys(node).length > 0) === true) return false;
  if (groupClause?.some(node => 'GroupingSet' in node) === true) return false;
  return windowClause === undefined && !hasWindow([select.targetList, select.sortClause]);
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
