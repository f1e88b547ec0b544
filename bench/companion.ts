/** A process of the benchmark's own beside the contenders: it tells numbers by name, and ends when its input does. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Guard } from '../src/demo/guard.ts';
import { ProgramError } from './program.ts';

/** In the companion: says a number; `ready` says that it may be used. */
export function tell(name: string, value: number): void {
  process.stdout.write(`${name} ${value}\n`);
}

/** In the companion: resolves when it is to end, or when the benchmark is gone. */
export function stdinEnd(): Promise<void> {
  return new Promise(resolve => process.stdin.resume().once('close', resolve).once('end', resolve));
}

/** A companion that takes longer to end hangs. */
const END_MS = 20_000;

export class Companion {
  /** What it has told. */
  readonly told: ReadonlyMap<string, number>;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #exited: Promise<void>;

  private constructor(
    child: ChildProcessByStdio<Writable, Readable, Readable>,
    told: ReadonlyMap<string, number>,
    exited: Promise<void>,
  ) {
    this.#child = child;
    this.told = told;
    this.#exited = exited;
  }

  /**
   * Starts `script` (a path in this folder) and returns when it is ready.
   * @throws ProgramError when it ends before.
   */
  static async start(guard: Guard, script: string, args: readonly (string | number)[]): Promise<Companion> {
    const child = spawn(process.execPath, [join(import.meta.dirname, script), ...args.map(String)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { pid } = child;
    if (pid !== undefined) {
      guard.watch(pid);
      child.once('exit', () => guard.forget(pid));
    }
    const told = new Map<string, number>();
    const lines = createInterface({ input: child.stdout });
    const ready = new Promise<void>(resolve =>
      lines.on('line', line => {
        const [name = '', value = ''] = line.split(' ');
        told.set(name, Number(value));
        if (name === 'ready') resolve();
      }),
    );
    const code = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const exited = Promise.all([code, text(child.stderr)]).then(([exit, complaint]) => {
      if (exit === 0) return;
      const [error = complaint.trim() || `exit code ${exit}`] = /^\w*Error\b.*$/m.exec(complaint) ?? [];
      throw new ProgramError(`${script}: ${error}`);
    });
    // It may fail while nobody waits for it.
    exited.catch(() => {});
    // It may be gone already.
    child.stdin.on('error', () => {});
    await Promise.race([ready, exited]);
    if (!told.has('ready')) throw new ProgramError(`${script} ended before it was ready`);
    return new Companion(child, told, exited);
  }

  /**
   * Ends it and returns when it is gone; `told` is complete then.
   * @throws ProgramError when it has failed.
   */
  async end(): Promise<void> {
    this.#child.stdin.end();
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), END_MS);
    await this.#exited.finally(() => clearTimeout(killer));
  }

  /** Ends it after some work, which fails first: that may be why the companion fails as well. */
  async during<T>(work: Promise<T>): Promise<T> {
    const [done] = await Promise.allSettled([work]);
    const [ended] = await Promise.allSettled([this.end()]);
    if (done.status === 'rejected') throw done.reason;
    if (ended.status === 'rejected') throw ended.reason;
    return done.value;
  }
}
