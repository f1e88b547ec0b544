/** Passwords as configuration files hold them (plain, md5 hash, SCRAM verifier), and what each can prove at a login. */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { LRUCache } from 'lru-cache';
import { DEFAULT_ITERATIONS, deriveKeys, parseVerifier, type ScramKeys, type ScramVerifier } from './scram.ts';

/** The forms of `pg_authid.rolpassword`, told apart as PostgreSQL does; what is neither of the others is plain. */
export type PasswordKind = 'plain' | 'md5' | 'scram-sha-256';

/** Which form a configured password has. */
export function passwordKind(password: string): PasswordKind {
  if (/^md5[0-9a-f]{32}$/.test(password)) return 'md5';
  return parseVerifier(password) === undefined ? 'plain' : 'scram-sha-256';
}

/**
 * The PasswordMessage that answers AuthenticationMD5Password with its 4 bytes of `salt`. Undefined for a SCRAM
 * verifier, which cannot answer.
 */
export function md5Response(user: string, password: string, salt: Buffer): string | undefined {
  const kind = passwordKind(password);
  if (kind === 'scram-sha-256') return undefined;
  const hash = kind === 'md5' ? password.slice('md5'.length) : md5(Buffer.from(password + user));
  return `md5${md5(Buffer.concat([Buffer.from(hash), salt]))}`;
}

/** True when `response` is the right {@link md5Response}; never for an unknown user, whose `password` is undefined. */
export function checkMd5(user: string, password: string | undefined, salt: Buffer, response: string): boolean {
  const expected = password === undefined ? undefined : md5Response(user, password, salt);
  if (expected === undefined) return false;
  const [left, right] = [Buffer.from(expected), Buffer.from(response)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/**
 * The password that SCRAM hashes: SASLprep of it (RFC 4013), or the password itself where that is not defined for it,
 * as in PostgreSQL. They differ in compatibility characters younger than Unicode 3.2 and some lone Hebrew and Arabic
 * presentation forms, because PostgreSQL looks for forbidden characters before it normalizes, the RFC afterwards.
 */
export async function preparedPassword(password: string): Promise<string> {
  if (/^[\x00-\x7f]*$/.test(password)) return password;
  const { default: saslprep } = await import('@mongodb-js/saslprep');
  try {
    return saslprep(password) || password;
  } catch {
    return password;
  }
}

/** A fresh nonce for one SCRAM exchange: 18 random bytes in base64, as PostgreSQL makes them. */
export function scramNonce(): string {
  return randomBytes(18).toString('base64');
}

/**
 * The verifier shown for a user that has none: its salt stays the same as long as `processSecret` does, so that an
 * unknown user cannot be told from a known one, and no password fits it.
 */
export function mockVerifier(
  user: string,
  processSecret: Buffer,
  iterations: number = DEFAULT_ITERATIONS,
): ScramVerifier {
  return {
    iterations,
    salt: saltOf(user, processSecret),
    storedKey: randomBytes(32),
    serverKey: randomBytes(32),
  };
}

/** SCRAM keys by password, salt and iterations: derived off the event loop, once however many logins want them. */
export class KeyCache {
  readonly #keys: LRUCache<string, Promise<ScramKeys>>;
  readonly #processSecret: Buffer;

  /** `processSecret` is random and at least 32 bytes; processes behind one port share it. At most `entries` are kept. */
  constructor(processSecret: Buffer, entries = 1024) {
    this.#processSecret = processSecret;
    this.#keys = new LRUCache({ max: entries });
  }

  /** The keys of a plain password, for {@link ScramClient.final}. */
  keys(password: string, salt: Buffer, iterations: number): Promise<ScramKeys> {
    const digest = createHmac('sha256', this.#processSecret).update(password).digest('base64');
    const id = `${digest} ${salt.toString('base64')} ${iterations}`;
    const known = this.#keys.get(id);
    if (known !== undefined) return known;
    const keys = computeKeys(password, salt, iterations);
    this.#keys.set(id, keys);
    keys.catch(() => this.#keys.delete(id));
    return keys;
  }

  /**
   * The verifier that a client calling itself `user` is checked against. `password` is as configured; an unknown user
   * (undefined) and one with an md5 hash get {@link mockVerifier}, with the iterations that are `usual`. A plain password
   * gets the salt that the user would have if it were unknown.
   */
  async verifier(user: string, password: string | undefined, usual?: number): Promise<ScramVerifier> {
    if (password === undefined || passwordKind(password) === 'md5') {
      return mockVerifier(user, this.#processSecret, usual);
    }
    const stored = parseVerifier(password);
    if (stored !== undefined) return stored;
    const salt = saltOf(user, this.#processSecret);
    const { storedKey, serverKey } = await this.keys(password, salt, DEFAULT_ITERATIONS);
    return { iterations: DEFAULT_ITERATIONS, salt, storedKey, serverKey };
  }
}

async function computeKeys(password: string, salt: Buffer, iterations: number): Promise<ScramKeys> {
  const prepared = await preparedPassword(password);
  return deriveKeys(await promisify(pbkdf2)(prepared, salt, iterations, 32, 'sha256'));
}

function saltOf(user: string, processSecret: Buffer): Buffer {
  return createHmac('sha256', processSecret).update(`salt of ${user}`).digest().subarray(0, 16);
}

function md5(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex');
}
