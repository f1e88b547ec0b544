/** What one cluster logs in to its servers with: the file's password, or what its clients' logins have brought. */
import type { ProvenKeys } from '../auth/scram.ts';
import { passwordKind } from '../auth/secret.ts';
import type { ClusterSettings } from '../config/cluster.ts';

export class Credentials {
  readonly #configured: string | undefined;
  /** Whether clients bring what is missing. */
  readonly #fetched: boolean;
  #secret: string | undefined;
  #proven: ProvenKeys | undefined;
  #hasLearned = false;

  /** What clients have brought stays known when a reload puts the cluster in the place of one with `before`. */
  constructor(
    { server_password, auth_query }: Pick<ClusterSettings, 'server_password' | 'auth_query'>,
    before?: Credentials,
  ) {
    this.#configured = server_password;
    this.#fetched = server_password === undefined && auth_query !== undefined;
    if (before === undefined) return;
    this.#secret = before.#secret;
    this.#proven = before.#proven;
    this.#hasLearned = before.#hasLearned;
  }

  /** A password, md5 hash or SCRAM verifier. */
  get password(): string | undefined {
    return this.#configured ?? (this.#fetched ? this.#secret : undefined);
  }

  /** Keys for servers that keep the same verifier as pglynx does. */
  get proven(): ProvenKeys | undefined {
    return this.#proven;
  }

  /** Whether no server could be logged in to before a client has logged in. */
  get missing(): boolean {
    if (this.#hasLearned) return false;
    const { password } = this;
    return password === undefined ? this.#fetched : passwordKind(password) === 'scram-sha-256';
  }

  /** A client has logged in: its password as the server keeps it, if that was fetched, and what it proved by SCRAM. */
  learn(secret: string | undefined, proven: ProvenKeys | undefined): void {
    this.#hasLearned = true;
    if (secret !== undefined) this.#secret = secret;
    if (proven !== undefined) this.#proven = proven;
  }
}
