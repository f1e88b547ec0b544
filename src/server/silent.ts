/** The owner of pglynx's own exchanges: swallows their replies, keeps the first error, and says when they are over. */
import { errorFields } from '../wire/backend.ts';
import type { ExchangeOwner } from './exchange.ts';

export class SilentOwner implements ExchangeOwner {
  readonly #ended: (error: Map<string, string> | undefined) => void;
  #error: Map<string, string> | undefined;

  constructor(ended: (error: Map<string, string> | undefined) => void) {
    this.#ended = ended;
  }

  reply(): void {}
  completed(): void {}
  parameterChanged(): void {}
  copyInStarted(): void {}

  replyError(message: Buffer): void {
    this.#error ??= errorFields(message, 0, message.length);
  }

  exchangeEnded(): void {
    this.#ended(this.#error);
  }

  connectionLost(cause: string): void {
    this.#ended(this.#error ?? new Map([['M', cause]]));
  }
}
