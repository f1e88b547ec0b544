/** The limits of clients, their time and memory, and of server connections: rows of the schema, and what comes of them. */
import type * as z from 'zod';
import { bytes, integer, milliseconds, type SettingInfo, settingInfo } from './setting.ts';

const AS_PGBOUNCER = 'As in PgBouncer, but in ms.';
const FROM_GENERAL = 'from [general]';
const FROM_POOL = 'from the pool';
const KIB = 1024;

/** Limits of [general]. */
export const generalLimits = {
  max_client_conn: integer(0).default(0).register(settingInfo, {
    reload: 'live',
    description:
      'Most clients of the process, those who log in included; another is refused with SQLSTATE 53300. The admin database is exempt. 0 is any number. As in PgBouncer.',
  }),
  query_wait_timeout: milliseconds(0)
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: '`connect_timeout`',
      description: `How long a statement may wait for a connection, also while its pool is paused; then it fails with SQLSTATE 58000. 0 is as long as it takes. ${AS_PGBOUNCER}`,
    }),
  query_wait_notify: milliseconds(0)
    .default(5000)
    .register(settingInfo, {
      reload: 'pools',
      description: `A client that has waited this long for a connection gets a NOTICE; 0 is never. ${AS_PGBOUNCER}`,
    }),
  query_timeout: milliseconds(0)
    .default(0)
    .register(settingInfo, {
      reload: 'pools',
      description: `Longest time from a statement's arrival to the end of its reply, its wait for a connection included; then it is canceled on the server and fails with SQLSTATE 57014. 0 is any. ${AS_PGBOUNCER}`,
    }),
  transaction_timeout: milliseconds(0)
    .default(0)
    .register(settingInfo, {
      reload: 'pools',
      description: `Longest time of a transaction; then it is rolled back, and its client is disconnected with SQLSTATE 25P04. 0 is any. ${AS_PGBOUNCER}`,
    }),
  client_idle_timeout: milliseconds(0)
    .default(0)
    .register(settingInfo, {
      reload: 'pools',
      description: `A client that sends nothing for this long outside a transaction is disconnected with SQLSTATE 57P05; 0 is never. ${AS_PGBOUNCER}`,
    }),
  max_client_prepared_statements: integer(0).default(10_000).register(settingInfo, {
    reload: 'pools',
    description:
      'Most prepared statements with names that one client may have; one more fails with SQLSTATE 53400. 0 is any number. pglynx only.',
  }),
  max_reply_memory: bytes(64 * KIB)
    .default(8192 * KIB)
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Most bytes of a reply that are kept for one client: that wait to be read while others wait for its connection (then it is disconnected with SQLSTATE 53400), or are kept back while the statement may be run once more. pglynx only.',
    }),
  max_waiting_clients: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      'Most statements that wait for a connection to one server in one pool; one more fails at once with SQLSTATE 53300. 0 is any number. Every pool starts from it. pglynx only.',
  }),
  reserve_pool_size: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      'Connections beyond `pool_size` that are opened for clients who have waited for `reserve_pool_timeout`. Every pool starts from it. As in PgBouncer.',
  }),
  reserve_pool_timeout: milliseconds(0)
    .default(5000)
    .register(settingInfo, {
      reload: 'pools',
      description: `How long a client waits before the reserve is opened for it, and how long that stays unused. ${AS_PGBOUNCER}`,
    }),
  max_server_connections: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      'Most connections to one server, by host and port, of all pools together; an idle one of another pool is closed to make room. 0 is any number. pglynx only.',
  }),
  max_db_connections: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      'Most connections of all users of a pool together to each server of each shard. 0 is any number. Every pool starts from it. As in PgBouncer.',
  }),
  max_user_connections: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      'Most connections of one user in all pools together to one server. 0 is any number. Every user starts from it. As in PgBouncer.',
  }),
  server_login_retry: milliseconds(1)
    .default(1000)
    .register(settingInfo, {
      reload: 'pools',
      description: `Longest pause between logins that a server refuses: the first is short, each is longer than the one before. Meanwhile clients are told what the server said, unless a connection is left to wait for. ${AS_PGBOUNCER}`,
    }),
};

