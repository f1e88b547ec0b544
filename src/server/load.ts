/** What a connection that clients share has to do: what is under way, how long it should take, what may follow. */

/** One exchange's part of a load. */
export interface Share {
  /** Microseconds that the server should take for it. */
  expected_us: number;
  /** Whether nothing may be sent behind it: it is expected to be slow or large, or nothing is known of it. */
  exclusive: boolean;
  /** Milliseconds of `performance.now()` when it was sent. */
  sent_at: number;
}

export class Load {
  /** Exchanges under way. */
  depth = 0;
  /** Microseconds that they should take together. */
  expected_us = 0;
  /** Milliseconds of `performance.now()` since when the one at the head has been there. */
  head_at = 0;
  /** Whether nothing may be sent behind the newest. */
  exclusive = false;
  /** Whether it takes nothing more, because somebody waits for a connection of his own. */
  reserved = false;
  /** Whether the client of the one at the head does not read. */
  stalled = false;

  /** An exchange is sent. */
  add(share: Share): void {
    if (this.depth === 0) this.head_at = share.sent_at;
    this.depth++;
    this.expected_us += share.expected_us;
    this.exclusive = share.exclusive;
  }

  /** The one at the head is over at `now`; microseconds that the server worked on it, `trip_ms` of the way left out. */
  settle(share: Share, trip_ms: number, now: number): number {
    const began_at = Math.max(this.head_at, share.sent_at + trip_ms);
    this.depth--;
    this.expected_us = this.depth === 0 ? 0 : this.expected_us - share.expected_us;
    this.head_at = now;
    this.stalled = false;
    if (this.depth === 0) this.exclusive = false;
    return Math.max(LEAST_US, (now - began_at) * 1000);
  }
}

/** Microseconds that any exchange takes at least. */
const LEAST_US = 5;
