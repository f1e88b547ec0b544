/** One run of pgbench: its command, and what its output and its log of transactions say. */
import { globSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ProgramError, run } from './program.ts';
import { percentile } from './statistics.ts';

/** pgbench's query modes (-M). */
export const MODES = ['simple', 'extended', 'prepared'] as const;
export type Mode = (typeof MODES)[number];

/** How pgbench is run. */
export interface Load {
  readonly clients: number;
  readonly threads: number;
  readonly seconds: number;
  readonly user: string;
  readonly database: string;
  /** {@link SELECT_ONLY} or {@link TPC_B}. */
  readonly workload: readonly string[];
  /** The share of transactions that pgbench logs one by one, for the percentiles. */
  readonly sampling_rate: number;
}

/** pgbench's arguments for one SELECT by primary key a transaction. */
export const SELECT_ONLY: readonly string[] = ['-n', '-S'];

/** For its mix after TPC-B: without `-n` it vacuums its small tables and empties the history before the clock runs. */
export const TPC_B: readonly string[] = ['-b', 'tpcb-like'];

/** What one run says. */
export interface Measurement {
  readonly transactions: number;
  /** Transactions a second, the time to connect left out. */
  readonly tps: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

/** A run that takes so much longer than it should hangs. */
const GRACE_MS = 60_000;
const LOG_PREFIX = 'transactions';

/** pgbench's arguments; `port` may be a word, for people. */
export function pgbenchArgs(load: Load, mode: Mode, host: string, port: number | string): string[] {
  const where = ['-h', host, '-p', String(port), '-U', load.user];
  const what = [...load.workload, '-M', mode];
  const amount = ['-c', String(load.clients), '-j', String(load.threads), '-T', String(load.seconds)];
  const log = ['-l', `--log-prefix=${LOG_PREFIX}`, `--sampling-rate=${load.sampling_rate}`];
  return [...where, ...what, ...amount, ...log, load.database];
}

/**
 * Runs pgbench (the program `path`) in `folder`, which gets its logs for a moment.
 * @throws ProgramError when it fails or a transaction does.
 */
export async function pgbench(
  path: string,
  load: Load,
  mode: Mode,
  host: string,
  port: number,
  folder: string,
): Promise<Measurement> {
  const timeout_ms = 1000 * load.seconds + GRACE_MS;
  const output = await run(path, pgbenchArgs(load, mode, host, port), { cwd: folder, timeout_ms });
  const logs = globSync(join(folder, `${LOG_PREFIX}.*`));
  // A line is: client, transaction, microseconds, script, and the time in seconds and microseconds.
  const lines = logs.flatMap(log => readFileSync(log, 'utf8').trim().split('\n'));
  for (const log of logs) rmSync(log);
  const times_us = lines.map(line => Number(line.split(' ')[2]));
  const failed = numberAfter(output, /number of failed transactions: (\d+)/);
  if (failed !== undefined && failed > 0) throw new ProgramError(`${failed} transactions failed`);
  const transactions = numberAfter(output, /number of transactions actually processed: (\d+)/);
  const tps = numberAfter(output, /tps = ([\d.]+)/);
  if (transactions === undefined || tps === undefined) throw new ProgramError(`unknown output of pgbench: ${output}`);
  return { transactions, tps, p50_ms: percentile(times_us, 0.5) / 1000, p99_ms: percentile(times_us, 0.99) / 1000 };
}

function numberAfter(output: string, pattern: RegExp): number | undefined {
  const found = pattern.exec(output)?.[1];
  return found === undefined ? undefined : Number(found);
}
