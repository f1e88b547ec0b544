/** The console: which commands there are, and what each does to the process. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Console } from '../../src/admin/console.ts';
import { PgError } from '../../src/errors.ts';
import { TestControl } from './control.ts';

/** Nobody cancels. */
const NEVER = new AbortController().signal;

const PARAMETERS = new Map([
  ['client_encoding', 'UTF8'],
  ['TimeZone', 'Etc/UTC'],
]);

/** Runs all of `sql`: tags, rows and texts of notices. */
async function run(control: TestControl, sql: string) {
  const commands = new Console(control).commands(sql, PARAMETERS);
  const tags: (string | undefined)[] = [];
  const rows: (readonly string[])[] = [];
  let notices = '';
  for (const command of commands) {
    const outcome = await command.run(NEVER);
    tags.push(command.tag);
    rows.push(...outcome.rows);
    notices += Buffer.concat([...outcome.notices]).toString();
  }
  return { tags, rows, notices };
}

suite('commands', () => {
  test('SHOW, in any case, with words that do not matter', async () => {
    const control = new TestControl();
    for (const sql of ['SHOW VERSION', 'show version;', ' Show\tversion please ;;']) {
      assert.deepEqual(await run(control, sql), { tags: ['SHOW'], rows: [['pglynx 1.2.3']], notices: '' });
    }
    assert.deepEqual((await run(control, 'SHOW BANS')).tags, ['SHOW BANS']);
  });

  test('several in one text run in their order', async () => {
    const { tags, rows } = await run(new TestControl(), 'SET a = 1; SHOW VERSION; RELOAD');
    assert.deepEqual(tags, ['SET', 'SHOW', 'RELOAD']);
    assert.deepEqual(rows, [['pglynx 1.2.3']]);
  });

  test('SHOW HELP names every command in a notice', async () => {
    const { tags, rows, notices } = await run(new TestControl(), 'SHOW HELP');
    assert.deepEqual([tags, rows], [['SHOW'], []]);
    assert.match(notices, /Console usage/);
    for (const word of ['HELP', 'POOLS', 'BANS', 'SET key = arg', 'RELOAD', 'SHUTDOWN'])
      assert.ok(notices.includes(word));
  });

  test('SET is accepted, and SHOW tells what the session has', async () => {
    const control = new TestControl();
    assert.deepEqual((await run(control, "SET TIME ZONE 'Europe/Berlin'")).tags, ['SET']);
    assert.deepEqual((await run(control, 'SHOW timezone')).rows, [['Etc/UTC']]);
    assert.deepEqual((await run(control, 'SHOW client_encoding')).rows, [['UTF8']]);
    assert.deepEqual((await run(control, 'SHOW default_transaction_isolation')).rows, [['read committed']]);
    const [command] = new Console(control).commands('SHOW TIMEZONE', PARAMETERS);
    assert.deepEqual(command.columns, [{ name: 'TimeZone', type: 'text' }]);
  });

  test('RELOAD says what changed', async () => {
    const control = new TestControl();
    assert.match((await run(control, 'RELOAD')).notices, /has not changed/);
    control.changes = async () => ['general.ban_time', 'general.port (needs a restart)'];
    const { tags, notices } = await run(control, 'RELOAD');
    assert.deepEqual(tags, ['RELOAD']);
    assert.match(notices, /was reloaded/);
    assert.match(notices, /general\.ban_time\ngeneral\.port \(needs a restart\)/);
  });

  test('RELOAD of a bad file is an error with all that is wrong', async () => {
    const control = new TestControl();
    control.changes = async () => {
      throw new Error('pgcat.toml:3:1: general.prot: is not a setting\npgcat.toml:9:5: 100%s wrong');
    };
    await assert.rejects(run(control, 'RELOAD'), error => {
      assert.ok(error instanceof PgError);
      assert.deepEqual([error.severity, error.sqlstate], ['ERROR', '58000']);
      assert.match(error.message, /general\.prot: is not a setting\npgcat\.toml:9:5: 100%s wrong$/);
      return true;
    });
  });

  test('PAUSE and RESUME have the tags of PgCat', async () => {
    const control = new TestControl();
    assert.deepEqual((await run(control, 'PAUSE; PAUSE shop; PAUSE shop, bob; RESUME shop,bob; RESUME')).tags, [
      'PAUSE',
      'PAUSE',
      'PAUSE shop,bob',
      'RESUME shop,bob',
      'RESUME',
    ]);
  });

  test('SHUTDOWN answers before it begins', async () => {
    const control = new TestControl();
    assert.deepEqual((await run(control, 'SHUTDOWN')).rows, [['t']]);
    assert.deepEqual(control.shutdowns, []);
    await nextTurn();
    assert.deepEqual(control.shutdowns, ['drain']);
  });

  test('a blank text is an empty query', async () => {
    for (const sql of ['', '  ', '-- ping', '/* ping */'])
      assert.deepEqual(await run(new TestControl(), sql), { tags: [undefined], rows: [], notices: '' });
  });
});

suite('what there is not', () => {
  const refused = (sql: string, message: RegExp) =>
    assert.throws(
      () => new Console(new TestControl()).commands(sql, PARAMETERS),
      error =>
        error instanceof PgError &&
        error.sqlstate === '58000' &&
        error.severity === 'ERROR' &&
        message.test(error.message),
      sql,
    );

  test('unknown things to SHOW', () => {
    for (const sql of ['SHOW', 'SHOW ;', 'SHOW FDS', 'SHOW $1', 'SHOW POOL', 'SHOW constructor'])
      refused(sql, /^Unsupported SHOW query against the admin database$/);
  });

  test('unknown commands', () => {
    for (const sql of [';', ';;;;;', 'SHOWTIME', 'HODOR', 'SELECT 1', "'SHOW' POOLS", '\u{1F63A}'])
      refused(sql, /^Unsupported query against the admin database$/);
  });

  test('names that are missing, too many or malformed', () => {
    const cases = {
      'PAUSE a,b,c': /^usage: PAUSE \[db, user\]$/,
      'PAUSE a b': /^usage: PAUSE/,
      'RESUME a,': /^usage: RESUME/,
      'RECONNECT a, b': /^usage: RECONNECT \[db\]$/,
      'SUSPEND now': /^usage: SUSPEND$/,
      DISABLE: /^usage: DISABLE db$/,
      KILL_CLIENT: /^usage: KILL_CLIENT id$/,
      'SHUTDOWN SOON': /^usage: SHUTDOWN/,
      BAN: /^usage: BAN hostname duration_seconds$/,
      'BAN a a a': /^duration_seconds must be an integer$/,
      'BAN a 0': /^duration_seconds must be >= 0$/,
      'BAN a -1': /^duration_seconds must be >= 0$/,
      'BAN a 99999999999': /^duration_seconds must be <= 2147483647$/,
      UNBAN: /^UNBAN command requires a hostname to unban$/,
    };
    for (const [sql, message] of Object.entries(cases)) refused(sql, message);
  });

  test('nothing of a text runs when one of its commands is unknown', async () => {
    const control = new TestControl();
    assert.throws(() => new Console(control).commands('SHUTDOWN; HODOR', PARAMETERS));
    await nextTurn();
    assert.deepEqual(control.shutdowns, []);
  });
});
