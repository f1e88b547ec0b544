/** Decodes the messages a server sends into plain objects that a test can compare and a reader can read. */

/** A message as it came; the body has neither type byte nor length. */
export interface Message {
  readonly type: string;
  readonly body: Buffer;
}

/** The fields of ErrorResponse and NoticeResponse; those without a name here keep their letter. */
export type Fields = Readonly<Record<string, string>>;

export type Decoded =
  | { name: 'AuthenticationOk' }
  | { name: 'AuthenticationCleartextPassword' }
  | { name: 'AuthenticationMD5Password'; salt: Buffer }
  | { name: 'AuthenticationSASL'; mechanisms: string[] }
  | { name: 'AuthenticationSASLContinue'; data: Buffer }
  | { name: 'AuthenticationSASLFinal'; data: Buffer }
  | { name: 'BackendKeyData'; pid: number; secret: Buffer }
  | { name: 'ParameterStatus'; parameter: string; value: string }
  | { name: 'NegotiateProtocolVersion'; newest: number; unknown: string[] }
  | { name: 'ReadyForQuery'; status: string; extra: Buffer }
  | { name: 'RowDescription'; columns: Column[] }
  | { name: 'DataRow'; values: (string | null)[] }
  | { name: 'CommandComplete'; tag: string }
  | { name: 'ParameterDescription'; types: number[] }
  | { name: 'ErrorResponse' | 'NoticeResponse'; fields: Fields }
  | { name: 'NotificationResponse'; pid: number; channel: string; payload: string }
  | { name: 'CopyInResponse' | 'CopyOutResponse' | 'CopyBothResponse'; format: number; formats: number[] }
  | { name: 'CopyData'; data: string }
  | { name: 'FunctionCallResponse'; value: string | null }
  | { name: (typeof BARE)[keyof typeof BARE] }
  | { name: 'unknown'; type: string; body: Buffer };

export interface Column {
  readonly name: string;
  readonly type: number;
  readonly format: number;
}

/** Messages without a body. */
const BARE = {
  '1': 'ParseComplete',
  '2': 'BindComplete',
  '3': 'CloseComplete',
  c: 'CopyDone',
  I: 'EmptyQueryResponse',
  n: 'NoData',
  s: 'PortalSuspended',
} as const;

const COPY = { G: 'CopyInResponse', H: 'CopyOutResponse', W: 'CopyBothResponse' } as const;

const FIELDS: Readonly<Record<string, string>> = {
  S: 'severityText',
  V: 'severity',
  C: 'code',
  M: 'message',
  D: 'detail',
  H: 'hint',
  P: 'position',
  p: 'internalPosition',
  q: 'internalQuery',
  W: 'where',
  s: 'schema',
  t: 'table',
  c: 'column',
  d: 'dataType',
  n: 'constraint',
  F: 'file',
  L: 'line',
  R: 'routine',
};

/** Decodes one message; bytes left over in the body are an error of the sender and fail the test. */
export function decode({ type, body }: Message): Decoded {
  const reader = new Reader(body);
  const decoded = decodeBody(type, reader);
  if (!reader.finished)
    throw new Error(`message ${JSON.stringify(type)} has more bytes than it should: ${body.toString('hex')}`);
  return decoded;
}

/** The values of every DataRow among the messages. */
export function rowsOf(messages: readonly Message[]): (string | null)[][] {
  return messages.map(decode).flatMap(message => (message.name === 'DataRow' ? [message.values] : []));
}

/** The tags of every CommandComplete among the messages. */
export function tagsOf(messages: readonly Message[]): string[] {
  return messages.map(decode).flatMap(message => (message.name === 'CommandComplete' ? [message.tag] : []));
}

/** The fields of the first ErrorResponse among the messages; undefined when there is none. */
export function errorOf(messages: readonly Message[]): Fields | undefined {
  for (const message of messages.map(decode)) if (message.name === 'ErrorResponse') return message.fields;
  return undefined;
}

