/** The fields of a row that a server sends to pglynx itself, in text. */
import { HEADER_LENGTH } from '../wire/protocol.ts';

/** The values of the DataRow at `buffer[start]`; undefined for NULL. */
export function fieldsOf(buffer: Buffer, start: number): (string | undefined)[] {
  const fields: (string | undefined)[] = [];
  let at = start + HEADER_LENGTH + 2;
  for (let count = buffer.readUInt16BE(start + HEADER_LENGTH); count > 0; count--) {
    const length = buffer.readInt32BE(at);
    at += 4;
    fields.push(length === -1 ? undefined : buffer.toString('utf8', at, at + Math.max(length, 0)));
    at += Math.max(length, 0);
  }
  return fields;
}
