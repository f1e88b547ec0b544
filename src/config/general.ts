/** The [general] section: where pglynx listens, and what every pool starts from. */
import * as z from 'zod';
import { clientEncryption, serverEncryption } from './encryption.ts';
import { generalLimits } from './limits.ts';
import { generalLogins } from './logins.ts';
import {
  bytes,
  choice,
  directory,
  hosts,
  integer,
  interval,
  milliseconds,
  permissions,
  seconds,
  settingInfo,
  text,
} from './setting.ts';

const INHERITED = 'Every pool starts from it.';

/** How SQL is shown in the log. */
export const LOG_STATEMENT_AS = ['template', 'text'] as const;

const listening = {
  host: hosts().default(['0.0.0.0']).register(settingInfo, {
    reload: 'restart',
    description:
      'Addresses and names to listen on: a list, or a string with commas. `*` is every address of the machine, IPv4 and IPv6.',
  }),
  port: integer(0, 65535).default(5432).register(settingInfo, {
    reload: 'restart',
    description: 'Port to listen on; 0 takes any free one.',
  }),
  unix_socket_dir: directory().optional().register(settingInfo, {
    reload: 'restart',
    unset: 'no Unix socket',
    description:
      'Directory of a Unix socket `.s.PGSQL.<port>` to listen on as well. `host = []` listens on nothing else.',
  }),
  unix_socket_mode: permissions().default('0777').register(settingInfo, {
    reload: 'restart',
    description: 'Permissions of the Unix socket.',
  }),
  enable_prometheus_exporter: z.boolean().optional().register(settingInfo, {
    reload: 'live',
    unset: 'off',
    description:
      'Serve [metrics](METRICS.md), the state of the process and the tables of the admin database over HTTP, to whoever can connect.',
  }),
  prometheus_exporter_port: integer(0, 65535).default(9930).register(settingInfo, {
    reload: 'live',
    description: 'Port of the metrics, on `host`; 0 takes any free one.',
  }),
  worker_threads: integer(1).default(4).register(settingInfo, {
    reload: 'restart',
    description: 'Workers that share the port.',
  }),
  log_client_connections: z.boolean().default(false).register(settingInfo, {
    reload: 'live',
    description: 'Log each client that connects at level info rather than debug.',
  }),
  log_client_disconnections: z.boolean().default(false).register(settingInfo, {
    reload: 'live',
    description: 'Log each client that disconnects at level info rather than debug.',
  }),
  log_file: text().optional().register(settingInfo, {
    reload: 'restart',
    unset: 'standard output',
    description: 'File that the log is appended to, opened anew on SIGHUP. `--log-file` overrules it. pglynx only.',
  }),
  log_min_duration_statement: milliseconds(-1)
    .default(-1)
    .register(settingInfo, {
      reload: 'pools',
      description: `Log what takes this long or longer, from its sending to the end of the reply; 0 is everything, -1 nothing. ${INHERITED} pglynx only.`,
    }),
  log_statement_as: choice(LOG_STATEMENT_AS)
    .default('template')
    .register(settingInfo, {
      reload: 'pools',
      description:
        'How `log_min_duration_statement` shows SQL: without literals, so that no data gets into the log, or as it was sent. ' +
        `Values of parameters are never shown, nor the literals of a text in which a password may be. ${INHERITED} pglynx only.`,
    }),
  shutdown_timeout: milliseconds(0).default(60_000).register(settingInfo, {
    reload: 'live',
    description: 'How long clients may finish their transactions after SIGINT, SIGTERM or SHUTDOWN.',
  }),
  sigterm: choice(['drain', 'immediate']).default('drain').register(settingInfo, {
    reload: 'live',
    description:
      'What SIGTERM does: `drain` lets transactions end, as SIGINT does; `immediate` does not, as in PgCat. pglynx only.',
  }),
  suspend_timeout: milliseconds(1).default(10_000).register(settingInfo, {
    reload: 'live',
    description:
      'How long SUSPEND waits for clients to take their replies; who has not by then is disconnected. pglynx only.',
  }),
  autoreload: interval().optional().register(settingInfo, {
    reload: 'live',
    unset: 'off',
    description: 'Read the file again this often and apply what changed. `true` is every 15000 ms, `false` is never.',
  }),
};

