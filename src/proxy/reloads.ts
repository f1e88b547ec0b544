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
    this.#next ??= this.#follow();
    return this.#next;
  }

  /** Resolves when none is under way. */
  async settled(): Promise<void> {
    if (this.#isUnderWay) await this.#running.catch(() => undefined);
  }

  async #follow(): Promise<Result> {
    await this.#running.catch(() => undefined);
    this.#next = undefined;
    this.#isUnderWay = true;
    const reload = this.#reload().finally(() => {
      this.#isUnderWay = false;
    });
    this.#running = reload;
    return reload;
  }
}
