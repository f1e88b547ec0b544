/** Lets clients in: finds what is known of whoever asks, has it proved, and counts failures. */
import { type ProvenKeys, parseVerifier } from '../auth/scram.ts';
import { type KeyCache, passwordKind } from '../auth/secret.ts';
import type { ClusterSettings } from '../config/cluster.ts';
import type { LoadedConfig } from '../config/load.ts';
import { PgError, pgError } from '../errors.ts';
import type { PasswordSource, Passwords } from '../pool/passwords.ts';
import type { Registry } from '../pool/registry.ts';
import { Attempts } from './attempts.ts';
import { type LoginMethod, methodFor } from './methods.ts';
import { type AuthType, authenticate, type LoginRequest, type StartupChannel } from './startup.ts';

/** Names under which clients reach the admin database. */
const ADMIN_DATABASES: readonly string[] = ['pgcat', 'pgbouncer'];

/** Whether this is the admin database. */
export function isAdminDatabase(database: string): boolean {
  return ADMIN_DATABASES.includes(database);
}

/** What a client may do that has proved who it is. */
export interface Admission {
  /** In the admin database: look, and change nothing. */
  readonly mayOnlyShow: boolean;
}

/** What logins need of the process. */
export interface LoginContext {
  readonly keys: KeyCache;
  readonly registry: Registry;
  readonly passwords: Passwords;
  /** The configuration in force. */
  loaded(): LoadedConfig;
}

/** What is known of a user who wants to log in. */
interface Known {
  readonly auth_type: ClusterSettings['auth_type'];
  /** Of the file. */
  readonly password: string | undefined;
  /** Who knows the password if the file does not. */
  readonly source?: PasswordSource | undefined;
  /** Whether there is no such user: no password is right. */
  readonly isNobody: boolean;
  /** Whether what was asked for is there; what is proved for it opens nothing that a reload makes of it meanwhile. */
  readonly isThere: boolean;
  readonly mayOnlyShow: boolean;
}

/** A login that has been proved. */
interface Proof {
  readonly proven: ProvenKeys | undefined;
  /** The password that a server keeps, if it was fetched from there or is a verifier. */
  readonly secret: string | undefined;
}

export class Logins {
  readonly #context: LoginContext;
  readonly #attempts: Attempts;

