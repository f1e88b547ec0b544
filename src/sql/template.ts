/** Texts without their literals: what is remembered and parsed in place of the many texts that clients send. */
import { Holes } from './holes.ts';
import {
  BYTE,
  baseAt,
  CLASSES,
  commentEnd,
  continuationAt,
  DIGIT,
  delimiterEnd,
  dollarEnd,
  fitsInt4,
  isComment,
  LETTER,
  lineEnd,
  numberEnd,
  OPERATOR,
  partEnd,
  SPACE,
  SPELLING,
  WORD,
} from './lexer.ts';
import { type Literal, literalOf } from './literal.ts';

/** Longest text looked at, bytes: whatever its template, a longer one would hold up everybody. */
export const MAX_TEXT_BYTES = 1024 * 1024;

/**
 * Why a text has no key: `too_long`, `nul` (PostgreSQL ends a text there), `escapes` (backslashes in a text that is its
 * own template, where the grammar does not know that they are escapes).
 */
export type KeyRefusal = 'too_long' | 'nul' | 'escapes';

/** The words that begin statements with templates. In others a literal may decide anything. */
const FIRST_WORDS = ['select', 'insert', 'update', 'delete', 'with', 'merge', 'values', 'table', 'execute', 'call'];
const EXPLAIN = 'explain';

/** What stands for a literal, by spelling. Neither empty nor zero, which trees leave out. */
const STAND_INS = ['1', '1.5', "'_'", "'_'", "'_'", "'_'", "B'1'"].map(text => Buffer.from(text));

/** What a step says instead of a position: the text has no template, or one beyond the limit. */
const VERBATIM = -1;
const TOO_LONG = -2;
/** There is no such token here. */
const NONE = -3;

/** What a step may write past the limit before it is seen. */
const SLACK = 16;
/** The first byte of keys that are no templates. */
const MARK = 0;

/**
 * Reads a text as PostgreSQL's scanner does and keeps what its parse tree depends on: each literal becomes the one that
 * stands for its form (`1`, `1.5`, `'_'`, `B'1'`, `X'1'`), blanks and comments become one blank. So the template's tree is
 * the text's, but for values and locations. Whatever might end otherwise stays as it is: `n` in `float(n)`, broken
 * tokens, doubtful escapes, options of EXPLAIN, statements that are no queries.
 *
 * One object serves all scans and tells about the last one, while that buffer is as it was.
 */
export class Template {
  /** The template's bytes read as Latin-1; for a text that is its own template, a mark and the text. '' when refused. */
  key = '';
  refusal: KeyRefusal | undefined;
  /** Whether the text is its own template, without holes. */
  verbatim = false;
  /** Whether the text may hold a comment. */
  comments = false;

  readonly #limit: number;
  #buffer: Buffer = Buffer.alloc(0);
  #end = 0;
  /** How '..' is spelled in this text. */
  #quoted: number = SPELLING.plain;
  /** Bytes of the key. */
  #out: Buffer = Buffer.alloc(1024);
  #length = 0;
  readonly #holes = new Holes();

  /** `max_length`: the longest template, bytes. */
  constructor(max_length: number) {
    this.#limit = max_length;
  }

  /** Reads `buffer[start, end)`. `backslashes`: '..' has escapes as well, standard_conforming_strings being off. */
  scan(buffer: Buffer, start: number, end: number, backslashes: boolean): void {
    this.key = '';
    this.refusal = undefined;
    this.verbatim = false;
    this.comments = false;
    this.#holes.count = 0;
    this.#buffer = buffer;
    this.#end = end;
    this.#length = 0;
    this.#quoted = backslashes ? SPELLING.escaped : SPELLING.plain;
    const nul = end - start > MAX_TEXT_BYTES ? -1 : buffer.indexOf(0, start);
    if (end - start > MAX_TEXT_BYTES) this.refusal = 'too_long';
    else if (nul !== -1 && nul < end) this.refusal = 'nul';
    else this.#make(start, backslashes);
    if (this.refusal === undefined) this.key = this.#out.toString('latin1', 0, this.#length);
  }

