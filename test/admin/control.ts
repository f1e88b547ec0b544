/** A process for the console to look into, with real clusters that have no connections, and clients as a test says. */
import type { ClientView, ControlPlane, ShutdownMode } from '../../src/admin/control.ts';
import { Steering } from '../../src/admin/steering.ts';
import { KeyCache } from '../../src/auth/secret.ts';
import { clusterSettings } from '../../src/config/cluster.ts';
import type { ServerTlsSettings } from '../../src/config/encryption.ts';
import { parseConfig } from '../../src/config/load.ts';
import { settingRows } from '../../src/config/rows.ts';
import { Credentials } from '../../src/net/credentials.ts';
import { SYSTEM_NETWORK } from '../../src/net/network.ts';
import { Caps } from '../../src/pool/caps.ts';
import type { Cluster } from '../../src/pool/cluster.ts';
import { Gates } from '../../src/pool/gates.ts';
import type { Pool } from '../../src/pool/pool.ts';
import { Registry } from '../../src/pool/registry.ts';
import { ProfileCatalog } from '../../src/server/parameters.ts';
import { ClientCounters } from '../../src/stats/counters.ts';
import { Ledger } from '../../src/stats/ledger.ts';

/** Two users on a primary with two replicas, and one on a database of two shards. */
const CONFIG = `
[general]
host = "127.0.0.1"
port = 6432
admin_username = "admin"
admin_password = "secret"
ban_time = 60
[pools.shop]
pool_mode = "transaction"
[pools.shop.users.0]
username = "bob"
password = "secret"
pool_size = 7
min_pool_size = 2
[pools.shop.users.1]
username = "alice"
password = "secret"
pool_size = 3
pool_mode = "session"
[pools.shop.shards.0]
database = "shop_on_server"
servers = [["db0", 5432, "primary"], ["db1", 5433, "replica"], ["db2", 5434, "replica"]]
[pools.events]
[pools.events.users.0]
username = "bob"
password = "secret"
pool_size = 1
[pools.events.shards.0]
database = "events_0"
servers = [["db3", 5432, "primary"]]
[pools.events.shards.1]
database = "events_1"
servers = [["db4", 5432, "primary"]]
`;

/** A process whose parts a test may change. */
export class TestControl implements ControlPlane {
  readonly version = '1.2.3';
  readonly ledger = new Ledger();
  draining = false;
  readonly network = SYSTEM_NETWORK;
  readonly logins = 0;
  readonly #registry: Registry;
  autoNames: { database: string; username: string }[] = [];
  readonly #config = parseConfig(CONFIG, 'pgcat.toml', {}).config;
  sessions: ClientView[] = [];
  readonly shutdowns: ShutdownMode[] = [];
  /** Keys and values of SET. */
  readonly settled: string[][] = [];
  readonly steering: Steering;
  /** What a reload finds. */
  changes: () => Promise<string[]> = async () => [];

  constructor() {
    const log = { info: () => {}, warn: () => {} };
    const context = {
      keys: new KeyCache(Buffer.alloc(32)),
      profiles: new ProfileCatalog(),
      log,
      network: SYSTEM_NETWORK,
      encryption: (settings: ServerTlsSettings) => new Credentials().encryption(settings),
      ledger: this.ledger,
      gates: new Gates(),
      caps: new Caps(),
    };
    this.#registry = new Registry(context, {
      idle_timeout_ms: () => 1000,
      pools_max: () => 1,
      clients: () => [],
      settings: () => undefined,
    });
    this.#registry.replace(this.#registry.plan(clusterSettings(this.#config)));
    this.steering = new Steering({
      registry: this.#registry,
      sessions: () => [],
      consoles: () => [],
      suspend_timeout: () => 100,
    });
  }

  clusters(): Cluster[] {
    return [...this.#registry.clusters];
  }

  /** The cluster of this database and user, with the pool of this server in it. */
  pool(database: string, user: string, server: string): { cluster: Cluster; pool: Pool } {
    for (const cluster of this.#registry.clusters) {
      if (cluster.settings.database !== database || cluster.settings.username !== user) continue;
      const pool = cluster.pools.find(({ address }) => address.name === server);
      if (pool !== undefined) return { cluster, pool };
    }
    throw new Error(`the test has no ${database}/${user} on ${server}`);
  }

  clients(): ClientView[] {
    return this.sessions;
  }

  settings() {
    return settingRows(this.#config);
  }

  reload(): Promise<string[]> {
    return this.changes();
  }

  async set(path: readonly string[], value: string): Promise<string[]> {
    this.settled.push([...path, value]);
    return [];
  }

  shutdown(mode: ShutdownMode): void {
    this.shutdowns.push(mode);
  }
}

/** What is known of a client besides its user and state. */
export interface ClientFacts {
  readonly database?: string;
  /** How long it has waited until now. */
  readonly wait_ms?: number;
  /** How long ago it connected. */
  readonly age_ms?: number;
  readonly counters?: Partial<ClientCounters>;
}

/** A client of the database shop, unless the facts say otherwise. */
export function client(id: number, user: string, state: ClientView['state'], facts: ClientFacts = {}): ClientView {
  const { database = 'shop', wait_ms = 0, age_ms = 0, counters = {} } = facts;
  return {
    id,
    database,
    user,
    application_name: `app ${id}`,
    state,
    counters: Object.assign(new ClientCounters(), counters),
    connected_at: performance.now() - age_ms,
    socket: {
      remoteAddress: '10.0.0.1',
      remotePort: 4000 + id,
      localAddress: '10.0.0.2',
      localPort: 6432,
      writableLength: 0,
    },
    tls: undefined,
    waiting_ms: () => wait_ms,
  };
}
