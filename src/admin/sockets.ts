/** SHOW CLIENTS, SERVERS and SOCKETS: every connection of the process, PgCat's columns first, then PgBouncer's. */
import type { TlsFacts } from '../net/tls.ts';
import { isOutdated } from '../pool/turnover.ts';
import type { ServerConnection } from '../server/connection.ts';
import { ConnectionCounters } from '../stats/counters.ts';
import type { ClientView, ControlPlane, ShownSocket } from './control.ts';
import { belowSecond, clientsOf, clustersOf, hex, type PoolSource, seconds } from './sources.ts';
import { int4, numeric, type ShownColumn, type ShowTable, table, text } from './table.ts';

/** What a client and a connection to a server have in common. */
interface End {
  /** `C` or `S`. */
  readonly type: string;
  readonly database: string;
  readonly user: string;
  readonly state: string;
  readonly application_name: string;
  /** Undefined while it is being opened. */
  readonly socket: ShownSocket | undefined;
  readonly tls: TlsFacts | undefined;
  /** Milliseconds of `performance.now()`. */
  readonly connected_at: number;
  /** When a byte last came from it, on the same clock; 0 when none has. */
  readonly heard_at: number;
  readonly wait_us: number;
  readonly close_needed: boolean;
  /** Its number, and that of whom it serves or is served by. */
  readonly id: number;
  readonly link: string;
  readonly remote_pid: number;
  readonly prepared_statements: number;
}

/** PgBouncer's columns behind the application's name, and those of where a connection is between. */
function endColumns<Source>(end: (source: Source) => End): ShownColumn<Source>[] {
  return [
    text('replication', () => 'none'),
    text('addr', source => end(source).socket?.remoteAddress ?? 'unix'),
    int4('port', source => end(source).socket?.remotePort ?? 0),
    text('local_addr', source => end(source).socket?.localAddress ?? 'unix'),
    int4('local_port', source => end(source).socket?.localPort ?? 0),
    text('connect_time', source => timeText(end(source).connected_at)),
    text('request_time', source => timeText(end(source).heard_at)),
    int4('wait', source => seconds(end(source).wait_us)),
    int4('wait_us', source => belowSecond(end(source).wait_us)),
    int4('close_needed', source => (end(source).close_needed ? 1 : 0)),
    text('ptr', source => hex(end(source).id)),
    text('link', source => end(source).link),
    int4('remote_pid', source => end(source).remote_pid),
    text('tls', source => tlsText(end(source).tls)),
    int4('prepared_statements', source => end(source).prepared_statements),
    int4('id', source => end(source).id),
  ];
}

