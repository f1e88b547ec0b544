/** The configuration with which the demo's proxy serves its cluster, as a user would write it. */
import type { DemoCluster } from './cluster.ts';

/** What the demo's clients use: the database, its owner and the owner's password. */
export const DEMO_USER = 'demo';

/** The name and the password of the demo's admin user. */
export const DEMO_ADMIN = 'admin';

/** How long Ctrl-C waits for open transactions. */
const SHUTDOWN_MS = 2000;

/** The text of a pgcat.toml: reads on the replicas, writes and transactions on the primary. */
export function demoConfig(cluster: DemoCluster, port: number): string {
  const servers = cluster.servers.map(
    server => `    ["${server.host}", ${server.port}, "${server.isReplica ? 'replica' : 'primary'}"],\n`,
  );
  return `[general]
host = "127.0.0.1"
port = ${port}
admin_username = "${DEMO_ADMIN}"
admin_password = "${DEMO_ADMIN}"
shutdown_timeout = ${SHUTDOWN_MS}

[pools.${DEMO_USER}]
pool_mode = "transaction"
default_role = "any"
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = ${cluster.replicas.length === 0}
prepared_statements_cache_size = 500

[pools.${DEMO_USER}.users.0]
username = "${DEMO_USER}"
password = "${DEMO_USER}"
pool_size = 10

[pools.${DEMO_USER}.shards.0]
database = "${DEMO_USER}"
servers = [
${servers.join('')}]
`;
}
