/** PostgreSQL's client programs where they are installed: psql and pgbench, run to their end against one port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import { findProgram } from '../../bench/program.ts';
import { DATABASE, PASSWORDS } from '../cluster/index.ts';

/** How a program ended, and what it printed. */
export interface Outcome {
  /** The exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly port: number;
  /** Variables of its environment, over those that log in as alice. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly cwd?: string;
  /** Gets the process as soon as it runs. */
  readonly onStart?: (child: ChildProcess) => void;
}

/** Milliseconds after which a program is taken to hang. */
const LIMIT_MS = 30_000;

/** The path of a program; undefined when it is not installed, and then the test says aloud that it did not run. */
export function programFor(t: TestContext, name: 'psql' | 'pgbench'): string | undefined {
  const path = findProgram(name);
  if (path === undefined) {
    const reason = `${name} is not installed: this test did NOT run`;
    t.diagnostic(reason);
    t.skip(reason);
  }
  return path;
}

/** Runs a program as alice, without any setting of this machine or its user, and returns when it has ended. */
export async function run(path: string, args: readonly string[], options: RunOptions): Promise<Outcome> {
  const { port, env = {}, input = '', cwd, onStart } = options;
  const child = spawn(path, args, {
    stdio: 'pipe',
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
    ...(cwd === undefined ? {} : { cwd }),
    env: {
      PATH: process.env.PATH,
      LC_ALL: 'C.UTF-8',
      HOME: '/nonexistent',
      PGHOST: '127.0.0.1',
      PGPORT: String(port),
      PGUSER: 'alice',
      PGPASSWORD: PASSWORDS.alice,
      PGDATABASE: DATABASE,
      ...env,
    },
  });
  onStart?.(child);
  // A program that ends before it has read all of its input is judged by its exit code.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, stdout, stderr };
}
