/** What the benchmark compares: PostgreSQL itself, PgBouncer and pglynx, each as a process of its own. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { chownSync, closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { serverAccount } from '../src/demo/binaries.ts';
import type { Guard } from '../src/demo/guard.ts';
import { freePort } from '../src/demo/postgres.ts';
import type { Mode } from './pgbench.ts';
import { findProgram, ProgramError, run } from './program.ts';

/** The server behind every contender. */
export interface Setup {
  /** For configuration and logs. */
  readonly folder: string;
  readonly guard: Guard;
  readonly host: string;
  readonly port: number;
  /** User and database; the user logs in without a password everywhere. */
  readonly user: string;
  /** Server connections of a pooler. */
  readonly connections: number;
  readonly clients: number;
}

export interface Contender {
  readonly name: string;
  readonly port: number;
  /** The pooler's process. */
  readonly pid?: number;
  /** The query mode it is run in where `mode` is asked for. */
  modeFor(mode: Mode): Mode;
  stop(): Promise<void>;
}

const START_MS = 10_000;
const STOP_MS = 20_000;
const POLL_MS = 20;

/** PostgreSQL without a pooler: as many server connections as clients. */
export function direct({ port }: Setup): Contender {
  return { name: 'PostgreSQL', port, modeFor: mode => mode, stop: async () => {} };
}

/** PgBouncer in transaction mode; undefined when it is not installed. */
export async function pgbouncer(setup: Setup): Promise<Contender | undefined> {
  const path = findProgram('pgbouncer');
  if (path === undefined) return undefined;
  const port = await freePort();
  const prepares = await preparesStatements(path);
  const users = join(setup.folder, 'pgbouncer-users.txt');
  const file = join(setup.folder, 'pgbouncer.ini');
  writeFileSync(users, `"${setup.user}" ""\n`);
  writeFileSync(
    file,
    `[databases]
${setup.user} = host=${setup.host} port=${setup.port} dbname=${setup.user}
[pgbouncer]
listen_addr = ${setup.host}
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = ${setup.connections}
max_client_conn = ${setup.clients + 10}
log_connections = 0
log_disconnections = 0
${prepares ? 'max_prepared_statements = 200\n' : ''}`,
  );
  // Like PostgreSQL it refuses root.
  const account = await serverAccount();
  if (account !== undefined) for (const own of [users, file]) chownSync(own, account.uid, account.gid);
  const child = await launch(setup, 'PgBouncer', port, path, ['-q', file], { cwd: setup.folder, ...account });
  const modeFor = (mode: Mode) => (mode === 'prepared' && !prepares ? 'extended' : mode);
  return { name: 'PgBouncer', port, ...pidOf(child), modeFor, stop: () => stop(child) };
}

/** What makes one pglynx differ from another. */
export interface PglynxOptions {
  readonly name: string;
  /** Read/write splitting, and the query parser with it. */
  readonly split: boolean;
  /** Whether clients share server connections. */
  readonly multiplexing: 'auto' | 'off';
  /** A folder for a CPU profile. */
  readonly profiles?: string | undefined;
}

/** pglynx from this checkout. */
export async function pglynx(setup: Setup, options: PglynxOptions): Promise<Contender> {
  const { name, split, multiplexing, profiles } = options;
  const port = await freePort();
  const file = join(setup.folder, `${name.replaceAll(/\W+/g, '-')}.toml`);
  writeFileSync(
    file,
    `[general]
host = "${setup.host}"
port = ${port}
admin_username = "admin"
admin_password = "admin"
[pools.${setup.user}]
pool_mode = "transaction"
multiplexing = "${multiplexing}"
prepared_statements_cache_size = 200
query_parser_enabled = ${split}
query_parser_read_write_splitting = ${split}
primary_reads_enabled = true
[pools.${setup.user}.users.0]
username = "${setup.user}"
auth_type = "trust"
password = ""
pool_size = ${setup.connections}
[pools.${setup.user}.shards.0]
database = "${setup.user}"
servers = [["${setup.host}", ${setup.port}, "primary"]]
`,
  );
  const profiling = profiles === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profiles}`];
  const args = [...profiling, 'src/cli.ts', '--log-level', 'warn', '--log-format', 'structured', file];
  const child = await launch(setup, name, port, process.execPath, args, { cwd: join(import.meta.dirname, '..') });
  return { name, port, ...pidOf(child), modeFor: mode => mode, stop: () => stop(child) };
}

/** What any proxy in Node takes at the least: it passes bytes on, with a server connection for each client. */
export async function relay(setup: Setup): Promise<Contender> {
  const { host, port: to } = setup;
  const port = await freePort();
  const args = ['bench/relay.ts', host, `${to}`, `${port}`];
  const name = 'bytes in Node';
  const child = await launch(setup, name, port, process.execPath, args, { cwd: join(import.meta.dirname, '..') });
  return { name, port, ...pidOf(child), modeFor: mode => mode, stop: () => stop(child) };
}

/** Starts a program and returns when it listens. */
async function launch(
  { guard, folder, host }: Setup,
  name: string,
  port: number,
  path: string,
  args: readonly string[],
  options: SpawnOptions,
): Promise<ChildProcess> {
  const log = join(folder, `${name}.log`);
  const output = openSync(log, 'a');
  const child = spawn(path, args, { stdio: ['ignore', output, output], ...options });
  closeSync(output);
  const { pid } = child;
  if (pid !== undefined) {
    guard.watch(pid);
    child.once('exit', () => guard.forget(pid));
  }
  const logged = () => readFileSync(log, 'utf8').trim();
  const deadline = Date.now() + START_MS;
  while (!(await listens(host, port))) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      await stop(child);
      throw new ProgramError(`${name} did not start: ${logged()}`);
    }
    await sleep(POLL_MS);
  }
  child.once('exit', () => {
    if (!child.killed) console.error(`${name} has ended: ${logged()}`);
  });
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await ended;
  clearTimeout(killer);
}

function pidOf({ pid }: ChildProcess): { pid?: number } {
  return pid === undefined ? {} : { pid };
}

/** PgBouncer keeps prepared statements in transaction mode since 1.21. */
async function preparesStatements(path: string): Promise<boolean> {
  const [, major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(await run(path, ['--version'])) ?? []).map(Number);
  return major > 1 || minor >= 21;
}

function listens(host: string, port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, host, () => {
      socket.destroy();
      resolve(true);
    }).once('error', () => resolve(false));
  });
}
