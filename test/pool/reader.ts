/** A cluster of pglynx without clients, and the reader of its catalog. */

import { randomBytes } from 'node:crypto';
import { KeyCache } from '../../src/auth/secret.ts';
import { type ClusterSettings, clusterSettings } from '../../src/config/cluster.ts';
import { parseConfig } from '../../src/config/load.ts';
import { Credentials } from '../../src/net/credentials.ts';
import { SYSTEM_NETWORK } from '../../src/net/network.ts';
import { Caps } from '../../src/pool/caps.ts';
import { Cluster } from '../../src/pool/cluster.ts';
import { Gates } from '../../src/pool/gates.ts';
import { SchemaReader } from '../../src/pool/schema.ts';
import { ProfileCatalog } from '../../src/server/parameters.ts';
import { Ledger } from '../../src/stats/ledger.ts';
import { configText, type ProxyOptions } from '../proxy/index.ts';

type Servers = Parameters<typeof configText>[0];

/** What differs from a pool's defaults. */
export interface ReaderOptions extends ProxyOptions {
  readonly columns?: boolean;
  readonly settings?: Partial<ClusterSettings>;
}

/** The reader of alice's cluster; what it logs is kept. */
export class TestReader implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly reader: SchemaReader;
  readonly warnings: string[] = [];

  constructor(servers: Servers, { columns = false, settings, ...options }: ReaderOptions = {}) {
    const { config } = parseConfig(configText(servers, { users: ['alice'], ...options }), 'pglynx.toml', {});
    const [usual] = clusterSettings(config);
    if (usual === undefined) throw new Error('the configuration has no cluster');
    this.cluster = new Cluster(
      { ...usual, ...settings },
      {
        keys: new KeyCache(randomBytes(32)),
        profiles: new ProfileCatalog(),
        log: {
          info: () => {},
          warn: (_fields, text) => this.warnings.push(text),
        },
        network: SYSTEM_NETWORK,
        encryption: settings => new Credentials().encryption(settings),
        ledger: new Ledger(),
        gates: new Gates(),
        caps: new Caps(),
      },
    );
    this.reader = new SchemaReader(this.cluster, columns);
  }

  /** One that has read. */
  static async start(servers: Servers, options: ReaderOptions = {}): Promise<TestReader> {
    const made = new TestReader(servers, options);
    made.reader.start();
    await made.reader.ready;
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reader.stop();
    this.cluster.retire();
    for (const pool of this.cluster.pools) pool.destroy();
  }
}
