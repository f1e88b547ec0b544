/** Asks a proxy with EXPLAIN ROUTE, and reads its answer. */
import { errorOf, type Fields, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';

/** How a client asks: one Query, or Parse to Sync. */
export const PROTOCOLS = ['simple', 'extended'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** One answer. */
export interface Explanation {
  /** The last row of each name, without what stands in parentheses behind a code. */
  readonly said: ReadonlyMap<string, string>;
  /** All rows. */
  readonly rows: readonly (readonly [name: string, answer: string])[];
  readonly error: Fields | undefined;
}

/** What EXPLAIN ROUTE says of a text, as it is or as bytes that are no text. */
export async function explain(client: RawClient, text: string | Buffer, protocol: Protocol): Promise<Explanation> {
  const command = Buffer.concat([Buffer.from('EXPLAIN ROUTE '), Buffer.from(text), Buffer.of(0)]);
  if (protocol === 'simple') client.send(frontend.message('Q', command));
  else {
    const parse = frontend.message('P', Buffer.concat([Buffer.of(0), command, Buffer.of(0, 0)]));
    client.send(parse, frontend.bind('', ''), frontend.describe('P', ''), frontend.execute(), frontend.sync());
  }
  return read(await client.ready());
}

/** The answer in these messages. */
export function read(messages: readonly Message[]): Explanation {
  const rows = rowsOf(messages).map(([name, answer]) => [name ?? '', answer ?? ''] as const);
  const said = new Map(rows.map(([name, answer]) => [name, CODED.has(name) ? answer.replace(/ .*/s, '') : answer]));
  return { said, rows, error: errorOf(messages) };
}

/** Rows that begin with a code, which words explain. */
const CODED: ReadonlySet<string> = new Set(['reason', 'role reason', 'shard reason']);
