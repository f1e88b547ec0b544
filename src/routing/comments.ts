/** What comments ask for the one statement they stand in: `-- pglynx: role=replica shard=2`. */

import type { ShardingSettings } from '../config/cluster.ts';
import { Pattern, type Range } from './pattern.ts';

/** A wish that stands in the comments of a text; with an `error` the text must not run. */
export interface CommentHint {
  readonly role: 'primary' | 'replica' | 'any' | undefined;
  readonly shard: number | undefined;
  readonly sharding_key: string | undefined;
  readonly error: string | undefined;
}

const ROLES = ['primary', 'replica', 'any'] as const;
const MARK = 'pglynx:';

/** A longer comment is no hint that anybody wrote. */
const COMMENT_LENGTH_MAX = 1024;

/** As many in one text are a mistake, and cost no more than this. */
const COMMENTS_MAX = 64;

const QUOTE = 0x27;
const DOUBLE_QUOTE = 0x22;
const BACKSLASH = 0x5c;
const DOLLAR = 0x24;
const DASH = 0x2d;
const SLASH = 0x2f;
const STAR = 0x2a;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * What the comments of a text ask for; undefined when none begins with `pglynx:`. With `backslashes`, plain strings have
 * escapes (standard_conforming_strings is off).
 */
export function commentHint(buffer: Buffer, start: number, end: number, backslashes: boolean): CommentHint | undefined {
  if (!mayHoldComment(buffer, start, end)) return undefined;
  let hint: CommentHint | undefined;
  let count = 0;
  eachComment(buffer, start, end, backslashes, (from, to) => {
    if (hint?.error !== undefined) return;
    while (from < to && isBlank(buffer[from])) from++;
    if (!isMark(buffer, from, to)) return;
    hint = merge(hint, readComment(buffer, from + MARK.length, to));
    if (++count > COMMENTS_MAX) hint = mistake(`at most ${COMMENTS_MAX} comments may ask for something`);
  });
  return hint;
}

/** How far a search for the mark may step when the byte under the mark's last place is this one (Horspool). */
const STEPS = new Uint8Array(256).fill(MARK.length);
for (let n = 0; n < MARK.length - 1; n++) STEPS[MARK.charCodeAt(n)] = MARK.length - 1 - n;
const MARK_LAST = MARK.charCodeAt(MARK.length - 1);

/** Whether `pglynx:` stands anywhere in a text: most have no comment to look for. */
export function mayHoldComment(buffer: Buffer, start: number, end: number): boolean {
  let at = start + MARK.length - 1;
  while (at < end) {
    const byte = buffer[at];
    if (byte === MARK_LAST && isMark(buffer, at - MARK.length + 1, end)) return true;
    at += STEPS[byte];
  }
  return false;
}

function isMark(buffer: Buffer, at: number, end: number): boolean {
  if (at + MARK.length > end) return false;
  for (let n = 0; n < MARK.length; n++) if (buffer[at + n] !== MARK.charCodeAt(n)) return false;
  return true;
}

