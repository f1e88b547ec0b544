/** The certificates of the fixtures, and clients that encrypt their connections. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';

/** The path of a file of the fixtures. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
}

/** What it holds. */
export function pem(name: string): Buffer {
  return readFileSync(fixture(name));
}

/** The certificate in it, as it travels. */
export function der(name: string): Buffer {
  return Buffer.from(String(pem(name)).replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
}

/** Settings of a pglynx that shows a certificate. */
export const SERVER = { tls_certificate: fixture('server.crt'), tls_private_key: fixture('server.key') } as const;

const TRUSTED = { ca: pem('ca.crt'), host: '127.0.0.1', servername: 'localhost' };

/** Shakes hands over the socket of `options`, or over one to its port. */
export async function shakeHands(options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ ...TRUSTED, ...options });
  await once(socket, 'secureConnect');
  return socket;
}

/** The socket of a client that has asked for encryption, after asking `before` for something else, and has it. */
export async function startTlsSocket(
  port: number,
  options: ConnectionOptions = {},
  before?: Buffer,
): Promise<TLSSocket> {
  const plain = await RawClient.open({ port });
  if (before !== undefined) {
    plain.send(before);
    await plain.bytes(1);
  }
  plain.send(frontend.sslRequest());
  const answer = String(await plain.bytes(1));
  if (answer !== 'S') throw new Error(`the request for TLS was answered with ${answer}`);
  return shakeHands({ ...options, socket: plain.release() });
}

/** The client itself. */
export async function startTls(port: number, options: ConnectionOptions = {}, before?: Buffer): Promise<RawClient> {
  return RawClient.over(await startTlsSocket(port, options, before));
}

/** A client that begins with the handshake. */
export async function direct(port: number, options: ConnectionOptions = {}): Promise<RawClient> {
  return RawClient.over(await shakeHands({ port, ALPNProtocols: ['postgresql'], ...options }));
}
