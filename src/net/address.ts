/** Places where servers and clients listen: as sockets take them, and as messages and tables show them. */
import { isIPv6, type Socket } from 'node:net';

/** What a socket connects to. */
export type Endpoint = { readonly path: string } | { readonly host: string; readonly port: number };

/** The Unix socket for `port` in `directory`, named as PostgreSQL and libpq name it. */
export function socketPath(directory: string, port: number): string {
  return `${directory.replace(/\/+$/, '')}/.s.PGSQL.${port}`;
}

/** Whether `host` is the directory of a Unix socket, as in libpq. */
export function isDirectory(host: string): boolean {
  return host.startsWith('/');
}

/** What a socket connects to for a server's host and port. */
export function endpoint(host: string, port: number): Endpoint {
  return isDirectory(host) ? { path: socketPath(host, port) } : { host, port };
}

/** `host:port`, `[::1]:port` or the path of a Unix socket. */
export function addressText(host: string, port: number): string {
  if (isDirectory(host)) return socketPath(host, port);
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The address without the prefix that an IPv4 one has on a socket of both families. */
function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

/** The address at the other end of an accepted socket; undefined on a Unix socket. */
export function peerAddress({ remoteAddress }: Socket): string | undefined {
  return remoteAddress === undefined ? undefined : plainAddress(remoteAddress);
}

/** Who is at the other end of a socket: an address and port, or `unix`. */
export function peerText(socket: Socket): string {
  const address = peerAddress(socket);
  return address === undefined ? 'unix' : addressText(address, socket.remotePort ?? 0);
}
