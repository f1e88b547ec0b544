/** Opens a pool's connections, and remembers what its server said when it refused one: the next is tried after a pause. */
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
  /** The server could not be reached or refused the login. */
  openFailed(failure: Failure): void;
}

/** Why a connection could not be opened; `sqlstate` is '' when the server did not say. */
export interface Failure {
  readonly cause: string;
  readonly sqlstate: string;
}

/** Times in milliseconds. */
export interface OpenerSettings {
  /** How long connections may be used. */
  readonly server_lifetime: number;
  readonly limits: { readonly server_login_retry: number };
}

/** Milliseconds of the first pause after a server refused a login, and after it could not be reached; each is twice as long. */
const TOLD_PAUSE_MS = 50;
const UNTOLD_PAUSE_MS = 10;
/** The longest where it could not be reached: to try costs it nothing, and it is found soon. */
const UNTOLD_PAUSE_MAX_MS = 250;
/** Milliseconds after which a server that comes up is asked again. */
const COMING_UP_PAUSE_MS = 50;

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
  readonly #settings: OpenerSettings;
  /** When, on the clock of `performance.now()`, the next attempt is due. */
  retry_at = Number.NEGATIVE_INFINITY;
  /** The last attempt, if it failed. */
  #failure: Failure | undefined;
  /** Attempts that have failed since the last that did not. */
  #failures = 0;
  /** When the server last ended a connection, or was lost. */
  #left_at = Number.NEGATIVE_INFINITY;

  constructor(owner: OpenerOwner, settings: OpenerSettings) {
    this.#owner = owner;
    this.#settings = settings;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Whether the server itself said why. */
  get isTold(): boolean {
    return this.#failure !== undefined && isTold(this.#failure.sqlstate);
  }

  /** Why the last attempt failed, if it did. */
  get refusal(): string | undefined {
    return this.#failure?.cause;
  }

  /** Whether the server refused a connection so recently that it is better not asked for another. */
  get wasRefused(): boolean {
    return this.#failure !== undefined && performance.now() < this.retry_at;
  }

  /** The server ended a connection, or was lost. */
  serverLeft(): void {
    this.#left_at = performance.now();
  }

  /** Whether a server that has failed a login with this SQLSTATE is likely to take one soon. */
  isComingUp(sqlstate: string): boolean {
    // One that gives another reason is there.
    const hasLeft = performance.now() - this.#left_at < RECOVERY_MS;
    return sqlstate === CANNOT_CONNECT_NOW || (hasLeft && !isTold(sqlstate));
  }

  /** Opens one; `isUsual` when it asks for no settings of a client's, so that refusing it is the server's fault. */
  open(options: ConnectOptions, isUsual: boolean): void {
    this.count++;
    ServerConnection.open(options).then(
      connection => {
        this.count--;
        this.#failure = undefined;
        this.#failures = 0;
        const lifetime = this.#settings.server_lifetime * (1 - Math.random() * LIFETIME_SPREAD);
        connection.expires_at = connection.opened_at + lifetime;
        this.#owner.opened(connection);
      },
      error => {
        this.count--;
        const isTold = error instanceof ServerLoginError;
        if (!isUsual && isTold && error.concernsSettings) return this.#owner.settingsRefused(options.startup, error);
        const lacks = lacksDescriptor(error);
        const cause = lacks ? NO_DESCRIPTOR : errorText(error);
        this.#fail({ cause, sqlstate: isTold ? error.sqlstate : lacks ? INSUFFICIENT_RESOURCES : '' });
      },
    );
  }

  #fail(failure: Failure): void {
    // Others that were tried at the same time say no more than the first.
    const isFirst = !this.wasRefused;
    this.#failure = failure;
    if (isFirst) this.retry_at = performance.now() + this.#pause(failure);
    this.#owner.openFailed(failure);
  }

  /** Milliseconds until the next attempt; those of several pools are not to come at the same time. */
  #pause({ sqlstate }: Failure): number {
    const { server_login_retry } = this.#settings.limits;
    const [first, longest] = isTold(sqlstate)
      ? [TOLD_PAUSE_MS, server_login_retry]
      : [UNTOLD_PAUSE_MS, Math.min(server_login_retry, UNTOLD_PAUSE_MAX_MS)];
    const grown = Math.min(longest, first * 2 ** Math.min(this.#failures++, DOUBLINGS_MAX));
    const pause_ms = this.isComingUp(sqlstate) ? COMING_UP_PAUSE_MS : grown;
    return pause_ms * (1 - Math.random() / 2);
  }
}

const DOUBLINGS_MAX = 20;

/** Whether this SQLSTATE came from the server. */
export function isTold(sqlstate: string): boolean {
  return sqlstate !== '' && sqlstate !== INSUFFICIENT_RESOURCES;
}
