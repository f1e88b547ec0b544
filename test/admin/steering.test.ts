/** The commands that steer a running process, seen by clients and by pg_stat_activity. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
let proxy: TestProxy;
let admin: Client;

/** A second database in pglynx, on the same servers. */
const OPTIONS: ProxyOptions = {
  general: { ban_time: 60, suspend_timeout: 1500 },
  pool: { connect_timeout: 1000, default_role: 'primary' },
};
const more = () => `
[pools."my other, db"]
[pools."my other, db".users.0]
username = "alice"
password = ${JSON.stringify(PASSWORDS.alice)}
pool_size = 2
[pools."my other, db".shards.0]
database = "${DATABASE}"
servers = [["127.0.0.1", ${cluster.primary.port}, "primary"]]
`;

before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE steered (n int); GRANT ALL ON steered TO PUBLIC');
  proxy = await TestProxy.start(cluster, { ...OPTIONS, more: more() });
  admin = await proxy.admin();
});

after(async () => {
  await admin?.end();
  await proxy?.stop();
  await cluster?.stop();
});

beforeEach(async () => {
  await admin.query('RESUME');
  await admin.query(`ENABLE ${DATABASE}`);
});

const raw = (user: 'alice' | 'bob' = 'alice', database: string = DATABASE) =>
  RawClient.connect({ port: proxy.port, user, database, password: PASSWORDS[user] });

/** Server processes of a user, on all servers. */
async function backends(user: string): Promise<number[]> {
  const all = await Promise.all(cluster.servers.map(server => cluster.activity(server)));
  return all.flat().flatMap(({ usename, pid }) => (usename === user ? [pid] : []));
}

async function states(): Promise<string[]> {
  const { rows } = await admin.query<{ database: string; state: string }>('SHOW CLIENTS');
  return rows.filter(({ database }) => database !== 'pgcat').map(({ state }) => state);
}

const isWaiting = (count: number) =>
  eventually(
    `${count} clients wait`,
    async () => (await states()).filter(state => state === 'waiting').length === count,
  );

