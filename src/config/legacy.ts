/** Names and places that PgCat's documents, chart or older releases use and its code does not read. */
import { isTable, type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

/** Wrong names in PgCat's documents (the first) and Helm chart (the second), with what they mean. */
export const MISSPELT: ReadonlyMap<string, string> = new Map([
  ['db_activity_based_ms_init_delay', 'db_activity_init_delay'],
  ['table_mutation_cache_ttl', 'table_mutation_cache_ms_ttl'],
]);

/** Keys that PgCat's documents have in [general] and its code reads nowhere. */
export const UNREAD_IN_GENERAL: ReadonlyMap<string, string> = new Map([
  ['verify_config', 'has no effect, as in PgCat; the setting is validate_config'],
  ['sync_server_parameters', 'has no effect, as in PgCat: session parameters always follow the client'],
  ['prepared_statements', 'has no effect, as in PgCat; prepared_statements_cache_size of a pool is the switch'],
]);

/** Keys of [general] that PgCat's sample file has in a pool. */
export const UNREAD_IN_POOLS: ReadonlyMap<string, string> = new Map([
  ['dns_cache_enabled', 'has no effect here, as in PgCat; its place is [general]'],
  ['dns_max_ttl', 'has no effect here, as in PgCat; its place is [general]'],
]);

/** A file in today's names, with what was changed. */
export interface Modern {
  readonly notices: readonly Notice[];
  /** For each value that moved, where the file has it: [new path, path in the file]. */
  readonly moved: readonly (readonly [KeyPath, KeyPath])[];
}

/** Renames, moves and removes the legacy keys of `file`, in place. */
export function modernise(file: Table): Modern {
  const notices: Notice[] = [];
  const moved: (readonly [KeyPath, KeyPath])[] = [];
  if (isTable(file.general)) {
    drop(file.general, ['general'], UNREAD_IN_GENERAL, notices);
    moveCacheSize(file, file.general, notices, moved);
  }
  for (const [name, pool] of tablesIn(file.pools)) {
    drop(pool, ['pools', name], UNREAD_IN_POOLS, notices);
    for (const [wrong, right] of MISSPELT) {
      if (!(wrong in pool)) continue;
      const path = ['pools', name, wrong];
      if (right in pool) {
        notices.push({ path, message: `has no effect beside ${right}, which is its right name` });
      } else {
        notices.push({ path, message: `is read as ${right}, its right name` });
        moved.push([['pools', name, right], path]);
        pool[right] = pool[wrong];
      }
      delete pool[wrong];
    }
  }
  dropStrayPlugins(file, notices);
  return { notices, moved };
}

/** PgCat's documents place the size of the statement cache in [general]; it belongs to the pools. */
function moveCacheSize(file: Table, general: Table, notices: Notice[], moved: Modern['moved'][number][]): void {
  const key = 'prepared_statements_cache_size';
  if (!(key in general)) return;
  const path = ['general', key];
  notices.push({ path, message: 'belongs in [pools.NAME]; every pool that has none of its own takes this one' });
  for (const [name, pool] of tablesIn(file.pools)) {
    if (key in pool) continue;
    pool[key] = general[key];
    moved.push([['pools', name, key], path]);
  }
  delete general[key];
}

/** PgCat's sample file has a [pool.NAME.plugins]; a `pool` that holds anything else is a mistake to report. */
function dropStrayPlugins(file: Table, notices: Notice[]): void {
  const stray = tablesIn(file.pool);
  if (stray.length === 0 || !stray.every(([, pool]) => Object.keys(pool).join() === 'plugins')) return;
  for (const [name] of stray) {
    notices.push({
      path: ['pool', name, 'plugins'],
      message: 'has no effect, as in PgCat; the section is [pools.NAME]',
    });
  }
  delete file.pool;
}

function drop(table: Table, at: KeyPath, unread: ReadonlyMap<string, string>, notices: Notice[]): void {
  for (const [key, message] of unread) {
    if (!(key in table)) continue;
    notices.push({ path: [...at, key], message });
    delete table[key];
  }
}
