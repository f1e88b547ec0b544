/** The thread of an Alarm: it sleeps in the kernel, to some hundredths of a millisecond, where timers count whole ones. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Bed, NEVER_NS } from './alarm.ts';

const { changed, due_ns }: Bed = workerData;
for (;;) {
  const seen = Atomics.load(changed, 0);
  const due = Atomics.load(due_ns, 0);
  const left_ms = due === NEVER_NS ? Number.POSITIVE_INFINITY : Number(due - process.hrtime.bigint()) / 1e6;
  if (left_ms > 0 && Atomics.wait(changed, 0, seen, left_ms) !== 'timed-out') continue;
  Atomics.compareExchange(due_ns, 0, due, NEVER_NS);
  parentPort?.postMessage(undefined);
}
