/** The owner of pglynx's own exchanges: swallows their replies, keeps the first error, and says when they are over. */
import { errorFields } from '../wire/backend.ts';
import type { ExchangeOwner } from './exchange.ts';

/** A server's ErrorResponse to one of pglynx's own statements. */
export class ServerError extends Error {
  readonly sqlstate: string;

  constructor(fields: Map<string, string>) {
    super(fields.get('M') ?? 'the server sent an error without a message');
    this.name = 'ServerError';
    this.sqlstate = fields.get('C') ?? 'XX000';
  }
}

export class SilentOwner implements ExchangeOwner {
  readonly #ended: (error: Map<string, string> | undefined) => void;
  #error: Map<string, string> | undefined;

  constructor(ended: (error: Map<string, string> | undefined) => void) {
    this.#ended = ended;
  }

  reply(): void {}
  skips(): void {}
  completed(): void {}
  described(): void {}
  parameterChanged(): void {}
  copyChanged(): void {}
  endangered(): void {}
  doubts(): void {}
  unread(): void {}

  moves(): boolean {
    return false;
  }

  yields(): boolean {
    return false;
  }

  repeatsAfter(): boolean {
    return false;
  }

  replyError(message: Buffer): void {
    this.#error ??= errorFields(message, 0, message.length);
  }

  exchangeEnded(): void {
    this.#ended(this.#error);
  }

  connectionLost(cause: string): void {
    this.#ended(
      this.#error ??
        new Map([
          ['M', cause],
          ['C', '08006'],
        ]),
    );
  }
}
