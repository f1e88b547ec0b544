/** How long servers take for a statement and how much they answer: moving averages, one for each template. */

/** How much a new measurement counts against those before it. */
const SHARE = 0.1;

export class ServiceTime {
  /** Times measured. */
  count = 0;
  /** Microseconds of a server's work. */
  time_us = 0;
  /** Bytes of the reply. */
  result_bytes = 0;

  add(time_us: number, result_bytes: number): void {
    if (this.count++ === 0) {
      this.time_us = time_us;
      this.result_bytes = result_bytes;
      return;
    }
    this.time_us += (time_us - this.time_us) * SHARE;
    this.result_bytes += (result_bytes - this.result_bytes) * SHARE;
  }
}
