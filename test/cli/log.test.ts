/** The log as an operator has it: its file, its formats, and whom it tells of. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { RawClient } from '../client/raw.ts';
import { eventually } from '../cluster/index.ts';
import { configText } from '../proxy/index.ts';
import { CLI, Command } from './command.ts';

suite('the log', () => {
  let folder: string;
  let file: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'pglynx-log-'));
    file = join(folder, 'pgcat.toml');
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Nobody asks these servers for anything. */
  const nowhere = { servers: [{ host: '127.0.0.1', port: 1 }] };
  const write = (general = {}) =>
    writeFileSync(file, configText(nowhere, { general: { validate_config: false, ...general } }));
  const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

  test('goes to the file of --log-file rather than log_file, and to a new one after SIGHUP', async () => {
    const path = join(folder, 'flag.log');
    const overruled = join(folder, 'overruled.log');
    write({ log_file: overruled });
    const args = [CLI, '--log-file', path, '--log-level', 'debug', file];
    await using pglynx = Command.run(process.execPath, args, { LOG_LEVEL: 'error', LOG_FORMAT: 'structured' });
    await eventually('it runs', () => read(path).includes('Running on'));
    assert.equal(statSync(path).mode & 0o777, 0o640);
    renameSync(path, `${path}.1`);
    pglynx.signal('SIGHUP');
    await eventually('it reloads', () => read(path).includes('Config has not changed'));
    assert.doesNotMatch(read(`${path}.1`), /Config has not changed/);
    for (const line of read(path).trim().split('\n')) assert.equal(typeof JSON.parse(line).msg, 'string');
    pglynx.signal('SIGTERM');
    assert.equal(await pglynx.ended, 0);
    assert.match(read(path), /Shutting down/);
    assert.equal(pglynx.output, '');
    assert.equal(existsSync(overruled), false);
  });

  test('goes on in the old file when there can be no new one', async () => {
    write({ log_file: join(folder, 'kept.log') });
    await using pglynx = Command.pglynx('--log-format', 'text', file);
    await eventually('it runs', () => read(join(folder, 'kept.log')).includes('Running on'));
    renameSync(folder, `${folder}.moved`);
    pglynx.signal('SIGHUP');
    const moved = join(`${folder}.moved`, 'kept.log');
    await eventually('it complains', () => pglynx.complaint.includes('the log cannot be written: ENOENT'));
    await eventually('it goes on', () => read(moved).includes('reload changed nothing'));
    renameSync(`${folder}.moved`, folder);
  });

  test('that cannot be written is one line at the start', async () => {
    write();
    await using pglynx = Command.pglynx('--log-file', join(folder, 'absent', 'x.log'), file);
    assert.equal(await pglynx.ended, 1);
    assert.match(pglynx.complaint, /^pglynx: the log cannot be written: ENOENT: .*absent.*\n$/);
  });

  test("has PgCat's variables, and a line for each event, whatever names a client gives itself", async () => {
    write();
    const variables = { LOG_LEVEL: 'INFO', LOG_FORMAT: 'text', NO_COLOR: '1' };
    await using pglynx = Command.run(process.execPath, [CLI, file], variables);
    const first = /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] INFO: Running on 127\.0\.0\.1:(\d+) \{.*\}\n/;
    const port = Number((await pglynx.printed(first))[1]);
    const user = 'eve\n[2026-01-01 00:00:00.000] INFO: all is well \u001b[2J\u007f\u009b';
    await assert.rejects(RawClient.connect({ port, user, database: 'bench', password: 'x' }), /28P01/);
    await pglynx.printed(/Login failed: .*eve\\u000a\[2026.*\\u001b\[2J\\u007f\\u009b.*"address":"127\.0\.0\.1:\d+"/);
    assert.equal(pglynx.output.split('\n').filter(line => /^\[2026-01-01/.test(line)).length, 0);
    await using wrong = Command.run(process.execPath, [CLI, file], { LOG_FORMAT: 'xml' });
    assert.equal(await wrong.ended, 1);
    assert.match(wrong.complaint, /LOG_FORMAT.*Use one of text, structured, debug/);
  });
});
