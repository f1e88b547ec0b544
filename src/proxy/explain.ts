/** Where a statement would go under a configuration, and why, without any server. */
import { randomBytes } from 'node:crypto';
import { KeyCache } from '../auth/secret.ts';
import { ClientRouting } from '../client/routing.ts';
import { ClientSettings } from '../client/settings.ts';
import { clusterSettings, WILDCARD } from '../config/cluster.ts';
import type { LoadedConfig } from '../config/load.ts';
import { unlistedSettings } from '../config/wildcards.ts';
import { Credentials } from '../net/credentials.ts';
import { SYSTEM_NETWORK } from '../net/network.ts';
import { Caps } from '../pool/caps.ts';
import { Cluster, type ClusterContext } from '../pool/cluster.ts';
import { Gates } from '../pool/gates.ts';
import { ProfileCatalog } from '../server/parameters.ts';
import { Ledger } from '../stats/ledger.ts';
import { analyzerFor } from './analyzer.ts';

/**
 * The rows of EXPLAIN ROUTE for a text under a configuration, without any server: functions that are not PostgreSQL's
 * own count as writes. Database and user are the first of the file unless they are given.
 * @throws Error there is no such database or user
 */
export async function explainText(
  loaded: LoadedConfig,
  text: string,
  wanted: { readonly database?: string; readonly user?: string },
): Promise<string[][]> {
  const { config } = loaded;
  const listed = clusterSettings(config).find(
    ({ database, username }) => database === (wanted.database ?? database) && username === (wanted.user ?? username),
  );
  const settings = listed ?? unlistedSettings(config, wanted.database ?? WILDCARD, wanted.user ?? WILDCARD);
  if (settings === undefined) throw new Error('the configuration has no pool of this database and user');
  const profiles = new ProfileCatalog();
  const nobody = { info: () => undefined, warn: () => undefined };
  const keys = new KeyCache(randomBytes(32));
  const context: ClusterContext = {
    keys,
    profiles,
    log: nobody,
    network: SYSTEM_NETWORK,
    encryption: settings => new Credentials().encryption(settings),
    ledger: new Ledger(),
    caps: new Caps(),
    gates: new Gates(),
  };
  const cluster = new Cluster(settings, context);
  const client = new ClientSettings(profiles.defaults, '', cluster);
  const routing = new ClientRouting(await analyzerFor(loaded), client, cluster);
  const bytes = Buffer.from(text);
  return routing.explain(bytes, 0, bytes.length, { held: undefined, begun: undefined, whole: true });
}
