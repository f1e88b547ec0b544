/** The [pools.NAME] sections with their users, shards and servers. */
import * as z from 'zod';
import { poolEncryption } from './encryption.ts';
import { LOG_STATEMENT_AS } from './general.ts';
import { poolLimits, userLimits } from './limits.ts';
import { AUTH_TYPES, poolLogins } from './logins.ts';
import { pluginsSchema } from './plugins.ts';
import { choice, host, integer, milliseconds, regex, seconds, settingInfo, text, typeWords } from './setting.ts';

const FROM_GENERAL = 'from [general]';
const FROM_POOL = 'from the pool';
const LARGEST_POOL = 2 ** 32 - 1;
const LARGEST_WEIGHT = 1000;

const POOL_MODES = ['transaction', 'session'] as const;
const MULTIPLEXING = ['auto', 'off'] as const;
/** Most statements that may be under way on one connection. */
const DEEPEST = 1000;

/** Fields of a server written as a list, in order. */
export const SERVER_FIELDS = ['host', 'port', 'role', 'weight'];

/** Fields of a mirror written as a list, in order. */
export const MIRROR_FIELDS = ['host', 'port', 'mirroring_target_index'];

const serverSchema = z
  .preprocess(
    listed(SERVER_FIELDS, 3),
    z.strictObject(
      {
        host: host(),
        port: integer(1, 65535),
        role: choice(['primary', 'replica', 'mirror']),
        weight: integer(0, LARGEST_WEIGHT).default(1),
      },
      {
        error: issue =>
          issue.code === 'invalid_type' ? 'must be [host, port, role] or [host, port, role, weight]' : undefined,
      },
    ),
  )
  .register(typeWords, { words: '[host, port, role, weight]' });

const mirrorSchema = z
  .preprocess(
    listed(MIRROR_FIELDS),
    z.strictObject(
      { host: host(), port: integer(1, 65535), mirroring_target_index: integer(0) },
      { error: issue => (issue.code === 'invalid_type' ? 'must be [host, port, mirroring_target_index]' : undefined) },
    ),
  )
  .register(typeWords, { words: '[host, port, index]' });

/** The [pools.NAME.shards.N] sections. */
export const shardSchema = z.strictObject({
  database: text().register(settingInfo, {
    reload: 'pools',
    description: 'Name of the database on the servers; in `[pools."*"]` `*` is the name that the client asks for.',
  }),
  servers: z
    .array(serverSchema)
    .min(1)
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Each server is `[host, port, role]` or `{ host, port, role }`; role is "primary" (one at most), "replica" or "mirror". ' +
        'A fourth field `weight` (1 unless set) is its share of what several servers could serve; 0 is only when no other can.',
    }),
  mirrors: z.array(mirrorSchema).optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'Each is `[host, port, index]` and gets a copy of what the server of that index gets.',
  }),
});

/** The [pools.NAME.users.N] sections. */
export const userSchema = z.strictObject({
  username: text().register(settingInfo, {
    reload: 'pools',
    description: 'Name that the client logs in with; `*` is anybody else, whom `auth_query` knows.',
  }),
  password: z
    .string()
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      secret: true,
      unset: 'required unless `auth_type` is "trust", "cert" or "hba", or `auth_query` is set',
      description:
        'Password in plain text, or as a server keeps it: an md5 hash or a SCRAM verifier. With a verifier a client that has logged in logs in to servers that keep the same one. ' +
        '`password_file` may stand in its place.',
    }),
  password_file: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'File that holds `password`.',
  }),
  auth_type: choice(AUTH_TYPES)
    .default('md5')
    .register(settingInfo, {
      reload: 'pools',
      description:
        'How the client logs in to pglynx. "md5" is SCRAM for who has a SCRAM verifier; "cert" is a certificate signed by `tls_client_ca` ' +
        'whose common name is the user\'s; "hba" is what `auth_hba_file` says.',
    }),
  server_username: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: '`username`',
    description: 'Name that pglynx logs in to servers with.',
  }),
  server_password: z.string().optional().register(settingInfo, {
    reload: 'pools',
    secret: true,
    unset: '`password`',
    description: 'Password that pglynx logs in to servers with. `server_password_file` may stand in its place.',
  }),
  server_password_file: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'File that holds `server_password`.',
  }),
  pool_size: integer(1, LARGEST_POOL).register(settingInfo, {
    reload: 'pools',
    description: 'Most connections to each server of each shard, for this user.',
  }),
  min_pool_size: integer(0, LARGEST_POOL).optional().register(settingInfo, {
    reload: 'pools',
    unset: '0',
    description: 'Connections to each server that are kept open while nobody needs them.',
  }),
  pool_mode: choice(POOL_MODES).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'When a connection goes back to the pool.',
  }),
  multiplexing: choice(MULTIPLEXING).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'Whether clients share server connections.',
  }),
  multiplexing_max_depth: integer(1, DEEPEST).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'Overrides the pool.',
  }),
  multiplexing_max_wait: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'Overrides the pool.',
  }),
  statement_timeout: milliseconds(0).default(0).register(settingInfo, {
    reload: 'pools',
    description:
      'Longest time a server may work on a statement; then pglynx cancels it, and it fails with SQLSTATE 57014. 0 is any.',
  }),
  connect_timeout: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'Overrides the pool.',
  }),
  idle_timeout: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'Overrides the pool.',
  }),
  server_lifetime: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_POOL,
    description: 'Overrides the pool.',
  }),
  ...userLimits,
});

