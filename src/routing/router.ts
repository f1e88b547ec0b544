/** Decides for one client where each batch goes, from its commands, comments, the pool's settings and the grammar. */
import { type PgError, pgError } from '../errors.ts';
import type { Sharder } from '../sharding/sharder.ts';
import type { Demand } from './demand.ts';
import type { Hint } from './hints.ts';
import type { Route, RouteReason, ShardReason } from './route.ts';

/** The settings that decide. */
export interface RoutingSettings {
  readonly default_role: 'any' | 'primary' | 'replica';
  readonly read_write_splitting: boolean;
  readonly primary_reads_enabled: boolean;
}

/** What a router knows of the cluster that it routes for. */
export interface RoutingContext {
  readonly settings: RoutingSettings;
  readonly sharder: Sharder;
  /** Whether a replica is configured in this shard. */
  hasReplica(shard: number): boolean;
  /** The shard of a statement that names none. */
  defaultShard(): number;
  /** Any shard, at random. */
  anyShard(): number;
}

/** What a batch asks of a route beside its {@link Demand}. */
export interface RouteInput {
  /** Whether statements run before the batch has ended, so that a write may follow. */
  readonly open: boolean;
  /** Whether the client keeps the connection it gets now to its end. */
  readonly session: boolean;
  /** Why reads of these tables must not go to a replica now; undefined when they may. */
  readonly stale: 'initializing' | 'recently_written' | undefined;
}

/** A shard and how it was found. */
interface Place {
  readonly shard: number;
  readonly shardReason: ShardReason;
  readonly how: string;
}

/** A shard that a client chose, perhaps by a key. */
interface Choice {
  readonly shard: number;
  readonly how: string;
  readonly key?: string;
}

const ONLY_SHARD: Place = { shard: 0, shardReason: 'only_shard', how: '' };

type FixedRole = 'primary' | 'replica' | 'any';

/** One client's choices, sticky until it changes them, and the decisions that follow. */
export class Router {
  #context: RoutingContext;
  /** The role fixed by SET SERVER ROLE; `auto` splits reads and writes; undefined follows the pool's settings. */
  #role: FixedRole | 'auto' | undefined;
  #primaryReads: boolean | undefined;
  /** The last route. */
  #last: Route | undefined;
  /** The shard fixed by SET SHARD or SET SHARDING KEY. */
  #shard: Choice | undefined;

  constructor(context: RoutingContext) {
    this.#context = context;
  }

  /** A reload changed the pool; the client's choices stay, and nothing runs elsewhere if their shard is gone. */
  configure(context: RoutingContext): void {
    this.#context = context;
    const choice = this.#shard;
    if (choice?.key === undefined || this.#chooseKey(choice.key) === undefined) return;
    this.#shard = { ...choice, shard: context.sharder.shards };
  }

  /** Whether statements must be inspected to find their role. */
  get splitting(): boolean {
    return this.#role === undefined ? this.#context.settings.read_write_splitting : this.#role === 'auto';
  }

  /** Whether reads may go to the primary as well. */
  get primaryReads(): boolean {
    return this.#primaryReads ?? this.#context.settings.primary_reads_enabled;
  }

  /** What SHOW SERVER ROLE answers. */
  get serverRole(): string {
    return this.splitting ? 'auto' : this.#fixedRole;
  }

  /** The shard that the client chose; undefined when it chose none. */
  get chosenShard(): number | undefined {
    return this.#shard?.shard;
  }

  get #fixedRole(): FixedRole {
    return this.#role === undefined || this.#role === 'auto' ? this.#context.settings.default_role : this.#role;
  }