/** Whether a promise is settled within a while in which it would be if nothing held it up. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, sleep(150).then(() => false)]);
}

suite('PAUSE', () => {
  test('waits for transactions, ends all connections, and has new statements wait until RESUME', async () => {
    await using inTransaction = await raw();
    await using idle = await raw();
    await idle.query('SELECT 1');
    await inTransaction.query('BEGIN; INSERT INTO steered VALUES (1)');
    const paused = admin.query('PAUSE');
    idle.send(frontend.query('SELECT 2'));
    assert.equal(await isSettled(paused), false);
    assert.deepEqual(tagsOf(await inTransaction.query('SELECT 3')), ['SELECT 1']);
    assert.deepEqual(tagsOf(await inTransaction.query('COMMIT')), ['COMMIT']);
    assert.equal((await paused).command, 'PAUSE');
    await eventually('nothing is left on the servers', async () => (await backends('alice')).length === 0);
    inTransaction.send(frontend.query('SELECT 4'));
    await isWaiting(2);
    const { rows } = await admin.query('SHOW DATABASES');
    assert.deepEqual([...new Set(rows.map(({ paused }) => paused))], [1]);
    await admin.query('RESUME');
    assert.deepEqual(rowsOf(await idle.ready()), [['2']]);
    assert.deepEqual(rowsOf(await inTransaction.ready()), [['4']]);
  });

  test('holds statements that wait for a connection already, and whatever shares one', async () => {
    await using proxy = await TestProxy.start(cluster, { ...OPTIONS, user: { pool_size: 1 } });
    const admin = await proxy.admin();
    await using holder = await proxy.raw();
    const others = await Promise.all([proxy.raw(), proxy.raw()]);
    for (const other of others) await other.query('SELECT n FROM steered');
    await holder.query('BEGIN; INSERT INTO steered VALUES (2)');
    others[0].send(frontend.query('BEGIN'));
    others[1].send(frontend.query('INSERT INTO steered VALUES (3)'));
    await sleep(50);
    const paused = admin.query('PAUSE');
    await sleep(50);
    await holder.query('COMMIT');
    await paused;
    assert.deepEqual((await admin.query('SHOW SERVERS')).rows, []);
    // Longer than connect_timeout.
    await sleep(1200);
    await admin.query('RESUME');
    assert.deepEqual(tagsOf(await others[0].ready()), ['BEGIN']);
    await others[0].query('ROLLBACK');
    assert.deepEqual(tagsOf(await others[1].ready()), ['INSERT 0 1']);
    for (const other of others) await other.close();
    await admin.end();
  });

  test('is for a database or a user of it, quoted or not', async () => {
    await using alice = await raw('alice');
    await using bob = await raw('bob');
    await using elsewhere = await raw('alice', 'my other, db');
    for (const names of [`${DATABASE}, alice`, `${DATABASE},alice`, `"${DATABASE}" , 'alice'`]) {
      await admin.query(`pause ${names}`);
      alice.send(frontend.query('SELECT 1'));
      await isWaiting(1);
      assert.deepEqual(rowsOf(await bob.query('SELECT 2')), [['2']]);
      assert.deepEqual(rowsOf(await elsewhere.query('SELECT 3')), [['3']]);
      await admin.query(`Resume ${names}`);
      assert.deepEqual(rowsOf(await alice.ready()), [['1']]);
    }
    await admin.query('PAUSE "my other, db"');
    elsewhere.send(frontend.query('SELECT 3'));
    assert.deepEqual(rowsOf(await alice.query('SELECT 1')), [['1']]);
    // Of all that are paused, one may go on.
    await admin.query('PAUSE');
    alice.send(frontend.query('SELECT 1'));
    await isWaiting(2);
    await admin.query('RESUME "my other, db"');
    assert.deepEqual(rowsOf(await elsewhere.ready()), [['3']]);
    await isWaiting(1);
    await admin.query('RESUME');
    await alice.ready();
    await assert.rejects(admin.query('PAUSE nobody'), { code: '58000', message: 'no such database: nobody' });
    const message = `No pool configured for database: ${DATABASE}, user: nobody`;
    await assert.rejects(admin.query(`PAUSE ${DATABASE}, nobody`), { message });
    await assert.rejects(admin.query('RESUME nobody'), { message: 'no such database: nobody' });
  });

  test('ends when it is canceled, when its client leaves, and by RESUME', async () => {
    await using holder = await raw();
    await using other = await raw();
    await holder.query('BEGIN; INSERT INTO steered VALUES (4)');
    const goesOn = async () => assert.deepEqual(rowsOf(await other.query('SELECT 5')), [['5']]);

    await using canceled = await RawClient.connect({ port: proxy.port, database: 'pgcat', ...ADMIN });
    canceled.send(frontend.query('PAUSE'));
    other.send(frontend.query('SELECT 5'));
    await isWaiting(1);
    await cancel(proxy, canceled);
    assert.equal(errorOf(await canceled.ready())?.code, '57014');
    await other.ready();
    await goesOn();
    assert.deepEqual(rowsOf(await canceled.query('SHOW USERS')).length, 3);

    const leaving = await RawClient.connect({ port: proxy.port, database: 'pgcat', ...ADMIN });
    leaving.send(frontend.parse('', 'PAUSE'), frontend.bind('', ''), frontend.execute(), frontend.sync());
    other.send(frontend.query('SELECT 5'));
    await isWaiting(1);
    await leaving.close();
    await other.ready();
    await goesOn();

    await using resumed = await RawClient.connect({ port: proxy.port, database: 'pgcat', ...ADMIN });
    resumed.send(frontend.query('PAUSE'));
    other.send(frontend.query('SELECT 5'));
    await isWaiting(1);
    await admin.query('RESUME');
    assert.match(errorOf(await resumed.ready())?.message ?? '', /RESUME/);
    await other.ready();
    await goesOn();
    await holder.query('COMMIT');
  });

  test('survives reloads, and lets a waiting client cancel and leave', async () => {
    await using canceling = await raw();
    const leaving = await raw();
    await using staying = await raw();
    await admin.query('PAUSE');
    for (const client of [canceling, leaving, staying]) client.send(frontend.query('SELECT 6'));
    await isWaiting(3);
    await cancel(proxy, canceling);
    assert.equal(errorOf(await canceling.ready())?.code, '57014');
    await leaving.close();
    await isWaiting(1);
    proxy.rewrite(configText(cluster, { ...OPTIONS, user: { pool_size: 3 }, more: more() }));
    await admin.query('RELOAD');
    canceling.send(frontend.query('SELECT 7'));
    await isWaiting(2);
    await eventually('no connection is there', async () => (await backends('alice')).length === 0);
    await admin.query('RESUME');
    assert.deepEqual(rowsOf(await staying.ready()), [['6']]);
    assert.deepEqual(rowsOf(await canceling.ready()), [['7']]);
  });

  test('has statements that waited routed by the configuration of a reload', async () => {
    await using proxy = await TestProxy.start(cluster);
    const admin = await proxy.admin();
    await using client = await proxy.raw();
    client.send(frontend.parse('s', 'SELECT $1::int + 1'), frontend.sync());
    await client.ready();
    await admin.query('PAUSE');
    client.send(frontend.bind('', 's', ['41']), frontend.execute(), frontend.sync());
    await eventually('it waits', async () =>
      (await admin.query('SHOW POOLS')).rows.some(row => row.cl_waiting === '1'),
    );
    // Two shards in the place of one: what was judged before means nothing here.
    proxy.rewrite(configText(cluster, { shards: [DATABASE, DATABASE], pool: { default_shard: 'shard_1' } }));
    await admin.query('RELOAD; RESUME');
    assert.deepEqual(rowsOf(await client.ready()), [['42']]);
    const { rows } = await admin.query('SHOW SERVERS');
    assert.ok(
      rows.every(({ address_id }) => address_id.startsWith(`${DATABASE}_shard_1`)),
      JSON.stringify(rows),
    );
    await admin.query('PAUSE');
    client.send(frontend.query('SELECT 1'));
    await eventually('it waits', async () =>
      (await admin.query('SHOW POOLS')).rows.some(row => row.cl_waiting === '1'),
    );
    proxy.rewrite(configText(cluster, { users: ['bob'] }));
    await admin.query('RELOAD');
    assert.equal(errorOf(await client.untilClosed())?.code, '58000');
    await admin.end();
  });

  test('has logins wait that need a server, however long', async () => {
    await using proxy = await TestProxy.start(cluster, { general: { client_login_timeout: 300 } });
    const admin = await proxy.admin();
    await admin.query('PAUSE');
    const login = proxy.connect({ options: '-c work_mem=5MB' });
    assert.equal(await isSettled(login), false);
    await sleep(400);
    await admin.query('RELOAD; RESUME');
    const client = await login;
    assert.equal((await client.query('SHOW work_mem')).rows[0].work_mem, '5MB');
    await client.end();
    await admin.end();
  });

  test('is over for those who wait when the process drains', async () => {
    await using proxy = await TestProxy.start(cluster);
    const admin = await proxy.admin();
    await using client = await proxy.raw();
    await admin.query('PAUSE');
    client.send(frontend.query('SELECT 1'));
    await eventually('it waits', async () =>
      (await admin.query('SHOW POOLS')).rows.some(row => row.cl_waiting === '1'),
    );
    await proxy.proxy.drain();
    assert.equal(errorOf(await client.untilClosed())?.code, '57P01');
    await admin.end();
  });
});

suite('connections', () => {
  test('RECONNECT replaces free ones at once and others when they are free; WAIT_CLOSE tells', async () => {
    await using holder = await raw();
    await using other = await raw();
    await holder.query('BEGIN; INSERT INTO steered VALUES (5)');
    await other.query('SELECT 1');
    const before = await backends('alice');
    await admin.query(`RECONNECT ${DATABASE}`);
    const gone = admin.query('WAIT_CLOSE');
    assert.equal(await isSettled(gone), false);
    assert.equal((await backends('alice')).filter(pid => before.includes(pid)).length, 1);
    await other.query('SELECT 1');
    await holder.query('COMMIT');
    await gone;
    await eventually('all are new', async () => !(await backends('alice')).some(pid => before.includes(pid)));
    assert.deepEqual(rowsOf(await holder.query('SELECT 1')), [['1']]);
    await assert.rejects(admin.query('RECONNECT nobody'), { message: 'no such database: nobody' });
    await assert.rejects(admin.query('WAIT_CLOSE nobody'), { message: 'no such database: nobody' });
  });

  test('WAIT_CLOSE waits for what a reload has replaced', async () => {
    await using holder = await raw();
    await holder.query('BEGIN; INSERT INTO steered VALUES (6)');
    proxy.rewrite(configText(cluster, { ...OPTIONS, user: { pool_size: 4 }, more: more() }));
    await admin.query('RELOAD');
    const gone = admin.query('WAIT_CLOSE');
    assert.equal(await isSettled(gone), false);
    await holder.query('COMMIT');
    await gone;
  });

  test('KILL ends clients, connections and statements of one database, which waits for RESUME', async () => {
    await using running = await raw();
    await using inTransaction = await raw('bob');
    await using elsewhere = await raw('alice', 'my other, db');
    await inTransaction.query('BEGIN; INSERT INTO steered VALUES (99)');
    running.send(frontend.query('SELECT pg_sleep(60)'));
    await eventually('it runs', async () => (await states()).filter(state => state === 'active').length === 2);
    await admin.query(`KILL ${DATABASE}`);
    for (const client of [running, inTransaction]) {
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '57P01']);
    }
    assert.deepEqual(rowsOf(await elsewhere.query('SELECT 3')), [['3']]);
    await eventually('the server has nothing of it', async () => {
      const all = await cluster.activity();
      return all.every(({ usename, query }) => usename === 'alice' && !query.includes('pg_sleep'));
    });
    await using late = await raw();
    late.send(frontend.query('SELECT count(*) FROM steered WHERE n = 99'));
    await isWaiting(1);
    await admin.query(`RESUME ${DATABASE}`);
    assert.deepEqual(rowsOf(await late.ready()), [['0']]);
    await assert.rejects(admin.query('KILL nobody'), { message: 'no such database: nobody' });
  });

  test('KILL of all leaves the admin clients', async () => {
    const clients = await Promise.all([raw(), raw('bob'), raw('alice', 'my other, db')]);
    await admin.query('KILL');
    for (const client of clients) assert.equal(errorOf(await client.untilClosed())?.code, '57P01');
    assert.equal((await admin.query('SHOW CLIENTS')).rows.length, 1);
    assert.deepEqual((await admin.query('SHOW SERVERS')).rows, []);
  });

  test('KILL_CLIENT ends one', async () => {
    await using victim = await raw();
    await using other = await raw();
    const { rows } = await admin.query('SHOW CLIENTS');
    const [{ client_id }] = rows.filter(({ database }) => database === DATABASE);
    await assert.rejects(admin.query('KILL_CLIENT 12345678'), { message: 'no such client: 12345678' });
    await assert.rejects(admin.query('KILL_CLIENT "x"'), { message: 'invalid client id: x' });
    await victim.query('BEGIN; INSERT INTO steered VALUES (98)');
    await admin.query(`KILL_CLIENT ${client_id}`);
    assert.equal(errorOf(await victim.untilClosed())?.code, '57P01');
    assert.deepEqual(rowsOf(await other.query('SELECT count(*) FROM steered WHERE n = 98')), [['0']]);
    const { rows: left } = await admin.query('SHOW CLIENTS');
    assert.equal(left.filter(({ database }) => database === DATABASE).length, 1);
  });
});

test('DISABLE refuses new clients, and ENABLE lets them in', async () => {
  await using here = await raw();
  await admin.query(`DISABLE ${DATABASE}`);
  await assert.rejects(raw('bob'), /FATAL 55000: database "bench" is not currently accepting connections/);
  assert.deepEqual(rowsOf(await here.query('SELECT 1')), [['1']]);
  await (await raw('alice', 'my other, db')).close();
  proxy.rewrite(configText(cluster, { ...OPTIONS, user: { pool_size: 2 }, more: more() }));
  await admin.query('RELOAD');
  await assert.rejects(raw('bob'), /55000/);
  const { rows } = await admin.query('SHOW DATABASES');
  assert.deepEqual([...new Set(rows.map(({ name, disabled }) => `${name.split('_')[0]} ${disabled}`))].sort(), [
    'bench 1',
    'my other, db 0',
  ]);
  await admin.query(`ENABLE ${DATABASE}`);
  await (await raw('bob')).close();
  await assert.rejects(admin.query('DISABLE nobody'), { message: 'no such database: nobody' });
});

suite('SUSPEND', () => {
  test('reads nothing until RESUME; what was read is finished', async () => {
    await using running = await raw();
    await using idle = await raw();
    running.send(frontend.query("SELECT 'done' FROM pg_sleep(0.3)"), frontend.query("SELECT 'then'"));
    await eventually('it runs', async () => (await states()).includes('active'));
    assert.equal((await admin.query('SUSPEND')).command, 'SUSPEND');
    idle.send(frontend.query('SELECT 1'), frontend.query('SELECT 2'));
    const late = raw();
    assert.deepEqual(rowsOf(await running.ready()), [['done']]);
    const newcomer = await late;
    newcomer.send(frontend.query('SELECT 3'));
    for (const client of [running, idle, newcomer]) assert.ok(await client.silent(100));
    assert.deepEqual(await states(), ['idle', 'idle', 'idle']);
    await admin.query('RESUME');
    assert.deepEqual(rowsOf(await idle.ready()), [['1']]);
    assert.deepEqual(rowsOf(await idle.ready()), [['2']]);
    assert.deepEqual(rowsOf(await running.ready()), [['then']]);
    assert.deepEqual(rowsOf(await newcomer.ready()), [['3']]);
    await newcomer.close();
  });

  test('disconnects who does not take his replies in suspend_timeout', async () => {
    await using deaf = await raw();
    deaf.pause();
    await using other = await raw();
    deaf.send(frontend.query("SELECT repeat('x', 1000000) FROM generate_series(1, 30)"));
    await eventually('it is stuck', async () => (await states()).includes('active'));
    await sleep(200);
    const began = performance.now();
    await admin.query('SUSPEND');
    assert.ok(performance.now() - began > 1400);
    await admin.query('RESUME');
    assert.deepEqual(rowsOf(await other.query('SELECT 1')), [['1']]);
    assert.deepEqual(await states(), ['idle']);
  });
});

suite('BAN', () => {
  test('keeps a replica from reads until UNBAN, also after a reload', async () => {
    // Servers by names, which tell the replica from the primary on the same machine.
    const servers = cluster.servers.map(({ port }, at) => ({
      port,
      host: at === 0 ? '127.0.0.1' : 'localhost',
      isReplica: at > 0,
    }));
    const options = {
      pool: { query_parser_enabled: true, query_parser_read_write_splitting: true, primary_reads_enabled: true },
    };
    await using proxy = await TestProxy.start({ servers }, options);
    const admin = await proxy.admin();
    await using client = await proxy.raw();
    const ports = async () => {
      const found = new Set<string>();
      for (let time = 0; time < 20; time++)
        found.add(String(rowsOf(await client.query('SELECT inet_server_port()'))[0]));
      return found;
    };
    const replica = String(cluster.replica(0).port);
    await eventually('the replica serves', async () => (await ports()).has(replica));
    const { rows, command } = await admin.query('BAN localhost 30');
    const row = { db: DATABASE, role: 'replica', host: 'localhost' };
    assert.deepEqual(
      [command, rows],
      [
        'BAN',
        [
          { ...row, user: 'alice' },
          { ...row, user: 'bob' },
        ],
      ],
    );
    assert.deepEqual(
      (await admin.query('SHOW BANS')).rows.map(({ reason }) => reason),
      ['AdminBan(30)', 'AdminBan(30)'],
    );
    assert.equal((await ports()).has(replica), false);
    proxy.rewrite(configText({ servers }, { ...options, user: { pool_size: 2 } }));
    await admin.query('RELOAD');
    assert.equal((await ports()).has(replica), false);
    await assert.rejects(admin.query('BAN 127.0.0.1 10'), { code: '58000', message: /primary cannot be banned/ });
    assert.deepEqual((await admin.query('BAN nowhere 10')).rows, []);
    const lifted = await admin.query('UNBAN localhost');
    assert.deepEqual([lifted.command, lifted.rows], ['UNBAN', rows]);
    assert.equal((await ports()).has(replica), true);
    assert.deepEqual((await admin.query('BAN "localhost" 1')).rows, rows);
    await eventually('the ban is over', async () => (await ports()).has(replica));
    await admin.query('BAN localhost');
    assert.equal((await admin.query('SHOW BANS')).rows[0].reason, 'AdminBan(60)');
    await admin.end();
  });
});
