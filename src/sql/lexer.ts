/** The rules of PostgreSQL's scanner: what a byte can be, and where numbers, strings and comments end. */

/** How a literal is spelled: numbers, since holes are kept in arrays of bytes. */
export const SPELLING = {
  /** A number that fits int4, and any other number. */
  integer: 0,
  decimal: 1,
  /** `'..'`, `E'..'`, `U&'..'`, `$tag$..$tag$`, and `B'..'` or `X'..'`. */
  plain: 2,
  escaped: 3,
  unicode: 4,
  dollar: 5,
  bits: 6,
} as const;

/** Bytes with a meaning of their own. */
export const BYTE = {
  blank: 0x20,
  name_quote: 0x22,
  dollar: 0x24,
  ampersand: 0x26,
  quote: 0x27,
  opening: 0x28,
  star: 0x2a,
  plus: 0x2b,
  dash: 0x2d,
  dot: 0x2e,
  slash: 0x2f,
  semicolon: 0x3b,
  backslash: 0x5c,
  underscore: 0x5f,
} as const;

/** What a byte can be: bits of an entry of {@link CLASSES}. Bytes above ASCII are letters, whatever they mean. */
export const SPACE = 1;
export const LETTER = 2;
export const DIGIT = 4;
export const OPERATOR = 8;
/** What goes on a word: letters, digits and `$`. */
export const WORD = 16;

export const CLASSES = classes();

