/** The case of a network between pooler and PostgreSQL: a millisecond each way. */
import { DiscardingClient } from '../client.ts';
import { Companion } from '../companion.ts';
import type { Contender } from '../contender.ts';
import { SELECT_ONLY } from '../pgbench.ts';
import { median } from '../statistics.ts';
import { type Case, type Outcome, rivals, type Stage, type Starter, withContenders } from './case.ts';
import { contest, type Duel } from './duel.ts';

const DELAY_MS = 1;
const PINGS = 200;
const WARM_UP_PINGS = 200;

const DUEL: Duel = {
  name: 'delay',
  title: `pgbench -S -M simple, 64 clients, 4 connections, ${DELAY_MS} ms each way between pooler and PostgreSQL`,
  mode: 'simple',
  clients: 64,
  connections: 4,
  workload: SELECT_ONLY,
  sampling_rate: 1,
  targets: { tps_ratio: { bound: 'at least', limit: 10 } },
};

export const DELAY: Case = { ...DUEL, run };

async function run(stage: Stage): Promise<Outcome> {
  // One for each, so that it can be told how long each one's chunks were held.
  const proxies = new Map<string, Companion>();
  const far = rivals(stage).map(
    (start): Starter =>
      async setup => {
        const proxy = await Companion.start(stage.guard, 'delay/proxy.ts', [stage.host, stage.port, DELAY_MS]);
        const contender = await start({ ...setup, port: proxy.told.get('port') ?? 0 }).catch(error => {
          void proxy.end();
          throw error;
        });
        if (contender === undefined) await proxy.end();
        else proxies.set(contender.name, proxy);
        return contender && { ...contender, stop: () => leave(contender, proxy) };
      },
  );
  const { pings, outcome } = await withContenders({ ...stage, ...DUEL }, far, async contenders => ({
    pings: await measurePings(stage, proxies),
    outcome: await contest(stage, DUEL, contenders),
  }));
  // A proxy tells how long it held what passed when it has ended.
  const held = [...proxies].map(([name, { told }]) => {
    const [p50, p99] = [told.get('held_p50_ms')?.toFixed(2), told.get('held_p99_ms')?.toFixed(2)];
    return `bytes between ${name} and PostgreSQL were held for ${p50} ms (median; p99 ${p99})`;
  });
  return { ...outcome, notes: [pings, ...held, ...outcome.notes] };
}

async function leave(contender: Contender, proxy: Companion): Promise<void> {
  await contender.stop();
  await proxy.end();
}

/** What a round trip to PostgreSQL takes, straight and through a proxy. */
async function measurePings({ host, port, user }: Stage, proxies: ReadonlyMap<string, Companion>): Promise<string> {
  const [proxy] = proxies.values();
  const straight_ms = await roundTrip(host, port, user);
  const delayed_ms = await roundTrip(host, proxy?.told.get('port') ?? 0, user);
  return `SELECT 1 takes ${straight_ms.toFixed(2)} ms straight, ${delayed_ms.toFixed(2)} ms through the delaying proxy (medians of ${PINGS})`;
}

async function roundTrip(host: string, port: number, user: string): Promise<number> {
  const client = await DiscardingClient.connect({ host, port, user });
  const times_ms: number[] = [];
  for (let ping = -WARM_UP_PINGS; ping < PINGS; ping++) {
    const start = performance.now();
    await client.query('SELECT 1');
    if (ping >= 0) times_ms.push(performance.now() - start);
  }
  client.close();
  return median(times_ms);
}
