/** Clients of short statements, one after the other, who measure how long each of them takes. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf } from '../client/backend.ts';
import { bind, execute, parse, query, sync } from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import type { PglynxProcess } from '../failure/process.ts';

/** What all of them saw in a while. */
export interface Latencies {
  readonly count: number;
  readonly p99_ms: number;
  readonly worst_ms: number;
}

/** Rest between two statements of a client: were it none, they would delay each other most. */
const REST_MS = 3;

export class Neighbours {
  readonly #clients: readonly RawClient[];
  #count = 0;

  private constructor(clients: readonly RawClient[]) {
    this.#clients = clients;
  }

  static async start(pglynx: PglynxProcess, count: number): Promise<Neighbours> {
    return new Neighbours(await Promise.all(Array.from({ length: count }, () => pglynx.connect())));
  }

  /** Works for so long; fails when a statement does, or gets another's answer. */
  async during(time_ms: number): Promise<Latencies> {
    const until_ms = performance.now() + time_ms;
    const times_ms: number[] = [];
    const work = this.#clients.map(async (client, number) => {
      while (performance.now() < until_ms) {
        const tag = `${number}.${this.#count++}`;
        const isSimple = this.#count % 2 === 0;
        const began_ms = performance.now();
        if (isSimple) client.send(query(`SELECT '${tag}'`));
        else client.send(parse('', 'SELECT $1::text'), bind('', '', [tag]), execute(), sync());
        const reply = await client.ready();
        times_ms.push(performance.now() - began_ms);
        assert.deepEqual(rowsOf(reply), [[tag]], `${tag}: ${errorOf(reply)?.message}`);
        await sleep(REST_MS);
      }
    });
    await Promise.allSettled(work);
    await Promise.all(work);
    times_ms.sort((a, b) => a - b);
    const count = times_ms.length;
    return { count, p99_ms: times_ms[Math.floor(count * 0.99)], worst_ms: times_ms[count - 1] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map(client => client.close()));
  }
}
