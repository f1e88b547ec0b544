/** `pglynx check`, `--help` and wrong arguments: exit codes, and words that tell an operator where to look. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Command, ROOT } from './command.ts';

suite('the command line', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'pglynx-cli-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function finished(...args: string[]): Promise<{ code: unknown; output: string; complaint: string }> {
    await using command = Command.pglynx(...args);
    const code = await command.ended;
    return { code, output: command.output, complaint: command.complaint };
  }

  test('check counts what a good file has, and warns of what has no effect', async () => {
    const file = 'test/fixtures/seed-pgcat.toml';
    const { code, output, complaint } = await finished('check', file);
    assert.equal(code, 0);
    assert.match(
      output,
      /^test\/fixtures\/seed-pgcat\.toml: ok, 1 pool, 2 users, 3 shards, 9 servers(, \d+ warnings?)?\n$/,
    );
    for (const line of complaint.split('\n').filter(Boolean)) assert.match(line, /^test\/fixtures\/[\w.-]+:\d+:\d+: /);
  });

  test('check names every mistake with its place, one a line', async () => {
    const file = join(folder, 'bad.toml');
    const good = readFileSync(join(ROOT, 'test/fixtures/seed-pgcat.toml'), 'utf8');
    const bad = good.replace('port = 6432', 'prot = 6432').replace('pool_size = 9', 'pool_size = "many"');
    writeFileSync(file, bad);
    const { code, output, complaint } = await finished('check', file);
    assert.equal(code, 1);
    assert.equal(output, '');
    const lines = complaint.trim().split('\n');
    assert.equal(lines.length, 2, complaint);
    const lineOf = (words: string) => bad.slice(0, bad.indexOf(words)).split('\n').length;
    assert.ok(lines[0]?.startsWith(`${file}:${lineOf('prot = ')}:1: general.prot: `), complaint);
    assert.ok(lines[1]?.startsWith(`${file}:${lineOf('pool_size = "many"')}:`), complaint);
  });

  test('a file that is not there is one line, whether checked or run', async () => {
    for (const args of [['check', '/no/such/file.toml'], ['/no/such/file.toml']]) {
      const { code, complaint } = await finished(...args);
      assert.equal(code, 1);
      assert.match(complaint, /^\/no\/such\/file\.toml: [^\n]+\n$/);
    }
  });

  test('wrong arguments are one line', async () => {
    for (const args of [['check'], ['demo', '--port', '0'], ['--log-level', 'loud', 'x.toml'], ['a.toml', 'b.toml']]) {
      const { code, complaint } = await finished(...args);
      assert.equal(code, 1, args.join(' '));
      assert.match(complaint, /^error: [^\n]+\n$/);
    }
  });

  test('help names every option, and version is the package’s', async () => {
    const { output } = await finished('--help');
    for (const word of [
      '--log-level',
      'LOG_LEVEL',
      '--log-format',
      'LOG_FORMAT',
      '--no-color',
      'NO_COLOR',
      'CONFIG_FILE',
      'check',
      'demo',
      'SIGHUP',
    ]) {
      assert.ok(output.includes(word), word);
    }
    const { version }: { version: string } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    assert.equal((await finished('--version')).output, `${version}\n`);
  });
});
