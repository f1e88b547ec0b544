/** Settings that do nothing in the company they are in: each is told of once, at the start. */
import { idleEncryption } from './encryption.ts';
import type { Config } from './schema.ts';
import { type Notice, type Table, tablesIn } from './toml.ts';

/** Settings of a pool that need the parser, and when they ask for anything. */
const PARSED: ReadonlyMap<string, (value: unknown) => boolean> = new Map([
  ['automatic_sharding_key', value => value !== undefined],
  ['db_activity_based_routing', value => value === true],
]);

/** Settings of a pool that need several shards. */
const SHARDED: readonly string[] = ['automatic_sharding_key', 'sharding_key_regex', 'shard_id_regex'];

/** One notice for each key of `file` that asks for something and gets nothing; `config` is what `file` means. */
export function idleKeys(file: Table, config: Config): Notice[] {
  const pools = tablesIn(file.pools).flatMap(([name, written]) => {
    const pool = config.pools[name];
    if (pool === undefined) return [];
    const parsed = pool.query_parser_enabled
      ? []
      : [...PARSED].filter(([key, asks]) => asks(written[key])).map(([key]) => [key, 'query_parser_enabled'] as const);
    const sharded =
      Object.keys(pool.shards).length > 1
        ? []
        : SHARDED.filter(key => written[key] !== undefined).map(key => [key, 'a second shard'] as const);
    return [...parsed, ...sharded].map(([key, missing]) => ({
      path: ['pools', name, key],
      message: `has no effect without ${missing}`,
    }));
  });
  return [...pools, ...idleEncryption(file)];
}