/** Whether a byte is what PostgreSQL calls space. */
export function isBlank(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

/** Whether a byte may stand in a word after its first. */
export function isWordByte(byte: number): boolean {
  const letter = byte | 0x20;
  return (letter >= 0x61 && letter <= 0x7a) || isDigit(byte) || byte === 0x5f || byte === DOLLAR || byte >= 0x80;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

/** Behind the comment that begins at `at`: `at` when none begins there, past `end` when it is never closed. */
export function commentEnd(buffer: Buffer, at: number, end: number): number {
  if (at + 1 >= end) return at;
  if (buffer[at] === DASH && buffer[at + 1] === DASH) {
    while (at < end && buffer[at] !== 0x0a && buffer[at] !== 0x0d) at++;
    return at;
  }
  if (buffer[at] !== SLASH || buffer[at + 1] !== STAR) return at;
  let depth = 0;
  while (at < end) {
    const pair = at + 1 < end ? (buffer[at] << 8) | buffer[at + 1] : 0;
    if (pair === ((SLASH << 8) | STAR)) depth++;
    else if (pair === ((STAR << 8) | SLASH)) depth--;
    else {
      at++;
      continue;
    }
    at += 2;
    if (depth === 0) return at;
  }
  return end + 1;
}

/** Calls `visit` with the text of each comment, as PostgreSQL's lexer finds them. */
function eachComment(
  buffer: Buffer,
  start: number,
  end: number,
  backslashes: boolean,
  visit: (from: number, to: number) => void,
): void {
  let at = start;
  // A string goes on, with the escapes it began with, after a line end: 'a' \n 'b'.
  let escapes: boolean | undefined;
  let newline = false;
  while (at < end) {
    const byte = buffer[at];
    if (isBlank(byte)) {
      newline ||= byte === 0x0a || byte === 0x0d;
      at++;
      continue;
    }
    const after = byte === DASH || byte === SLASH ? commentEnd(buffer, at, end) : at;
    if (after > at) {
      visit(at + 2, byte === DASH ? after : Math.min(after - 2, end));
      if (byte === SLASH) escapes = undefined;
      at = after;
      continue;
    }
    const before = newline ? escapes : undefined;
    escapes = undefined;
    newline = false;
    const prefixed = buffer[at + 1] === QUOTE ? prefixEscapes(byte) : undefined;
    if (byte === QUOTE) {
      escapes = before ?? backslashes;
      at = quotedEnd(buffer, at, end, escapes);
    } else if (prefixed !== undefined) {
      escapes = prefixed;
      at = quotedEnd(buffer, at + 1, end, escapes);
    } else if (byte === DOUBLE_QUOTE) at = quotedEnd(buffer, at, end, false);
    else if (byte === DOLLAR) at = dollarEnd(buffer, at, end);
    else at = tokenEnd(buffer, at, end);
  }
}

/** Whether the string that follows a one-letter prefix (E'..', B'..', X'..') has escapes; undefined for other bytes. */
function prefixEscapes(byte: number): boolean | undefined {
  const letter = byte | 0x20;
  if (letter === 0x65) return true;
  return letter === 0x62 || letter === 0x78 ? false : undefined;
}

/** The end of what is quoted from `at` on. A doubled quote reads as the end of one and the begin of the next. */
function quotedEnd(buffer: Buffer, at: number, end: number, escapes: boolean): number {
  const quote = buffer[at++];
  while (at < end) {
    const byte = buffer[at++];
    if (escapes && byte === BACKSLASH) at++;
    else if (byte === quote) {
      if (buffer[at] !== quote || at >= end) return at;
      at++;
    }
  }
  return end;
}

/** The end of the dollar-quoted string or the parameter at `at`, or of the `$` alone when it is neither. */
function dollarEnd(buffer: Buffer, at: number, end: number): number {
  let tag = at + 1;
  if (isDigit(buffer[tag])) {
    while (tag < end && isDigit(buffer[tag])) tag++;
    return tag;
  }
  while (tag < end && buffer[tag] !== DOLLAR && isWordByte(buffer[tag])) tag++;
  if (tag >= end || buffer[tag] !== DOLLAR) return at + 1;
  const length = tag + 1 - at;
  const last = end - length;
  for (let to = tag + 1; to <= last; to++) {
    if (buffer[to] === DOLLAR && sameBytes(buffer, at, to, length)) return to + length;
  }
  return end;
}

function sameBytes(buffer: Buffer, one: number, other: number, length: number): boolean {
  for (let n = 0; n < length; n++) if (buffer[one + n] !== buffer[other + n]) return false;
  return true;
}

/** The end of a word, in which a `$` quotes nothing, of a number, after which it does, or of any other byte. */
function tokenEnd(buffer: Buffer, at: number, end: number): number {
  if (!isWordByte(buffer[at])) return at + 1;
  const number = isDigit(buffer[at]);
  let to = at;
  while (to < end && isWordByte(buffer[to]) && !(number && buffer[to] === DOLLAR)) to++;
  return to;
}

/** What the two expressions of a pool find in its statements. */
export type CommentFind =
  | { readonly shard: number }
  | { readonly sharding_key: string }
  /** It was found, but cannot be what it should be: the text must not run. */
  | { readonly error: string };

/** A pool's `shard_id_regex` and `sharding_key_regex`. */
export class CommentPatterns {
  readonly #id: Pattern | undefined;
  readonly #key: Pattern | undefined;
  readonly #limit: number;

  constructor(settings: Pick<ShardingSettings, 'id_regex' | 'key_regex' | 'regex_search_limit'>) {
    const { id_regex, key_regex } = settings;
    this.#id = id_regex === undefined ? undefined : new Pattern(id_regex);
    this.#key = key_regex === undefined ? undefined : new Pattern(key_regex);
    this.#limit = settings.regex_search_limit;
  }

  /** What is found in the first `regex_search_limit` bytes of a text; a number before a key. */
  find(buffer: Buffer, start: number, end: number): CommentFind | undefined {
    const searched = buffer.subarray(start, Math.min(end, start + this.#limit));
    if (searched.length === 0) return undefined;
    const cut = start + searched.length < end;
    const id = this.#id?.find(searched);
    if (id !== undefined) {
      const text = foundText(searched, id, cut);
      const shard = shardNumber(text ?? '');
      if (shard !== undefined) return { shard };
      return {
        error: `shard_id_regex finds ${text === undefined ? CUT : `${show(text)}, which is no shard's number`}`,
      };
    }
    const key = this.#key?.find(searched);
    if (key === undefined) return undefined;
    const sharding_key = foundText(searched, key, cut);
    return sharding_key === undefined ? { error: `sharding_key_regex finds ${CUT}` } : { sharding_key };
  }
}

const CUT = 'what regex_search_limit cuts, or what is no UTF-8';

/** What was found; undefined when it may go on behind the limit: half a key belongs to another shard. */
function foundText(searched: Buffer, { from, to }: Range, cut: boolean): string | undefined {
  return cut && to === searched.length ? undefined : decode(searched, from, to);
}

const NOTHING: CommentHint = { role: undefined, shard: undefined, sharding_key: undefined, error: undefined };

const SEPARATORS = /[\s,]*/y;

/** `key = value`, the value maybe in quotes, and the separators behind it. */
const PAIR = /(\w+)\s*=\s*(?:'([^']*(?:''[^']*)*)'|"([^"]*(?:""[^"]*)*)"|([^\s,'"=]+))(?:[\s,]+|$)/y;

/** Reads what follows `pglynx:` in one comment. */
function readComment(buffer: Buffer, from: number, to: number): CommentHint {
  const text = to - from > COMMENT_LENGTH_MAX ? undefined : decode(buffer, from, to);
  if (text === undefined) return mistake(`UTF-8 of at most ${COMMENT_LENGTH_MAX} bytes is expected`);
  SEPARATORS.lastIndex = 0;
  SEPARATORS.test(text);
  let hint: CommentHint | undefined;
  let at = SEPARATORS.lastIndex;
  while (at < text.length) {
    PAIR.lastIndex = at;
    const pair = PAIR.exec(text);
    if (pair === null)
      return mistake(`role=, shard= or key= with a value is expected at ${show(text.slice(at).trim())}`);
    const [, key, single, double, bare] = pair;
    const value = single?.replaceAll("''", "'") ?? double?.replaceAll('""', '"') ?? bare ?? '';
    hint = merge(hint, readPair(key, value));
    at = PAIR.lastIndex;
  }
  return hint ?? mistake('role=, shard= or key= is expected');
}

function readPair(key: string, value: string): CommentHint {
  switch (key.toLowerCase()) {
    case 'role': {
      const role = ROLES.find(known => known === value.toLowerCase());
      return role === undefined
        ? mistake(`role must be primary, replica or any, not ${show(value)}`)
        : { ...NOTHING, role };
    }
    case 'shard': {
      const shard = shardNumber(value);
      return shard === undefined
        ? mistake(`shard must be the number of a shard, not ${show(value)}`)
        : { ...NOTHING, shard };
    }
    case 'key':
    case 'sharding_key':
      return { ...NOTHING, sharding_key: value };
    default:
      return mistake(`${show(key)} is unknown: role, shard and key are what it can set`);
  }
}

/** Both wishes in one; the first error stays. */
function merge(first: CommentHint | undefined, second: CommentHint): CommentHint {
  if (first === undefined) return second;
  const merged = {
    role: first.role ?? second.role,
    shard: first.shard ?? second.shard,
    sharding_key: first.sharding_key ?? second.sharding_key,
    error: first.error ?? second.error,
  };
  if (merged.error !== undefined) return merged;
  for (const key of ['role', 'shard', 'sharding_key'] as const) {
    const [one, other] = [first[key], second[key]];
    if (one !== undefined && other !== undefined && one !== other) {
      return mistake(`${key} is asked to be ${show(String(one))} and ${show(String(other))}`);
    }
  }
  if (merged.shard !== undefined && merged.sharding_key !== undefined) {
    return mistake('shard and key exclude each other');
  }
  return merged;
}

function mistake(words: string): CommentHint {
  return { ...NOTHING, error: words };
}

/** The number that `text` is, if it can be a shard's. */
export function shardNumber(text: string): number | undefined {
  const shard = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(shard) ? shard : undefined;
}

/** A client's words in quotes, cut when they are long. */
export function show(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

/** The bytes as text; undefined when they are no UTF-8, which nobody may guess a key from. */
export function decode(buffer: Buffer, from: number, to: number): string | undefined {
  try {
    return UTF8.decode(buffer.subarray(from, to));
  } catch {
    return undefined;
  }
}
