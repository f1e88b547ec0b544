/** From a new socket to a logged-in client: startup packets, password exchange, welcome. Everything before is bounded. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { endPointHash } from '../auth/binding.ts';
import { type ProvenKeys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramError, ScramServer } from '../auth/scram.ts';
import { checkMd5, type KeyCache, scramNonce } from '../auth/secret.ts';
import { PgError, pgError } from '../errors.ts';
import { peerAddress } from '../net/address.ts';
import { type Gate, HandshakeAborted, type Secured } from '../net/gate.ts';
import { type Message, MessageReader } from '../net/messages.ts';
import { handshakeText, type TlsFacts } from '../net/tls.ts';
import { authentication, negotiateProtocolVersion } from '../wire/backend.ts';
import type { Framer } from '../wire/framer.ts';
import { AUTHENTICATION, FRONTEND, NEWEST_MINOR, PROTOCOL_3_0, REQUEST, STARTUP_LENGTH_MAX } from '../wire/protocol.ts';

/** How a client proves who it is. */
export type AuthType = 'trust' | 'md5' | 'scram-sha-256';

/** Who asks to be let in, and from where. */
export interface LoginRequest {
  readonly database: string;
  readonly user: string;
  /** Undefined for a Unix socket. */
  readonly address: string | undefined;
  /** Undefined when the connection is not encrypted. */
  readonly tls: TlsFacts | undefined;
  /** The user of the operating system at the other end of a Unix socket; undefined when that cannot be known. */
  peer(): Promise<string | undefined>;
}

/** What is known of a user who wants to log in. */
export interface Account {
  readonly auth_type: AuthType;
  /** Undefined for nobody: the exchange takes place and fails. */
  readonly password: string | undefined;
  /** SCRAM iterations of others, which nobody is shown too. */
  readonly usual_iterations?: number | undefined;
  /** The password as it is by now, where it may have changed since it was read. */
  refresh?(): Promise<string | undefined>;
}

/** What a startup packet asked for. */
export interface StartupRequest {
  readonly kind: 'startup';
  readonly parameters: ReadonlyMap<string, string>;
  /** The protocol agreed on is 3 and this. */
  readonly minor: number;
}

/** What clients are offered. */
export interface EncryptionOffer {
  /** Undefined for no encryption. */
  readonly gate: Gate | undefined;
  /** Whether nobody logs in without. */
  readonly isRequired: boolean;
}

/** A CancelRequest, instead of a login. */
export interface CancelRequest {
  readonly kind: 'cancel';
  readonly pid: number;
  readonly secret: Buffer;
}

/** The first byte of TLS: a record of a handshake. */
const TLS_HANDSHAKE = 0x16;

/** The client went away before it asked for anything. */
export class StartupAborted extends Error {}

/** Reads a socket during login: first packets without a type byte, then messages. */
export class StartupChannel {
  /** Undefined while nothing is encrypted. */
  tls: TlsFacts | undefined;
  /** Where the client comes from; undefined for a Unix socket. */
  readonly address: string | undefined;
  /** The hash of the certificate that the client was shown, which SCRAM can be bound to. */
  binding: Buffer | undefined;
  /** Why the client's certificate does not count, if it has shown one that does not. */
  doubt: string | undefined;
  /** The client was told why it may not come in. */
  isRefused = false;
  #isShakingHands = false;
  readonly #reader: MessageReader;
  #socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #ended: string | undefined;
  #inPackets = true;
  readonly #onData = (chunk: Buffer) => this.#data(chunk);

  constructor(socket: Socket, framer: Framer) {
    this.address = peerAddress(socket);
    this.#reader = new MessageReader(framer);
    this.#socket = this.#listen(socket);
  }

  /** Another one once the connection is encrypted. */
  get socket(): Socket {
    return this.#socket;
  }

  /** Whether more has come than packets that were asked for. */
  get isAhead(): boolean {
    return this.#bytes.length > 0;
  }

