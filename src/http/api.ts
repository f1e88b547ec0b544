/** The SHOW tables of the admin database as JSON, one object a row. */
import type { ControlPlane } from '../admin/control.ts';
import { TABLES } from '../admin/show.ts';
import type { ShowTable } from '../admin/table.ts';

/** The names under `/api/`, in the order of SHOW HELP. */
export function apiNames(): string[] {
  return Array.from(TABLES.keys(), name => name.toLowerCase());
}

/** The table under a name; undefined when there is none. Names are in lower case. */
export function apiTable(name: string): ShowTable | undefined {
  return name === name.toLowerCase() ? TABLES.get(name.toUpperCase()) : undefined;
}

/** The rows that SHOW prints; numbers are numbers. */
export function apiRows(table: ShowTable, control: ControlPlane): Record<string, string | number>[] {
  return table
    .rows(control)
    .map(row =>
      Object.fromEntries(
        table.columns.map(({ name, type }, at) => [
          name,
          type === 'text' || row[at] === '' ? row[at] : Number(row[at]),
        ]),
      ),
    );
}
