/** What one cluster, a pool and one of its users, runs with: the file's settings after inheritance. */
import { type ServerAuthMethod, type ServerTlsSettings, serverTls } from './encryption.ts';
import { type Limits, limitsOf } from './limits.ts';
import type { Config, PoolConfig } from './schema.ts';

/** One PostgreSQL server of a shard. */
export interface ServerSettings {
  readonly host: string;
  readonly port: number;
  readonly role: 'primary' | 'replica';
  /** Share of what several servers could serve; 0 is only when no other can. */
  readonly weight: number;
}

/** How a user's password is asked of the servers. */
export interface AuthQuerySettings {
  readonly query: string;
  readonly user: string;
  readonly password: string;
  /** Name of the database on the servers in which it runs. */
  readonly database: string;
  /** The section of the file that it stands for. */
  readonly pool: string;
}

/** How statements find their shard. */
export interface ShardingSettings {
  readonly function: 'pg_bigint_hash' | 'pg_text_hash' | 'pg_uuid_hash' | 'sha1';
  /** `table.column`, `schema.table.column` or `*.column`, in lower case. */
  readonly automatic_key: string | undefined;
  readonly key_regex: string | undefined;
  readonly id_regex: string | undefined;
  /** Bytes at the start of a message's text in which the two expressions look. */
  readonly regex_search_limit: number;
}

/** Reads of tables that were just written go to the primary. */
export interface ActivitySettings {
  readonly enabled: boolean;
  readonly init_delay: number;
  /** Seconds. */
  readonly ttl: number;
  readonly mutation_ttl: number;
}

/** One shard of a cluster; its servers hold the same data. */
export interface ShardSettings {
  /** From 0, without gaps. */
  readonly number: number;
  /** Name of the database on the servers. */
  readonly database: string;
  readonly servers: readonly ServerSettings[];
}

/** Everything a cluster runs with. Times are milliseconds unless said. */
export interface ClusterSettings {
  readonly server_tls: ServerTlsSettings;
  /** Undefined for any. */
  readonly server_require_auth: readonly ServerAuthMethod[] | undefined;
  readonly server_scram_iterations_max: number;
  /** What clients connect to: the name of the pool. */
  readonly database: string;
  readonly username: string;
  readonly password: string | undefined;
  readonly auth_type: 'md5' | 'scram-sha-256' | 'trust' | 'cert' | 'hba';
  /** Undefined where passwords are in the file only. */
  readonly auth_query: AuthQuerySettings | undefined;
  readonly server_username: string;
  readonly server_password: string | undefined;
  readonly pool_mode: 'transaction' | 'session';
  /** Whether connections are shared in transaction mode; at most how many statements deep. */
  readonly multiplexing: 'auto' | 'off';
  readonly multiplexing_max_depth: number;
  readonly multiplexing_max_wait: number;
  readonly pool_size: number;
  readonly min_pool_size: number;
  /** 0 is no limit. */
  readonly statement_timeout: number;
  readonly connect_timeout: number;
  readonly idle_timeout: number;
  readonly server_lifetime: number;
  readonly healthcheck_timeout: number;
  readonly healthcheck_delay: number;
  /** Seconds. */
  readonly ban_time: number;
  readonly server_round_robin: boolean;
  readonly load_balancing_mode: 'random' | 'loc' | 'p2c';
  readonly default_role: 'any' | 'primary' | 'replica';
  readonly query_parser_enabled: boolean;
  /** Bytes of a message. */
  readonly query_parser_max_length: number | undefined;
  readonly read_write_splitting: boolean;
  readonly primary_reads_enabled: boolean;
  readonly cleanup_server_connections: boolean;
  readonly log_client_parameter_status_changes: boolean;
  /** Statements on each server connection; 0 is off. */
  readonly prepared_statements_cache_size: number;
  readonly checkout_failure_limit: number | undefined;
  /** 0 is never. */
  readonly idle_client_in_transaction_timeout: number;
  /** The shard for statements that name none: its number, or any, or any whose servers work. */
  readonly default_shard: number | 'random' | 'random_healthy';
  readonly sharding: ShardingSettings;
  readonly activity: ActivitySettings;
  /** Functions, `name` or `schema.name`, that are writes, and that are none. */
  readonly write_functions: readonly string[];
  readonly read_functions: readonly string[];
  readonly catalog_ttl: number;
  readonly limits: Limits;
  /** What takes so many milliseconds is logged; -1 is nothing. */
  readonly log_min_duration_statement: number;
  readonly log_statement_as: 'template' | 'text';
  /** In the order of their numbers, at least one. */
  readonly shards: readonly ShardSettings[];
}

/** One [pools.NAME.users.N] section. */
export type UserConfig = PoolConfig['users'][string];

/** Stands for every database or user that the file does not list. */
export const WILDCARD = '*';

/** The clusters that `config` lists, one for each pool and username; of two users with one name in a pool, the last. */
export function clusterSettings(config: Config): ClusterSettings[] {
  return everySettings(config).filter(({ database, username }) => database !== WILDCARD && username !== WILDCARD);
}