function classes(): Uint8Array {
  const result = new Uint8Array(256);
  const add = (bits: number, characters: string) => {
    for (const character of characters) result[character.charCodeAt(0)] |= bits;
  };
  add(SPACE, ' \t\n\r\f\v');
  add(LETTER | WORD, 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_');
  add(DIGIT | WORD, '0123456789');
  add(WORD, '$');
  add(OPERATOR, '~!@#^&|`?+-*/%<>=');
  for (let byte = 0x80; byte < 0x100; byte++) result[byte] |= LETTER | WORD;
  return result;
}

/** Whether `buffer[at]` is there and of one of these classes. */
function isAt(buffer: Uint8Array, at: number, end: number, bits: number): boolean {
  return at < end && (CLASSES[buffer[at]] & bits) !== 0;
}

/** Whether `buffer[at]` is there and is `byte`. */
function hasAt(buffer: Uint8Array, at: number, end: number, byte: number): boolean {
  return at < end && buffer[at] === byte;
}

/** The value of `buffer[at]` as a hexadecimal digit; 16 for what is none. */
export function digitAt(buffer: Uint8Array, at: number, end: number): number {
  if (at >= end) return 16;
  const byte = buffer[at];
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : 16;
}

/** The base that `0x`, `0o` or `0b` at `at` says; 10 without a prefix. */
export function baseAt(buffer: Uint8Array, at: number, end: number): 2 | 8 | 10 | 16 {
  if (buffer[at] !== 0x30 || at + 1 >= end) return 10;
  switch (buffer[at + 1] | 0x20) {
    case 0x78:
      return 16;
    case 0x6f:
      return 8;
    case 0x62:
      return 2;
    default:
      return 10;
  }
}

/** The end of the digits at `at`, single underscores between them; `at` when there are none. */
function digitsEnd(buffer: Uint8Array, at: number, end: number, base: number): number {
  while (digitAt(buffer, at, end) < base) {
    at++;
    if (hasAt(buffer, at, end, BYTE.underscore) && digitAt(buffer, at + 1, end) < base) at++;
  }
  return at;
}

/** The end of the number at `at`: a digit, or a dot and a digit; -1 when PostgreSQL refuses it or what comes next. */
export function numberEnd(buffer: Uint8Array, at: number, end: number): number {
  const base = baseAt(buffer, at, end);
  if (base !== 10) {
    const from = hasAt(buffer, at + 2, end, BYTE.underscore) ? at + 3 : at + 2;
    const to = digitsEnd(buffer, from, end, base);
    return to === from || isAt(buffer, to, end, WORD) ? -1 : to;
  }
  let to = digitsEnd(buffer, at, end, 10);
  if (hasAt(buffer, to, end, BYTE.dot)) {
    // In `1..2` the dots are an operator.
    if (to > at && hasAt(buffer, to + 1, end, BYTE.dot)) return to;
    to = digitsEnd(buffer, to + 1, end, 10);
  }
  if (to < end && (buffer[to] | 0x20) === 0x65) {
    const signed = hasAt(buffer, to + 1, end, BYTE.plus) || hasAt(buffer, to + 1, end, BYTE.dash);
    const from = to + (signed ? 2 : 1);
    to = digitsEnd(buffer, from, end, 10);
    if (to === from) return -1;
  }
  return isAt(buffer, to, end, LETTER) || (hasAt(buffer, to, end, BYTE.dollar) && endsInWord(buffer, at, to)) ? -1 : to;
}

/** Whether the number ends in what could be a word as well, which a `$` would go on with: `1e5`, `1_0`. */
function endsInWord(buffer: Uint8Array, at: number, to: number): boolean {
  let i = to - 1;
  while (i > at && (CLASSES[buffer[i]] & DIGIT) !== 0) i--;
  return (CLASSES[buffer[i]] & LETTER) !== 0;
}

/** Whether the number `buffer[at, to)` fits int4; those that do not are decimals to the grammar. */
export function fitsInt4(buffer: Uint8Array, at: number, to: number): boolean {
  const base = baseAt(buffer, at, to);
  let value = 0;
  for (let i = base === 10 ? at : at + 2; i < to; i++) {
    if (buffer[i] === BYTE.underscore) continue;
    const digit = digitAt(buffer, i, to);
    if (digit >= base) return false;
    value = value * base + digit;
    if (value > 0x7fffffff) return false;
  }
  return true;
}

/**
 * The end of one part of a quoted string, whose quote opens at `at`; -1 when it has none, or an escape that PostgreSQL
 * refuses or may refuse.
 */
export function partEnd(buffer: Uint8Array, at: number, end: number, spelling: number): number {
  const escapes = spelling === SPELLING.escaped || spelling === SPELLING.unicode;
  let i = at + 1;
  while (i < end) {
    const byte = buffer[i++];
    if (byte === BYTE.quote) {
      if (spelling === SPELLING.bits || !hasAt(buffer, i, end, BYTE.quote)) return i;
      i++;
    } else if (byte === BYTE.backslash && escapes) {
      const found = escapeAt(buffer, i - 1, end, spelling);
      if (found === -1) return -1;
      i += (found >> ESCAPE_BITS) - 1;
    }
  }
  return -1;
}

/** The quote that goes on with a string that ended before `at`: a newline must be between; -1 when there is none. */
export function continuationAt(buffer: Uint8Array, at: number, end: number): number {
  let newline = false;
  let i = at;
  while (i < end) {
    const byte = buffer[i];
    if (byte === BYTE.quote) return newline ? i : -1;
    if (byte === BYTE.dash && hasAt(buffer, i + 1, end, BYTE.dash)) i = lineEnd(buffer, i, end);
    else if ((CLASSES[byte] & SPACE) !== 0) {
      if (byte === 0x0a || byte === 0x0d) newline = true;
      i++;
    } else return -1;
  }
  return -1;
}

/** Whether a comment opens at `at`. */
export function isComment(buffer: Uint8Array, at: number, end: number): boolean {
  const byte = buffer[at];
  if (byte === BYTE.dash) return hasAt(buffer, at + 1, end, BYTE.dash);
  return byte === BYTE.slash && hasAt(buffer, at + 1, end, BYTE.star);
}

/** The newline that ends the line, or the end. */
export function lineEnd(buffer: Uint8Array, at: number, end: number): number {
  while (at < end && buffer[at] !== 0x0a && buffer[at] !== 0x0d) at++;
  return at;
}

/** The end of the comment that opens at `at`, with all the comments in it; -1 when it has none. */
export function commentEnd(buffer: Uint8Array, at: number, end: number): number {
  let depth = 0;
  let i = at;
  while (i + 1 < end) {
    if (buffer[i] === BYTE.slash && buffer[i + 1] === BYTE.star) {
      depth++;
      i += 2;
    } else if (buffer[i] === BYTE.star && buffer[i + 1] === BYTE.slash) {
      i += 2;
      if (--depth === 0) return i;
    } else i++;
  }
  return -1;
}

/** The end of `$$` or `$tag$` at `at`, where no digit follows; -1 when it is neither. */
export function delimiterEnd(buffer: Uint8Array, at: number, end: number): number {
  let to = at + 1;
  while (isAt(buffer, to, end, LETTER | DIGIT)) to++;
  return hasAt(buffer, to, end, BYTE.dollar) ? to + 1 : -1;
}

/** The end of the string whose delimiter is `buffer[at, from)`; -1 when it has none. */
export function dollarEnd(buffer: Uint8Array, at: number, from: number, end: number): number {
  const length = from - at;
  for (let i = from; i + length <= end; i++) {
    if (buffer[i] !== BYTE.dollar) continue;
    // A tag has no `$` inside: no comparison goes past the next one, so all of them are one pass.
    let same = 1;
    while (same < length && buffer[i + same] === buffer[at + same]) same++;
    if (same === length) return i + length;
  }
  return -1;
}

/** An escape is told as one number: its length, shifted by this, and the character that it stands for. */
export const ESCAPE_BITS = 21;

/** The escape at `at` in `E'..'` or `U&'..'`; -1 when it stands for no character, or for a byte above ASCII. */
export function escapeAt(buffer: Uint8Array, at: number, end: number, spelling: number): number {
  if (at + 1 >= end) return -1;
  const byte = buffer[at + 1];
  if (spelling === SPELLING.unicode) {
    return byte === BYTE.backslash ? escapeOf(2, byte) : unicodeAt(buffer, at, end, spelling);
  }
  if (byte === 0x75 || byte === 0x55) return unicodeAt(buffer, at, end, spelling);
  const octal = digitAt(buffer, at + 1, end) < 8;
  if (octal || (byte === 0x78 && digitAt(buffer, at + 2, end) < 16)) {
    const base = octal ? 8 : 16;
    let to = octal ? at + 1 : at + 2;
    const most = Math.min(end, at + 4);
    let code = 0;
    while (digitAt(buffer, to, most) < base) code = code * base + digitAt(buffer, to++, most);
    code &= 0xff;
    return code === 0 || code >= 0x80 ? -1 : escapeOf(to - at, code);
  }
  if (byte >= 0x80) return -1;
  return escapeOf(2, controlOf(byte));
}

/** The character that a backslash before this one makes. */
function controlOf(byte: number): number {
  switch (byte) {
    case 0x62:
      return 0x08;
    case 0x66:
      return 0x0c;
    case 0x6e:
      return 0x0a;
    case 0x72:
      return 0x0d;
    case 0x74:
      return 0x09;
    case 0x76:
      return 0x0b;
    default:
      return byte;
  }
}

function escapeOf(length: number, code: number): number {
  return (length << ESCAPE_BITS) | code;
}

/** An escape with a code point, or two of them with a surrogate pair. */
function unicodeAt(buffer: Uint8Array, at: number, end: number, spelling: number): number {
  const length = unitLength(buffer, at, end, spelling);
  const unit = unitAt(buffer, at, end, length);
  if (unit < 0xd800 || unit > 0xdfff) return unit > 0 && unit <= 0x10ffff ? escapeOf(length, unit) : -1;
  if (unit >= 0xdc00) return -1;
  const more = unitLength(buffer, at + length, end, spelling);
  const second = unitAt(buffer, at + length, end, more);
  if (second < 0xdc00 || second > 0xdfff) return -1;
  return escapeOf(length + more, 0x10000 + ((unit - 0xd800) << 10) + (second - 0xdc00));
}

/** Length of `\uXXXX`, `\UXXXXXXXX`, or without a letter in `U&'..'`: `\XXXX`, `\+XXXXXX`; 0 when there is none. */
function unitLength(buffer: Uint8Array, at: number, end: number, spelling: number): number {
  if (!hasAt(buffer, at, end, BYTE.backslash) || at + 1 >= end) return 0;
  const byte = buffer[at + 1];
  if (spelling === SPELLING.unicode) return byte === BYTE.plus ? 8 : 5;
  if (byte === 0x75) return 6;
  return byte === 0x55 ? 10 : 0;
}

/** The number that the escape of this length says; -1 when it is none. */
function unitAt(buffer: Uint8Array, at: number, end: number, length: number): number {
  if (length === 0 || at + length > end) return -1;
  let value = 0;
  for (let i = length === 5 ? at + 1 : at + 2; i < at + length; i++) {
    const digit = digitAt(buffer, i, end);
    if (digit > 15) return -1;
    value = value * 16 + digit;
  }
  return value;
}
