/** Lets clients in: finds what is known of whoever asks, and has it proved. */
import type { KeyCache } from '../auth/secret.ts';
import type { ClusterSettings } from '../config/cluster.ts';
import type { Config } from '../config/schema.ts';
import type { Registry } from '../pool/registry.ts';
import { type Account, authenticate, type LoginRequest, type StartupChannel } from './startup.ts';

/** Names under which clients reach the admin database. */
const ADMIN_DATABASES: readonly string[] = ['pgcat', 'pgbouncer'];

/** Whether this is the admin database. */
export function isAdminDatabase(database: string): boolean {
  return ADMIN_DATABASES.includes(database);
}

/** What a client may do that has proved who it is. */
export interface Admission {
  /** In the admin database: look, and change nothing. */
  readonly mayOnlyShow: boolean;
}

/** What logins need of the process. */
export interface LoginContext {
  readonly keys: KeyCache;
  readonly registry: Registry;
  general(): Config['general'];
}

export class Logins {
  readonly #context: LoginContext;

  constructor(context: LoginContext) {
    this.#context = context;
  }

  /**
   * Has a client prove who it is.
   * @throws PgError it did not, or may not come in
   */
  async authenticate(channel: StartupChannel, request: LoginRequest): Promise<Admission> {
    const { database, user } = request;
    const isAdmin = isAdminDatabase(database);
    const account = isAdmin ? this.#adminAccount(user) : this.#account(database, user);
    await authenticate(channel, user, account, this.#context.keys);
    return { mayOnlyShow: isAdmin && user === this.#context.general().stats_username };
  }

  #adminAccount(user: string): Account {
    const { admin_username, admin_password, admin_auth_type, stats_username, stats_password } = this.#context.general();
    const password = user === admin_username ? admin_password : user === stats_username ? stats_password : undefined;
    return { auth_type: admin_auth_type, password };
  }

  /** Nobody learns from the exchange whether a user or a database exists: strangers get the one that others get. */
  #account(database: string, user: string): Account {
    const { registry } = this.#context;
    const exact = registry.find(database, user);
    if (exact !== undefined) return exact.settings;
    const clusters: ClusterSettings[] = [...registry.clusters].map(({ settings }) => settings);
    const knownDatabase = clusters.find(settings => settings.database === database);
    const namesake = knownDatabase === undefined ? clusters.find(settings => settings.username === user) : undefined;
    if (namesake !== undefined) return namesake;
    const usual = (knownDatabase ?? clusters[0])?.auth_type;
    return { auth_type: usual === 'scram-sha-256' ? usual : 'md5', password: undefined };
  }
}
