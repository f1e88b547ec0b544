/** An alarm that rings when it is due, far more precisely than setTimeout. */
import { Worker } from 'node:worker_threads';

/** What the alarm and its thread share. */
export interface Bed {
  /** Counts how often the time was set. */
  readonly changed: Int32Array<SharedArrayBuffer>;
  /** When to ring, on process.hrtime's clock. */
  readonly due_ns: BigInt64Array<SharedArrayBuffer>;
}

/** The time of an alarm that is not set. */
export const NEVER_NS = 0n;

export class Alarm {
  readonly #bed: Bed = {
    changed: new Int32Array(new SharedArrayBuffer(4)),
    due_ns: new BigInt64Array(new SharedArrayBuffer(8)),
  };

  readonly #sleeper = new Worker(new URL('./sleeper.ts', import.meta.url), { workerData: this.#bed });

  constructor(ring: () => void) {
    this.#sleeper.on('message', ring);
  }

  /** Rings at `due_ns` and forgets any other time. */
  set(due_ns: bigint): void {
    Atomics.store(this.#bed.due_ns, 0, due_ns);
    Atomics.add(this.#bed.changed, 0, 1);
    Atomics.notify(this.#bed.changed, 0);
  }

  async close(): Promise<void> {
    await this.#sleeper.terminate();
  }
}
