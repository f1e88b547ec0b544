/** What systemd hands over to a service, and what a service tells systemd. */
import { spawn } from 'node:child_process';
import { errorText } from '../errors.ts';

/** Where it is told that systemd cannot be. */
export interface SystemdLog {
  warn(text: string): void;
}

/** The first file descriptor that is passed on. */
const FIRST_FD = 3;
const FDS_MAX = 1024;
/** Node has no Unix datagram sockets: this program of systemd's own sends the messages. */
const PROGRAM = 'systemd-notify';
/** Milliseconds after which the program is taken to hang. */
const LIMIT_MS = 5000;

/** The sockets that systemd listens on for this process: their file descriptors, none without socket activation. */
export function inheritedSockets(env: NodeJS.ProcessEnv, pid: number): number[] {
  const count = Number(env.LISTEN_FDS);
  if (env.LISTEN_PID !== String(pid) || !Number.isInteger(count) || count < 1 || count > FDS_MAX) return [];
  return Array.from({ length: count }, (_, at) => FIRST_FD + at);
}

/** Messages to the service manager, in their order; nothing is sent without NOTIFY_SOCKET. */
export class Systemd {
  readonly #env: NodeJS.ProcessEnv;
  readonly #log: SystemdLog;
  readonly #watchdog: NodeJS.Timeout | undefined;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  #broken = false;

  constructor(env: NodeJS.ProcessEnv, log: SystemdLog) {
    this.#env = env;
    this.#log = log;
    const isOurs = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(process.pid);
    const limit_ms = isOurs ? Number(env.WATCHDOG_USEC) / 1000 : 0;
    // Half of the time, as systemd's manual has it.
    if (limit_ms > 0) this.#watchdog = setInterval(() => this.#alive(), limit_ms / 2).unref();
  }

  /** It serves clients, for the first time or again. */
  ready(status: string): void {
    this.#send(['READY=1', `STATUS=${status}`]);
  }

  /** A reload begins, which {@link ready} ends. */
  reloading(): void {
    this.#send(['RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, 'STATUS=Reloading']);
  }

  stopping(status: string): void {
    this.#send(['STOPPING=1', `STATUS=${status}`]);
  }

  status(text: string): void {
    this.#send([`STATUS=${text}`]);
  }

  /** No more signs of life; what was sent has gone when this resolves. */
  async end(): Promise<void> {
    clearInterval(this.#watchdog);
    await this.#last;
  }

  #alive(): void {
    if (this.#waiting === 0) this.#send(['WATCHDOG=1']);
  }

  #send(states: readonly string[]): void {
    if (!this.#env.NOTIFY_SOCKET || this.#broken) return;
    this.#waiting++;
    this.#last = this.#last
      .then(() => this.#run(states))
      .catch((thrown: unknown) => {
        if (!this.#broken) this.#log.warn(`systemd cannot be told how the service is: ${errorText(thrown)}`);
        this.#broken = true;
      })
      .finally(() => {
        this.#waiting--;
      });
  }

  #run(states: readonly string[]): Promise<void> {
    const { PATH, NOTIFY_SOCKET } = this.#env;
    const child = spawn(PROGRAM, [`--pid=${process.pid}`, ...states], {
      env: { PATH, NOTIFY_SOCKET },
      stdio: 'ignore',
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => {
        if (code === 0) resolve();
        else reject(new Error(`${PROGRAM} ended (${code ?? signal})`));
      });
    });
  }
}