  /** Carries out a SET command unless `unfit` says afterwards why its choice cannot be followed. */
  attempt(hint: Hint, unfit: () => PgError | undefined): PgError | undefined {
    const before = { role: this.#role, primaryReads: this.#primaryReads, shard: this.#shard };
    const refusal = this.apply(hint) ?? unfit();
    if (refusal === undefined) return undefined;
    this.#role = before.role;
    this.#primaryReads = before.primaryReads;
    this.#shard = before.shard;
    return refusal;
  }

  /** Carries out a SET command; the error when it asks for what there is not, and nothing has changed. */
  apply(hint: Hint): PgError | undefined {
    switch (hint.command) {
      case 'set_server_role':
        this.#role = hint.value === 'default' ? undefined : hint.value;
        return undefined;
      case 'set_primary_reads':
        this.#primaryReads = hint.value === 'default' ? undefined : hint.value === 'on';
        return undefined;
      case 'set_shard':
        return this.#chooseShard(hint.value);
      case 'set_sharding_key':
        return this.#chooseKey(hint.value);
      case 'invalid':
        return pgError('invalid_command', hint.message);
      default:
        return undefined;
    }
  }

  /** The route of a batch, or why it has none: then it must not run. */
  route(demand: Demand, input: RouteInput): Route | PgError {
    const place = this.#place(demand);
    if ('sqlstate' in place) return place;
    const reason = this.#reason(demand, input, place.shard);
    const role = this.#roleFor(reason, demand);
    const { shareable } = demand;
    const last = this.#last;
    // Most statements go the way of the one before.
    const isSame = last !== undefined && last.role === role && last.reason === reason && last.shareable === shareable;
    if (isSame && last.shard === place.shard && last.shardReason === place.shardReason && last.how === place.how)
      return last;
    const { shard, shardReason, how } = place;
    this.#last = { shard, role, reason, shardReason, how, shareable };
    return this.#last;
  }

  #reason(demand: Demand, input: RouteInput, shard: number): RouteReason {
    if (demand.wish?.role !== undefined) return 'comment';
    if (!this.splitting) return this.#role === undefined ? 'default_role' : 'chosen';
    if (input.session) return 'session_mode';
    if (demand.read === undefined) return 'not_inspected';
    if (!demand.read) return 'write';
    if (input.open) return 'open_batch';
    if (input.stale !== undefined) return input.stale;
    return this.primaryReads || this.#context.hasReplica(shard) ? 'read' : 'read_without_replica';
  }

