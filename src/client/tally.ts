/** Counts what one client's exchanges and transactions do: for itself, its connection, its pool and its templates. */
import type { LeaseSource } from '../pool/lease.ts';
import type { RouteUse } from '../pool/routes.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { ClientCounters } from '../stats/counters.ts';
import { STATUS } from '../wire/protocol.ts';
import type { Batch } from './batch.ts';
import { SlowLog, type SlowOwner } from './slow.ts';

export class Tally {
  readonly counters: ClientCounters;
  /** Milliseconds of `performance.now()` when the transaction under way began. */
  xact_started_at = 0;
  /** The template of the exchange under way, if there is one only. */
  #use: RouteUse | 'none' | 'several' = 'none';
  readonly #slow: SlowLog;

  constructor(counters: ClientCounters, owner: SlowOwner) {
    this.counters = counters;
    this.#slow = new SlowLog(owner);
  }

  /** An exchange begins. */
  begin(): void {
    this.#use = 'none';
    this.#slow.begin();
  }

  /** A batch is sent that does not end its exchange. */
  sent(batch: Batch): void {
    this.#slow.sent(batch);
  }

  /** A template is sent in the exchange under way. */
  note(use: RouteUse): void {
    this.#use = this.#use === 'none' ? use : 'several';
  }

  /** An exchange that began at `began_at` is over. */
  exchangeEnded(
    status: number,
    began_at: number,
    now: number,
    connection: ServerConnection | undefined,
    pool: LeaseSource | undefined,
  ): void {
    const query_time_us = (now - began_at) * 1000;
    const inTransaction = status !== STATUS.idle;
    this.counters.query_count++;
    if (!inTransaction) this.counters.xact_count++;
    if (connection !== undefined) {
      connection.counters.query_count++;
      if (!inTransaction) connection.counters.xact_count++;
    }
    this.#timeUse(query_time_us);
    if (pool === undefined) return;
    const { counters, times } = pool;
    counters.query_count++;
    counters.query_time_us += query_time_us;
    times.query.observe(query_time_us);
    this.#slow.ended(query_time_us / 1000, pool);
    if (inTransaction) return;
    const xact_time_us = (now - this.xact_started_at) * 1000;
    counters.xact_count++;
    counters.xact_time_us += xact_time_us;
    times.xact.observe(xact_time_us);
    this.xact_started_at = now;
  }

  /** A server worked this long on the exchange, between those of others. */
  served(time_us: number, result_bytes: number): void {
    const use = this.#use;
    if (time_us > 0 && use !== 'none' && use !== 'several') use.service.add(time_us, result_bytes);
  }

  /** So much of the reply waits for the client to read it. */
  waits(bytes: number): void {
    const use = this.#use;
    if (use !== 'none' && use !== 'several') use.service.result_bytes = Math.max(use.service.result_bytes, bytes);
  }

  /** Only a statement that was alone is known to have taken this long. */
  #timeUse(time_us: number): void {
    const use = this.#use;
    if (use === 'none' || use === 'several') return;
    use.time_us += time_us;
    use.timed++;
  }
}
