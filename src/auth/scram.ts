/** SCRAM-SHA-256 (RFC 5802 and 7677) as PostgreSQL speaks it: both sides of the exchange, and the stored verifier. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** The name of the mechanism in AuthenticationSASL and SASLInitialResponse. */
export const SCRAM_SHA_256 = 'SCRAM-SHA-256';

/** The same, bound to the certificate of the TLS connection that it runs over. */
export const SCRAM_SHA_256_PLUS = 'SCRAM-SHA-256-PLUS';

/** The kind of channel binding, as the gs2 header names it. */
const END_POINT = 'p=tls-server-end-point';

/** How the two sides of an exchange stand to channel binding. */
export interface ScramBinding {
  /** The hash of the server's certificate (RFC 5929), where this side knows one. */
  readonly hash: Buffer | undefined;
  /** Whether the mechanism is the one with channel binding: then `hash` is known. */
  readonly isUsed: boolean;
}

const UNBOUND: ScramBinding = { hash: undefined, isUsed: false };

/** Iterations of a verifier made from a plain password: PostgreSQL's `scram_iterations`. */
export const DEFAULT_ITERATIONS = 4096;

/** Longest message accepted from the other side, in bytes. */
export const MAX_MESSAGE_BYTES = 4096;

/** Most iterations a server may ask for, unless the caller says otherwise: a few hundredths of a second of work. */
export const MAX_ITERATIONS = 100_000;

const KEY_BYTES = 32;
const MAX_INT32 = 2 ** 31 - 1;

/** What a server keeps of a password: enough to check a login, not enough to log in. */
export interface ScramVerifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** What a client derives from a password, a salt and a number of iterations. */
export interface ScramKeys {
  readonly clientKey: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

/** What a client has proved to know: enough to log in wherever the same verifier is kept. */
export interface ProvenKeys extends ScramKeys {
  readonly iterations: number;
  readonly salt: Buffer;
}

/** The other side broke the exchange, or ended it. The message is fit for a log and for an ErrorResponse. */
export class ScramError extends Error {
  override readonly name = 'ScramError';
}

/** Derives the keys from SaltedPassword, the PBKDF2 of the prepared password (RFC 5802 section 3). */
export function deriveKeys(saltedPassword: Buffer): ScramKeys {
  const clientKey = hmac(saltedPassword, 'Client Key');
  const storedKey = createHash('sha256').update(clientKey).digest();
  return { clientKey, storedKey, serverKey: hmac(saltedPassword, 'Server Key') };
}

/** Reads the text of `pg_authid.rolpassword`, `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`; undefined for any other. */
export function parseVerifier(text: string): ScramVerifier | undefined {
  const match = /^SCRAM-SHA-256\$([1-9]\d{0,9}):([^$:]+)\$([^$:]+):([^$:]+)$/.exec(text);
  if (match === null) return undefined;
  const iterations = Number(match[1]);
  const salt = decodeBase64(match[2]);
  const storedKey = decodeBase64(match[3]);
  const serverKey = decodeBase64(match[4]);
  if (iterations > MAX_INT32 || salt === undefined) return undefined;
  if (storedKey?.length !== KEY_BYTES || serverKey?.length !== KEY_BYTES) return undefined;
  return { iterations, salt, storedKey, serverKey };
}

/** Writes a verifier as PostgreSQL stores it: the inverse of {@link parseVerifier}. */
export function formatVerifier({ iterations, salt, storedKey, serverKey }: ScramVerifier): string {
  const [saltText, stored, server] = [salt, storedKey, serverKey].map(bytes => bytes.toString('base64'));
  return `${SCRAM_SHA_256}$${iterations}:${saltText}$${stored}:${server}`;
}

/**
 * pglynx authenticating a client. `nonce` is fresh printable randomness without a comma, for this login only.
 * The user name in the messages is ignored, as PostgreSQL does: the startup packet has named the user.
 */
export class ScramServer {
  readonly #verifier: ScramVerifier;
  readonly #nonce: string;
  readonly #binding: ScramBinding;
  /** Set when {@link final} has found the password to be right. */
  proven: ProvenKeys | undefined;
  #expected: { header: string; nonce: string; transcript: string } | undefined;

  constructor(verifier: ScramVerifier, nonce: string, binding = UNBOUND) {
    this.#verifier = verifier;
    this.#nonce = nonce;
    this.#binding = binding;
  }

