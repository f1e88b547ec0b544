/** A process of its own between a client and pglynx, so that a test can kill the process that pglynx talks to. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ChaosProxy } from '../chaos/proxy.ts';

/** A relay for as many connections as are made to `port`; `kill` ends them all as SIGKILL ends a client. */
export class Relay {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(target_port: number): Promise<Relay> {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), String(target_port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [port] = await once(child.stdout, 'data');
    return new Relay(child, Number(port));
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

if (import.meta.main) {
  const proxy = await ChaosProxy.start({ host: '127.0.0.1', port: Number(process.argv[2]) });
  console.log(proxy.port);
}
