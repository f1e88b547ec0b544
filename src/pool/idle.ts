/** The server connections of a pool that nobody uses, and which of them is taken first. */
import type { ServerConnection } from '../server/connection.ts';
import type { Lease } from './lease.ts';

export class IdleConnections {
  readonly #connections: ServerConnection[] = [];
  readonly #roundRobin: boolean;

  /** `roundRobin` takes the one that was idle longest first, not the one that was used last. */
  constructor(roundRobin: boolean) {
    this.#roundRobin = roundRobin;
  }

  get length(): number {
    return this.#connections.length;
  }

  /** The one that was idle longest. */
  get first(): ServerConnection | undefined {
    return this.#connections[0];
  }

  /** All of them, as they are now. */
  list(): ServerConnection[] {
    return [...this.#connections];
  }

  add(connection: ServerConnection): void {
    this.#connections.push(connection);
  }

  remove(connection: ServerConnection): void {
    const at = this.#connections.indexOf(connection);
    if (at !== -1) this.#connections.splice(at, 1);
  }

  /** Takes one out and ends it. */
  close(connection: ServerConnection, cause: string): void {
    this.remove(connection);
    connection.close(cause);
  }

  /** Ends all of them. */
  closeAll(cause: string): void {
    for (const connection of this.list()) this.close(connection, cause);
  }

  /** Takes out the one that serves a claim best. */
  take({ startup, shareable, profile }: Lease): ServerConnection | undefined {
    const idle = this.#connections;
    if (idle.length === 0) return undefined;
    if (shareable && !this.#roundRobin) {
      const own = idle.findLastIndex(connection => connection.profile === profile);
      if (own !== -1) return idle.splice(own, 1)[0];
    }
    const fits = ({ options }: ServerConnection) => options.startup === startup;
    const at = this.#roundRobin ? idle.findIndex(fits) : idle.findLastIndex(fits);
    if (at <= 0) return at === 0 ? idle.shift() : undefined;
    return at === idle.length - 1 ? idle.pop() : idle.splice(at, 1)[0];
  }
}
