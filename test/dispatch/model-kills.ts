/** When server connections were broken from outside: what alone explains that a client loses a statement. */

/** For so long after a connection was broken it may still look well. */
const NOTICED_MS = 150;

/** SQLSTATEs of a lost server connection. */
const LOSSES: readonly string[] = ['08006', '08007', '57P01'];

/** What a client is told of a statement that was never sent, since no new connection came about. */
const UNSENT = '58000';

export function isLoss(code: string): boolean {
  return LOSSES.includes(code);
}

export class Kills {
  /** Whether a read that one hits must be made good. */
  readonly repairs: boolean;
  /** Whether they break new connections, too. */
  readonly #breakLogins: boolean;
  /** When each was over for certain; infinite before that. */
  readonly #ends_ms: number[] = [];

  constructor(repairs: boolean, breakLogins: boolean) {
    this.repairs = repairs;
    this.#breakLogins = breakLogins;
  }

  get count(): number {
    return this.#ends_ms.length;
  }

  /** One takes place at some moment before this is resolved. */
  async add(killing: Promise<unknown>): Promise<void> {
    const index = this.#ends_ms.push(Number.POSITIVE_INFINITY) - 1;
    await killing;
    this.#ends_ms[index] = performance.now();
  }

  /** How many may have been noticed since this moment. */
  since(from_ms: number): number {
    return this.#ends_ms.filter(end_ms => end_ms + NOTICED_MS >= from_ms).length;
  }

  /** Whether one since this moment may be the reason of an error. */
  explain(code: string, from_ms: number): boolean {
    return (isLoss(code) || (this.#breakLogins && code === UNSENT)) && this.since(from_ms) > 0;
  }
}
