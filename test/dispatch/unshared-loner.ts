/** A client whose statements must not be shared, and who notes when it has a server process to itself. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { Row } from './model-exchange.ts';
import type { PipelineClient, Reply } from './pipeline-client.ts';
import { type Crowd, MOMENT, type Moment, momentOf } from './unshared-crowd.ts';

/** Long enough for the crowd to come in where it is let in. */
const PAUSE_MS = 3;

export class Loner {
  /** From 1 on; no two loners have the same at the same time. */
  readonly number: number;
  readonly client: PipelineClient;
  /** A superuser's connection straight to the server. */
  readonly admin: Client;
  readonly #crowd: Crowd;

  constructor(number: number, client: PipelineClient, admin: Client, crowd: Crowd) {
    this.number = number;
    this.client = client;
    this.admin = admin;
    this.#crowd = crowd;
  }

  /** Sends simple queries one by one, which must succeed; answers the rows of the last. */
  async run(...texts: readonly string[]): Promise<Row[]> {
    let rows: Row[] = [];
    for (const text of texts) rows = right(await this.client.query(text), text).rows;
    return rows;
  }

  /** The value of an expression. */
  async value(expression: string): Promise<string | null> {
    const [[value]] = await this.run(`SELECT ${expression}`);
    return value;
  }

  /** Sends messages up to a Sync, which must succeed. */
  async send(...messages: Buffer[]): Promise<Reply> {
    return right(await this.client.exchange(...messages), 'messages');
  }

  /** Sends a simple query that must fail like this. */
  async refused(text: string, code: string): Promise<void> {
    const { error } = await this.client.query(text);
    assert.equal(error?.code, code, `${text}: ${error?.message}`);
  }

  /** Where and when a statement of its own runs. */
  async moment(): Promise<Moment> {
    const [row] = await this.run(`SELECT ${MOMENT}`);
    return this.ran(row);
  }

  /** The same for a row that a statement gave. */
  ran(row: Row): Moment {
    const moment = momentOf(row);
    this.#crowd.met(moment);
    return moment;
  }

  /** Nobody else used the server process between these moments. */
  alone(from: Moment, to: Moment, words: string): void {
    this.#crowd.span(from, to, words);
  }

  /** In a transaction: does something, and is alone from before it until some ms after it. */
  async apart<Result>(words: string, work: () => Promise<Result>): Promise<Result> {
    const from = await this.moment();
    const result = await work();
    await sleep(PAUSE_MS);
    this.alone(from, await this.moment(), words);
    return result;
  }

  /** A transaction around that. */
  async within(words: string, work: () => Promise<unknown>, end = 'COMMIT'): Promise<void> {
    await this.run('BEGIN');
    await this.apart(words, work);
    await this.run(end);
  }

  /** What the admin's statement gives in its first column. */
  async seen(text: string, values: readonly unknown[] = []): Promise<unknown[]> {
    const { rows } = await this.admin.query({ text, values: [...values], rowMode: 'array' });
    return rows.map(([value]) => value);
  }
}

function right(reply: Reply, words: string): Reply {
  assert.equal(reply.error, undefined, `${words}: ${reply.error?.code} ${reply.error?.message}`);
  assert.notEqual(reply.status, '', `${words}: no reply`);
  return reply;
}
