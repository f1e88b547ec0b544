/** A primary with streaming replicas in one temporary folder: `pglynx demo` and the tests run on it. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { access, chown, mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Binaries, serverAccount } from './binaries.ts';
import { DemoError } from './error.ts';
import { Guard } from './guard.ts';
import { PostgresServer, type Settings } from './postgres.ts';
import { createTemplate, type Database, type Role, type TemplateContents } from './template.ts';

export interface DemoClusterOptions {
  /** How many replicas stream from the primary; 2 when absent. */
  readonly replicas?: number;
  /** Roles that log in over TCP, each by its own method. */
  readonly roles?: readonly Role[];
  readonly databases?: readonly Database[];
  /** Settings for every server, over the demo's own. */
  readonly settings?: Settings;
  /** Lines of pg_hba.conf ahead of those made from `roles`. */
  readonly hba?: readonly string[];
  /** Keeps data and logs at the end. */
  readonly keep?: boolean;
  /** A folder where initialised data folders stay between runs, which makes the next start faster. */
  readonly templates?: string;
  /** Where the temporary folder is made; the system's place for such when absent. */
  readonly parent?: string;
  /** Told what is being done, a few words a step. */
  readonly onProgress?: (step: string) => void;
}

/** For data that nobody will miss: nothing waits for the disk. */
const SETTINGS: Settings = {
  max_connections: 200,
  shared_buffers: '32MB',
  fsync: false,
  full_page_writes: false,
  wal_level: 'replica',
  hot_standby: true,
  max_wal_senders: 10,
  wal_keep_size: '256MB',
  wal_retrieve_retry_interval: '200ms',
  // In the data folder, so that a killed server leaves nothing outside it.
  dynamic_shared_memory_type: 'mmap',
  log_line_prefix: '%m [%p] ',
  timezone: 'UTC',
  shared_preload_libraries: 'pg_stat_statements',
};

export class DemoCluster {
  /** Everything is in here: data folders, logs and sockets. */
  readonly folder: string;
  /** PostgreSQL's version, as it prints it. */
  readonly version: string;
  readonly primary: PostgresServer;
  readonly replicas: readonly PostgresServer[];
  readonly #guard: Guard;
  readonly #keep: boolean;

  private constructor(
    folder: string,
    version: string,
    servers: readonly [PostgresServer, ...PostgresServer[]],
    guard: Guard,
    keep: boolean,
  ) {
    this.folder = folder;
    this.version = version;
    [this.primary, ...this.replicas] = servers;
    this.#guard = guard;
    this.#keep = keep;
  }

  /**
   * Starts the servers and returns when the replicas stream. Whatever happens to this process from then on, servers
   * and folder go away with it.
   * @throws DemoError with the reason; nothing is left behind then.
   */
  static async start(options: DemoClusterOptions = {}): Promise<DemoCluster> {
    const account = await serverAccount();
    const folder = await mkdtemp(join(options.parent ?? tmpdir(), 'pglynx-'));
    const keep = options.keep ?? false;
    const guard = new Guard(keep ? undefined : folder);
    try {
      if (account !== undefined) await chown(folder, account.uid, account.gid);
      const binaries = await Binaries.find(folder, account, guard);
      const servers = await prepareServers(folder, binaries, options);
      const cluster = new DemoCluster(folder, binaries.version, servers, guard, keep);
      await cluster.#start(options.onProgress ?? (() => {}));
      return cluster;
    } catch (error) {
      await guard.end();
      throw error;
    }
  }

  /** The primary first, then the replicas in order. */
  get servers(): readonly PostgresServer[] {
    return [this.primary, ...this.replicas];
  }

  /** Stops every server and removes the folder (unless it is kept). */
  async stop(): Promise<void> {
    const mode = this.#keep ? 'fast' : 'immediate';
    await Promise.all(this.replicas.map(replica => replica.stop(mode)));
    await this.primary.stop(mode);
    await this.#guard.end();
  }

  async #start(onProgress: (step: string) => void): Promise<void> {
    onProgress(`starting PostgreSQL ${this.version}`);
    await this.primary.start();
    if (this.replicas.length > 0) onProgress('starting the streaming replicas');
    await Promise.all(
      this.replicas.map(async replica => {
        await replica.start();
        await replica.streaming();
      }),
    );
  }
}

async function prepareServers(
  folder: string,
  binaries: Binaries,
  options: DemoClusterOptions,
): Promise<[PostgresServer, ...PostgresServer[]]> {
  const roles = options.roles ?? [];
  const contents = { roles, databases: options.databases ?? [] };
  const template =
    options.templates === undefined ? undefined : join(options.templates, templateName(binaries, contents));
  const first = join(folder, 'primary');
  if (template === undefined || !(await isThere(template))) {
    options.onProgress?.('initialising the database');
    await createTemplate(binaries, first, contents);
    if (options.templates !== undefined && template !== undefined)
      await keepTemplate(first, options.templates, template);
  } else {
    await copyFolder(template, first);
  }
  const hba = ['local all all trust', 'local replication all trust', ...(options.hba ?? []), ...roles.map(hbaLine)];
  const settings = { ...SETTINGS, ...options.settings };
  const primary = new PostgresServer({ binaries, folder, name: 'primary', settings, hba });
  const names = Array.from({ length: options.replicas ?? 2 }, (_, index) => `replica${index + 1}`);
  // A copy of a folder that was shut down cleanly is all a replica needs: it streams everything from there on.
  await Promise.all(names.map(name => copyFolder(first, join(folder, name))));
  const replicas = names.map(name => new PostgresServer({ binaries, folder, name, settings, hba, primary }));
  return [primary, ...replicas];
}

function hbaLine({ name, method }: Role): string {
  return `host all "${name.replaceAll('"', '""')}" 127.0.0.1/32 ${method}`;
}

function templateName(binaries: Binaries, contents: TemplateContents): string {
  const hash = createHash('sha256').update(JSON.stringify(contents)).digest('hex');
  return `${binaries.version}-${hash.slice(0, 16)}`;
}

/** Puts a copy of `data` at `template` in one step, so that processes that do it at the same time agree. */
async function keepTemplate(data: string, templates: string, template: string): Promise<void> {
  await mkdir(templates, { recursive: true, mode: 0o755 });
  const place = await stat(templates);
  if (place.uid !== process.getuid?.() || (place.mode & 0o022) !== 0) {
    throw new DemoError(`${templates} is not ours alone: remove it`);
  }
  const unique = await mkdtemp(`${template}-`);
  try {
    const copy = join(unique, 'data');
    const { uid, gid } = await stat(data);
    if (uid !== place.uid) await chown(unique, uid, gid);
    await copyFolder(data, copy);
    await rename(copy, template);
  } catch (error) {
    if (!(await isThere(template))) throw error;
  } finally {
    await rm(unique, { recursive: true, force: true });
  }
}

/** Copies with owners and modes, as data folders need; `cp` is several times faster than a walk of our own. */
async function copyFolder(from: string, to: string): Promise<void> {
  const child = spawn('cp', ['-Rp', from, to], { stdio: ['ignore', 'ignore', 'pipe'] });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new DemoError(`could not copy ${from} to ${to}`);
}

async function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
