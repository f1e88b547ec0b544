/** The generated pages and the schema agree. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { keysAt, SECTIONS } from '../../src/config/schema.ts';
import { settingsOf } from '../../src/config/setting.ts';
import { UNBUILT } from '../../src/config/unbuilt.ts';
import { ERRORS, type ErrorKind } from '../../src/errors.ts';

const docs = join(import.meta.dirname, '../../docs');
const folder = mkdtempSync(join(tmpdir(), 'pglynx-docs-'));
after(() => rmSync(folder, { recursive: true }));

const generate = (...words: string[]) =>
  spawnSync(process.execPath, [join(docs, 'generate.ts'), ...words], { encoding: 'utf8' });

test('docs/CONFIG.md is what npm run docs writes', () => {
  assert.equal(generate(folder).status, 0);
  assert.equal(readFileSync(join(docs, 'CONFIG.md'), 'utf8'), readFileSync(join(folder, 'CONFIG.md'), 'utf8'));
});

test('--check passes on fresh pages, and fails with the name of a stale or missing one', () => {
  assert.equal(generate('--check', folder).status, 0);
  appendFileSync(join(folder, 'CONFIG.md'), 'stale\n');
  const stale = generate('--check', folder);
  assert.equal(stale.status, 1);
  assert.match(stale.stderr, /CONFIG\.md is stale/);
  assert.doesNotMatch(stale.stderr, /ERRORS\.md/);
  assert.equal(generate('--check', join(folder, 'nowhere')).status, 1);
});

test('every key of the schema is described, and every row of what is not built names one', () => {
  const keys = SECTIONS.flatMap(({ name, schema }) => {
    const settings = settingsOf(schema);
    for (const key of Object.keys(schema.shape)) {
      assert.ok(
        settings.some(setting => setting.key === key || setting.key.startsWith(`${key}.`)),
        `${name}.${key}`,
      );
    }
    return settings.map(({ key, description, required, unset, default: standard }) => {
      assert.match(description, /^[A-Z`[].*\.$/s, key);
      assert.ok(
        required || unset !== undefined || standard !== undefined,
        `${name}.${key} says nothing of its absence`,
      );
      return `${name}.${key}`;
    });
  });
  for (const key of UNBUILT.keys())
    assert.ok(
      keys.some(known => known === key || known.startsWith(`${key}.`)),
      key,
    );
});

test('the settings that errors name exist', () => {
  for (const { setting } of Object.values<ErrorKind>(ERRORS)) {
    const path = setting?.split('.') ?? ['general'];
    assert.ok(keysAt(path.slice(0, -1)).includes(path.at(-1) ?? ''), setting);
  }
});
