/** A client that stops reading in the middle of a large result: it delays nobody, and costs no more than its limit. */
import assert from 'node:assert/strict';
import { after, before, suite, type TestContext, test } from 'node:test';
import { errorOf, type Message } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { PglynxProcess } from '../failure/process.ts';
import { Neighbours } from './neighbours.ts';

const MB = 1e6;
const GROWTH_BYTES = 96 * MB;
const NEIGHBOURS = 8;
const STALL_MS = 1000;
/** The most that anybody may wait longer than just before. */
const DELAY_MS = 100;
/** A busy machine delays somebody at times; a client that does so is seen in each of so many attempts. */
const ATTEMPTS = 5;
/** How often a template is seen before the result that is not read. */
const SEEN = 20;
const ROW_BYTES = 10_000;

const { bind, describe, execute, parse, query } = frontend;

/** A statement whose result has about so many bytes. */
type Form = (template: string, bytes: number) => Buffer[];

const FORMS: Readonly<Record<string, Form>> = {
  'one row': (template, bytes) => [query(`SELECT repeat('x', ${bytes}) AS ${template}`)],
  'many rows': (template, bytes) => [
    parse('', `SELECT repeat('x', ${ROW_BYTES}) AS ${template} FROM generate_series(1, $1::int)`),
    ...[bind('', '', [`${Math.ceil(bytes / ROW_BYTES)}`]), describe('P', ''), execute(), frontend.sync()],
  ],
};

interface Stall {
  readonly form: keyof typeof FORMS;
  readonly bytes: number;
  /** The size of the results that its template had before. */
  readonly before: 'small' | 'large';
}

const STALLS: readonly Stall[] = [
  { form: 'one row', bytes: 50 * MB, before: 'small' },
  { form: 'many rows', bytes: 50 * MB, before: 'small' },
  { form: 'many rows', bytes: 50 * MB, before: 'large' },
  { form: 'one row', bytes: MB, before: 'small' },
];

interface Sharing {
  readonly multiplexing: 'auto' | 'off';
  readonly pool_size: number;
  /**
   * A result that is known to be large keeps its connection from others: with one connection they would wait. So they
   * would for a server that takes longer to make one row of 50 MB than anybody is to wait.
   */
  readonly stalls: readonly Stall[];
}

const SHARINGS: readonly Sharing[] = [
  { multiplexing: 'off', pool_size: 2, stalls: STALLS },
  { multiplexing: 'auto', pool_size: 2, stalls: STALLS },
  {
    multiplexing: 'auto',
    pool_size: 1,
    stalls: STALLS.filter(({ form, bytes, before }) => before === 'small' && (form === 'many rows' || bytes === MB)),
  },
];

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

const skip = process.platform === 'linux' ? false : 'memory is read from /proc';

for (const { multiplexing, pool_size, stalls } of SHARINGS) {
  suite(`a client that stops reading, pool_size ${pool_size}, multiplexing ${multiplexing}`, { skip }, () => {
    let pglynx: PglynxProcess;
    before(async () => {
      const pool = { query_parser_enabled: true, multiplexing, connect_timeout: 2000 };
      pglynx = await PglynxProcess.start(cluster, { users: ['alice'], user: { pool_size }, pool });
      // What any process needs, and the garbage that it leaves between two collections, does not count.
      await using client = await pglynx.connect();
      await using neighbours = await Neighbours.start(pglynx, NEIGHBOURS);
      await neighbours.during(500);
      for (const form of Object.values(FORMS)) await drained(client, form('warm', 50 * MB));
    });
    after(() => pglynx?.stop());

    for (const stall of stalls) {
      const { form, bytes, before } = stall;
      test(`in ${bytes / MB} MB as ${form}, whose template had ${before} results`, async context => {
        const before_bytes = pglynx.resident_bytes;
        const peak_bytes = await pglynx.peakDuring(endure(pglynx, stall, multiplexing === 'off', context));
        const grown_bytes = peak_bytes - before_bytes;
        context.diagnostic(`the process grew by ${Math.round(grown_bytes / MB)} MB`);
        assert.ok(grown_bytes < GROWTH_BYTES, `the process grew by ${grown_bytes / MB} MB`);
      });
    }
  });
}

let templates = 0;

/** Stops reading until nobody was delayed by it, or too often; the result is whole afterwards, or its client disconnected. */
async function endure(pglynx: PglynxProcess, stall: Stall, isWhole: boolean, context: TestContext): Promise<void> {
  await using neighbours = await Neighbours.start(pglynx, NEIGHBOURS);
  let delay_ms = Number.POSITIVE_INFINITY;
  for (let attempt = 1; attempt <= ATTEMPTS && delay_ms >= DELAY_MS; attempt++) {
    await using client = await pglynx.connect();
    const messages = await seenBefore(client, stall);
    const usual = await neighbours.during(STALL_MS / 2);
    const measured = neighbours.during(STALL_MS);
    const stopped = stop(client, messages);
    await Promise.allSettled([measured, stopped]);
    const { count, p99_ms, worst_ms } = await measured;
    await stopped;
    const figures = [p99_ms, worst_ms, usual.worst_ms].map(figure => figure.toFixed(1));
    context.diagnostic(`${count} statements, p99, the slowest, and just before: ${figures.join(', ')} ms`);
    delay_ms = Math.min(delay_ms, worst_ms - usual.worst_ms);
    client.resume();
    const rest = await results(client);
    const end =
      rest.at(-1)?.type === 'Z' ? (errorOf(rest.filter(({ type }) => type === 'E'))?.code ?? 'whole') : 'closed';
    context.diagnostic(`its result: ${end}`);
    if (isWhole) assert.equal(end, 'whole');
    const got_bytes = rest.reduce((sum, { type, body }) => (type === 'D' ? sum + body.length : sum), 0);
    if (end === 'whole') assert.ok(got_bytes >= stall.bytes, `${got_bytes} bytes came of ${stall.bytes}`);
  }
  assert.ok(delay_ms < DELAY_MS, `another client waited ${delay_ms} ms longer`);
}

/** Lets a template of its own be seen, and answers the messages that ask for the result. */
async function seenBefore(client: RawClient, { form, bytes, before }: Stall): Promise<Buffer[]> {
  const template = `stall${templates++}`;
  const count = before === 'small' ? SEEN : 2;
  for (let seen = 0; seen < count; seen++)
    await drained(client, FORMS[form](template, before === 'small' ? 10 : bytes));
  return FORMS[form](template, bytes);
}

async function stop(client: RawClient, messages: readonly Buffer[]): Promise<void> {
  client.send(...messages);
  // Its description has come: rows are on their way.
  await client.until('T');
  client.pause();
}

async function drained(client: RawClient, messages: readonly Buffer[]): Promise<void> {
  client.send(...messages);
  assert.equal((await results(client)).at(-1)?.type, 'Z');
}

/** What comes up to ReadyForQuery, or to the end of the connection, which may be in the middle of a message. */
async function results(client: RawClient): Promise<Message[]> {
  const received: Message[] = [];
  while (received.at(-1)?.type !== 'Z') {
    const message = await client.next().catch((error: Error) => {
      if (!client.closed) throw error;
    });
    if (message === undefined) break;
    received.push(message);
  }
  return received;
}
