/** The certificates and keys in force, read from their files at the start and at each reload. */
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import { everySettings } from '../config/cluster.ts';
import type { ServerTlsSettings } from '../config/encryption.ts';
import type { Config } from '../config/schema.ts';
import type { Encryption } from './dial.ts';
import { Gate } from './gate.ts';

/** Remembers by name what was in the files it has read. */
class Files {
  readonly digests = new Map<string, string>();

  /** @throws Error the file cannot be read */
  read(name: string): Buffer {
    const bytes = readFileSync(name);
    this.digests.set(name, createHash('sha256').update(bytes).digest('base64'));
    return bytes;
  }

  /** The same for a file that need not be named. */
  maybe(name: string | undefined): Buffer | undefined {
    return name === undefined ? undefined : this.read(name);
  }
}

export class Credentials {
  /** Encrypts the connections of clients, if it is to be done at all. */
  gate: Gate | undefined;
  readonly #files = new Files();
  readonly #contexts = new Map<string, SecureContext>();

  /**
   * Reads what clients are shown.
   * @throws Error a file cannot be read or used
   */
  readGate(certificate: string, private_key: string, client_ca: string | undefined): void {
    const [cert, key, ca] = [
      this.#files.read(certificate),
      this.#files.read(private_key),
      this.#files.maybe(client_ca),
    ];
    checkAuthority(ca);
    this.gate = new Gate({ cert, key, ca });
  }

  /**
   * How to encrypt towards servers: files that were read once are not read again.
   * @throws Error one cannot be read or used
   */
  encryption({ mode, ca, certificate, private_key }: ServerTlsSettings): Encryption {
    if (mode === 'disable') throw new Error('server_tls is off');
    const name = JSON.stringify([ca, certificate, private_key]);
    let context = this.#contexts.get(name);
    if (context === undefined) {
      const authority = this.#files.maybe(ca);
      checkAuthority(authority);
      context = createSecureContext({
        ca: authority,
        cert: this.#files.maybe(certificate),
        key: this.#files.maybe(private_key),
        minVersion: 'TLSv1.2',
      });
      this.#contexts.set(name, context);
    }
    return { mode, context };
  }

  /** The names of all that were read. */
  get files(): string[] {
    return [...this.#files.digests.keys()];
  }

  /** The names of files that were read before too, and held something else. */
  changes(before: Credentials): string[] {
    const old = before.#files.digests;
    return [...this.#files.digests]
      .filter(([name, digest]) => (old.get(name) ?? digest) !== digest)
      .map(([name]) => name);
  }
}

/** Node takes what is no certificate for none, and then nobody's counts. */
function checkAuthority(pem: Buffer | undefined): void {
  if (pem !== undefined) new X509Certificate(pem);
}

/**
 * Reads every file that the configuration names for encryption.
 * @throws Error one cannot be read or used
 */
export function readCredentials(config: Config): Credentials {
  const { tls_certificate, tls_private_key, tls_client_ca, tls_mode } = config.general;
  const credentials = new Credentials();
  if (tls_mode !== 'disable' && tls_certificate !== undefined && tls_private_key !== undefined)
    credentials.readGate(tls_certificate, tls_private_key, tls_client_ca);
  for (const { server_tls } of everySettings(config)) {
    if (server_tls.mode !== 'disable') credentials.encryption(server_tls);
  }
  return credentials;
}
