/** What a cluster knows of its database: a Catalog, read in the background and again when it is old or DDL passed. */
import { errorText } from '../errors.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import { Catalog, type CatalogRows, type FunctionLists, NO_ROWS } from '../sql/catalog.ts';
import { type CensusOptions, takeCensus } from './census.ts';
import { Lease, type LeaseSource, type Role } from './lease.ts';

/** The part of a cluster that a reader needs. */
export interface SchemaCluster {
  readonly settings: FunctionLists & { readonly catalog_ttl: number };
  readonly firstShard: number;
  readonly defaults: SettingsProfile;
  readonly name: string;
  readonly context: { readonly log: { warn(fields: object, text: string): void } };
  has(role: 'primary' | 'replica', shard: number): boolean;
  lease(lease: Lease): void;
}

/** From DDL to the next reading, so that the statements of a migration cause few. */
const DDL_PAUSE_MS = 100;
/** From DDL to a later reading: its transaction may have committed since, and a replica may have replayed it. */
const DDL_LATER_MS = 2000;
/** Pauses after failures double between these. */
const RETRY_MS = { first: 1000, last: 60_000 };
/** A reading takes at most one part in this many of the time. */
const SHARE = 10;
/** After this the server is asked to give up, and after as long again the connection is closed. */
const CENSUS_MAX_MS = 20_000;

/**
 * Reads the catalog of a cluster's first shard, on the primary if it can be had. One reading at a time, on a connection
 * of the pool, and never as long as nobody asked: start() begins, and `catalog` asks again when catalog_ttl is over.
 */
export class SchemaReader {
  /** Settled when the first reading has succeeded, or the reader was stopped. */
  readonly ready: Promise<void>;

  readonly #cluster: SchemaCluster;
  readonly #options: CensusOptions;
  readonly #settleReady: () => void;
  #catalog: Catalog;
  #state: 'new' | 'waiting' | 'reading' | 'fresh' | 'stale' | 'stopped' = 'new';
  /** Whether something happened while a reading was under way that it may have missed. */
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #later: NodeJS.Timeout | undefined;
  /** When the wait for the next reading is over, on the clock of `performance.now()`. */
  #due_ms = 0;
  #retry_ms = RETRY_MS.first;
  /** Time that the last reading took. */
  #took_ms = 0;
  #logged = '';

  /** `columns`: whether statements are sharded, so that columns of tables are wanted; `known` is right until it is read. */
  constructor(cluster: SchemaCluster, columns: boolean, known: CatalogRows = NO_ROWS) {
    this.#cluster = cluster;
    this.#options = { columns, functions: cluster.settings.write_functions };
    this.#catalog = new Catalog(known, cluster.settings);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ready = promise;
    this.#settleReady = resolve;
  }

  /** What is known now. */
  get catalog(): Catalog {
    if (this.#state === 'stale') this.#read();
    return this.#catalog;
  }

  /** Whether the database was read at least once. */
  get isKnown(): boolean {
    return this.#catalog.rows !== NO_ROWS;
  }

  /** Begins to read, once. */
  start(): void {
    if (this.#state === 'new') this.#read();
  }

  /** Something that changes functions, views or tables went to the server: read soon, and again a little later. */
  ddlSeen(): void {
    if (this.#state === 'new' || this.#state === 'stopped') return;
    if (this.#state === 'reading') this.#again = true;
    else this.#readIn(Math.max(DDL_PAUSE_MS, this.#took_ms * SHARE));
    if (this.#later === undefined) this.#later = setTimeout(() => this.#laterOver(), DDL_LATER_MS).unref();
    else this.#later.refresh();
  }

  /** Ends all readings; the catalog stays. */
  stop(): void {
    this.#state = 'stopped';
    clearTimeout(this.#timer);
    clearTimeout(this.#later);
    this.#settleReady();
  }

  #laterOver(): void {
    this.#later = undefined;
    if (this.#state === 'reading') this.#again = true;
    else if (this.#state !== 'stopped') this.#readIn(0);
  }

  /** Reads in `pause_ms`, unless it is to be done earlier anyway. */
  #readIn(pause_ms: number): void {
    const due_ms = performance.now() + pause_ms;
    if (this.#state === 'waiting' && this.#due_ms <= due_ms) return;
    this.#state = 'waiting';
    this.#due_ms = due_ms;
    this.#wait(pause_ms, () => this.#read());
  }

  #wait(pause_ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, pause_ms).unref();
  }

  #read(): void {
    this.#state = 'reading';
    this.#again = false;
    this.#census().then(
      rows => this.#succeeded(rows),
      (error: unknown) => this.#failed(errorText(error)),
    );
  }

  #succeeded(rows: CatalogRows): void {
    if (this.#state === 'stopped') return;
    this.#catalog = new Catalog(rows, this.#cluster.settings);
    this.#retry_ms = RETRY_MS.first;
    this.#logged = '';
    this.#settleReady();
    this.#state = 'fresh';
    if (this.#again) return this.#readIn(Math.max(DDL_PAUSE_MS, this.#took_ms * SHARE));
    this.#wait(Math.max(this.#cluster.settings.catalog_ttl, this.#took_ms * SHARE), () => {
      this.#state = 'stale';
    });
  }

  #failed(cause: string): void {
    if (this.#state === 'stopped') return;
    if (cause !== this.#logged) {
      this.#logged = cause;
      const fields = { cluster: this.#cluster.name, cause };
      this.#cluster.context.log.warn(
        fields,
        `The catalog could not be read, so functions of users count as writes: ${cause}`,
      );
    }
    this.#state = 'fresh';
    this.#readIn(this.#retry_ms);
    this.#retry_ms = Math.min(this.#retry_ms * 2, RETRY_MS.last);
  }

  async #census(): Promise<CatalogRows> {
    const { connection, pool } = await this.#borrow();
    const since = performance.now();
    const close = () => connection.close(`reading the catalog took longer than ${2 * CENSUS_MAX_MS} ms`);
    let timer = setTimeout(() => {
      connection.cancel();
      timer = setTimeout(close, CENSUS_MAX_MS).unref();
    }, CENSUS_MAX_MS).unref();
    try {
      return await takeCensus(connection, this.#options);
    } finally {
      clearTimeout(timer);
      this.#took_ms = performance.now() - since;
      pool.release(connection);
    }
  }

  /** A connection of the primary, else of a replica, when it is free. */
  async #borrow(): Promise<Borrowed> {
    const { firstShard } = this.#cluster;
    if (!this.#cluster.has('primary', firstShard)) return this.#lease('replica');
    if (!this.#cluster.has('replica', firstShard)) return this.#lease('primary');
    return this.#lease('primary').catch(() => this.#lease('replica'));
  }

  #lease(role: Role): Promise<Borrowed> {
    return new Promise((resolve, leaseFailed) => {
      const leased = (connection: ServerConnection, pool: LeaseSource) => resolve({ connection, pool });
      const lease = new Lease({ leased, leaseFailed }, this.#cluster.defaults);
      lease.role = role;
      lease.shard = this.#cluster.firstShard;
      this.#cluster.lease(lease);
    });
  }
}

interface Borrowed {
  readonly connection: ServerConnection;
  readonly pool: LeaseSource;
}
