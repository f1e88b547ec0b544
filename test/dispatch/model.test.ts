/** Many clients do anything at once on few connections: each gets its own replies, and no write is lost, doubled or lied about. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import type { PostgresServer } from '../../src/demo/postgres.ts';
import { ChaosProxy } from '../chaos/proxy.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { settled } from '../failure/backends.ts';
import { type ProxyOptions, type Servers, TestProxy } from '../proxy/index.ts';
import type { Tally } from './model-judge.ts';
import { Kills } from './model-kills.ts';
import { Ledger } from './model-ledger.ts';
import { type Habits, type Kill, kills, type Part, parts } from './model-parts.ts';
import { Player, type Run } from './model-player.ts';
import { createPlaces, type Profile, profiles } from './model-profiles.ts';

/** Times as many exchanges as usual; a seed repeats the first round of a run that failed. */
const FACTOR = Number(process.env.PGLYNX_MODEL_FACTOR ?? 1);
const SEED = Number(process.env.PGLYNX_MODEL_SEED ?? Date.now() % 2 ** 31);
/** Whether a failure is searched for a smaller example. */
const SHRINKS = process.env.PGLYNX_MODEL_SHRINKS === 'yes';
const CLIENTS = 24;
const UNITS = 200;
/** Runs with the same seed and the same pglynx. */
const RUNS = 2;
/** How long a round may take, the search for a smaller example after a failure included. */
const ROUND_MS = 30_000;

let cluster: TestCluster;
let known: readonly Profile[];
before(async () => {
  cluster = await startCluster({
    replicas: 1,
    settings: { autovacuum: 'off' },
  });
  await createPlaces(cluster);
  await Ledger.create(cluster, CLIENTS);
  await cluster.caughtUp();
  known = await profiles(cluster);
});
after(() => cluster?.stop());

interface Setting {
  readonly exchanges: number;
  readonly servers: Servers['servers'];
  readonly habits: Habits;
  /** Breaks one connection of the pool, or all. */
  readonly kill?: (pick: number) => Promise<unknown>;
  /** Whether that breaks connections that are being opened, too. */
  readonly breaksLogins?: boolean;
  /** Whether a read whose server process ends is made good. */
  readonly repairs?: boolean;
  readonly pool?: ProxyOptions['pool'];
}

/** What happens in one run: what its clients do, and which server processes end meanwhile. */
interface Script {
  readonly parts: readonly Part[];
  readonly plan: readonly Kill[];
}

/** Ends a process that serves the pool. */
function terminate(servers: readonly PostgresServer[], pick: number): Promise<unknown> {
  return cluster.sql(
    `SELECT pg_terminate_backend(pid, 1000) FROM (
       SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS number, count(*) OVER () AS count
       FROM pg_stat_activity WHERE usename = 'alice' AND backend_type = 'client backend') AS pool
     WHERE number = $1 % count`,
    [pick],
    servers[pick % servers.length],
  );
}

/** Breaks connections as planned, one after the other, until the run is over. */
async function disrupt(plan: readonly Kill[], { kill }: Setting, run: Run): Promise<void> {
  for (const { after_ms, pick } of plan) {
    await sleep(after_ms);
    if (run.over || kill === undefined) return;
    await run.kills.add(kill(pick));
  }
}

/** Plays one run. @throws Error something was not as it should be */
async function play({ parts, plan }: Script, setting: Setting, proxy: TestProxy, tally: Tally): Promise<Run> {
  await Ledger.clear(cluster);
  const [ledger, kills] = [new Ledger(), new Kills(setting.repairs === true, setting.breaksLogins === true)];
  const run: Run = { port: proxy.port, ledger, kills, tally, answered: 0, failure: undefined, over: false };
  const players = parts.map(({ profile }, index) => new Player(run, index + 1, known[profile % known.length]));
  const watch = setInterval(() => {
    const now = performance.now();
    for (const player of players) {
      player.watch(now);
      // Whatever they wait for: it is over.
      if (run.failure !== undefined) player.destroy();
    }
  }, 200);
  const disrupting = disrupt(plan, setting, run);
  try {
    await Promise.all(players.map((player, index) => player.play(parts[index])));
  } finally {
    run.over = true;
    clearInterval(watch);
    await disrupting;
  }
  assert.equal(run.failure, undefined);
  await settled(cluster);
  assert.deepEqual(await ledger.differences(cluster), []);
  const faults = proxy.log.filter(({ level, msg, cause }) => Number(level) >= 50 || /internal/.test(`${msg} ${cause}`));
  assert.deepEqual(faults, []);
  return run;
}

/** What has gone wrong, without the thousands of units of a counterexample. */
function report(details: fc.RunDetails<[Script]>): void {
  const { failed, seed, counterexample, errorInstance } = details;
  if (!failed) return;
  const clients = counterexample?.[0].parts.map(({ units }) => units.length);
  const text = errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
  throw new Error(`seed ${seed}, clients with ${clients} units: ${text}`);
}

