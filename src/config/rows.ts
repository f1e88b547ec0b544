/** The settings in force as rows of text: what SHOW CONFIG prints. */
import { generalSchema } from './general.ts';
import { poolSchema } from './pool.ts';
import type { Config } from './schema.ts';
import { type Setting, settingsOf } from './setting.ts';

/** One row; the columns are PgBouncer's and PgCat's. */
export interface SettingRow {
  readonly key: string;
  readonly value: string;
  /** `-` where the setting has none. */
  readonly default: string;
  /** Whether a reload can change it. */
  readonly changeable: 'yes' | 'no';
}

/** The keys of a pool that PgCat shows. */
const SHOWN_OF_POOL = [
  'pool_mode',
  'load_balancing_mode',
  'primary_reads_enabled',
  'query_parser_enabled',
  'query_parser_max_length',
  'query_parser_read_write_splitting',
  'default_role',
  'sharding_function',
];

/** The rows of `config`: [general], then each pool. Passwords are masked. */
export function settingRows(config: Config): SettingRow[] {
  const general = settingsOf(generalSchema).map(setting => row(setting.key, setting, Object.entries(config.general)));
  const shown = settingsOf(poolSchema).filter(({ key }) => SHOWN_OF_POOL.includes(key));
  const pools = Object.entries(config.pools).flatMap(([name, pool]) => {
    const splitting = pool.query_parser_read_write_splitting ?? pool.query_parser_enabled;
    const values = Object.entries({ ...pool, query_parser_read_write_splitting: splitting });
    const users = Object.values(pool.users).map(({ username }) => username);
    // PgCat quotes the pool's name in these two and in no other.
    return [
      ...shown.map(setting => row(`pools.${name}.${setting.key}`, setting, values)),
      counted(`pools."${name}".shard_count`, String(Object.keys(pool.shards).length)),
      counted(`pools."${name}".users`, users.join(', ')),
    ];
  });
  return [...general, ...pools];
}

function row(key: string, setting: Setting, values: readonly (readonly [string, unknown])[]): SettingRow {
  const value = values.find(([name]) => name === setting.key)?.[1];
  const unset = setting.unset === 'unlimited' ? 'unlimited' : '-';
  return {
    key,
    value: value === undefined ? unset : setting.secret ? '********' : String(value),
    default: setting.default === undefined ? unset : String(setting.default),
    changeable: setting.reload === 'restart' ? 'no' : 'yes',
  };
}

function counted(key: string, value: string): SettingRow {
  return { key, value, default: '-', changeable: 'yes' };
}
