/** The passwords that auth_query fetches: asked of the servers once for all who ask together, and remembered for a moment. */
import { LRUCache } from 'lru-cache';
import { parseVerifier } from '../auth/scram.ts';
import { type PasswordKind, passwordKind } from '../auth/secret.ts';
import type { AuthQuerySettings, ClusterSettings } from '../config/cluster.ts';
import { NAME_LENGTH_MAX } from '../config/wildcards.ts';
import { errorText } from '../errors.ts';
import { type AnswerRow, ask } from '../server/ask.ts';
import { ServerError } from '../server/silent.ts';
import { borrow } from './borrow.ts';
import type { Cluster } from './cluster.ts';

/** Users remembered for each auth_query. */
const USERS_MAX = 10_000;
/** Users whom servers are asked about at a time, for each auth_query. */
const ASKED_MAX = 1000;
/** Connections of each auth_query. */
const CONNECTIONS_MAX = 2;
/** After a reload a source stays this long for those who still ask it. */
const STALE_MS = 2000;
/** After this the connection of a query is closed. */
const ANSWER_MS = 5000;

/** What is known of a user's password. */
export interface Found {
  /** Undefined for nobody. */
  readonly secret: string | undefined;
  /** Whether it may have been asked for before the login that wants it began. */
  readonly isOld: boolean;
  /** Whether the servers have answered. */
  readonly isSure: boolean;
}

/** What the servers say. */
type Answer = Omit<Found, 'isOld'>;

/** Nobody knows. */
const UNSURE: Answer = { secret: undefined, isSure: false };

/** What asks the servers of one auth_query. */
export class PasswordSource {
  /** The form of the last password that was found: strangers get the exchange that it makes. */
  usual: PasswordKind = 'scram-sha-256';
  /** When a reload left open whether anybody needs it any more, on the clock of `performance.now()`. */
  stale_since: number | undefined;
  /** Iterations of the last SCRAM verifier that was found. */
  usual_iterations: number | undefined;

  readonly #auth: AuthQuerySettings;
  readonly #sql: string;
  /** How many parameters it has, all of them the name. */
  #count: number;
  /** Its connections are nobody else's, and no client has a say in their settings. */
  readonly #cluster: Cluster;
  readonly #ttl_ms: () => number;
  readonly #known = new LRUCache<string, Answer>({ max: USERS_MAX });
  readonly #asked = new Map<string, Promise<Answer>>();

  constructor(auth: AuthQuerySettings, cluster: Cluster, ttl_ms: () => number) {
    this.#auth = auth;
    this.#cluster = cluster;
    // PgCat puts the name itself in the place of $1, so its files have the quotes around it; as there, each has a type of its own.
    this.#count = /\$1(?!\d)/.test(auth.query.replaceAll("'$1'", '')) ? 1 : 0;
    this.#sql = auth.query.replaceAll("'$1'", () => `$${++this.#count}`);
    this.#ttl_ms = ttl_ms;
  }

  /** The password of `user` as it was a moment ago. */
  async find(user: string): Promise<Found> {
    const known = this.#known.get(user);
    if (known !== undefined) return { ...known, isOld: true };
    const isOld = this.#asked.has(user);
    return { ...(await this.refresh(user)), isOld };
  }

  /** The password of `user` as it is now. */
  refresh(user: string): Promise<Answer> {
    const asked = this.#asked.get(user);
    if (asked !== undefined) return asked;
    if (this.#asked.size >= ASKED_MAX) {
      this.#warn(user, `servers are being asked about ${ASKED_MAX} users already`);
      return Promise.resolve(UNSURE);
    }
    const asking = this.#fetch(user).finally(() => this.#asked.delete(user));
    this.#asked.set(user, asking);
    return asking;
  }

  /** Whether nobody waits for an answer. */
  get isIdle(): boolean {
    return this.#asked.size === 0;
  }