  /** Whether the first byte that comes begins a TLS handshake: no packet is as long as that would make it. */
  async beginsTls(): Promise<boolean> {
    while (this.#bytes.length === 0 && this.#ended === undefined) await this.#more();
    return this.#bytes[0] === TLS_HANDSHAKE;
  }

  /**
   * Goes on encrypted. What has come already begins the handshake.
   * @throws PgError it failed; StartupAborted the client left
   */
  async encrypt(gate: Gate): Promise<Secured> {
    const socket = this.#socket;
    socket.off('data', this.#onData);
    socket.pause();
    if (this.isAhead) socket.unshift(this.#bytes);
    this.#bytes = Buffer.alloc(0);
    this.#isShakingHands = true;
    const secured = await gate.secure(socket).catch((error: unknown) => {
      throw error instanceof HandshakeAborted
        ? new StartupAborted(error.message)
        : pgError('tls_failed', handshakeText(error));
    });
    this.#isShakingHands = false;
    this.#socket = this.#listen(secured.socket);
    this.tls = secured.tls;
    this.binding = secured.shown === undefined ? undefined : endPointHash(secured.shown);
    this.doubt = secured.doubt;
    return secured;
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  /** Ends the connection with these last words; amid a handshake they would be taken for a part of it. */
  end(bytes: Buffer): void {
    if (this.#isShakingHands) this.#socket.destroy();
    else this.#socket.end(bytes);
  }

  /** The next packet without its length word. */
  async packet(): Promise<Buffer> {
    for (;;) {
      const length = this.#bytes.length >= 4 ? this.#bytes.readUInt32BE(0) : undefined;
      if (length !== undefined && (length < 8 || length > STARTUP_LENGTH_MAX)) {
        throw pgError('protocol_violation', `invalid length of startup packet: ${length}`);
      }
      if (length !== undefined && this.#bytes.length >= length) {
        const packet = this.#bytes.subarray(4, length);
        this.#bytes = this.#bytes.subarray(length);
        return packet;
      }
      if (this.#ended !== undefined) throw new StartupAborted(this.#ended);
      await this.#more();
    }
  }

  /** Packets are over: what comes now has a type byte. */
  startMessages(): void {
    this.#inPackets = false;
    if (this.#bytes.length > 0) this.#reader.feed(this.#bytes);
    this.#bytes = Buffer.alloc(0);
  }

  /**
   * The next message, which must be of the type that is due.
   * @throws Error it is another or longer than a login allows; StartupAborted the client left
   */
  message(due: number): Promise<Message> {
    this.#socket.resume();
    return this.#reader.next(due);
  }

  /** The login is over: what comes now is for somebody else, or dropped. */
  detach(): void {
    this.#socket.off('data', this.#onData);
    this.#socket.resume();
  }

  #listen<Some extends Socket>(socket: Some): Some {
    socket.on('data', this.#onData);
    socket.on('error', error => this.#end(error.message));
    socket.on('close', () => this.#end('the client closed the connection'));
    return socket;
  }

  #more(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve;
    });
  }

  #data(chunk: Buffer): void {
    if (this.#inPackets) {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake?.();
    } else this.#reader.feed(chunk);
    // A packet of the longest kind and a message after it fit; whoever sends more before an answer is up to no good.
    if (this.#bytes.length > 2 * STARTUP_LENGTH_MAX || this.#reader.isAhead) this.#socket.pause();
  }

  #end(cause: string): void {
    this.#ended ??= cause;
    this.#reader.fail(new StartupAborted(cause));
    this.#wake?.();
  }
}

/**
 * Reads packets up to the StartupMessage or CancelRequest, and encrypts the connection where that is asked for and
 * offered; GSSAPI is not. Each may be asked for once.
 * @throws PgError a packet that PostgreSQL would refuse; StartupAborted the client left
 */
export async function readStartup(
  channel: StartupChannel,
  { gate, isRequired }: EncryptionOffer,
): Promise<StartupRequest | CancelRequest> {
  const answered = new Set<number>();
  if (gate !== undefined && (await channel.beginsTls())) {
    const { named } = await channel.encrypt(gate);
    if (!named) throw pgError('protocol_violation', 'direct TLS needs the protocol "postgresql" in ALPN');
    answered.add(REQUEST.ssl).add(REQUEST.gss);
  }
  for (;;) {
    const packet = await channel.packet();
    const code = packet.readInt32BE(0);
    if (code === REQUEST.ssl && !answered.has(code) && gate !== undefined) {
      // Somebody on the way may have put it there, for it to count as the client's own (CVE-2021-23214).
      if (channel.isAhead) throw pgError('protocol_violation', 'received unencrypted data after SSL request');
      answered.add(REQUEST.ssl).add(REQUEST.gss);
      channel.send(Buffer.from('S'));
      await channel.encrypt(gate);
    } else if ((code === REQUEST.ssl || code === REQUEST.gss) && !answered.has(code)) {
      answered.add(code);
      channel.send(Buffer.from('N'));
    } else if (code === REQUEST.cancel) {
      if (packet.length < 12) throw pgError('protocol_violation', 'invalid length of cancel request');
      return { kind: 'cancel', pid: packet.readInt32BE(4), secret: Buffer.from(packet.subarray(8)) };
    } else {
      const request = startupRequest(channel, packet, code);
      if (isRequired && channel.tls === undefined) throw pgError('tls_required');
      if (channel.doubt !== undefined) throw pgError('client_certificate_refused', channel.doubt);
      return request;
    }
  }
}

function startupRequest(channel: StartupChannel, packet: Buffer, code: number): StartupRequest {
  const major = code >>> 16;
  const asked = code & 0xffff;
  if (major !== PROTOCOL_3_0 >>> 16) throw pgError('unsupported_protocol', `${major}.${asked}`);
  const parameters = parsePairs(packet);
  const options = [...parameters.keys()].filter(name => name.startsWith('_pq_.'));
  const minor = Math.min(asked, NEWEST_MINOR);
  if (minor < asked || options.length > 0) channel.send(negotiateProtocolVersion(minor, options));
  return { kind: 'startup', parameters, minor };
}

function parsePairs(packet: Buffer): Map<string, string> {
  const parameters = new Map<string, string>();
  let at = 4;
  const string = () => {
    const end = packet.indexOf(0, at);
    if (end === -1)
      throw pgError('protocol_violation', 'invalid startup packet layout: expected terminator as last byte');
    const text = packet.toString('utf8', at, end);
    at = end + 1;
    return text;
  };
  for (let name = string(); name !== ''; name = string()) parameters.set(name, string());
  if (at !== packet.length) {
    throw pgError('protocol_violation', 'invalid startup packet layout: expected terminator as last byte');
  }
  return parameters;
}

/**
 * Has the client prove that it is `user`; undefined when nothing was to be proved by SCRAM. An account without a password
 * goes through the same exchange and fails.
 * @throws PgError it did not, or broke the protocol
 */
export async function authenticate(
  channel: StartupChannel,
  user: string,
  account: Account,
  keys: KeyCache,
): Promise<ProvenKeys | undefined> {
  if (account.auth_type === 'scram-sha-256') {
    const proven = await authenticateScram(channel, user, account, keys);
    if (proven !== undefined) return proven;
    // The exchange cannot begin anew with another salt; the client's next login finds what is fetched now.
    await account.refresh?.();
  } else if (account.auth_type === 'trust' || (await authenticateMd5(channel, user, account))) return undefined;
  throw pgError('authentication_failed', user);
}

async function authenticateMd5(channel: StartupChannel, user: string, account: Account): Promise<boolean> {
  const salt = randomBytes(4);
  channel.send(authentication(AUTHENTICATION.md5, salt));
  const body = await passwordMessage(channel);
  const end = body.indexOf(0);
  if (end === -1 || end !== body.length - 1) throw pgError('protocol_violation', 'invalid password packet size');
  const response = body.toString('latin1', 0, end);
  if (checkMd5(user, account.password, salt, response)) return true;
  return checkMd5(user, await account.refresh?.(), salt, response);
}

async function authenticateScram(
  channel: StartupChannel,
  user: string,
  { password, usual_iterations }: Account,
  keys: KeyCache,
): Promise<ProvenKeys | undefined> {
  const hash = channel.binding;
  const offered = hash === undefined ? [SCRAM_SHA_256] : [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
  channel.send(authentication(AUTHENTICATION.sasl, Buffer.from(`${offered.join('\0')}\0\0`)));
  const initial = await passwordMessage(channel);
  const nameEnd = initial.indexOf(0);
  const mechanism = initial.toString('latin1', 0, Math.max(0, nameEnd));
  if (!offered.includes(mechanism)) throw pgError('protocol_violation', 'client selected an invalid SASL mechanism');
  const length = initial.length >= nameEnd + 5 ? initial.readInt32BE(nameEnd + 1) : -1;
  if (length !== initial.length - nameEnd - 5) throw pgError('protocol_violation', 'invalid SASL initial response');
  const server = new ScramServer(await keys.verifier(user, password, usual_iterations), scramNonce(), {
    hash,
    isUsed: mechanism === SCRAM_SHA_256_PLUS,
  });
  try {
    channel.send(authentication(AUTHENTICATION.saslContinue, server.first(initial.subarray(nameEnd + 5))));
    const final = server.final(await passwordMessage(channel));
    if (final === undefined) return undefined;
    channel.send(authentication(AUTHENTICATION.saslFinal, final));
    return server.proven;
  } catch (error) {
    if (error instanceof ScramError) throw pgError('protocol_violation', error.message);
    throw error;
  }
}

async function passwordMessage(channel: StartupChannel): Promise<Buffer> {
  const { body } = await channel.message(FRONTEND.password).catch(asRefusal);
  return body;
}

function asRefusal(error: unknown): never {
  if (error instanceof StartupAborted || error instanceof PgError) throw error;
  throw pgError('protocol_violation', error instanceof Error ? error.message : String(error));
}
