/** The certificates and keys in force: other ones after a reload, and by themselves when their files are renewed. */
import type { ServerTlsSettings } from '../config/encryption.ts';
import type { Config } from '../config/schema.ts';
import { Credentials, readCredentials } from '../net/credentials.ts';
import type { Encryption } from '../net/dial.ts';
import type { Gate } from '../net/gate.ts';
import { Autoreload } from './autoreload.ts';

/** Where renewals are told. */
export interface KeyringLog {
  info(fields: object, text: string): void;
  error(text: string): void;
}

/** Milliseconds between looks at the files: whoever renews certificates need not know of pglynx, as with PgCat. */
const LOOK_MS = 2000;

export class Keyring {
  readonly #config: () => Config;
  readonly #log: KeyringLog;
  readonly #watch: Autoreload;
  #credentials = new Credentials();

  constructor(config: () => Config, log: KeyringLog) {
    this.#config = config;
    this.#log = log;
    this.#watch = new Autoreload({
      interval_ms: () => (this.#credentials.files.length === 0 ? undefined : LOOK_MS),
      files: () => this.#credentials.files,
      reload: () => this.#renew(),
      failed: cause => log.error(`certificates were not renewed: ${cause}`),
    });
  }

  /** Encrypts the connections of clients, if it is to be done at all. */
  get gate(): Gate | undefined {
    return this.#credentials.gate;
  }

  /**
   * How to encrypt towards servers.
   * @throws Error a file cannot be read or used
   */
  encryption(settings: ServerTlsSettings): Encryption {
    return this.#credentials.encryption(settings);
  }

  /** How the files look now, for {@link use}. */
  look(): Promise<string> {
    return this.#watch.look();
  }

  /** Puts `credentials` in force, read when the files looked like `read_at`; returns the names of files that were renewed. */
  use(credentials: Credentials, read_at: string): string[] {
    const renewed = credentials.changes(this.#credentials);
    this.#credentials = credentials;
    this.#watch.follow(read_at);
    return renewed;
  }

  stop(): void {
    this.#watch.stop();
  }

  async #renew(): Promise<void> {
    const read_at = await this.look();
    const files = this.use(readCredentials(this.#config()), read_at);
    if (files.length > 0) this.#log.info({ files }, 'Certificates were renewed');
  }
}
