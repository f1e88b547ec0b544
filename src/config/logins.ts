/** The keys about who may come in and how it is proved, of [general] and of the pools. */
import * as z from 'zod';
import { choice, integer, milliseconds, settingInfo, text } from './setting.ts';

/** How clients prove who they are. */
export const AUTH_TYPES = ['md5', 'scram-sha-256', 'trust', 'cert', 'hba'] as const;

const INHERITED = 'Every pool starts from it.';
const FROM_GENERAL = 'from [general]';

/** Those of [general]. */
export const generalLogins = {
  admin_username: text().register(settingInfo, {
    reload: 'live',
    description: 'Who may log in to the admin database, `pgcat` or `pgbouncer`.',
  }),
  admin_password: z.string().register(settingInfo, {
    reload: 'live',
    secret: true,
    description: 'Password of `admin_username`. `admin_password_file` may stand in its place.',
  }),
  admin_password_file: text().optional().register(settingInfo, {
    reload: 'live',
    unset: 'none',
    description: 'File that holds `admin_password`.',
  }),
  admin_auth_type: choice(AUTH_TYPES).default('md5').register(settingInfo, {
    reload: 'live',
    description: 'How `admin_username` logs in: as `auth_type` of a user. With "trust" anybody is let in.',
  }),
  auth_hba_file: text()
    .optional()
    .register(settingInfo, {
      reload: 'live',
      unset: 'none',
      description:
        'File in the format of PostgreSQL\'s `pg_hba.conf`, for users with the `auth_type` "hba": its first line that fits a client says ' +
        'how it logs in. Types `local`, `host`, `hostssl`, `hostnossl`; methods `trust`, `reject`, `md5`, `scram-sha-256`, `cert`, `peer`. pglynx only.',
    }),
  stats_username: text().optional().register(settingInfo, {
    reload: 'live',
    unset: 'none',
    description:
      'Who else may log in to the admin database, as `admin_username` does, to SHOW and nothing else. pglynx only.',
  }),
  stats_password: z.string().optional().register(settingInfo, {
    reload: 'live',
    secret: true,
    unset: 'required with `stats_username`',
    description: 'Password of `stats_username`. `stats_password_file` may stand in its place. pglynx only.',
  }),
  stats_password_file: text().optional().register(settingInfo, {
    reload: 'live',
    unset: 'none',
    description: 'File that holds `stats_password`. pglynx only.',
  }),
  auth_query: text()
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: 'none',
      description: `Query that asks the servers for the password of a user that has none in the file: its \`$1\` (or \`'$1'\`) is the name, and it returns one row of name and md5 hash or SCRAM verifier, or none. Whether a password has expired is for it to look at (\`valuntil\`). A client that logs in with SCRAM logs in to servers that keep the same verifier. ${INHERITED}`,
    }),
  auth_query_user: text()
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: 'none',
      description: `Who runs \`auth_query\`. ${INHERITED}`,
    }),
  auth_query_password: z
    .string()
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: 'none',
      secret: true,
      description: `Password of \`auth_query_user\`. ${INHERITED}`,
    }),
  auth_query_password_file: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'File that holds `auth_query_password`.',
  }),
  auth_query_database: text()
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: 'that of the first shard; `postgres` for `[pools."*"]`',
      description: `Database on the servers in which \`auth_query\` runs. ${INHERITED} pglynx only.`,
    }),
  auth_query_ttl: milliseconds(0).default(1000).register(settingInfo, {
    reload: 'live',
    description:
      'How long what `auth_query` has returned is used without asking again. A login that fails asks again at once. pglynx only.',
  }),
  autodb_idle_timeout: milliseconds(1000).default(3_600_000).register(settingInfo, {
    reload: 'live',
    description: 'A pool made for `*` that no client has used for this long is removed. pglynx only.',
  }),
  autodb_max_pools: integer(1, 100_000).default(1000).register(settingInfo, {
    reload: 'live',
    description:
      'Most pools made for `*`; past it the one that nobody has used for longest goes, and when all are in use the login is refused. pglynx only.',
  }),
  login_failure_limit: integer(0)
    .default(20)
    .register(settingInfo, {
      reload: 'live',
      description:
        'Failed logins of one user from one address after which more are refused unseen, and ten times as many of all users from one address; 0 is any. ' +
        'Other addresses are not concerned. pglynx only.',
    }),
  login_failure_interval: milliseconds(1).default(1000).register(settingInfo, {
    reload: 'live',
    description:
      'How long it takes until `login_failure_limit` lets one more in; a login that succeeds lifts it. pglynx only.',
  }),
};

/** Those of a pool. */
export const poolLogins = {
  auth_query: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general].',
  }),
  auth_query_user: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general].',
  }),
  auth_query_password: z.string().optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    secret: true,
    description: 'Overrides [general].',
  }),
  auth_query_password_file: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'File that holds `auth_query_password`.',
  }),
  auth_query_database: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: FROM_GENERAL,
    description: 'Overrides [general]. pglynx only.',
  }),
};
