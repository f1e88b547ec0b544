/** What is left on a shared connection of an exchange that its client has let go of: it runs to its end for nobody. */
import type { ServerConnection } from '../server/connection.ts';
import type { Share } from '../server/load.ts';
import { SilentOwner } from '../server/silent.ts';
import type { LeaseSource } from './lease.ts';

export class Husk extends SilentOwner {
  #isUnwanted: boolean;

  /** `isUnwanted` when it may be canceled, should others wait behind it. */
  constructor(connection: ServerConnection, pool: LeaseSource, share: Share, isUnwanted: boolean) {
    super(() => pool.settle(connection, share, performance.now()));
    this.#isUnwanted = isUnwanted;
  }

  override yields(): boolean {
    const yields = this.#isUnwanted;
    this.#isUnwanted = false;
    return yields;
  }
}