/** The wall clock at a moment of `performance.now()`. */
function timeText(at: number): string {
  if (at === 0) return '';
  const time = new Date(Date.now() - performance.now() + at);
  return `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

function tlsText(tls: TlsFacts | undefined): string {
  return tls === undefined ? '' : `${tls.version}/${tls.cipher}`;
}

interface ClientSource extends End {
  readonly client: ClientView;
  readonly longest_us: number;
  readonly age_ms: number;
}

function clientEnds(control: ControlPlane): ClientSource[] {
  const now = performance.now();
  return clientsOf(control).map(client => {
    const { id, database, user, state, application_name, socket, tls, connected_at, connection } = client;
    const wait_us = client.waiting_ms(now) * 1000;
    return {
      client,
      longest_us: Math.max(client.counters.wait_max_us, wait_us),
      age_ms: now - connected_at,
      type: 'C',
      ...{ id, database, user, state, application_name, socket, tls, connected_at, wait_us },
      heard_at: client.intake?.fed_at ?? 0,
      close_needed: false,
      link: connection === undefined ? '' : hex(connection.pid),
      remote_pid: 0,
      prepared_statements: client.statements?.size ?? 0,
    };
  });
}

export const clients: ShowTable = table(clientEnds, [
  text('client_id', ({ client }) => hex(client.id)),
  text('database', ({ client }) => client.database),
  text('user', ({ client }) => client.user),
  text('application_name', ({ client }) => client.application_name),
  text('state', ({ client }) => client.state),
  numeric('transaction_count', ({ client }) => client.counters.xact_count),
  numeric('query_count', ({ client }) => client.counters.query_count),
  numeric('error_count', ({ client }) => client.counters.error_count),
  numeric('age_seconds', ({ age_ms }) => Math.floor(age_ms / 1000)),
  numeric('maxwait', ({ longest_us }) => seconds(longest_us)),
  numeric('maxwait_us', ({ longest_us }) => belowSecond(longest_us)),
  text('type', ({ type }) => type),
  ...endColumns<ClientSource>(source => source),
]);

/** PgCat's word for the application of a server connection that has served none. */
const UNDEFINED = 'Undefined';

interface ServerSource extends End, PoolSource {
  readonly state: 'login' | 'active' | 'tested' | 'idle';
  readonly connection: ServerConnection | undefined;
  readonly counters: ConnectionCounters;
  readonly age_ms: number;
}

/** The connections of each pool, then those that are being opened; last of what a reload has replaced. */
function serverEnds(control: ControlPlane): ServerSource[] {
  const served = new Map<ServerConnection, ClientView>();
  for (const client of control.clients()) if (client.connection !== undefined) served.set(client.connection, client);
  const inUse = clustersOf(control).flatMap(cluster => cluster.pools.map(pool => ({ cluster, pool })));
  const retired = control.steering.retired.flatMap(cluster => cluster.own.map(pool => ({ cluster, pool })));
  return [...inUse, ...retired].flatMap(source => connectionsOf(source, served));
}

function connectionsOf(source: PoolSource, served: ReadonlyMap<ServerConnection, ClientView>): ServerSource[] {
  const { pool } = source;
  let untold = pool.testing;
  const stateOf = (connection: ServerConnection) => {
    if (connection.holder !== undefined) return 'active';
    if (connection.quiet) return 'idle';
    // Busy for nobody: under test, or being cleaned, which the pool counts as active.
    return untold-- > 0 ? 'tested' : 'active';
  };
  const open = [...pool.connections].map(connection => serverEnd(source, connection, stateOf(connection), served));
  const opening = Array.from({ length: pool.opening }, () => serverEnd(source, undefined, 'login', served));
  return [...open, ...opening];
}

function serverEnd(
  { cluster, pool }: PoolSource,
  connection: ServerConnection | undefined,
  state: ServerSource['state'],
  served: ReadonlyMap<ServerConnection, ClientView>,
): ServerSource {
  const now = performance.now();
  const client = connection === undefined ? undefined : served.get(connection);
  const isNamed = state !== 'login' && state !== 'tested';
  return {
    cluster,
    pool,
    state,
    connection,
    counters: connection?.counters ?? new ConnectionCounters(),
    age_ms: now - (connection?.opened_at ?? now),
    type: 'S',
    database: cluster.settings.database,
    user: cluster.settings.username,
    application_name: (isNamed && connection?.application_name) || UNDEFINED,
    socket: connection?.line.socket,
    tls: connection?.line.tls,
    connected_at: connection?.opened_at ?? now,
    heard_at: connection?.used_at ?? 0,
    wait_us: 0,
    close_needed: cluster.retired || (connection !== undefined && isOutdated(connection)),
    id: connection?.pid ?? 0,
    link: client === undefined ? '' : hex(client.id),
    remote_pid: connection?.pid ?? 0,
    prepared_statements: connection?.statements.size ?? 0,
  };
}

export const servers: ShowTable = table(serverEnds, [
  text('server_id', ({ id }) => hex(id)),
  text('database_name', ({ database }) => database),
  text('user', ({ user }) => user),
  text('address_id', ({ pool }) => pool.address.name),
  text('application_name', ({ application_name }) => application_name),
  text('state', ({ state }) => state),
  numeric('transaction_count', ({ counters }) => counters.xact_count),
  numeric('query_count', ({ counters }) => counters.query_count),
  numeric('bytes_sent', ({ connection }) => connection?.sent_bytes ?? 0),
  numeric('bytes_received', ({ counters }) => counters.received_bytes),
  numeric('age_seconds', ({ age_ms }) => Math.floor(age_ms / 1000)),
  numeric('prepare_cache_hit', ({ counters }) => counters.prepare_hits),
  numeric('prepare_cache_miss', ({ counters }) => counters.prepare_misses),
  numeric('prepare_cache_eviction', ({ counters }) => counters.prepare_evictions),
  numeric('prepare_cache_size', ({ prepared_statements }) => prepared_statements),
  text('type', ({ type }) => type),
  ...endColumns<ServerSource>(source => source),
]);

function ends(control: ControlPlane): End[] {
  return [...clientEnds(control), ...serverEnds(control)];
}

export const sockets: ShowTable = table(ends, [
  text('type', ({ type }) => type),
  text('user', ({ user }) => user),
  text('database', ({ database }) => database),
  text('state', ({ state }) => state),
  text('application_name', ({ application_name }) => application_name),
  ...endColumns<End>(source => source),
  numeric('send_remain', ({ socket }) => socket?.writableLength ?? 0),
]);
