/** Plain counters that every layer above adds to; exporters read them. Times are in microseconds, sizes in bytes. */

/** What one server has done for one database and user. */
export class PoolCounters {
  xact_count = 0;
  query_count = 0;
  received_bytes = 0;
  sent_bytes = 0;
  xact_time_us = 0;
  query_time_us = 0;
  wait_time_us = 0;
  errors = 0;
  /** Exchanges that shared a connection, and transactions that had one for themselves. */
  shared_count = 0;
  leased_count = 0;
  /** Exchanges sent once more, on another connection. */
  moved_count = 0;
  /** Writes to sockets of servers, each of which may hold what many clients sent. */
  write_count = 0;
  /** Connections opened. */
  opened_count = 0;
  /** Statements that a connection had, had not, or had to give up for others. */
  prepare_hits = 0;
  prepare_misses = 0;
  prepare_evictions = 0;

  /** Adds what another has counted. */
  add(other: PoolCounters): void {
    for (const name of COUNTED) this[name] += other[name];
  }
}

/** The fields of {@link PoolCounters}. */
const COUNTED = [
  'xact_count',
  'query_count',
  'received_bytes',
  'sent_bytes',
  'xact_time_us',
  'query_time_us',
  'wait_time_us',
  'errors',
  'shared_count',
  'leased_count',
  'moved_count',
  'write_count',
  'opened_count',
  'prepare_hits',
  'prepare_misses',
  'prepare_evictions',
] as const;

/** What one server connection has done. */
export class ConnectionCounters {
  xact_count = 0;
  query_count = 0;
  received_bytes = 0;
  prepare_hits = 0;
  prepare_misses = 0;
  prepare_evictions = 0;
}

/** What one client has done. */
export class ClientCounters {
  xact_count = 0;
  query_count = 0;
  error_count = 0;
  wait_max_us = 0;
}

/** Seconds over which the `avg_` columns of SHOW STATS are taken; PgCat's window. */
export const AVERAGE_WINDOW_S = 15;

/** The averages of one pool over the last full window: per second for counts and sizes, per event for times. */
export class PoolAverages {
  xact_count = 0;
  query_count = 0;
  received_bytes = 0;
  sent_bytes = 0;
  errors = 0;
  xact_time_us = 0;
  query_time_us = 0;
  wait_time_us = 0;
  #before = new PoolCounters();

  /** Closes a window of `window_s` seconds that ends with these counters. */
  roll(now: PoolCounters, window_s: number): void {
    const before = this.#before;
    const xacts = now.xact_count - before.xact_count;
    const queries = now.query_count - before.query_count;
    this.xact_count = xacts / window_s;
    this.query_count = queries / window_s;
    this.received_bytes = (now.received_bytes - before.received_bytes) / window_s;
    this.sent_bytes = (now.sent_bytes - before.sent_bytes) / window_s;
    this.errors = (now.errors - before.errors) / window_s;
    this.xact_time_us = xacts === 0 ? 0 : (now.xact_time_us - before.xact_time_us) / xacts;
    this.query_time_us = queries === 0 ? 0 : (now.query_time_us - before.query_time_us) / queries;
    this.wait_time_us = xacts === 0 ? 0 : (now.wait_time_us - before.wait_time_us) / xacts;
    this.#before = Object.assign(new PoolCounters(), now);
  }
}