const pooling = {
  connect_timeout: milliseconds(1)
    .default(1000)
    .register(settingInfo, {
      reload: 'pools',
      description: `How long a client may wait for a connection to one server: queue, connect and login. ${INHERITED}`,
    }),
  idle_timeout: milliseconds(1)
    .default(600_000)
    .register(settingInfo, {
      reload: 'pools',
      description: `A server connection that was idle this long is closed. ${INHERITED}`,
    }),
  server_lifetime: milliseconds(1)
    .default(3_600_000)
    .register(settingInfo, {
      reload: 'pools',
      description: `A server connection older than this is closed when it is free. ${INHERITED}`,
    }),
  server_round_robin: z.boolean().default(true).register(settingInfo, {
    reload: 'pools',
    description:
      'Take the connection of a pool that was idle longest (true) or shortest (false). It does not choose between servers.',
  }),
  healthcheck_timeout: milliseconds(1).default(1000).register(settingInfo, {
    reload: 'pools',
    description: 'A health check that takes longer has failed.',
  }),
  healthcheck_delay: milliseconds(0).default(30_000).register(settingInfo, {
    reload: 'pools',
    description: 'A connection that was idle longer than this is checked before a client gets it.',
  }),
  ban_time: seconds(0).default(60).register(settingInfo, {
    reload: 'pools',
    description: 'How long a replica that failed takes no reads. The primary is never banned.',
  }),
  idle_client_in_transaction_timeout: milliseconds(0).default(0).register(settingInfo, {
    reload: 'pools',
    description: 'A client that holds a server connection and sends nothing for this long loses it; 0 is never.',
  }),
  validate_config: z.boolean().default(true).register(settingInfo, {
    reload: 'pools',
    description: 'Connect to every server at the start, rather than when the first client comes.',
  }),
};

const network = {
  tcp_keepalives_idle: seconds(0).default(5).register(settingInfo, {
    reload: 'live',
    description: 'Silence on a connection before TCP asks whether the other side is there; 0 leaves it to the system.',
  }),
  tcp_keepalives_count: integer(0).default(5).register(settingInfo, {
    reload: 'live',
    description: 'Unanswered keepalives that end a connection; 0 is 10. Before Node 24.19 it is always 10.',
  }),
  tcp_keepalives_interval: seconds(0).default(5).register(settingInfo, {
    reload: 'live',
    description: 'Time between two keepalives; 0 is 1 s. Before Node 24.19 it is always 1 s.',
  }),
  tcp_user_timeout: milliseconds(0).default(10_000).register(settingInfo, {
    reload: 'live',
    description:
      'A connection is closed when what was sent stays unacknowledged this long, though the system tries again; 0 leaves it to the system. On Linux only, where pglynx looks for itself every few seconds, since Node cannot set TCP_USER_TIMEOUT; a client that is alive and does not read is no such case.',
  }),
  dns_cache_enabled: z.boolean().default(false).register(settingInfo, {
    reload: 'live',
    description:
      'Remember the addresses of server names. Connections to an address that a name no longer has take no more work and are closed when they are free.',
  }),
  dns_max_ttl: seconds(1).default(30).register(settingInfo, {
    reload: 'live',
    description: 'How often remembered names are looked up again.',
  }),
  ...clientEncryption,
  ...serverEncryption,
};

const limits = {
  max_message_size: bytes(8192, 2 ** 30 - 1)
    .default(16 * 2 ** 20)
    .register(settingInfo, {
      reload: 'live',
      description:
        'Longest message that pglynx holds whole, such as a Parse. A longer one is refused with SQLSTATE 08P01. pglynx only.',
    }),
  client_login_timeout: milliseconds(0).default(60_000).register(settingInfo, {
    reload: 'live',
    description:
      'A client that has not proved who it is after this long is disconnected with SQLSTATE 57014; 0 is never. As in PgBouncer, but in ms.',
  }),
  query_analysis_max_length: bytes(0).default(8192).register(settingInfo, {
    reload: 'live',
    description:
      'Longest SQL text that is parsed for routing. A longer one goes to the primary. pglynx only. `query_parser_max_length` of a pool can lower it.',
  }),
};

/** The [general] section. */
export const generalSchema = z.strictObject({
  ...listening,
  ...pooling,
  ...network,
  ...generalLogins,
  ...limits,
  ...generalLimits,
});
