/** The benchmark's results as tables for people or as JSON for programs. */
import type { Measurement, Mode } from './pgbench.ts';
import { median } from './statistics.ts';
import { alignedLines, factLines, fixed } from './table.ts';

/** One run of a contender. */
export interface Run extends Measurement {
  /** Processor time of the pooler a transaction; undefined for PostgreSQL itself and off Linux. */
  readonly cpu_us: number | undefined;
  /** What else was measured meanwhile: a column each. */
  readonly beside?: Readonly<Record<string, number>>;
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

/** Of one contender's runs. A ratio is to the yardstick's runs in the same mode: the median of the ratios of each round. */
export interface Medians {
  readonly tps: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly cpu_us: number | undefined;
  readonly tps_ratio: number | undefined;
  readonly p50_ratio: number | undefined;
  readonly p99_ratio: number | undefined;
  readonly cpu_ratio: number | undefined;
}

/** What ratios are to, where nothing else is said. */
export const YARDSTICK = 'PgBouncer';

export function jsonReport({ about, commands, results }: Report): string {
  const rows = results.map(result => ({ ...result, medians: mediansOf(result, results) }));
  return JSON.stringify({ about, commands, results: rows }, undefined, 2);
}

export function textReport({ about, commands, results }: Report): string {
  const modes = [...new Set(results.map(({ mode }) => mode))];
  const tables = modes.map(mode => {
    const own = results.filter(result => result.mode === mode);
    return ['', resultTable(`-M ${mode}`, own), ...splittingNote(own)].join('\n');
  });
  return [...factLines(about), '', ...commands, ...tables].join('\n');
}

/** A row for every result; all are of one mode. */
export function resultTable(title: string, results: readonly Result[], yardstick = YARDSTICK): string {
  const beside = [...new Set(results.flatMap(({ runs }) => runs.flatMap(run => Object.keys(run.beside ?? {}))))];
  const head = [title, 'tps', 'p50 ms', 'p99 ms', 'CPU us/tx', `tps/${yardstick}`, `CPU/${yardstick}`, ...beside];
  const rows = results.map(result => {
    const { tps, p50_ms, p99_ms, cpu_us, tps_ratio, cpu_ratio } = mediansOf(result, results, yardstick);
    const name = result.ran === result.mode ? result.contender : `${result.contender} *`;
    const numbers = [fixed(p50_ms, 2), fixed(p99_ms, 2), fixed(cpu_us, 1), fixed(tps_ratio, 2), fixed(cpu_ratio, 2)];
    const more = beside.map(key => medianOf(result.runs, run => run.beside?.[key]));
    return [name, fixed(tps, 0), ...numbers, ...more.map(value => fixed(value, 1))];
  });
  const notes = results
    .filter(({ mode, ran }) => ran !== mode)
    .map(({ contender, mode, ran }) => `* this ${contender} has no -M ${mode} in transaction mode: run with -M ${ran}`);
  return [...alignedLines([head, ...rows]), ...notes].join('\n');
}

export function mediansOf({ mode, runs }: Result, results: readonly Result[], yardstick = YARDSTICK): Medians {
  const others = results.find(other => other.contender === yardstick && other.mode === mode)?.runs ?? [];
  const over = (of: (run: Run) => number | undefined) =>
    medianOf(runs, (run, round) => {
      const [one, other] = [of(run), others[round] && of(others[round])];
      return one === undefined || other === undefined ? undefined : one / other;
    });
  return {
    tps: median(runs.map(run => run.tps)),
    p50_ms: median(runs.map(run => run.p50_ms)),
    p99_ms: median(runs.map(run => run.p99_ms)),
    cpu_us: medianOf(runs, run => run.cpu_us),
    tps_ratio: over(run => run.tps),
    p50_ratio: over(run => run.p50_ms),
    p99_ratio: over(run => run.p99_ms),
    cpu_ratio: over(run => run.cpu_us),
  };
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

function medianOf(runs: readonly Run[], of: (run: Run, round: number) => number | undefined): number | undefined {
  const values = runs.map(of).filter(value => value !== undefined);
  return values.length === 0 ? undefined : median(values);
}
