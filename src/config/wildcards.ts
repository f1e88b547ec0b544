/** Databases and users that the file does not list: what `[pools."*"]` and the username `*` make of them. */
import { type ClusterSettings, settingsOf, type UserConfig, WILDCARD } from './cluster.ts';
import type { Config } from './schema.ts';
import { isTable, type Table, tablesIn } from './toml.ts';

/** Bytes of the longest name that PostgreSQL knows; it would cut off the rest, and mean somebody else. */
export const NAME_LENGTH_MAX = 63;

/** Where auth_query runs for databases that may not be there. */
const USUAL_DATABASE = 'postgres';

/** What an unlisted user, or any user of an unlisted database, runs with; undefined where the file has no `*` for it. */
export function unlistedSettings(config: Config, database: string, user: string): ClusterSettings | undefined {
  if (Buffer.byteLength(database) > NAME_LENGTH_MAX || Buffer.byteLength(user) > NAME_LENGTH_MAX) return undefined;
  const isListed = database !== WILDCARD && Object.hasOwn(config.pools, database);
  const pool = config.pools[isListed ? database : WILDCARD];
  if (pool === undefined) return undefined;
  const users = Object.values(pool.users);
  const listed = user === WILDCARD ? undefined : users.findLast(({ username }) => username === user);
  // A listed user of a listed database is none of these.
  if (isListed && listed !== undefined) return undefined;
  const section: UserConfig | undefined = listed ?? users.findLast(({ username }) => username === WILDCARD);
  if (section === undefined) return undefined;
  const settings = settingsOf(config.general, database, pool, { ...section, username: user });
  return isListed ? settings : inDatabase(settings, database);
}

/** `settings` of `[pools."*"]` for a database of that name. */
function inDatabase(settings: ClusterSettings, name: string): ClusterSettings {
  const { auth_query } = settings;
  const asked = auth_query?.database === WILDCARD ? USUAL_DATABASE : auth_query?.database;
  return {
    ...settings,
    auth_query: auth_query && { ...auth_query, database: asked ?? USUAL_DATABASE, pool: WILDCARD },
    shards: settings.shards.map(shard => ({ ...shard, database: shard.database === WILDCARD ? name : shard.database })),
  };
}

/** Fills the `username` of each `users."*"` that has none, in place. */
export function nameWildcards(file: Table): void {
  for (const [, { users }] of tablesIn(file.pools)) {
    const section = isTable(users) ? users[WILDCARD] : undefined;
    if (isTable(section)) section.username ??= WILDCARD;
  }
}