/** The same, and what `*` stands for under its own name. */
export function everySettings(config: Config): ClusterSettings[] {
  return Object.entries(config.pools).flatMap(([database, pool]) => {
    const users = new Map(Object.values(pool.users).map(user => [user.username, user]));
    return [...users.values()].map(user => settingsOf(config.general, database, pool, user));
  });
}

/** What clients of `database` run with as a user who has the section `user`. */
export function settingsOf(
  general: Config['general'],
  database: string,
  pool: PoolConfig,
  user: UserConfig,
): ClusterSettings {
  return {
    database,
    username: user.username,
    password: user.password,
    auth_type: user.auth_type,
    auth_query: authQuery(general, database, pool),
    server_username: user.server_username ?? user.username,
    server_password: user.server_password ?? user.password,
    pool_mode: user.pool_mode ?? pool.pool_mode,
    multiplexing: user.multiplexing ?? pool.multiplexing,
    multiplexing_max_depth: user.multiplexing_max_depth ?? pool.multiplexing_max_depth,
    multiplexing_max_wait: user.multiplexing_max_wait ?? pool.multiplexing_max_wait,
    pool_size: user.pool_size,
    min_pool_size: user.min_pool_size ?? 0,
    statement_timeout: user.statement_timeout,
    connect_timeout: user.connect_timeout ?? pool.connect_timeout ?? general.connect_timeout,
    idle_timeout: user.idle_timeout ?? pool.idle_timeout ?? general.idle_timeout,
    server_lifetime: user.server_lifetime ?? pool.server_lifetime ?? general.server_lifetime,
    healthcheck_timeout: general.healthcheck_timeout,
    healthcheck_delay: general.healthcheck_delay,
    ban_time: general.ban_time,
    server_round_robin: general.server_round_robin,
    load_balancing_mode: pool.load_balancing_mode,
    default_role: pool.default_role,
    query_parser_enabled: pool.query_parser_enabled,
    query_parser_max_length: pool.query_parser_max_length,
    read_write_splitting: pool.query_parser_read_write_splitting ?? pool.query_parser_enabled,
    primary_reads_enabled: pool.primary_reads_enabled,
    cleanup_server_connections: pool.cleanup_server_connections,
    log_client_parameter_status_changes: pool.log_client_parameter_status_changes,
    prepared_statements_cache_size: pool.prepared_statements_cache_size,
    // PgCat documents 0 as off.
    checkout_failure_limit: pool.checkout_failure_limit === 0 ? undefined : pool.checkout_failure_limit,
    idle_client_in_transaction_timeout:
      user.idle_client_in_transaction_timeout ??
      pool.idle_client_in_transaction_timeout ??
      general.idle_client_in_transaction_timeout,
    default_shard: defaultShard(pool.default_shard),
    sharding: {
      function: pool.sharding_function,
      automatic_key: pool.automatic_sharding_key,
      key_regex: pool.sharding_key_regex,
      id_regex: pool.shard_id_regex,
      regex_search_limit: pool.regex_search_limit,
    },
    activity: {
      enabled: pool.db_activity_based_routing,
      init_delay: pool.db_activity_init_delay,
      ttl: pool.db_activity_ttl,
      mutation_ttl: pool.table_mutation_cache_ms_ttl,
    },
    write_functions: pool.write_functions,
    read_functions: pool.read_functions,
    catalog_ttl: pool.catalog_ttl,
    limits: limitsOf(general, pool, user),
    log_min_duration_statement: pool.log_min_duration_statement ?? general.log_min_duration_statement,
    log_statement_as: pool.log_statement_as ?? general.log_statement_as,
    shards: shardsOf(pool),
    server_tls: serverTls(general, pool),
    server_require_auth: pool.server_require_auth ?? general.server_require_auth,
    server_scram_iterations_max: pool.server_scram_iterations_max ?? general.server_scram_iterations_max,
  };
}

function authQuery(general: Config['general'], name: string, pool: PoolConfig): AuthQuerySettings | undefined {
  const query = pool.auth_query ?? general.auth_query;
  const user = pool.auth_query_user ?? general.auth_query_user;
  const password = pool.auth_query_password ?? general.auth_query_password;
  if (query === undefined || user === undefined || password === undefined) return undefined;
  const [first] = shardsOf(pool);
  const database = pool.auth_query_database ?? general.auth_query_database ?? first?.database ?? name;
  return { query, user, password, database, pool: name };
}

function defaultShard(written: string): ClusterSettings['default_shard'] {
  if (written === 'random' || written === 'random_healthy') return written;
  return Number(written.slice('shard_'.length));
}

function shardsOf(pool: PoolConfig): ShardSettings[] {
  return Object.entries(pool.shards)
    .map(([number, { database, servers }]) => ({
      number: Number(number),
      database,
      // Mirrors take copies only, so they are no place to send a statement to.
      servers: servers.flatMap(({ host, port, role, weight }) =>
        role === 'mirror' ? [] : [{ host, port, role, weight }],
      ),
    }))
    .sort((a, b) => a.number - b.number);
}
