/** One setting changed in memory: SET of the admin database. */
import { diffConfigs } from './diff.ts';
import { type LoadedConfig, parseConfig } from './load.ts';
import { meaningsOf, withOverride } from './overrides.ts';
import { ConfigError } from './problem.ts';
import { dotted, type KeyPath } from './toml.ts';

/**
 * `loaded` with one setting changed; `written` is TOML, or a string that may stand for another type. The file is not
 * read again.
 * @throws Error why it cannot be changed to that, in words
 */
export function setConfig(loaded: LoadedConfig, path: KeyPath, written: string): LoadedConfig {
  const changed = parseWith(loaded, path, written);
  const key = dotted(path);
  if (diffConfigs(loaded.config, changed.config).restart.includes(key))
    throw new Error(`${key}: only a restart changes it`);
  return changed;
}

function parseWith({ text, path: file, overrides }: LoadedConfig, path: KeyPath, written: string): LoadedConfig {
  let refusal: ConfigError | undefined;
  for (const value of meaningsOf(written)) {
    try {
      return parseConfig(text, file, process.env, withOverride(overrides, { path, value }));
    } catch (thrown) {
      if (!(thrown instanceof ConfigError)) throw thrown;
      refusal ??= thrown;
    }
  }
  // Where the file has the key says nothing of the value.
  throw new Error(refusal?.problems.map(problem => `${problem.path}: ${problem.message}`).join('; '));
}
