/** The clusters that were made for `*` when somebody asked for them: how many there may be, and which may go. */
import type { ClusterSettings } from '../config/cluster.ts';

/** Names a cluster. */
export interface AutoName {
  readonly database: string;
  readonly username: string;
}

/** What is allowed, by the configuration in force. */
export interface AutoLimits {
  idle_timeout_ms(): number;
  pools_max(): number;
  /** Who is served now. */
  clients(): Iterable<{ readonly database: string; readonly user: string }>;
  /** What a user whom the file doesn't list runs with; undefined when there is no such thing. */
  settings(database: string, user: string): ClusterSettings | undefined;
}

/** Who asks for one has a connection after this at the latest; what never had any, since there is no such database say, goes. */
const UNUSED_MS = 1000;

export class AutoClusters {
  readonly #limits: AutoLimits;
  /** When each was last used, on the clock of `performance.now()`. */
  readonly #used_at = new Map<string, AutoName & { at: number }>();

  constructor(limits: AutoLimits) {
    this.#limits = limits;
  }

  get names(): Iterable<AutoName> {
    return this.#used_at.values();
  }

  /** What one has to go for the sake of one more; undefined when there is room, `none` when all are in use. */
  victim(now: number): AutoName | 'none' | undefined {
    if (this.#used_at.size < this.#limits.pools_max()) return undefined;
    this.#note(now);
    const [oldest] = [...this.#used_at.values()].sort((a, b) => a.at - b.at);
    // Whoever has just asked for one may still be on the way in.
    return oldest === undefined || oldest.at > now - UNUSED_MS ? 'none' : oldest;
  }

  used({ database, username }: AutoName, now: number): void {
    this.#used_at.set(keyOf(database, username), { database, username, at: now });
  }

  delete({ database, username }: AutoName): void {
    this.#used_at.delete(keyOf(database, username));
  }

  /** Those that nobody has used for long. */
  idle(now: number): AutoName[] {
    if (this.#used_at.size === 0) return [];
    this.#note(now);
    const since = now - this.#limits.idle_timeout_ms();
    return [...this.#used_at.values()].filter(({ at }) => at < since);
  }

  /** Those of `names` that nobody has asked for of late. */
  unused(names: readonly AutoName[], now: number): AutoName[] {
    return names.filter(({ database, username }) => {
      const found = this.#used_at.get(keyOf(database, username));
      return found !== undefined && found.at < now - UNUSED_MS;
    });
  }

  /** Notes who is in use now, and forgets what the file lists by now. */
  #note(now: number): void {
    for (const [key, { database, username }] of this.#used_at) {
      if (this.#limits.settings(database, username) === undefined) this.#used_at.delete(key);
    }
    for (const { database, user } of this.#limits.clients()) {
      const found = this.#used_at.get(keyOf(database, user));
      if (found !== undefined) found.at = now;
    }
  }
}

function keyOf(database: string, user: string): string {
  return JSON.stringify([database, user]);
}
