/** The cases of the benchmark of shared dispatch, and what is expected of them. */
import { SELECT_ONLY, TPC_B } from '../pgbench.ts';
import type { Case } from './case.ts';
import { DELAY } from './delay.ts';
import { duelCase, type Targets } from './duel.ts';
import { IDLE } from './idle.ts';
import { MIXED } from './mixed.ts';

const SELECTS = { clients: 64, connections: 4, workload: SELECT_ONLY, sampling_rate: 0.1 };
const EXTENDED: Targets = {
  tps_ratio: { bound: 'at least', limit: 1.5 },
  cpu_ratio: { bound: 'at most', limit: 0.9 },
};

/** In the order in which they run: TPC-B comes last, since it leaves dead rows behind. */
export const CASES: readonly Case[] = [
  duelCase({
    ...SELECTS,
    name: 'simple',
    title: 'pgbench -S -M simple, 64 clients, 4 connections',
    mode: 'simple',
    targets: {
      tps_ratio: { bound: 'at least', limit: 1.6, aim: 2 },
      cpu_ratio: { bound: 'at most', limit: 0.8, aim: 0.6 },
    },
  }),
  duelCase({
    ...SELECTS,
    name: 'extended',
    title: 'pgbench -S -M extended, 64 clients, 4 connections',
    mode: 'extended',
    targets: EXTENDED,
  }),
  duelCase({
    ...SELECTS,
    name: 'prepared',
    title: 'pgbench -S -M prepared, 64 clients, 4 connections',
    mode: 'prepared',
    targets: EXTENDED,
  }),
  duelCase({
    ...SELECTS,
    name: 'single',
    title: 'pgbench -S -M simple, 1 client, 4 connections',
    mode: 'simple',
    clients: 1,
    sampling_rate: 1,
    targets: { p50_ratio: { bound: 'at most', limit: 1.25 } },
  }),
  DELAY,
  MIXED,
  IDLE,
  duelCase({
    name: 'tpcb',
    title: "pgbench's TPC-B mix -M simple, 16 clients, 8 connections",
    mode: 'simple',
    clients: 16,
    connections: 8,
    workload: TPC_B,
    sampling_rate: 1,
    relays: true,
    targets: { tps_ratio: { bound: 'at least', limit: 0.95 } },
  }),
];
