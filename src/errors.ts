/** Every error pglynx raises towards a client: name, SQLSTATE, severity, message, hint and the setting to change. */

/** ERROR ends the statement, FATAL the client's connection. */
export type Severity = 'ERROR' | 'FATAL';

/** One row of the table. `%s` in message and hint are filled in order by {@link pgError}. */
export interface ErrorKind {
  readonly sqlstate: string;
  readonly severity: Severity;
  readonly message: string;
  readonly hint?: string;
  /** The configuration key whose change makes this error rarer. */
  readonly setting?: string;
}

/**
 * The table. SQLSTATEs are PostgreSQL's (appendix A of its manual); 58000 stays where PgCat's users test for it
 * (checkout failure, admin errors, idle transaction timeout).
 */
export const ERRORS = {
  protocol_violation: {
    sqlstate: '08P01',
    severity: 'FATAL',
    message: '%s',
  },
  message_too_large: {
    sqlstate: '08P01',
    severity: 'FATAL',
    message: 'a message of type %s and %s bytes is longer than the %s allowed here',
    setting: 'general.max_message_size',
  },
  unsupported_protocol: {
    sqlstate: '0A000',
    severity: 'FATAL',
    message: 'unsupported frontend protocol %s: server supports 3.0 to 3.2',
  },
  tls_failed: {
    sqlstate: '08P01',
    severity: 'FATAL',
    message: 'TLS with the client failed: %s',
  },
  tls_required: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'connections must be encrypted',
    hint: 'Connect with sslmode=require.',
    setting: 'general.tls_mode',
  },
  client_certificate_refused: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'the certificate of the client does not count: %s',
    setting: 'general.tls_client_ca',
  },
  no_user_name: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'no PostgreSQL user name specified in startup packet',
  },
  authentication_failed: {
    sqlstate: '28P01',
    severity: 'FATAL',
    message: 'password authentication failed for user "%s"',
  },
  unknown_database: {
    sqlstate: '3D000',
    severity: 'FATAL',
    message: 'no pool configured for database: "%s", user: "%s"',
    hint: 'Databases are the [pools.NAME] sections of the configuration file; SHOW DATABASES in the admin database lists them.',
    setting: 'pools',
  },
  login_rejected: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'a line of auth_hba_file rejects the connection from %s of user "%s" to database "%s", %s',
    setting: 'general.auth_hba_file',
  },
  no_login_line: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'auth_hba_file has no line for a connection from %s of user "%s" to database "%s", %s',
    setting: 'general.auth_hba_file',
  },
  certificate_missing: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'connection requires a valid client certificate',
    hint: 'One that tls_client_ca has signed.',
  },
  certificate_failed: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'certificate authentication failed for user "%s"',
    hint: "The common name of the client's certificate must be the name of the user.",
  },
  peer_failed: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'Peer authentication failed for user "%s"',
    hint: 'The user of the operating system at the other end of the Unix socket must have that name.',
  },
  too_many_failed_logins: {
    sqlstate: '28000',
    severity: 'FATAL',
    message: 'too many failed logins from this address for user "%s"',
    hint: 'Wait for login_failure_interval, and correct the password.',
    setting: 'general.login_failure_limit',
  },
  too_many_pools: {
    sqlstate: '53300',
    severity: 'FATAL',
    message: 'all %s pools that may be made for "*" are in use',
    setting: 'general.autodb_max_pools',
  },
  replication_unsupported: {
    sqlstate: '0A000',
    severity: 'FATAL',
    message: 'replication connections are not supported',
    hint: 'Connect to the PostgreSQL server itself for replication.',
  },
  too_many_clients: {
    sqlstate: '53300',
    severity: 'FATAL',
    message: 'no more connections allowed: max_client_conn (%s) is reached',
    setting: 'general.max_client_conn',
  },
  too_many_pool_clients: {
    sqlstate: '53300',
    severity: 'FATAL',
    message: 'no more connections allowed: max_client_conn (%s) of the pool "%s" is reached',
    setting: 'pools.NAME.max_client_conn',
  },
  too_many_user_clients: {
    sqlstate: '53300',
    severity: 'FATAL',
    message: 'no more connections allowed: max_client_conn (%s) of the user "%s" in the pool "%s" is reached',
    setting: 'pools.NAME.users.N.max_client_conn',
  },
  login_timeout: {
    sqlstate: '57014',
    severity: 'FATAL',
    message: 'canceling authentication due to client_login_timeout (%s ms)',
    setting: 'general.client_login_timeout',
  },
  shutting_down: {
    sqlstate: '57P01',
    severity: 'FATAL',
    message: 'terminating connection due to administrator command',
  },
  cannot_connect_now: {
    sqlstate: '57P03',
    severity: 'FATAL',
    message: 'the pooler is shutting down',
  },
  killed: {
    sqlstate: '57P01',
    severity: 'FATAL',
    message: 'terminating connection due to administrator command: %s in the admin database',
  },
  database_disabled: {
    sqlstate: '55000',
    severity: 'FATAL',
    message: 'database "%s" is not currently accepting connections',
    hint: 'DISABLE was run in the admin database; ENABLE lifts it.',
  },
  checkout_failed: {
    sqlstate: '58000',
    severity: 'ERROR',
    message: 'could not get connection from the pool - %s',
  },
  query_wait_timeout: {
    sqlstate: '58000',
    severity: 'ERROR',
    message: 'could not get connection from the pool - none became free in query_wait_timeout (%s ms)%s',
    setting: 'general.query_wait_timeout',
  },
  queue_full: {
    sqlstate: '53300',
    severity: 'ERROR',
    message: 'could not get connection from the pool - %s',
    hint: 'As many statements as max_waiting_clients allows wait for a connection already.',
    setting: 'general.max_waiting_clients',
  },
  server_login_failed: {
    sqlstate: '28000',
    severity: 'ERROR',
    message: 'could not get connection from the pool - %s',
    hint: 'The server refused a login of pglynx, not that of the client; the SQLSTATE and the last words are its own.',
    setting: 'pools.NAME.users.N.server_password',
  },
  checkout_limit: {
    sqlstate: '58000',
    severity: 'FATAL',
    message: 'checkout failure limit reached (%s / %s)',
    setting: 'pools.NAME.checkout_failure_limit',
  },
  pool_removed: {
    sqlstate: '58000',
    severity: 'FATAL',
    message: 'No pool configured for database: %s, user: %s',
    hint: 'The pool was taken out of the configuration by a reload.',
    setting: 'pools',
  },
  idle_in_transaction: {
    sqlstate: '58000',
    severity: 'ERROR',
    message: 'idle transaction timeout',
    hint: 'The transaction was rolled back after idle_client_in_transaction_timeout.',
    setting: 'general.idle_client_in_transaction_timeout',
  },
  statement_timeout: {
    sqlstate: '57014',
    severity: 'ERROR',
    message: 'pool statement timeout: a server worked on it for statement_timeout (%s ms)',
    setting: 'pools.NAME.users.N.statement_timeout',
  },
  query_timeout: {
    sqlstate: '57014',
    severity: 'ERROR',
    message: 'pool query timeout: it was not done in query_timeout (%s ms)',
    setting: 'general.query_timeout',
  },
  transaction_timeout: {
    sqlstate: '25P04',
    severity: 'FATAL',
    message: 'terminating connection due to transaction_timeout (%s ms)',
    hint: 'The transaction was rolled back.',
    setting: 'general.transaction_timeout',
  },
  client_idle: {
    sqlstate: '57P05',
    severity: 'FATAL',
    message: 'terminating connection due to client_idle_timeout (%s ms)',
    setting: 'general.client_idle_timeout',
  },
  query_canceled: {
    sqlstate: '57014',
    severity: 'ERROR',
    message: 'canceling statement due to user request',
  },
  server_lost: {
    sqlstate: '08006',
    severity: 'ERROR',
    message: 'the connection to server %s was lost: %s',
  },
  server_lost_in_transaction: {
    sqlstate: '08006',
    severity: 'FATAL',
    message: 'the connection to server %s was lost inside a transaction, a result or a pipeline: %s',
    hint: 'An open transaction was rolled back. Connect again and repeat it.',
  },
  outcome_unknown: {
    sqlstate: '08007',
    severity: 'ERROR',
    message: 'the connection to server %s was lost, and whether the statement took effect is unknown: %s',
    hint: 'Check the data before you repeat the statement.',
  },
  reply_unread: {
    sqlstate: '53400',
    severity: 'FATAL',
    message: 'the client does not read its reply, of which %s bytes wait, while others wait for the connection',
    hint: 'Read replies as they come, or turn multiplexing off for this user.',
    setting: 'general.max_reply_memory',
  },
  too_many_statements: {
    sqlstate: '53400',
    severity: 'ERROR',
    message: 'the client has as many prepared statements as max_client_prepared_statements allows (%s)',
    hint: 'Close or deallocate those that are not needed any more.',
    setting: 'general.max_client_prepared_statements',
  },
  parameter_refused: {
    sqlstate: '22023',
    severity: 'ERROR',
    message: '%s',
    hint: 'The server refused a setting that this client asked for when it connected.',
  },
  invalid_startup_option: {
    sqlstate: '42601',
    severity: 'FATAL',
    message: '%s',
    hint: "The startup parameter 'options' takes -c name=value and --name=value.",
  },
  unknown_setting: {
    sqlstate: '42704',
    severity: 'FATAL',
    message: 'unrecognized configuration parameter "%s"',
  },
  feature_not_supported: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: '%s',
  },
  several_shards: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'the rows of this statement belong to several shards: %s (%s)',
    hint: 'Run one statement for each shard.',
    setting: 'pools.NAME.automatic_sharding_key',
  },
  every_shard: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'the rows of this statement may be on every shard: %s',
    hint: 'Give the sharding key a value in the statement, or choose a shard: SET SHARD TO n, SET SHARDING KEY TO value, or a comment /* pglynx: shard=n */.',
    setting: 'pools.NAME.automatic_sharding_key',
  },
  shard_refused: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'the shard of this statement cannot be known: %s',
    hint: 'Choose a shard first: SET SHARD TO n, SET SHARDING KEY TO value, or a comment /* pglynx: shard=n */.',
    setting: 'pools.NAME.automatic_sharding_key',
  },
  key_updated: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'the sharding key cannot be updated: %s',
    hint: 'Delete the row and insert it again: its new key may belong to another shard.',
    setting: 'pools.NAME.automatic_sharding_key',
  },
  key_elsewhere: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: '%s belongs to shard %s, but shard %s was chosen by %s',
    hint: 'Choose the shard of the row, or none: SET SHARD TO DEFAULT.',
  },
  other_shard: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'the transaction is on shard %s and cannot go on with shard %s (%s)',
    hint: 'A transaction has one shard, which is chosen in front of it or by its first statement.',
  },
  unknown_shard: {
    sqlstate: '22023',
    severity: 'ERROR',
    message: 'shard %s is not configured: the pool has %s, and the first is 0%s',
  },
  invalid_command: {
    sqlstate: '22023',
    severity: 'ERROR',
    message: '%s',
  },
  invalid_comment: {
    sqlstate: '22023',
    severity: 'ERROR',
    message: 'a pglynx comment is wrong: %s',
    hint: 'It reads /* pglynx: role=replica shard=2 key=5 */, with any of the three.',
  },
  command_in_transaction: {
    sqlstate: '25001',
    severity: 'ERROR',
    message: '%s cannot run inside a transaction block',
    hint: 'A transaction stays on the server where it began. Run the command before BEGIN.',
  },
  in_failed_transaction: {
    sqlstate: '25P02',
    severity: 'ERROR',
    message: 'current transaction is aborted, commands ignored until end of transaction block',
  },
  command_in_session: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'this client keeps its connection to %s, so it cannot choose another server any more',
    hint: 'In session mode choose in front of the first statement.',
  },
  too_many_portals: {
    sqlstate: '54000',
    severity: 'ERROR',
    message: 'a batch has more than %s portals of routing commands',
  },
  command_in_batch: {
    sqlstate: '0A000',
    severity: 'ERROR',
    message: 'a routing command and a statement for a server cannot be in one batch',
    hint: 'Send a Sync between them.',
  },
  server_refused: {
    sqlstate: '58000',
    severity: 'ERROR',
    message: '%s',
  },
  syntax_error: {
    sqlstate: '42601',
    severity: 'ERROR',
    message: '%s',
    hint: 'pglynx itself says so: it must parse a statement to find its shard.',
  },
  admin_error: {
    sqlstate: '58000',
    severity: 'ERROR',
    message: '%s',
  },
  show_only: {
    sqlstate: '42501',
    severity: 'ERROR',
    message: 'this user may only SHOW',
    hint: 'admin_username may do the rest.',
    setting: 'general.admin_username',
  },
  internal: {
    sqlstate: 'XX000',
    severity: 'FATAL',
    message: 'internal error: %s',
    hint: 'Please report this; the log holds the details.',
  },
} as const satisfies Record<string, ErrorKind>;

