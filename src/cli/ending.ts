/** How a service ends: the signals and commands that ask for it, the more often the more urgently. */
import type { Logger } from 'pino';
import type { PgProxy, ShutdownMode } from '../index.ts';
import type { Systemd } from './systemd.ts';

/** npm passes a Ctrl-C on that the terminal has sent already: what comes this soon is the same one. */
const ECHO_MS = 300;
/** Milliseconds between two words to systemd about who is left. */
const STATUS_MS = 2000;

export class Ending {
  /** Resolves when everything is closed. */
  readonly over: Promise<void>;
  readonly #proxy: PgProxy;
  readonly #log: Logger;
  readonly #systemd: Systemd;
  readonly #started: Promise<unknown>;
  readonly #settle: () => void;
  #first_ms: number | undefined;
  #forced = false;
  #status: NodeJS.Timeout | undefined;

  /** Nothing ends before `started` is settled. */
  constructor(proxy: PgProxy, log: Logger, systemd: Systemd, started: Promise<unknown>) {
    this.#proxy = proxy;
    this.#started = started;
    this.#log = log;
    this.#systemd = systemd;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#settle = resolve;
  }

  /** Ends the service at these signals. */
  listen(names: readonly NodeJS.Signals[]): void {
    const act = (name: NodeJS.Signals, number: number) => this.#signal(name, number);
    for (const name of names) process.on(name, act);
  }

  /** Takes no more clients, and ends when those who are here have left in the way that `mode` says. */
  begin(mode: ShutdownMode): void {
    this.#log.info({ mode }, `Shutting down, ${this.#proxy.client_count} clients are connected`);
    this.#tell();
    void this.#proxy.drain(mode).then(() => this.#stop());
  }

  #signal(name: NodeJS.Signals, number: number): void {
    const now_ms = performance.now();
    if (this.#first_ms === undefined) {
      this.#first_ms = now_ms;
      if (name === 'SIGTERM' && this.#proxy.endsAtSigterm) {
        this.#log.info(`Got SIGTERM, closing with ${this.#proxy.client_count} clients active`);
        void this.#stop();
      } else {
        this.#log.info(`${name}: waiting for transactions to end; a second signal ends at once`);
        this.begin('drain');
      }
    } else if (now_ms - this.#first_ms > ECHO_MS) this.#force(name, number);
  }

  /** Whoever cannot wait does not wait for servers either, if he says so once more. */
  #force(name: NodeJS.Signals, number: number): void {
    const code = 128 + number;
    if (this.#forced) process.exit(code);
    this.#forced = true;
    this.#log.warn(`${name}: closing with ${this.#proxy.client_count} clients active`);
    process.exitCode = code;
    void this.#stop().then(() => process.exit(code));
  }

  async #stop(): Promise<void> {
    this.#tell();
    await this.#started.catch(() => undefined);
    await this.#proxy.stop();
    clearInterval(this.#status);
    await this.#systemd.end();
    this.#settle();
  }

  #tell(): void {
    if (this.#status !== undefined) return;
    const text = () => `Shutting down, ${this.#proxy.client_count} clients left`;
    this.#systemd.stopping(text());
    this.#status = setInterval(() => this.#systemd.status(text()), STATUS_MS).unref();
  }
}
