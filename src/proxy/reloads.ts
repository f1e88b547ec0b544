/** Reloads one after another: who asks while one is under way gets the next, which all who wait for it share. */
export class Reloads<Result> {
  readonly #reload: () => Promise<Result>;
  #running: Promise<unknown>;
  #next: Promise<Result> | undefined;
  #isUnderWay = false;

  /** The first begins when `ready` is settled. */
  constructor(reload: () => Promise<Result>, ready: Promise<unknown>) {
    this.#reload = reload;
    this.#running = ready;
  }

  /**
   * The result of a reload that begins after this call.
   * @throws Error why it failed
   */
  ask(): Promise<Result> {
    this.#next ??= this.#queue(() => {
      this.#next = undefined;
      return this.#reload();
    });
    return this.#next;
  }

  /**
   * The result of another change of the configuration, which has its turn like a reload.
   * @throws Error why it failed
   */
  change(change: () => Promise<Result>): Promise<Result> {
    // A reload that is asked for later begins later.
    this.#next = undefined;
    return this.#queue(change);
  }

  /** Resolves when none is under way. */
  async settled(): Promise<void> {
    if (this.#isUnderWay) await this.#running.catch(() => undefined);
  }

  #queue(change: () => Promise<Result>): Promise<Result> {
    const begun = this.#running.then(
      () => this.#begin(change),
      () => this.#begin(change),
    );
    this.#running = begun;
    return begun;
  }

  #begin(change: () => Promise<Result>): Promise<Result> {
    this.#isUnderWay = true;
    return change().finally(() => {
      this.#isUnderWay = false;
    });
  }
}
