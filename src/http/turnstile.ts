/** Lets one costly answer after another be made, with pauses: whoever asks, clients of the pools keep most of the time. */

/** How much longer than an answer takes the pause after it is, and the longest one in milliseconds. */
const PAUSE_FACTOR = 4;
const PAUSE_MAX_MS = 1000;

export class Turnstile {
  #last: Promise<void> = Promise.resolve();

  /** Makes an answer when its turn has come, unless whoever asked `isGone` by then; those that ask are answered in their order. */
  async pass<Answer>(isGone: () => boolean, make: () => Promise<Answer>): Promise<Answer | undefined> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = promise;
    await before;
    if (isGone()) {
      resolve();
      return undefined;
    }
    const began_at = performance.now();
    try {
      return await make();
    } finally {
      const pause_ms = Math.min((performance.now() - began_at) * PAUSE_FACTOR, PAUSE_MAX_MS);
      setTimeout(resolve, pause_ms).unref();
    }
  }
}
