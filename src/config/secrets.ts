/** Values that the file takes from elsewhere: environment variables in strings, and passwords in files. */
import { readFileSync } from 'node:fs';
import { errorText } from '../errors.ts';
import { isTable, type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

const VARIABLE = /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g;

/**
 * Replaces each `${NAME}` in the strings of `file` by the environment variable, and `$${` by `${`, in place.
 * A variable that does not exist is a problem. Results of the intercept plugin keep their own `${DATABASE}` and `${USER}`.
 */
export function expandVariables(file: Table, env: NodeJS.ProcessEnv): Notice[] {
  const problems: Notice[] = [];
  const expand = (value: unknown, path: KeyPath): unknown => {
    if (typeof value === 'string') return expandText(value, path);
    if (path.at(-1) === 'result' && path.at(-3) === 'queries') return value;
    if (Array.isArray(value)) return value.map((element, index) => expand(element, [...path, index]));
    if (isTable(value)) for (const key of Object.keys(value)) value[key] = expand(value[key], [...path, key]);
    return value;
  };
  const expandText = (text: string, path: KeyPath): string =>
    text.replace(VARIABLE, (match, name: string | undefined) => {
      if (name === undefined) return '${';
      const value = env[name];
      if (value !== undefined) return value;
      problems.push({
        path,
        message: `names the environment variable ${name}, which is not set ("$${match}" is the text itself)`,
      });
      return match;
    });
  expand(file, []);
  return problems;
}

/** Fills each password of `file` that has a `..._file` beside it from that file, in place. */
export function readPasswordFiles(file: Table): Notice[] {
  const problems: Notice[] = [];
  const read = (table: unknown, at: KeyPath, keys: readonly string[]): void => {
    if (!isTable(table)) return;
    for (const key of keys) {
      const source = table[`${key}_file`];
      if (typeof source !== 'string') continue;
      const path = [...at, `${key}_file`];
      if (key in table) problems.push({ path, message: `stands beside ${key}; only one of them may be given` });
      else table[key] = readPassword(source, path, problems);
    }
  };
  read(file.general, ['general'], ['admin_password', 'stats_password', 'auth_query_password']);
  for (const [name, pool] of tablesIn(file.pools)) {
    read(pool, ['pools', name], ['auth_query_password']);
    for (const [user, table] of tablesIn(pool.users)) {
      read(table, ['pools', name, 'users', user], ['password', 'server_password']);
    }
  }
  return problems;
}

function readPassword(source: string, path: KeyPath, problems: Notice[]): string {
  try {
    const password = readFileSync(source, 'utf8').replace(/\r?\n$/, '');
    if (password === '') problems.push({ path, message: `names ${source}, which is empty` });
    return password;
  } catch (thrown) {
    problems.push({ path, message: `names a file that cannot be read: ${errorText(thrown)}` });
    return '';
  }
}
