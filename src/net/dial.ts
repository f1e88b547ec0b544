/** Opens a socket to a server: plain, or encrypted as `server_tls` says. */
import { isIP, Socket } from 'node:net';
import { checkServerIdentity, connect, type SecureContext, type TLSSocket } from 'node:tls';
import { endPointHash } from '../auth/binding.ts';
import { SSL_REQUEST } from '../wire/frontend.ts';
import { endpoint, isDirectory } from './address.ts';
import type { Network } from './network.ts';
import { ALPN, handshakeText, type TlsFacts } from './tls.ts';

/** What is asked of a server's encryption, the least first. */
export type EncryptionMode = 'prefer' | 'require' | 'verify-ca' | 'verify-full';

/** How a connection is to be encrypted. */
export interface Encryption {
  readonly mode: EncryptionMode;
  readonly context: SecureContext;
}

/** A server. */
export interface DialTarget {
  /** A name, an address, or the directory of a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly network: Network;
  /** Undefined for none. Throws when its certificates cannot be read. */
  readonly encryption: (() => Encryption) | undefined;
}

/** All reads land here one after another and are copied out at once, so a read allocates its own size only. */
const READ_BUFFER = Buffer.allocUnsafeSlow(65_536);
const SOCKET_OPTIONS = { allowHalfOpen: false, writableHighWaterMark: 262_144 };

/** The answers to a request for encryption. */
const YES = 0x53; // S
const NO = 0x4e; // N

/** An open socket to a server. */
export class Line {
  readonly socket: Socket;
  /** Undefined when it is not encrypted. */
  readonly tls: TlsFacts | undefined;
  /** The hash of the server's certificate, which SCRAM can be bound to. */
  readonly binding: Buffer | undefined;
  /** Takes what comes. A server has nothing to say before it is spoken to. */
  receive: (chunk: Buffer) => void = () => this.socket.destroy(new Error('the server spoke first'));

  constructor(socket: Socket, secured?: TLSSocket) {
    this.socket = socket;
    if (secured === undefined) return;
    const certificate = secured.getPeerX509Certificate();
    this.binding = certificate === undefined ? undefined : endPointHash(certificate.raw);
    this.tls = { version: secured.getProtocol() ?? '', cipher: secured.getCipher().name, certificate: undefined };
  }
}

/**
 * Connects and encrypts. `signal` ends the attempt.
 * @throws Error the server cannot be reached, or its encryption is not what is asked for
 */
export async function dial(target: DialTarget, signal: AbortSignal): Promise<Line> {
  const { host } = target;
  const encryption = target.encryption?.();
  // As in libpq, a Unix socket is never encrypted.
  if (encryption === undefined || isDirectory(host)) {
    const onread = {
      buffer: READ_BUFFER,
      callback: (count: number, buffer: Uint8Array) => {
        const chunk = Buffer.allocUnsafe(count);
        chunk.set(buffer.subarray(0, count));
        line.receive(chunk);
        return true;
      },
    };
    const line = new Line(new Socket({ ...SOCKET_OPTIONS, onread }));
    await reach(line.socket, target, signal);
    return line;
  }
  const socket = new Socket(SOCKET_OPTIONS);
  await reach(socket, target, signal);
  const answer = await ask(socket, signal);
  if (answer === NO && encryption.mode === 'prefer') return reading(new Line(socket));
  if (answer !== YES) {
    socket.destroy();
    // What a server says here may be anybody's words: it is not passed on.
    throw new Error(
      answer === NO ? 'the server does not offer TLS' : 'the server answered the request for TLS with an error',
    );
  }
  const secured = await encrypt(socket, host, encryption, signal);
  return reading(new Line(secured, secured));
}

/** Runs what its signal ends after `limit_ms`, for `cause`. */
export async function within<Value>(
  limit_ms: number,
  cause: string,
  act: (late: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error(cause)), limit_ms);
  try {
    return await act(late.signal);
  } finally {
    clearTimeout(timer);
  }
}

/** The same, and never without encryption. */
export function demanded({ mode, context }: Encryption): Encryption {
  return { mode: mode === 'prefer' ? 'require' : mode, context };
}

function reading(line: Line): Line {
  line.socket.on('data', chunk => line.receive(chunk)).resume();
  return line;
}

function reach(socket: Socket, { host, port, network }: DialTarget, signal: AbortSignal): Promise<void> {
  // Whoever waits for it is told; in between nobody does.
  socket.on('error', () => {});
  socket.setNoDelay(true);
  const reached = outcome(socket, 'connect', signal, () => network.settle(socket));
  socket.connect({ ...endpoint(host, port), lookup: network.lookup });
  return reached;
}

/** Asks for encryption; the answer is one byte, with nothing behind it, which would count as encrypted (CVE-2021-23222). */
function ask(socket: Socket, signal: AbortSignal): Promise<number> {
  const answered = outcome(socket, 'data', signal, (chunk: Buffer) => {
    socket.pause();
    if (chunk.length > 1) throw new Error('the server sent unencrypted data after its answer to the request for TLS');
    return chunk[0];
  });
  socket.write(SSL_REQUEST);
  return answered;
}

async function encrypt(
  socket: Socket,
  host: string,
  { mode, context }: Encryption,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const secured = connect({
    socket,
    secureContext: context,
    // An address is no server name (RFC 6066 section 3).
    servername: isIP(host) === 0 ? host : '',
    rejectUnauthorized: mode === 'verify-ca' || mode === 'verify-full',
    checkServerIdentity: (_, certificate) =>
      mode === 'verify-full' ? checkServerIdentity(host, certificate) : undefined,
    ALPNProtocols: [ALPN],
  });
  secured.on('error', () => {});
  try {
    await outcome(secured, 'secureConnect', signal, () => undefined);
  } catch (error) {
    throw new Error(`TLS with the server failed: ${handshakeText(error)}`);
  }
  return secured;
}

/** What the event brings; a socket that fails first, closes or is given up by `signal` is destroyed. */
function outcome<Value>(
  socket: Socket,
  event: string,
  signal: AbortSignal,
  take: (chunk: Buffer) => Value,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      socket.off(event, onEvent).off('error', onError).off('close', onClose);
      signal.removeEventListener('abort', onAbort);
      act();
    };
    const fail = (error: unknown) =>
      settle(() => {
        socket.destroy();
        reject(error);
      });
    const onEvent = (chunk: Buffer) => {
      try {
        const value = take(chunk);
        settle(() => resolve(value));
      } catch (error) {
        fail(error);
      }
    };
    const onError = (error: Error) => fail(error);
    const onClose = () => fail(new Error('the server closed the connection'));
    const onAbort = () => fail(signal.reason);
    socket.on(event, onEvent).on('error', onError).on('close', onClose);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
  });
}