  constructor(context: LoginContext) {
    this.#context = context;
    const general = () => context.loaded().config.general;
    this.#attempts = new Attempts({
      limit: () => general().login_failure_limit,
      interval_ms: () => general().login_failure_interval,
    });
  }

  /**
   * Has a client prove who it is.
   * @throws PgError it did not, or may not come in
   */
  async authenticate(channel: StartupChannel, request: LoginRequest): Promise<Admission> {
    const { database, user } = request;
    const isAdmin = isAdminDatabase(database);
    const known = isAdmin ? this.#admin(user) : this.#user(database, user);
    const method = await methodFor(known.auth_type, request, this.#context.loaded().hba);
    const proof = await this.#prove(channel, request, known, method);
    const { mayOnlyShow } = known;
    if (isAdmin) {
      checkAdmin(user, known, method);
      return { mayOnlyShow };
    }
    if (!known.isThere) throw pgError('unknown_database', database, user);
    const cluster = this.#context.registry.open(database, user, performance.now());
    cluster?.credentials.learn(proof.secret, proof.proven);
    return { mayOnlyShow };
  }

  #admin(user: string): Known {
    const { general } = this.#context.loaded().config;
    const { admin_username, admin_password, admin_auth_type: auth_type, stats_username, stats_password } = general;
    const there = { auth_type, isThere: true, mayOnlyShow: false };
    if (user === admin_username) return { ...there, password: admin_password, isNobody: false };
    if (user !== stats_username) return { ...there, password: undefined, isNobody: true };
    return { ...there, password: stats_password, isNobody: false, mayOnlyShow: true };
  }

  /** Nobody learns from the exchange whether a user or a database exists: strangers get the one that others get. */
  #user(database: string, user: string): Known {
    const { registry } = this.#context;
    const settings = registry.settingsFor(database, user);
    if (settings !== undefined) return { ...this.#known(settings), isThere: true };
    const all = [...registry.clusters].map(cluster => cluster.settings);
    const neighbours = all.filter(other => other.database === database);
    const namesake = neighbours.length === 0 ? all.find(other => other.username === user) : undefined;
    if (namesake !== undefined) return this.#known(namesake);
    const isAsked = (other: ClusterSettings) => other.auth_type !== 'trust';
    const usual = neighbours.find(isAsked) ?? all.find(isAsked);
    const nobody = { isNobody: true, isThere: false, mayOnlyShow: false };
    if (usual === undefined) return { auth_type: 'md5', password: undefined, ...nobody };
    return { ...this.#known(usual), ...nobody };
  }

  #known(settings: ClusterSettings): Known {
    const { auth_type, password } = settings;
    const source = password === undefined ? this.#context.passwords.of(settings) : undefined;
    return { auth_type, password, source, isNobody: false, isThere: false, mayOnlyShow: false };
  }

  async #prove(channel: StartupChannel, request: LoginRequest, known: Known, method: LoginMethod): Promise<Proof> {
    if (method === 'trust') return { proven: undefined, secret: undefined };
    const { user, address } = request;
    const attempt = this.#attempts.begin(address, user, performance.now());
    if (attempt === undefined) throw pgError('too_many_failed_logins', user);
    const { source, isNobody } = known;
    let first = known.password;
    let secret = first;
    let isSure = true;
    try {
      const found = await source?.find(user);
      first ??= found?.secret;
      secret = first;
      isSure = found?.isSure ?? true;
      const refresh = async () => {
        const now = await source?.refresh(user);
        if (now?.isSure === true) secret = now.secret;
        return isNobody ? undefined : now?.secret;
      };
      const auth_type = exchangeFor(method, first, source);
      const usual_iterations = parseVerifier(known.password ?? '')?.iterations ?? source?.usual_iterations;
      // As in PostgreSQL an empty one is none: else a variable that is empty would let everybody in.
      const password = isNobody || first === '' ? undefined : first;
      const account = { auth_type, password, usual_iterations, ...(found?.isOld === true && { refresh }) };
      const proven = await authenticate(channel, user, account, this.#context.keys);
      attempt.succeeded();
      // Keys for the salt of a plain password are pglynx's own: no server has them.
      return {
        proven: isVerifier(first) ? proven : undefined,
        secret: source === undefined ? undefined : secret,
      };
    } catch (thrown) {
      const isWrong = thrown instanceof PgError && thrown.kind === 'authentication_failed';
      if (isWrong) thrown.cause = isSure ? whyWrong(known, method, secret) : 'auth_query has failed';
      // What was given may well have been right if the password has changed since it was read, or nobody knows it.
      if (isWrong && isSure && secret === first) attempt.failed(performance.now());
      else attempt.abandoned();
      throw thrown;
    }
  }
}

/** With "trust" in the file anybody is an administrator, as in PgCat; other ways in are for those whom the file names. */
function checkAdmin(user: string, { auth_type, isNobody }: Known, method: LoginMethod): void {
  if (isNobody && (auth_type !== 'trust' || method !== 'trust')) throw pgError('authentication_failed', user);
}

/** For the operator: the client is told nothing but that it failed. */
function whyWrong({ isNobody, source }: Known, method: LoginMethod, secret: string | undefined): string {
  if (isNobody) return 'no such user';
  if (secret === '') return 'the password of the user is empty';
  if (secret === undefined) return source === undefined ? 'the user has no password' : 'auth_query found no password';
  if (method === 'scram-sha-256' && passwordKind(secret) === 'md5') return 'SCRAM cannot be proved with an md5 hash';
  return 'the password is wrong';
}

/** As in PostgreSQL, md5 is SCRAM where a verifier is kept; whom nobody knows gets what others of the database get. */
function exchangeFor(method: 'md5' | 'scram-sha-256', secret: string | undefined, source?: PasswordSource): AuthType {
  if (method === 'scram-sha-256') return method;
  const kind = secret === undefined ? source?.usual : passwordKind(secret);
  return kind === 'scram-sha-256' ? kind : 'md5';
}

function isVerifier(secret: string | undefined): boolean {
  return secret !== undefined && passwordKind(secret) === 'scram-sha-256';
}
