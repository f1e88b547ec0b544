/** A configuration file, read and checked: its settings and warnings, or all of its mistakes at once. */
import { readFileSync } from 'node:fs';
import { errorText } from '../errors.ts';
import { checkLogins, readHba } from './check-logins.ts';
import { checkRules } from './checks.ts';
import { forgottenExpiry } from './expiry.ts';
import type { Hba } from './hba.ts';
import { idleKeys } from './idle.ts';
import { type Modern, modernise } from './legacy.ts';
import { type Override, override } from './overrides.ts';
import { MIRROR_FIELDS, SERVER_FIELDS } from './pool.ts';
import { ConfigError, issueText, noticesOf, type Problem, problemLine } from './problem.ts';
import { type Config, configSchema } from './schema.ts';
import { expandVariables, readPasswordFiles } from './secrets.ts';
import {
  dotted,
  type KeyPath,
  type Notice,
  Positions,
  parseToml,
  type Table,
  TomlSyntaxError,
  tablesIn,
} from './toml.ts';
import { unbuiltKeys } from './unbuilt.ts';
import { nameWildcards } from './wildcards.ts';

/** A configuration that can be used. */
export interface LoadedConfig {
  /** The file it came from. */
  readonly path: string;
  /** What the file said. */
  readonly text: string;
  /** What an operator has changed since, in memory. */
  readonly overrides: readonly Override[];
  readonly config: Config;
  /** The lines of auth_hba_file, if there is one. */
  readonly hba: Hba | undefined;
  /** What the operator should know at the start and after a reload, a line each, in the order of the file. */
  readonly warnings: readonly string[];
}

/** Reads and checks the file at `path`. Throws {@link ConfigError}. */
export function loadConfig(path: string, env: NodeJS.ProcessEnv = process.env): LoadedConfig {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (thrown) {
    const message = `cannot be read: ${errorText(thrown)}`;
    throw new ConfigError(path, [{ path: '', line: 0, column: 0, message }]);
  }
  return parseConfig(text, path, env);
}

/**
 * Checks `text`, the content of the file at `path`. Variables come from `env`; relative names of files in it start from
 * the working directory, as in PgCat. `overrides` take the place of what it says. Throws {@link ConfigError}.
 */
export function parseConfig(
  text: string,
  path: string,
  env: NodeJS.ProcessEnv = process.env,
  overrides: readonly Override[] = [],
): LoadedConfig {
  text = text.replace(/^\uFEFF/, '');
  const file = parseFile(text, path);
  override(file, overrides);
  const { notices, moved } = modernise(file);
  nameWildcards(file);
  const problems = [...expandVariables(file, env), ...readPasswordFiles(file)];
  const parsed = configSchema.safeParse(file, { error: issueText });
  const { hba, problems: misfits } = readHba(file);
  problems.push(...noticesOf(parsed.error?.issues ?? []), ...checkRules(file), ...checkLogins(file), ...misfits);
  if (!parsed.success || problems.length > 0) throw new ConfigError(path, placed(problems, text, moved));
  const config = parsed.data;
  const warnings = [
    ...notices,
    ...unbuiltKeys(file, config),
    ...idleKeys(file, config),
    ...forgottenExpiry(file),
    ...repeatedUsers(file),
    ...shadowedPools(file),
  ].map(notice => ({ ...notice, about: 'key' as const }));
  const lines = placed(warnings, text, moved).map(line => problemLine(path, line));
  return { path, text, overrides, config, hba, warnings: lines };
}

function parseFile(text: string, path: string): Table {
  try {
    return parseToml(text);
  } catch (thrown) {
    if (!(thrown instanceof TomlSyntaxError)) throw thrown;
    throw new ConfigError(path, [{ path: '', ...thrown.position, message: thrown.message }]);
  }
}

/** PgCat lets the last of several users of one name win. */
function repeatedUsers(file: Table): Notice[] {
  return tablesIn(file.pools).flatMap(([pool, { users }]) =>
    tablesIn(users).flatMap(([index, { username }], place, all) => {
      const later = all.slice(place + 1).findLast(([, other]) => other.username === username);
      if (later === undefined) return [];
      const message = `has no effect: users.${later[0]} has the same username, and the last one counts`;
      return [{ path: ['pools', pool, 'users', index], message }];
    }),
  );
}

function shadowedPools(file: Table): Notice[] {
  const message = 'cannot be reached: the admin database has this name';
  return tablesIn(file.pools)
    .filter(([name]) => name === 'pgcat' || name === 'pgbouncer')
    .map(([name]) => ({ path: ['pools', name], message }));
}

/** `notices` with their places in `text`, in its order; of several at one key the first. */
function placed(notices: readonly Notice[], text: string, moved: Modern['moved']): Problem[] {
  if (notices.length === 0) return [];
  const positions = new Positions(text);
  const origins = new Map(moved.map(([now, origin]) => [dotted(now), origin]));
  const found = new Map<string, Problem>();
  for (const { path: now, message, about } of notices) {
    const origin = origins.get(dotted(now)) ?? now;
    const path = dotted(origin);
    if (found.has(path)) continue;
    const place = positions.holds(origin) ? origin : listed(origin);
    const { line, column } = about === 'key' ? positions.key(place) : positions.value(place);
    found.set(path, { path, line, column, message });
  }
  return [...found.values()].sort((a, b) => a.line - b.line || a.column - b.column);
}

/** A server written as a list has no field names: `servers.0.port` is its element 1. */
function listed(path: KeyPath): KeyPath {
  const [list, index, field] = path.slice(-3);
  const fields = list === 'servers' ? SERVER_FIELDS : list === 'mirrors' ? MIRROR_FIELDS : [];
  const place = fields.indexOf(String(field));
  return typeof index === 'number' && place >= 0 ? [...path.slice(0, -1), place] : path;
}