/** A name in {@link ERRORS}. */
export type ErrorName = keyof typeof ERRORS;

/** An error with everything an ErrorResponse carries. */
export class PgError extends Error {
  readonly kind: ErrorName;
  sqlstate: string;
  severity: Severity;
  readonly hint: string | undefined;
  readonly setting: string | undefined;

  constructor(kind: ErrorName, values: readonly (string | number)[]) {
    const row: ErrorKind = ERRORS[kind];
    super(fill(row.message, values));
    this.name = 'PgError';
    this.kind = kind;
    this.sqlstate = row.sqlstate;
    this.severity = row.severity;
    this.hint = row.hint;
    this.setting = row.setting;
  }
}

/** Makes the error `kind`, its `%s` filled with `values` in order. */
export function pgError(kind: ErrorName, ...values: (string | number)[]): PgError {
  return new PgError(kind, values);
}

/** What went wrong, in words, for any thrown value. */
export function errorText(thrown: unknown): string {
  // A name with several addresses, none of which could be reached.
  if (thrown instanceof AggregateError) return thrown.errors.map(errorText).join('; ');
  return thrown instanceof Error ? thrown.message : String(thrown);
}

function fill(text: string, values: readonly (string | number)[]): string {
  let next = 0;
  return text.replaceAll('%s', () => String(values[next++] ?? ''));
}
