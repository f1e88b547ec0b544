/** Whole numbers of 64 bits, read as PostgreSQL reads them. */

const ZERO = 0x30;
const NINE = 0x39;
const UNDERSCORE = 0x5f;
const MINUS = 0x2d;
const PLUS = 0x2b;

/** A value in two halves, since a double has only 53 bits. It is read into again and again; what failed leaves rubbish. */
export class Integer {
  /** The upper half of two's complement, unsigned. */
  high = 0;
  /** The lower half, unsigned. */
  low = 0;

  /**
   * Reads what int8in accepts: blanks around, a sign, decimal digits or 0x, 0o and 0b, underscores between digits.
   * `negated` turns the sign round. False for anything else, and for what has more than 64 bits.
   */
  read(text: string, negated = false): boolean {
    let at = afterBlanks(text, 0);
    const sign = text.charCodeAt(at);
    if (sign === MINUS || sign === PLUS) at++;
    const radix = text.charCodeAt(at) === ZERO ? radixOf(text.charCodeAt(at + 1)) : 10;
    if (radix !== 10) at += 2;
    const end = this.#readDigits(text, at, radix);
    if (end === -1 || afterBlanks(text, end) !== text.length) return false;
    return this.#sign((sign === MINUS) !== negated);
  }

  /** Reads the binary format of int2, int4 and int8, which their lengths tell apart. */
  readBinary(bytes: Buffer): boolean {
    const { length } = bytes;
    if (length === 8) {
      this.high = bytes.readUInt32BE(0);
      this.low = bytes.readUInt32BE(4);
    } else if (length === 4 || length === 2) {
      const value = bytes.readIntBE(0, length);
      this.high = value < 0 ? 0xffffffff : 0;
      this.low = value >>> 0;
    } else return false;
    return true;
  }

  /** The value; slow. */
  get value(): bigint {
    return BigInt.asIntN(64, (BigInt(this.high) << 32n) | BigInt(this.low));
  }

  /** Makes it the number that follows. */
  increment(): void {
    this.low = (this.low + 1) >>> 0;
    if (this.low === 0) this.high = (this.high + 1) >>> 0;
  }

  /** Reads digits into both halves, without a sign; where they end, or -1 when there are none, or too many. */
  #readDigits(text: string, at: number, radix: number): number {
    const first = at;
    let high = 0;
    let low = 0;
    for (; ; at++) {
      let code = text.charCodeAt(at);
      if (code === UNDERSCORE) {
        if (radix === 10 && at === first) return -1;
        code = text.charCodeAt(++at);
        if (digitOf(code) >= radix) return -1;
      }
      const digit = digitOf(code);
      if (digit >= radix) break;
      low = low * radix + digit;
      high *= radix;
      if (low > 0xffffffff) {
        high += Math.floor(low / 2 ** 32);
        low >>>= 0;
      }
      if (high > 0x80000000) return -1;
    }
    this.high = high;
    this.low = low;
    return at === first ? -1 : at;
  }

  /** Gives the digits their sign; false when there is no such value. */
  #sign(negative: boolean): boolean {
    if (!negative) return this.high < 0x80000000;
    if (this.high === 0x80000000 && this.low !== 0) return false;
    this.low = -this.low >>> 0;
    this.high = (~this.high + (this.low === 0 ? 1 : 0)) >>> 0;
    return true;
  }
}

/** The radix that the letter behind a leading zero gives. */
function radixOf(letter: number): number {
  switch (letter | 0x20) {
    case 0x78: // x
      return 16;
    case 0x6f: // o
      return 8;
    case 0x62: // b
      return 2;
    default:
      return 10;
  }
}

/** The value of a digit up to f; more than any digit for anything else. */
export function digitOf(code: number): number {
  if (code >= ZERO && code <= NINE) return code - ZERO;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : 99;
}

/** Where the blanks that begin at `at` end. */
export function afterBlanks(text: string, at: number): number {
  while (isBlank(text.charCodeAt(at))) at++;
  return at;
}

/** C's isspace, over ASCII. */
export function isBlank(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d);
}
