/** Encrypts the connections of clients with the certificate in force. */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { ALPN, type ClientCertificate, type TlsFacts } from './tls.ts';

/** What clients are shown, in PEM. */
export interface GateOptions {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Signs the certificates of clients, which are asked for one if it is there. */
  readonly ca: Buffer | undefined;
}

/** A connection of a client, encrypted. */
export interface Secured {
  readonly socket: TLSSocket;
  readonly tls: TlsFacts;
  /** The DER of the certificate that the client was shown. */
  readonly shown: Buffer | undefined;
  /** Why the client's own certificate does not count, if it has shown one that does not. */
  readonly doubt: string | undefined;
  /** Whether the client has named the protocol in ALPN. */
  readonly named: boolean;
}

/** What a handshake that is under way waits for. */
interface Waiting {
  done(socket: TLSSocket): void;
  fail(error: Error): void;
}

/**
 * Renewing a certificate is to put another gate in the place of this one: who is through, or on the way, stays.
 * Sessions are not resumed, as in PostgreSQL, so a certificate that counts no more opens nothing.
 */
export class Gate {
  readonly #server: Server;
  /** Node hands an encrypted socket out without saying which it was made of: both have the same two ends. */
  readonly #waiting = new Map<string, Waiting>();

  /** @throws Error the certificate or its key is not valid, or they do not belong together */
  constructor({ cert, key, ca }: GateOptions) {
    const secureOptions = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;
    const trusted = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: false };
    const options = { cert, key, ...trusted, ALPNProtocols: [ALPN], minVersion: 'TLSv1.2', secureOptions } as const;
    this.#server = createServer(options, socket => this.#waiting.get(ends(socket))?.done(socket));
    this.#server.on('tlsClientError', (error, socket) => this.#waiting.get(ends(socket))?.fail(error));
  }

  /**
   * Shakes hands over `socket`, which nobody else reads. What was read of it and put back counts as the client's first bytes.
   * @throws Error the handshake failed; the socket is destroyed
   */
  async secure(socket: Socket): Promise<Secured> {
    const name = ends(socket);
    if (socket.remoteAddress === undefined) throw new Error('the client closed the connection');
    const secured = await new Promise<TLSSocket>((resolve, reject) => {
      const fail = (error: Error) => {
        socket.destroy();
        reject(error);
      };
      socket.on('error', fail);
      socket.on('close', () => fail(new Error('the client closed the connection')));
      this.#waiting.set(name, { done: resolve, fail });
      this.#server.emit('connection', socket);
    }).finally(() => this.#waiting.delete(name));
    const peer = secured.getPeerX509Certificate();
    const certificate = peer !== undefined && secured.authorized ? subjectOf(secured, peer.subject) : undefined;
    const error: unknown = secured.authorizationError;
    return {
      socket: secured,
      tls: { version: secured.getProtocol() ?? '', cipher: secured.getCipher().name, certificate },
      shown: secured.getX509Certificate()?.raw,
      doubt: peer !== undefined && !secured.authorized ? String(error) : undefined,
      named: secured.alpnProtocol === ALPN,
    };
  }
}

function subjectOf(socket: TLSSocket, subject: string): ClientCertificate {
  const names: unknown = socket.getPeerCertificate().subject.CN;
  // Of several names nobody knows which is meant, and one with a NUL is meant to be taken for another.
  const cn = typeof names === 'string' && !names.includes('\0') ? names : undefined;
  return { cn, dn: subject.split('\n').reverse().join(',').replaceAll(' + ', '+') };
}

/** Both ends of a TCP connection: no two have the same. */
function ends({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}
