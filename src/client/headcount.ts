/** How many clients there are: in all, of each pool, and of each user in it; the limits on that are kept here. */
import { pgError } from '../errors.ts';

/** Limits of a pool and of a user in it; 0 is none. */
export interface SeatLimits {
  readonly max_pool_clients: number;
  readonly max_user_clients: number;
}

export class Headcount {
  /** Clients of the process, those who log in included. */
  all = 0;
  readonly #counts = new Map<string, number>();

  /** Clients of a pool, or of one user in it, who have logged in. */
  of(database: string, user?: string): number {
    return this.#counts.get(nameOf(database, user)) ?? 0;
  }

  /**
   * Lets in one more client, of whom nothing but the wish for a session is known.
   * @throws PgError there are `max_client_conn` already
   */
  admit(max_client_conn: number): Seat {
    if (max_client_conn > 0 && this.all >= max_client_conn) throw pgError('too_many_clients', max_client_conn);
    this.all++;
    return new Seat(this);
  }

  /** Counts so many more, or fewer, clients of a pool and of a user in it. */
  count(database: string, user: string, more: number): void {
    for (const name of [nameOf(database, undefined), nameOf(database, user)]) {
      const count = (this.#counts.get(name) ?? 0) + more;
      if (count === 0) this.#counts.delete(name);
      else this.#counts.set(name, count);
    }
  }
}

/** One client's place in the count. */
export class Seat {
  readonly #headcount: Headcount;
  #taken: { readonly database: string; readonly user: string } | undefined;
  #left = false;

  constructor(headcount: Headcount) {
    this.#headcount = headcount;
  }

  /**
   * The client has proved who it is.
   * @throws PgError the pool, or the user in it, has as many clients as it may
   */
  take(database: string, user: string, { max_pool_clients, max_user_clients }: SeatLimits): void {
    const headcount = this.#headcount;
    if (max_pool_clients > 0 && headcount.of(database) >= max_pool_clients)
      throw pgError('too_many_pool_clients', max_pool_clients, database);
    if (max_user_clients > 0 && headcount.of(database, user) >= max_user_clients)
      throw pgError('too_many_user_clients', max_user_clients, user, database);
    if (this.#left || this.#taken !== undefined) return;
    headcount.count(database, user, 1);
    this.#taken = { database, user };
  }

  /** The client is gone; said once or several times. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#headcount.all--;
    if (this.#taken !== undefined) this.#headcount.count(this.#taken.database, this.#taken.user, -1);
  }
}

function nameOf(database: string, user: string | undefined): string {
  return JSON.stringify(user === undefined ? [database] : [database, user]);
}