  async #fetch(user: string): Promise<Answer> {
    // PostgreSQL would cut off what is too long, and mean somebody else.
    if (Buffer.byteLength(user) > NAME_LENGTH_MAX || user.includes('\0')) return { secret: undefined, isSure: true };
    let secret: string | undefined;
    try {
      secret = this.#read(user, await this.#rows(user));
    } catch (thrown) {
      this.#known.delete(user);
      this.#warn(user, withoutSecrets(errorText(thrown)));
      return UNSURE;
    }
    if (secret !== undefined) {
      this.usual = passwordKind(secret);
      this.usual_iterations = parseVerifier(secret)?.iterations ?? this.usual_iterations;
    }
    const ttl = this.#ttl_ms();
    // 0 would be for ever.
    const answer = { secret, isSure: true };
    if (ttl > 0) this.#known.set(user, answer, { ttl });
    else this.#known.delete(user);
    return answer;
  }

  /** Asks once more when the connection turns out to be a dead one. */
  async #rows(user: string): Promise<AnswerRow[]> {
    try {
      return await this.#ask(user);
    } catch (thrown) {
      if (thrown instanceof ServerError && /^(08|57P)/.test(thrown.sqlstate)) return this.#ask(user);
      throw thrown;
    }
  }

  async #ask(user: string): Promise<AnswerRow[]> {
    const { connection, pool } = await borrow(this.#cluster, this.#cluster.defaults);
    const late = `no answer after ${ANSWER_MS} ms`;
    const timer = setTimeout(() => connection.close(late), ANSWER_MS);
    try {
      return await ask(
        connection,
        this.#sql,
        Array.from({ length: this.#count }, () => user),
        1,
      );
    } finally {
      clearTimeout(timer);
      pool.release(connection);
    }
  }

  #read(user: string, rows: readonly AnswerRow[]): string | undefined {
    const [row, ...more] = rows;
    if (more.length > 0) throw new Error('it returned several rows, which must be one');
    if (row === undefined) {
      this.#warn(user, 'it returned no row');
      return undefined;
    }
    if (row.length !== 2) throw new Error(`it returned ${row.length} columns, which must be name and password`);
    const [name, secret] = row;
    if (name !== user) throw new Error('it returned the row of another user');
    if (secret === undefined || secret === '') {
      this.#warn(user, 'it returned no password');
      return undefined;
    }
    return secret;
  }

  #warn(user: string, cause: string): void {
    const { pool, user: asked_as } = this.#auth;
    this.#cluster.context.log.warn({ pool, user, asked_as, cause }, `auth_query found no password: ${cause}`);
  }
}

/** What {@link Passwords} needs of the registry. */
export interface Askers {
  ask(settings: ClusterSettings): Cluster;
  dismiss(cluster: Cluster): void;
}

/** The sources of all pools; pools that ask the same of the same servers have the same one. */
export class Passwords {
  readonly #askers: Askers;
  readonly #ttl_ms: () => number;
  readonly #sources = new Map<string, { readonly source: PasswordSource; readonly cluster: Cluster }>();

  constructor(askers: Askers, ttl_ms: () => number) {
    this.#askers = askers;
    this.#ttl_ms = ttl_ms;
  }

  /** Who knows the passwords for clusters with these settings; undefined where they have no auth_query. */
  of(settings: ClusterSettings): PasswordSource | undefined {
    const { auth_query } = settings;
    if (auth_query === undefined) return undefined;
    const wanted = sourceSettings(settings, auth_query);
    const name = JSON.stringify(wanted);
    let known = this.#sources.get(name);
    if (known === undefined) {
      const cluster = this.#askers.ask(wanted);
      known = { source: new PasswordSource(auth_query, cluster, this.#ttl_ms), cluster };
      this.#sources.set(name, known);
    }
    known.source.stale_since = undefined;
    return known.source;
  }

  /** The configuration has changed: what nobody needs any more ends soon. */
  reloaded(now: number): void {
    for (const { source } of this.#sources.values()) source.stale_since ??= now;
  }

  /** Ends what a reload has made useless. */
  maintain(now: number): void {
    for (const [name, { source, cluster }] of this.#sources) {
      if (source.stale_since === undefined || now - source.stale_since < STALE_MS || !source.isIdle) continue;
      this.#sources.delete(name);
      this.#askers.dismiss(cluster);
    }
  }
}

/** Settings of the cluster that asks for those of `settings`. */
function sourceSettings(settings: ClusterSettings, auth_query: AuthQuerySettings): ClusterSettings {
  const { user, password, database, pool } = auth_query;
  const unlimited = { max_waiting_clients: 0, reserve_pool_size: 0, max_db_connections: 0, max_user_connections: 0 };
  const [shard] = settings.shards;
  return {
    ...settings,
    database: pool,
    username: user,
    password,
    server_username: user,
    server_password: password,
    pool_mode: 'transaction',
    multiplexing: 'off',
    pool_size: CONNECTIONS_MAX,
    min_pool_size: 0,
    statement_timeout: 0,
    query_parser_enabled: false,
    read_write_splitting: false,
    default_role: 'any',
    default_shard: 0,
    sharding: { ...settings.sharding, automatic_key: undefined, key_regex: undefined, id_regex: undefined },
    limits: { ...settings.limits, ...unlimited, query_wait_timeout: undefined },
    activity: { ...settings.activity, enabled: false },
    shards: [{ number: 0, database, servers: shard?.servers ?? [] }],
  };
}

/** A server's message may quote what it stumbled over. */
function withoutSecrets(text: string): string {
  return text.replaceAll(/SCRAM-SHA-256\$\S*|md5[0-9a-f]{32}/g, '***');
}
