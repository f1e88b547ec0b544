/** Messages that travel from servers to clients: reading those pglynx acts on, and building its own. */
import type { PgError } from '../errors.ts';
import { message } from './frontend.ts';
import { AUTHENTICATION, BACKEND, HEADER_LENGTH, PROTOCOL_3_0, STATUS } from './protocol.ts';

export const PARSE_COMPLETE = message(BACKEND.parseComplete, Buffer.alloc(0));
export const CLOSE_COMPLETE = message(BACKEND.closeComplete, Buffer.alloc(0));
export const BIND_COMPLETE = message(BACKEND.bindComplete, Buffer.alloc(0));
export const NO_DATA = message(BACKEND.noData, Buffer.alloc(0));
/** ParameterDescription of a statement that takes none. */
export const NO_PARAMETERS = message(BACKEND.parameterDescription, Buffer.alloc(2));
export const READY_IDLE = readyForQuery(STATUS.idle);
export const AUTHENTICATION_OK = authentication(AUTHENTICATION.ok);

/** ReadyForQuery with a transaction status byte. */
export function readyForQuery(status: number): Buffer {
  return message(BACKEND.readyForQuery, Buffer.from([status]));
}

/** An authentication request: its code and what follows (a salt, mechanisms, SASL data). */
export function authentication(code: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const body = Buffer.alloc(4);
  body.writeInt32BE(code);
  return message(BACKEND.authentication, Buffer.concat([body, data]));
}

/** BackendKeyData. */
export function backendKeyData(pid: number, secret: Buffer): Buffer {
  const body = Buffer.alloc(4);
  body.writeInt32BE(pid);
  return message(BACKEND.backendKeyData, Buffer.concat([body, secret]));
}

/** ParameterStatus. */
export function parameterStatus(name: string, value: string): Buffer {
  return message(BACKEND.parameterStatus, Buffer.from(`${name}\0${value}\0`));
}

/** NegotiateProtocolVersion: what is spoken is 3 and this, and these `_pq_.` options are not known. */
export function negotiateProtocolVersion(minor: number, options: readonly string[]): Buffer {
  const head = Buffer.alloc(8);
  head.writeInt32BE(PROTOCOL_3_0 + minor, 0);
  head.writeInt32BE(options.length, 4);
  return message(BACKEND.negotiateProtocolVersion, Buffer.concat([head, ...options.map(o => Buffer.from(`${o}\0`))]));
}

/** CommandComplete with its tag. */
export function commandComplete(tag: string): Buffer {
  return message(BACKEND.commandComplete, Buffer.from(`${tag}\0`));
}

/** Type OIDs of the columns that pglynx's own results have. */
export const COLUMN_TYPE = {
  text: { oid: 25, size: -1 },
  int4: { oid: 23, size: 4 },
  numeric: { oid: 1700, size: -1 },
} as const;

/** A column of a result that pglynx makes itself; values travel as text. */
export interface Column {
  readonly name: string;
  readonly type: keyof typeof COLUMN_TYPE;
}

/** RowDescription of text-format columns. */
export function rowDescription(columns: readonly Column[]): Buffer {
  const parts: Buffer[] = [Buffer.alloc(2)];
  parts[0].writeInt16BE(columns.length);
  for (const column of columns) {
    const { oid, size } = COLUMN_TYPE[column.type];
    const field = Buffer.alloc(18);
    field.writeInt32BE(oid, 6);
    field.writeInt16BE(size, 10);
    field.writeInt32BE(-1, 12);
    parts.push(Buffer.from(`${column.name}\0`), field);
  }
  return message(BACKEND.rowDescription, Buffer.concat(parts));
}

/** DataRow of text values; null is SQL's NULL. */
export function dataRow(values: readonly (string | null)[]): Buffer {
  const parts: Buffer[] = [Buffer.alloc(2)];
  parts[0].writeInt16BE(values.length);
  for (const value of values) {
    const length = Buffer.alloc(4);
    const bytes = value === null ? Buffer.alloc(0) : Buffer.from(value);
    length.writeInt32BE(value === null ? -1 : bytes.length);
    parts.push(length, bytes);
  }
  return message(BACKEND.dataRow, Buffer.concat(parts));
}

/** OIDs of the types in the ParameterDescription at `buffer[start, end)`; those that are there of a long one. */
export function parameterTypes(buffer: Buffer, start: number, end: number): number[] {
  const types: number[] = [];
  for (let at = start + HEADER_LENGTH + 2; at + 4 <= end; at += 4) types.push(buffer.readUInt32BE(at));
  return types;
}

/** A whole result: RowDescription, rows, CommandComplete. */
export function resultSet(
  columns: readonly Column[],
  rows: readonly (readonly (string | null)[])[],
  tag: string,
): Buffer {
  return Buffer.concat([rowDescription(columns), ...rows.map(dataRow), commandComplete(tag)]);
}

/** ErrorResponse for one of pglynx's own errors. */
export function errorResponse(error: PgError): Buffer {
  const fields = [
    ['S', error.severity],
    ['V', error.severity],
    ['C', error.sqlstate],
    ['M', error.message],
  ];
  if (error.hint !== undefined) fields.push(['H', error.hint]);
  return fieldsMessage(BACKEND.errorResponse, fields);
}

/** NoticeResponse with a message and an optional detail. */
export function noticeResponse(text: string, detail?: string): Buffer {
  const fields = [
    ['S', 'NOTICE'],
    ['V', 'NOTICE'],
    ['C', '00000'],
    ['M', text],
  ];
  if (detail !== undefined) fields.push(['D', detail]);
  return fieldsMessage(BACKEND.noticeResponse, fields);
}

/** An ErrorResponse or NoticeResponse made of fields, each a letter and its value in one or several pieces. */
export function fieldsMessage(
  type: number,
  fields: Iterable<readonly string[]>,
  encoding: 'utf8' | 'latin1' = 'utf8',
): Buffer {
  let body = '';
  for (const field of fields) body += `${field.join('')}\0`;
  return message(type, Buffer.from(`${body}\0`, encoding));
}

/** The fields of the ErrorResponse or NoticeResponse at `buffer[start, end)`; any of them may be missing. */
export function errorFields(buffer: Buffer, start: number, end: number): Map<string, string> {
  const fields = new Map<string, string>();
  let at = start + HEADER_LENGTH;
  while (at < end && buffer[at] !== 0) {
    const stop = buffer.indexOf(0, at);
    if (stop === -1 || stop >= end) break;
    fields.set(String.fromCharCode(buffer[at]), buffer.toString('utf8', at + 1, stop));
    at = stop + 1;
  }
  return fields;
}

/** Name and value of the ParameterStatus at `buffer[start, end)`. */
export function parameterStatusOf(buffer: Buffer, start: number, end: number): readonly [string, string] {
  const [name = '', value = ''] = buffer.toString('utf8', start + HEADER_LENGTH, end).split('\0');
  return [name, value];
}
