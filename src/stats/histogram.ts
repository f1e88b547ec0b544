/** Counts times by buckets with fixed bounds: a search among few numbers and two additions an observation. */

/** Upper bounds of the buckets in microseconds, themselves included; what is longer goes into one more without bound. */
export const BOUNDS_US: Readonly<Float64Array> = Float64Array.of(
  100,
  200,
  500,
  1_000,
  2_000,
  5_000,
  10_000,
  20_000,
  50_000,
  100_000,
  200_000,
  500_000,
  1_000_000,
  2_000_000,
  5_000_000,
  10_000_000,
  60_000_000,
);

export class Histogram {
  /** How many times fell into each bucket alone, the last being the one without bound. */
  readonly counts = new Float64Array(BOUNDS_US.length + 1);
  /** Microseconds of all times. */
  sum_us = 0;

  observe(time_us: number): void {
    let from = 0;
    let to = BOUNDS_US.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (time_us <= BOUNDS_US[middle]) to = middle;
      else from = middle + 1;
    }
    this.counts[from]++;
    this.sum_us += time_us;
  }

  /** Adds what another has counted. */
  add(other: Histogram): void {
    for (let at = 0; at < this.counts.length; at++) this.counts[at] += other.counts[at];
    this.sum_us += other.sum_us;
  }
}
