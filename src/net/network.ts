/** How the sockets of a process behave, whatever they are for: names, silence, and what is not acknowledged. */
import type { LookupFunction, Socket } from 'node:net';
import { DnsCache, type DnsLog, type DnsSettings, type Resolve } from './dns.ts';
import { type KeepAliveSettings, keepAlive, keepAliveOf } from './keepalive.ts';
import { Unacknowledged, type UnacknowledgedLog } from './unacknowledged.ts';

/** The settings of the file. */
export interface NetworkSettings extends DnsSettings, KeepAliveSettings {
  /** Milliseconds; 0 is never. */
  readonly tcp_user_timeout: number;
}

export class Network {
  readonly dns: DnsCache;
  readonly #settings: () => NetworkSettings;
  readonly #unacknowledged: Unacknowledged;

  constructor(settings: () => NetworkSettings, log: DnsLog & UnacknowledgedLog, resolve?: Resolve) {
    this.#settings = settings;
    this.dns = new DnsCache(settings, log, resolve);
    this.#unacknowledged = new Unacknowledged(() => settings().tcp_user_timeout, log);
  }

  get lookup(): LookupFunction {
    return this.dns.lookup;
  }

  /** Prepares a socket that was just connected or accepted. */
  settle(socket: Socket): void {
    keepAlive(socket, keepAliveOf(this.#settings()));
  }

  /** Looks after a socket on which messages pass, encrypted or not, until it is closed. */
  watch(socket: Socket): void {
    this.#unacknowledged.watch(socket);
  }

  /** Looks again at names, which are those of all servers, and at sockets. */
  maintain(hosts: ReadonlySet<string>, now: number): void {
    this.dns.refresh(hosts, now);
    this.#unacknowledged.look(now);
  }
}

/** Everything is left to the system. */
export const SYSTEM_NETWORK = new Network(
  () => ({
    dns_cache_enabled: false,
    dns_max_ttl: 1,
    tcp_keepalives_idle: 0,
    tcp_keepalives_interval: 0,
    tcp_keepalives_count: 0,
    tcp_user_timeout: 0,
  }),
  { info: () => undefined, warn: () => undefined },
);
