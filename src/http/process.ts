/** Metrics of the process itself: what it takes of the machine, and how late its event loop is. */
import { readdir, readFile } from 'node:fs/promises';
import { LoopMonitor } from './loop.ts';
import type { Metric } from './metric.ts';

/** What is asked of the system once a scrape. */
export interface ProcessFigures {
  readonly loop: LoopMonitor['figures'];
  readonly memory: NodeJS.MemoryUsage;
  readonly cpu: NodeJS.CpuUsage;
  readonly uptime_s: number;
  /** Undefined where the system has no /proc. */
  readonly open_fds: number | undefined;
  readonly max_fds: number | undefined;
}

/** Asks for them. */
export class ProcessMonitor {
  readonly #loop = new LoopMonitor();

  async figures(): Promise<ProcessFigures> {
    const [open_fds, max_fds] = await Promise.all([openFds(), maxFds()]);
    return {
      loop: this.#loop.figures,
      memory: process.memoryUsage(),
      cpu: process.cpuUsage(),
      uptime_s: process.uptime(),
      open_fds,
      max_fds,
    };
  }

  stop(): void {
    this.#loop.stop();
  }
}

async function openFds(): Promise<number | undefined> {
  // The folder itself is open while it is read.
  return readdir('/proc/self/fd').then(
    ({ length }) => length - 1,
    () => undefined,
  );
}

async function maxFds(): Promise<number | undefined> {
  const text = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const [, limit] = /^Max open files\s+(\d+)/m.exec(text) ?? [];
  return limit === undefined ? undefined : Number(limit);
}

const US_PER_S = 1_000_000;

export const PROCESS_METRICS: readonly Metric<ProcessFigures>[] = [
  {
    name: 'pglynx_event_loop_delay_seconds',
    type: 'summary',
    help: 'How late the event loop is, measured every 20 ms: everything waits that long. The quantiles are of the last 15 s.',
    labels: [],
    sample: ({ loop: { quantiles, sum, count } }, samples) => samples.addSummary({}, quantiles, sum, count),
  },
  {
    name: 'pglynx_process_cpu_seconds_total',
    type: 'counter',
    help: 'Processor time that the process has taken, in user or system mode.',
    labels: ['mode'],
    sample: ({ cpu }, samples) => {
      samples.add({ mode: 'user' }, cpu.user / US_PER_S);
      samples.add({ mode: 'system' }, cpu.system / US_PER_S);
    },
  },
  {
    name: 'pglynx_process_resident_memory_bytes',
    type: 'gauge',
    help: 'Memory that the process holds.',
    labels: [],
    sample: ({ memory }, samples) => samples.add({}, memory.rss),
  },
  {
    name: 'pglynx_process_heap_used_bytes',
    type: 'gauge',
    help: "JavaScript's heap in use.",
    labels: [],
    sample: ({ memory }, samples) => samples.add({}, memory.heapUsed),
  },
  {
    name: 'pglynx_process_heap_size_bytes',
    type: 'gauge',
    help: "JavaScript's heap, used or not.",
    labels: [],
    sample: ({ memory }, samples) => samples.add({}, memory.heapTotal),
  },
  {
    name: 'pglynx_process_external_memory_bytes',
    type: 'gauge',
    help: 'Memory outside the heap that JavaScript has: buffers above all.',
    labels: [],
    sample: ({ memory }, samples) => samples.add({}, memory.external),
  },
  {
    name: 'pglynx_process_open_fds',
    type: 'gauge',
    help: 'Open file descriptors; absent where the system has no /proc.',
    labels: [],
    sample: ({ open_fds }, samples) => {
      if (open_fds !== undefined) samples.add({}, open_fds);
    },
  },
  {
    name: 'pglynx_process_max_fds',
    type: 'gauge',
    help: 'How many file descriptors the process may open; absent where the system has no /proc.',
    labels: [],
    sample: ({ max_fds }, samples) => {
      if (max_fds !== undefined) samples.add({}, max_fds);
    },
  },
  {
    name: 'pglynx_process_uptime_seconds',
    type: 'gauge',
    help: 'How long the process has run.',
    labels: [],
    sample: ({ uptime_s }, samples) => samples.add({}, uptime_s),
  },
];
