/** What is being done right now, for people who wait: one line that is rewritten on a terminal, else a line a step. */

const CLEAR_LINE = '\r\u001b[K';
const FRAMES = ['|', '/', '-', '\\'];
const FRAME_MS = 100;

export class Progress {
  readonly #began_ms = performance.now();
  #step = '';
  #frame = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Shows the next step. */
  step(words: string): void {
    this.#step = words;
    if (!process.stdout.isTTY) {
      console.log(`${words} ...`);
      return;
    }
    this.#timer ??= setInterval(() => this.#draw(), FRAME_MS);
    this.#draw();
  }

  /** Takes the line away. */
  end(): void {
    clearInterval(this.#timer);
    if (process.stdout.isTTY) process.stdout.write(CLEAR_LINE);
  }

  #draw(): void {
    const elapsed_s = ((performance.now() - this.#began_ms) / 1000).toFixed(1);
    process.stdout.write(`${CLEAR_LINE}${FRAMES[this.#frame++ % FRAMES.length]} ${this.#step} (${elapsed_s} s)`);
  }
}
