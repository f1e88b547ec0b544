/** The case of many clients that do nothing: what they weigh, and whether the active ones feel them. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Companion } from '../companion.ts';
import type { Contender } from '../contender.ts';
import { type Load, SELECT_ONLY } from '../pgbench.ts';
import { ProgramError } from '../program.ts';
import { mediansOf } from '../report.ts';
import { type Entry, entryOf, inTurn, runOnce, say } from '../rounds.ts';
import { median } from '../statistics.ts';
import {
  type Case,
  commandOf,
  loadOf,
  type Outcome,
  resultOf,
  SHARING,
  type Stage,
  type Starter,
  starterOf,
  withContenders,
} from './case.ts';
import { judge } from './figure.ts';

const CLIENTS = 64;
const IDLERS = 5000;
const CROWDED = `${SHARING} + idle`;
const POOL = { clients: CLIENTS + IDLERS, connections: 4 };
/** Sockets of pgbench, of the pools and of the process itself. */
const FILES = IDLERS + CLIENTS + 100;
/** For what a login leaves behind to be collected. */
const REST_MS = 3000;
const WARM_UP_S = 2;

/** Resident memory in KB (of 1,024 bytes, as Linux says it); undefined off Linux. */
interface Weights {
  readonly before_kb: number | undefined;
  readonly with_kb: number | undefined;
}

export const IDLE: Case = {
  name: 'idle',
  title: `pgbench -S -M simple, ${CLIENTS} clients, 4 connections, beside ${IDLERS} idle clients`,
  run,
};

async function run(stage: Stage): Promise<Outcome> {
  checkFileLimit();
  const load = loadOf(stage, { clients: CLIENTS, workload: SELECT_ONLY, sampling_rate: 0.1 });
  const entries = new Map<string, Entry>();
  const weights: Weights[] = [];
  const start = starterOf('auto', stage.profiles);
  for (let round = 1; round <= stage.rounds; round++) {
    // New processes each time: memory that a crowd has left behind would hide what the next one takes.
    const setup = { ...stage, ...POOL };
    await withContenders(setup, [start, named(start, CROWDED)], async ([plain, crowded]) => {
      if (plain === undefined || crowded === undefined) return;
      const { crowd, ...weight } = await gather(stage, crowded);
      weights.push(weight);
      await crowd.during(measure(stage, load, [plain, crowded], round, entries));
    });
  }
  const results = [...entries.values()].map(resultOf);
  const crowded = results.find(({ contender }) => contender === CROWDED);
  const tps_ratio = crowded && mediansOf(crowded, results, SHARING).tps_ratio;
  const each = weights.map(({ before_kb, with_kb }) =>
    before_kb === undefined || with_kb === undefined ? Number.NaN : (with_kb - before_kb) / IDLERS,
  );
  return {
    commands: [commandOf(stage, load, 'simple')],
    notes: [weightNote(weights), 'processes are new in each round; KB are of 1,024 bytes'],
    results,
    yardstick: SHARING,
    figures: [
      judge({ what: 'RSS KB an idle client', bound: 'at most', limit: 25 }, median(each)),
      judge({ what: 'tps / without idle clients', bound: 'at least', limit: 0.95 }, tps_ratio),
    ],
  };
}

/** Weighs a pooler, lets the idle clients in, and weighs it again. */
async function gather({ guard, host, user }: Stage, { port, pid }: Contender): Promise<Weights & { crowd: Companion }> {
  await sleep(REST_MS);
  const before_kb = residentSize(pid);
  say(`${IDLERS} clients log in`);
  const crowd = await Companion.start(guard, 'dispatch/crowd.ts', [host, port, user, IDLERS]);
  await sleep(REST_MS);
  return { before_kb, with_kb: residentSize(pid), crowd };
}

/** One round. */
async function measure(
  { tool, folder, rounds }: Stage,
  load: Load,
  contenders: readonly Contender[],
  round: number,
  entries: Map<string, Entry>,
): Promise<void> {
  const seconds = Math.min(WARM_UP_S, load.seconds);
  for (const contender of contenders) await runOnce(tool, { ...load, seconds }, entryOf(contender, 'simple'), folder);
  for (const contender of inTurn(contenders, round)) {
    const entry = entries.get(contender.name) ?? entryOf(contender, 'simple');
    entries.set(contender.name, entry);
    const run = await runOnce(tool, load, { contender, ran: entry.ran }, folder);
    const resident_kb = residentSize(contender.pid);
    entry.runs.push(resident_kb === undefined ? run : { ...run, beside: { 'RSS MB': resident_kb / 1024 } });
    say(`round ${round} of ${rounds}: ${contender.name}: ${run.tps.toFixed(0)} tps`);
  }
}

function named(start: Starter, name: string): Starter {
  return async setup => {
    const contender = await start(setup);
    return contender && { ...contender, name };
  };
}

function weightNote(weights: readonly Weights[]): string {
  const mb = (kb: readonly (number | undefined)[]) => (median(kb.map(value => value ?? Number.NaN)) / 1024).toFixed(1);
  const [before, with_them] = [mb(weights.map(w => w.before_kb)), mb(weights.map(w => w.with_kb))];
  return `RSS of a new pglynx ${before} MB; ${REST_MS / 1000} s after ${IDLERS} logins ${with_them} MB (RSS MB: after the runs)`;
}

function residentSize(pid: number | undefined): number | undefined {
  try {
    const found = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return found === undefined ? undefined : Number(found);
  } catch {
    return undefined;
  }
}

/** Node raises its soft limit to the hard one by itself, and its children inherit that. */
function checkFileLimit(): void {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return;
  }
  const hard = Number(/Max open files\s+\S+\s+(\d+)/.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  if (hard < FILES) throw new ProgramError(`idle needs ${FILES} open files, ${hard} are allowed: ulimit -Hn ${FILES}`);
}
