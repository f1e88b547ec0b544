/** The benchmark: pgbench -S against PostgreSQL, PgBouncer and pglynx in turn; `npm run bench -- --help`. */
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { DemoError } from '../src/demo/error.ts';
import { Guard } from '../src/demo/guard.ts';
import { type Contender, direct, pgbouncer, pglynx, type Setup } from './contender.ts';
import { dispatchBench } from './dispatch/bench.ts';
import { NAME, prepareGround } from './ground.ts';
import { machine } from './machine.ts';
import { type BenchOptions, HELP, PROFILES, parseOptions } from './options.ts';
import { type Load, pgbenchArgs, SELECT_ONLY } from './pgbench.ts';
import { ProgramError } from './program.ts';
import { jsonReport, type Result, textReport } from './report.ts';
import { entryOf, interleave, runOnce, say } from './rounds.ts';
import { routingBench } from './routing.ts';

async function bench(args: readonly string[]): Promise<void> {
  const options = parseOptions(args);
  if (options.help) {
    console.log(HELP);
    return;
  }
  const { clients, connections, seconds, rounds, scale, modes } = options;
  const { tool, cluster } = await prepareGround(clients + 2 * connections, scale);
  const guard = new Guard(undefined);
  const contenders: Contender[] = [];
  try {
    const { host, port } = cluster.primary;
    await enter(contenders, { folder: cluster.folder, guard, host, port, user: NAME, connections, clients }, options);
    const threads = Math.min(availableParallelism(), clients);
    const load = { clients, threads, seconds, user: NAME, database: NAME, workload: SELECT_ONLY, sampling_rate: 0.1 };
    const results = await compete(tool, cluster.folder, contenders, load, options);
    const about = {
      ...(await machine(cluster.version)),
      pools: `${connections} server connections`,
      numbers: `medians of ${rounds} interleaved rounds; ratios are medians of each round's`,
    };
    const commands = modes.map(mode => `pgbench ${pgbenchArgs(load, mode, host, 'PORT').join(' ')}`);
    console.log((options.json ? jsonReport : textReport)({ about, commands, results }));
  } finally {
    await Promise.all(contenders.map(contender => contender.stop()));
    await guard.end();
    await cluster.stop();
  }
}

/** Starts the contenders; each is in the list as soon as it runs. Clients lease connections, as PgBouncer's do. */
async function enter(contenders: Contender[], setup: Setup, { split, profile }: BenchOptions): Promise<void> {
  contenders.push(direct(setup));
  const bouncer = await pgbouncer(setup);
  if (bouncer !== undefined) contenders.push(bouncer);
  else say('PgBouncer is not installed and is left out (Debian: apt-get install pgbouncer)');
  if (profile) mkdirSync(PROFILES, { recursive: true });
  const profiles = profile ? PROFILES : undefined;
  const plain = { name: 'pglynx', split: false, multiplexing: 'off', profiles: split ? undefined : profiles } as const;
  contenders.push(await pglynx(setup, plain));
  if (split) contenders.push(await pglynx(setup, { ...plain, name: 'pglynx splitting', split: true, profiles }));
}

async function compete(
  tool: string,
  folder: string,
  contenders: readonly Contender[],
  load: Load,
  { modes, rounds, seconds }: BenchOptions,
): Promise<Result[]> {
  const entries = modes.flatMap(mode => contenders.map(contender => entryOf(contender, mode)));
  await interleave(entries, {
    rounds,
    seconds,
    once: (entry, some_seconds) => runOnce(tool, { ...load, seconds: some_seconds }, entry, folder),
  });
  return entries.map(({ mode, contender, ran, runs }) => ({ mode, contender: contender.name, ran, runs }));
}

try {
  const [first, ...rest] = process.argv.slice(2);
  if (first === 'routing') await routingBench(rest);
  else if (first === 'dispatch') await dispatchBench(rest);
  else await bench(process.argv.slice(2));
} catch (thrown) {
  if (!(thrown instanceof ProgramError || thrown instanceof DemoError)) throw thrown;
  console.error(thrown.message);
  process.exitCode = 1;
}
