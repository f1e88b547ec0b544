/** How late the event loop is: quantiles of a window of time, and the sum of all delays since the start. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Milliseconds between two measurements; Node counts them as part of the delay. */
const RESOLUTION_MS = 20;
/** Milliseconds of a window. */
const WINDOW_MS = 15_000;
const NS_PER_S = 1e9;
const QUANTILES = [0.5, 0.9, 0.99, 1];

/** Times in seconds. */
export interface LoopFigures {
  readonly quantiles: ReadonlyMap<number, number>;
  readonly sum: number;
  readonly count: number;
}

export class LoopMonitor {
  readonly #delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  /** Of the last full window. */
  #quantiles: ReadonlyMap<number, number> | undefined;
  /** The sum that was told last, which never gets less. */
  #told = 0;
  /** Of all full windows. */
  #sum = 0;
  #count = 0;
  readonly #timer: NodeJS.Timeout;

  constructor() {
    this.#delays.enable();
    this.#timer = setInterval(() => this.#roll(), WINDOW_MS).unref();
  }

  /** Quantiles of the last full window, or of the first one so far. */
  get figures(): LoopFigures {
    const { count, mean } = this.#delays;
    // Measurements that come early make the sum of a window less.
    if (count > 0) this.#told = Math.max(this.#told, this.#sum + count * seconds(mean));
    return { quantiles: this.#quantiles ?? this.#window(), sum: this.#told, count: this.#count + count };
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#delays.disable();
  }

  #roll(): void {
    const { sum, count } = this.figures;
    this.#quantiles = this.#window();
    this.#sum = sum;
    this.#count = count;
    this.#delays.reset();
  }

  #window(): Map<number, number> {
    if (this.#delays.count === 0) return new Map();
    return new Map(QUANTILES.map(quantile => [quantile, seconds(this.#delays.percentile(100 * quantile))]));
  }
}

/** What exceeds the time between two measurements. */
function seconds(time_ns: number): number {
  return Math.max(0, time_ns / NS_PER_S - RESOLUTION_MS / 1000);
}
