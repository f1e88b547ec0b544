/** Clients that keep a pool busy with statements that may be shared, and tell whose session they found themselves in. */
import assert from 'node:assert/strict';
import * as frontend from '../client/frontend.ts';
import type { Row } from './model-exchange.ts';
import { PipelineClient, type PipelineLogin, type Reply } from './pipeline-client.ts';

/** A moment at which a statement ran: the server process, and its clock in ms. */
export interface Moment {
  readonly pid: number;
  readonly at_ms: number;
}

/** From one moment to another a server process was one client's own. */
export interface Span {
  readonly pid: number;
  readonly from_ms: number;
  readonly to_ms: number;
  readonly words: string;
}

/** What tells a {@link Moment}. */
export const MOMENT = 'pg_backend_pid(), extract(epoch FROM clock_timestamp()) * 1000';

export function momentOf([pid, at]: Row): Moment {
  return { pid: Number(pid), at_ms: Number(at) };
}

/** What a statement in nobody's transaction and nobody's settings finds. */
const STATE: Readonly<Record<string, string>> = {
  'now() = statement_timestamp()': 't',
  current_user: 'alice',
  session_user: 'alice',
  "current_setting('work_mem')": '4MB',
  "current_setting('search_path')": '"$user", public',
  "current_setting('TimeZone')": 'UTC',
  "current_setting('transaction_isolation')": 'read committed',
  "current_setting('transaction_read_only')": 'off',
  "coalesce(current_setting('mix.mark', true), '')": '',
  "current_setting('application_name')": 'crowd',
};
const STATE_VALUES = Object.values(STATE);
const STATE_LIST = Object.keys(STATE).join(', ');

/** What is left of others in the session of a server process; these need system views. */
const LEFTOVERS = `(SELECT count(*) FROM pg_prepared_statements WHERE name !~ '^pglynx_'),
  (SELECT count(*) FROM pg_cursors WHERE name <> ''), (SELECT count(*) FROM pg_listening_channels()),
  (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
  (SELECT count(*) FROM pg_class WHERE relname ~ '^mine' AND pg_table_is_visible(oid))`;
const NO_LEFTOVERS = ['0', '0', '0', '0', '0'];

/** A read as the crowd sends it; it must be shareable, or it proves nothing. */
export const CROWD_READ = `SELECT '{tag}', ${MOMENT}, ${STATE_LIST}`;
/** A write of the crowd: its row tells where and in which transaction it ran. */
export const CROWD_WRITE = `INSERT INTO visits (tag) VALUES ('{tag}') RETURNING tag, ${MOMENT}`;
export const CROWD_TABLE = `CREATE TABLE visits (tag text, transaction xid8 DEFAULT pg_current_xact_id());
  GRANT ALL ON visits TO PUBLIC`;

/** Of many problems the first ones tell enough. */
const SHOWN = 5;

/** Exchanges that each client of the crowd has under way at once. */
const DEPTH = 4;

export class Crowd {
  readonly #clients: readonly PipelineClient[];
  /** Since the last {@link judge}; what went wrong for members of the crowd first. */
  #problems: string[] = [];
  #moments: Moment[] = [];
  #spans: Span[] = [];
  #writes = 0;
  #count = 0;
  #isOver = false;

  private constructor(clients: readonly PipelineClient[]) {
    this.#clients = clients;
    for (const client of clients) this.#go(client, DEPTH);
  }

  static async start(login: PipelineLogin, size: number): Promise<Crowd> {
    const parameters = { application_name: 'crowd' };
    const clients = Array.from({ length: size }, () => PipelineClient.connect({ ...login, parameters }));
    return new Crowd(await Promise.all(clients));
  }

  /** How many of its writes were acknowledged. */
  get writes(): number {
    return this.#writes;
  }

  /** How many exchanges were answered. */
  get count(): number {
    return this.#count;
  }

  /** From one moment to the other the client was alone on its server process. */
  span(from: Moment, to: Moment, words: string): void {
    assert.equal(to.pid, from.pid, `${words}: the server process changed`);
    this.#spans.push({ pid: from.pid, from_ms: from.at_ms, to_ms: to.at_ms, words });
  }

  /** Somebody else's statement ran at this moment. */
  met(moment: Moment): void {
    this.#moments.push(moment);
  }

  /** Fails when something went wrong for the crowd, or a statement ran within a span of somebody else. */
  async judge(): Promise<void> {
    // Behind this nothing is under way that ran before it.
    await Promise.all(this.#clients.map(client => client.query('SELECT 1')));
    const [problems, moments, spans] = [this.#problems.splice(0), this.#moments.splice(0), this.#spans.splice(0)];
    assert.deepEqual(problems.slice(0, SHOWN), [], `${problems.length} problems`);
    const pids = new Set(moments.map(({ pid }) => pid));
    for (const { pid, from_ms, to_ms, words } of spans) {
      const guests = moments.filter(moment => moment.pid === pid && moment.at_ms > from_ms && moment.at_ms < to_ms);
      assert.equal(guests.length, 0, `${words}: ${guests.length} statements of others ran on its server process`);
      assert.ok(pids.has(pid), `${words}: nobody else ever used its server process, so this proves nothing`);
    }
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients.map(client => client.answered()));
    for (const client of this.#clients) {
      const { length } = client.notifications;
      if (length > 0) this.#problems.push(`it got ${length} notifications`);
      client.leave();
    }
  }

  #go(client: PipelineClient, count: number): void {
    if (this.#isOver) return;
    client.send(Array.from({ length: count }, () => this.#request(client)));
  }

  #request(client: PipelineClient) {
    const number = ++this.#count;
    const tag = `crowd ${number}`;
    const isWrite = number % 8 === 0;
    const inspects = number % 8 === 4;
    const text = isWrite ? CROWD_WRITE : `${CROWD_READ}${inspects ? `, ${LEFTOVERS}` : ''}`;
    const state = isWrite ? [] : inspects ? [...STATE_VALUES, ...NO_LEFTOVERS] : STATE_VALUES;
    const done = (reply: Reply) => {
      const problem = this.#problem(reply, tag, state);
      if (problem !== undefined) this.#problems.push(problem);
      if (isWrite && problem === undefined) this.#writes++;
      if (client.over === undefined) this.#go(client, 1);
    };
    return { bytes: frontend.query(text.replace('{tag}', tag)), done };
  }

  #problem({ types, rows, error, notices, status }: Reply, tag: string, state: readonly string[]): string | undefined {
    if (status === '') return `${tag}: no reply`;
    if (error !== undefined) return `${tag}: ${error.severity} ${error.code} ${error.message}`;
    if (types !== 'TDC' || status !== 'I' || notices.length > 0) {
      return `${tag}: ${types}, status ${status}, ${JSON.stringify(notices)}`;
    }
    const [[is, ...values]] = rows;
    this.#moments.push(momentOf(values));
    const found = values.slice(2);
    if (is === tag && String(found) === String(state)) return undefined;
    return `${tag} found ${is}: ${found}, and not ${state}`;
  }
}
