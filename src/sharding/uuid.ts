/** UUIDs, read as PostgreSQL reads them. */
import { digitOf } from './integer.ts';

/** Bytes of a UUID. */
export const UUID_BYTES = 16;

const HYPHEN = 0x2d;

/** What was parsed last. */
const parsed = Buffer.alloc(UUID_BYTES);

/**
 * The bytes of a UUID, valid until the next call; undefined for what PostgreSQL would not read as one. It accepts 32
 * hexadecimal digits with a hyphen or none after every fourth, and braces around them or none.
 */
export function parseUuid(text: string): Buffer | undefined {
  const isBraced = text[0] === '{';
  let at = isBraced ? 1 : 0;
  for (let n = 0; n < UUID_BYTES; n++) {
    const high = digitOf(text.charCodeAt(at++));
    const low = digitOf(text.charCodeAt(at++));
    if (high > 15 || low > 15) return undefined;
    parsed[n] = (high << 4) | low;
    if (n % 2 === 1 && n < UUID_BYTES - 1 && text.charCodeAt(at) === HYPHEN) at++;
  }
  if (isBraced && text[at++] !== '}') return undefined;
  return at === text.length ? parsed : undefined;
}