  #roleFor(reason: RouteReason, demand: Demand): FixedRole {
    if (reason === 'comment') return demand.wish?.role ?? 'primary';
    if (reason === 'default_role' || reason === 'chosen') return this.#fixedRole;
    if (reason !== 'read') return 'primary';
    return this.primaryReads ? 'any' : 'replica';
  }

  /** Whether a batch may run on the connection to `shard` that the client holds; the error when it may not. */
  refusalOn(shard: number, demand: Demand): PgError | undefined {
    if (this.#context.sharder.shards === 1)
      return demand.wish?.error === undefined ? undefined : wrongComment(demand.wish.error);
    const wished = this.#wished(demand);
    if (wished !== undefined && 'sqlstate' in wished) return wished;
    if (wished !== undefined && wished.shard !== shard) return pgError('other_shard', shard, wished.shard, wished.how);
    if (wished !== undefined) return this.#refusal(demand, shard, demand.isWishOfAll, 'a comment');
    const { answer } = demand;
    const isNamed = this.#shard !== undefined;
    if (demand.error !== undefined && !isNamed) return demand.error;
    if (answer.kind === 'one' && answer.shard !== shard && !(isNamed && demand.read === true))
      return pgError('other_shard', shard, answer.shard, answer.how);
    return this.#refusal(demand, shard, isNamed, 'the transaction');
  }

  #place(demand: Demand): Place | PgError {
    const { sharder } = this.#context;
    const { wish } = demand;
    const asked = wish === undefined ? undefined : this.#wished(demand);
    if (asked !== undefined && 'sqlstate' in asked) return asked;
    if (demand.error !== undefined && asked === undefined && this.#shard === undefined) return demand.error;
    const choice = asked === undefined ? this.#shard : undefined;
    if (choice !== undefined && choice.shard >= sharder.shards)
      return pgError('unknown_shard', choice.shard, sharder.shards, '');
    if (sharder.shards === 1) return ONLY_SHARD;
    if (asked !== undefined) {
      const refusal = this.#refusal(demand, asked.shard, demand.isWishOfAll, 'a comment');
      return refusal ?? { ...asked, shardReason: 'comment' };
    }
    if (this.#shard !== undefined) {
      const refusal = this.#refusal(demand, this.#shard.shard, true, this.#shard.how);
      return refusal ?? { ...this.#shard, shardReason: 'chosen' };
    }
    const { answer } = demand;
    if (answer.kind === 'one') return { shard: answer.shard, shardReason: 'key', how: answer.how };
    if (answer.kind !== 'none') return refused(demand);
    return { shard: this.#context.defaultShard(), shardReason: 'default', how: '' };
  }

  /**
   * Why rows of a batch must not be sought or put on `shard`. Where the client itself has named the shard, it may read
   * whatever is there, and it may run what pglynx cannot place; a row that belongs elsewhere it may not write.
   */
  #refusal(demand: Demand, shard: number, isNamed: boolean, by: string): PgError | undefined {
    const { answer } = demand;
    if (answer.kind === 'none' || (answer.kind === 'one' && answer.shard === shard)) return undefined;
    if (answer.kind === 'one') {
      return isNamed && demand.read === true
        ? undefined
        : pgError('key_elsewhere', answer.how, answer.shard, shard, by);
    }
    if (answer.kind === 'several') return isNamed && demand.read === true ? undefined : refused(demand);
    const inVain = answer.kind === 'refused' && answer.assigned === true;
    return isNamed && !inVain ? undefined : refused(demand);
  }

  /** The shard that comments name. */
  #wished({ wish }: Demand): { readonly shard: number; readonly how: string } | PgError | undefined {
    if (wish === undefined) return undefined;
    if (wish.error !== undefined) return wrongComment(wish.error);
    const { sharder } = this.#context;
    if (wish.shard !== undefined) {
      if (wish.shard < sharder.shards) return { shard: wish.shard, how: `shard ${wish.shard}` };
      return pgError('unknown_shard', wish.shard, sharder.shards, '');
    }
    if (wish.sharding_key === undefined) return undefined;
    const shard = sharder.shardOfText(wish.sharding_key);
    if (shard === undefined)
      return wrongComment(`${JSON.stringify(wish.sharding_key)} is no sharding key of this pool`);
    return { shard, how: `key ${wish.sharding_key}` };
  }

  #chooseShard(value: number | 'any' | 'default'): PgError | undefined {
    const { shards } = this.#context.sharder;
    if (value === 'default') this.#shard = undefined;
    else if (value === 'any') {
      const shard = this.#context.anyShard();
      this.#shard = { shard, how: `SET SHARD TO ANY, which was ${shard}` };
    } else if (value < shards) this.#shard = { shard: value, how: `SET SHARD TO ${value}` };
    else {
      const staying = this.#shard === undefined ? '' : `; staying on shard ${this.#shard.shard}`;
      return pgError('unknown_shard', value, shards, staying);
    }
    return undefined;
  }

  #chooseKey(value: string): PgError | undefined {
    const shard = this.#context.sharder.shardOfText(value);
    if (shard === undefined)
      return pgError('invalid_command', `${JSON.stringify(value)} is no sharding key of this pool`);
    this.#shard = { shard, how: `SET SHARDING KEY TO ${value}`, key: value };
    return undefined;
  }
}

function refused({ answer }: Demand): PgError {
  switch (answer.kind) {
    case 'several':
      return pgError('several_shards', answer.shards.join(', '), answer.how);
    case 'every':
      return pgError('every_shard', answer.how);
    case 'refused':
      return pgError(answer.assigned === true ? 'key_updated' : 'shard_refused', answer.how);
    default:
      return pgError('shard_refused', '');
  }
}

function wrongComment(message: string): PgError {
  return pgError('invalid_comment', message);
}
