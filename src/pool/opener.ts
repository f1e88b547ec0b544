/** Opens a pool's connections, and remembers that its server has just refused one. */
import { errorText } from '../errors.ts';
import { lacksDescriptor, NO_DESCRIPTOR } from '../net/descriptors.ts';
import { ServerConnection } from '../server/connection.ts';
import { ServerLoginError } from '../server/login.ts';
import type { ConnectOptions } from '../server/options.ts';
import type { SettingsProfile } from '../server/parameters.ts';

/** The pool that connections are opened for. */
export interface OpenerOwner {
  opened(connection: ServerConnection): void;
  /** No server takes these startup settings. */
  settingsRefused(startup: SettingsProfile, error: ServerLoginError): void;
  /** The server could not be reached or refused the login; `sqlstate` is '' when it did not say why. */
  openFailed(cause: string, sqlstate: string): void;
}

/** Milliseconds before a server that refused a connection is asked for another by a pool that has some. */
const REFUSED_RETRY_MS = 1000;

/** Share of server_lifetime by which connections end earlier than each other, so that they don't all end at once. */
const LIFETIME_SPREAD = 0.1;

/** SQLSTATE of whoever has no file descriptor left, here as in PostgreSQL. */
export const INSUFFICIENT_RESOURCES = '53000';
/** SQLSTATE of a server that comes up, from a crash perhaps: it serves soon. */
const CANNOT_CONNECT_NOW = '57P03';
/** Milliseconds after it has left in which a server that cannot be reached is likely to be back soon. */
const RECOVERY_MS = 5000;

export class Opener {
  /** Connections being opened. */
  count = 0;
  readonly #owner: OpenerOwner;
  readonly #server_lifetime: number;
  /** The last attempt, if it failed, and when. */
  #refused: { readonly cause: string; readonly at: number } | undefined;
  /** When the server last ended a connection, or was lost. */
  #left_at = Number.NEGATIVE_INFINITY;

  /** Connections may be used for `server_lifetime` ms. */
  constructor(owner: OpenerOwner, server_lifetime: number) {
    this.#owner = owner;
    this.#server_lifetime = server_lifetime;
  }

  /** Why the last attempt failed, if it did. */
  get refusal(): string | undefined {
    return this.#refused?.cause;
  }

  /** Whether the server refused a connection so recently that it is better not asked for another. */
  get wasRefused(): boolean {
    return this.#refused !== undefined && performance.now() - this.#refused.at < REFUSED_RETRY_MS;
  }

  /** The server ended a connection, or was lost. */
  serverLeft(): void {
    this.#left_at = performance.now();
  }

  /** Whether a server that has failed a login with this SQLSTATE is likely to take one soon. */
  isComingUp(sqlstate: string): boolean {
    return sqlstate === CANNOT_CONNECT_NOW || performance.now() - this.#left_at < RECOVERY_MS;
  }

  /** Opens one; `isUsual` when it asks for no settings of a client's, so that refusing it is the server's fault. */
  open(options: ConnectOptions, isUsual: boolean): void {
    this.count++;
    ServerConnection.open(options).then(
      connection => {
        this.count--;
        this.#refused = undefined;
        const lifetime = this.#server_lifetime * (1 - Math.random() * LIFETIME_SPREAD);
        connection.expires_at = connection.opened_at + lifetime;
        this.#owner.opened(connection);
      },
      error => {
        this.count--;
        const isTold = error instanceof ServerLoginError;
        if (!isUsual && isTold && error.concernsSettings) return this.#owner.settingsRefused(options.startup, error);
        const lacks = lacksDescriptor(error);
        const cause = lacks ? NO_DESCRIPTOR : errorText(error);
        this.#refused = { cause, at: performance.now() };
        this.#owner.openFailed(cause, isTold ? error.sqlstate : lacks ? INSUFFICIENT_RESOURCES : '');
      },
    );
  }
}
