/** The benchmark's results as tables for people or as JSON for programs. */
import type { Measurement, Mode } from './pgbench.ts';
import { median } from './statistics.ts';

/** One run of a contender. */
export interface Run extends Measurement {
  /** Processor time of the pooler a transaction; undefined for PostgreSQL itself and off Linux. */
  readonly cpu_us: number | undefined;
}

/** All runs of one contender in one mode, one a round. */
export interface Result {
  readonly mode: Mode;
  readonly contender: string;
  /** The mode that it was really run in. */
  readonly ran: Mode;
  readonly runs: readonly Run[];
}

export interface Report {
  readonly about: Readonly<Record<string, string>>;
  /** How it was run. */
  readonly commands: readonly string[];
  readonly results: readonly Result[];
}

interface Medians extends Omit<Run, 'transactions'> {
  /** Over PgBouncer's in the same mode: medians of the ratios of each round. */
  readonly tps_ratio: number | undefined;
  readonly cpu_ratio: number | undefined;
}

/** What the ratios are to. */
const YARDSTICK = 'PgBouncer';

export function jsonReport({ about, commands, results }: Report): string {
  const rows = results.map(result => ({ ...result, medians: mediansOf(result, results) }));
  return JSON.stringify({ about, commands, results: rows }, undefined, 2);
}

export function textReport({ about, commands, results }: Report): string {
  const width = Math.max(...Object.keys(about).map(name => name.length)) + 2;
  const facts = Object.entries(about).map(([name, value]) => `${`${name}:`.padEnd(width)}${value}`);
  const modes = [...new Set(results.map(({ mode }) => mode))];
  return [...facts, '', ...commands, ...modes.map(mode => table(mode, results))].join('\n');
}

function table(mode: Mode, results: readonly Result[]): string {
  const head = [`-M ${mode}`, 'tps', 'p50 ms', 'p99 ms', 'CPU us/tx', `tps/${YARDSTICK}`, `CPU/${YARDSTICK}`];
  const own = results.filter(result => result.mode === mode);
  const rows = own.map(result => {
    const { tps, p50_ms, p99_ms, cpu_us, tps_ratio, cpu_ratio } = mediansOf(result, results);
    const name = result.ran === mode ? result.contender : `${result.contender} *`;
    const numbers = [fixed(p50_ms, 2), fixed(p99_ms, 2), fixed(cpu_us, 1), fixed(tps_ratio, 2), fixed(cpu_ratio, 2)];
    return [name, fixed(tps, 0), ...numbers];
  });
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map(row => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  const lines = [head, ...rows].map(row => row.map(pad).join('  '));
  const notes = own
    .filter(({ ran }) => ran !== mode)
    .map(({ contender, ran }) => `* this ${contender} has no -M ${mode} in transaction mode: run with -M ${ran}`);
  return ['', ...lines, ...notes, ...splittingNote(own)].join('\n');
}

/** What read/write splitting costs, where pglynx ran with and without. */
function splittingNote(own: readonly Result[]): string[] {
  const [plain, splitting] = ['pglynx', 'pglynx splitting'].map(
    name => own.find(({ contender }) => contender === name)?.runs ?? [],
  );
  const ratio = medianOf(splitting, ({ cpu_us }, round) => {
    const before_us = plain[round]?.cpu_us;
    return cpu_us === undefined || before_us === undefined ? undefined : cpu_us / before_us;
  });
  return ratio === undefined
    ? []
    : [`splitting takes ${fixed(ratio, 2)} times the CPU a transaction of pglynx without`];
}

function mediansOf({ mode, runs }: Result, results: readonly Result[]): Medians {
  const yardstick = results.find(other => other.contender === YARDSTICK && other.mode === mode)?.runs ?? [];
  const over = (of: (run: Run) => number | undefined) =>
    medianOf(runs, (run, round) => {
      const [one, other] = [of(run), yardstick[round] && of(yardstick[round])];
      return one === undefined || other === undefined ? undefined : one / other;
    });
  return {
    tps: median(runs.map(run => run.tps)),
    p50_ms: median(runs.map(run => run.p50_ms)),
    p99_ms: median(runs.map(run => run.p99_ms)),
    cpu_us: medianOf(runs, run => run.cpu_us),
    tps_ratio: over(run => run.tps),
    cpu_ratio: over(run => run.cpu_us),
  };
}

function medianOf(runs: readonly Run[], of: (run: Run, round: number) => number | undefined): number | undefined {
  const values = runs.map(of).filter(value => value !== undefined);
  return values.length === 0 ? undefined : median(values);
}

function fixed(value: number | undefined, digits: number): string {
  return value === undefined ? '-' : value.toFixed(digits);
}
