/** Failed logins, counted for each user from each address and for each address, so that guessing passwords takes for ever. */
import { isIPv6 } from 'node:net';
import { LRUCache } from 'lru-cache';
import { NAME_LENGTH_MAX } from '../config/wildcards.ts';

/** How many may fail, by the configuration in force. */
export interface AttemptLimits {
  /** Failures of one user from one address in a row; 0 is any. */
  limit(): number;
  /** Until one more is let in. */
  interval_ms(): number;
}

/** Failures of all users from one address count as one of so many. */
const USERS_SHARE = 10;
/** Intervals that an address and user can be made to wait at most, however many attempts were under way at a time. */
const DEBT_MAX = 60;
/** Attempts that may be under way together after a failure: an application's connections come together too. */
const PENDING_MAX = 100;
/** Addresses, and addresses with users, that are remembered. */
const REMEMBERED_MAX = 20_000;

/** A bucket that each failure takes a token out of, and time fills. */
interface Bucket {
  /** Below 0 when more were under way together than were left. */
  tokens: number;
  /** When it had that many, on the clock of `performance.now()`. */
  filled_at: number;
  /** Attempts whose outcome is not known yet. */
  pending: number;
}

/** One attempt that was let in. */
export interface Attempt {
  succeeded(): void;
  failed(now: number): void;
  /** It came to no end: the client left, say. */
  abandoned(): void;
}

export class Attempts {
  readonly #limits: AttemptLimits;
  readonly #buckets = new LRUCache<string, Bucket>({ max: REMEMBERED_MAX });

  constructor(limits: AttemptLimits) {
    this.#limits = limits;
  }

  /** Lets a login begin; undefined when too many have failed. `address` is undefined for a Unix socket. */
  begin(address: string | undefined, user: string, now: number): Attempt | undefined {
    const limit = this.#limits.limit();
    if (limit === 0) return UNCOUNTED;
    const from = network(address);
    // Nobody has a longer name: those that begin alike count together.
    const own = this.#bucket(JSON.stringify([from, user.slice(0, NAME_LENGTH_MAX + 1)]), limit, 1, now);
    const all = this.#bucket(from, limit * USERS_SHARE, USERS_SHARE, now);
    if (!hasRoom(own, limit) || !hasRoom(all, limit * USERS_SHARE)) return undefined;
    own.pending++;
    all.pending++;
    const over = () => {
      own.pending--;
      all.pending--;
    };
    return {
      abandoned: over,
      succeeded: () => {
        over();
        own.tokens = limit;
      },
      failed: now => {
        over();
        this.#take(own, limit, 1, now);
        this.#take(all, limit * USERS_SHARE, USERS_SHARE, now);
      },
    };
  }

  #bucket(name: string, size: number, speed: number, now: number): Bucket {
    const known = this.#buckets.get(name);
    if (known !== undefined) {
      this.#fill(known, size, speed, now);
      return known;
    }
    const bucket = { tokens: size, filled_at: now, pending: 0 };
    this.#buckets.set(name, bucket);
    return bucket;
  }

  #fill(bucket: Bucket, size: number, speed: number, now: number): void {
    const more = ((now - bucket.filled_at) * speed) / this.#limits.interval_ms();
    bucket.tokens = Math.min(size, bucket.tokens + more);
    bucket.filled_at = now;
  }

  #take(bucket: Bucket, size: number, speed: number, now: number): void {
    this.#fill(bucket, size, speed, now);
    bucket.tokens = Math.max(bucket.tokens - 1, -DEBT_MAX * speed);
  }
}

/** A full bucket has seen no failure of late: however many come together are let in. */
function hasRoom({ tokens, pending }: Bucket, size: number): boolean {
  return tokens >= size || (tokens >= 1 && pending < Math.max(tokens, PENDING_MAX));
}

/** Whoever has one IPv6 address has 2^64 of them. */
function network(address: string | undefined): string {
  if (address === undefined) return 'unix';
  if (!isIPv6(address)) return address;
  const [head = '', tail = ''] = address.replace(/%.*$/, '').split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === '' ? [] : tail.split(':');
  const zeros = address.includes('::')
    ? Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
    : [];
  return `${[...left, ...zeros, ...right].slice(0, 4).join(':')}::`;
}

const UNCOUNTED: Attempt = { succeeded: () => {}, failed: () => {}, abandoned: () => {} };
