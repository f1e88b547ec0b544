/** docs/ADMIN.md has every command and every column that the console has, and no others. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Console } from '../../src/admin/console.ts';
import { TestControl } from './control.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/ADMIN.md'), 'utf8');
const [, ...parts] = page.split(/^## /m);
const sections = new Map(parts.map(part => [part.slice(0, part.indexOf('\n')), part]));
const console = new Console(new TestControl());

test('every command of SHOW HELP has a section, and every section is of one', async () => {
  const [help] = console.commands('SHOW HELP', new Map());
  const notice = Buffer.concat([...(await help.run(new AbortController().signal)).notices]).toString();
  const lines = [...notice.matchAll(/\n\t([^\n\0]+)/g)].map(([, line]) => line);
  const commands = lines.flatMap(line => {
    const [, names] = /^SHOW (.+)$/.exec(line) ?? [];
    return names === undefined ? [line] : names.split('|').map(name => `SHOW ${name}`);
  });
  assert.ok(commands.length > 10, notice);
  assert.deepEqual([...sections.keys()], commands);
});

test('every section has the columns of its command in their order, with types and a sentence', () => {
  for (const [name, text] of sections) {
    // What is in brackets may be left out.
    const [command] = console.commands(name.replace(/ \[.*/, ''), new Map());
    const rows = [...text.matchAll(/^\| `(\w+)` \| (\w+) \| (.+) \|$/gm)];
    const columns = command.columns ?? [];
    assert.deepEqual(
      rows.map(([, column, type]) => ({ name: column, type })),
      columns.map(column => ({ name: column.name, type: column.type })),
      name,
    );
    for (const [, column, , meaning] of rows) assert.match(meaning, /^[A-Z`].*[.`]$/, `${name}.${column}`);
    if (command.tag !== name.split(' ')[0]) assert.ok(text.includes(`tag is \`${command.tag}\``), name);
  }
});