const pooling = {
  pool_mode: choice(POOL_MODES).default('transaction').register(settingInfo, {
    reload: 'pools',
    description: 'When a connection goes back to the pool: at the end of each transaction, or when the client leaves.',
  }),
  multiplexing: choice(MULTIPLEXING)
    .default('auto')
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Whether statements of different clients are sent one behind another on the same connection: those that stand alone, ' +
        'are short and leave nothing behind, as the grammar tells (`auto`, in transaction mode), or none (`off`). For `auto` ' +
        'statements are parsed also where `query_parser_enabled` is off.',
    }),
  multiplexing_max_depth: integer(1, DEEPEST).default(32).register(settingInfo, {
    reload: 'pools',
    description: 'Most statements under way on one shared connection.',
  }),
  multiplexing_max_wait: milliseconds(1).default(10).register(settingInfo, {
    reload: 'pools',
    description:
      'Nothing is sent behind statements that take longer than this together; a read that has waited so long behind a slow one is run on another connection.',
  }),
  load_balancing_mode: choice(['random', 'loc', 'p2c'], { least_outstanding_connections: 'loc' })
    .default('random')
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Which of the servers that may run a statement gets it: any (`random`), the one with fewest busy connections (`loc`), ' +
        'or of two taken at random the one with the shorter expected wait (`p2c`).',
    }),
  connect_timeout: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general].',
  }),
  idle_timeout: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general].',
  }),
  server_lifetime: milliseconds(1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general].',
  }),
  checkout_failure_limit: integer(0).optional().register(settingInfo, {
    reload: 'pools',
    unset: 'off',
    description: 'Disconnect a client after this many failures to get a connection; 0 is off.',
  }),
  cleanup_server_connections: z.boolean().default(true).register(settingInfo, {
    reload: 'pools',
    description: 'Reset the session state that a client changed before another client gets the connection.',
  }),
  log_min_duration_statement: milliseconds(-1).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general]. pglynx only.',
  }),
  log_statement_as: choice(LOG_STATEMENT_AS).optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general]. pglynx only.',
  }),
  log_client_parameter_status_changes: z.boolean().default(false).register(settingInfo, {
    reload: 'pools',
    description: "Log each change of a client's session parameters at level info.",
  }),
  prepared_statements_cache_size: integer(0)
    .default(500)
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Prepared statements kept on each server connection in transaction mode; 0 switches their support off. ' +
        "PgCat's default is 0.",
    }),
};

