/** The composition root: puts a configuration, its clusters, the listener and the admin database together and runs them. */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { Console } from './admin/console.ts';
import type { ClientView, ControlPlane } from './admin/control.ts';
import { AdminSession } from './admin/session.ts';
import { KeyCache } from './auth/secret.ts';
import { Listener, type ListenerContext } from './client/listener.ts';
import { isAdminDatabase, Logins } from './client/logins.ts';
import { ClientRouting } from './client/routing.ts';
import type { Session } from './client/session.ts';
import { ClientSettings } from './client/settings.ts';
import { type ClusterSettings, clusterSettings } from './config/cluster.ts';
import { type ClusterName, diffConfigs, withoutRestart } from './config/diff.ts';
import { type LoadedConfig, loadConfig } from './config/load.ts';
import { type SettingRow, settingRows } from './config/rows.ts';
import { sourceFiles } from './config/sources.ts';
import { errorText, type PgError, pgError } from './errors.ts';
import { DescriptorWatch } from './net/descriptors.ts';
import { keepAliveOf, SYSTEM_KEEPALIVE } from './net/keepalive.ts';
import type { Bound } from './net/ports.ts';
import { Cluster } from './pool/cluster.ts';
import { type Plan, Registry } from './pool/registry.ts';
import { Autoreload } from './proxy/autoreload.ts';
import { Reloads } from './proxy/reloads.ts';
import { shardingKey } from './routing/values.ts';
import { ProfileCatalog } from './server/parameters.ts';
import { Analyzer } from './sql/cache.ts';
import { AVERAGE_WINDOW_S } from './stats/counters.ts';
import { Ledger } from './stats/ledger.ts';
import { VERSION } from './version.ts';

/** What a proxy needs besides its configuration. */
export interface ProxyOptions {
  readonly logger: Logger;
  /** Carries out SHUTDOWN of the admin database; sends this process a SIGINT when it is not given. */
  readonly shutdown?: () => void;
}

/** Milliseconds between looks at time limits of clients, and at the age of server connections. */
const TICK_MS = 100;
const MAINTAIN_MS = 1000;

/** Makes a proxy of a configuration; it does nothing until it is started. */
export function createProxy(loaded: LoadedConfig, options: ProxyOptions): PgProxy {
  return new PgProxy(loaded, options);
}

export class PgProxy implements ControlPlane {
  readonly version = VERSION;
  readonly ledger = new Ledger();
  readonly #log: Logger;
  readonly #shutdown: () => void;
  readonly #keys = new KeyCache(randomBytes(32));
  readonly #sessions = new Set<Session>();
  readonly #consoles = new Set<AdminSession>();
  readonly #registry: Registry;
  readonly #console: Console;
  /** For those who may only look. */
  readonly #showConsole: Console;
  readonly #logins: Logins;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #autoreload: Autoreload;
  readonly #reloads: Reloads<string[]>;
  /** Reloads wait for the start. */
  readonly #started: () => void;
  #loaded: LoadedConfig;
  #listener: Listener | undefined;
  #analyzer: Analyzer | undefined;
  #draining: PgError | undefined;
  #drained: (() => void) | undefined;

