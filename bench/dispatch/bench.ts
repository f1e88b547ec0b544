/** The benchmark of shared dispatch, case by case, each with its targets; `npm run bench -- dispatch`. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Guard } from '../../src/demo/guard.ts';
import { NAME, prepareGround } from '../ground.ts';
import { machine } from '../machine.ts';
import { HELP, PROFILES } from '../options.ts';
import { findProgram } from '../program.ts';
import { mediansOf, resultTable } from '../report.ts';
import { say } from '../rounds.ts';
import { factLines } from '../table.ts';
import type { Case, Outcome } from './case.ts';
import { figureLines } from './figure.ts';
import { parseDispatchOptions } from './options.ts';

const SCALE = 10;
/** More than the contenders of any case have together. */
const CONNECTIONS = 56;

/** Runs the cases and prints each as soon as it is done, or all as JSON at the end. */
export async function dispatchBench(args: readonly string[]): Promise<void> {
  const options = parseDispatchOptions(args);
  if (options.help) {
    console.log(HELP);
    return;
  }
  const { rounds, seconds, cases } = options;
  if (findProgram('pgbouncer') === undefined)
    say('PgBouncer is not installed and is left out (Debian: apt-get install pgbouncer)');
  const { tool, cluster } = await prepareGround(CONNECTIONS, SCALE);
  const guard = new Guard(undefined);
  try {
    const about = {
      ...(await machine(cluster.version)),
      command: ['npm run bench -- dispatch', ...args].join(' '),
      server: `one primary, pgbench -i -s ${SCALE}; the same PostgreSQL and pool size for all, all on this machine`,
      numbers: `medians of ${rounds} interleaved rounds of ${seconds} s; ratios are medians of each round's`,
    };
    if (!options.json) console.log(factLines(about).join('\n'));
    const outcomes: [Case, Outcome][] = [];
    for (const one of cases) {
      say(`\n${one.name}: ${one.title}`);
      const folder = join(cluster.folder, `bench-${one.name}`);
      mkdirSync(folder);
      const profiles = options.profile ? join(PROFILES, one.name) : undefined;
      if (profiles !== undefined) mkdirSync(profiles, { recursive: true });
      const { host, port } = cluster.primary;
      const outcome = await one.run({ folder, guard, host, port, user: NAME, tool, seconds, rounds, profiles });
      if (!options.json) console.log(textOf(one, outcome));
      outcomes.push([one, outcome]);
    }
    if (options.json) console.log(jsonOf(about, outcomes));
  } finally {
    await guard.end();
    await cluster.stop();
  }
}

function textOf({ name, title }: Case, { commands, notes, results, yardstick, figures }: Outcome): string {
  const table = resultTable(name, results, yardstick);
  return ['', `## ${name}: ${title}`, ...commands, '', table, ...notes, '', ...figureLines(figures)].join('\n');
}

function jsonOf(about: Readonly<Record<string, string>>, outcomes: readonly [Case, Outcome][]): string {
  const cases = outcomes.map(([{ name, title }, outcome]) => {
    const { results, yardstick } = outcome;
    const rows = results.map(result => ({ ...result, medians: mediansOf(result, results, yardstick) }));
    return { name, title, ...outcome, results: rows };
  });
  return JSON.stringify({ about, cases }, undefined, 2);
}