/** Limits of a pool: of its own, and in place of those of [general]. */
export const poolLimits = {
  max_client_conn: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      "Most clients of the pool, of all users together; another is refused with SQLSTATE 53300. 0 is any number. PgBouncer's `max_db_client_connections`.",
  }),
  query_wait_timeout: time(FROM_GENERAL),
  query_timeout: time(FROM_GENERAL),
  transaction_timeout: time(FROM_GENERAL),
  client_idle_timeout: time(FROM_GENERAL),
  idle_client_in_transaction_timeout: time(FROM_GENERAL),
  max_waiting_clients: count(FROM_GENERAL),
  reserve_pool_size: count(FROM_GENERAL),
  max_db_connections: count(FROM_GENERAL),
};

/** Limits of a user of a pool: of its own, and in place of those of the pool. */
export const userLimits = {
  max_client_conn: integer(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      "Most clients of this user in this pool; another is refused with SQLSTATE 53300. 0 is any number. PgBouncer's `max_user_client_connections`, but for one pool.",
  }),
  query_wait_timeout: time(FROM_POOL),
  query_timeout: time(FROM_POOL),
  transaction_timeout: time(FROM_POOL),
  client_idle_timeout: time(FROM_POOL),
  idle_client_in_transaction_timeout: time(FROM_POOL),
  reserve_pool_size: count(FROM_POOL),
  max_user_connections: count(FROM_GENERAL),
};

/** Limits that hold for a cluster, its clients and its pools. Times in milliseconds; 0 is no limit unless said. */
export interface Limits {
  /** Clients of the pool, and of this user in it. */
  readonly max_pool_clients: number;
  readonly max_user_clients: number;
  /** Undefined where `connect_timeout` is the limit. */
  readonly query_wait_timeout: number | undefined;
  readonly query_wait_notify: number;
  readonly query_timeout: number;
  readonly transaction_timeout: number;
  readonly client_idle_timeout: number;
  readonly max_client_prepared_statements: number;
  /** Bytes. */
  readonly max_reply_memory: number;
  readonly max_waiting_clients: number;
  readonly reserve_pool_size: number;
  readonly reserve_pool_timeout: number;
  readonly max_server_connections: number;
  readonly max_db_connections: number;
  readonly max_user_connections: number;
  readonly server_login_retry: number;
}

type Values<Rows extends z.ZodRawShape> = z.output<z.ZodObject<Rows>>;

/** What holds for a user of a pool. */
export function limitsOf(
  general: Values<typeof generalLimits>,
  pool: Values<typeof poolLimits>,
  user: Values<typeof userLimits>,
): Limits {
  return {
    max_pool_clients: pool.max_client_conn,
    max_user_clients: user.max_client_conn,
    query_wait_timeout: user.query_wait_timeout ?? pool.query_wait_timeout ?? general.query_wait_timeout,
    query_wait_notify: general.query_wait_notify,
    query_timeout: user.query_timeout ?? pool.query_timeout ?? general.query_timeout,
    transaction_timeout: user.transaction_timeout ?? pool.transaction_timeout ?? general.transaction_timeout,
    client_idle_timeout: user.client_idle_timeout ?? pool.client_idle_timeout ?? general.client_idle_timeout,
    max_client_prepared_statements: general.max_client_prepared_statements,
    max_reply_memory: general.max_reply_memory,
    max_waiting_clients: pool.max_waiting_clients ?? general.max_waiting_clients,
    reserve_pool_size: user.reserve_pool_size ?? pool.reserve_pool_size ?? general.reserve_pool_size,
    reserve_pool_timeout: general.reserve_pool_timeout,
    max_server_connections: general.max_server_connections,
    max_db_connections: pool.max_db_connections ?? general.max_db_connections,
    max_user_connections: user.max_user_connections ?? general.max_user_connections,
    server_login_retry: general.server_login_retry,
  };
}

function time(unset: string) {
  return milliseconds(0).optional().register(settingInfo, overriding(unset));
}

function count(unset: string) {
  return integer(0).optional().register(settingInfo, overriding(unset));
}

function overriding(unset: string): SettingInfo {
  return { reload: 'pools', unset, description: `Overrides ${unset === FROM_POOL ? 'the pool' : '[general]'}.` };
}
