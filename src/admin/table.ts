/** A table of the admin database: columns, each with the value that it has in a row, and where the rows come from. */
import type { Column } from '../wire/backend.ts';
import type { ControlPlane } from './control.ts';

/** The values of one row, in the order of the columns. */
export type Row = readonly string[];

/** What one SHOW command prints. */
export interface ShowTable {
  readonly columns: readonly Column[];
  /** Tag of its CommandComplete. */
  readonly tag: string;
  /** The rows as they are now, in a stable order. */
  rows(control: ControlPlane): Row[];
}

/** A column and what it says about a `Source`. */
export interface ShownColumn<Source> extends Column {
  value(source: Source): string;
}

/** A table with one row for each of the `sources`. */
export function table<Source>(
  sources: (control: ControlPlane) => Iterable<Source>,
  columns: readonly ShownColumn<Source>[],
  tag = 'SHOW',
): ShowTable {
  const rowOf = (source: Source) => columns.map(column => column.value(source));
  return { columns, tag, rows: control => Array.from(sources(control), rowOf) };
}

export function text<Source>(name: string, value: (source: Source) => string): ShownColumn<Source> {
  return { name, type: 'text', value };
}

export function int4<Source>(name: string, value: (source: Source) => number): ShownColumn<Source> {
  return { name, type: 'int4', value: source => String(value(source)) };
}

/** A number with at most three decimals. */
export function numeric<Source>(name: string, value: (source: Source) => number): ShownColumn<Source> {
  return { name, type: 'numeric', value: source => String(Number(value(source).toFixed(3))) };
}
