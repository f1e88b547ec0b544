/** The settings in force as rows of text: what SHOW CONFIG prints. */
import type * as z from 'zod';
import { generalSchema } from './general.ts';
import { poolSchema, shardSchema, userSchema } from './pool.ts';
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

/** Sections of their own, or too long for a row. */
const TABLES = ['users', 'shards', 'plugins'];

/** The rows of `config`: [general], then each pool with its users and shards. Passwords are masked. */
export function settingRows(config: Config): SettingRow[] {
  const general = settingsOf(generalSchema).map(setting => row(setting.key, setting, Object.entries(config.general)));
  const keys = settingsOf(poolSchema).filter(({ key }) => !TABLES.some(table => key.startsWith(table)));
  const ofPgCat = keys.filter(({ key }) => SHOWN_OF_POOL.includes(key));
  const others = keys.filter(({ key }) => !SHOWN_OF_POOL.includes(key));
  const pools = Object.entries(config.pools).flatMap(([name, pool]) => {
    const splitting = pool.query_parser_read_write_splitting ?? pool.query_parser_enabled;
    const values = Object.entries({ ...pool, query_parser_read_write_splitting: splitting });
    const users = Object.values(pool.users).map(({ username }) => username);
    const rowOf = (setting: Setting) => row(`pools.${name}.${setting.key}`, setting, values);
    // PgCat quotes the pool's name in these two and in no other.
    return [
      ...ofPgCat.map(rowOf),
      counted(`pools."${name}".shard_count`, String(Object.keys(pool.shards).length)),
      counted(`pools."${name}".users`, users.join(', ')),
      ...others.map(rowOf),
      ...sectionRows(`pools.${name}.users`, userSchema, pool.users),
      ...sectionRows(`pools.${name}.shards`, shardSchema, pool.shards),
    ];
  });
  return [...general, ...pools];
}

/** The rows of each section in `sections`. */
function sectionRows(prefix: string, schema: z.ZodObject, sections: Readonly<Record<string, object>>): SettingRow[] {
  const keys = settingsOf(schema);
  return Object.entries(sections).flatMap(([name, section]) =>
    keys.map(setting => row(`${prefix}.${name}.${setting.key}`, setting, Object.entries(section))),
  );
}

function row(key: string, setting: Setting, values: readonly (readonly [string, unknown])[]): SettingRow {
  const value = values.find(([name]) => name === setting.key)?.[1];
  const unset = setting.unset === 'unlimited' ? 'unlimited' : '-';
  return {
    key,
    value: value === undefined ? unset : setting.secret ? '********' : valueText(value),
    default: setting.default === undefined ? unset : valueText(setting.default),
    changeable: setting.reload === 'restart' ? 'no' : 'yes',
  };
}

function counted(key: string, value: string): SettingRow {
  return { key, value, default: '-', changeable: 'yes' };
}

function valueText(value: unknown): string {
  const isPlain = typeof value !== 'object' || (Array.isArray(value) && value.every(item => typeof item !== 'object'));
  return isPlain ? String(value) : JSON.stringify(value);
}
