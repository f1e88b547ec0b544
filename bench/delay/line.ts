/** A line where everything waits for the same time, however much is in it, and leaves in the order in which it came. */
import { Alarm } from './alarm.ts';

interface Held {
  readonly came_ns: bigint;
  readonly leave: () => void;
}

/** Waits are counted in steps of this length, up to STEPS of them. */
const STEP_US = 10;
const STEPS = 10_000;

export class DelayLine {
  readonly #delay_ns: bigint;
  readonly #alarm = new Alarm(() => this.#release());
  #held: Held[] = [];
  #first = 0;
  readonly #waits = new Uint32Array(STEPS);

  constructor(delay_ms: number) {
    this.#delay_ns = BigInt(Math.round(delay_ms * 1e6));
  }

  /** Calls `leave` after the delay. */
  add(leave: () => void): void {
    this.#held.push({ came_ns: process.hrtime.bigint(), leave });
    if (this.#held.length - this.#first === 1) this.#wake();
    // A busy loop hears the alarm late.
    else this.#release();
  }

  /** The time that a share of all have waited for at most. */
  waited_ms(share: number): number {
    const wanted = share * this.#waits.reduce((sum, count) => sum + count, 0);
    let seen = 0;
    const step = this.#waits.findIndex(count => {
      seen += count;
      return seen >= wanted;
    });
    return ((step + 1) * STEP_US) / 1000;
  }

  /** Forgets what it holds. */
  async close(): Promise<void> {
    await this.#alarm.close();
  }

  #release(): void {
    const now = process.hrtime.bigint();
    const before = this.#first;
    for (let next = this.#held[before]; next !== undefined; next = this.#held[this.#first]) {
      const waited_ns = now - next.came_ns;
      if (waited_ns < this.#delay_ns) break;
      this.#first++;
      this.#waits[Math.min(STEPS - 1, Math.floor(Number(waited_ns) / 1000 / STEP_US))]++;
      next.leave();
    }
    if (this.#first === before) return;
    if (this.#first === this.#held.length) {
      this.#held = [];
      this.#first = 0;
      return;
    }
    if (this.#first > 1024) {
      this.#held = this.#held.slice(this.#first);
      this.#first = 0;
    }
    this.#wake();
  }

  #wake(): void {
    const next = this.#held[this.#first];
    if (next !== undefined) this.#alarm.set(next.came_ns + this.#delay_ns);
  }
}
