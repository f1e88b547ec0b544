/** The cancel keys of this process's clients: who may cancel what. */
import { randomBytes, randomInt, timingSafeEqual } from 'node:crypto';

/** Something a CancelRequest can be for. */
export interface Cancelable {
  cancel(): void;
}

/** What BackendKeyData tells a client. */
export interface CancelKey {
  readonly pid: number;
  readonly secret: Buffer;
}

/** Bytes of a secret, as PostgreSQL's. */
const KEY_LENGTH = 4;
const LONG_KEY_LENGTH = 32;
/** The first minor version with long ones. */
const LONG_KEYS_MINOR = 2;

export class CancelKeys {
  readonly #clients = new Map<number, { readonly secret: Buffer; readonly client: Cancelable }>();

  /** A new random key for `client`, of the length that its protocol, 3 and `minor`, has. */
  issue(client: Cancelable, minor: number): CancelKey {
    let pid: number;
    do pid = randomInt(1, 2 ** 31);
    while (this.#clients.has(pid));
    const secret = randomBytes(minor < LONG_KEYS_MINOR ? KEY_LENGTH : LONG_KEY_LENGTH);
    this.#clients.set(pid, { secret, client });
    return { pid, secret };
  }

  revoke(key: CancelKey): void {
    this.#clients.delete(key.pid);
  }

  /** A CancelRequest came: whoever holds this key exactly is told; false when nobody does. */
  request(pid: number, secret: Buffer): boolean {
    const found = this.#clients.get(pid);
    if (found === undefined || found.secret.length !== secret.length || !timingSafeEqual(found.secret, secret))
      return false;
    found.client.cancel();
    return true;
  }
}
