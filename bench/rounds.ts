/** Interleaved rounds: every contender gets its share of the machine's good and bad minutes. */
import type { Contender } from './contender.ts';
import { cpuTime } from './cpu.ts';
import { type Load, type Mode, pgbench } from './pgbench.ts';
import type { Run } from './report.ts';

/** One contender in one mode. */
export interface Entry {
  readonly mode: Mode;
  readonly contender: Contender;
  /** The mode that it is really run in. */
  readonly ran: Mode;
  readonly runs: Run[];
}

export interface Rounds {
  readonly rounds: number;
  readonly seconds: number;
  /** Runs an entry once. */
  readonly once: (entry: Entry, seconds: number) => Promise<Run>;
}

const WARM_UP_S = 2;

export function entryOf(contender: Contender, mode: Mode): Entry {
  return { mode, contender, ran: contender.modeFor(mode), runs: [] };
}

/** Warms every entry up and fills its runs, one a round. */
export async function interleave(entries: readonly Entry[], { rounds, seconds, once }: Rounds): Promise<void> {
  for (const entry of entries) {
    say(`warming up: ${entry.contender.name}, -M ${entry.ran}`);
    await once(entry, Math.min(WARM_UP_S, seconds));
  }
  for (let round = 1; round <= rounds; round++) {
    for (const entry of inTurn(entries, round)) {
      const run = await once(entry, seconds);
      entry.runs.push(run);
      say(`round ${round} of ${rounds}: ${entry.contender.name}, -M ${entry.ran}: ${run.tps.toFixed(0)} tps`);
    }
  }
}

/** Back and forth, so that nobody always comes after the same neighbour. */
export function inTurn<T>(entries: readonly T[], round: number): readonly T[] {
  return round % 2 === 1 ? entries : entries.toReversed();
}

/** Runs pgbench (the program `tool`) against a contender. */
export async function runOnce(
  tool: string,
  load: Load,
  { contender, ran }: Pick<Entry, 'contender' | 'ran'>,
  folder: string,
): Promise<Run> {
  const { pid, port } = contender;
  const before_us = pid === undefined ? undefined : cpuTime(pid);
  const measurement = await pgbench(tool, load, ran, '127.0.0.1', port, folder);
  const after_us = pid === undefined ? undefined : cpuTime(pid);
  if (before_us === undefined || after_us === undefined) return { ...measurement, cpu_us: undefined };
  return { ...measurement, cpu_us: (after_us - before_us) / measurement.transactions };
}

/** Progress goes to standard error: standard output holds the report alone. */
export function say(words: string): void {
  console.error(words);
}
