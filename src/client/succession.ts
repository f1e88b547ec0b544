/** How a session goes over to the cluster that a reload has put in the place of its own. */
import { type PgError, pgError } from '../errors.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { Batch } from './batch.ts';
import type { ClientRouting } from './routing.ts';
import type { ClientSettings } from './settings.ts';
import type { ClientStatements } from './statements.ts';

/** The session that goes over. */
export interface SucceedingOwner {
  readonly database: string;
  readonly user: string;
  readonly routing: ClientRouting;
  readonly settings: ClientSettings;
  readonly statements: ClientStatements;
  readonly batch: Batch;
  /** Whether statements must be inspected. */
  readonly inspects: boolean;
  cluster: Cluster;
  /** Ends the session with an error. */
  close(error: PgError): void;
}

export class Succession {
  readonly #owner: SucceedingOwner;
  readonly #clusterFor: (database: string, user: string) => Cluster | undefined;

  /** `clusterFor` finds the cluster in use. */
  constructor(owner: SucceedingOwner, clusterFor: (database: string, user: string) => Cluster | undefined) {
    this.#owner = owner;
    this.#clusterFor = clusterFor;
  }

  /** Goes over, between batches; false when there is no cluster any more, and the session is closed. */
  takePlace(): boolean {
    const owner = this.#owner;
    const cluster = this.#clusterFor(owner.database, owner.user);
    if (cluster === undefined) {
      owner.close(pgError('pool_removed', owner.database, owner.user));
      return false;
    }
    owner.cluster = cluster;
    owner.routing.configure(cluster);
    owner.settings.configure(cluster);
    owner.statements.max = cluster.settings.limits.max_client_prepared_statements;
    return true;
  }

  /** Goes over with a batch that is here and was not sent: what it means there is judged anew. */
  takeBatch(): boolean {
    if (!this.takePlace()) return false;
    this.#owner.batch.renew(this.#owner.inspects);
    return true;
  }
}
