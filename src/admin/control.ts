/** What the admin database needs of the process that it looks into and steers; the proxy implements it. */
import type { Socket } from 'node:net';
import type { SettingRow } from '../config/rows.ts';
import type { Network } from '../net/network.ts';
import type { TlsFacts } from '../net/tls.ts';
import type { Cluster } from '../pool/cluster.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { ClientCounters } from '../stats/counters.ts';
import type { Ledger } from '../stats/ledger.ts';
import type { Steering } from './steering.ts';

/** What SHOW says of a socket. */
export type ShownSocket = Pick<
  Socket,
  'remoteAddress' | 'remotePort' | 'localAddress' | 'localPort' | 'writableLength'
>;

/** One client that has logged in, to a cluster or to the admin database. */
export interface ClientView {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  /** What its startup packet said. */
  readonly application_name: string;
  /** `active` holds a server connection, `waiting` asks for one. */
  readonly state: 'idle' | 'waiting' | 'active';
  readonly counters: ClientCounters;
  /** Milliseconds of `performance.now()`. */
  readonly connected_at: number;
  readonly socket: ShownSocket;
  /** Undefined when the connection is not encrypted. */
  readonly tls: TlsFacts | undefined;
  /** What it holds of a server now. */
  readonly connection?: ServerConnection | undefined;
  readonly intake?: {
    /** Milliseconds of `performance.now()` when a byte last came. */
    readonly fed_at: number;
  };
  /** Its prepared statements. */
  readonly statements?: { readonly size: number };
  /** Milliseconds that the current wait has lasted at `now`; 0 when it does not wait. */
  waiting_ms(now: number): number;
}

/**
 * How a process ends: `drain` as at SIGINT; `wait_for_servers` as soon as no client is in a transaction, without a time
 * limit; `wait_for_clients` when the last client has left.
 */
export type ShutdownMode = 'drain' | 'wait_for_servers' | 'wait_for_clients';

/** The process, as the admin database sees it. */
export interface ControlPlane {
  /** `X.Y.Z` */
  readonly version: string;
  /** What was counted since the start, also for what is gone. */
  readonly ledger: Ledger;
  /** Whether no new clients are taken since the process is about to end. */
  readonly draining: boolean;
  /** Those in use; not the ones that a reload has retired. */
  clusters(): Iterable<Cluster>;
  /** Those of them that the file does not list: made for `*`. */
  readonly autoNames: readonly { readonly database: string; readonly username: string }[];
  /** Everybody who has logged in, clients of the admin database included. */
  clients(): Iterable<ClientView>;
  settings(): readonly SettingRow[];
  /**
   * Reads the configuration file again; the words say what changed, none when nothing did.
   * @throws Error why the file cannot be used; nothing has changed then
   */
  reload(): Promise<string[]>;
  /**
   * Changes one setting in memory until the next reload; the words say what changed.
   * @throws Error why it cannot be changed to that; nothing has changed then
   */
  set(path: readonly string[], value: string): Promise<string[]>;
  /** Begins to end the process. */
  shutdown(mode: ShutdownMode): void;
  readonly steering: Steering;
  readonly network: Network;
  /** Clients that are logging in. */
  readonly logins: number;
}
