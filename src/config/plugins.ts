/** The [plugins] section, for all pools or for one. */
import * as z from 'zod';
import { settingInfo } from './setting.ts';

const enabled = () => z.boolean().register(settingInfo, { reload: 'pools', description: 'Turns this plugin on.' });

/** The [plugins] section; every key of a plugin that is present is required. */
export const pluginsSchema = z.strictObject({
  intercept: z
    .strictObject({
      enabled: enabled(),
      queries: z.record(
        z.string(),
        z.strictObject({
          query: z.string().register(settingInfo, {
            reload: 'pools',
            description: 'Statement that is answered without a server.',
          }),
          schema: z.array(z.tuple([z.string(), z.string()])).register(settingInfo, {
            reload: 'pools',
            description: 'Columns of the answer: `[name, type]` each.',
          }),
          result: z.array(z.array(z.string())).register(settingInfo, {
            reload: 'pools',
            description:
              'Rows of the answer. `$` followed by `{DATABASE}` or `{USER}` stands for the pool or its user.',
          }),
        }),
      ),
    })
    .optional(),
  table_access: z
    .strictObject({
      enabled: enabled(),
      tables: z.array(z.string()).register(settingInfo, {
        reload: 'pools',
        description: 'Tables that no statement may touch.',
      }),
    })
    .optional(),
  query_logger: z.strictObject({ enabled: enabled() }).optional(),
  prewarmer: z
    .strictObject({
      enabled: enabled(),
      queries: z.array(z.string()).register(settingInfo, {
        reload: 'pools',
        description: 'Statements that run first on every new server connection.',
      }),
    })
    .optional(),
});
