/** The command line as a user runs it: a process of its own, what it prints, and how it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

export const CLI = join(import.meta.dirname, '../../src/cli.ts');

/** The repository's folder, where a user runs commands. */
export const ROOT = join(import.meta.dirname, '../..');

/** Nothing of the tester's own environment may choose a file, a level or a format. */
const {
  CONFIG_FILE: _config,
  LOG_LEVEL: _level,
  LOG_FORMAT: _format,
  LOG_FILE: _file,
  NO_COLOR: _color,
  ...environment
} = process.env;

export class Command {
  /** Everything on standard output so far. */
  output = '';
  /** Everything on standard error so far. */
  complaint = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | NodeJS.Signals>;
  readonly #watchers = new Set<() => void>();

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on('data', bytes => {
      this.output += String(bytes);
      for (const look of this.#watchers) look();
    });
    child.stderr?.on('data', bytes => {
      this.complaint += String(bytes);
    });
    this.#ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(code ?? signal ?? 0));
    });
  }

  /** Runs `pglynx` with these arguments. */
  static pglynx(...args: string[]): Command {
    return Command.run(process.execPath, [CLI, ...args]);
  }

  /** Runs any program in the repository's folder, with these variables besides the usual, and these files from number 3 on. */
  static run(
    program: string,
    args: readonly string[],
    variables: Readonly<Record<string, string>> = {},
    files: readonly number[] = [],
  ): Command {
    const env = { ...environment, ...variables };
    return new Command(spawn(program, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe', ...files] }));
  }

  /** Returns what the pattern captures once standard output has it; fails when the process ends before. */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    let look = () => {};
    const found = new Promise<RegExpExecArray>(resolve => {
      look = () => {
        const match = pattern.exec(this.output);
        if (match !== null) resolve(match);
      };
    });
    this.#watchers.add(look);
    look();
    const match = await Promise.race([found, this.#ended]);
    this.#watchers.delete(look);
    if (typeof match === 'object') return match;
    throw new Error(`ended (${match}) before it printed ${pattern}:\n${this.output}${this.complaint}`);
  }

  /** The exit code, or the signal that ended it. */
  get ended(): Promise<number | NodeJS.Signals> {
    return this.#ended;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