/** One round: runs of one seed over one pglynx. Answers how many exchanges were answered. */
async function round(setting: Setting, seed: number, pool_size: number, counts: Map<string, number>): Promise<number> {
  const { servers, habits, kill, pool } = setting;
  const options: ProxyOptions = {
    general: { connect_timeout: 20_000 },
    pool: { query_parser_enabled: true, query_parser_read_write_splitting: true, ...pool },
    users: ['alice'],
    user: { pool_size, auth_type: 'trust' },
  };
  const start = () => TestProxy.start({ servers }, options);
  let proxy = await start();
  let running: Promise<unknown> = Promise.resolve();
  let answered = 0;
  const add = (name: string, count: number) => counts.set(name, (counts.get(name) ?? 0) + count);
  const attempt = async (script: Script) => {
    try {
      const tally: Tally = new Map();
      const { ledger, kills, ...run } = await play(script, setting, proxy, tally);
      answered += run.answered;
      for (const [code, count] of tally) add(code, count);
      for (const outcome of ['done', 'failed', 'unknown'] as const) add(outcome, ledger.count(outcome));
      add('kills', kills.count);
    } catch (error) {
      // What is left of a failed run must not spoil the next one, which looks for a smaller example.
      await proxy.stop();
      proxy = await start();
      throw error;
    }
  };
  const script = fc.record({ parts: parts(habits), plan: kill ? kills : fc.constant<Kill[]>([]) });
  const property = fc.asyncProperty<[Script]>(script, script => {
    running = attempt(script);
    return running.then(() => {});
  });
  try {
    await fc.assert(property, {
      seed,
      numRuns: RUNS,
      endOnFailure: !SHRINKS,
      interruptAfterTimeLimit: ROUND_MS,
      reporter: report,
    });
  } finally {
    // The run that the time limit interrupted.
    await running.catch(() => {});
    await proxy.stop();
  }
  return answered;
}

async function model(setting: Setting): Promise<string> {
  const counts = new Map<string, number>();
  const from_ms = performance.now();
  let answered = 0;
  let rounds = 0;
  for (; answered < setting.exchanges * FACTOR; rounds++) {
    answered += await round(setting, (SEED + rounds) % 2 ** 31, 1 + (rounds % 4), counts);
  }
  const seconds = Math.round((performance.now() - from_ms) / 1000);
  const words = [...counts].map(([name, count]) => `${name} ${count}`).join(', ');
  return `seed ${SEED}: ${answered} exchanges in ${rounds} rounds and ${seconds} s; ${words}`;
}

/** Clients that do anything, and such as do little but what may be shared. */
const ANYTHING: Habits = { clients: [2, CLIENTS], units: UNITS, sharing: false, disturbed: false };
const SHARING: Habits = { clients: [CLIENTS / 2, CLIENTS], units: UNITS, sharing: true, disturbed: false };
const disturbed = true;

suite('many clients over one to four connections', () => {
  /** The primary, or all. */
  const of = (only: boolean) => (only ? [cluster.primary] : cluster.servers);
  const killing = (only: boolean) => ({ kill: (pick: number) => terminate(of(only), pick) });
  const tests: Readonly<Record<string, () => Setting>> = {
    'that do anything': () => ({ exchanges: 12_000, servers: of(true), habits: ANYTHING }),
    'that mostly share': () => ({ exchanges: 36_000, servers: of(true), habits: SHARING }),
    'that do anything, cancel and vanish': () => ({
      exchanges: 10_000,
      servers: of(true),
      habits: { ...ANYTHING, disturbed },
    }),
    'that mostly share, cancel and vanish': () => ({
      exchanges: 12_000,
      servers: of(true),
      habits: { ...SHARING, disturbed },
    }),
    'whose server processes end': () => ({
      exchanges: 12_000,
      servers: of(true),
      habits: { ...SHARING, disturbed },
      repairs: true,
      ...killing(true),
    }),
    'of a primary and a replica': () => ({
      exchanges: 8_000,
      servers: of(false),
      habits: { ...ANYTHING, disturbed },
    }),
    'of a primary and a replica, whose processes end': () => ({
      exchanges: 8_000,
      servers: of(false),
      habits: { ...SHARING, disturbed },
      repairs: true,
      ...killing(false),
    }),
    'without sharing': () => ({
      exchanges: 4_000,
      servers: of(true),
      habits: { ...ANYTHING, disturbed },
      pool: { multiplexing: 'off' },
      ...killing(true),
    }),
  };
  for (const [name, setting] of Object.entries(tests)) {
    test(name, async context => context.diagnostic(await model(setting())));
  }

  test('over a network that breaks', async context => {
    await using network = await ChaosProxy.start(cluster.primary, { latency_ms: 1 });
    const habits = { ...SHARING, units: 40, disturbed };
    const kill = async () => network.reset();
    context.diagnostic(await model({ exchanges: 1_500, servers: [network], habits, kill, breaksLogins: true }));
  });
});
