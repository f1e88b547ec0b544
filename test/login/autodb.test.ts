/** Databases and users that the file doesn't list: what `[pools."*"]` and the username `*` make of them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DATABASE, eventually, PASSWORDS, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { ASKER, ASKING, isRefused, startAskedCluster, whoAmI } from './asker.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startAskedCluster();
  // Rights on a catalog are each database's own, and this is where `[pools."*"]` asks.
  const postgres = await cluster.connect(cluster.primary, 'postgres');
  await postgres.query(`GRANT SELECT ON pg_shadow TO ${ASKER.name}`);
  await postgres.end();
  for (const name of ['one', 'two', '"Th ree"']) await cluster.sql(`CREATE DATABASE ${name}`);
});
after(() => cluster?.stop());

/** One listed database with one listed user, and everything else by `*`. */
function start(options: ProxyOptions = {}): Promise<TestProxy> {
  const { host, port } = cluster.primary;
  const more = `
[pools.${DATABASE}.users."*"]
pool_size = 2
[pools."*"]
auth_query = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1"
[pools."*".users."*"]
pool_size = 2
[pools."*".users.bob]
username = "bob"
pool_size = 1
min_pool_size = 1
pool_mode = "session"
[pools."*".shards.0]
database = "*"
servers = [["${host}", ${port}, "primary"]]`;
  return TestProxy.start(cluster, { users: ['alice'], ...options, general: { ...ASKING, ...options.general }, more });
}

/** The names of the pools, as database/user. */
async function pools(proxy: TestProxy): Promise<string[]> {
  const admin = await proxy.admin();
  const { rows } = await admin.query<{ database: string; user: string }>('SHOW POOLS');
  await admin.end();
  return rows.map(({ database, user }) => `${database}/${user}`).sort();
}

suite('a name that the file does not list', () => {
  test('is served as `*` says, in the database that it asks for', async () => {
    await using proxy = await start();
    for (const [user, database] of [
      ['carol', DATABASE],
      ['alice', 'one'],
      ['carol', 'two'],
      ['carol', 'Th ree'],
    ] as const) {
      assert.deepEqual(await whoAmI(proxy, { user, database }), { user, database });
      await isRefused(proxy, { user, database, password: 'wrong' });
      await isRefused(proxy, { user: 'stranger', database, password: PASSWORDS.carol });
    }
    assert.deepEqual(await pools(proxy), [
      'Th ree/carol',
      `${DATABASE}/alice`,
      `${DATABASE}/carol`,
      'one/alice',
      'two/carol',
    ]);
    assert.deepEqual(await whoAmI(proxy, { user: 'alice' }), { user: 'alice', database: DATABASE });
    const asking = (await cluster.activity()).filter(({ usename }) => usename === ASKER.name);
    const databases = asking.map(({ datname }) => datname);
    assert.deepEqual(
      new Set(databases),
      new Set([DATABASE, 'postgres']),
      'all unlisted databases are asked about in one',
    );
    assert.ok(databases.length <= 4, databases.join());
  });

  test('that is no database of the servers is told so after the password, and only then', async () => {
    await using proxy = await start();
    await isRefused(proxy, { user: 'carol', database: 'nowhere', password: 'wrong' });
    await assert.rejects(proxy.connect({ user: 'carol', database: 'nowhere' }), /database "nowhere" does not exist/);
    for (const database of ['constructor', '__proto__', "x'; DROP DATABASE one; --"]) {
      await assert.rejects(proxy.connect({ user: 'carol', database }), /does not exist/);
    }
    await assert.rejects(proxy.connect({ user: 'carol', database: 'd'.repeat(64) }), { code: '3D000' });
    await whoAmI(proxy, { user: 'carol', database: 'one' });
  });

  test('that is no database of the servers leaves nothing behind, and is not asked for again and again', async () => {
    await using proxy = await start();
    for (let n = 0; n < 5; n++) await assert.rejects(proxy.connect({ user: 'bob', database: `nowhere${n}` }));
    const failures = () => proxy.log.filter(({ msg }) => /nowhere\d_shard_0_primary failed/.test(String(msg))).length;
    const before = failures();
    await eventually(
      'their pools are gone',
      async () => !(await pools(proxy)).some(name => name.startsWith('nowhere')),
    );
    assert.equal(failures(), before);
  });

  test('has the settings of a user whom `[pools."*"]` lists', async () => {
    await using proxy = await start();
    const bob = await proxy.connect({ user: 'bob', database: 'one' });
    await bob.query("SET work_mem = '77MB'");
    assert.equal((await bob.query('SHOW work_mem')).rows[0].work_mem, '77MB');
    const admin = await proxy.admin();
    const { rows } = await admin.query('SHOW POOLS');
    assert.equal(rows.find(({ database, user }) => database === 'one' && user === 'bob')?.pool_mode, 'session');
    await admin.end();
    await bob.end();
  });

  test('of another database is not served where only users are `*`', async () => {
    const more = `[pools.${DATABASE}.users."*"]\npool_size = 1`;
    await using proxy = await TestProxy.start(cluster, { users: [], general: ASKING, more });
    await whoAmI(proxy, { user: 'carol' });
    await isRefused(proxy, { user: 'alice', database: 'one' });
  });
});

