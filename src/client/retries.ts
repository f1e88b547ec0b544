/** Sends a batch that has not taken place once more: on its connection, on another, or on another server. */
import type { Cluster } from '../pool/cluster.ts';
import type { LeaseSource } from '../pool/lease.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Exchange } from '../server/exchange.ts';
import type { Batch } from './batch.ts';
import type { Claim } from './claim.ts';
import { forwardBatch } from './forward.ts';
import type { ClientRouting } from './routing.ts';

/** The session whose batch it is. */
export interface RetriedOwner {
  readonly connection: ServerConnection | undefined;
  readonly pool: LeaseSource | undefined;
  readonly cluster: Cluster;
  readonly shared: boolean;
  readonly exchange: Exchange;
  readonly batch: Batch;
  readonly routing: ClientRouting;
  readonly claim: Claim;
  /** Leaves its place on a shared connection. */
  leave(): void;
  /** Gives the connection back, if it is still one. */
  letGo(): void;
  /** The batch that was sent waits for a connection again. */
  waits(): void;
}

/** How often a batch is sent once more before its client is told what befell it. */
const ATTEMPTS_MAX = 5;
/** How often among those of others. */
const SHARED_MAX = 3;
/** How often at most because a server ended it. */
const ENDS_MAX = 2;

export class Retries {
  /** Whether the client has asked to cancel the batch that is under way. */
  canceled = false;

  readonly #owner: RetriedOwner;
  #attempts = 0;
  /** How often a server has ended it with an error that another might not. */
  #ends = 0;
  /** Servers that did not bring it to its end. */
  #failed: LeaseSource[] = [];

  constructor(owner: RetriedOwner) {
    this.#owner = owner;
  }

  /** A batch is sent for the first time. */
  begin(): void {
    this.canceled = false;
    this.#attempts = 0;
    this.#ends = 0;
    if (this.#failed.length > 0) this.#failed = [];
  }

  /** Whether the batch may be sent once more, should it not take place. */
  get left(): boolean {
    return this.#attempts < ATTEMPTS_MAX;
  }

  /** Whether it may be sent to another server. */
  get mayRescue(): boolean {
    // Who has given up a read does not want it from another server.
    return this.#ends < ENDS_MAX && this.left && !this.canceled;
  }

  /** Sends it once more on the same connection, which may not hold the statements that it was taken to hold. */
  repeat(): void {
    const { connection, batch, exchange, shared } = this.#owner;
    if (connection === undefined) return;
    for (const { statement } of batch.items) if (statement !== undefined) connection.statements.doubt(statement);
    if (shared) return this.again(false);
    batch.assume(connection);
    exchange.reset();
    connection.enqueue(exchange);
    forwardBatch(batch, connection, exchange);
    if (this.canceled) connection.cancelExchange(exchange);
  }

  /** Leaves its place on a shared connection, where it has not begun, and looks for another. */
  move(): void {
    this.#count();
    this.#owner.leave();
    this.#owner.waits();
    this.#owner.claim.again();
  }

  /** Sends it once more; `alone` when nothing is to be sent behind it. */
  again(alone: boolean): void {
    const { batch, claim } = this.#owner;
    this.#count();
    this.#attempts++;
    this.#owner.letGo();
    batch.assume(undefined);
    claim.lease.exclusive ||= alone;
    // What others do has stood in its way often enough.
    if (this.#attempts >= SHARED_MAX) claim.lease.shareable = false;
    this.#owner.waits();
    claim.again();
  }

  /** Whether what this error, or the loss of the connection, ended may be sent to another server. */
  rescues(error: ReadonlyMap<string, string> | undefined): boolean {
    const { batch, routing, pool } = this.#owner;
    return this.mayRescue && batch.read === true && routing.rescues(error, pool);
  }

  /** Sends it there; `refused` when a replica took it for a write, `crash` when the server was lost without a word. */
  rescue(refused: boolean, crash: string | undefined): void {
    const { pool, batch, routing, claim, cluster } = this.#owner;
    if (pool === undefined) return;
    const { isFree } = routing;
    routing.rescued(batch.demand, refused, pool);
    if (crash !== undefined) pool.lost(crash);
    this.#failed = [...this.#failed.filter(failed => failed !== pool), pool];
    this.#owner.letGo();
    batch.assume(undefined);
    // A server that was lost without a word may be lost again before it is back; who ends a read means it in the end.
    this.#attempts++;
    if (refused) this.#ends = ENDS_MAX;
    else if (crash === undefined) this.#ends++;
    if (refused) claim.lease.role = 'primary';
    else if (isFree) claim.lease.role = 'any';
    this.#owner.waits();
    if (refused || (isFree && cluster.hasOther(pool))) claim.elsewhere(this.#failed);
    else claim.again();
  }

  #count(): void {
    const { pool } = this.#owner;
    if (pool !== undefined) pool.counters.moved_count++;
  }
}