  /** What the parser gets, until the next scan. */
  get bytes(): Uint8Array {
    return this.#out.subarray(this.verbatim ? 1 : 0, this.#length);
  }

  /** The template to read. */
  get text(): string {
    return this.#out.toString('utf8', this.verbatim ? 1 : 0, this.#length);
  }

  /** Literals that were taken out: holes of the template. */
  get literals(): number {
    return this.#holes.count;
  }

  /** The value of the hole `n`, from 0. */
  literal(n: number): Literal {
    const holes = this.#holes;
    return literalOf(this.#buffer, holes.startOf(n), holes.endOf(n), holes.spellingOf(n));
  }

  /**
   * The hole that a constant of the tree is, whose location in the template is `offset`: a negative one is located at its
   * sign. Undefined when the constant is no literal of the text.
   */
  holeAt(offset: number): number | undefined {
    if (this.verbatim) return undefined;
    let at = offset;
    if (this.#out[at] === BYTE.dash) while (isBeforeOperand(this.#out[at])) at++;
    return this.#holes.at(at);
  }

  #make(start: number, backslashes: boolean): void {
    const length = this.#end - start;
    const room = Math.min(this.#limit, 3 * length) + SLACK;
    if (this.#out.length < room) this.#out = Buffer.alloc(Math.max(room, 2 * this.#out.length));
    let result = this.#read(start);
    if (this.#length > 0 && this.#out[this.#length - 1] === BYTE.blank) this.#length--;
    if (this.#length > this.#limit) result = TOO_LONG;
    if (result === TOO_LONG) this.refusal = 'too_long';
    else if (result === VERBATIM) this.#keep(start, length, backslashes);
  }

  /** The text as it is. */
  #keep(start: number, length: number, backslashes: boolean): void {
    const text = this.#buffer.subarray(start, this.#end);
    if (length > this.#limit) this.refusal = 'too_long';
    else if (backslashes && text.includes(BYTE.backslash)) this.refusal = 'escapes';
    this.verbatim = true;
    this.#holes.count = 0;
    if (this.refusal !== undefined) return;
    for (let i = 0; i < length && !this.comments; i++) this.comments = isComment(text, i, length);
    this.#out[0] = MARK;
    this.#out.set(text, 1);
    this.#length = length + 1;
  }

  /** Reads all tokens; VERBATIM or TOO_LONG when it stops before the end. */
  #read(start: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    const out = this.#out;
    const limit = this.#limit;
    let begins = true;
    let i = start;
    while (i >= 0 && i < end) {
      const at = this.#length;
      // One more may be a blank that goes.
      if (at > limit + 1) return TOO_LONG;
      const byte = buffer[i];
      const bits = CLASSES[byte];
      if ((bits & LETTER) !== 0) {
        i = this.#word(i, begins);
        begins = false;
      } else if ((bits & SPACE) !== 0) {
        do i++;
        while (i < end && (CLASSES[buffer[i]] & SPACE) !== 0);
        this.#blank();
      } else if ((bits & OPERATOR) !== 0 && isComment(buffer, i, end)) {
        this.comments = true;
        i = byte === BYTE.dash ? lineEnd(buffer, i, end) : commentEnd(buffer, i, end);
        this.#blank();
      } else if (byte === BYTE.semicolon || byte === BYTE.opening) {
        begins = byte === BYTE.semicolon;
        out[at] = byte;
        this.#length = at + 1;
        i++;
      } else if (begins) return VERBATIM;
      else i = this.#token(i, byte, bits);
    }
    return i;
  }

  /** A word, or a string that begins with a letter. */
  #word(from: number, begins: boolean): number {
    const buffer = this.#buffer;
    const end = this.#end;
    const out = this.#out;
    let at = this.#length;
    const most = this.#most(from);
    let i = from;
    do out[at++] = buffer[i++];
    while (i < most && (CLASSES[buffer[i]] & WORD) !== 0);
    if (begins) {
      this.#length = at;
      return this.#isFirst(from, i) ? i : VERBATIM;
    }
    const length = i - from;
    if (length === 1 && i < end && (buffer[i] === BYTE.quote || buffer[i] === BYTE.ampersand)) {
      const after = this.#prefixed(from);
      if (after !== NONE) return after;
    }
    this.#length = at;
    // It takes the string after it into the one before it.
    return length === 7 && isWord(buffer, from, i, 'uescape') ? VERBATIM : i;
  }

  /** Whether the statement that this word begins has a template. */
  #isFirst(from: number, to: number): boolean {
    const buffer = this.#buffer;
    for (const word of FIRST_WORDS) if (isWord(buffer, from, to, word)) return true;
    if (!isWord(buffer, from, to, EXPLAIN)) return false;
    // The values of options say what it does.
    let next = to;
    while (next < this.#end && (CLASSES[buffer[next]] & SPACE) !== 0) next++;
    return buffer[next] !== BYTE.opening && !isComment(buffer, next, this.#end);
  }

  /** The string that begins with the letter at `at`; NONE when it is a word. */
  #prefixed(at: number): number {
    const buffer = this.#buffer;
    const letter = buffer[at] | 0x20;
    if (buffer[at + 1] === BYTE.ampersand) {
      const isString = letter === 0x75 && at + 2 < this.#end && buffer[at + 2] === BYTE.quote;
      return isString ? this.#string(at + 2, SPELLING.unicode) : NONE;
    }
    switch (letter) {
      case 0x65:
        return this.#string(at + 1, SPELLING.escaped);
      case 0x62:
      case 0x78:
        return this.#string(at + 1, SPELLING.bits);
      case 0x6e:
        // The letter is a token by itself: the word NCHAR.
        this.#out[this.#length++] = 0x4e;
        return this.#string(at + 1, this.#quoted);
      default:
        return NONE;
    }
  }

  /** A token that begins with no letter. */
  #token(from: number, byte: number, bits: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    if ((bits & DIGIT) !== 0) return this.#number(from);
    switch (byte) {
      case BYTE.quote:
        return this.#string(from, this.#quoted);
      case BYTE.dollar:
        return this.#dollar(from);
      case BYTE.name_quote:
        return this.#name(from);
      case BYTE.dot:
        if (from + 1 < end && (CLASSES[buffer[from + 1]] & DIGIT) !== 0) return this.#number(from);
        if (from + 1 < end && buffer[from + 1] === BYTE.dot) return this.#copy(from, from + 2);
        break;
    }
    const most = this.#most(from);
    let i = from;
    do this.#out[this.#length++] = buffer[i++];
    while ((bits & OPERATOR) !== 0 && i < most && (CLASSES[buffer[i]] & OPERATOR) !== 0 && !isComment(buffer, i, end));
    return i;
  }

  #number(from: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    let to = from;
    while (to < end && (CLASSES[buffer[to]] & DIGIT) !== 0) to++;
    let spelling: number = SPELLING.integer;
    if (to - from > 9 || (to < end && (buffer[to] === BYTE.dot || (CLASSES[buffer[to]] & LETTER) !== 0))) {
      to = numberEnd(buffer, from, end);
      if (to === -1) return VERBATIM;
      if (!fitsInt4(buffer, from, to)) spelling = SPELLING.decimal;
    }
    if (this.#out[this.#length - 1] === BYTE.opening || this.#out[this.#length - 2] === BYTE.opening) {
      if (this.#namesType()) return this.#copy(from, to);
    }
    this.#hole(spelling, from, to);
    // `0x1.` is a number and a dot, `1.` would be a number.
    if (to < end && buffer[to] === BYTE.dot && baseAt(buffer, from, to) !== 10) this.#blank();
    return to;
  }

  /** Whether what is written ends in `float(`. */
  #namesType(): boolean {
    const out = this.#out;
    let at = this.#length;
    if (out[at - 1] === BYTE.blank) at--;
    if (out[at - 1] !== BYTE.opening) return false;
    at--;
    if (out[at - 1] === BYTE.blank) at--;
    return at >= 5 && isWord(out, at - 5, at, 'float');
  }

  /** The string whose first quote is at `quote`. */
  #string(quote: number, spelling: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    let to = partEnd(buffer, quote, end, spelling);
    for (;;) {
      if (to === -1) return VERBATIM;
      const next = continuationAt(buffer, to, end);
      if (next === -1) break;
      // There may be one in the gap.
      this.comments = true;
      to = partEnd(buffer, next, end, spelling);
    }
    this.#hole(spelling, spelling === SPELLING.bits ? quote - 1 : quote, to);
    return to;
  }