const routing = {
  default_role: choice(['any', 'primary', 'replica']).default('any').register(settingInfo, {
    reload: 'pools',
    description: 'Where statements go that nothing else routes.',
  }),
  query_parser_enabled: z.boolean().default(false).register(settingInfo, {
    reload: 'pools',
    description: 'Parse statements.',
  }),
  query_parser_read_write_splitting: z.boolean().optional().register(settingInfo, {
    reload: 'pools',
    unset: '`query_parser_enabled`',
    description: 'Send reads to replicas and everything else to the primary. Needs `query_parser_enabled`.',
  }),
  query_parser_max_length: integer(0).optional().register(settingInfo, {
    reload: 'pools',
    unset: 'unlimited',
    description: 'Messages longer than this are not parsed.',
  }),
  primary_reads_enabled: z.boolean().default(false).register(settingInfo, {
    reload: 'pools',
    description: 'Reads may go to the primary too.',
  }),
  write_functions: z.array(z.string()).default([]).register(settingInfo, {
    reload: 'pools',
    description: 'Functions, `name` or `schema.name`, that make a statement a write whatever the catalog says.',
  }),
  read_functions: z.array(z.string()).default([]).register(settingInfo, {
    reload: 'pools',
    description: 'Functions, `name` or `schema.name`, that a replica may run whatever the catalog says.',
  }),
  catalog_ttl: milliseconds(1000).default(60_000).register(settingInfo, {
    reload: 'pools',
    description:
      "Age at which what pglynx knows of the database's own functions, views and tables is read again; DDL through pglynx does so at once.",
  }),
  db_activity_based_routing: z.boolean().default(false).register(settingInfo, {
    reload: 'pools',
    description: 'Send reads of tables that were just written to the primary. Needs `query_parser_enabled`.',
  }),
  db_activity_init_delay: milliseconds(0).default(100).register(settingInfo, {
    reload: 'pools',
    description: 'How long all reads go to the primary after a time without activity.',
  }),
  db_activity_ttl: seconds(0).default(900).register(settingInfo, {
    reload: 'pools',
    description: 'Silence after which a database counts as inactive.',
  }),
  table_mutation_cache_ms_ttl: milliseconds(0).default(50).register(settingInfo, {
    reload: 'pools',
    description: 'How long a table counts as just written.',
  }),
};

const sharding = {
  default_shard: z
    .string()
    .regex(/^(shard_\d+|random|random_healthy)$/, 'must be "shard_N", "random" or "random_healthy"')
    .default('shard_0')
    .register(settingInfo, {
      reload: 'pools',
      description: 'Shard of statements that name none: `shard_N`, `random` or `random_healthy`.',
    }),
  sharding_function: choice(['pg_bigint_hash', 'pg_text_hash', 'pg_uuid_hash', 'sha1'])
    .default('pg_bigint_hash')
    .register(settingInfo, {
      reload: 'pools',
      description:
        'How a key becomes a shard: as PARTITION BY HASH does for a `bigint` (also `integer`, `smallint`), `text` (also ' +
        '`varchar`) or `uuid`, or `sha1` of an integer.',
    }),
  automatic_sharding_key: z
    .string()
    .transform(shardingKey)
    .refine(
      key => /^(\*|([^.*]+\.)?[^.*]+)\.[^.*]+$/.test(key),
      'must be "table.column", "schema.table.column", "*.column" or "column"',
    )
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: 'none',
      description:
        'Column that holds the sharding key: `table.column`, `schema.table.column`, or `*.column` or `column` for any table. ' +
        'Needs `query_parser_enabled`.',
    }),
  sharding_key_regex: regex().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'Finds a sharding key in a comment; the first group is the key.',
  }),
  shard_id_regex: regex().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'Finds a shard number in a comment; the first group is the number.',
  }),
  regex_search_limit: integer(0, 65_536).default(1000).register(settingInfo, {
    reload: 'pools',
    description: 'Bytes at the start of a statement in which the two expressions look.',
  }),
};

/** The [pools.NAME] sections. */
export const poolSchema = z.strictObject({
  ...pooling,
  ...routing,
  ...sharding,
  ...poolLogins,
  ...poolLimits,
  ...poolEncryption,
  plugins: pluginsSchema.optional().register(settingInfo, {
    reload: 'pools',
    unset: '[plugins]',
    description: 'Plugins of this pool, in place of [plugins]. Needs `query_parser_enabled`.',
  }),
  users: z.record(z.string(), userSchema).register(settingInfo, {
    reload: 'pools',
    description: 'One table a user; its name is free, usually a number.',
  }),
  shards: z.record(z.string(), shardSchema).register(settingInfo, {
    reload: 'pools',
    description: 'One table a shard, named 0, 1, 2 and so on without a gap.',
  }),
});

/** Makes a table of a list of all `fields`, or of the first `required` of them and some more. */
function listed(fields: readonly string[], required = fields.length): (value: unknown) => unknown {
  return value =>
    Array.isArray(value) && value.length >= required && value.length <= fields.length
      ? Object.fromEntries(value.map((item: unknown, index) => [fields[index], item]))
      : value;
}

/** PgCat compares names in lower case and without quotes; its configuration of 2022 had a column alone. */
function shardingKey(written: string): string {
  const key = written.replaceAll('"', '').toLowerCase();
  return key.includes('.') || key === '' ? key : `*.${key}`;
}
