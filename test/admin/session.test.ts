/** The admin database as its clients see it: drivers, psql and single messages, through a running pglynx. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import type { Client } from 'pg';
import { pino } from 'pino';
import postgres from 'postgres';
import { loadConfig } from '../../src/config/load.ts';
import { createProxy } from '../../src/proxy.ts';
import { decode, errorOf, type Message, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, TestProxy } from '../proxy/index.ts';

const UNSUPPORTED = 'Unsupported query against the admin database';

let cluster: TestCluster;
let proxy: TestProxy;

before(async () => {
  cluster = await startCluster();
  proxy = await TestProxy.start(cluster, { user: { pool_size: 1 } });
});

after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

const raw = (parameters: Record<string, string> = {}) =>
  RawClient.connect({ port: proxy.port, database: 'pgcat', parameters, ...ADMIN });

/** One letter for each message: what a reader of protocol traces knows. */
const types = (messages: readonly Message[]) => messages.map(({ type }) => type).join('');

suite('login', () => {
  test('both names of the database, and what it reports of itself', async () => {
    for (const database of ['pgcat', 'pgbouncer']) {
      const parameters = { application_name: 'me' };
      await using client = await RawClient.connect({ port: proxy.port, database, parameters, ...ADMIN });
      assert.deepEqual(Object.fromEntries(client.parameters), {
        application_name: 'me',
        client_encoding: 'UTF8',
        server_encoding: 'UTF8',
        server_version: JSON.parse(readFileSync('package.json', 'utf8')).version,
        DateStyle: 'ISO, MDY',
        TimeZone: 'Etc/UTC',
        standard_conforming_strings: 'on',
      });
      assert.deepEqual(rowsOf(await client.query('SHOW application_name')), [['me']]);
    }
  });

  test('a wrong password and a wrong name are refused alike', async () => {
    for (const wrong of [{ password: 'wrong' }, { user: 'alice' }]) {
      const login = proxy.connect({ ...ADMIN, ...wrong, database: 'pgcat' });
      await assert.rejects(login, { code: '28P01', severity: 'FATAL' });
    }
  });
});

suite('drivers', () => {
  test('node-postgres, by both protocols', async () => {
    const admin = await proxy.admin();
    const simple = await admin.query('SHOW USERS');
    const [{ name, pool_mode }] = simple.rows;
    assert.deepEqual([simple.command, name, pool_mode], ['SHOW', 'alice', 'transaction']);
    const config = await admin.query('SHOW CONFIG');
    for (let time = 0; time < 3; time++) {
      const named = await admin.query({ name: 'config', text: 'SHOW CONFIG' });
      assert.deepEqual(named.rows, config.rows);
    }
    await assert.rejects(admin.query('HODOR'), { severity: 'ERROR', code: '58000', message: UNSUPPORTED });
    await assert.rejects(admin.query('SHOW USERS', ['a']), { code: '58000', message: /takes no parameters/ });
    const notices: unknown[] = [];
    admin.on('notice', notice => notices.push(notice.message));
    await admin.query('SHOW HELP');
    assert.deepEqual(notices, ['Console usage']);
    await admin.end();
  });

  test('postgres.js with its default options', async () => {
    const { user, password } = ADMIN;
    const sql = postgres({
      host: '127.0.0.1',
      port: proxy.port,
      database: 'pgcat',
      user,
      password,
      onnotice: () => {},
    });
    const [version] = await sql`SHOW VERSION`;
    assert.match(version?.version, /^pglynx \d+\.\d+\.\d+$/);
    await assert.rejects(sql`HODOR`, { code: '58000', message: UNSUPPORTED });
    const several = await Promise.all([sql`SHOW USERS`, sql`SHOW LISTS`, sql`SHOW BANS`, sql`RELOAD`]);
    assert.deepEqual(
      several.map(result => [result.command, result.length]),
      [
        ['SHOW', 2],
        ['SHOW', 12],
        ['SHOW BANS', 0],
        ['RELOAD', 0],
      ],
    );
    await sql.end();
  });

  const noPsql = spawnSync('psql', ['--version']).error === undefined ? false : 'psql is not installed';
  test('psql', { skip: noPsql }, async () => {
    const words = ['-h', '127.0.0.1', '-p', String(proxy.port), '-U', ADMIN.user, '-d', 'pgbouncer', '-At'];
    const commands = ['-c', 'SHOW USERS; SHOW VERSION', '-c', 'HODOR', '-c', 'SHOW HELP'];
    const psql = spawn('psql', [...words, ...commands], { env: { ...process.env, PGPASSWORD: ADMIN.password } });
    let output = '';
    let errors = '';
    psql.stdout.on('data', chunk => {
      output += chunk;
    });
    psql.stderr.on('data', chunk => {
      errors += chunk;
    });
    await new Promise(resolve => psql.on('close', resolve));
    assert.match(output, /^alice\|transaction\|[^\n]*\nbob\|transaction\|[^\n]*\npglynx \d+\.\d+\.\d+\nSHOW\n$/);
    assert.match(errors, /ERROR: {2}Unsupported query[^\n]*\n.*Console usage/s);
  });
});

