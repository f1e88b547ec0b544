/** Decides for one client where each statement goes, from its commands, the pool's settings and the grammar. */
import type { Hint } from './hints.ts';
import type { Route } from './route.ts';

/** The settings that decide. */
export interface RoutingSettings {
  readonly default_role: 'any' | 'primary' | 'replica';
  readonly read_write_splitting: boolean;
  readonly primary_reads_enabled: boolean;
}

/** What a batch asks of a route. */
export interface RouteInput {
  readonly shard: number;
  /** Whether every statement is provably a read; undefined when none was inspected. */
  readonly read: boolean | undefined;
  /** Whether statements run before the batch has ended, so that a write may follow. */
  readonly open: boolean;
  /** Whether the client keeps the connection it gets now to its end. */
  readonly session: boolean;
  /** Whether a replica is configured in the shard. */
  readonly hasReplica: boolean;
}

/** One client's choices, sticky until it changes them, and the decisions that follow. */
export class Router {
  #settings: RoutingSettings;
  /** The role fixed by SET SERVER ROLE; `auto` splits reads and writes; undefined follows the pool's settings. */
  #chosen: 'primary' | 'replica' | 'any' | 'auto' | undefined;
  #primaryReads: boolean | undefined;

  constructor(settings: RoutingSettings) {
    this.#settings = settings;
  }

  /** A reload changed the pool's settings; the client's choices stay. */
  configure(settings: RoutingSettings): void {
    this.#settings = settings;
  }

  /** Whether statements must be inspected to be routed. */
  get splitting(): boolean {
    return this.#chosen === undefined ? this.#settings.read_write_splitting : this.#chosen === 'auto';
  }

  /** Whether reads may go to the primary as well. */
  get primaryReads(): boolean {
    return this.#primaryReads ?? this.#settings.primary_reads_enabled;
  }

  /** What SHOW SERVER ROLE answers. */
  get serverRole(): string {
    return this.splitting ? 'auto' : (this.#fixedRole ?? 'any');
  }

  get #fixedRole(): 'primary' | 'replica' | 'any' | undefined {
    return this.#chosen === undefined || this.#chosen === 'auto' ? this.#settings.default_role : this.#chosen;
  }

  /** Carries out a SET command. */
  apply(hint: Hint): void {
    if (hint.command === 'set_server_role') this.#chosen = hint.value === 'default' ? undefined : hint.value;
    else if (hint.command === 'set_primary_reads') {
      this.#primaryReads = hint.value === 'default' ? undefined : hint.value === 'on';
    }
  }

  route(input: RouteInput): Route {
    const { shard } = input;
    if (!this.splitting) {
      return { shard, role: this.#fixedRole ?? 'any', reason: this.#chosen === undefined ? 'default_role' : 'chosen' };
    }
    if (input.session) return { shard, role: 'primary', reason: 'session_mode' };
    if (input.read === undefined) return { shard, role: 'primary', reason: 'not_inspected' };
    if (!input.read) return { shard, role: 'primary', reason: 'write' };
    if (input.open) return { shard, role: 'primary', reason: 'open_batch' };
    if (this.primaryReads) return { shard, role: 'any', reason: 'read' };
    if (!input.hasReplica) return { shard, role: 'primary', reason: 'read_without_replica' };
    return { shard, role: 'replica', reason: 'read' };
  }
}
