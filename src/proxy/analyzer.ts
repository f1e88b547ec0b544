/** The analyzer of statements for a configuration: which columns it looks for. */
import { everySettings } from '../config/cluster.ts';
import type { LoadedConfig } from '../config/load.ts';
import { shardingKey } from '../routing/values.ts';
import { Analyzer } from '../sql/cache.ts';

export function analyzerFor(loaded: LoadedConfig): Promise<Analyzer> {
  const now = () => performance.now();
  const max_length = loaded.config.general.query_analysis_max_length;
  return Analyzer.create({ now, max_length }).then(analyzer => {
    analyzer.columns = keyColumns(loaded);
    return analyzer;
  });
}

/** Names of all columns that are sharding keys of a pool with shards. */
export function keyColumns({ config }: Pick<LoadedConfig, 'config'>): ReadonlySet<string> {
  const keyed = everySettings(config).filter(({ shards }) => shards.length > 1);
  const written = keyed.flatMap(({ sharding }) => sharding.automatic_key ?? []);
  return new Set(written.map(key => shardingKey(key).column));
}
