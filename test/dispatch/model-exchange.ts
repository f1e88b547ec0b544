/** An exchange of the model's clients: the messages, and the replies to them that PostgreSQL's rules allow. */
import * as frontend from '../client/frontend.ts';
import type { Ledger, Write } from './model-ledger.ts';
import type { Profile } from './model-profiles.ts';
import type { Reply } from './pipeline-client.ts';

const { bind, describe, execute, parse, query, sync } = frontend;

export type Row = readonly (string | null)[];

/** One reply that is right. */
export interface Expected {
  /** Types of messages, as {@link Reply} has them. */
  readonly types: string;
  readonly rows?: readonly Row[] | ((rows: readonly Row[]) => boolean);
  readonly tags?: readonly string[];
  /** SQLSTATE, and words that the message must hold. */
  readonly error?: readonly [code: string, words: string];
  /** Words of its only notice. */
  readonly notice?: string;
  /** What the client knows after this reply. */
  readonly learn?: (known: Known) => void;
}

/** What a client knows of its session. */
export interface Known {
  /** Transaction status: idle, in a transaction, in a failed one. */
  status: string;
  /** The statements that each name may stand for, {@link NOTHING} among them; what is not here stands for nothing. */
  readonly names: Map<string, ReadonlySet<number>>;
  /** Values that application_name may have. */
  application_names: ReadonlySet<string>;
}

/** No statement. */
export const NOTHING = -1;

export interface Exchange {
  readonly words: string;
  readonly bytes: Buffer;
  /** Whether it is provably nothing but reads, so that it can be repeated; a name that stands for nothing proves nothing. */
  readonly reads?: boolean | ((known: Known) => boolean);
  readonly writes?: readonly Write[];
  /** How it ends the transaction in which it runs. */
  readonly ends?: 'commit' | 'rollback';
  /** Whether it is answered in a failed transaction as it is elsewhere. */
  readonly harmless?: boolean;
  /** Whether it is of several batches, of which the later ones rely on the first. */
  readonly inBatches?: boolean;
  /** Milliseconds for which the client thinks before it goes on. */
  readonly think_ms?: number;
  /** Any of these is right; if there are none, whatever comes is. */
  expected(known: Known): readonly Expected[];
  /** Adds what may be so when the reply was none of those. */
  doubt?(known: Known): void;
}

/** Who sends an exchange. */
export interface Author {
  /** From 1 on. */
  readonly number: number;
  readonly profile: Profile;
  readonly ledger: Ledger;
  /** Words that nobody else has. */
  tag(): string;
}

/** Makes one; `pick` is any whole number, to vary it. */
export type Maker = (author: Author, pick: number) => Exchange;

/** What a statement answers, however it is sent: no rows is none, not even their description. */
export interface Result {
  readonly rows?: readonly Row[];
  readonly tag: string;
}

/** The result of a SELECT. */
export function rows(...answer: readonly Row[]): Result {
  return { rows: answer, tag: `SELECT ${answer.length}` };
}

const bodyOf = ({ rows }: Result) => (rows === undefined || rows.length === 0 ? 'C' : 'DC');

/** Any messages, of which the last is a Sync or the only one a Query. */
export function batch(
  words: string,
  bytes: readonly Buffer[],
  right: Expected,
  more: Partial<Exchange> = {},
): Exchange {
  return { words, bytes: Buffer.concat(bytes), expected: () => [right], ...more };
}

/** A simple query of one statement. */
export function simple(text: string, result: Result, more?: Partial<Exchange>): Exchange {
  const types = `${result.rows === undefined ? '' : 'T'}${bodyOf(result)}`;
  return batch(text, [query(text)], { types, rows: result.rows ?? [], tags: [result.tag] }, more);
}

/** An unnamed statement, described if `pick` says so. */
export function unnamed(
  text: string,
  values: readonly string[],
  result: Result,
  pick: number,
  more?: Partial<Exchange>,
): Exchange {
  const isDescribed = pick % 2 === 0;
  const head = isDescribed ? (result.rows === undefined ? 'n' : 'T') : '';
  const bytes = [parse('', text), bind('', '', values), ...(isDescribed ? [describe('P', '')] : []), execute(), sync()];
  const right = { types: `12${head}${bodyOf(result)}`, rows: result.rows ?? [], tags: [result.tag] };
  return batch(`${text} <- ${values}`, bytes, right, more);
}

/** Simple or unnamed, as `pick` says. */
export function either(text: string, result: Result, pick: number, more?: Partial<Exchange>): Exchange {
  return pick % 3 === 0 ? unnamed(text, [], result, pick >> 2, more) : simple(text, result, more);
}

/** The exchange for those who know that its transaction may never have begun: outside one, whatever comes is right. */
export function inside(exchange: Exchange): Exchange {
  return { ...exchange, expected: known => (known.status === 'I' ? [] : exchange.expected(known)) };
}

/** Whether this is the right reply. */
export function isRight({ types, rows = [], tags, error, notice }: Expected, reply: Reply, known: Known): boolean {
  if (types !== reply.types || !isError(reply, error)) return false;
  if (tags !== undefined && String(tags) !== String(reply.tags)) return false;
  const { notices } = reply;
  if (notice !== undefined ? notices.length !== 1 || !notices[0].message.includes(notice) : !areUsual(notices, known)) {
    return false;
  }
  return typeof rows === 'function' ? rows(reply.rows) : rows.length === reply.rows.length && begins(rows, reply);
}

/** Whether what came is the beginning of the right reply, so far as rows tell. */
export function isBeginning({ rows = [] }: Expected, reply: Reply): boolean {
  return typeof rows === 'function' ? true : begins(rows, reply);
}

function begins(rows: readonly Row[], reply: Reply): boolean {
  return reply.rows.every(
    (row, at) => row.length === rows[at]?.length && row.every((value, n) => value === rows[at][n]),
  );
}

function isError({ error }: Reply, expected: Expected['error']): boolean {
  if (expected === undefined || error === undefined) return expected === error;
  return error.severity === 'ERROR' && error.code === expected[0] && error.message.includes(expected[1]);
}

/** Warnings of transaction control, which no other exchange has a reason for. */
function areUsual(notices: Reply['notices'], { status }: Known): boolean {
  return notices.every(({ code }) => code === (status === 'I' ? '25P01' : '25001'));
}
