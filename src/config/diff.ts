/** What changed between two configurations, and what it takes to apply the change. */
import { isDeepStrictEqual } from 'node:util';
import { type ClusterSettings, clusterSettings } from './cluster.ts';
import { generalSchema } from './general.ts';
import type { LoadedConfig } from './load.ts';
import type { Config } from './schema.ts';
import { settingsOf } from './setting.ts';
import { dotted, isTable, type KeyPath } from './toml.ts';

/** Names one cluster. */
export interface ClusterName {
  readonly database: string;
  readonly username: string;
}

/** The difference of two configurations. */
export interface ConfigDiff {
  /** Every key whose value differs, comes or goes, as `pools.db.users.0.pool_size`. */
  readonly keys: readonly string[];
  /** Those of `keys` that only a restart applies. */
  readonly restart: readonly string[];
  readonly added: readonly ClusterName[];
  readonly removed: readonly ClusterName[];
  /** Clusters of both whose settings differ, inherited ones included. */
  readonly changed: readonly ClusterName[];
}

/** Keys of [general] that only a restart changes. */
const FIXED = settingsOf(generalSchema)
  .filter(({ reload }) => reload === 'restart')
  .map(({ key }) => key);

/** Compares the running configuration with the one to run next. */
export function diffConfigs(before: Config, after: Config): ConfigDiff {
  const keys = changedKeys(before, after, []).map(dotted);
  const old = clustersByName(before);
  const now = clustersByName(after);
  return {
    keys,
    restart: FIXED.map(key => `general.${key}`).filter(key => keys.includes(key)),
    added: [...now].filter(([name]) => !old.has(name)).map(nameOf),
    removed: [...old].filter(([name]) => !now.has(name)).map(nameOf),
    changed: [...now]
      .filter(([name, settings]) => old.has(name) && !isDeepStrictEqual(old.get(name), settings))
      .map(nameOf),
  };
}

/** `after` as far as a reload can apply it: what only a restart changes stays as it is in `before`. */
export function withoutRestart(before: Config, after: Config): Config {
  const known = new Map(Object.entries(before.general));
  const kept = FIXED.map(key => [key, known.get(key)] as const);
  return { ...after, general: { ...after.general, ...Object.fromEntries(kept) } };
}

/** The name of the file of auth_hba_file, when it holds something else than before. */
export function changedRules(before: LoadedConfig, after: LoadedConfig): string[] {
  const { auth_hba_file } = after.config.general;
  const isOther = auth_hba_file !== before.config.general.auth_hba_file || after.hba?.text === before.hba?.text;
  return isOther || auth_hba_file === undefined ? [] : [auth_hba_file];
}

function clustersByName(config: Config): Map<string, ClusterSettings> {
  return new Map(
    clusterSettings(config).map(cluster => [JSON.stringify([cluster.database, cluster.username]), cluster]),
  );
}

function nameOf([, { database, username }]: readonly [string, ClusterSettings]): ClusterName {
  return { database, username };
}

/** Paths of the values that differ; a list counts as one value, a table that comes or goes as its keys. */
function changedKeys(before: unknown, after: unknown, path: KeyPath): KeyPath[] {
  const [old, now] = [before, after].map(value => (isTable(value) ? value : {}));
  if (!isTable(before) && !isTable(after)) return isDeepStrictEqual(before, after) ? [] : [path];
  const keys = new Set([...Object.keys(old ?? {}), ...Object.keys(now ?? {})]);
  return [...keys].flatMap(key => changedKeys(old?.[key], now?.[key], [...path, key]));
}
