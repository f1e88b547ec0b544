/** The addresses of server names: one question for all who ask, remembered for dns_max_ttl, and asked again after it. */
import { ADDRCONFIG, type LookupAddress } from 'node:dns';
import { lookup } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import { errorText } from '../errors.ts';
import { isDirectory } from './address.ts';

/** The settings of the file. */
export interface DnsSettings {
  readonly dns_cache_enabled: boolean;
  /** Seconds. */
  readonly dns_max_ttl: number;
}

/** All addresses of a name, in the order in which they are to be tried. */
export type Resolve = (name: string) => Promise<LookupAddress[]>;

/** Where changes and failures are told. */
export interface DnsLog {
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
}

/** What is known of one name. */
export interface DnsHost {
  readonly hostname: string;
  /** Seconds until it is asked for again; 0 while it is. */
  readonly ttl_s: number;
  readonly addresses: readonly string[];
}

/** The operating system's own way, hosts file included, and as sockets ask it: no family that this machine does not have. */
const systemResolve: Resolve = name => lookup(name, { all: true, hints: ADDRCONFIG });

/** One name; it has no addresses until it was first found. */
class Host {
  addresses: LookupAddress[] = [];
  known: ReadonlySet<string> = new Set();
  /** Milliseconds of `performance.now()`. */
  expires_at = 0;
  pending: Promise<LookupAddress[]> | undefined;
  /** Whether its last question failed, which is told once. */
  failed = false;
}

export class DnsCache {
  readonly #settings: () => DnsSettings;
  readonly #log: DnsLog;
  readonly #resolve: Resolve;
  readonly #hosts = new Map<string, Host>();

  constructor(settings: () => DnsSettings, log: DnsLog, resolve = systemResolve) {
    this.#settings = settings;
    this.#log = log;
    this.#resolve = resolve;
  }

  /** The names remembered, for SHOW DNS_HOSTS. */
  hosts(now: number): DnsHost[] {
    const known = [...this.#hosts].filter(([, { addresses }]) => addresses.length > 0);
    return known.map(([hostname, { addresses, expires_at, pending }]) => ({
      hostname,
      ttl_s: pending === undefined ? Math.max(0, Math.ceil((expires_at - now) / 1000)) : 0,
      addresses: addresses.map(({ address }) => address),
    }));
  }

  /** Questions under way. */
  get pending(): number {
    return [...this.#hosts.values()].filter(({ pending }) => pending !== undefined).length;
  }

  /** What a socket asks for the addresses of a name. */
  readonly lookup: LookupFunction = (name, { all }, callback) => {
    this.#addresses(name).then(
      addresses => {
        const [first] = addresses;
        if (all === true) callback(null, addresses);
        else if (first === undefined) callback(new Error(`${name} has no address`), '');
        else callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, ''),
    );
  };

  /** Whether a name is known to have other addresses by now than this one. */
  hasLeft(name: string, address: string | undefined): boolean {
    const host = this.#hosts.get(name);
    if (host === undefined || address === undefined || host.addresses.length === 0) return false;
    // A zone is no part of what a name server says.
    return !host.known.has(address.replace(/%.*/, ''));
  }

  /** Asks again for what is too old, and forgets names of no server. */
  refresh(names: ReadonlySet<string>, now: number): void {
    const { dns_cache_enabled } = this.#settings();
    for (const name of this.#hosts.keys()) {
      if (!dns_cache_enabled || !names.has(name)) this.#hosts.delete(name);
    }
    if (!dns_cache_enabled) return;
    for (const name of names) {
      if (isIP(name) !== 0 || isDirectory(name)) continue;
      const host = this.#hostOf(name);
      // What fails has been told; whoever needs it asks himself.
      if (now >= host.expires_at && host.pending === undefined) this.#ask(name, host).catch(() => undefined);
    }
  }

  /** What was found last, if it was found, however old: its renewal is under way. */
  #addresses(name: string): Promise<LookupAddress[]> {
    if (!this.#settings().dns_cache_enabled) return this.#resolve(name);
    const host = this.#hostOf(name);
    if (host.addresses.length > 0) return Promise.resolve(host.addresses);
    return host.pending ?? this.#ask(name, host);
  }

  #hostOf(name: string): Host {
    const found = this.#hosts.get(name) ?? new Host();
    this.#hosts.set(name, found);
    return found;
  }

  #ask(name: string, host: Host): Promise<LookupAddress[]> {
    const asking = this.#resolve(name)
      .then(addresses => {
        if (addresses.length === 0) throw new Error(`${name} has no address`);
        this.#found(name, host, addresses);
        return addresses;
      })
      .catch((error: unknown) => {
        this.#failed(name, host, error);
        throw error;
      })
      .finally(() => {
        host.pending = undefined;
        host.expires_at = performance.now() + this.#settings().dns_max_ttl * 1000;
      });
    host.pending = asking;
    return asking;
  }

  #found(name: string, host: Host, addresses: LookupAddress[]): void {
    const known = new Set(addresses.map(({ address }) => address));
    const before = host.known;
    host.addresses = addresses;
    host.known = known;
    host.failed = false;
    if (before.size === 0 || (before.size === known.size && [...known].every(address => before.has(address)))) return;
    this.#log.info({ before: [...before], now: [...known] }, `DNS changed for ${name}`);
  }

  #failed(name: string, host: Host, error: unknown): void {
    if (host.failed || host.addresses.length === 0) return;
    host.failed = true;
    this.#log.warn({ addresses: [...host.known] }, `DNS: ${errorText(error)}; ${name} keeps its addresses`);
  }
}
