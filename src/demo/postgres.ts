/** One PostgreSQL server of the demo and of the tests: a data folder, a port and a process. */
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { chown, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Binaries, firstComplaint } from './binaries.ts';
import { DemoError } from './error.ts';
import { SUPERUSER } from './template.ts';

/** Server settings, as in postgresql.conf. */
export type Settings = Readonly<Record<string, string | number | boolean>>;

/** How a server is asked to end: `fast` ends its sessions, `immediate` does not even write a checkpoint. */
export type StopMode = 'fast' | 'immediate';

export interface PostgresServerOptions {
  readonly binaries: Binaries;
  /** The cluster's folder: sockets and logs go there. */
  readonly folder: string;
  /** Its name, also that of its data folder (a copy of a template) within `folder`. */
  readonly name: string;
  /** The TCP port on 127.0.0.1; a free one is chosen when there is none. */
  readonly port?: number;
  readonly settings?: Settings;
  /** The lines of pg_hba.conf. */
  readonly hba: readonly string[];
  /** The server to stream from; without it this is a primary. */
  readonly primary?: PostgresServer;
}

/** Times on a busy machine, not expectations. */
const START_MS = 60_000;
const POLL_MS = 5;
const PORT_TRIES = 20;

export class PostgresServer {
  readonly name: string;
  /** The data folder. */
  readonly data: string;
  /** The server's log file. */
  readonly log: string;
  readonly host = '127.0.0.1';
  /** Settings of the next start. */
  settings: Settings;
  readonly #options: PostgresServerOptions;
  #primary: PostgresServer | undefined;
  #port: number | undefined;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  /** Where this run began in the log file. */
  #log_start = 0;

  constructor(options: PostgresServerOptions) {
    this.name = options.name;
    this.data = join(options.folder, options.name);
    this.log = join(options.folder, `${options.name}.log`);
    this.settings = options.settings ?? {};
    this.#options = options;
    this.#primary = options.primary;
    this.#port = options.port;
  }

