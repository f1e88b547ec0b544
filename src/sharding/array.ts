/** Elements of arrays, as PostgreSQL writes them in text and in binary. */
import { afterBlanks, isBlank } from './integer.ts';

/** Elements that are looked at: more are not worth the time of everybody else. */
export const ELEMENTS_MAX = 5_000;

/** What an array in binary format holds: the bytes of each element, null for NULL. */
export interface BinaryArray {
  /** OID of the type of the elements. */
  readonly type: number;
  readonly elements: readonly (Buffer | null)[];
}

/** An element in quotes. */
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
/** An element without quotes, and blanks behind it. */
const BARE = /[^"\\{},]+/y;

/** Bytes of ndim, flags and element type; of one dimension; of an element's length. */
const HEADER = 12;
const DIMENSION = 8;
const LENGTH = 4;

/**
 * The elements of `{1,"two",NULL}`. Undefined for what is no array of one dimension, says where it begins (`[2:3]=`),
 * has backslashes outside quotes, or more than {@link ELEMENTS_MAX} elements.
 */
export function parseArray(text: string): readonly (string | null)[] | undefined {
  const elements: (string | null)[] = [];
  let at = afterBlanks(text, 0);
  if (text[at] !== '{') return undefined;
  at = afterBlanks(text, at + 1);
  if (text[at] === '}') return afterBlanks(text, at + 1) === text.length ? elements : undefined;
  while (elements.length < ELEMENTS_MAX) {
    const isQuoted = text[at] === '"';
    const token = isQuoted ? QUOTED : BARE;
    token.lastIndex = at;
    const match = token.exec(text);
    if (match === null) return undefined;
    elements.push(isQuoted ? match[1].replace(/\\(.)/gs, '$1') : bare(match[0]));
    at = afterBlanks(text, token.lastIndex);
    if (text[at] === '}') return afterBlanks(text, at + 1) === text.length ? elements : undefined;
    if (text[at] !== ',') return undefined;
    at = afterBlanks(text, at + 1);
  }
  return undefined;
}

/** The elements of the binary format, under the same conditions as {@link parseArray}. */
export function readArray(bytes: Buffer): BinaryArray | undefined {
  if (bytes.length < HEADER) return undefined;
  const dimensions = bytes.readInt32BE(0);
  const type = bytes.readUInt32BE(8);
  if (dimensions === 0) return { type, elements: [] };
  if (dimensions !== 1 || bytes.length < HEADER + DIMENSION) return undefined;
  const count = bytes.readInt32BE(HEADER);
  if (count < 0 || count > ELEMENTS_MAX) return undefined;
  const elements: (Buffer | null)[] = [];
  let at = HEADER + DIMENSION;
  for (let n = 0; n < count; n++) {
    if (at + LENGTH > bytes.length) return undefined;
    const length = bytes.readInt32BE(at);
    at += LENGTH;
    if (length < -1 || at + length > bytes.length) return undefined;
    elements.push(length === -1 ? null : bytes.subarray(at, at + length));
    at += Math.max(0, length);
  }
  return at === bytes.length ? { type, elements } : undefined;
}

function bare(text: string): string | null {
  let end = text.length;
  while (isBlank(text.charCodeAt(end - 1))) end--;
  const element = text.slice(0, end);
  return element.toUpperCase() === 'NULL' ? null : element;
}
