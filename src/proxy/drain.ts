/** The way to the end: no more clients are taken, and those who are here leave, sooner or later. */
import type { ShutdownMode } from '../admin/control.ts';
import { type PgError, pgError } from '../errors.ts';

/** A client that is to leave. */
export interface DrainedClient {
  /** Ends it with this error as soon as it is between transactions. */
  drain(error: PgError): void;
}

/** From patient to impatient. */
const MODES: readonly ShutdownMode[] = ['wait_for_clients', 'wait_for_servers', 'drain'];

export class Drain {
  readonly #clients: ReadonlySet<DrainedClient>;
  readonly #over = Promise.withResolvers<void>();
  #patience = -1;
  #timer: NodeJS.Timeout | undefined;

  /** `clients` are those who are here, at any time. */
  constructor(clients: ReadonlySet<DrainedClient>) {
    this.#clients = clients;
  }

  get begun(): boolean {
    return this.#patience >= 0;
  }

  /** Begins, or goes on with less patience; resolves when nobody is left, or after `limit_ms` in the last mode. */
  begin(mode: ShutdownMode, limit_ms: number): Promise<void> {
    const patience = MODES.indexOf(mode);
    if (patience > this.#patience) {
      this.#patience = patience;
      if (this.#sendsAway) for (const client of [...this.#clients]) client.drain(pgError('shutting_down'));
      if (mode === 'drain') this.#timer = setTimeout(() => this.#over.resolve(), limit_ms);
    }
    this.left();
    return this.#over.promise;
  }

  /** A client has come in that was let in before. */
  joined(client: DrainedClient): void {
    if (this.#sendsAway) client.drain(pgError('shutting_down'));
  }

  /** A client has left. */
  left(): void {
    if (!this.begun || this.#clients.size > 0) return;
    clearTimeout(this.#timer);
    this.#over.resolve();
  }

  get #sendsAway(): boolean {
    return this.#patience > 0;
  }
}
