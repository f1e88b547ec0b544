/** A small shell that outlives us: when this process ends, however it ends, it stops our servers and removes their folder. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Writable } from 'node:stream';

/**
 * Reads `+ PID` and `- PID` until the pipe closes, which the kernel does even after SIGKILL; then ends what is left.
 * SIGQUIT is PostgreSQL's immediate shutdown; a stopped process must be continued to see it.
 */
const SCRIPT = `
trap '' INT TERM HUP
live=' '
while read -r sign pid; do
  if [ "$sign" = + ]; then live="$live$pid "; else live="\${live%% $pid *} \${live#* $pid }"; fi
done
for pid in $live; do kill -QUIT "$pid"; kill -CONT "$pid"; done 2>/dev/null
tries=0
for pid in $live; do
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null
done
[ -n "$1" ] || exit 0
# What a program that is just ending still writes may get in between.
until rm -rf "$1" 2>/dev/null || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.1; done
`;

export class Guard {
  readonly #shell: ChildProcess;
  readonly #pipe: Writable;
  readonly #ended: Promise<void>;

  /** Watches over `folder`, or only over processes when it is to be kept (undefined). */
  constructor(folder: string | undefined) {
    // By way of a variable, so that lists of processes stay readable.
    const shell = spawn('/bin/sh', ['-c', 'eval "$PGLYNX_GUARD"', 'pglynx-guard', folder ?? ''], {
      cwd: '/',
      env: { PATH: '/usr/bin:/bin', PGLYNX_GUARD: SCRIPT },
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#shell = shell;
    this.#pipe = shell.stdin;
    this.#ended = new Promise((resolve, reject) => {
      shell.once('error', reject);
      shell.once('close', () => resolve());
    });
    // Neither the shell nor its pipe keeps this process alive.
    shell.unref();
    if ('unref' in shell.stdin && typeof shell.stdin.unref === 'function') shell.stdin.unref();
  }

  /** From now on the process `pid` ends with us. */
  watch(pid: number): void {
    this.#pipe.write(`+ ${pid}\n`);
  }

  /** The process `pid` has ended: its number may belong to somebody else soon. */
  forget(pid: number): void {
    this.#pipe.write(`- ${pid}\n`);
  }

  /** Ends the guard, which first does its work on whatever it still watches. */
  async end(): Promise<void> {
    this.#shell.ref();
    this.#pipe.end();
    await this.#ended;
  }
}
