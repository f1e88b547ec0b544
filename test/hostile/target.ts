/** A pglynx under attack, in a process of its own, with an honest client that it must go on serving. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { rowsOf } from '../client/backend.ts';
import { RawClient } from '../client/raw.ts';
import { PglynxProcess } from '../failure/process.ts';
import type { ProxyOptions, Servers } from '../proxy/index.ts';

/** How long an attacker may be left without an answer, beside what an honest client waits for its own at that time. */
const ANSWER_MS = 1000;
/** How long an attacker that got none waits before it says that nothing will follow. */
const PATIENCE_MS = 40;
const MEGABYTE = 2 ** 20;
/** What was read and thrown away may wait for the collector on a busy machine. */
const GROWTH_MAX_BYTES = 150 * MEGABYTE;

/** Something one attacker does with a connection of its own. */
export type Attack = (attacker: RawClient) => Promise<void> | void;

/** Sends these bytes and nothing else. */
export function bytes(...messages: readonly Buffer[]): Attack {
  return attacker => attacker.send(...messages);
}

export class Target {
  readonly pglynx: PglynxProcess;
  readonly #honest: RawClient;
  readonly #resident_bytes: number | undefined;
  #count = 0;

  private constructor(pglynx: PglynxProcess, honest: RawClient) {
    this.pglynx = pglynx;
    this.#honest = honest;
    this.#resident_bytes = residentBytes(pglynx);
  }

  static async start(servers: Servers, options: ProxyOptions): Promise<Target> {
    const pglynx = await PglynxProcess.start(servers, options);
    return new Target(pglynx, await pglynx.connect());
  }

  get port(): number {
    return this.pglynx.port;
  }

  /**
   * Lets all of them attack at once: each connection is answered or closed within a second, the honest client is served
   * meanwhile, the process lives and keeps none of what it was sent.
   */
  async withstands(attacks: readonly Attack[]): Promise<void> {
    const began_at = performance.now();
    const over = Promise.all(attacks.map(attack => this.#suffer(attack)));
    await this.serves();
    const honest_ms = performance.now() - began_at;
    for (const took_ms of await over) assert.ok(took_ms < ANSWER_MS + 2 * honest_ms, `no answer in ${took_ms} ms`);
    this.keepsMemory();
  }

  /** Does so with attacks of all kinds, `size` at a time. */
  async withstandsAll(attack: fc.Arbitrary<Attack>, { runs = 12, size = 24 } = {}): Promise<void> {
    const crowd = fc.array(attack, { minLength: size, maxLength: size });
    await fc.assert(
      fc.asyncProperty(crowd, attacks => this.withstands(attacks)),
      // A smaller crowd that does the same is not worth its time.
      { numRuns: runs, endOnFailure: true },
    );
  }

  /** The honest client, connected since the start, is answered rightly. */
  async serves(): Promise<void> {
    const number = String(++this.#count);
    assert.deepEqual(rowsOf(await this.#honest.query(`SELECT ${number}`)), [[number]]);
  }

  keepsMemory(): void {
    const now_bytes = residentBytes(this.pglynx);
    if (now_bytes === undefined || this.#resident_bytes === undefined) return;
    const growth_bytes = now_bytes - this.#resident_bytes;
    assert.ok(growth_bytes < GROWTH_MAX_BYTES, `pglynx grew by ${growth_bytes / MEGABYTE} MB`);
  }

  async stop(): Promise<void> {
    this.#honest.destroy();
    await this.pglynx.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** Milliseconds until pglynx has answered, or closed the connection of whoever waits for more of nothing. */
  async #suffer(attack: Attack): Promise<number> {
    const attacker = await RawClient.open(this);
    try {
      await attack(attacker);
      let began_at = performance.now();
      await answered(attacker, PATIENCE_MS);
      if (!isAnswered(attacker)) {
        attacker.end();
        began_at = performance.now();
        await answered(attacker, 10 * ANSWER_MS);
      }
      return performance.now() - began_at;
    } finally {
      attacker.destroy();
    }
  }
}

function isAnswered(attacker: RawClient): boolean {
  return attacker.closed || attacker.unread_bytes > 0;
}

async function answered(attacker: RawClient, limit_ms: number): Promise<void> {
  const deadline = performance.now() + limit_ms;
  while (!isAnswered(attacker) && performance.now() < deadline) await sleep(2);
}

/** Undefined where the kernel does not tell. */
function residentBytes(pglynx: PglynxProcess): number | undefined {
  return process.platform === 'linux' ? pglynx.resident_bytes : undefined;
}
