/** Tables of plain text: the first column to the left, numbers to the right. */

/** The lines of a table, with a head or without. */
export function alignedLines(rows: readonly (readonly string[])[]): string[] {
  const columns = Math.max(0, ...rows.map(row => row.length));
  const widths = Array.from({ length: columns }, (_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return rows.map(row => row.map(pad).join('  '));
}

/** Lines of `name: value`. */
export function factLines(facts: Readonly<Record<string, string>>): string[] {
  const width = Math.max(...Object.keys(facts).map(name => name.length)) + 2;
  return Object.entries(facts).map(([name, value]) => `${`${name}:`.padEnd(width)}${value}`);
}

/** A number, or a dash where there is none. */
export function fixed(value: number | undefined, digits: number): string {
  return value === undefined || Number.isNaN(value) ? '-' : value.toFixed(digits);
}