  /** Answers client-first-message with server-first-message. Throws {@link ScramError}. */
  first(message: Buffer): Buffer {
    const attributes = new Attributes(message);
    const header = attributes.gs2Header(this.#binding);
    const bare = attributes.rest;
    attributes.value('n');
    const clientNonce = attributes.nonce();
    attributes.extensions();
    attributes.end();

    const nonce = clientNonce + this.#nonce;
    const { salt, iterations } = this.#verifier;
    const reply = `r=${nonce},s=${salt.toString('base64')},i=${iterations}`;
    this.#expected = { header, nonce, transcript: `${bare},${reply}` };
    return Buffer.from(reply, 'latin1');
  }

  /**
   * Answers client-final-message with server-final-message, or undefined when the password was wrong.
   * Throws {@link ScramError} when the message is malformed or does not belong to this exchange.
   */
  final(message: Buffer): Buffer | undefined {
    const expected = this.#expected;
    if (expected === undefined) throw new ScramError('malformed SCRAM message: client-final-message came first');
    this.#expected = undefined;
    const attributes = new Attributes(message);
    if (attributes.value('c') !== bound(expected.header, this.#binding)) {
      throw new ScramError('unexpected SCRAM channel-binding attribute in client-final-message');
    }
    if (attributes.nonce() !== expected.nonce) throw new ScramError('invalid SCRAM response: nonce does not match');
    attributes.extensions();
    const withoutProof = attributes.taken;
    const proof = attributes.bytes('p', KEY_BYTES);
    attributes.end();

    const { storedKey, serverKey, salt, iterations } = this.#verifier;
    const transcript = `${expected.transcript},${withoutProof}`;
    const clientKey = xor(proof, hmac(storedKey, transcript));
    if (!timingSafeEqual(createHash('sha256').update(clientKey).digest(), storedKey)) return undefined;
    this.proven = { clientKey, storedKey, serverKey, salt, iterations };
    return Buffer.from(`v=${hmac(serverKey, transcript).toString('base64')}`, 'latin1');
  }
}

/**
 * pglynx logging in to a server: {@link first}, {@link serverFirst}, {@link final}, {@link verify}, in this order.
 * `nonce` is fresh printable randomness without a comma, for this login only.
 */
export class ScramClient {
  readonly #nonce: string;
  readonly #maxIterations: number;
  readonly #binding: ScramBinding;
  #received: { nonce: string; transcript: string } | undefined;
  #signature: Buffer | undefined;

  constructor(nonce: string, binding = UNBOUND, maxIterations = MAX_ITERATIONS) {
    this.#nonce = nonce;
    this.#binding = binding;
    this.#maxIterations = maxIterations;
  }

  /** client-first-message. The user name is empty, as libpq leaves it. */
  first(): Buffer {
    return Buffer.from(`${this.#header}${this.#bare}`, 'latin1');
  }

  /** Reads server-first-message: what the keys of {@link final} are to be derived with. Throws {@link ScramError}. */
  serverFirst(message: Buffer): { salt: Buffer; iterations: number } {
    const attributes = new Attributes(message);
    const nonce = attributes.nonce();
    if (nonce.length <= this.#nonce.length || !nonce.startsWith(this.#nonce)) {
      throw new ScramError('invalid SCRAM response: nonce does not extend the one of this login');
    }
    const salt = attributes.bytes('s');
    const iterations = attributes.value('i');
    attributes.end();
    if (!/^[1-9]\d{0,9}$/.test(iterations)) throw new ScramError('malformed SCRAM message: invalid iteration count');
    if (Number(iterations) > this.#maxIterations) {
      throw new ScramError(
        `the server asks for ${iterations} SCRAM iterations, more than the ${this.#maxIterations} of server_scram_iterations_max`,
      );
    }
    this.#received = { nonce, transcript: `${this.#bare},${message.toString('latin1')}` };
    return { salt, iterations: Number(iterations) };
  }

  /** client-final-message, proving the password that `keys` come from. Throws {@link ScramError} out of order. */
  final(keys: ScramKeys): Buffer {
    const received = this.#received;
    if (received === undefined) throw new ScramError('SCRAM client-final-message before server-first-message');
    const withoutProof = `c=${bound(this.#header, this.#binding)},r=${received.nonce}`;
    const transcript = `${received.transcript},${withoutProof}`;
    const proof = xor(keys.clientKey, hmac(keys.storedKey, transcript));
    this.#signature = hmac(keys.serverKey, transcript);
    return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`, 'latin1');
  }

  /**
   * True when server-final-message proves that the server knows the password too. Throws {@link ScramError} when it
   * reports an error instead, is malformed or comes out of order.
   */
  verify(message: Buffer): boolean {
    if (this.#signature === undefined) throw new ScramError('SCRAM server-final-message before client-final-message');
    const attributes = new Attributes(message);
    if (attributes.rest.startsWith('e=')) {
      throw new ScramError(`the server ended SCRAM authentication: ${attributes.value('e')}`);
    }
    const signature = attributes.bytes('v', KEY_BYTES);
    attributes.end();
    return timingSafeEqual(signature, this.#signature);
  }

  /** Whoever could bind and was not offered to says so, for the server to see if it was offered after all. */
  get #header(): string {
    const { hash, isUsed } = this.#binding;
    return isUsed ? `${END_POINT},,` : hash === undefined ? 'n,,' : 'y,,';
  }

  get #bare(): string {
    return `n=,r=${this.#nonce}`;
  }
}

/** Reads the comma-separated attributes of one message in their order; latin1 text, so that no byte changes. */
class Attributes {
  readonly #text: string;
  #at = 0;

  constructor(message: Buffer) {
    if (message.length > MAX_MESSAGE_BYTES) {
      throw new ScramError(`SCRAM message of ${message.length} bytes is longer than ${MAX_MESSAGE_BYTES}`);
    }
    if (message.length === 0) throw new ScramError('malformed SCRAM message: it is empty');
    if (message.includes(0)) throw new ScramError('malformed SCRAM message: it contains a zero byte');
    this.#text = message.toString('latin1');
  }

  /** What has not been read yet. */
  get rest(): string {
    return this.#text.slice(this.#at);
  }

  /** What has been read, without the comma that ends it. */
  get taken(): string {
    return this.#text.slice(0, Math.max(0, this.#at - 1));
  }

  /**
   * Reads `n,,`, `y,,` or `p=tls-server-end-point,,`: what the client says of channel binding, and nobody to act for
   * (RFC 5802 section 7, gs2-header). A client that thinks this side could not do it, though it can, was lied to.
   */
  gs2Header({ hash, isUsed }: ScramBinding): string {
    const [flag, actor] = this.#text.split(',', 2);
    const kind = flag[0];
    if (kind !== 'p' && kind !== 'n' && kind !== 'y') throw malformed(kind, 'a gs2 header');
    if (kind === 'p' && !isUsed) {
      throw new ScramError('the client selected SCRAM-SHA-256 without channel binding, but sent channel binding data');
    }
    if (kind !== 'p' && isUsed) {
      throw new ScramError('the client selected SCRAM-SHA-256-PLUS, but sent no channel binding data');
    }
    if (kind === 'y' && hash !== undefined) {
      throw new ScramError('the client supports channel binding and thinks that pglynx does not, but it does');
    }
    if (kind === 'p' && flag !== END_POINT) throw new ScramError('unsupported SCRAM channel-binding type');
    if (kind !== 'p' && flag.length > 1) throw malformed(flag[1], 'a comma');
    if (actor === undefined) throw malformed(undefined, 'a comma');
    if (actor.startsWith('a')) throw new ScramError('client uses authorization identity, but it is not supported');
    if (actor !== '') throw malformed(actor[0], 'a comma');
    this.#at = flag.length + 2;
    return this.#text.slice(0, this.#at);
  }

  /** Reads the attribute `name`, which must come next. */
  value(name: string): string {
    if (this.#text[this.#at] === 'm') throw new ScramError('client requires an unsupported SCRAM extension');
    if (this.#text[this.#at] !== name || this.#text[this.#at + 1] !== '=') {
      throw malformed(this.#text[this.#at], `attribute "${name}"`);
    }
    const comma = this.#text.indexOf(',', this.#at);
    const end = comma === -1 ? this.#text.length : comma;
    const value = this.#text.slice(this.#at + 2, end);
    // One past the end stands for "no comma follows": a comma at the very end leaves an attribute missing.
    this.#at = end + 1;
    return value;
  }

  /** Reads the nonce: printable ASCII (RFC 5802 section 7, printable). */
  nonce(): string {
    const nonce = this.value('r');
    if (!/^[\x21-\x7e]+$/.test(nonce)) throw new ScramError('malformed SCRAM message: non-printable or empty nonce');
    return nonce;
  }

  /** Reads an attribute in base64, of `length` bytes if that is given. */
  bytes(name: string, length?: number): Buffer {
    const bytes = decodeBase64(this.value(name));
    if (bytes === undefined || bytes.length !== (length ?? bytes.length)) {
      throw new ScramError(`malformed SCRAM message: attribute "${name}" is not the base64 it should be`);
    }
    return bytes;
  }

  /** Skips optional extensions; a mandatory one (`m=`) or the proof stays to be read. */
  extensions(): void {
    for (;;) {
      const name = this.#text[this.#at];
      if (name === undefined || name === 'p' || !/[A-Za-z]/.test(name)) return;
      this.value(name);
    }
  }

  /** Nothing may follow. */
  end(): void {
    if (this.#at !== this.#text.length + 1) throw malformed(this.#text[this.#at] ?? ',', 'the end of the message');
  }
}

/** The attribute `c` of client-final-message. */
function bound(header: string, { hash, isUsed }: ScramBinding): string {
  const data = isUsed && hash !== undefined ? hash : Buffer.alloc(0);
  return Buffer.concat([Buffer.from(header, 'latin1'), data]).toString('base64');
}

function malformed(found: string | undefined, expected: string): ScramError {
  const what = found === undefined ? 'the end' : JSON.stringify(found);
  return new ScramError(`malformed SCRAM message: ${expected} expected, but found ${what}`);
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text, 'latin1').digest();
}

function xor(left: Buffer, right: Buffer): Buffer {
  return Buffer.from(left.map((byte, index) => byte ^ (right[index] ?? 0)));
}

/** Strict base64, not empty: Node alone would skip what it cannot read. */
function decodeBase64(text: string | undefined): Buffer | undefined {
  if (text === undefined || text === '') return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}
