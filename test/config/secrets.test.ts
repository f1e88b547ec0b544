/** Values from the environment and from password files. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { afterLine, load, mistakes, withLine } from './files.ts';

const folder = mkdtempSync(join(tmpdir(), 'pglynx-config-'));
after(() => rmSync(folder, { recursive: true }));

/** A new file with `content`; its name. */
function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

test('variables of the environment stand in for any part of any string', () => {
  const text = withLine(8, `password = "a-\${SECRET}-\${EMPTY}b"`).replace('10.0.0.1', `\${DB_HOST}`);
  const { config } = load(text, { SECRET: `x\${SECRET}$&`, EMPTY: '', DB_HOST: 'db' });
  assert.equal(config.pools.db?.users['0']?.password, `a-x\${SECRET}$&-b`);
  assert.equal(config.pools.db?.shards['0']?.servers[0]?.host, 'db');
});

test(`$\${ is \${ itself, and other dollar signs are nothing special`, () => {
  const password = (written: string) =>
    load(withLine(8, `password = '${written}'`)).config.pools.db?.users['0']?.password;
  assert.equal(password(`$\${HOME}`), `\${HOME}`);
  assert.equal(password(`$HOME $$ \${} \${1} \${a b} $`), `$HOME $$ \${} \${1} \${a b} $`);
});

test('each missing variable is a mistake that names it', () => {
  const words = 'names the environment variable';
  assert.deepEqual(mistakes(withLine(12, `servers = [["h", 1, "primary"], ["\${R}", 1, "replica"]]`)), [
    `12:34: pools.db.shards.0.servers.1.0: ${words} R, which is not set ("$\${R}" is the text itself)`,
  ]);
});

test('results of the intercept plugin keep their own variables', () => {
  const lines = ['[plugins.intercept]', 'enabled = false', '[plugins.intercept.queries.0]', `query = "\${Q}"`];
  const text = [afterLine(12, ...lines), 'schema = [["a", "text"]]', `result = [["\${USER}"]]`].join('\n');
  const query = load(text, { Q: 'select 1' }).config.plugins?.intercept?.queries['0'];
  assert.deepEqual(query, { query: 'select 1', schema: [['a', 'text']], result: [[`\${USER}`]] });
});

test('a password file stands in for a password, without the line end after it', () => {
  const text = withLine(8, `password_file = '${file('p', 'top secret \n')}'`, `server_password_file = '\${F}'`).replace(
    'admin_password = "secret"',
    `admin_password_file = '${file('a', 'x\ny\r\n')}'`,
  );
  const { config } = load(text, { F: file('s', 'deep') });
  const user = config.pools.db?.users['0'];
  assert.deepEqual(
    [user?.password, user?.server_password, config.general.admin_password],
    ['top secret ', 'deep', 'x\ny'],
  );
});

test('a password file that is missing, empty or beside a password is a mistake', () => {
  const missing = join(folder, 'none');
  assert.deepEqual(mistakes(withLine(8, `password_file = '${missing}'`)), [
    `8:17: pools.db.users.0.password_file: names a file that cannot be read: ENOENT: no such file or directory, open '${missing}'`,
  ]);
  const empty = file('empty', '\n');
  assert.deepEqual(mistakes(withLine(3, `admin_password_file = '${empty}'`)), [
    `3:23: general.admin_password_file: names ${empty}, which is empty`,
  ]);
  assert.deepEqual(mistakes(afterLine(8, `password_file = '${file('q', 'q')}'`)), [
    '9:17: pools.db.users.0.password_file: stands beside password; only one of them may be given',
  ]);
});
