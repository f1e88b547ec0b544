/** A batch that no server has begun: how its wait ends without a connection, and what its client is told. */
import { type PgError, pgError } from '../errors.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { ClientCounters } from '../stats/counters.ts';
import type { Claim } from './claim.ts';
import type { Intake } from './intake.ts';
import type { SessionPhase } from './phases.ts';
import type { Replies } from './replies.ts';

/** The session whose batch it is. */
export interface WaitingOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly cluster: Cluster;
  readonly claim: Claim;
  readonly counters: ClientCounters;
  /** Whether the client has sent more already. */
  readonly pipelines: boolean;
  /** Leaves its place on a shared connection. */
  leave(): void;
  /** Nothing is under way any more. */
  rest(): void;
  process(): void;
  /** Ends the session with an error. */
  close(error: PgError): void;
}

export class Waiting {
  readonly #owner: WaitingOwner;
  readonly #intake: Intake;
  readonly #replies: Replies;
  #failedCheckouts = 0;

  constructor(owner: WaitingOwner, intake: Intake, replies: Replies) {
    this.#owner = owner;
    this.#intake = intake;
    this.#replies = replies;
  }

  /** Answers the batch with an error instead of having it run; false when a server may have begun with it. */
  giveUp(error: PgError): boolean {
    const owner = this.#owner;
    if (owner.phase === 'waiting' && owner.connection === undefined) owner.claim.withdraw();
    else if (owner.phase === 'active' && this.#replies.leaves()) owner.leave();
    else return false;
    owner.rest();
    this.#intake.failBatch(error);
    owner.process();
    return true;
  }

  /** It has waited too long. */
  end(error: PgError): void {
    this.#owner.claim.withdraw();
    this.fail(error);
  }

  /** It got no connection. */
  fail(error: PgError): void {
    const owner = this.#owner;
    owner.counters.error_count++;
    this.#replies.instead = undefined;
    owner.rest();
    // Statements sent behind this one may rely on it: without a transaction that never began, say.
    if (owner.pipelines || error.severity === 'FATAL') return owner.close(error);
    this.#intake.failBatch(error);
    const limit = owner.cluster.settings.checkout_failure_limit ?? 0;
    if (limit > 0 && ++this.#failedCheckouts >= limit)
      owner.close(pgError('checkout_limit', this.#failedCheckouts, limit));
    owner.process();
  }
}
