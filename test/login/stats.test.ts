/** stats_username: it looks into the admin database, and changes nothing. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TABLES } from '../../src/admin/show.ts';
import { afterLine, load, mistakes } from '../config/files.ts';
import { TestProxy } from '../proxy/index.ts';

const STATS = { user: 'stats_user', password: 'stats pass', database: 'pgbouncer' } as const;
/** No server is asked. */
const NOWHERE = { servers: [{ host: '127.0.0.1', port: 1 }] };

let proxy: TestProxy;
before(async () => {
  const general = { stats_username: STATS.user, stats_password: STATS.password, validate_config: false };
  proxy = await TestProxy.start(NOWHERE, { general });
});
after(() => proxy?.stop());

test('the stats user may SHOW everything', async () => {
  const stats = await proxy.connect(STATS);
  for (const name of ['HELP', 'client_encoding', ...TABLES.keys()]) await stats.query(`SHOW ${name}`);
  assert.equal((await stats.query({ text: 'SHOW DATABASES', values: [] })).rows.length, 2);
  await stats.end();
});

test('every other command is refused to it, in any spelling, and the session goes on', async () => {
  const stats = await proxy.connect(STATS);
  const commands = [
    'RELOAD',
    'SHUTDOWN',
    'PAUSE',
    'RESUME',
    'BAN 127.0.0.1 10',
    'UNBAN 127.0.0.1',
    'RECONNECT',
    'KILL bench',
  ];
  commands.push('KILL_CLIENT 1', 'DISABLE bench', 'ENABLE bench', 'SUSPEND', 'WAIT_CLOSE', 'SET ban_time = 1');
  commands.push('reload', ' ;; ReLoad', '/* SHOW */ RELOAD', 'SHOW VERSION; RELOAD');
  for (const text of commands) {
    for (const query of [{ text }, { text, name: 'one' }]) {
      const failed = await stats.query(query).catch((error: unknown) => error);
      assert.ok(failed instanceof Error && 'code' in failed, text);
      assert.ok(
        failed.code === '42501' || (query.name && /several commands/.test(failed.message)),
        `${text}: ${failed}`,
      );
    }
  }
  assert.equal((await stats.query('SHOW VERSION')).rows.length, 1);
  await stats.end();
});

test('it proves itself with its own password, and is nobody elsewhere', async () => {
  for (const login of [
    { ...STATS, password: 'admin_pass' },
    { ...STATS, password: '' },
    { ...STATS, database: 'bench' },
    { ...STATS, user: 'admin_user' },
  ]) {
    await assert.rejects(proxy.connect(login), { code: '28P01' }, JSON.stringify(login));
  }
  const admin = await proxy.admin();
  await admin.query('RELOAD');
  await admin.end();
});

test('it needs a password of its own and a name of its own, and SHOW CONFIG masks the password', async () => {
  assert.deepEqual(mistakes(afterLine(2, 'stats_username = "stats"')), [
    '3:18: general.stats_username: needs stats_password (or stats_password_file)',
  ]);
  assert.deepEqual(mistakes(afterLine(2, 'stats_username = "admin"', 'stats_password = "x"')), [
    '3:18: general.stats_username: is admin_username, who may do more',
  ]);
  load(afterLine(2, 'stats_username = "stats"', 'admin_auth_type = "trust"'));
  const stats = await proxy.connect(STATS);
  const { rows } = await stats.query<{ key: string; value: string }>('SHOW CONFIG');
  assert.equal(rows.find(({ key }) => key === 'stats_password')?.value, '********');
  await stats.end();
});
