/** Claims that wait for a connection, in the order in which they came, until their time is over. */
import type { SettingsProfile } from '../server/parameters.ts';
import type { Lease } from './lease.ts';

export class WaitQueue {
  length = 0;
  /** Milliseconds that a claim waits; perhaps for ever. */
  readonly #timeout: number;
  readonly #expired: (lease: Lease) => void;
  #timer: NodeJS.Timeout | undefined;
  /** When the timer is due, on the clock of deadlines. */
  #due = 0;
  #first: Lease | undefined;
  #last: Lease | undefined;

  /** `expired` gets every claim that has waited for `timeout` ms. */
  constructor(timeout: number, expired: (lease: Lease) => void) {
    this.#timeout = timeout;
    this.#expired = expired;
  }

  get first(): Lease | undefined {
    return this.#first;
  }

  /** All claims, as they wait now. */
  list(): Lease[] {
    const leases: Lease[] = [];
    for (let lease = this.#first; lease !== undefined; lease = lease.next) leases.push(lease);
    return leases;
  }

  /** Milliseconds that the first has waited. */
  waited_ms(now: number): number {
    return this.#first === undefined ? 0 : now - this.#first.since;
  }

  /** Does something about each claim behind the first `spared`, unless what is done about another ends it. */
  each(spared: number, act: (lease: Lease) => void): void {
    for (const lease of this.list().slice(spared)) if (lease.queued) act(lease);
  }

  /** The first claim that a connection with these startup settings can serve. */
  firstFor(startup: SettingsProfile): Lease | undefined {
    let lease = this.#first;
    while (lease !== undefined && lease.startup !== startup) lease = lease.next;
    return lease;
  }

  /** A claim begins to wait at `now`. */
  push(lease: Lease, now: number): void {
    lease.deadline = Math.min(now + this.#timeout, lease.until);
    lease.queued = true;
    let before = this.#last;
    // Who has waited in a pool that a reload has replaced goes in front of those whose time is over later.
    while (before !== undefined && before.deadline > lease.deadline) before = before.previous;
    const after = before === undefined ? this.#first : before.next;
    lease.previous = before;
    lease.next = after;
    if (before === undefined) this.#first = lease;
    else before.next = lease;
    if (after === undefined) this.#last = lease;
    else after.previous = lease;
    this.length++;
    this.#arm(now);
  }

  remove(lease: Lease): void {
    lease.queued = false;
    if (lease.previous === undefined) this.#first = lease.next;
    else lease.previous.next = lease.next;
    if (lease.next === undefined) this.#last = lease.previous;
    else lease.next.previous = lease.previous;
    lease.previous = undefined;
    lease.next = undefined;
    this.length--;
  }

  /** Removes all of them; the first of those returned came first. */
  clear(): Lease[] {
    const all: Lease[] = [];
    for (let lease = this.#first; lease !== undefined; lease = this.#first) {
      this.remove(lease);
      all.push(lease);
    }
    return all;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** One timer serves the queue: the first has the first deadline. */
  #arm(now: number): void {
    const first = this.#first;
    if (first === undefined || this.#timeout === Number.POSITIVE_INFINITY) return;
    if (this.#timer !== undefined) {
      if (first.deadline >= this.#due) return;
      clearTimeout(this.#timer);
    }
    this.#due = first.deadline;
    this.#timer = setTimeout(() => this.#expire(), Math.max(1, first.deadline - now));
  }

  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (let lease = this.#first; lease !== undefined && lease.deadline <= now; lease = this.#first) {
      this.remove(lease);
      this.#expired(lease);
    }
    this.#arm(now);
  }
}
