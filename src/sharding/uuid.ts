/** UUIDs, read as PostgreSQL reads them. */

/** What uuid_in accepts: 32 hexadecimal digits, a hyphen or none after every fourth, braces around or none. */
const UUID = /^(?:[0-9a-f]{4}-?){7}[0-9a-f]{4}$/i;

/** Bytes of a UUID. */
export const UUID_BYTES = 16;

/** The bytes of a UUID, undefined for what PostgreSQL would not read as one. */
export function parseUuid(text: string): Buffer | undefined {
  const inner = text.startsWith('{') && text.endsWith('}') ? text.slice(1, -1) : text;
  return UUID.test(inner) ? Buffer.from(inner.replaceAll('-', ''), 'hex') : undefined;
}
