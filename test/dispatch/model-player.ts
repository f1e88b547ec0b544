/** A client of the model: plays its part of a run, ends its connection where the part says so, and begins a new one. */
import { setTimeout as sleep } from 'node:timers/promises';
import { flush, sync } from '../client/frontend.ts';
import { cancel, LoginError } from '../client/raw.ts';
import { DATABASE } from '../cluster/index.ts';
import type { Author, Exchange } from './model-exchange.ts';
import { Judge, type Tally } from './model-judge.ts';
import type { Kills } from './model-kills.ts';
import type { Ledger } from './model-ledger.ts';
import { exchangesOf, type Part, type Unit } from './model-parts.ts';
import type { Profile } from './model-profiles.ts';
import { rollback, WRITE_MAKERS } from './model-writes.ts';
import { PipelineClient, type Reply } from './pipeline-client.ts';

/** What the clients of a run have in common. */
export interface Run {
  readonly port: number;
  readonly ledger: Ledger;
  readonly kills: Kills;
  readonly tally: Tally;
  /** How many exchanges were answered. */
  answered: number;
  /** The first thing that went wrong; whatever comes after it may be its consequence. */
  failure: string | undefined;
  over: boolean;
}

/** An answer that takes longer is none. */
const DEADLINE_MS = 15_000;

/** So many exchanges a client leaves unanswered before it waits. */
const AHEAD = 16;

const SYNC = sync();
const PARSE = 'P'.charCodeAt(0);

/** For so long a client reads nothing. */
const PAUSE_MS = 30;

export class Player {
  readonly #run: Run;
  readonly #author: Author;
  #client: PipelineClient | undefined;
  #judge: Judge | undefined;
  #connecting_ms = Number.POSITIVE_INFINITY;
  #count = 0;
  /** What has been sent and not been answered. */
  readonly #waiting: Exchange[] = [];

  constructor(run: Run, number: number, profile: Profile) {
    this.#run = run;
    const { ledger } = run;
    this.#author = { number, profile, ledger, tag: () => `client ${number}.${++this.#count}` };
  }

  /** Plays to the end, or until something goes wrong anywhere in the run. */
  async play(part: Part): Promise<void> {
    for (const unit of part.units) {
      if (this.#run.failure !== undefined) break;
      const client = await this.#connected();
      if (client !== undefined) await this.#unit(client, unit);
    }
    await this.#atRest();
    if (this.#judge !== undefined) this.#judge.left ||= this.#client?.over === undefined;
    this.#client?.leave();
    this.#leave();
  }

  /** Complains when an answer is overdue. */
  watch(now: number): void {
    const waits = this.#client?.waiting_ms(now) ?? 0;
    if (waits > DEADLINE_MS) this.#fail(`no answer in ${DEADLINE_MS} ms`, this.#waiting[0]?.words ?? 'nothing');
    if (now - this.#connecting_ms > DEADLINE_MS) this.#fail(`no answer in ${DEADLINE_MS} ms`, 'the login');
  }

  destroy(): void {
    this.#client?.destroy();
  }

  async #connected(): Promise<PipelineClient | undefined> {
    if (this.#client?.over === undefined && this.#client !== undefined) return this.#client;
    this.#leave();
    const { port, ledger, kills, tally } = this.#run;
    const { parameters } = this.#author.profile;
    this.#connecting_ms = performance.now();
    try {
      const client = await PipelineClient.connect({ port, user: 'alice', database: DATABASE, parameters });
      this.#client = client;
      this.#judge = new Judge(this.#author.number, client, ledger, kills, tally);
      return client;
    } catch (error) {
      // A login that has settings to try may lose its server like any other exchange.
      const isLost = error instanceof LoginError && kills.explain(error.fields.code, this.#connecting_ms);
      if (!isLost) this.#fail('no login', String(error));
    } finally {
      this.#connecting_ms = Number.POSITIVE_INFINITY;
    }
  }

  async #unit(client: PipelineClient, unit: Unit): Promise<void> {
    const exchanges = exchangesOf(unit, this.#author);
    const { pipelined, waits, disturbance } = unit;
    // Which exchange is disturbed, where they are sent one by one.
    const disturbed = unit.kinds[0].pick % exchanges.length;
    const lots = pipelined ? [exchanges] : exchanges.map(exchange => [exchange]);
    for (const [index, lot] of lots.entries()) {
      this.#send(client, lot);
      if (pipelined || index === disturbed) await this.#disturb(client, unit);
      if (pipelined) continue;
      await client.answered();
      if (client.over !== undefined || this.#run.failure !== undefined) return;
      const { think_ms = 0 } = lot[0];
      if (think_ms > 0) await sleep(think_ms);
    }
    if (waits || disturbance !== 'none') await this.#atRest();
    else if (client.owed > AHEAD) await client.answered();
  }

  #send(client: PipelineClient, exchanges: readonly Exchange[]): void {
    const judge = this.#judge;
    if (judge === undefined) return;
    this.#waiting.push(...exchanges);
    const requests = exchanges.map(exchange => ({
      bytes: exchange.bytes,
      done: (reply: Reply) => {
        this.#waiting.shift();
        if (reply.status !== '') this.#run.answered++;
        const problem = judge.take(exchange, reply);
        if (problem !== undefined) this.#fail(problem, exchange.words);
      },
    }));
    client.send(requests);
  }

  /** Everything is answered, and no transaction is open. */
  async #atRest(): Promise<void> {
    const [client, judge] = [this.#client, this.#judge];
    if (client === undefined || judge === undefined) return;
    await client.answered();
    if (client.over === undefined && judge.known.status !== 'I') {
      this.#send(client, [rollback(0)]);
      await client.answered();
    }
    judge.cancels = 0;
  }

  async #disturb(client: PipelineClient, { disturbance, after_ms }: Unit): Promise<void> {
    const judge = this.#judge;
    if (disturbance === 'none' || judge === undefined) return;
    if (after_ms > 0) await sleep(after_ms);
    if (client.over !== undefined) return;
    switch (disturbance) {
      case 'cancel':
        judge.cancels++;
        return cancel({ port: this.#run.port }, client);
      case 'pause':
        client.pause();
        await sleep(PAUSE_MS);
        return client.resume();
      case 'half':
        await this.#breakOff(client);
    }
    judge.left = true;
    if (disturbance === 'goodbye') client.leave();
    else client.destroy();
  }

  /** Sends an exchange that writes, but for its end, or with a Flush in place of its Sync: so it must not take place. */
  async #breakOff(client: PipelineClient): Promise<void> {
    const { ledger } = this.#author;
    const count = this.#count;
    const { bytes, writes = [] } = WRITE_MAKERS.insert(this.#author, count);
    ledger.note(writes, 'failed', 'it was not sent whole');
    const isExtended = bytes[0] === PARSE;
    if (isExtended && count % 2 === 0) client.write(Buffer.concat([bytes.subarray(0, -SYNC.length), flush()]));
    else client.write(bytes.subarray(0, bytes.length - 1 - (count % 20)));
    await sleep(1 + (count % 3));
  }

  #fail(problem: string, words: string): void {
    const story = this.#judge?.story ?? '';
    this.#run.failure ??= `client ${this.#author.number}: ${problem}: ${words.slice(0, 500)}\nafter\n  ${story}`;
  }

  /** The connection is over. */
  #leave(): void {
    if (this.#client === undefined || this.#judge === undefined) return;
    const problem = this.#judge.end();
    if (problem !== undefined) this.#fail(problem, 'the end');
    this.#client = undefined;
    this.#judge = undefined;
  }
}
