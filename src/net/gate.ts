/** Encrypts the connections of clients with the certificate in force. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import { ALPN, type ClientCertificate, type TlsFacts } from './tls.ts';

const GONE = 'the client closed the connection';

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

/** The client went away amid the handshake. */
export class HandshakeAborted extends Error {}

/** What a handshake that is under way waits for. */
interface Waiting {
  done(socket: TLSSocket): void;
  fail(error: Error): void;
}

/**
 * Node hands an encrypted socket out without saying which it was made of; what it does so in says that. One serves all
 * gates: Node 22 keeps each that was ever used.
 */
const waiting = new AsyncLocalStorage<Waiting>();

/**
 * Renewing a certificate is to put another gate in the place of this one: who is through, or on the way, stays.
 * Sessions are not resumed, as in PostgreSQL, so a certificate that counts no more opens nothing.
 */
export class Gate {
  readonly #server: Server;

  /** @throws Error the certificate or its key is not valid, or they do not belong together */
  constructor({ cert, key, ca }: GateOptions) {
    const secureOptions = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;
    const trusted = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: false };
    const options = { cert, key, ...trusted, ALPNProtocols: [ALPN], minVersion: 'TLSv1.2', secureOptions } as const;
    this.#server = createServer(options, socket => waiting.getStore()?.done(socket));
    this.#server.on('tlsClientError', error => {
      const isGone = 'code' in error && error.code === 'ECONNRESET';
      waiting.getStore()?.fail(isGone ? new HandshakeAborted(GONE) : error);
    });
  }

  /**
   * Shakes hands over `socket`, which nobody else reads. What was read of it and put back counts as the client's first bytes.
   * @throws HandshakeAborted the client left; Error the handshake failed. The socket is destroyed
   */
  async secure(socket: Socket): Promise<Secured> {
    if (socket.destroyed) throw new HandshakeAborted(GONE);
    const secured = await new Promise<TLSSocket>((resolve, reject) => {
      const fail = (error: Error) => {
        socket.destroy();
        reject(error);
      };
      socket.on('error', fail);
      socket.on('close', () => fail(new HandshakeAborted(GONE)));
      waiting.run({ done: resolve, fail }, () => this.#server.emit('connection', socket));
    });
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
