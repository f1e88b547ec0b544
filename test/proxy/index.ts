/** A pglynx in front of a test cluster, within the test's own process, and clients for it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, type ClientConfig } from 'pg';
import { pino } from 'pino';
import { loadConfig } from '../../src/config/load.ts';
import type { Resolve } from '../../src/net/dns.ts';
import { createProxy, type PgProxy } from '../../src/proxy.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS } from '../cluster/index.ts';

/** What pglynx stands in front of: a test cluster, some of its servers, or what stands in front of them. */
export interface Servers {
  readonly servers: readonly { readonly host: string; readonly port: number; readonly isReplica?: boolean }[];
}

/** Keys for `[general]`, for the pool, and for its users. */
export interface ProxyOptions {
  readonly general?: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  readonly pool?: Readonly<Record<string, string | number | boolean | readonly string[]>>;
  readonly user?: Readonly<Record<string, string | number | boolean>>;
  /** Users served; alice and bob when absent. */
  readonly users?: readonly (keyof typeof PASSWORDS)[];
  /** Databases on the same servers, one for each shard; the test database alone when absent. */
  readonly shards?: readonly string[];
  /** Finds the addresses of servers that have names. */
  readonly resolve?: Resolve;
  /** Sections appended to the file. */
  readonly more?: string;
}

/** Who the admin database lets in. */
export const ADMIN = { user: 'admin_user', password: 'admin_pass' } as const;

export class TestProxy {
  readonly proxy: PgProxy;
  readonly port: number;
  readonly path: string;
  /** Everything logged so far, as parsed JSON. */
  readonly log: readonly Readonly<Record<string, unknown>>[];
  readonly #folder: string;

  private constructor(proxy: PgProxy, port: number, path: string, folder: string, log: Record<string, unknown>[]) {
    this.proxy = proxy;
    this.port = port;
    this.path = path;
    this.#folder = folder;
    this.log = log;
  }

  static async start(cluster: Servers, options: ProxyOptions = {}): Promise<TestProxy> {
    const folder = mkdtempSync(join(tmpdir(), 'pglynx-proxy-'));
    const path = join(folder, 'pgcat.toml');
    writeFileSync(path, configText(cluster, options));
    const log: Record<string, unknown>[] = [];
    const logger = pino({ level: 'debug' }, { write: (line: string) => void log.push(JSON.parse(line)) });
    const proxy = createProxy(loadConfig(path), {
      logger,
      shutdown: () => {},
      ...(options.resolve && { resolve: options.resolve }),
    });
    const { port } = await proxy.start();
    return new TestProxy(proxy, port, path, folder, log);
  }

  /** Writes another configuration over the first; it takes a reload to apply it. */
  rewrite(text: string): void {
    writeFileSync(this.path, text);
  }

  /** A node-postgres client, connected. */
  async connect(config: ClientConfig = {}): Promise<Client> {
    const client = new Client(this.config(config));
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  /** What a driver needs to connect as alice. */
  config(config: ClientConfig = {}) {
    const user = config.user ?? 'alice';
    const password = new Map<string, string>(Object.entries(PASSWORDS)).get(user) ?? '';
    return { host: '127.0.0.1', port: this.port, database: DATABASE, password, ...config, user };
  }

  /** A client of single messages, logged in as alice. */
  raw(parameters: Record<string, string> = {}): Promise<RawClient> {
    return RawClient.connect({
      port: this.port,
      user: 'alice',
      database: DATABASE,
      password: PASSWORDS.alice,
      parameters,
    });
  }

  /** A client of the admin database. */
  async admin(): Promise<Client> {
    return this.connect({ user: ADMIN.user, password: ADMIN.password, database: 'pgcat' });
  }

  async stop(): Promise<void> {
    await this.proxy.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** The configuration for `cluster`: port chosen by the system, one pool named as the test database. */
export function configText(cluster: Servers, { general, pool, user, users, shards, more }: ProxyOptions = {}): string {
  const lines = [
    '[general]',
    ...assignments({
      host: '127.0.0.1',
      port: 0,
      admin_username: ADMIN.user,
      admin_password: ADMIN.password,
      ...general,
    }),
    `[pools.${DATABASE}]`,
    ...assignments({ ...pool }),
  ];
  for (const [index, username] of (users ?? (['alice', 'bob'] as const)).entries()) {
    lines.push(`[pools.${DATABASE}.users.${index}]`);
    lines.push(...assignments({ username, password: PASSWORDS[username], pool_size: 5, ...user }));
  }
  for (const [number, database] of (shards ?? [DATABASE]).entries()) {
    lines.push(`[pools.${DATABASE}.shards.${number}]`, `database = "${database}"`, 'servers = [');
    for (const { host, port, isReplica } of cluster.servers) {
      lines.push(`  [${JSON.stringify(host)}, ${port}, "${isReplica ? 'replica' : 'primary'}"],`);
    }
    lines.push(']');
  }
  return [...lines, more ?? ''].join('\n');
}

function assignments(keys: Readonly<Record<string, string | number | boolean | readonly string[]>>): string[] {
  return Object.entries(keys).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
}
