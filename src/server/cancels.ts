/** The cancel requests under way to one server process. */
import { type CancelTarget, sendCancel } from './cancel.ts';

const AGAIN_MS = 50;

export class Cancels {
  #pending = 0;
  readonly #waiting: (() => void)[] = [];
  /** What is to be canceled once more. */
  readonly #again = new WeakSet<object>();

  /** Whether one is under way: what the server runs next could be hit. */
  get pending(): boolean {
    return this.#pending > 0;
  }

  /** Asks the server to cancel what the process runs; `failed` is told when nobody knows what became of that. */
  send(server: CancelTarget, pid: number, secret: Buffer, failed: (failure: string) => void): void {
    this.#pending++;
    sendCancel(server, pid, secret, failure => {
      this.#pending--;
      if (failure !== undefined) failed(failure);
      if (this.#pending === 0) this.release();
    });
  }

  /** Calls back when a statement that goes on is to be canceled once more: a server takes no notice before it has begun. */
  later(exchange: object, callback: () => void): void {
    if (this.#again.has(exchange)) return;
    this.#again.add(exchange);
    const again = () => {
      this.#again.delete(exchange);
      callback();
    };
    this.whenSettled(() => setTimeout(again, AGAIN_MS).unref());
  }

  /** Calls back when none is under way any more: now, if none is. */
  whenSettled(callback: () => void): void {
    if (this.#pending === 0) callback();
    else this.#waiting.push(callback);
  }

  /** Calls back whoever waits. */
  release(): void {
    for (const waiting of this.#waiting.splice(0)) waiting();
  }
}
