/** Server processes are killed under 64 clients: their reads know nothing of it, and their writes are told the truth. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, beforeEach, suite, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresServer } from '../../src/demo/postgres.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { SHORT_READS, SLOW_READS, WRITES } from './asks.ts';
import { LEDGER_TABLE, Ledger } from './ledger.ts';
import { type Ordeal, Survivor } from './survivors.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 2, settings: { autovacuum: 'off' } });
});
after(() => cluster?.stop());
beforeEach(async () => {
  await cluster.sql(`DROP TABLE IF EXISTS ledger; ${LEDGER_TABLE}`);
  await cluster.caughtUp();
});

const CLIENTS = 64;

/** Ends a process that serves pglynx on a server; returns when the server is as before. */
type Kill = (server: PostgresServer) => Promise<void>;

/** PostgreSQL ends all its processes then, and lets nobody in until it has recovered. */
const kill: Kill = async server => {
  const pid = await victim(server);
  process.kill(pid, 'SIGKILL');
  await eventually(`${server.name} has recovered`, async () => {
    const client = await cluster.connect(server).catch(() => undefined);
    if (client === undefined) return false;
    const found = await client.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid]).catch(() => undefined);
    await client.end().catch(() => {});
    return found?.rowCount === 0;
  });
};

const terminate: Kill = async server => {
  await cluster.sql('SELECT pg_terminate_backend($1, 5000)', [await victim(server)], server);
};

/** A process that serves pglynx, most likely one that runs a statement. */
async function victim(server: PostgresServer): Promise<number> {
  let pids: number[] = [];
  await eventually(`${server.name} serves pglynx`, async () => {
    const sessions = await cluster.activity(server);
    pids = sessions.filter(({ usename }) => usename === 'alice').map(({ pid }) => pid);
    return pids.length > 0;
  });
  return pids[randomInt(pids.length)];
}

interface Trial {
  readonly kill: Kill;
  /** The servers that lose a process, one after the other. */
  readonly targets: readonly PostgresServer[];
  readonly forms: Ordeal['forms'];
  readonly servers?: readonly PostgresServer[];
  readonly pool?: ProxyOptions['pool'];
}

/** Lets all clients work while processes are killed; whoever gets no answer fails it. */
async function endure(trial: Trial, context: TestContext): Promise<{ survivors: Survivor[]; ledger: Ledger }> {
  const { targets, forms, servers = [cluster.primary] } = trial;
  const options: ProxyOptions = {
    users: ['alice'],
    user: { pool_size: 4 },
    general: { ban_time: 1 },
    pool: { query_parser_enabled: true, connect_timeout: 10_000, ...trial.pool },
  };
  await using proxy = await TestProxy.start({ servers }, options);
  const ledger = new Ledger();
  const ordeal: Ordeal = { proxy, ledger, forms, kills: 0, over: false };
  const survivors = await Promise.all(Array.from({ length: CLIENTS }, (_, number) => Survivor.start(ordeal, number)));
  const everybodyWorks = async () => {
    const before = survivors.map(({ succeeded }) => succeeded);
    await eventually(
      'every client succeeds again',
      () => survivors.every(({ succeeded }, number) => succeeded > before[number] + 1),
      20_000,
    );
  };
  const disturb = async () => {
    for (const target of targets) {
      await sleep(randomInt(50, 150));
      ordeal.kills++;
      await trial.kill(target);
      await everybodyWorks();
    }
  };
  // Whoever fails, the others end their work before anything is taken from under them.
  const disturbed = disturb().finally(() => {
    ordeal.over = true;
  });
  const work = [disturbed, ...survivors.map(survivor => survivor.run())];
  await Promise.allSettled(work);
  await Promise.all(work);
  await Promise.all(survivors.map(survivor => survivor.close()));
  const succeeded = survivors.reduce((sum, survivor) => sum + survivor.succeeded, 0);
  const unknown = survivors.reduce((sum, survivor) => sum + survivor.unknown.length, 0);
  context.diagnostic(`${ordeal.kills} kills, ${succeeded} exchanges, ${unknown} of unknown outcome`);
  const faults = proxy.log.filter(({ msg, cause }) => /internal/.test(`${msg} ${cause}`));
  assert.deepEqual(faults, []);
  return { survivors, ledger };
}

/** The first few of what is wrong, and how much there is. */
function nothing(wrong: readonly string[], what: string): void {
  assert.deepEqual(wrong.slice(0, 5), [], `${wrong.length} ${what}`);
}

const READS = [SHORT_READS, SLOW_READS];
const WAYS = { 'is killed': { kill, times: 3 }, 'is terminated': { kill: terminate, times: 4 } };

/** Today it is an error when there is no other server. */

for (const [way, { kill, times }] of Object.entries(WAYS)) {
  suite(`a server process ${way}`, { timeout: 120_000 }, () => {
    const targets = () => Array.from({ length: times }, () => cluster.primary);

    test('and no read fails, with one server', async context => {
      const { survivors } = await endure({ kill, targets: targets(), forms: READS }, context);
      nothing(complaintsOf(survivors), 'reads failed');
    });

    for (const multiplexing of ['auto', 'off']) {
      test(`and no read fails, with a primary and two replicas, multiplexing ${multiplexing}`, async context => {
        const { servers } = cluster;
        const targets = Array.from({ length: times }, (_, count) => servers[(count + 1) % servers.length]);
        const pool = { primary_reads_enabled: true, multiplexing };
        const { survivors } = await endure({ kill, targets, forms: READS, servers, pool }, context);
        nothing(complaintsOf(survivors), 'reads failed');
      });

      test(`and writes are told the truth, once, multiplexing ${multiplexing}`, async context => {
        const trial = { kill, targets: targets(), forms: [WRITES], pool: { multiplexing } };
        const { survivors, ledger } = await endure(trial, context);
        await truth(survivors, ledger);
        if (multiplexing === 'off') return;
        await context.test('and nothing else', () =>
          nothing(complaintsOf(survivors), 'writes failed that had not been sent'),
        );
      });
    }

    test('and reads among writes do not fail', async context => {
      const { survivors, ledger } = await endure({ kill, targets: targets(), forms: [...READS, WRITES] }, context);
      await truth(survivors, ledger);
      nothing(complaintsOf(survivors), 'reads failed, or writes that had not been sent');
    });
  });
}

function complaintsOf(survivors: readonly Survivor[]): string[] {
  return survivors.flatMap(({ complaints }) => complaints);
}

/** Whether the table is as clients were told, and no kill made the outcome of two writes of one client unknown. */
async function truth(survivors: readonly Survivor[], ledger: Ledger): Promise<void> {
  nothing(await ledger.disagreements(cluster), 'rows are not as was told');
  const again = survivors.flatMap(({ unknown }) => unknown.filter((kill, at) => unknown.indexOf(kill) < at));
  nothing(
    again.map(kill => `kill ${kill}`),
    'times a client was told 08007 once more for one kill',
  );
}
