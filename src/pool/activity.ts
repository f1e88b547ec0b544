/** Activity routing: which reads must see the primary because their tables were just written, or nothing is known yet. */
import type { ActivitySettings } from '../config/cluster.ts';

/** Why a read goes to the primary. */
export type ActivityReason = 'initializing' | 'recently_written';

/** Names remembered; beyond it every table counts as written. */
const NAMES_MAX = 10_000;

/**
 * What was written to one database of late. Times are milliseconds of one clock that never goes back; tables are named as
 * the grammar folds them, `schema.table` or `table`. Names are all it knows: a view is a table of its own.
 */
export class Activity {
  #settings: ActivitySettings;
  /** Until when each name counts as written, in that order; `*.table` stands for the table in any schema. */
  readonly #written = new Map<string, number>();
  /** Until when some table, and every table, counts as written. */
  #some_until = Number.NEGATIVE_INFINITY;
  #every_until = Number.NEGATIVE_INFINITY;
  #active_at = Number.NEGATIVE_INFINITY;
  #initializing_until = Number.NEGATIVE_INFINITY;

  constructor(settings: ActivitySettings) {
    this.#settings = settings;
  }

  /** A reload has changed the settings; what was written stays known. */
  configure(settings: ActivitySettings): void {
    this.#settings = settings;
  }

  /** Why reads of these tables must go to the primary now, if they must. */
  read(tables: readonly string[], now: number): ActivityReason | undefined {
    const reason = this.#begin(now);
    if (reason !== undefined || now >= this.#some_until) return reason;
    const isWritten = now < this.#every_until || tables.some(table => this.#isWritten(table, now));
    return isWritten ? 'recently_written' : undefined;
  }

  /** The same for a read that may see any table: it calls a function of the user's. */
  readAnything(now: number): ActivityReason | undefined {
    return this.#begin(now) ?? (now < this.#some_until ? 'recently_written' : undefined);
  }

  /** These tables are being written; said when a write is sent and when it, or its transaction, has ended. */
  wrote(tables: readonly string[], now: number): void {
    this.#begin(now);
    if (!this.#settings.enabled) return;
    this.#forget(now);
    for (const table of tables) {
      const dots = dotsOf(table);
      const bare = bareName(table);
      this.#mark(table, now);
      this.#mark(`*.${bare}`, now);
      // A name that has a dot in it: which part is the schema cannot be told.
      if (dots > 1) this.#mark(bare, now);
    }
  }

  /** A write whose tables nobody knows: a function of the user's, DO, CALL. */
  wroteAnything(now: number): void {
    this.#begin(now);
    if (!this.#settings.enabled) return;
    this.#every_until = now + this.#settings.mutation_ttl;
    this.#some_until = this.#every_until;
    this.#written.clear();
  }

  /** Notes that a statement came; after a time without any, what was written meanwhile came another way and is not known. */
  #begin(now: number): ActivityReason | undefined {
    const { enabled, ttl, init_delay } = this.#settings;
    if (!enabled) return undefined;
    if (now - this.#active_at >= ttl * 1000) this.#initializing_until = now + init_delay;
    this.#active_at = now;
    return now < this.#initializing_until ? 'initializing' : undefined;
  }

  #isWritten(table: string, now: number): boolean {
    const dots = dotsOf(table);
    if (dots !== 1) return this.#isMarked(`*.${bareName(table)}`, now);
    return this.#isMarked(table, now) || this.#isMarked(bareName(table), now);
  }

  #isMarked(name: string, now: number): boolean {
    const until = this.#written.get(name);
    return until !== undefined && now < until;
  }

  #mark(name: string, now: number): void {
    this.#some_until = now + this.#settings.mutation_ttl;
    // Deleted first, so that the order of the map stays that of the times.
    this.#written.delete(name);
    if (this.#written.size >= NAMES_MAX) {
      this.#every_until = this.#some_until;
      this.#written.clear();
    }
    this.#written.set(name, this.#some_until);
  }

  #forget(now: number): void {
    for (const [name, until] of this.#written) {
      if (now < until) return;
      this.#written.delete(name);
    }
  }
}

function bareName(table: string): string {
  return table.slice(table.lastIndexOf('.') + 1);
}

/** 0, 1, or 2 for more. */
function dotsOf(table: string): number {
  const first = table.indexOf('.');
  return first === -1 ? 0 : table.lastIndexOf('.') === first ? 1 : 2;
}
