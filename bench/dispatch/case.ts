/** A case of the benchmark of shared dispatch: what it is given, and what comes out of it. */
import { availableParallelism } from 'node:os';
import { type Contender, type PglynxOptions, pgbouncer, pglynx, type Setup } from '../contender.ts';
import { NAME } from '../ground.ts';
import { type Load, type Mode, pgbenchArgs } from '../pgbench.ts';
import type { Result } from '../report.ts';
import { type Entry, entryOf, interleave, type Rounds } from '../rounds.ts';
import type { Figure } from './figure.ts';

/** Where a case runs: PostgreSQL, pgbench, and a folder of the case's own. */
export interface Stage extends Omit<Setup, 'connections' | 'clients'> {
  /** pgbench's path. */
  readonly tool: string;
  readonly seconds: number;
  readonly rounds: number;
  /** A folder for CPU profiles of pglynx. */
  readonly profiles: string | undefined;
}

export interface Case {
  readonly name: string;
  readonly title: string;
  run(stage: Stage): Promise<Outcome>;
}

export interface Outcome {
  readonly commands: readonly string[];
  readonly notes: readonly string[];
  readonly results: readonly Result[];
  /** What the ratios are to. */
  readonly yardstick: string;
  readonly figures: readonly Figure[];
}

/** pglynx as it is configured to share connections. */
export const SHARING = 'pglynx';
/** pglynx where every client leases. */
export const LEASING = 'pglynx off';
export const LEASING_NOTE = `${LEASING} is the same with multiplexing = "off"`;

/** Starts a contender behind this server. */
export type Starter = (setup: Setup) => Promise<Contender | undefined>;

/** pglynx with read/write splitting and one primary. */
export function starterOf(multiplexing: PglynxOptions['multiplexing'], profiles?: string): Starter {
  const name = multiplexing === 'auto' ? SHARING : LEASING;
  return setup => pglynx(setup, { name, split: true, multiplexing, profiles });
}

/** PgBouncer, pglynx and pglynx without sharing. */
export function rivals({ profiles }: Stage): Starter[] {
  return [pgbouncer, starterOf('auto', profiles), starterOf('off')];
}

/** Runs a case's body with contenders, of which nothing is left afterwards. */
export async function withContenders<T>(
  setup: Setup,
  starters: readonly Starter[],
  body: (contenders: readonly Contender[]) => Promise<T>,
): Promise<T> {
  const contenders: Contender[] = [];
  try {
    for (const start of starters) {
      const contender = await start(setup);
      if (contender !== undefined) contenders.push(contender);
    }
    return await body(contenders);
  } finally {
    await Promise.all(contenders.map(contender => contender.stop()));
  }
}

/** Interleaved runs of contenders in one mode. */
export async function race(
  { seconds, rounds }: Stage,
  mode: Mode,
  contenders: readonly Contender[],
  once: Rounds['once'],
): Promise<Result[]> {
  const entries = contenders.map(contender => entryOf(contender, mode));
  await interleave(entries, { rounds, seconds, once });
  return entries.map(resultOf);
}

export function resultOf({ mode, contender, ran, runs }: Entry): Result {
  return { mode, contender: contender.name, ran, runs };
}

export function loadOf(
  { seconds }: Stage,
  { clients, workload, sampling_rate }: Pick<Load, 'clients' | 'workload' | 'sampling_rate'>,
): Load {
  const threads = Math.min(availableParallelism(), clients);
  return { clients, threads, seconds, user: NAME, database: NAME, workload, sampling_rate };
}

/** The command of a load, for people. */
export function commandOf({ host }: Stage, load: Load, mode: Mode): string {
  return `pgbench ${pgbenchArgs(load, mode, host, 'PORT').join(' ')}`;
}
