/** How to reach a server and log in. */
import type { KeyCache } from '../auth/secret.ts';
import type { ServerAuthMethod } from '../config/encryption.ts';
import type { Encryption } from '../net/dial.ts';
import type { Network } from '../net/network.ts';
import type { ServerIdentity } from './login.ts';
import type { SettingsProfile } from './parameters.ts';

/** What a connection is opened with. */
export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  /** Undefined for none. */
  readonly encryption: (() => Encryption) | undefined;
  /** Ways to log in that are allowed; undefined for all. */
  readonly require_auth: readonly ServerAuthMethod[] | undefined;
  readonly scram_iterations_max: number;
  readonly identity: ServerIdentity;
  /** The profile that {@link ServerIdentity.settings} make. */
  readonly startup: SettingsProfile;
  readonly keys: KeyCache;
  /** Milliseconds for connecting and logging in together. */
  readonly connect_timeout: number;
  readonly network: Network;
  readonly statements_max: number;
}
