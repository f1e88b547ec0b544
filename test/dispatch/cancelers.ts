/** Clients that work and are cancelled at any moment, and note which of their exchanges were and may have been. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { type Ask, ask, type Forms, LONG_READS, prepare, SHORT_READS, SLOW_READS, verdict, WRITES } from './asks.ts';
import type { Ledger } from './ledger.ts';
import { moment, openWindow, type Window } from './window.ts';

const CANCELED = '57014';
const DEADLINE_MS = 15_000;

/** The most milliseconds that a client rests; were it less, most would be cancelled while they wait for a connection. */
const REST_MS = 90;

/** An exchange that ended by cancel. */
export interface Canceled extends Window {
  readonly tag: string;
}

/** Requests that all clients of a test have yet to send. */
export class Quota {
  left: number;

  constructor(count: number) {
    this.left = count;
  }

  /** Whether there was one left; it is the caller's now. */
  take(): boolean {
    return this.left-- > 0;
  }
}

export class Worker {
  readonly number: number;
  /** Every request that was sent with the key of this client. */
  readonly requests: Window[] = [];
  readonly canceled: Canceled[] = [];
  /** Exchanges that were answered. */
  answered = 0;
  readonly #proxy: TestProxy;
  readonly #client: RawClient;
  readonly #ledger: Ledger;
  #count = 0;

  private constructor(proxy: TestProxy, client: RawClient, number: number, ledger: Ledger) {
    this.#proxy = proxy;
    this.#client = client;
    this.number = number;
    this.#ledger = ledger;
  }

  static async start(
    proxy: TestProxy,
    number: number,
    ledger: Ledger,
    settings: Readonly<Record<string, string>>,
  ): Promise<Worker> {
    const client = await proxy.raw(settings);
    await prepare(client);
    return new Worker(proxy, client, number, ledger);
  }

  /** Works until there are no requests left; one of them is aimed at each exchange of a victim. */
  async run(quota: Quota, isVictim: boolean): Promise<void> {
    while (quota.left > 0) {
      await this.#work(isVictim && quota.take());
      await sleep(randomInt(1, REST_MS));
    }
  }

  /** A statement that only a request can end, and requests until it has ended. */
  async endless(): Promise<void> {
    const tag = this.#tag();
    const endless = { ...COMMAND, tag, messages: [frontend.query(`SELECT '${tag}', pg_sleep(1000)`)] };
    let waiting = true;
    const ended = this.#exchange([endless]).finally(() => {
      waiting = false;
    });
    while (waiting) {
      await Promise.race([sleep(randomInt(20)), ended]);
      if (waiting) await this.cancel();
    }
    assert.deepEqual(await ended, [CANCELED]);
  }

  /** Sends a request on a connection of its own and waits until pglynx has closed that. */
  async cancel(): Promise<void> {
    const connection = await RawClient.open(this.#proxy);
    const request = openWindow();
    this.requests.push(request);
    connection.send(frontend.cancelRequest(this.#client.pid, this.#client.secret));
    await connection.untilClosed(DEADLINE_MS);
    request.ended = moment();
    connection.destroy();
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  async #work(isAimedAt: boolean): Promise<void> {
    const die = randomInt(100);
    if (die < 30) await this.#exchange([this.#ask(SHORT_READS)], isAimedAt);
    else if (die < 55) await this.#exchange([this.#ask(SLOW_READS)], isAimedAt);
    else if (die < 60) await this.#exchange([this.#ask(LONG_READS)], isAimedAt);
    else if (die < 80) await this.#exchange([this.#ask(WRITES)], isAimedAt);
    else if (die < 88) await this.#exchange([SHORT_READS, WRITES, SHORT_READS].map(this.#ask, this), isAimedAt);
    else await this.#transaction(isAimedAt);
  }

  #tag(): string {
    return `<${this.number}.${++this.#count}>`;
  }

  #ask(forms: Forms): Ask {
    return ask(forms, this.#tag());
  }

  /** Sends all of them in one write; answers their SQLSTATEs, undefined for success. */
  async #exchange(asks: readonly Ask[], isAimedAt = false): Promise<(string | undefined)[]> {
    const began = moment();
    this.#client.send(...asks.flatMap(({ messages }) => messages));
    const takes_ms = asks.reduce((sum, one) => sum + one.takes_ms, 0);
    const aimed = isAimedAt ? this.#cancelWithin(takes_ms + 1) : undefined;
    const codes: (string | undefined)[] = [];
    for (const one of asks) codes.push(await this.#answer(one, began));
    await aimed;
    return codes;
  }

  async #cancelWithin(time_ms: number): Promise<void> {
    const delay_ms = Math.floor((randomInt(1000) / 1000) * time_ms);
    if (delay_ms > 0) await sleep(delay_ms);
    await this.cancel();
  }

  async #answer(one: Ask, began: number): Promise<string | undefined> {
    const reply = await this.#client.ready(DEADLINE_MS).catch((error: Error) => {
      throw new Error(`no answer to ${one.tag}: ${error.message}`);
    });
    const code = verdict(one, reply);
    this.answered++;
    for (const id of one.writes) this.#ledger.note(id, code === undefined ? 'done' : 'failed');
    if (code === undefined) return undefined;
    assert.equal(code, CANCELED, `${one.tag}: ${code}`);
    this.canceled.push({ tag: one.tag, began, ended: moment() });
    return code;
  }

  /** A transaction of one write; any of its statements may be hit, and only its COMMIT decides. */
  async #transaction(isAimedAt: boolean): Promise<void> {
    const command = (text: string) => ({ ...COMMAND, tag: this.#tag(), messages: [frontend.query(text)] });
    const write = this.#ask(WRITES);
    const steps = [command('BEGIN'), this.#ask(SHORT_READS), write, this.#ask(SHORT_READS), command('COMMIT')];
    for (const step of steps) {
      const [code] = await this.#exchange([step], isAimedAt);
      if (code === undefined) continue;
      for (const id of write.writes) this.#ledger.note(id, 'failed');
      // A ROLLBACK may be hit as well.
      while (step !== steps[0] && (await this.#exchange([command('ROLLBACK')]))[0] !== undefined);
      return;
    }
  }
}

const COMMAND = { takes_ms: 0, rows: [], writes: [] };
