/** One client's place on its connection: how it keeps others waiting when it does not read, and how it leaves. */
import { type PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { Cluster } from '../pool/cluster.ts';
import { Husk } from '../pool/husk.ts';
import type { Lease, LeaseSource } from '../pool/lease.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Exchange } from '../server/exchange.ts';
import type { Tally } from './tally.ts';

/** The session that has the place. */
export interface PlacedOwner {
  readonly connection: ServerConnection | undefined;
  readonly pool: LeaseSource | undefined;
  readonly exchange: Exchange;
  readonly cluster: Cluster;
  readonly tally: Tally;
  /** Whether the connection is shared with others, not its own. */
  readonly shared: boolean;
  /** Ends the session with an error. */
  close(error: PgError): void;
}

/** Bytes that wait for a client who does not read before those behind it are sent elsewhere. */
const WAITING_LENGTH_MAX = 256 * 1024;
/** Milliseconds for which a client may read nothing at all while others wait for its connection. */
const UNREAD_MAX_MS = 30;

export class Place {
  readonly #owner: PlacedOwner;
  readonly #lease: Lease;
  readonly #outbox: Outbox;
  /** Bytes that waited for the client when that was last looked at, and since when it is so many. */
  #waiting = 0;
  #waiting_since = 0;

  constructor(owner: PlacedOwner, lease: Lease, outbox: Outbox) {
    this.#owner = owner;
    this.#lease = lease;
    this.#outbox = outbox;
  }

  /** What was sent goes on as nobody's; `isUnwanted` when it may also be canceled. */
  leave(isUnwanted: boolean): void {
    const { expected_us, exclusive, sent_at } = this.#lease;
    const { exchange, connection, pool } = this.#owner;
    if (connection === undefined || pool === undefined) return;
    const isLong = exclusive || (connection.load.stalled && connection.isHead(exchange));
    this.drained();
    exchange.disown(new Husk(connection, pool, { expected_us, exclusive, sent_at }, isUnwanted));
    // Nobody could be served behind it until it is over.
    if (isUnwanted && isLong) connection.cancelExchange(exchange);
  }

  /** The client's socket is full: nothing more is sent behind its exchange, and what is there already must not wait. */
  full(): void {
    const { connection, shared, cluster } = this.#owner;
    if (connection === undefined) return;
    const { load } = connection;
    // What may be large is as if it had the connection for itself.
    load.stalled = shared && !this.#lease.large;
    if (!shared || load.depth === 1) return connection.pause();
    const waiting_bytes = this.#outbox.unsent_bytes;
    const { max_reply_memory } = cluster.settings.limits;
    if (waiting_bytes < Math.min(WAITING_LENGTH_MAX, max_reply_memory)) return;
    if (connection.queue.moveWaiting()) connection.pause();
    else if (waiting_bytes > max_reply_memory) this.#owner.close(pgError('reply_unread', waiting_bytes));
  }

  /** Others wait: the client is closed when it has not read for a while. */
  unread(): void {
    const { connection, tally } = this.#owner;
    const now = performance.now();
    const waiting_bytes = this.#outbox.unsent_bytes;
    // It is known to be large from now on.
    tally.waits(waiting_bytes);
    if (waiting_bytes !== this.#waiting) {
      this.#waiting = waiting_bytes;
      this.#waiting_since = now;
    } else if (now - this.#waiting_since > UNREAD_MAX_MS) {
      const error = pgError('reply_unread', waiting_bytes);
      this.#owner.close(error);
      // The rest may be long: a new connection is there sooner.
      if (connection?.queue.moveWaiting()) connection.close(error.message);
    }
  }

  /** It has room again. */
  drained(): void {
    const { connection, exchange, shared } = this.#owner;
    // Where it waits behind others, it is not for its sake that nothing is read.
    if (connection === undefined || (shared && !connection.isHead(exchange))) return;
    connection.load.stalled = false;
    connection.resume();
  }
}
