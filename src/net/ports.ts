/** Where clients come in: TCP addresses and a Unix socket, bound together or not at all. */
import { lookup } from 'node:dns/promises';
import { lstatSync, type Stats, unlinkSync } from 'node:fs';
import {
  type AddressInfo,
  connect,
  createServer,
  isIP,
  isIPv4,
  type ListenOptions,
  type Server,
  type Socket,
} from 'node:net';
import { addressText, socketPath } from './address.ts';

/** What to listen on. */
export interface PortSettings {
  /** Addresses and names; `*` is every address of the machine. */
  readonly hosts: readonly string[];
  /** 0 takes any that is free, the same for all. */
  readonly port: number;
  /** Where the Unix socket goes, if there is one. */
  readonly unix_socket_dir: string | undefined;
  /** Permissions of the Unix socket, in octal digits. */
  readonly unix_socket_mode: string;
  /** File descriptors of sockets that listen already: then nothing else is listened on. */
  readonly sockets?: readonly number[] | undefined;
}

/** What is listened on. */
export interface Bound {
  readonly port: number;
  /** As messages show them. */
  readonly addresses: readonly string[];
}

/** An address cannot be listened on. */
export class PortError extends Error {
  /** As messages show it. */
  readonly address: string;
  readonly code: string;

  constructor(address: string, code: string, text: string) {
    super(text);
    this.name = 'PortError';
    this.address = address;
    this.code = code;
  }
}

/** Told of those who could not be let in. */
export interface PortsOwner {
  acceptFailed(error: Error): void;
}

/** Bytes that may wait in a client's socket before its server connection is no longer read. */
const SOCKET_OPTIONS = { noDelay: true, highWaterMark: 262_144 };
const BACKLOG = 4096;
/** The shortest of all systems': Linux has four more. */
const PATH_LENGTH_MAX = 103;
/** Every address of the machine, of both families. */
const ANY = ['0.0.0.0', '::'];
/** Errors of an address that this machine does not have. */
const ABSENT = ['EADDRNOTAVAIL', 'EAFNOSUPPORT'];

/** A server that passes clients on. */
export function clientServer(accept: (socket: Socket) => void): Server {
  const server = createServer(SOCKET_OPTIONS, socket => {
    const address = server.address();
    // Who is gone by now has no address, and must not pass for a client of a Unix socket.
    if (socket.remoteAddress === undefined && typeof address === 'object' && address !== null) socket.destroy();
    else accept(socket);
  });
  return server;
}

export class Ports {
  readonly #owner: PortsOwner;
  readonly #make: () => Server;
  readonly #servers: Server[] = [];

  /** `make` makes the server for each address. */
  constructor(owner: PortsOwner, make: () => Server) {
    this.#owner = owner;
    this.#make = make;
  }

  /**
   * Binds all of `settings`. Of a name with several addresses one must be the machine's.
   * @throws PortError an address is taken, not ours, or must not be used; then nothing is bound
   */
  async listen(settings: PortSettings): Promise<Bound> {
    const { hosts, unix_socket_dir, unix_socket_mode, sockets = [] } = settings;
    if (sockets.length > 0) return this.#adopt(sockets);
    const addresses: string[] = [];
    let { port } = settings;
    try {
      const all = await chosen(hosts);
      const ipv6Only = all.flat().some(isIPv4);
      for (const choices of all) {
        let absent: unknown;
        let found = 0;
        for (const address of choices) {
          try {
            port = await this.#bind({ host: address, port, ipv6Only }, addressText(address, port));
          } catch (thrown) {
            if (!(thrown instanceof PortError && ABSENT.includes(thrown.code))) throw thrown;
            absent = thrown;
            continue;
          }
          found++;
          addresses.push(addressText(address, port));
        }
        if (found === 0) throw absent;
      }
      if (unix_socket_dir !== undefined) {
        addresses.push(await this.#bindUnix(socketPath(unix_socket_dir, port), unix_socket_mode));
      }
    } catch (thrown) {
      this.close();
      throw thrown;
    }
    return { port, addresses };
  }

  /** Lets nobody in any more; the Unix socket's file goes. */
  close(): void {
    for (const server of this.#servers.splice(0)) server.close();
  }

  /** Uses sockets that whoever started this process listens on. */
  async #adopt(sockets: readonly number[]): Promise<Bound> {
    let port = 0;
    const addresses: string[] = [];
    try {
      for (const fd of sockets) {
        const bound = await this.#bind({ fd }, `file descriptor ${fd}`);
        port ||= bound;
        addresses.push(nameOf(this.#servers.at(-1)?.address()) ?? `file descriptor ${fd}`);
      }
    } catch (thrown) {
      this.close();
      throw thrown;
    }
    return { port, addresses };
  }

  /** A dead process's socket is replaced; a live one's, or any other file, is not. */
  async #bindUnix(path: string, mode: string): Promise<string> {
    if (Buffer.byteLength(path) > PATH_LENGTH_MAX) {
      throw new PortError(path, 'ENAMETOOLONG', `a socket's path has ${PATH_LENGTH_MAX} bytes at most`);
    }
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there !== undefined) {
      if (!there.isSocket()) throw new PortError(path, 'EEXIST', `${path} is there and is no socket`);
      if (await answers(path)) throw new PortError(path, 'EADDRINUSE', `${path} is taken by another process`);
      // Another process may have replaced it meanwhile.
      if (isSame(there, lstatSync(path, { throwIfNoEntry: false }))) unlinkSync(path);
    }
    // The file appears with its permissions: nobody whom they exclude comes in before.
    const umask = process.umask(0o777 & ~Number.parseInt(mode, 8));
    const bound = this.#bind({ path }, path);
    process.umask(umask);
    await bound;
    return path;
  }

  /** The port it got; binds before it returns. */
  #bind(options: ListenOptions & { readonly fd?: number }, name: string): Promise<number> {
    const server = this.#make();
    return new Promise((resolve, reject) => {
      const refuse = (error: NodeJS.ErrnoException) => reject(new PortError(name, error.code ?? '', error.message));
      server.once('error', refuse);
      server.listen({ ...options, backlog: BACKLOG }, () => {
        server.off('error', refuse);
        server.on('error', error => this.#owner.acceptFailed(error));
        this.#servers.push(server);
        const address = server.address();
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
  }
}

function nameOf(address: AddressInfo | string | null | undefined): string | undefined {
  if (address === null || address === undefined || address === '') return undefined;
  return typeof address === 'string' ? address : addressText(address.address, address.port);
}

/** The addresses of each host, each address once. */
async function chosen(hosts: readonly string[]): Promise<string[][]> {
  const seen = new Set<string>();
  const chosen: string[][] = [];
  for (const host of hosts) {
    const addresses = (await addressesOf(host)).filter(address => !seen.has(address));
    for (const address of addresses) seen.add(address);
    if (addresses.length > 0) chosen.push(addresses);
  }
  return chosen;
}

async function addressesOf(host: string): Promise<string[]> {
  if (host === '*') return ANY;
  if (isIP(host) !== 0) return [host];
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
    throw new PortError(host, code, `${host} is no name of this machine`);
  }
}

/** Whether a process accepts connections there. */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ path });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // A socket that may not be asked, or whose queue is full, has a process behind it for all one knows.
    socket.on('error', (error: NodeJS.ErrnoException) =>
      resolve(!['ECONNREFUSED', 'ENOENT'].includes(error.code ?? '')),
    );
  });
}

function isSame(one: Stats, other: Stats | undefined): boolean {
  return other !== undefined && one.ino === other.ino && one.dev === other.dev;
}
