/** Texts as they may be shown to people: without comments and without what stands in strings, a password perhaps. */
import {
  BYTE,
  CLASSES,
  commentEnd,
  continuationAt,
  DIGIT,
  delimiterEnd,
  dollarEnd,
  isComment,
  LETTER,
  lineEnd,
  SPACE,
  WORD,
} from './lexer.ts';

export interface RedactOptions {
  /** Whether numbers go as well. */
  readonly numbers: boolean;
  /** Whether plain strings have backslash escapes: standard_conforming_strings is off. */
  readonly backslashes: boolean;
}

const STRING = "'_'";
const NUMBER = '1';
const ESCAPED = 0x65;

/**
 * The text `buffer[start, end)`, whatever statement it is. Strings become `'_'`, numbers `1`, blanks and comments one
 * blank; what does not end goes up to the end of the text.
 */
export function redacted(buffer: Buffer, start: number, end: number, options: RedactOptions): string {
  const parts: string[] = [];
  const copy = (from: number, to: number) => void parts.push(buffer.toString('utf8', from, to));
  const put = (text: string) => {
    if (text !== ' ' || parts.at(-1) !== ' ') parts.push(text);
  };
  let i = start;
  while (i < end) {
    const byte = buffer[i];
    const bits = CLASSES[byte];
    if ((bits & SPACE) !== 0) {
      put(' ');
      i++;
    } else if (isComment(buffer, i, end)) {
      put(' ');
      i = byte === BYTE.dash ? lineEnd(buffer, i, end) : orEnd(commentEnd(buffer, i, end), end);
    } else if (byte === BYTE.quote) {
      put(STRING);
      i = stringEnd(buffer, i, end, options.backslashes);
    } else if ((bits & LETTER) !== 0) {
      const to = wordEnd(buffer, i, end);
      copy(i, to);
      const isEscaped = to - i === 1 && (byte | 0x20) === ESCAPED && to < end && buffer[to] === BYTE.quote;
      if (isEscaped) put(STRING);
      i = isEscaped ? stringEnd(buffer, to, end, true) : to;
    } else if ((bits & DIGIT) !== 0) {
      const to = numberEnd(buffer, i, end);
      if (options.numbers) put(NUMBER);
      else copy(i, to);
      i = to;
    } else if (byte === BYTE.name_quote) {
      const to = buffer.subarray(0, end).indexOf(BYTE.name_quote, i + 1);
      copy(i, to === -1 ? i + 1 : to + 1);
      i = orEnd(to === -1 ? -1 : to + 1, end);
    } else if (byte === BYTE.dollar) {
      const inside = delimiterEnd(buffer, i, end);
      const isParameter = i + 1 < end && (CLASSES[buffer[i + 1]] & DIGIT) !== 0;
      const isString = !isParameter && inside !== -1;
      const to = isString ? orEnd(dollarEnd(buffer, i, inside, end), end) : wordEnd(buffer, i + 1, end);
      if (isString) put(STRING);
      else copy(i, to);
      i = to;
    } else {
      copy(i, i + 1);
      i++;
    }
  }
  return parts.join('').trim();
}

function orEnd(at: number, end: number): number {
  return at === -1 ? end : at;
}

function wordEnd(buffer: Buffer, at: number, end: number): number {
  while (at < end && (CLASSES[buffer[at]] & WORD) !== 0) at++;
  return at;
}

/** The end of what begins like a number, with whatever clings to it. */
function numberEnd(buffer: Buffer, at: number, end: number): number {
  let i = at;
  while (i < end && (buffer[i] === BYTE.dot || (CLASSES[buffer[i]] & WORD) !== 0)) i++;
  return i;
}

/** The end of the string whose quote opens at `at`, with the strings that go on with it on other lines. */
function stringEnd(buffer: Buffer, at: number, end: number, escapes: boolean): number {
  let i = at + 1;
  while (i < end) {
    const byte = buffer[i++];
    if (byte === BYTE.backslash && escapes) i++;
    else if (byte === BYTE.quote) {
      if (i < end && buffer[i] === BYTE.quote) {
        i++;
        continue;
      }
      const next = continuationAt(buffer, i, end);
      if (next === -1) return i;
      i = next + 1;
    }
  }
  return end;
}
