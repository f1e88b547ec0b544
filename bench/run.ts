/** The benchmark: pgbench -S against PostgreSQL, PgBouncer and pglynx in turn; `npm run bench -- --help`. */
import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { DemoCluster } from '../src/demo/cluster.ts';
import { DemoError } from '../src/demo/error.ts';
import { Guard } from '../src/demo/guard.ts';
import { type Contender, direct, pgbouncer, pglynx, type Setup } from './contender.ts';
import { cpuTime } from './cpu.ts';
import { machine } from './machine.ts';
import { type BenchOptions, HELP, PROFILES, parseOptions } from './options.ts';
import { type Load, pgbench, pgbenchArgs } from './pgbench.ts';
import { findProgram, ProgramError, run } from './program.ts';
import { jsonReport, type Result, type Run, textReport } from './report.ts';
import { routingBench } from './routing.ts';

/** The database and its owner. */
const NAME = 'bench';
const WARM_UP_S = 2;

async function bench(options: BenchOptions): Promise<void> {
  const tool = findProgram('pgbench');
  if (tool === undefined)
    throw new ProgramError('pgbench is not installed (Debian: apt-get install postgresql-contrib)');
  const { clients, connections, seconds, rounds, scale, modes } = options;
  const cluster = await startServer(clients + 2 * connections);
  const guard = new Guard(undefined);
  const contenders: Contender[] = [];
  try {
    const { host, port } = cluster.primary;
    say(`pgbench -i -q -s ${scale}`);
    await run(tool, ['-h', host, '-p', String(port), '-U', NAME, '-i', '-q', '-s', String(scale), NAME]);
    await enter(contenders, { folder: cluster.folder, guard, host, port, user: NAME, connections, clients }, options);
    const load = { clients, threads: Math.min(availableParallelism(), clients), seconds, user: NAME, database: NAME };
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

function startServer(connections: number): Promise<DemoCluster> {
  return DemoCluster.start({
    replicas: 0,
    roles: [{ name: NAME, method: 'trust' }],
    databases: [{ name: NAME, owner: NAME }],
    settings: {
      max_connections: connections + 20,
      shared_buffers: '256MB',
      shared_preload_libraries: '',
      autovacuum: false,
    },
    onProgress: say,
  });
}

/** Starts the contenders; each is in the list as soon as it runs. */
async function enter(contenders: Contender[], setup: Setup, { split, profile }: BenchOptions): Promise<void> {
  contenders.push(direct(setup));
  const bouncer = await pgbouncer(setup);
  if (bouncer !== undefined) contenders.push(bouncer);
  else say('PgBouncer is not installed and is left out (Debian: apt-get install pgbouncer)');
  if (profile) mkdirSync(PROFILES, { recursive: true });
  contenders.push(await pglynx(setup, false, profile && !split ? PROFILES : undefined));
  if (split) contenders.push(await pglynx(setup, true, profile ? PROFILES : undefined));
}

async function compete(
  tool: string,
  folder: string,
  contenders: readonly Contender[],
  load: Load,
  { modes, rounds }: BenchOptions,
): Promise<Result[]> {
  const entries = modes.flatMap(mode =>
    contenders.map(contender => ({ mode, contender, ran: contender.modeFor(mode), runs: [] as Run[] })),
  );
  const once = async ({ contender, ran }: (typeof entries)[number], some: Load): Promise<Run> => {
    const before_us = contender.pid === undefined ? undefined : cpuTime(contender.pid);
    const measurement = await pgbench(tool, pgbenchArgs(some, ran, '127.0.0.1', contender.port), folder);
    const after_us = contender.pid === undefined ? undefined : cpuTime(contender.pid);
    if (before_us === undefined || after_us === undefined) return { ...measurement, cpu_us: undefined };
    return { ...measurement, cpu_us: (after_us - before_us) / measurement.transactions };
  };
  for (const entry of entries) {
    say(`warming up: ${entry.contender.name}, -M ${entry.ran}`);
    await once(entry, { ...load, seconds: WARM_UP_S });
  }
  for (let round = 1; round <= rounds; round++) {
    // Back and forth, so that nobody always comes after the same neighbour.
    for (const entry of round % 2 === 1 ? entries : entries.toReversed()) {
      const measured = await once(entry, load);
      entry.runs.push(measured);
      say(`round ${round} of ${rounds}: ${entry.contender.name}, -M ${entry.ran}: ${measured.tps.toFixed(0)} tps`);
    }
  }
  return entries.map(({ mode, contender, ran, runs }) => ({ mode, contender: contender.name, ran, runs }));
}

/** Progress goes to standard error: standard output holds the report alone. */
function say(words: string): void {
  console.error(words);
}

try {
  const [first, ...rest] = process.argv.slice(2);
  const options = first === 'routing' ? undefined : parseOptions(process.argv.slice(2));
  if (options === undefined) await routingBench(rest);
  else if (options.help) console.log(HELP);
  else await bench(options);
} catch (thrown) {
  if (!(thrown instanceof ProgramError || thrown instanceof DemoError)) throw thrown;
  console.error(thrown.message);
  process.exitCode = 1;
}