suite('messages', () => {
  test('a pipeline is answered in order, an error up to the next Sync and no further', async () => {
    await using client = await raw();
    client.send(
      frontend.query('SHOW VERSION; SET ban_time = 60'),
      frontend.query(''),
      frontend.query('HODOR'),
      frontend.parse('s', 'SHOW USERS'),
      frontend.describe('S', 's'),
      frontend.bind('', 's'),
      frontend.describe('P', ''),
      frontend.execute(),
      frontend.sync(),
      frontend.bind('', 'nobody'),
      frontend.execute(),
      frontend.query('SHUTDOWN'),
      frontend.sync(),
      frontend.parse('', 'RELOAD'),
      frontend.bind('', ''),
      frontend.describe('P', ''),
      frontend.execute(),
      frontend.close('S', 's'),
      frontend.sync(),
      frontend.parse('', ''),
      frontend.bind('', ''),
      frontend.execute(),
      frontend.bind('', 's'),
      frontend.sync(),
    );
    const replies: Message[][] = [];
    for (let count = 0; count < 7; count++) replies.push(await client.ready());
    assert.deepEqual(replies.map(types), ['TDCCZ', 'IZ', 'EZ', '1tT2TDDCZ', 'EZ', '12nNC3Z', '12IEZ']);
    assert.deepEqual(replies.flatMap(tagsOf), ['SHOW', 'SET', 'SHOW', 'RELOAD']);
    assert.equal(errorOf(replies[4])?.message, 'prepared statement "nobody" does not exist');
    assert.equal(errorOf(replies[6])?.message, 'prepared statement "s" does not exist');
  });

  test('Execute with a limit suspends the portal, and Flush shows what there is', async () => {
    await using client = await raw();
    client.send(frontend.parse('', 'SHOW LISTS'), frontend.bind('p', ''), frontend.execute('p', 10), frontend.flush());
    const first = await client.until('s');
    assert.equal(rowsOf(first).length, 10);
    client.send(
      frontend.execute('p', 10),
      frontend.execute('p'),
      frontend.sync(),
      frontend.execute('p'),
      frontend.sync(),
    );
    const second = await client.ready();
    assert.deepEqual([types(second), rowsOf(second)[0]], ['DDCCZ', ['dns_queries', '0']]);
    assert.equal(errorOf(await client.ready())?.message, 'portal "p" does not exist');
  });

  test('what the extended protocol does not have here is an ERROR, and the session goes on', async () => {
    await using client = await raw();
    const several = frontend.parse('', 'SHOW USERS; SHOW LISTS');
    const binary = [frontend.parse('', 'SHOW LISTS'), frontend.bind('', '', [], { resultFormats: [1] })];
    const again = [frontend.parse('a', 'SHOW LISTS'), frontend.parse('a', 'SHOW LISTS')];
    const many = Array.from({ length: 200 }, (_, index) => frontend.parse(`many ${index}`, 'RELOAD'));
    const cases = [
      [/several commands/, several],
      [/not binary/, ...binary],
      [/already exists/, ...again],
      [/the most that a session may have/, ...many],
    ] as const;
    for (const [message, ...messages] of cases) {
      client.send(...messages, frontend.sync());
      const error = errorOf(await client.ready());
      assert.match(error?.message ?? '', message);
      assert.deepEqual([error?.severity, error?.code], ['ERROR', '58000']);
    }
    client.send(
      frontend.functionCall(1, []),
      frontend.copyData('late'),
      frontend.copyDone(),
      frontend.copyFail('late'),
    );
    assert.equal(types(await client.ready()), 'EZ');
    assert.equal(rowsOf(await client.query('SHOW USERS')).length, 2);
  });

  test('cut at every byte they are answered the same', async () => {
    await using client = await raw();
    const bytes = Buffer.concat([
      frontend.query('SHOW USERS'),
      frontend.parse('t', 'SHOW VERSION'),
      frontend.bind('', 't'),
      frontend.execute(),
      frontend.sync(),
    ]);
    await client.trickle(bytes);
    assert.deepEqual([types(await client.ready()), types(await client.ready())], ['TDDCZ', '12DCZ']);
  });

  test('up to 64 KiB are taken, more is refused', async () => {
    await using client = await raw();
    const room = 65_536 - frontend.query('').length - 'SHOW USERS'.length;
    assert.equal(types(await client.query(`SHOW USERS${' '.repeat(room)}`)), 'TDDCZ');
    client.send(frontend.query(`SHOW USERS${' '.repeat(room + 1)}`));
    const error = errorOf(await client.untilClosed());
    assert.deepEqual([error?.severity, error?.code], ['FATAL', '08P01']);
    assert.match(error?.message ?? '', /type Q and 65537 bytes is longer than the 65536/);
  });

  test('garbage ends that session and no other', async () => {
    await using other = await raw();
    const garbage = [
      frontend.message('Q', Buffer.from('SHOW USERS')),
      frontend.message('?'),
      frontend.message('B', frontend.cstring('p')),
      frontend.message('B', Buffer.concat([frontend.cstring(''), frontend.cstring('s'), frontend.int16(-1)])),
      frontend.message('d', Buffer.from('x'), 70_000),
      frontend.message('S', Buffer.alloc(0), 3),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    ];
    for (const bytes of garbage) {
      await using client = await raw();
      client.send(frontend.parse('s', 'RELOAD'), frontend.parse('', 'RELOAD'), bytes);
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '08P01'], bytes.toString('latin1'));
    }
    assert.equal(types(await other.query('SHOW USERS')), 'TDDCZ');
  });

  test('a client that does not read holds up itself and nobody else', async () => {
    const COUNT = 2000;
    const application_name = 'deaf '.repeat(1800);
    await using client = await raw({ application_name });
    const admin = await proxy.admin();
    const answered = async () => {
      const { rows } = await admin.query('SHOW CLIENTS');
      return Number(rows.find(row => row.application_name === application_name)?.query_count);
    };
    client.pause();
    client.send(...Array.from({ length: COUNT }, () => frontend.query('SHOW application_name')));
    let last = -1;
    await eventually('nothing more is answered', async () => {
      const before = last;
      last = await answered();
      await new Promise(resolve => setTimeout(resolve, 200));
      return before === last;
    });
    assert.ok(last < COUNT, `${last} of ${COUNT} answered to nobody`);
    client.resume();
    for (let count = 0; count < COUNT; count++) await client.ready();
    await admin.end();
  });
});

