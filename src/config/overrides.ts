/** Settings that an operator has changed in memory, over those of the file: SET of the admin database. */
import { didYouMean } from './spelling.ts';
import { dotted, isTable, type KeyPath, parseToml, type Table, TomlSyntaxError } from './toml.ts';

/** One of them. */
export interface Override {
  readonly path: KeyPath;
  readonly value: unknown;
}

/** A key that the configuration has no place for. */
export class OverrideError extends Error {
  override readonly name = 'OverrideError';
}

/**
 * Puts the overrides in the place of what `file` says.
 * @throws OverrideError there is no pool, user or shard of that name
 */
export function override(file: Table, overrides: readonly Override[]): void {
  for (const { path, value } of overrides) {
    if (path.includes('__proto__')) throw new OverrideError('__proto__: is not a setting');
    let table = file;
    for (const [at, step] of path.slice(0, -1).entries()) {
      const inner = Object.hasOwn(table, step) ? table[step] : undefined;
      // Tables of these names are the operator's own; the others may be left out of a file.
      const isNamed = path[0] === 'pools' && (at === 1 || (at === 3 && (path[2] === 'users' || path[2] === 'shards')));
      if (isNamed && !isTable(inner)) {
        const known = didYouMean(String(step), Object.keys(table));
        throw new OverrideError(`${dotted(path.slice(0, at + 1))}: is not in the configuration${known}`);
      }
      const next = isTable(inner) ? inner : {};
      table[String(step)] = next;
      table = next;
    }
    table[String(path.at(-1))] = value;
  }
}

/** `overrides` with one more, which takes the place of an earlier one of the same key. */
export function withOverride(overrides: readonly Override[], added: Override): Override[] {
  const name = dotted(added.path);
  return [...overrides.filter(({ path }) => dotted(path) !== name), added];
}

/** What a written value may mean, the likeliest first: TOML, else a string, quoted or not, that may spell another type. */
export function meaningsOf(written: string): unknown[] {
  const value = tomlValue(written) ?? unquoted(written);
  if (typeof value !== 'string') return [value];
  const isNumber = /^[+-]?\d+(\.\d+)?$/.test(value);
  const boolean = BOOLEANS.get(value.toLowerCase());
  return [value, ...(isNumber ? [Number(value)] : []), ...(boolean === undefined ? [] : [boolean])];
}

/** PostgreSQL's and PgBouncer's spellings. */
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['on', true],
  ['true', true],
  ['yes', true],
  ['1', true],
  ['off', false],
  ['false', false],
  ['no', false],
  ['0', false],
]);

function tomlValue(written: string): unknown {
  try {
    return parseToml(`value = ${written}`).value;
  } catch (thrown) {
    if (thrown instanceof TomlSyntaxError) return undefined;
    throw thrown;
  }
}

function unquoted(written: string): string {
  const quoted = /^'((?:[^']|'')*)'$/.exec(written)?.[1];
  return quoted?.replaceAll("''", "'") ?? written;
}
