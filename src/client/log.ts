/** What the log says of clients: who comes, who goes and why, and who could not come in. */
import { errorText, type PgError } from '../errors.ts';
import type { TlsFacts } from '../net/tls.ts';

/** Where it is told. */
export interface LogLines {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** The settings that decide the level. */
export interface ClientLogSettings {
  readonly log_client_connections: boolean;
  readonly log_client_disconnections: boolean;
}

/** A client that has logged in. */
export interface LoggedClient {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly application_name: string;
  readonly connected_at: number;
}

export class ClientLog {
  readonly #log: LogLines;
  readonly #settings: () => ClientLogSettings;

  constructor(log: LogLines, settings: () => ClientLogSettings) {
    this.#log = log;
    this.#settings = settings;
  }

  connected(client: LoggedClient, address: string, tls: TlsFacts | undefined): void {
    const { id, database, user, application_name } = client;
    const fields = { client: id, database, user, address, application_name, tls: tls?.version };
    this.#log[this.#settings().log_client_connections ? 'info' : 'debug'](fields, 'Client connected');
  }

  disconnected(client: LoggedClient, address: string, cause: string): void {
    const { id, database, user, connected_at } = client;
    const duration_ms = Math.round(performance.now() - connected_at);
    const fields = { client: id, database, user, address, duration_ms, cause };
    if (cause.startsWith('internal error')) this.#log.error(fields, 'Client disconnected by a fault of pglynx');
    else this.#log[this.#settings().log_client_disconnections ? 'info' : 'debug'](fields, 'Client disconnected');
  }

  /** A client of the admin database is gone. */
  consoleEnded(client: LoggedClient, address: string, failure: unknown): void {
    const cause = failure === undefined ? 'the admin session ended' : `internal error: ${errorText(failure)}`;
    this.disconnected(client, address, cause);
  }

  loginFailed(address: string, { sqlstate, message, cause }: PgError): void {
    const reason = typeof cause === 'string' ? { cause } : {};
    this.#log.warn({ address, sqlstate, ...reason }, `Login failed: ${message}`);
  }

  /** So many clients could not be let in at all. */
  acceptFailed({ message }: Error, count: number): void {
    this.#log.error({ count }, `Clients could not connect: ${message}`);
  }
}