suite('what it shows of a running pglynx', () => {
  const show = async <Row extends Record<string, string>>(admin: Client, name: string): Promise<Row[]> =>
    (await admin.query<Row>(`SHOW ${name}`)).rows;

  test('transactions and statements of clients, servers and pools', async () => {
    const fresh = await TestProxy.start(cluster, { users: ['alice'], pool: { multiplexing: 'off' } });
    const client = await fresh.connect({ application_name: 'counted' });
    const admin = await fresh.admin();
    for (let count = 0; count < 3; count++) await client.query('SELECT 1');
    for (const sql of ['BEGIN', 'SELECT 1', 'SELECT 2', 'COMMIT']) await client.query(sql);
    const [row] = (await show(admin, 'CLIENTS')).filter(({ database }) => database !== 'pgcat');
    assert.deepEqual(
      [row?.user, row?.application_name, row?.state, row?.transaction_count, row?.query_count, row?.error_count],
      ['alice', 'counted', 'idle', '4', '7', '0'],
    );
    const [stats] = await show(admin, 'STATS');
    assert.deepEqual(
      [stats?.instance, stats?.total_xact_count, stats?.total_query_count],
      ['bench_shard_0_primary', '4', '7'],
    );
    const [server] = await show(admin, 'SERVERS');
    assert.deepEqual([server?.application_name, server?.transaction_count, server?.query_count], ['counted', '4', '7']);
    const [{ pid }] = await cluster.sql<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE usename = 'alice' AND pid = ${Number(server?.server_id)}`,
    );
    assert.equal(pid, Number(server?.server_id));
    await client.end();
    await eventually('the client is gone', async () => (await show(admin, 'CLIENTS')).length === 1);
    await admin.end();
    await fresh.stop();
  });

  test('who holds a connection and who waits for one', async () => {
    const [holder, waiter] = await Promise.all([proxy.connect(), proxy.connect()]);
    const admin = await proxy.admin();
    const alices = async () => (await show(admin, 'POOLS')).find(({ user }) => user === 'alice');
    await holder.query('BEGIN');
    const waiting = waiter.query('SELECT 1');
    await eventually('one waits', async () => (await alices())?.cl_waiting === '1');
    const pool = await alices();
    assert.deepEqual([pool?.cl_idle, pool?.cl_active, pool?.sv_active, pool?.sv_idle], ['0', '1', '1', '0']);
    const states = async (name: string) =>
      (await show(admin, name)).filter(({ user }) => user === 'alice').map(({ state }) => state);
    assert.deepEqual([await states('CLIENTS'), await states('SERVERS')], [['active', 'waiting'], ['active']]);
    await eventually('the wait is measured', async () => Number((await alices())?.maxwait_us) > 20_000);
    await holder.query('COMMIT');
    await waiting;
    const after = await alices();
    assert.deepEqual([after?.cl_idle, after?.cl_waiting, after?.sv_idle, after?.maxwait_us], ['2', '0', '1', '0']);
    assert.deepEqual([await states('CLIENTS'), await states('SERVERS')], [['idle', 'idle'], ['idle']]);
    const waits = (await show(admin, 'CLIENTS'))
      .filter(({ user }) => user === 'alice')
      .map(row => Number(row.maxwait_us));
    assert.ok((waits[1] ?? 0) > 20_000, `the longest wait is kept: ${waits}`);
    await Promise.all([holder.end(), waiter.end(), admin.end()]);
  });

  test('RELOAD applies a good file, and refuses a bad one with every reason', async () => {
    await using fresh = await TestProxy.start(cluster);
    const text = readFileSync(fresh.path, 'utf8');
    const admin = await fresh.admin();
    const sizes = async () => (await show(admin, 'DATABASES')).map(({ pool_size }) => pool_size);
    assert.deepEqual(await sizes(), [5, 5]);
    fresh.rewrite(text.replace('pool_size = 5', 'pool_size = 0').replace('port = ', 'prot = 1\nport = '));
    await assert.rejects(admin.query('RELOAD'), error => {
      assert.match(String(error), /pgcat\.toml:\d+:\d+: general\.prot: .*\n.*pool_size/);
      return true;
    });
    assert.deepEqual(await sizes(), [5, 5]);
    fresh.rewrite(text.replace('pool_size = 5', 'pool_size = 9'));
    const notice = new Promise<string | undefined>(resolve => admin.on('notice', ({ detail }) => resolve(detail)));
    assert.equal((await admin.query('RELOAD')).command, 'RELOAD');
    assert.equal(await notice, 'pools.bench.users.0.pool_size');
    assert.deepEqual(await sizes(), [9, 5]);
    await admin.end();
  });

  test('a replica that is gone is banned', async () => {
    await using pair = await startCluster({ replicas: 1 });
    await using fresh = await TestProxy.start(pair, { users: ['alice'], general: { connect_timeout: 2000 } });
    const [client, admin] = await Promise.all([fresh.connect(), fresh.admin()]);
    await pair.replica(0).stop();
    await eventually('a read meets the lost replica', async () => {
      await client.query('SELECT 1').catch(() => {});
      return (await show(admin, 'BANS')).length > 0;
    });
    const [ban] = await show(admin, 'BANS');
    assert.deepEqual([ban?.db, ban?.user, ban?.role, ban?.host], ['bench', 'alice', 'replica', '127.0.0.1']);
    assert.match(ban?.reason ?? '', /^(FailedCheckout|FailedHealthCheck|MessageReceiveFailed)$/);
    assert.deepEqual(
      (await show(admin, 'DATABASES')).map(({ disabled }) => disabled),
      [0, 1],
    );
    await Promise.all([client.end(), admin.end()]);
  });
});

test('SHUTDOWN is answered and carried out', async () => {
  let told = 0;
  const shutdown = () => {
    told++;
  };
  const own = createProxy(loadConfig(proxy.path), { logger: pino({ level: 'silent' }), shutdown });
  const { port } = await own.start();
  const client = await RawClient.connect({ port, database: 'pgcat', ...ADMIN });
  assert.deepEqual(rowsOf(await client.query('SHUTDOWN')), [['t']]);
  await eventually('the process is told', () => told === 1);
  await own.stop();
  await client.close();
});

test('an end of pglynx is told to those who are connected', async () => {
  const fresh = await TestProxy.start(cluster);
  const client = await RawClient.connect({ port: fresh.port, database: 'pgcat', ...ADMIN });
  await fresh.stop();
  const [last] = (await client.untilClosed()).map(decode);
  assert.ok(last?.name === 'ErrorResponse' && last.fields.code === '57P01');
  await client.close();
});
