/** A pglynx in a process of its own, as an operator runs it, whose memory can be measured. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS } from '../cluster/index.ts';
import { configText, type ProxyOptions, type Servers } from '../proxy/index.ts';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const PAGE_BYTES = 4096;

export class PglynxProcess {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #folder: string;

  private constructor(child: ChildProcess, port: number, folder: string) {
    this.#child = child;
    this.port = port;
    this.#folder = folder;
  }

  /** `files_max` limits the file descriptors of the process. */
  static async start(
    servers: Servers,
    options: ProxyOptions,
    { files_max }: { readonly files_max?: number } = {},
  ): Promise<PglynxProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'pglynx-process-'));
    const path = join(folder, 'pgcat.toml');
    writeFileSync(path, configText(servers, options));
    const limit = files_max === undefined ? '' : `ulimit -n ${files_max}; `;
    const command = ['-c', `${limit}exec "$@"`, 'sh', process.execPath, CLI, path];
    const child = spawn('sh', command, { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const line of createInterface(child.stdout)) {
      const entry: { msg: string; port?: number } = JSON.parse(line);
      if (!entry.msg.startsWith('Running on') || entry.port === undefined) continue;
      child.stdout.resume();
      return new PglynxProcess(child, entry.port, folder);
    }
    rmSync(folder, { recursive: true, force: true });
    throw new Error('pglynx did not start');
  }

  /** Bytes of memory that the process uses now, as the kernel counts them. */
  get resident_bytes(): number {
    const [, pages] = readFileSync(`/proc/${this.#child.pid}/statm`, 'utf8').split(' ');
    return Number(pages) * PAGE_BYTES;
  }

  /** The most bytes of memory that the process used while `work` was done. */
  async peakDuring(work: Promise<unknown>): Promise<number> {
    let working = true;
    const done = work.finally(() => {
      working = false;
    });
    let peak_bytes = this.resident_bytes;
    while (working) {
      await Promise.race([sleep(20), done]);
      peak_bytes = Math.max(peak_bytes, this.resident_bytes);
    }
    await done;
    return peak_bytes;
  }

  /** A client logged in as alice. */
  connect(): Promise<RawClient> {
    return RawClient.connect({ port: this.port, user: 'alice', database: DATABASE, password: PASSWORDS.alice });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const gone = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await gone;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
