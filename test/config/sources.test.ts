/** Which files autoreload has to watch. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/load.ts';
import { SECTIONS } from '../../src/config/schema.ts';
import { settingsOf } from '../../src/config/setting.ts';
import { sourceFiles } from '../../src/config/sources.ts';
import { SMALL } from './files.ts';

test('a configuration is made of its file and of those that it names, and not of the log', t => {
  const folder = mkdtempSync(join(tmpdir(), 'pglynx-sources-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const password = join(folder, 'password');
  writeFileSync(password, 'wonder');
  const text = SMALL.replace('[general]', `[general]\nlog_file = "${join(folder, 'log')}"`).replace(
    'password = "wonder"',
    `password_file = "${password}"`,
  );
  assert.deepEqual(sourceFiles(parseConfig(text, 'pgcat.toml', {})), ['pgcat.toml', password]);
});

test('every key that names a file is known to be read or to be written', () => {
  const keys = SECTIONS.flatMap(({ schema }) => settingsOf(schema)).filter(({ description }) =>
    /^File |^A file/i.test(description),
  );
  const value = (key: string) => `/somewhere/${key}`;
  const unread = keys.filter(({ key }) => {
    const general = { [key]: value(key) };
    const config = { ...parseConfig(SMALL, 'pgcat.toml', {}).config };
    return !sourceFiles({
      path: 'pgcat.toml',
      config: { ...config, general: { ...config.general, ...general } },
    }).includes(value(key));
  });
  assert.ok(keys.length > 5);
  assert.deepEqual([...new Set(unread.map(({ key }) => key))], ['log_file']);
});