function decodeBody(type: string, reader: Reader): Decoded {
  if (isKey(BARE, type)) return { name: BARE[type] };
  if (isKey(COPY, type)) return { name: COPY[type], format: reader.int8(), formats: reader.list(() => reader.int16()) };
  switch (type) {
    case 'R':
      return decodeAuthentication(reader);
    case 'K':
      return { name: 'BackendKeyData', pid: reader.int32(), secret: reader.rest() };
    case 'S':
      return { name: 'ParameterStatus', parameter: reader.cstring(), value: reader.cstring() };
    case 'v':
      return {
        name: 'NegotiateProtocolVersion',
        newest: reader.int32(),
        unknown: reader.times(reader.int32(), () => reader.cstring()),
      };
    case 'Z':
      return { name: 'ReadyForQuery', status: String.fromCharCode(reader.int8()), extra: reader.rest() };
    case 'T':
      return { name: 'RowDescription', columns: reader.list(() => decodeColumn(reader)) };
    case 'D':
      return { name: 'DataRow', values: reader.list(() => reader.value()) };
    case 'C':
      return { name: 'CommandComplete', tag: reader.cstring() };
    case 't':
      return { name: 'ParameterDescription', types: reader.list(() => reader.int32()) };
    case 'E':
      return { name: 'ErrorResponse', fields: decodeFields(reader) };
    case 'N':
      return { name: 'NoticeResponse', fields: decodeFields(reader) };
    case 'A':
      return {
        name: 'NotificationResponse',
        pid: reader.int32(),
        channel: reader.cstring(),
        payload: reader.cstring(),
      };
    case 'd':
      return { name: 'CopyData', data: reader.rest().toString() };
    case 'V':
      return { name: 'FunctionCallResponse', value: reader.value() };
    default:
      return { name: 'unknown', type, body: reader.rest() };
  }
}

function decodeAuthentication(reader: Reader): Decoded {
  const code = reader.int32();
  switch (code) {
    case 0:
      return { name: 'AuthenticationOk' };
    case 3:
      return { name: 'AuthenticationCleartextPassword' };
    case 5:
      return { name: 'AuthenticationMD5Password', salt: reader.rest() };
    case 10: {
      const mechanisms = reader.rest().toString().split('\0');
      return { name: 'AuthenticationSASL', mechanisms: mechanisms.filter(name => name !== '') };
    }
    case 11:
      return { name: 'AuthenticationSASLContinue', data: reader.rest() };
    case 12:
      return { name: 'AuthenticationSASLFinal', data: reader.rest() };
    default:
      throw new Error(`authentication request ${code} is not known to this client`);
  }
}

function decodeColumn(reader: Reader): Column {
  const name = reader.cstring();
  reader.skip(4 + 2);
  const type = reader.int32();
  reader.skip(2 + 4);
  return { name, type, format: reader.int16() };
}

function decodeFields(reader: Reader): Fields {
  const fields: Record<string, string> = {};
  for (let code = reader.int8(); code !== 0; code = reader.int8()) {
    const letter = String.fromCharCode(code);
    fields[FIELDS[letter] ?? letter] = reader.cstring();
  }
  return fields;
}

function isKey<Table extends object>(table: Table, key: PropertyKey): key is keyof Table {
  return Object.hasOwn(table, key);
}

class Reader {
  readonly #body: Buffer;
  #at = 0;

  constructor(body: Buffer) {
    this.#body = body;
  }

  get finished(): boolean {
    return this.#at === this.#body.length;
  }

  skip(length: number): void {
    this.#at += length;
  }

  int8(): number {
    return this.#body.readUInt8(this.#at++);
  }

  int16(): number {
    this.#at += 2;
    return this.#body.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#body.readInt32BE(this.#at - 4);
  }

  cstring(): string {
    const end = this.#body.indexOf(0, this.#at);
    if (end === -1) throw new Error(`no end of string in ${this.#body.toString('hex')}`);
    const text = this.#body.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  value(): string | null {
    const length = this.int32();
    if (length === -1) return null;
    this.#at += length;
    return this.#body.toString('utf8', this.#at - length, this.#at);
  }

  rest(): Buffer {
    const rest = this.#body.subarray(this.#at);
    this.#at = this.#body.length;
    return rest;
  }

  times<Item>(count: number, read: () => Item): Item[] {
    return Array.from({ length: count }, read);
  }

  list<Item>(read: () => Item): Item[] {
    return this.times(this.int16(), read);
  }
}