  /** The TCP port; it stays the same over restarts. */
  get port(): number {
    if (this.#port === undefined) throw new DemoError(`${this.name} has not been started`);
    return this.#port;
  }

  /** The postmaster's process id, or undefined when the server is not running. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get isReplica(): boolean {
    return this.#primary !== undefined;
  }

  /**
   * Starts the server and returns when it accepts connections.
   * @throws DemoError with the reason from its log.
   */
  async start(): Promise<void> {
    if (this.#child !== undefined) throw new DemoError(`${this.name} is already running`);
    const chosen = this.#port === undefined;
    for (let tries = 1; ; tries++) {
      this.#port ??= await freePort();
      await this.#configure();
      await this.#spawn();
      if (await this.#isReady()) return;
      const output = await this.logText();
      // Somebody took the port between our look and the server's.
      if (!chosen || tries === PORT_TRIES || !output.includes('Address already in use')) {
        throw new DemoError(`${this.name} did not start: ${firstComplaint(output)}`);
      }
      this.#port = undefined;
    }
  }

  /** Stops the server and returns when it is gone; nothing happens when it is not running. */
  async stop(mode: StopMode = 'fast'): Promise<void> {
    await this.#end(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** Ends the postmaster and all its processes at once, as a crash of the machine would. */
  async kill(): Promise<void> {
    const children = await this.#children();
    const ended = this.#end('SIGKILL');
    for (const pid of children) signal(pid, 'SIGKILL');
    await ended;
  }

  /** Freezes the server (SIGSTOP): its sockets stay open and nothing answers. Linux only. */
  async pause(): Promise<void> {
    if (this.#child?.pid !== undefined) signal(this.#child.pid, 'SIGSTOP');
    for (const pid of await this.#children()) signal(pid, 'SIGSTOP');
  }

  /** Lets a frozen server go on. */
  async resume(): Promise<void> {
    for (const pid of await this.#children()) signal(pid, 'SIGCONT');
    if (this.#child?.pid !== undefined) signal(this.#child.pid, 'SIGCONT');
  }

  /** Makes a primary of a replica; returns when it has left recovery. */
  async promote(): Promise<void> {
    if (this.#child?.pid === undefined) throw new DemoError(`${this.name} is not running`);
    await this.#write('promote', '');
    signal(this.#child.pid, 'SIGUSR1');
    await this.#logged('database system is ready to accept connections');
    this.#primary = undefined;
  }

  /** Returns when this replica receives the primary's WAL. */
  async streaming(): Promise<void> {
    await this.#logged('started streaming WAL from primary');
  }

  /** What the server has logged since its last start. */
  async logText(): Promise<string> {
    return (await readFile(this.log)).subarray(this.#log_start).toString();
  }

  async #configure(): Promise<void> {
    const primary = this.#primary;
    const standby = primary === undefined ? {} : { primary_conninfo: primary.#conninfo(this.name) };
    const settings = {
      listen_addresses: this.host,
      port: this.port,
      unix_socket_directories: this.#options.folder,
      ...standby,
      ...this.settings,
    };
    const lines = Object.entries(settings).map(
      ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`,
    );
    await this.#write('postgresql.conf', lines.join(''));
    await this.#write('pg_hba.conf', `${this.#options.hba.join('\n')}\n`);
    if (primary === undefined) await rm(join(this.data, 'standby.signal'), { force: true });
    else await this.#write('standby.signal', '');
  }

  #conninfo(name: string): string {
    return `host=${this.#options.folder} port=${this.port} user=${SUPERUSER} application_name=${name}`;
  }

  async #spawn(): Promise<void> {
    const log = openSync(this.log, 'a', 0o600);
    this.#log_start = (await stat(this.log)).size;
    const child = this.#options.binaries.spawn('postgres', ['-D', this.data], this.data, ['ignore', log, log]);
    closeSync(log);
    this.#child = child;
    this.#exited = new Promise(resolve => {
      const gone = () => {
        this.#child = undefined;
        resolve();
      };
      child.once('exit', gone);
      child.once('error', gone);
    });
    child.unref();
  }

  /** Waits for the line that the postmaster writes for pg_ctl, the eighth of postmaster.pid; false when it has ended. */
  async #isReady(): Promise<boolean> {
    const deadline = Date.now() + START_MS;
    const child = this.#child;
    while (this.#child !== undefined && this.#child === child) {
      const lines = (await readFile(join(this.data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
      if (Number(lines[0]) === child.pid && lines[7]?.trim() === 'ready') return true;
      if (Date.now() > deadline) {
        await this.stop('immediate');
        return false;
      }
      await sleep(POLL_MS);
    }
    return false;
  }

  async #logged(words: string): Promise<void> {
    const deadline = Date.now() + START_MS;
    while (!(await this.logText()).includes(words)) {
      if (this.#child === undefined || Date.now() > deadline) {
        throw new DemoError(`${this.name}: ${firstComplaint(await this.logText())}`);
      }
      await sleep(POLL_MS);
    }
  }

  async #end(name: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    child.ref();
    signal(child.pid, name);
    // A frozen server sees no signal but SIGKILL.
    signal(child.pid, 'SIGCONT');
    await this.#exited;
  }

  async #children(): Promise<number[]> {
    const pid = this.#child?.pid;
    if (pid === undefined) return [];
    const list = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return list.split(' ').filter(Boolean).map(Number);
  }

  async #write(name: string, content: string): Promise<void> {
    const path = join(this.data, name);
    await writeFile(path, content, { mode: 0o600 });
    const { uid, gid } = await stat(this.data);
    if (uid !== process.getuid?.()) await chown(path, uid, gid);
  }
}

/**
 * A TCP port that was free on 127.0.0.1 a moment ago, from below the range that outgoing connections use, so that a
 * server finds it free again after a restart.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const probe = createServer();
    const free = await new Promise<boolean>(resolve => {
      probe.once('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

/** Sends a signal to a process that may just have ended. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
