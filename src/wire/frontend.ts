/** Messages that travel from clients to servers: reading their fields in place, and building pglynx's own. */
import { FRONTEND, HEADER_LENGTH, PROTOCOL_3_0, REQUEST } from './protocol.ts';

/** Sync, Flush, CopyDone and Terminate have no body: one buffer each serves everybody. */
export const SYNC = bare(FRONTEND.sync);
export const FLUSH = bare(FRONTEND.flush);
export const TERMINATE = bare(FRONTEND.terminate);

/** Asks for encryption in front of everything else. */
export const SSL_REQUEST = request(REQUEST.ssl);

/** A simple query. */
export function query(text: string): Buffer {
  return message(FRONTEND.query, Buffer.from(`${text}\0`));
}

/** CopyFail with its reason. */
export function copyFail(reason: string): Buffer {
  return message(FRONTEND.copyFail, Buffer.from(`${reason}\0`));
}

/** Close of the prepared statement `name`. */
export function closeStatement(name: string): Buffer {
  return message(FRONTEND.close, Buffer.from(`S${name}\0`, 'latin1'));
}

/** Close of the portal `name`. */
export function closePortal(name: string): Buffer {
  return message(FRONTEND.close, Buffer.from(`P${name}\0`, 'latin1'));
}

/** PasswordMessage, SASLInitialResponse or SASLResponse: they share the type byte. */
export function password(body: Buffer): Buffer {
  return message(FRONTEND.password, body);
}

/** The body of SASLInitialResponse: the mechanism and the client's first message. */
export function saslInitial(mechanism: string, first: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeInt32BE(first.length);
  return Buffer.concat([Buffer.from(`${mechanism}\0`), length, first]);
}

/** A StartupMessage of protocol 3.0 with these parameters, `user` and `database` among them. */
export function startupMessage(parameters: Iterable<readonly [string, string]>): Buffer {
  const pairs: string[] = [];
  for (const [name, value] of parameters) pairs.push(name, value);
  const body = Buffer.from(`${pairs.join('\0')}\0\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(8 + body.length, 0);
  head.writeInt32BE(PROTOCOL_3_0, 4);
  return Buffer.concat([head, body]);
}

/** A CancelRequest for the server process `pid`. */
export function cancelRequest(pid: number, secret: Buffer): Buffer {
  const packet = Buffer.alloc(12 + secret.length);
  packet.writeInt32BE(packet.length, 0);
  packet.writeInt32BE(REQUEST.cancel, 4);
  packet.writeInt32BE(pid, 8);
  secret.copy(packet, 12);
  return packet;
}

/** Position of the NUL that ends the string at `from`, or -1 when there is none before `end`. */
export function stringEnd(buffer: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) if (buffer[at] === 0) return at;
  return -1;
}

/** The text of the string that starts at `from` and ends before the NUL at `end`; ASCII names take the short way. */
export function text(buffer: Buffer, from: number, end: number): string {
  return from === end ? '' : buffer.toString('utf8', from, end);
}

/**
 * Where a Parse, Bind, Describe, Close or Execute names its statement or portal.
 * Parse: name. Bind: portal, then statement. Describe and Close: a kind byte, then name. Execute: portal.
 */
export function nameStart(type: number, start: number): number {
  const body = start + HEADER_LENGTH;
  return type === FRONTEND.describe || type === FRONTEND.close ? body + 1 : body;
}

/** `source[start, end)`, a message of one type, with the bytes `[from, to)` replaced by `name`. */
export function renamed(source: Buffer, start: number, end: number, from: number, to: number, name: Buffer): Buffer {
  const copy = Buffer.allocUnsafe(end - start - (to - from) + name.length);
  source.copy(copy, 0, start, from);
  name.copy(copy, from - start);
  source.copy(copy, from - start + name.length, to, end);
  return copy;
}

/** Corrects the length word of a message of which `copy` is the head by `difference` bytes. */
export function adjustLength(copy: Buffer, difference: number): void {
  copy.writeUInt32BE(copy.readUInt32BE(1) + difference, 1);
}

/** A message of this type around this body. */
export function message(type: number, body: Buffer): Buffer {
  const whole = Buffer.allocUnsafe(HEADER_LENGTH + body.length);
  whole[0] = type;
  whole.writeUInt32BE(4 + body.length, 1);
  body.copy(whole, HEADER_LENGTH);
  return whole;
}

function request(code: number): Buffer {
  const packet = Buffer.alloc(8);
  packet.writeInt32BE(8, 0);
  packet.writeInt32BE(code, 4);
  return packet;
}

function bare(type: number): Buffer {
  return message(type, Buffer.alloc(0));
}
