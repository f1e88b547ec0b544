/** The values of literals: what the grammar makes of their bytes. */
import { BYTE, baseAt, continuationAt, delimiterEnd, ESCAPE_BITS, escapeAt, partEnd, SPELLING } from './lexer.ts';

/** How a literal was written, as far as its value depends on it. */
export type LiteralForm = 'integer' | 'decimal' | 'string' | 'bits';

/** A literal's value. */
export interface Literal {
  readonly form: LiteralForm;
  /**
   * Of a string, its characters: escapes resolved, parts joined. Of bits, `b` or `x` and the digits. Of an integer, its
   * decimal digits. Of a decimal, what was written without underscores; what has another base, and is not long beyond
   * any key, in decimal digits.
   */
  readonly text: string;
}

/** Numbers to another base from this length on are not converted: that takes long, and no type can hold them. */
const BASED_LENGTH = 64;

/** The value of the sound literal `buffer[start, end)`; `start` is at the opening quote or `$`, or the `B` or `X` of bits. */
export function literalOf(buffer: Buffer, start: number, end: number, spelling: number): Literal {
  switch (spelling) {
    case SPELLING.integer:
      return { form: 'integer', text: String(Number(digits(buffer, start, end))) };
    case SPELLING.decimal:
      return { form: 'decimal', text: decimalText(buffer, start, end) };
    case SPELLING.bits: {
      const letter = String.fromCharCode(buffer[start] | 0x20);
      return { form: 'bits', text: `${letter}${quotedText(buffer, start + 1, end, spelling)}` };
    }
    case SPELLING.dollar: {
      const from = delimiterEnd(buffer, start, end);
      return { form: 'string', text: buffer.toString('utf8', from, end - (from - start)) };
    }
    default:
      return { form: 'string', text: quotedText(buffer, start, end, spelling) };
  }
}

/** The number without its underscores. */
function digits(buffer: Buffer, start: number, end: number): string {
  const bytes = Buffer.allocUnsafe(end - start);
  let at = 0;
  for (let i = start; i < end; i++) if (buffer[i] !== BYTE.underscore) bytes[at++] = buffer[i];
  return bytes.toString('latin1', 0, at);
}

function decimalText(buffer: Buffer, start: number, end: number): string {
  const text = digits(buffer, start, end);
  return baseAt(buffer, start, end) !== 10 && text.length < BASED_LENGTH ? BigInt(text).toString() : text;
}

/** The characters between quotes, in one part or several. */
function quotedText(buffer: Buffer, start: number, end: number, spelling: number): string {
  const bytes = Buffer.allocUnsafe(end - start);
  const escapes = spelling === SPELLING.escaped || spelling === SPELLING.unicode;
  let at = 0;
  for (let quote = start; quote !== -1; ) {
    const to = partEnd(buffer, quote, end, spelling);
    for (let i = quote + 1; i < to - 1; ) {
      const byte = buffer[i];
      if (escapes && byte === BYTE.backslash) {
        const found = escapeAt(buffer, i, to, spelling);
        const code = found & ((1 << ESCAPE_BITS) - 1);
        if (code < 0x80) bytes[at++] = code;
        else at += bytes.write(String.fromCodePoint(code), at, 'utf8');
        i += found >> ESCAPE_BITS;
      } else {
        bytes[at++] = byte;
        // Of two quotes, one counts.
        i += byte === BYTE.quote ? 2 : 1;
      }
    }
    quote = continuationAt(buffer, to, end);
  }
  return bytes.toString('utf8', 0, at);
}
