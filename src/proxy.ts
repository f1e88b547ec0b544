/** The composition root: puts a configuration, its clusters, the listener and the admin database together and runs them. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { Console } from './admin/console.ts';
import type { ClientView, ControlPlane, ShutdownMode } from './admin/control.ts';
import { AdminSession } from './admin/session.ts';
import { Steering } from './admin/steering.ts';
import { KeyCache } from './auth/secret.ts';
import { Listener, type ListenerContext } from './client/listener.ts';
import { ClientLog } from './client/log.ts';
import { isAdminDatabase, Logins } from './client/logins.ts';
import type { Session } from './client/session.ts';
import { clusterSettings } from './config/cluster.ts';
import { type ClusterName, changedRules, diffConfigs, withoutRestart } from './config/diff.ts';
import { type LoadedConfig, loadConfig } from './config/load.ts';
import { type SettingRow, settingRows } from './config/rows.ts';
import { setConfig } from './config/set.ts';
import { sourceFiles } from './config/sources.ts';
import { unlistedSettings } from './config/wildcards.ts';
import { errorText, pgError } from './errors.ts';
import { Exporter } from './http/exporter.ts';
import { peerText } from './net/address.ts';
import { readCredentials } from './net/credentials.ts';
import { DescriptorWatch } from './net/descriptors.ts';
import type { Resolve } from './net/dns.ts';
import { Network } from './net/network.ts';
import type { Bound } from './net/ports.ts';
import type { TlsFacts } from './net/tls.ts';
import { Caps } from './pool/caps.ts';
import type { Cluster, ClusterContext } from './pool/cluster.ts';
import { Gates } from './pool/gates.ts';
import { Passwords } from './pool/passwords.ts';
import { type Plan, Registry } from './pool/registry.ts';
import { analyzerFor, keyColumns } from './proxy/analyzer.ts';
import { Autoreload } from './proxy/autoreload.ts';
import { Drain } from './proxy/drain.ts';
import { Keyring } from './proxy/keyring.ts';
import { Reloads } from './proxy/reloads.ts';
import { ProfileCatalog } from './server/parameters.ts';
import type { Analyzer } from './sql/cache.ts';
import { AVERAGE_WINDOW_S } from './stats/counters.ts';
import { Ledger } from './stats/ledger.ts';
import { VERSION } from './version.ts';

/** What a proxy needs besides its configuration. */
export interface ProxyOptions {
  readonly logger: Logger;
  /** Carries out SHUTDOWN of the admin database; without it the proxy drains and stops. */
  readonly shutdown?: (mode: ShutdownMode) => void;
  /** File descriptors of sockets that listen already; they are used instead of general.host, port and unix_socket_dir. */
  readonly sockets?: readonly number[];
  /** Finds the addresses of servers; without it the operating system does. */
  readonly resolve?: Resolve;
  /** Told when a reload begins and when it is over, whoever asked for it. */
  readonly reloading?: (isOver: boolean) => void;
}

/** Milliseconds between looks at time limits of clients, and at the age of server connections. */
const TICK_MS = 100;
const MAINTAIN_MS = 1000;
/** Milliseconds at the end for statements that are canceled, and for clients to read why they are disconnected. */
const CANCEL_MS = 5000;
const FAREWELL_MS = 500;
/** Why there is nothing to reload any more. */
const STOPPED = 'the pooler is shutting down';

/** Makes a proxy of a configuration; it does nothing until it is started. */
export function createProxy(loaded: LoadedConfig, options: ProxyOptions): PgProxy {
  return new PgProxy(loaded, options);
}

export class PgProxy implements ControlPlane {
  readonly version = VERSION;
  readonly ledger = new Ledger();
  readonly network: Network;
  readonly #log: Logger;
  readonly #options: ProxyOptions;
  readonly #drain: Drain;
  readonly #clientLog: ClientLog;
  readonly steering: Steering;
  readonly #keys = new KeyCache(randomBytes(32));
  readonly #sessions = new Set<Session>();
  readonly #consoles = new Set<AdminSession>();
  readonly #registry: Registry;
  readonly #console: Console;
  /** For those who may only look. */
  readonly #showConsole: Console;
  readonly #passwords: Passwords;
  readonly #logins: Logins;
  readonly #exporter: Exporter;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #keyring: Keyring;
  readonly #autoreload: Autoreload;
  readonly #reloads: Reloads<string[]>;
  /** Reloads wait for the start. */
  readonly #started: () => void;
  #loaded: LoadedConfig;
  #listener: Listener | undefined;
  #analyzer: Analyzer | undefined;
  #stopping: Promise<void> | undefined;