  /** A parameter, or a string in dollars. */
  #dollar(from: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    let to = from + 1;
    while (to < end && (CLASSES[buffer[to]] & DIGIT) !== 0) to++;
    if (to > from + 1) return to < end && (CLASSES[buffer[to]] & LETTER) !== 0 ? VERBATIM : this.#copy(from, to);
    const inside = delimiterEnd(buffer, from, end);
    to = inside === -1 ? -1 : dollarEnd(buffer, from, inside, end);
    if (to === -1) return VERBATIM;
    this.#hole(SPELLING.dollar, from, to);
    return to;
  }

  /** A name in quotes; two of them inside stand for one, and pass as two names. */
  #name(from: number): number {
    let to = from + 1;
    while (to < this.#end && this.#buffer[to] !== BYTE.name_quote) to++;
    return to === this.#end ? VERBATIM : this.#copy(from, to + 1);
  }

  #copy(from: number, to: number): number {
    if (to > this.#most(from)) return TOO_LONG;
    let at = this.#length;
    for (let i = from; i < to; i++) this.#out[at++] = this.#buffer[i];
    this.#length = at;
    return to;
  }

  #hole(spelling: number, start: number, end: number): void {
    const out = this.#out;
    const stand_in = STAND_INS[spelling];
    if (this.#clings(spelling, start)) this.#blank();
    let at = this.#length;
    this.#holes.add(spelling, start, end, at);
    for (let i = 0; i < stand_in.length; i++) out[at++] = stand_in[i];
    if (spelling === SPELLING.bits) out[at - stand_in.length] = this.#buffer[start] & 0xdf;
    this.#length = at;
  }

  /** Whether the literal's stand-in would be read together with what is written: `'a'$$b$$`, `u&$$a$$`, `a.5`. */
  #clings(spelling: number, start: number): boolean {
    const before = this.#out[this.#length - 1];
    if (spelling >= SPELLING.plain) return before === BYTE.quote || before === BYTE.ampersand;
    return this.#buffer[start] === BYTE.dot && before !== BYTE.blank;
  }

  /** Writes a blank, if there is none yet. */
  #blank(): void {
    const at = this.#length;
    if (at > 0 && this.#out[at - 1] !== BYTE.blank) this.#out[this.#length++] = BYTE.blank;
  }

  /** How far a token from `from` on may be copied: one byte past the limit tells. */
  #most(from: number): number {
    return Math.min(this.#end, from + this.#limit + 1 - this.#length);
  }
}

function isWord(buffer: Uint8Array, from: number, to: number, word: string): boolean {
  if (to - from !== word.length) return false;
  for (let i = 0; i < word.length; i++) if ((buffer[from + i] | 0x20) !== word.charCodeAt(i)) return false;
  return true;
}

/** What stands between the sign of a negative constant and its digits. */
function isBeforeOperand(byte: number | undefined): boolean {
  return byte === BYTE.dash || byte === BYTE.blank || byte === BYTE.opening;
}
