/** What a session is given: what its login found out, and what all sessions share. */

import type { TlsFacts } from '../net/tls.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { Inspector } from '../routing/judge.ts';
import type { SettingsProfile } from '../server/parameters.ts';

/** What a login found out. */
export interface SessionLogin {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly application_name: string;
  /** Undefined when the connection is not encrypted. */
  readonly tls: TlsFacts | undefined;
  readonly cluster: Cluster;
  readonly profile: SettingsProfile;
}

/** What all sessions share. */
export interface SessionContext {
  readonly inspector: Inspector;
  /** The cluster that serves this database and user now; undefined when a reload removed it. */
  clusterFor(database: string, user: string): Cluster | undefined;
  /** The session is over. */
  ended(cause: string): void;
}
