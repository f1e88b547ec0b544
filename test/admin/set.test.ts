/** SET of the admin database: settings changed in memory, checked and applied as a reload does. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Client } from 'pg';
import { Console } from '../../src/admin/console.ts';
import { PgError } from '../../src/errors.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, TestProxy } from '../proxy/index.ts';
import { TestControl } from './control.ts';

let cluster: TestCluster;
let proxy: TestProxy;
let admin: Client;

before(async () => {
  cluster = await startCluster();
  proxy = await TestProxy.start(cluster);
  admin = await proxy.admin();
});

after(async () => {
  await admin?.end();
  await proxy?.stop();
  await cluster?.stop();
});

async function shown(key: string): Promise<string | undefined> {
  const { rows } = await admin.query<{ key: string; value: string }>('SHOW CONFIG');
  return rows.find(row => row.key === key)?.value;
}

suite('a setting', () => {
  test('is changed in any spelling until the next RELOAD', async () => {
    const spellings = {
      'SET ban_time = 31': '31',
      'set general.ban_time=32': '32',
      "SET ban_time TO '33'": '33',
      'SET "ban_time" to "34"': '34',
      "SET 'general'.ban_time = '35'": '35',
    };
    for (const [sql, value] of Object.entries(spellings)) {
      assert.equal((await admin.query(sql)).command, 'SET');
      assert.equal(await shown('ban_time'), value, sql);
    }
    for (const [written, value] of [
      ['on', 'true'],
      ['off', 'false'],
      ['true', 'true'],
      ["'0'", 'false'],
    ] as const) {
      await admin.query(`SET log_client_connections = ${written}`);
      assert.equal(await shown('log_client_connections'), value, written);
    }
    await admin.query('SET suspend_timeout = 77');
    // One SET leaves the others as they are; what the file has by now is not read.
    proxy.rewrite(configText(cluster, { general: { idle_timeout: 123_456 } }));
    await admin.query(`SET pools.${DATABASE}.pool_mode = session`);
    assert.deepEqual(
      [await shown('ban_time'), await shown('suspend_timeout'), await shown(`pools.${DATABASE}.pool_mode`)],
      ['35', '77', 'session'],
    );
    assert.notEqual(await shown('idle_timeout'), '123456');
    const notices: string[] = [];
    admin.on('notice', ({ detail = '' }) => notices.push(...detail.split('\n')));
    await admin.query('RELOAD');
    for (const key of [
      'general.ban_time',
      'general.suspend_timeout',
      'general.idle_timeout',
      `pools.${DATABASE}.pool_mode`,
    ])
      assert.ok(notices.includes(key), key);
    assert.deepEqual([await shown('ban_time'), await shown('idle_timeout')], ['60', '123456']);
  });

  test('of a pool or user holds from the next statement on', async () => {
    const client = await proxy.connect();
    const pid = async () => (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
    const before = await pid();
    await admin.query(`SET pools.${DATABASE}.users.0.pool_size = 1`);
    assert.notEqual(await pid(), before);
    const { rows } = await admin.query('SHOW DATABASES');
    assert.deepEqual(
      rows.map(({ force_user, pool_size }) => `${force_user} ${pool_size}`),
      ['alice 1', 'bob 5'],
    );
    await admin.query(`SET pools.${DATABASE}.shards.0.servers = [["localhost", ${cluster.primary.port}, "primary"]]`);
    await pid();
    assert.ok((await admin.query('SHOW DATABASES')).rows.every(({ host }) => host === 'localhost'));
    await client.end();
    await admin.query('RELOAD');
  });

  test('that is wrong is refused in words, and nothing changes', async () => {
    const cases = {
      'SET bantime = 3': /^nothing has changed: general\.bantime: is not a setting \(did you mean "ban_time"\?\)$/,
      'SET ban_time = soon': /general\.ban_time: must be a whole number, not a string$/,
      'SET port = 1': /general\.port: only a restart changes it$/,
      'SET tls_certificate = "/nowhere"': /tls_certificate: /,
      [`SET pools.${DATABASE}.pool_mode = 'transactoin'`]:
        /must be "transaction" or "session", not "transactoin" \(did you mean/,
      [`SET pools.${DATABASE}x.pool_mode = session`]: new RegExp(
        `pools\\.${DATABASE}x: is not in the configuration \\(did you mean "${DATABASE}"`,
      ),
      [`SET pools.${DATABASE}.users.7.pool_size = 1`]: /users\.7: is not in the configuration/,
      [`SET pools.${DATABASE}.users.0.pool_size = 0`]: /pool_size: must be at least 1, not 0$/,
      [`SET pools.${DATABASE}.pool_mode.x = 1`]: /pool_mode/,
      'SET __proto__.x = 1': /__proto__/,
    };
    const before = (await admin.query('SHOW CONFIG')).rows;
    for (const [sql, message] of Object.entries(cases))
      await assert.rejects(admin.query(sql), { code: '58000', message }, sql);
    for (const sql of ['SET', 'SET ban_time', 'SET = 3', 'SET a b = 3', 'SET ban_time =']) {
      await assert.rejects(admin.query(sql), { message: 'usage: SET key = arg' }, sql);
    }
    assert.equal('x' in {}, false);
    assert.deepEqual((await admin.query('SHOW CONFIG')).rows, before);
  });

  test('that is a secret stays one', async () => {
    await admin.query("SET admin_password = 'hush hush'");
    assert.equal(await shown('admin_password'), '********');
    assert.equal(JSON.stringify(proxy.log).includes('hush'), false);
    await admin.query('RELOAD');
  });
});

test('what drivers set in every session is accepted, also of those who may only look', async () => {
  const control = new TestControl();
  const texts = [
    "SET client_encoding = 'UTF8'",
    'SET extra_float_digits TO 3',
    "set datestyle to 'ISO'",
    "SET TIME ZONE 'Europe/Berlin'",
    "SET NAMES 'utf8'",
    'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
    'SET SESSION statement_timeout = 0',
    'SET LOCAL search_path = a, b',
  ];
  for (const mayOnlyShow of [false, true]) {
    const console = new Console(control, mayOnlyShow);
    for (const sql of texts) {
      const [command] = console.commands(sql, new Map());
      await command.run(new AbortController().signal);
      assert.equal(command.tag, 'SET');
    }
  }
  assert.deepEqual(control.settled, []);
  for (const sql of [
    'SET ban_time = 3',
    'RELOAD',
    'PAUSE',
    'RESUME',
    'SUSPEND',
    'RECONNECT',
    'KILL',
    'KILL_CLIENT 1',
    'DISABLE a',
    'ENABLE a',
    'BAN a',
    'UNBAN a',
    'WAIT_CLOSE',
    'SHUTDOWN',
  ])
    assert.throws(
      () => new Console(control, true).commands(sql, new Map()),
      error => error instanceof PgError && error.sqlstate === '42501' && error.severity === 'ERROR',
      sql,
    );
});
