/** A real PostgreSQL cluster for tests: a primary, streaming replicas, and users of every authentication method. */
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type QueryResultRow } from 'pg';
import { DemoCluster, type DemoClusterOptions } from '../../src/demo/cluster.ts';
import type { PostgresServer } from '../../src/demo/postgres.ts';
import type { Role } from '../../src/demo/template.ts';

/** The database that every user may write to. */
export const DATABASE = 'bench';

/** The passwords of the test users, by name. */
export const PASSWORDS = {
  alice: "alice's secret",
  bob: 'bob\\secret',
  carol: 'carol secret',
  dave: 'dave secret',
} as const;

const ROLES: readonly Role[] = [
  { name: 'postgres', method: 'trust' },
  { name: 'alice', password: PASSWORDS.alice, method: 'scram-sha-256' },
  { name: 'bob', password: PASSWORDS.bob, method: 'scram-sha-256' },
  { name: 'carol', password: PASSWORDS.carol, method: 'md5' },
  { name: 'dave', password: PASSWORDS.dave, method: 'password' },
];

/** A session of a client in pg_stat_activity. */
export interface Activity {
  readonly pid: number;
  readonly usename: string;
  readonly datname: string;
  readonly application_name: string;
  readonly state: string;
  readonly query: string;
}

export type TestClusterOptions = Pick<DemoClusterOptions, 'replicas' | 'settings' | 'hba'>;

export class TestCluster {
  readonly #cluster: DemoCluster;
  readonly #admins = new Map<string, Client>();

  private constructor(cluster: DemoCluster) {
    this.#cluster = cluster;
  }

  static async start(options: TestClusterOptions): Promise<TestCluster> {
    const parent = await clusterParent();
    const cluster = await DemoCluster.start({
      ...options,
      replicas: options.replicas ?? 0,
      roles: ROLES,
      databases: [
        {
          name: DATABASE,
          sql: [
            'GRANT ALL ON SCHEMA public TO PUBLIC',
            `GRANT CREATE ON DATABASE ${DATABASE} TO PUBLIC`,
            'CREATE EXTENSION pg_stat_statements',
          ],
        },
      ],
      // Fewer processes a server; the rest is the demo's.
      settings: { io_method: 'sync', ...options.settings },
      parent,
      templates: join(parent, `pglynx-templates-${process.getuid?.() ?? 'user'}`),
    });
    return new TestCluster(cluster);
  }

  /** The folder that holds data, logs and sockets until the cluster is stopped. */
  get folder(): string {
    return this.#cluster.folder;
  }

  get primary(): PostgresServer {
    return this.#cluster.primary;
  }

  get replicas(): readonly PostgresServer[] {
    return this.#cluster.replicas;
  }

  /** The replica with this index; asking for one that was not started is an error of the test. */
  replica(index: number): PostgresServer {
    const replica = this.replicas[index];
    if (replica === undefined) throw new Error(`the cluster has ${this.replicas.length} replicas`);
    return replica;
  }

  /** The primary first, then the replicas in order. */
  get servers(): readonly PostgresServer[] {
    return this.#cluster.servers;
  }

  /** A new superuser connection straight to a server, which the caller ends. */
  async connect(server: PostgresServer = this.primary, database: string = DATABASE): Promise<Client> {
    const { host, port } = server;
    const client = new Client({ host, port, user: 'postgres', database, application_name: 'test admin' });
    // A test that stops a server expects its connections to be lost; a query on them still rejects.
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** The superuser connection to a server that all of a test shares; it is opened anew when it was lost. */
  async admin(server: PostgresServer = this.primary): Promise<Client> {
    const open = this.#admins.get(server.name);
    if (open !== undefined) return open;
    const client = await this.connect(server);
    client.once('end', () => this.#admins.delete(server.name));
    this.#admins.set(server.name, client);
    return client;
  }

  /** Runs one statement as the superuser straight on a server and returns its rows. */
  async sql<Row extends QueryResultRow = QueryResultRow>(
    text: string,
    values: readonly unknown[] = [],
    server: PostgresServer = this.primary,
  ): Promise<Row[]> {
    const admin = await this.admin(server);
    const result = await admin.query<Row>(text, [...values]);
    return result.rows;
  }

  /** The client sessions on a server, those of this harness left out. */
  async activity(server: PostgresServer = this.primary): Promise<Activity[]> {
    return this.sql<Activity>(
      `SELECT pid, usename, datname, application_name, state, query FROM pg_stat_activity
       WHERE backend_type = 'client backend' AND application_name <> 'test admin' ORDER BY backend_start, pid`,
      [],
      server,
    );
  }

  /** Returns when every running replica has replayed all that the primary has written until now. */
  async caughtUp(): Promise<void> {
    const [row] = await this.sql<{ lsn: string }>('SELECT pg_current_wal_insert_lsn() AS lsn');
    const running = this.replicas.filter(replica => replica.pid !== undefined);
    for (const replica of running) {
      await eventually(`${replica.name} replays the primary's WAL`, async () => {
        const [replay] = await this.sql<{ done: boolean }>(
          'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS done',
          [row?.lsn],
          replica,
        );
        return replay?.done === true;
      });
    }
  }

  /** Stops the servers and removes the folder. */
  async stop(): Promise<void> {
    await Promise.allSettled([...this.#admins.values()].map(client => client.end()));
    await this.#cluster.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Starts a cluster: a primary alone when `replicas` is absent. */
export function startCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  return TestCluster.start(options);
}

/** Waits until `holds` is true, looking every few milliseconds; fails with `what` after `limit_ms`. */
export async function eventually(
  what: string,
  holds: () => Promise<boolean> | boolean,
  limit_ms = 15_000,
): Promise<void> {
  const deadline = Date.now() + limit_ms;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`not within ${limit_ms} ms: ${what}`);
    await sleep(10);
  }
}

/** Memory where there is plenty (Linux's /dev/shm), since making a thousand files is most of a start; else the usual place. */
async function clusterParent(): Promise<string> {
  const space = await statfs('/dev/shm').catch(() => undefined);
  return space !== undefined && space.bavail * space.bsize > 4 * 2 ** 30 ? '/dev/shm' : tmpdir();
}
