/** The schema of the whole configuration file: the one source of every key's type, default, reload and description. */
import * as z from 'zod';
import { generalSchema } from './general.ts';
import { pluginsSchema } from './plugins.ts';
import { poolSchema, shardSchema, userSchema } from './pool.ts';
import { innermost } from './setting.ts';

/** The whole file. PgCat's own `path` is accepted and, as in PgCat, not used. */
export const configSchema = z.strictObject({
  path: z.string().optional(),
  general: generalSchema,
  plugins: pluginsSchema.optional(),
  pools: z.record(z.string(), poolSchema),
});

/** A configuration that is valid in every part; keys are named as in the file. */
export type Config = z.output<typeof configSchema>;

/** One [pools.NAME] section. */
export type PoolConfig = Config['pools'][string];

/** A section of the file, as documentation and messages name it. */
export interface Section {
  /** Short name, the first word of its rows in the table of what is not built. */
  readonly name: 'general' | 'pools' | 'users' | 'shards' | 'plugins';
  /** How its header looks in the file. */
  readonly header: string;
  readonly schema: z.ZodObject;
}

/** Every section, in the order of the documentation. */
export const SECTIONS: readonly Section[] = [
  { name: 'general', header: '[general]', schema: generalSchema },
  { name: 'pools', header: '[pools.NAME]', schema: poolSchema },
  { name: 'users', header: '[pools.NAME.users.N]', schema: userSchema },
  { name: 'shards', header: '[pools.NAME.shards.N]', schema: shardSchema },
  { name: 'plugins', header: '[plugins]', schema: pluginsSchema },
];

/** The keys that the table at `path` may hold; none where there is no table with fixed keys. */
export function keysAt(path: readonly PropertyKey[]): string[] {
  let schema: z.core.$ZodType | undefined = configSchema;
  for (const step of path) {
    const inner: z.core.$ZodType = innermost(schema);
    if (inner instanceof z.ZodObject) schema = inner.shape[String(step)];
    else if (inner instanceof z.ZodRecord) schema = inner.def.valueType;
    else if (inner instanceof z.ZodArray) schema = inner.def.element;
    else schema = undefined;
    if (schema === undefined) return [];
  }
  const table = innermost(schema);
  return table instanceof z.ZodObject ? Object.keys(table.shape) : [];
}
