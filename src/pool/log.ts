/** What the log says of connections to servers: which were opened, and why they were closed. */
import { peerText } from '../net/address.ts';
import type { ServerConnection } from '../server/connection.ts';

/** Where a cluster reports what operators want to know. */
export interface ClusterLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

/** A connection of the cluster to the server so called was opened. */
export function logOpened(log: ClusterLog, cluster: string, server: string, connection: ServerConnection): void {
  const { pid: server_pid, line } = connection;
  const fields = { cluster, server, address: peerText(line.socket), server_pid };
  log.info(fields, `Creating a new server connection ${server}`);
}

/** It was closed. */
export function logClosed(
  log: ClusterLog,
  cluster: string,
  server: string,
  connection: ServerConnection,
  cause: string,
): void {
  const duration_ms = Math.round(performance.now() - connection.opened_at);
  const fields = { cluster, server, server_pid: connection.pid, duration_ms, cause };
  log.info(fields, `Server connection closed ${server}: ${cause}`);
}