suite('a pool made for `*`', () => {
  test('goes when nobody has used it for long, and comes back when it is wanted', async () => {
    await using proxy = await start({ general: { autodb_idle_timeout: 1000 } });
    const kept = await proxy.connect({ user: 'alice', database: 'two' });
    await whoAmI(proxy, { user: 'carol', database: 'one' });
    const opened = async () => (await cluster.activity()).filter(({ usename }) => usename === 'carol').length;
    assert.ok((await opened()) > 0);
    await eventually('the pool is gone', async () => !(await pools(proxy)).includes('one/carol'));
    await eventually('its connection is gone', async () => (await opened()) === 0);
    assert.ok((await pools(proxy)).includes('two/alice'), 'a client is there');
    assert.equal((await kept.query('SELECT 1 AS one')).rows[0].one, 1);
    await kept.end();
    await whoAmI(proxy, { user: 'carol', database: 'one' });
  });

  test('makes room for another when there are as many as may be, unless all are in use', async () => {
    await using proxy = await start({ general: { autodb_max_pools: 2 } });
    await whoAmI(proxy, { user: 'carol', database: 'one' });
    const alice = await proxy.connect({ user: 'alice', database: 'one' });
    const isIn = (user: string, database: string) =>
      whoAmI(proxy, { user, database }).then(
        () => true,
        (error: unknown) => {
          assert.ok(error instanceof Error && 'code' in error && error.code === '53300', String(error));
          return false;
        },
      );
    await eventually('what nobody uses goes', () => isIn('carol', 'two'));
    assert.deepEqual(await pools(proxy), [`${DATABASE}/alice`, 'one/alice', 'two/carol']);
    const carol = await proxy.connect({ user: 'carol', database: 'two' });
    await sleep(1100);
    assert.equal(await isIn('alice', 'two'), false);
    await whoAmI(proxy, { user: 'carol', database: 'two' });
    for (const client of [alice, carol]) assert.equal((await client.query('SELECT 1 AS one')).rows[0].one, 1);
    await carol.end();
    await eventually('there is room again', () => isIn('alice', 'two'));
    await alice.end();
  });

  test('follows a reload, and its clients with it', async () => {
    await using proxy = await start();
    const carol = await proxy.connect({ user: 'carol', database: 'one' });
    const pid = async () => (await carol.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
    const before = await pid();
    const file = readFileSync(proxy.path, 'utf8');
    proxy.rewrite(`${file}\n# nothing that concerns it`);
    await proxy.proxy.reload();
    assert.equal(await pid(), before, 'the pool goes on');
    proxy.rewrite(file.replace('[pools."*"]', '[pools."*"]\nserver_lifetime = 5000'));
    await proxy.proxy.reload();
    assert.notEqual(await pid(), before, 'the pool was renewed');
    assert.ok((await pools(proxy)).includes('one/carol'));
    proxy.rewrite(file.slice(0, file.indexOf('[pools."*"]')));
    await proxy.proxy.reload();
    await assert.rejects(pid(), /No pool configured/);
    assert.ok(!(await pools(proxy)).includes('one/carol'));
    await isRefused(proxy, { user: 'carol', database: 'one' });
  });

  test('that the file lists later is that of the file', async () => {
    await using proxy = await start({ general: { autodb_idle_timeout: 1000 } });
    const carol = await proxy.connect({ user: 'carol', database: DATABASE });
    const listed = `[pools.${DATABASE}.users.c]\nusername = "carol"\npassword = ${JSON.stringify(PASSWORDS.carol)}\npool_size = 4\n`;
    proxy.rewrite(readFileSync(proxy.path, 'utf8').replace('[pools."*"]', `${listed}[pools."*"]`));
    await proxy.proxy.reload();
    assert.equal((await carol.query('SELECT 1 AS one')).rows[0].one, 1);
    await carol.end();
    const admin = await proxy.admin();
    const sizes = async () => (await admin.query('SHOW DATABASES')).rows.filter(row => row.force_user === 'carol');
    assert.equal((await sizes())[0]?.pool_size, 4);
    await eventually('it is none of `*` any more', () => [...proxy.proxy.autoNames].length === 0);
    assert.equal((await sizes()).length, 1);
    await admin.end();
  });
});
