/** Ten thousand cancel requests at random moments under load: each ends its own client's statement, or nothing. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, suite, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { settled, wholePool } from '../failure/backends.ts';
import { TestProxy } from '../proxy/index.ts';
import { Quota, Worker } from './cancelers.ts';
import { LEDGER_TABLE, Ledger } from './ledger.ts';
import { unexplained } from './window.ts';

let cluster: TestCluster;
before(async () => {
  // The server's log shows which statements it ended, in every protocol.
  cluster = await startCluster({ settings: { autovacuum: 'off', log_parameter_max_length_on_error: -1 } });
});
after(() => cluster?.stop());

interface Load {
  readonly multiplexing: 'auto' | 'off';
  readonly pool_size: number;
  /** A quarter of them is never cancelled. */
  readonly clients: number;
  readonly requests: number;
  /** Whether some clients have settings of their own, which travel in front of what they send. */
  readonly differ?: boolean;
}

/** It ends the connection instead, so that the client gets 08006 or 08007. */

const LOADS: Readonly<Record<string, Load>> = {
  'one connection': { multiplexing: 'auto', pool_size: 1, clients: 8, requests: 1500 },
  'two connections': { multiplexing: 'auto', pool_size: 2, clients: 16, requests: 3000 },
  'four connections': { multiplexing: 'auto', pool_size: 4, clients: 32, requests: 4500 },
  'clients with settings of their own': {
    multiplexing: 'auto',
    pool_size: 2,
    clients: 16,
    requests: 1000,
    differ: true,
  },
  'multiplexing off': { multiplexing: 'off', pool_size: 2, clients: 16, requests: 500 },
};

/** The most milliseconds between two requests that are aimed at nothing, for each connection. */
const PAUSE_MS = 24;

suite('cancel requests at random moments', { timeout: 120_000 }, () => {
  for (const [name, load] of Object.entries(LOADS)) {
    test(`${name}: ${load.requests} of them to ${load.clients} clients`, context => endure(load, context));
  }
});

async function endure(
  { multiplexing, pool_size, clients, requests, differ }: Load,
  context: TestContext,
): Promise<void> {
  await cluster.sql(`DROP TABLE IF EXISTS ledger; ${LEDGER_TABLE}`);
  const logged = (await cluster.primary.logText()).length;
  const pool = { query_parser_enabled: true, multiplexing, connect_timeout: 10_000 };
  await using proxy = await TestProxy.start(cluster, { users: ['alice'], user: { pool_size }, pool });
  const ledger = new Ledger();
  const start = (_: unknown, number: number) =>
    Worker.start(proxy, number, ledger, differ && number % 3 === 0 ? { DateStyle: 'German' } : {});
  const workers = await Promise.all(Array.from({ length: clients }, start));
  const victims = workers.slice(clients / 4);
  try {
    const quota = new Quota(requests);
    const request = async () => {
      for (; quota.take(); await sleep(randomInt(1, PAUSE_MS))) await victims[randomInt(victims.length)].cancel();
    };
    const requesting = Array.from({ length: pool_size }, request);
    // Whoever fails, the others end their work before anything is taken from under them.
    const work = [...requesting, ...workers.map(worker => worker.run(quota, victims.includes(worker)))];
    await Promise.allSettled(work);
    await Promise.all(work);
    for (const victim of victims.slice(0, 5)) await victim.endless();
  } finally {
    await Promise.all(workers.map(worker => worker.close()));
  }
  await settled(cluster);
  const { told, seen, unseen } = checkCauses(workers, (await cluster.primary.logText()).slice(logged));
  if (multiplexing === 'off') assert.deepEqual(unseen, [], 'the server ended statements of clients who were not told');
  assert.deepEqual(await ledger.disagreements(cluster), []);
  assert.equal((await wholePool(proxy, pool_size)).length, pool_size);
  const faults = proxy.log.filter(({ level, msg, cause }) => Number(level) >= 50 || /internal/.test(`${msg} ${cause}`));
  assert.deepEqual(faults, []);
  const answered = workers.reduce((sum, worker) => sum + worker.answered, 0);
  context.diagnostic(`${answered} exchanges: ${told} ended by cancel, ${seen} of them by the server`);
  context.diagnostic(`${unseen.length} more ended there, and were repeated`);
  context.diagnostic(`writes: ${ledger.count('done')} done, ${ledger.count('failed')} failed`);
  assert.ok(seen > requests / 20, 'too few came in time to say anything');
}

/**
 * Whether each end by cancel had a cause, as clients were told. What the server's log shows besides was repeated unseen,
 * as may happen to what was sent behind something else, and to nothing else.
 */
function checkCauses(workers: readonly Worker[], log: string): { told: number; seen: number; unseen: string[] } {
  const wrong = workers.flatMap(({ canceled, requests }) => unexplained(canceled, requests));
  assert.deepEqual(wrong, [], `${wrong.length} exchanges were ended by nobody's request`);
  const told = new Set(workers.flatMap(({ canceled }) => canceled.map(({ tag }) => tag)));
  const entries = log.split(/^(?=.*\] (?:ERROR|FATAL): )/m).filter(entry => entry.includes('canceling statement'));
  const unseen = entries.filter(entry => {
    const tag = /<\d+\.\d+>/.exec(entry)?.[0];
    return tag !== undefined && !told.has(tag);
  });
  return { told: told.size, seen: entries.length - unseen.length, unseen };
}
