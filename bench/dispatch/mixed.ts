/** The case of short reads beside a client that waits and one that streams. */
import { Companion } from '../companion.ts';
import { SELECT_ONLY } from '../pgbench.ts';
import type { Run } from '../report.ts';
import { type Entry, runOnce } from '../rounds.ts';
import {
  type Case,
  commandOf,
  LEASING,
  LEASING_NOTE,
  loadOf,
  type Outcome,
  race,
  type Stage,
  starterOf,
  withContenders,
} from './case.ts';
import { figuresOf, type Targets } from './duel.ts';
import { SLEEP, STREAM } from './neighbours.ts';

const CLIENTS = 63;
const POOL = { clients: CLIENTS + 2, connections: 4 };
const TARGETS: Targets = {
  p99_ratio: { bound: 'at most', limit: 1.2 },
  tps_ratio: { bound: 'at least', limit: 1 },
};

export const MIXED: Case = {
  name: 'mixed',
  title: `pgbench -S -M simple, ${CLIENTS} clients beside one that sleeps and one that streams, 4 connections`,
  run,
};

function run(stage: Stage): Promise<Outcome> {
  const load = loadOf(stage, { clients: CLIENTS, workload: SELECT_ONLY, sampling_rate: 1 });
  const once = async (entry: Entry, seconds: number): Promise<Run> => {
    const address = [stage.host, entry.contender.port, stage.user];
    const neighbours = await Companion.start(stage.guard, 'dispatch/neighbours.ts', address);
    const run = await neighbours.during(runOnce(stage.tool, { ...load, seconds }, entry, stage.folder));
    return { ...run, beside: besideOf(neighbours) };
  };
  const starters = [starterOf('off'), starterOf('auto', stage.profiles)];
  return withContenders({ ...stage, ...POOL }, starters, async contenders => {
    const results = await race(stage, 'simple', contenders, once);
    return {
      commands: [commandOf(stage, load, 'simple'), `beside it, each in a loop: ${SLEEP}; ${STREAM}`],
      notes: [LEASING_NOTE, 'CPU us/tx has the work for the sleeping and the streaming client in it'],
      results,
      yardstick: LEASING,
      figures: figuresOf(TARGETS, results, LEASING),
    };
  });
}

function besideOf({ told }: Companion): Record<string, number> {
  return Object.fromEntries([...told].filter(([name]) => name.endsWith('/s')));
}
