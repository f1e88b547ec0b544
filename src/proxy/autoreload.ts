/** autoreload: looks at the files of the configuration every so often, and reloads when they have changed and are at rest. */
import { stat } from 'node:fs/promises';
import { errorText } from '../errors.ts';

/** What is watched, and for whom. */
export interface AutoreloadOwner {
  /** Milliseconds between two looks; undefined is never. */
  interval_ms(): number | undefined;
  /** The configuration file and what it names. */
  files(): readonly string[];
  /**
   * Applies what they hold, and has them {@link Autoreload.follow followed} from there.
   * @throws Error why nothing has changed
   */
  reload(): Promise<unknown>;
  failed(cause: string): void;
}

/** Milliseconds in which a file that is being written is expected to change again. */
const REST_MS = 200;

export class Autoreload {
  readonly #owner: AutoreloadOwner;
  #timer: NodeJS.Timeout | undefined;
  /** What the files looked like when they were read last. */
  #applied: string | undefined;
  /** What they looked like when a change was seen that may go on. */
  #changing: string | undefined;
  #failure = '';
  #stopped = false;

  constructor(owner: AutoreloadOwner) {
    this.#owner = owner;
  }

  /** Watches, as often as the settings say now, for files that do not {@link look} as they did when they were read. */
  follow(applied: string): void {
    this.#applied = applied;
    this.#changing = undefined;
    this.#failure = '';
    this.#arm();
  }

  /** Watches as before, as often as the settings say now. */
  goOn(): void {
    if (this.#applied !== undefined) this.follow(this.#applied);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #arm(pause_ms = this.#owner.interval_ms()): void {
    clearTimeout(this.#timer);
    if (pause_ms === undefined || pause_ms === 0 || this.#stopped) return;
    this.#timer = setTimeout(() => void this.#turn(), pause_ms).unref();
  }

  async #turn(): Promise<void> {
    const seen = await this.look();
    if (seen === this.#applied) this.#changing = undefined;
    else if (seen === this.#changing) return this.#reload();
    else {
      this.#changing = seen;
      return this.#arm(REST_MS);
    }
    this.#arm();
  }

  /** A file that cannot be used is tried again at the next look, and complained of once. */
  async #reload(): Promise<void> {
    try {
      await this.#owner.reload();
    } catch (error) {
      const failure = errorText(error);
      if (failure !== this.#failure) this.#owner.failed(failure);
      this.#failure = failure;
      this.#arm();
    }
  }

  /** How the files look now, which tells one state of them from another. */
  async look(): Promise<string> {
    const states = await Promise.all(
      this.#owner.files().map(async file => {
        const found = await stat(file, { bigint: true }).catch(() => undefined);
        return found === undefined ? 'missing' : `${found.ino} ${found.size} ${found.mtimeNs}`;
      }),
    );
    return states.join('\n');
  }
}
