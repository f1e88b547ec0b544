/** Encodes every message that a client may send, apart from src/wire, so that tests of bytes do not test it by itself. */

/** Protocol 3.0, as a startup packet says it. */
export const PROTOCOL_3_0 = 0x30000;
export const PROTOCOL_3_2 = 0x30002;

/** A parameter of Bind or an argument of FunctionCall: text, binary bytes, or NULL. */
export type Value = string | Buffer | null;

export interface BindOptions {
  /** Format codes of the parameters: none, one for all, or one each (0 text, 1 binary). */
  readonly formats?: readonly number[];
  /** Format codes of the result columns, likewise. */
  readonly resultFormats?: readonly number[];
}

/** Any message with a type byte; `length` lets a test lie about the length. */
export function message(type: string, body: Buffer = Buffer.alloc(0), length = body.length + 4): Buffer {
  return Buffer.concat([Buffer.from(type, 'latin1'), int32(length), body]);
}

/** Any packet without a type byte, as at the start of a connection. */
export function packet(code: number, body: Buffer = Buffer.alloc(0), length = body.length + 8): Buffer {
  return Buffer.concat([int32(length), int32(code), body]);
}

export function startup(parameters: Readonly<Record<string, string>>, protocol = PROTOCOL_3_0): Buffer {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [cstring(name), cstring(value)]);
  return packet(protocol, Buffer.concat([...pairs, Buffer.from([0])]));
}

export function sslRequest(): Buffer {
  return packet(80877103);
}

export function gssRequest(): Buffer {
  return packet(80877104);
}

export function cancelRequest(pid: number, secret: Buffer): Buffer {
  return packet(80877102, Buffer.concat([int32(pid), secret]));
}

/** The answer to a request for a cleartext or MD5 password. */
export function password(text: string): Buffer {
  return message('p', cstring(text));
}

export function saslInitialResponse(mechanism: string, response: Buffer): Buffer {
  return message('p', Buffer.concat([cstring(mechanism), int32(response.length), response]));
}

export function saslResponse(response: Buffer): Buffer {
  return message('p', response);
}

export function query(text: string): Buffer {
  return message('Q', cstring(text));
}

export function parse(name: string, text: string, types: readonly number[] = []): Buffer {
  return message('P', Buffer.concat([cstring(name), cstring(text), list(types, int32)]));
}

export function bind(
  portal: string,
  statement: string,
  values: readonly Value[] = [],
  options: BindOptions = {},
): Buffer {
  const formats = list(options.formats ?? [], int16);
  const resultFormats = list(options.resultFormats ?? [], int16);
  return message(
    'B',
    Buffer.concat([cstring(portal), cstring(statement), formats, list(values, counted), resultFormats]),
  );
}

export function describe(kind: 'S' | 'P', name: string): Buffer {
  return message('D', Buffer.concat([Buffer.from(kind), cstring(name)]));
}

/** `max` is the most rows to return before PortalSuspended; 0 is no limit. */
export function execute(portal = '', max = 0): Buffer {
  return message('E', Buffer.concat([cstring(portal), int32(max)]));
}

export function close(kind: 'S' | 'P', name: string): Buffer {
  return message('C', Buffer.concat([Buffer.from(kind), cstring(name)]));
}

export function sync(): Buffer {
  return message('S');
}

export function flush(): Buffer {
  return message('H');
}

/** Calls the function with this OID; arguments and result in the one format. */
export function functionCall(oid: number, values: readonly Value[], format = 0): Buffer {
  const arguments_ = Buffer.concat([list([format], int16), list(values, counted)]);
  return message('F', Buffer.concat([int32(oid), arguments_, int16(format)]));
}

export function copyData(data: string | Buffer): Buffer {
  return message('d', Buffer.from(data));
}

export function copyDone(): Buffer {
  return message('c');
}

export function copyFail(reason: string): Buffer {
  return message('f', cstring(reason));
}

export function terminate(): Buffer {
  return message('X');
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
}

export function cstring(text: string): Buffer {
  return Buffer.from(`${text}\0`);
}

function counted(value: Value): Buffer {
  if (value === null) return int32(-1);
  const bytes = Buffer.from(value);
  return Buffer.concat([int32(bytes.length), bytes]);
}

function list<Item>(items: readonly Item[], encode: (item: Item) => Buffer): Buffer {
  return Buffer.concat([int16(items.length), ...items.map(encode)]);
}
