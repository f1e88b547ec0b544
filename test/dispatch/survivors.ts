/** Clients that work on while server processes are killed, and note what they are told of each exchange. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, type Message } from '../client/backend.ts';
import type { RawClient } from '../client/raw.ts';
import type { TestProxy } from '../proxy/index.ts';
import { type Ask, ask, type Forms, prepare, verdict } from './asks.ts';
import type { Ledger } from './ledger.ts';

/** The outcome of a write is unknown. */
const UNKNOWN = '08007';
/** The connection ended without an answer. */
const CLOSED = 'closed';
const DEADLINE_MS = 20_000;

/** What all clients of a test share. */
export interface Ordeal {
  readonly proxy: TestProxy;
  readonly ledger: Ledger;
  readonly forms: readonly Forms[];
  /** How many kills there have been. */
  kills: number;
  over: boolean;
}

export class Survivor {
  /** Exchanges that succeeded. */
  succeeded = 0;
  /** What it should not have been told. */
  readonly complaints: string[] = [];
  /** For each 08007 of a write the number of the last kill. */
  readonly unknown: number[] = [];
  readonly #ordeal: Ordeal;
  readonly #number: number;
  #client: RawClient;
  #count = 0;

  private constructor(ordeal: Ordeal, number: number, client: RawClient) {
    this.#ordeal = ordeal;
    this.#number = number;
    this.#client = client;
  }

  static async start(ordeal: Ordeal, number: number): Promise<Survivor> {
    return new Survivor(ordeal, number, await connect(ordeal));
  }

  /** Works until it is over: an exchange at a time, or several in one write. */
  async run(): Promise<void> {
    const { forms } = this.#ordeal;
    while (!this.#ordeal.over) {
      const count = randomInt(3) === 0 ? 3 : 1;
      const asks = Array.from({ length: count }, () =>
        ask(forms[randomInt(forms.length)], `<${this.#number}.${++this.#count}>`),
      );
      this.#client.send(...asks.flatMap(({ messages }) => messages));
      let before: string | undefined;
      for (const one of asks) before = this.#note(one, await this.#reply(one.tag), before);
      if (this.#client.closed) this.#client = await connect(this.#ordeal);
    }
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  /** What came up to ReadyForQuery, or to the end of the connection. */
  async #reply(tag: string): Promise<Message[]> {
    const reply: Message[] = [];
    while (reply.at(-1)?.type !== 'Z') {
      const message = await this.#client.next(DEADLINE_MS).catch((error: Error) => {
        throw new Error(`no answer to ${tag}: ${error.message}`);
      });
      if (message === undefined) break;
      reply.push(message);
    }
    return reply;
  }

  /** Answers the SQLSTATE. */
  #note(one: Ask, reply: readonly Message[], before: string | undefined): string | undefined {
    const isWhole = reply.at(-1)?.type === 'Z';
    const error = errorOf(reply);
    const code = error?.code ?? (isWhole ? undefined : CLOSED);
    const outcome = code === undefined ? 'done' : code === UNKNOWN || code === CLOSED ? 'unknown' : 'failed';
    for (const id of one.writes) this.#ordeal.ledger.note(id, outcome);
    if (code === undefined) {
      verdict(one, reply);
      this.succeeded++;
      if (reply.some(({ type }) => type === 'N')) this.complaints.push(`${one.tag}: a notice`);
    } else if (code === UNKNOWN && one.writes.length > 0) this.unknown.push(this.#ordeal.kills);
    // Whoever has sent more behind a write of unknown outcome is disconnected.
    else if (code !== CLOSED || before === undefined) this.complaints.push(`${one.tag}: ${code} ${error?.message}`);
    return code;
  }
}

/** A client with the statements that some forms need, as soon as it can be had. */
async function connect({ proxy }: Ordeal): Promise<RawClient> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const client = await proxy.raw().catch(() => undefined);
    const failure = client === undefined ? 'no login' : await prepare(client).catch((error: Error) => error.message);
    if (client !== undefined && failure === undefined) return client;
    await client?.close();
    if (Date.now() > deadline) throw new Error(`no client in ${DEADLINE_MS} ms: ${failure}`);
    await sleep(50);
  }
}
