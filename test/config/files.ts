/** The small configuration file that these tests change, and ways to look at what comes of it. */
import assert from 'node:assert/strict';
import { type LoadedConfig, parseConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problem.ts';

/** The shortest useful file; each line is written out so that a test can count on its number. */
export const SMALL = [
  '[general]', //                               1
  'admin_username = "admin"', //                2
  'admin_password = "secret"', //               3
  '[pools.db]', //                              4
  'pool_mode = "transaction"', //               5
  '[pools.db.users.0]', //                      6
  'username = "alice"', //                      7
  'password = "wonder"', //                     8
  'pool_size = 5', //                           9
  '[pools.db.shards.0]', //                    10
  'database = "postgres"', //                  11
  'servers = [["10.0.0.1", 5432, "primary"]]', // 12
].join('\n');

/** {@link SMALL} with its line `number` replaced by `lines`. */
export function withLine(number: number, ...lines: string[]): string {
  return SMALL.split('\n')
    .toSpliced(number - 1, 1, ...lines)
    .join('\n');
}

/** {@link SMALL} with `lines` after its line `number`. */
export function afterLine(number: number, ...lines: string[]): string {
  return SMALL.split('\n')
    .toSpliced(number, 0, ...lines)
    .join('\n');
}

/** Loads `text` as the file f.toml. */
export function load(text: string, env: NodeJS.ProcessEnv = {}): LoadedConfig {
  return parseConfig(text, 'f.toml', env);
}

/** The error that `text` gives. */
export function errorOf(text: string, env: NodeJS.ProcessEnv = {}): ConfigError {
  try {
    load(text, env);
  } catch (thrown) {
    assert.ok(thrown instanceof ConfigError, String(thrown));
    return thrown;
  }
  assert.fail('the file was accepted');
}

/** The lines of the error that `text` gives, without the name of the file. */
export function mistakes(text: string, env: NodeJS.ProcessEnv = {}): string[] {
  return errorOf(text, env)
    .message.split('\n')
    .map(line => line.replace(/^f\.toml:/, ''));
}
