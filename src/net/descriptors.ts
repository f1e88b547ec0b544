/** File descriptors, of which a process may have so many: what it means to have none left, and who is told. */
import { closeSync, openSync } from 'node:fs';
import { devNull } from 'node:os';

/** What it is called towards operators and clients. */
export const NO_DESCRIPTOR =
  'pglynx has no file descriptor left; raise the limit of its process (ulimit -n, LimitNOFILE)';

/** Whether this failed for want of a file descriptor, which is nobody else's fault. */
export function lacksDescriptor(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'EMFILE' || error.code === 'ENFILE');
}

/** Where it is told. */
export interface DescriptorLog {
  error(text: string): void;
  info(text: string): void;
}

/** Milliseconds between two words about a want that lasts. */
const AGAIN_MS = 60_000;

/**
 * Tells of the want of descriptors, and of its end. While there are none the system's accept queue is emptied without a
 * word to anybody, so this looks for itself.
 */
export class DescriptorWatch {
  readonly #log: DescriptorLog;
  #told_at: number | undefined;

  constructor(log: DescriptorLog) {
    this.#log = log;
  }

  /** Looks whether there is one left. */
  look(now: number): void {
    try {
      closeSync(openSync(devNull, 'r'));
    } catch (error) {
      if (lacksDescriptor(error)) this.#lacking(now);
      return;
    }
    if (this.#told_at === undefined) return;
    this.#told_at = undefined;
    this.#log.info('There are file descriptors again: clients are let in');
  }

  #lacking(now: number): void {
    if (this.#told_at !== undefined && now - this.#told_at < AGAIN_MS) return;
    this.#told_at = now;
    this.#log.error(`Clients cannot be let in: ${NO_DESCRIPTOR}`);
  }
}
