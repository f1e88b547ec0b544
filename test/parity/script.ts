/** A client's session as data: what it sends in which pieces and when it waits, to be played to pglynx and to PostgreSQL. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { decode, type Message } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS, type TestCluster } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';

/** One thing a client does. */
export type Step =
  /** Sends bytes. */
  | { readonly send: Buffer }
  /** Sends a mark that is answered in every state, and waits for the answer if it says so. */
  | { readonly mark: 'wait' | 'go on' }
  /** Waits for the next message of one of these types. */
  | { readonly until: string }
  /** Has another client send this and get its ReadyForQuery. */
  | { readonly other: Buffer };

/** Bytes to send. */
export function send(...messages: Buffer[]): Step {
  return { send: Buffer.concat(messages) };
}

/** Cuts bytes into the pieces that are written one by one. */
export type Cutter = (bytes: Buffer) => Buffer[];

export const inOnePiece: Cutter = bytes => [bytes];

/** Cuts at random into pieces of up to so many bytes, short ones above all, but into few: time is short too. */
export function randomCutter(seed: number, length_max = 4_000): Cutter {
  let state = seed | 1;
  const random = () => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
  return bytes => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = pieces.length < 30 ? Math.ceil(random() ** 4 * Math.min(bytes.length, length_max)) : bytes.length;
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    return pieces;
  };
}

const TIMEOUT_MS = 8_000;

/**
 * A mark: Syncs around two Closes of a portal that nobody has. `Z33Z` comes back whatever came before, also where an
 * error makes the server skip everything up to a Sync. No script may hold two Closes in a row otherwise.
 */
const MARK = Buffer.concat([
  frontend.sync(),
  frontend.close('P', 'mark'),
  frontend.close('P', 'mark'),
  frontend.sync(),
]);
const MARK_ANSWER = 'Z33Z';

/** Plays a script and returns everything the server said to `client`; it should end with a mark to wait for. */
export async function play(
  client: RawClient,
  script: readonly Step[],
  { cutter = inOnePiece, other }: { readonly cutter?: Cutter; readonly other?: RawClient } = {},
): Promise<Message[]> {
  const received: Message[] = [];
  let pending: Buffer[] = [];
  let marks_sent = 0;
  let marks_seen = 0;
  let types = '';
  const receive = async () => {
    const message = await client.message(TIMEOUT_MS).catch((error: unknown) => {
      throw new Error(`${String(error)}\nafter ${transcript(received).slice(-20).join('\n  ')}`);
    });
    received.push(message);
    types = `${types}${message.type}`.slice(-MARK_ANSWER.length);
    if (types === MARK_ANSWER) marks_seen++;
    return message;
  };
  const flush = async () => {
    const pieces = cutter(Buffer.concat(pending));
    pending = [];
    for (const piece of pieces) {
      client.send(piece);
      if (pieces.length > 1) await turn();
    }
  };
  for (const step of script) {
    if ('send' in step) pending.push(step.send);
    else if ('mark' in step) {
      pending.push(MARK);
      marks_sent++;
      if (step.mark === 'go on') continue;
      await flush();
      while (marks_seen < marks_sent) await receive();
    } else if ('other' in step) {
      await flush();
      other?.send(step.other);
      await other?.ready();
    } else {
      await flush();
      while (!step.until.includes((await receive()).type));
    }
  }
  await flush();
  return received;
}

/** The messages as a reader can compare them, one a line, with their bytes where decoding would hide a difference. */
export function transcript(messages: readonly Message[]): string[] {
  return messages.map(message => {
    const { name, ...rest } = decode(message);
    return `${name} ${inspect(rest, { breakLength: Number.POSITIVE_INFINITY, depth: 4, maxStringLength: 300 })}`;
  });
}

/** Where two sequences of messages differ in any byte, in words; undefined when they don't. */
export function difference(expected: readonly Message[], actual: readonly Message[]): string | undefined {
  for (let at = 0; at < Math.max(expected.length, actual.length); at++) {
    const [one, other] = [expected[at], actual[at]];
    if (one !== undefined && other !== undefined && one.type === other.type && one.body.equals(other.body)) continue;
    const before = transcript(expected.slice(Math.max(0, at - 6), at)).map(line => `    ${line}`);
    const lines = [
      ...before,
      ...transcript(expected.slice(at, at + 5)).map(line => `  + ${line}`),
      ...transcript(actual.slice(at, at + 5)).map(line => `  - ${line}`),
    ];
    return `message ${at} differs (+ PostgreSQL, - pglynx):\n${lines.join('\n')}`;
  }
  return undefined;
}

/** Where a script is played: what the client and the other one are connected to. */
export interface Side {
  connect(): Promise<RawClient>;
}

/** Alice's way straight to the primary, with these settings in her startup packet. */
export function straightTo({ primary: { port } }: TestCluster, parameters: Record<string, string> = {}): Side {
  const login = { port, user: 'alice', database: DATABASE, password: PASSWORDS.alice, parameters };
  return { connect: () => RawClient.connect(login) };
}

/** Her way through pglynx. */
export function through(proxy: TestProxy, parameters: Record<string, string> = {}): Side {
  return { connect: () => proxy.raw(parameters) };
}

/** Plays the script straight to PostgreSQL and through pglynx, and asserts that every byte is the same. */
export async function assertSame(
  straight: Side,
  pglynx: Side,
  script: readonly Step[],
  cutter: Cutter = inOnePiece,
): Promise<void> {
  const played = async (side: Side, cutter: Cutter) => {
    await using client = await side.connect();
    await using other = await side.connect();
    return await play(client, [...script, { mark: 'wait' }], { other, cutter });
  };
  const found = difference(await played(straight, inOnePiece), await played(pglynx, cutter));
  assert.ok(found === undefined, `${found}\nof the script\n${words(script)}`);
}

/** A script in words, for reports of failures. */
export function words(script: readonly Step[]): string {
  return script
    .map(step => {
      if ('mark' in step) return `  mark, ${step.mark}`;
      if ('other' in step) return `  other: ${inspect(step.other.toString('latin1'))}`;
      if ('until' in step) return `  wait for one of ${step.until}`;
      return `  ${inspect(step.send.toString('latin1'), { maxStringLength: 400, breakLength: Number.POSITIVE_INFINITY })}`;
    })
    .join('\n');
}
