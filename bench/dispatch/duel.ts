/** A case where pgbench runs against PgBouncer and pglynx, and the ratios say it all. */
import { type Contender, relay } from '../contender.ts';
import type { Load, Mode } from '../pgbench.ts';
import { type Medians, mediansOf, type Result, YARDSTICK } from '../report.ts';
import { runOnce } from '../rounds.ts';
import {
  type Case,
  commandOf,
  LEASING_NOTE,
  loadOf,
  type Outcome,
  race,
  rivals,
  SHARING,
  type Stage,
  withContenders,
} from './case.ts';
import { type Figure, judge, type Target } from './figure.ts';

/** The ratios that targets speak of. */
type Ratio = 'tps_ratio' | 'p50_ratio' | 'p99_ratio' | 'cpu_ratio';
export type Targets = Readonly<Partial<Record<Ratio, Omit<Target, 'what'>>>>;

export interface Duel extends Pick<Load, 'clients' | 'workload' | 'sampling_rate'> {
  readonly name: string;
  readonly title: string;
  readonly mode: Mode;
  readonly connections: number;
  readonly targets: Targets;
  /** Whether what any proxy in Node takes is measured too. */
  readonly relays?: boolean;
}

const WHAT: Readonly<Record<Ratio, string>> = {
  tps_ratio: 'tps',
  p50_ratio: 'p50',
  p99_ratio: 'p99',
  cpu_ratio: 'CPU a transaction',
};

export function duelCase(duel: Duel): Case {
  return { ...duel, run: stage => fight(stage, duel) };
}

function fight(stage: Stage, duel: Duel): Promise<Outcome> {
  const starters = duel.relays ? [...rivals(stage), relay] : rivals(stage);
  return withContenders({ ...stage, ...duel }, starters, contenders => contest(stage, duel, contenders));
}

/** Runs contenders that have been started. */
export async function contest(stage: Stage, duel: Duel, contenders: readonly Contender[]): Promise<Outcome> {
  const { mode, targets } = duel;
  const load = loadOf(stage, duel);
  const results = await race(stage, mode, contenders, (entry, seconds) =>
    runOnce(stage.tool, { ...load, seconds }, entry, stage.folder),
  );
  return {
    commands: [commandOf(stage, load, mode)],
    notes: [LEASING_NOTE],
    results,
    yardstick: YARDSTICK,
    figures: figuresOf(targets, results, YARDSTICK),
  };
}

/** What pglynx reached of its targets. */
export function figuresOf(targets: Targets, results: readonly Result[], yardstick: string): Figure[] {
  const own = results.find(({ contender }) => contender === SHARING);
  const medians: Partial<Medians> = own === undefined ? {} : mediansOf(own, results, yardstick);
  const ratios = ['tps_ratio', 'p50_ratio', 'p99_ratio', 'cpu_ratio'] as const;
  return ratios.flatMap(ratio => {
    const target = targets[ratio];
    return target === undefined ? [] : [judge({ what: `${WHAT[ratio]} / ${yardstick}`, ...target }, medians[ratio])];
  });
}
