/** What routing knows of one cluster: its shards and their servers, its catalog, and what replicas refused. */
import type { ClusterSettings } from '../config/cluster.ts';
import { CommentPatterns } from '../routing/comments.ts';
import type { JudgeContext } from '../routing/judge.ts';
import { type ShardingKey, shardingKey } from '../routing/values.ts';
import { Sharder } from '../sharding/sharder.ts';
import type { Catalog } from '../sql/catalog.ts';
import type { Statement } from '../sql/statement.ts';

/** What a directory asks of its cluster. */
export interface DirectoryOwner {
  readonly settings: ClusterSettings;
  readonly catalog: Catalog;
  has(role: 'primary' | 'replica', shard: number): boolean;
  /** Whether no server of the shard is banned or known to refuse connections. */
  isHealthy(shard: number): boolean;
}

export class Directory implements JudgeContext {
  readonly settings: ClusterSettings;
  readonly sharder: Sharder;
  readonly key: ShardingKey | undefined;
  readonly patterns: CommentPatterns | undefined;
  readonly length_max: number;
  refused = new WeakSet<Statement>();
  readonly #owner: DirectoryOwner;
  readonly #random: () => number;

  /** `random` yields numbers in [0, 1). */
  constructor(owner: DirectoryOwner, random: () => number) {
    const { settings } = owner;
    const { sharding, shards } = settings;
    this.settings = settings;
    this.sharder = new Sharder(sharding.function, shards.length);
    const isKeyed = shards.length > 1 && settings.query_parser_enabled;
    this.key = isKeyed && sharding.automatic_key !== undefined ? shardingKey(sharding.automatic_key) : undefined;
    const { key_regex, id_regex } = sharding;
    const isPatterned = shards.length > 1 && (key_regex !== undefined || id_regex !== undefined);
    this.patterns = isPatterned ? new CommentPatterns(sharding) : undefined;
    this.length_max = settings.query_parser_max_length ?? Number.POSITIVE_INFINITY;
    this.#owner = owner;
    this.#random = random;
  }

  /** Functions and views are others now: what replicas refused they may take. */
  forgetRefusals(): void {
    this.refused = new WeakSet();
  }

  get catalog(): Catalog {
    return this.#owner.catalog;
  }

  hasReplica(shard: number): boolean {
    return this.#owner.has('replica', shard);
  }

  defaultShard(): number {
    const { default_shard } = this.settings;
    if (typeof default_shard === 'number') return default_shard;
    return default_shard === 'random' ? this.anyShard() : this.#healthyShard();
  }

  anyShard(): number {
    return Math.floor(this.#random() * this.sharder.shards);
  }

  #healthyShard(): number {
    const numbers = this.settings.shards.map(({ number }) => number);
    const healthy = numbers.filter(number => this.#owner.isHealthy(number));
    if (healthy.length === 0) return this.anyShard();
    return healthy[Math.floor(this.#random() * healthy.length)];
  }
}