  constructor(loaded: LoadedConfig, options: ProxyOptions) {
    this.#loaded = loaded;
    this.#log = options.logger;
    this.#options = options;
    this.#drain = new Drain(this.#sessions);
    this.#console = new Console(this);
    this.#showConsole = new Console(this, true);
    const general = () => this.#loaded.config.general;
    this.#keyring = new Keyring(() => this.#loaded.config, this.#log);
    this.network = new Network(general, options.logger, options.resolve);
    const context: ClusterContext = {
      caps: new Caps(),
      keys: this.#keys,
      profiles: new ProfileCatalog(),
      log: options.logger,
      network: this.network,
      encryption: settings => this.#keyring.encryption(settings),
      ledger: this.ledger,
      gates: new Gates(),
    };
    this.#registry = new Registry(context, {
      idle_timeout_ms: () => general().autodb_idle_timeout,
      pools_max: () => general().autodb_max_pools,
      clients: () => this.#sessions,
      settings: (database, user) => unlistedSettings(this.#loaded.config, database, user),
    });
    this.steering = new Steering({
      registry: this.#registry,
      sessions: () => this.#sessions,
      consoles: () => this.#consoles,
      suspend_timeout: () => general().suspend_timeout,
    });
    this.#exporter = new Exporter(this, loaded.config.general.host, options.logger);
    this.#clientLog = new ClientLog(this.#log, general);
    this.#passwords = new Passwords(this.#registry, () => general().auth_query_ttl);
    const { registry, passwords, keys } = { registry: this.#registry, passwords: this.#passwords, keys: this.#keys };
    this.#logins = new Logins({ keys, registry, passwords, loaded: () => this.#loaded });
    this.#autoreload = new Autoreload({
      interval_ms: () => this.#loaded.config.general.autoreload,
      files: () => sourceFiles(this.#loaded),
      reload: () => this.reload(),
      failed: cause => this.#log.error(`autoreload changed nothing: ${cause}`),
    });
    const { promise: started, resolve } = Promise.withResolvers<void>();
    this.#started = resolve;
    this.#reloads = new Reloads(() => this.#reloadAloud(), started);
  }

  /**
   * Listens, and opens the first connections in the background.
   * @throws PortError an address cannot be listened on
   */
  async start(): Promise<Bound> {
    const { general } = this.#loaded.config;
    // What they looked like is not known: they are read once more at the first look.
    this.#keyring.use(readCredentials(this.#loaded.config), '');
    const inspector = await analyzerFor(this.#loaded);
    this.#analyzer = inspector;
    const listener = new Listener(this.#listenerContext(inspector));
    const { host: hosts, port, unix_socket_dir, unix_socket_mode } = general;
    const { sockets } = this.#options;
    const bound = await listener.listen({ hosts, port, unix_socket_dir, unix_socket_mode, sockets });
    this.#listener = listener;
    const expose = await this.#exporter.prepare(general).catch((error: unknown) => {
      listener.destroy();
      throw error;
    });
    this.#serve(this.#registry.plan(clusterSettings(this.#loaded.config)));
    this.#every(TICK_MS, now => {
      for (const session of this.#sessions) session.tick(now);
      this.#registry.tick();
    });
    const descriptors = new DescriptorWatch(this.#log);
    this.#every(MAINTAIN_MS, now => {
      this.network.maintain(this.#registry.hosts, now);
      this.#registry.maintain(now);
      this.#passwords.maintain(now);
      descriptors.look(now);
    });
    this.#every(AVERAGE_WINDOW_S * 1000, () => {
      for (const cluster of this.#registry.clusters) cluster.rollAverages(AVERAGE_WINDOW_S);
    });
    this.#autoreload.follow(await this.#autoreload.look());
    this.#started();
    expose();
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

  /**
   * Changes a setting in memory until the next reload.
   * @throws Error why nothing has changed
   */
  set(path: readonly string[], value: string): Promise<string[]> {
    return this.#reloads.change(() => this.#reload(() => setConfig(this.#loaded, path, value), false));
  }

  async #reloadAloud(): Promise<string[]> {
    const { reloading } = this.#options;
    reloading?.(false);
    try {
      return await this.#reload(() => loadConfig(this.#loaded.path), true);
    } finally {
      reloading?.(true);
    }
  }

  /** Applies a configuration; `isFile` when it is what the files say. */
  async #reload(load: () => LoadedConfig, isFile: boolean): Promise<string[]> {
    if (this.#stopping !== undefined) throw new Error(STOPPED);
    const before = this.#loaded;
    const read_at = await this.#autoreload.look();
    const keys_at = await this.#keyring.look();
    // What can fail comes first.
    const loaded = load();
    const { keys, restart, removed } = diffConfigs(before.config, loaded.config);
    const config = withoutRestart(before.config, loaded.config);
    const credentials = readCredentials(config);
    const expose = await this.#exporter.prepare(config.general);
    // From here on nobody else has a turn: a cluster that is made for a login belongs to the plan.
    const made = this.#registry.autoNames;
    const unlisted = made.flatMap(({ database, username }) => unlistedSettings(config, database, username) ?? []);
    const plan = this.#registry.plan([...clusterSettings(config), ...unlisted]);
    if (this.#analyzer !== undefined) {
      // Transactions under way still look for the keys of before.
      this.#analyzer.columns = new Set([...keyColumns(before), ...keyColumns({ config })]);
      this.#analyzer.max_length = config.general.query_analysis_max_length;
    }
    const files = this.#keyring.use(credentials, keys_at);
    this.#loaded = { ...loaded, config };
    this.#serve(plan);
    this.#goOver();
    this.#passwords.reloaded(performance.now());
    const isGone = ({ database, username }: ClusterName) => this.#registry.find(database, username) === undefined;
    this.#remove([...removed, ...made].filter(isGone));
    expose();
    if (isFile) this.#autoreload.follow(read_at);
    else this.#autoreload.goOn();
    for (const warning of loaded.warnings) this.#log.warn(warning);
    const words = keys.map(key => (restart.includes(key) ? `${key} (needs a restart)` : key));
    words.push(...files, ...changedRules(before, loaded));
    this.#log.info({ keys: words }, words.length === 0 ? 'Config has not changed' : 'Config changed, reloading');
    return words;
  }

  /** Has clients served by these clusters from now on. */
  #serve(plan: Plan): void {
    for (const cluster of this.#registry.replace(plan)) {
      if (this.#loaded.config.general.validate_config) cluster.warmUp();
      if (cluster.settings.read_write_splitting && !cluster.credentials.missing) cluster.schema.start();
    }
  }

  /** Clients that do nothing would keep what a reload has replaced in memory. */
  #goOver(): void {
    for (const session of this.#sessions) {
      const isServed = this.#registry.find(session.database, session.user) !== undefined;
      if (session.cluster.retired && isServed) session.begins();
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

  /** Whether no more clients are taken. */
  get draining(): boolean {
    return this.#drain.begun;
  }

  /** Whether SIGTERM ends the process without waiting for transactions. */
  get endsAtSigterm(): boolean {
    return this.#loaded.config.general.sigterm === 'immediate';
  }

  /** Refuses new clients, and resolves when those who are here have left, in the way that `mode` says. */
  async drain(mode: ShutdownMode = 'drain'): Promise<void> {
    await this.#drain.begin(mode, this.#loaded.config.general.shutdown_timeout);
    if (this.#sessions.size > 0 && this.#stopping === undefined) {
      this.#log.warn(`Graceful shutdown timed out. ${this.#sessions.size} active clients being closed`);
    }
  }

  /** Ends everything now: clients are told, what they were doing is canceled, and servers are left in good order. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    await this.#reloads.settled();
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#autoreload.stop();
    this.#keyring.stop();
    this.#listener?.close(pgError('cannot_connect_now'));
    for (const session of [...this.#sessions]) session.close(pgError('shutting_down'));
    for (const console of [...this.#consoles]) console.close(pgError('shutting_down'));
    this.#registry.retire();
    await until(() => this.#registry.connections === 0, CANCEL_MS);
    await until(() => this.#listener === undefined || this.#listener.isEmpty, FAREWELL_MS);
    this.#listener?.destroy();
    this.#registry.destroy();
    this.#exporter.stop();
    this.#log.info('Shutting down...');
  }

  /** Those of the admin database left out. */
  get client_count(): number {
    return this.#sessions.size;
  }

  get autoNames() {
    return this.#registry.autoNames;
  }

  /** Where metrics are served; undefined when they are not. */
  get metrics_port(): number | undefined {
    return this.#exporter.port;
  }

  clusters(): Iterable<Cluster> {
    return this.#registry.clusters;
  }

  get logins(): number {
    return (this.#listener?.headcount.all ?? 0) - this.#sessions.size;
  }

  clients(): Iterable<ClientView> {
    return [...this.#sessions, ...this.#consoles].sort((a, b) => a.id - b.id);
  }

  settings(): readonly SettingRow[] {
    return settingRows(this.#loaded.config);
  }

  shutdown(mode: ShutdownMode): void {
    const { shutdown } = this.#options;
    if (shutdown === undefined) void this.drain(mode).then(() => this.stop());
    else shutdown(mode);
  }

  #listenerContext(inspector: Analyzer): ListenerContext {
    const general = () => this.#loaded.config.general;
    return {
      inspector,
      client_login_timeout: () => general().client_login_timeout,
      max_client_conn: () => general().max_client_conn,
      max_message_size: () => general().max_message_size,
      network: this.network,
      encryption: () => ({ gate: this.#keyring.gate, isRequired: general().tls_mode === 'require' }),
      clusterFor: (database, user) => this.#registry.find(database, user),
      authenticate: (channel, request) => this.#logins.authenticate(channel, request),
      isAdmin: isAdminDatabase,
      adminParameters,
      openConsole: (socket, framer, outbox, login, ended) => {
        const parameters = adminParameters(login.application_name);
        const address = peerText(socket);
        const console = login.mayOnlyShow ? this.#showConsole : this.#console;
        const session = new AdminSession(socket, framer, outbox, { ...login, parameters }, console, failure => {
          this.#clientLog.consoleEnded(session, address, failure);
          this.#consoles.delete(session);
          ended();
        });
        this.#consoles.add(session);
        this.#clientLog.connected(session, address, login.tls);
        return session;
      },
      refusal: isAdmin => (this.draining && !isAdmin ? pgError('cannot_connect_now') : undefined),
      connected: (session, address, tls) => this.#connected(session, address, tls),
      disconnected: (session, address, cause) => this.#disconnected(session, address, cause),
      loginFailed: (address, error) => {
        this.ledger.loginFailed(error.sqlstate);
        this.#clientLog.loginFailed(address, error);
      },
      acceptFailed: (error, count) => this.#clientLog.acceptFailed(error, count),
    };
  }

  #connected(session: Session, address: string, tls: TlsFacts | undefined): void {
    this.#sessions.add(session);
    this.steering.joined(session);
    session.cluster.account.client_count++;
    this.#clientLog.connected(session, address, tls);
    this.#drain.joined(session);
  }

  #disconnected(session: Session, address: string, cause: string): void {
    this.#sessions.delete(session);
    session.cluster.account.client_errors += session.counters.error_count;
    this.#clientLog.disconnected(session, address, cause);
    this.#drain.left();
  }

  #every(interval_ms: number, act: (now: number) => void): void {
    const work = () => {
      try {
        act(performance.now());
      } catch (thrown) {
        this.#log.error({ stack: thrown instanceof Error ? thrown.stack : undefined }, `A fault: ${errorText(thrown)}`);
      }
    };
    this.#timers.push(setInterval(work, interval_ms));
  }
}

/** Returns when it holds, or when that takes too long. */
async function until(holds: () => boolean, limit_ms: number): Promise<void> {
  const deadline = performance.now() + limit_ms;
  while (!holds() && performance.now() < deadline) await sleep(POLL_MS);
}

const POLL_MS = 5;

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
