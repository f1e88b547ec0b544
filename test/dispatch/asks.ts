/** What the clients of these tests ask: exchanges of many forms, each with a tag of its own, and the only right answer. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';

const { bind, describe, execute, parse, query } = frontend;
const SYNC = frontend.sync();

/** One exchange. */
export interface Ask {
  readonly tag: string;
  /** About how long the server is busy with it. */
  readonly takes_ms: number;
  readonly messages: readonly Buffer[];
  /** The rows of the answer. */
  readonly rows: readonly string[][];
  /** The rows that it writes to the ledger, all or none. */
  readonly writes: readonly string[];
}

/** Makes the messages and the rows of an exchange that takes about so many seconds, where the form can be slow. */
type Form = (tag: string, slow_s: number) => Pick<Ask, 'messages' | 'rows'>;

export type Forms = readonly Form[];

const READ = 'SELECT $1::text FROM pg_sleep($2::float8)';
const WRITE = 'INSERT INTO ledger SELECT $1 FROM pg_sleep($2::float8) RETURNING id';

/** What {@link READS} and {@link WRITES} take for prepared. */
const PREPARED = [parse('read', READ), parse('write', WRITE), SYNC];

/** Forms that are answered at once. */
export const SHORT_READS: Forms = [
  tag => ({ messages: [query(`SELECT '${tag}'`)], rows: [[tag]] }),
  tag => ({ messages: [parse('', 'SELECT $1::text'), bind('', '', [tag]), execute(), SYNC], rows: [[tag]] }),
  tag => ({
    messages: [parse('', READ), describe('S', ''), bind('', '', [tag, '0']), describe('P', ''), execute(), SYNC],
    rows: [[tag]],
  }),
  tag => ({ messages: [bind('', 'read', [tag, '0']), execute(), SYNC], rows: [[tag]] }),
  tag => {
    const tags = [`${tag}a`, `${tag}b`, `${tag}c`];
    return {
      messages: [...tags.flatMap(each => [bind('', 'read', [each, '0']), execute()]), SYNC],
      rows: tags.map(each => [each]),
    };
  },
  tag => ({
    messages: [query(`SELECT '${tag}', n FROM generate_series(1, 50) AS n`)],
    rows: Array.from({ length: 50 }, (_, at) => [tag, `${at + 1}`]),
  }),
];

/** Forms that take their time. */
export const SLOW_READS: Forms = [
  (tag, slow_s) => ({ messages: [query(`SELECT '${tag}' FROM pg_sleep(${slow_s})`)], rows: [[tag]] }),
  (tag, slow_s) => ({ messages: [bind('', 'read', [tag, `${slow_s}`]), execute(), SYNC], rows: [[tag]] }),
  (tag, slow_s) => {
    const rows = Math.round(slow_s * 4_000_000);
    return {
      messages: [query(`SELECT '${tag}', count(*) FROM generate_series(1, ${rows})`)],
      rows: [[tag, `${rows}`]],
    };
  },
];

/** Forms whose rows come one after the other. */
export const LONG_READS: Forms = [
  (tag, slow_s) => {
    const rows = 20;
    const wide = 'x'.repeat(5000);
    const text = `SELECT '${tag}', '${wide}', pg_sleep(${slow_s / rows}) FROM generate_series(1, ${rows})`;
    return { messages: [query(text)], rows: Array.from({ length: rows }, () => [tag, wide, '']) };
  },
];

/** Forms that write a row for each of their own. */
export const WRITES: Forms = [
  tag => ({ messages: [query(`INSERT INTO ledger VALUES ('${tag}') RETURNING id`)], rows: [[tag]] }),
  (tag, slow_s) => ({
    messages: [query(`INSERT INTO ledger SELECT '${tag}' FROM pg_sleep(${slow_s}) RETURNING id`)],
    rows: [[tag]],
  }),
  tag => ({ messages: [parse('', WRITE), bind('', '', [tag, '0']), execute(), SYNC], rows: [[tag]] }),
  (tag, slow_s) => ({ messages: [bind('', 'write', [tag, `${slow_s}`]), execute(), SYNC], rows: [[tag]] }),
  (tag, slow_s) => {
    const [first, second] = [`${tag}a`, `${tag}b`];
    return {
      messages: [
        ...[bind('', 'write', [first, '0']), execute(), bind('', 'read', [tag, `${slow_s}`]), execute()],
        ...[bind('', 'write', [second, '0']), execute(), SYNC],
      ],
      rows: [[first], [tag], [second]],
    };
  },
];

/** Prepares what some of the forms run by name; fails when that fails. */
export async function prepare(client: RawClient): Promise<void> {
  client.send(...PREPARED);
  const reply = await client.ready();
  assert.equal(errorOf(reply)?.message, undefined);
}

/** An exchange of any of these forms; one that can be slow takes up to 50 ms, and more often a few. */
export function ask(forms: Forms, tag: string): Ask {
  const takes_ms = forms === SHORT_READS ? 0 : (randomInt(1, 1000) / 1000) ** 5 * 50;
  const made = forms[randomInt(forms.length)](tag, takes_ms / 1000);
  // A row that only bears the tag of a batch is not written by it.
  const written = made.rows.flatMap(([id]) => (made.rows.length === 1 || id !== tag ? [id] : []));
  return { tag, takes_ms, ...made, writes: forms === WRITES ? written : [] };
}

/** The SQLSTATE of an answer, undefined for success; fails when it has a row that was not asked for, or has not all of them. */
export function verdict({ tag, rows }: Ask, reply: readonly Message[]): string | undefined {
  const error = errorOf(reply);
  const got = rowsOf(reply);
  assert.deepEqual(got, error === undefined ? rows : rows.slice(0, got.length), `${tag}: ${error?.message}`);
  return error?.code;
}