  constructor(loaded: LoadedConfig, { logger, shutdown }: ProxyOptions) {
    this.#loaded = loaded;
    this.#log = logger;
    this.#shutdown = shutdown ?? (() => process.kill(process.pid, 'SIGINT'));
    this.#console = new Console(this);
    this.#showConsole = new Console(this, true);
    this.#registry = new Registry({
      keys: this.#keys,
      profiles: new ProfileCatalog(),
      log: logger,
      keepalive: () => keepAliveOf(this.#loaded.config.general),
      ledger: this.ledger,
    });
    const general = () => this.#loaded.config.general;
    this.#logins = new Logins({ keys: this.#keys, registry: this.#registry, general });
    this.#autoreload = new Autoreload({
      interval_ms: () => this.#loaded.config.general.autoreload,
      files: () => sourceFiles(this.#loaded),
      reload: () => this.reload(),
      failed: cause => this.#log.error(`autoreload changed nothing: ${cause}`),
    });
    const { promise: started, resolve } = Promise.withResolvers<void>();
    this.#started = resolve;
    this.#reloads = new Reloads(() => this.#reload(), started);
  }

  /**
   * Listens, and opens the first connections in the background.
   * @throws PortError an address cannot be listened on
   */
  async start(): Promise<Bound> {
    const { general } = this.#loaded.config;
    const inspector = await analyzerFor(this.#loaded);
    this.#analyzer = inspector;
    const listener = new Listener(this.#listenerContext(inspector));
    const { host: hosts, port, unix_socket_dir, unix_socket_mode } = general;
    const bound = await listener.listen({ hosts, port, unix_socket_dir, unix_socket_mode });
    this.#listener = listener;
    this.#serve(this.#registry.plan(clusterSettings(this.#loaded.config), () => false));
    this.#every(TICK_MS, now => {
      for (const session of this.#sessions) session.tick(now);
    });
    const descriptors = new DescriptorWatch(this.#log);
    this.#every(MAINTAIN_MS, now => {
      this.#registry.maintain(now);
      descriptors.look(now);
    });
    this.#every(AVERAGE_WINDOW_S * 1000, () => {
      for (const cluster of this.#registry.clusters) cluster.rollAverages(AVERAGE_WINDOW_S);
    });
    this.#autoreload.follow(await this.#autoreload.look());
    this.#started();
    this.#log.info({ ...bound, version: VERSION }, `Running on ${bound.addresses.join(', ')}`);
    return bound;
  }

  /**
   * Reads the file again and applies what changed, or nothing at all.
   * @throws ConfigError what is wrong with the file
   */
  reload(): Promise<string[]> {
    return this.#reloads.ask();
  }

  async #reload(): Promise<string[]> {
    const before = this.#loaded;
    const read_at = await this.#autoreload.look();
    // What can fail comes first.
    const loaded = loadConfig(before.path);
    const { keys, restart, changed, added, removed } = diffConfigs(before.config, loaded.config);
    const config = withoutRestart(before.config, loaded.config);
    const renewed = new Set(
      [...changed, ...added].map(({ database, username }) => JSON.stringify([database, username])),
    );
    const isUnchanged = ({ database, username }: ClusterSettings) => !renewed.has(JSON.stringify([database, username]));
    const plan = this.#registry.plan(clusterSettings(config), isUnchanged);
    if (this.#analyzer !== undefined) {
      // Transactions under way still look for the keys of before.
      this.#analyzer.columns = new Set([...keyColumns(before), ...keyColumns({ config })]);
      this.#analyzer.max_length = config.general.query_analysis_max_length;
    }
    this.#loaded = { ...loaded, config };
    this.#serve(plan);
    this.#remove(removed);
    this.#autoreload.follow(read_at);
    for (const warning of loaded.warnings) this.#log.warn(warning);
    const words = keys.map(key => (restart.includes(key) ? `${key} (needs a restart)` : key));
    this.#log.info({ keys: words }, words.length === 0 ? 'Config has not changed' : 'Config changed, reloading');
    return words;
  }

  /** Has clients served by these clusters from now on. */
  #serve(plan: Plan): void {
    for (const cluster of this.#registry.replace(plan)) {
      if (this.#loaded.config.general.validate_config) cluster.warmUp();
      if (cluster.settings.read_write_splitting) cluster.schema.start();
    }
  }

  /** Clients of session mode keep no connection of a pool that is gone longer than a transaction. */
  #remove(removed: readonly ClusterName[]): void {
    for (const { database, username } of removed) {
      for (const session of [...this.#sessions]) {
        const isOf = session.database === database && session.user === username;
        if (isOf && session.connection !== undefined && session.cluster.settings.pool_mode === 'session')
          session.drain(pgError('pool_removed', database, username));
      }
    }
  }

  /** Refuses new clients, lets transactions end, and resolves when all clients are gone or shutdown_timeout is over. */
  async drain(): Promise<void> {
    const { shutdown_timeout } = this.#loaded.config.general;
    this.#draining = pgError('shutting_down');
    const gone = new Promise<void>(resolve => {
      this.#drained = resolve;
    });
    for (const session of [...this.#sessions]) session.drain(pgError('shutting_down'));
    if (this.#sessions.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, shutdown_timeout);
    });
    await Promise.race([gone, late]);
    clearTimeout(timer);
    if (this.#sessions.size > 0) {
      this.#log.warn(`Graceful shutdown timed out. ${this.#sessions.size} active clients being closed`);
    }
  }

  /** Ends everything now. */
  async stop(): Promise<void> {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#autoreload.stop();
    for (const session of [...this.#sessions]) session.close(pgError('shutting_down'));
    for (const console of [...this.#consoles]) console.close(pgError('shutting_down'));
    // One turn for the last words to leave.
    await new Promise(resolve => setTimeout(resolve, 20));
    this.#listener?.destroy();
    this.#registry.destroy();
    this.#log.info('Shutting down...');
  }

  clusters(): Iterable<Cluster> {
    return this.#registry.clusters;
  }

  clients(): Iterable<ClientView> {
    return [...this.#sessions, ...this.#consoles].sort((a, b) => a.id - b.id);
  }

  settings(): readonly SettingRow[] {
    return settingRows(this.#loaded.config);
  }

  shutdown(): void {
    this.#shutdown();
  }

  #listenerContext(inspector: Analyzer): ListenerContext {
    const general = () => this.#loaded.config.general;
    return {
      inspector,
      client_login_timeout: () => general().client_login_timeout,
      max_client_conn: () => general().max_client_conn,
      max_message_size: () => general().max_message_size,
      keepalive: () => keepAliveOf(general()),
      clusterFor: (database, user) => this.#registry.find(database, user),
      authenticate: (channel, request) => this.#logins.authenticate(channel, request),
      isAdmin: isAdminDatabase,
      adminParameters,
      openConsole: (socket, framer, outbox, login, ended) => {
        const parameters = adminParameters(login.application_name);
        const console = login.mayOnlyShow ? this.#showConsole : this.#console;
        const session = new AdminSession(socket, framer, outbox, { ...login, parameters }, console, failure => {
          if (failure !== undefined) this.#log.error(`an admin client ended on a fault: ${errorText(failure)}`);
          this.#consoles.delete(session);
          ended();
        });
        this.#consoles.add(session);
        return session;
      },
      refusal: isAdmin => (this.#draining !== undefined && !isAdmin ? pgError('cannot_connect_now') : undefined),
      connected: session => this.#connected(session),
      disconnected: (session, cause) => this.#disconnected(session, cause),
      loginFailed: (address, error) => {
        this.ledger.loginFailed(error.sqlstate);
        this.#log.warn({ address, sqlstate: error.sqlstate }, `Login failed: ${error.message}`);
      },
      acceptFailed: (error, count) => this.#log.error({ count }, `Clients could not connect: ${error.message}`),
    };
  }

  #connected(session: Session): void {
    this.#sessions.add(session);
    session.cluster.account.client_count++;
    const { id, database, user } = session;
    const level = this.#loaded.config.general.log_client_connections ? 'info' : 'debug';
    this.#log[level]({ client: id, database, user }, 'Client connected');
    if (this.#draining !== undefined) session.drain(this.#draining);
  }

  #disconnected(session: Session, cause: string): void {
    this.#sessions.delete(session);
    session.cluster.account.client_errors += session.counters.error_count;
    const { id, database, user, connected_at } = session;
    const duration_ms = Math.round(performance.now() - connected_at);
    const level = this.#loaded.config.general.log_client_disconnections ? 'info' : 'debug';
    const fields = { client: id, database, user, duration_ms, cause };
    if (cause.startsWith('internal error')) this.#log.error(fields, 'Client disconnected by a fault of pglynx');
    else this.#log[level](fields, 'Client disconnected');
    if (this.#sessions.size === 0) this.#drained?.();
  }

  #every(interval_ms: number, act: (now: number) => void): void {
    this.#timers.push(setInterval(() => act(performance.now()), interval_ms));
  }
}

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
  const settings = clusterSettings(loaded.config).find(
    ({ database, username }) => database === (wanted.database ?? database) && username === (wanted.user ?? username),
  );
  if (settings === undefined) throw new Error('the configuration has no pool of this database and user');
  const profiles = new ProfileCatalog();
  const nobody = { info: () => undefined, warn: () => undefined };
  const keys = new KeyCache(randomBytes(32));
  const cluster = new Cluster(settings, {
    keys,
    profiles,
    log: nobody,
    keepalive: () => SYSTEM_KEEPALIVE,
    ledger: new Ledger(),
  });
  const client = new ClientSettings(profiles.defaults, '', cluster);
  const routing = new ClientRouting(await analyzerFor(loaded), client, cluster);
  const bytes = Buffer.from(text);
  return routing.explain(bytes, 0, bytes.length, { held: undefined, begun: undefined, whole: true });
}

function analyzerFor(loaded: LoadedConfig): Promise<Analyzer> {
  const now = () => performance.now();
  const max_length = loaded.config.general.query_analysis_max_length;
  return Analyzer.create({ now, max_length }).then(analyzer => {
    analyzer.columns = keyColumns(loaded);
    return analyzer;
  });
}

/** Names of all columns that are sharding keys of a pool with shards. */
function keyColumns({ config }: Pick<LoadedConfig, 'config'>): ReadonlySet<string> {
  const keyed = clusterSettings(config).filter(({ shards }) => shards.length > 1);
  const written = keyed.flatMap(({ sharding }) => sharding.automatic_key ?? []);
  return new Set(written.map(key => shardingKey(key).column));
}

function adminParameters(application_name: string): ReadonlyMap<string, string> {
  return new Map([
    ['application_name', application_name],
    ['client_encoding', 'UTF8'],
    ['server_encoding', 'UTF8'],
    ['server_version', VERSION],
    ['DateStyle', 'ISO, MDY'],
    ['TimeZone', 'Etc/UTC'],
    ['standard_conforming_strings', 'on'],
  ]);
}
