/** Many reloads, and reloads at bad moments: nobody is failed who need not be, nothing is counted anew, nothing is left behind. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { backendPid, wholePool } from './backends.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster?.stop());

const pool = { connect_timeout: 5000 };
const start = (options: ProxyOptions) => TestProxy.start(cluster, { pool, ...options });
const reload = (proxy: TestProxy, options: ProxyOptions) => {
  proxy.rewrite(configText(cluster, { pool, ...options }));
  return proxy.proxy.reload();
};

function connectAs(proxy: TestProxy, user: 'alice' | 'bob'): Promise<RawClient> {
  return RawClient.connect({ port: proxy.port, user, database: DATABASE, password: PASSWORDS[user] });
}

/** How much of the process is in use, by kind: timers, sockets, and file descriptors where they can be counted. */
function resources(): Map<string, number> {
  const counts = new Map<string, number>();
  const kinds = process.getActiveResourcesInfo();
  if (existsSync('/proc/self/fd')) kinds.push(...readdirSync('/proc/self/fd').map(() => 'descriptor'));
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

/** The sessions that pglynx has on the server for its users. */
async function serverSessions(): Promise<number> {
  const sessions = await cluster.activity();
  return sessions.filter(({ application_name }) => application_name !== '').length;
}

const openConnections = ({ proxy }: TestProxy) =>
  [...proxy.clusters()].flatMap(({ pools }) => pools).reduce((sum, { connections }) => sum + connections.size, 0);

suite('two hundred reloads', () => {
  test('fail none of 32 busy clients and leave nothing behind', async () => {
    const small = { user: { pool_size: 3 } };
    const files = [
      configText(cluster, { pool, ...small }),
      configText(cluster, { pool: { ...pool, multiplexing_max_depth: 5 }, user: { pool_size: 5 } }),
      configText(cluster, { pool, user: { pool_size: 0 } }),
    ];
    await using proxy = await start(small);
    const clients = await Promise.all(Array.from({ length: 32 }, (_, n) => connectAs(proxy, n % 2 ? 'alice' : 'bob')));
    const atRest = async () => {
      await Promise.all(clients.map(client => client.query('SELECT 1')));
      await eventually('the server has the sessions that pglynx knows of', async () => {
        return (await serverSessions()) === openConnections(proxy);
      });
      const counts = resources();
      counts.set('descriptor', (counts.get('descriptor') ?? 0) - openConnections(proxy));
      counts.set('TCPSocketWrap', (counts.get('TCPSocketWrap') ?? 0) - openConnections(proxy));
      return counts;
    };
    const before = await atRest();
    let over = false;
    const work = clients.map(async (client, number) => {
      for (let count = 0; !over; count++) {
        await workOnce(client, number % 4, `${number}.${count}`);
        await sleep(5);
      }
    });
    let refused = 0;
    for (let count = 0; count < 200; count++) {
      proxy.rewrite(files[count % 3]);
      if (count % 3 < 2) await proxy.proxy.reload();
      else {
        await assert.rejects(proxy.proxy.reload(), /pool_size/);
        refused++;
      }
      await sleep(2);
    }
    over = true;
    await Promise.all(work);
    assert.equal(refused, 66);
    await reload(proxy, small);
    let excess: [string, number][] = [];
    await eventually('no more is in use than before', async () => {
      const now = await atRest();
      excess = [...now].filter(([kind, count]) => count > (before.get(kind) ?? 0));
      return excess.length === 0;
    }).catch((error: Error) =>
      assert.fail(`${error.message}: ${JSON.stringify(excess)}, before ${JSON.stringify([...before])}`),
    );
    await Promise.all(clients.map(client => client.close()));
  });
});

/** One statement, prepared statement, or transaction, whose answer must be right. */
async function workOnce(client: RawClient, kind: number, tag: string): Promise<void> {
  if (kind === 0) {
    const messages = await client.query(`SELECT '${tag}'`);
    assert.deepEqual(rowsOf(messages), [[tag]], errorOf(messages)?.message);
  } else if (kind === 1) {
    client.send(frontend.parse('s', 'SELECT $1::text'), frontend.bind('', 's', [tag]), frontend.execute());
    client.send(frontend.close('S', 's'), frontend.sync());
    const messages = await client.ready();
    assert.deepEqual(rowsOf(messages), [[tag]], errorOf(messages)?.message);
  } else {
    for (const [sql, answer] of [
      ['BEGIN', 'BEGIN'],
      [`INSERT INTO kept VALUES ('${tag}')`, 'INSERT 0 1'],
      [`DELETE FROM kept WHERE line = '${tag}'`, 'DELETE 1'],
      ['COMMIT', 'COMMIT'],
    ]) {
      const messages = await client.query(sql);
      assert.deepEqual(tagsOf(messages), [answer], errorOf(messages)?.message);
    }
  }
}

suite('reloads at the same time', () => {
  test('are few, come one after another, and all see the last file', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    const first = proxy.proxy.reload();
    proxy.rewrite(configText(cluster, { pool, user: { pool_size: 4 } }));
    const all = Array.from({ length: 50 }, () => proxy.proxy.reload());
    await Promise.all([first, ...all]);
    assert.equal([...proxy.proxy.clusters()][0].settings.pool_size, 4);
    const reloads = proxy.log.filter(({ msg }) => /^Config (has not changed|changed)/.test(String(msg)));
    assert.ok(reloads.length <= 2, `${reloads.length} reloads`);
  });

  test('that fail do not hold up the next', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    proxy.rewrite('not TOML');
    const failed = Array.from({ length: 3 }, () => assert.rejects(proxy.proxy.reload(), /pgcat\.toml:1/));
    await Promise.all(failed);
    await reload(proxy, { user: { pool_size: 2 } });
    assert.equal((await wholePool(proxy, 2)).length, 2);
  });
});

suite('a client that waits for a connection', () => {
  test('waits in the new pool from the reload on', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using holder = await proxy.raw();
    await holder.query('BEGIN');
    await using waiting = await proxy.raw();
    waiting.send(frontend.query('SELECT 42'));
    await eventually('it waits', () => [...proxy.proxy.clients()].some(({ state }) => state === 'waiting'));
    await reload(proxy, { user: { pool_size: 2 } });
    assert.deepEqual(rowsOf(await waiting.ready()), [['42']]);
    assert.deepEqual(tagsOf(await holder.query('COMMIT')), ['COMMIT']);
  });

  test('is told at once when its pool was taken out', async () => {
    await using proxy = await start({ user: { pool_size: 1 } });
    await using holder = await connectAs(proxy, 'bob');
    await holder.query("BEGIN; INSERT INTO kept VALUES ('kept')");
    await using waiting = await connectAs(proxy, 'bob');
    waiting.send(frontend.query('SELECT 42'));
    await eventually('it waits', () => [...proxy.proxy.clients()].some(({ state }) => state === 'waiting'));
    await reload(proxy, { user: { pool_size: 1 }, users: ['alice'] });
    const error = errorOf(await waiting.untilClosed());
    assert.deepEqual([error?.severity, error?.code], ['FATAL', '58000']);
    assert.match(error?.message ?? '', /No pool configured for database: bench, user: bob/);
    assert.deepEqual(tagsOf(await holder.query('COMMIT')), ['COMMIT']);
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 'kept' }]);
  });
});

suite('a session-mode client whose pool was taken out', () => {
  test('is told between transactions, and its connection ends', async () => {
    const session = { pool: { ...pool, pool_mode: 'session' } };
    await using proxy = await start({ ...session });
    await using idle = await connectAs(proxy, 'bob');
    await using busy = await connectAs(proxy, 'bob');
    await idle.query('SELECT 1');
    await busy.query("BEGIN; INSERT INTO kept VALUES ('kept')");
    await reload(proxy, { ...session, users: ['alice'] });
    assert.equal(errorOf(await idle.untilClosed())?.code, '58000');
    busy.send(frontend.query('COMMIT'));
    const last = await busy.untilClosed();
    assert.deepEqual([tagsOf(last), errorOf(last)?.code], [['COMMIT'], '58000']);
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 'kept' }]);
    await eventually('bob has no session', async () => {
      return (await cluster.activity()).every(({ usename }) => usename !== 'bob');
    });
  });
});

suite('a server that comes or goes', () => {
  test('costs the others no connection', async () => {
    const [primary] = cluster.servers;
    const one = { users: ['alice'] as const, user: { pool_size: 1 } };
    const primaryFirst = { ...pool, default_role: 'primary' };
    const other = { host: 'localhost', port: primary.port, isReplica: true };
    const text = (...servers: (typeof other)[]) =>
      configText({ servers: [{ host: primary.host, port: primary.port }, ...servers] }, { pool: primaryFirst, ...one });
    await using proxy = await start({ pool: primaryFirst, ...one });
    await using client = await proxy.raw();
    await client.query('BEGIN');
    const pid = await backendPid(client);
    for (const servers of [[other], [{ ...other, host: '127.0.0.2' }, other], []]) {
      proxy.rewrite(text(...servers));
      await proxy.proxy.reload();
      await client.query('COMMIT');
      await client.query('BEGIN');
      assert.equal(await backendPid(client), pid);
    }
    await client.query('COMMIT');
  });
});

suite('nothing is counted from zero again', () => {
  test('neither statements nor bytes nor routes, whatever changes', async () => {
    const options = { users: ['alice'] as const, pool: { ...pool, query_parser_enabled: true } };
    await using proxy = await start(options);
    await using client = await proxy.raw();
    const admin = await proxy.admin();
    const totals = async () => {
      const { rows } = await admin.query('SHOW STATS');
      return rows.map(row => Object.entries(row).filter(([name]) => name.startsWith('total_')))[0];
    };
    const routed = async () => {
      const { rows } = await admin.query('SHOW ROUTES');
      return rows.find(({ template }) => String(template).includes('FROM kept'))?.times;
    };
    for (let count = 0; count < 10; count++) await client.query('SELECT * FROM kept');
    let before = await totals();
    for (const pool_size of [2, 3, 4]) {
      await reload(proxy, { ...options, user: { pool_size } });
      const at_once = await totals();
      for (const [at, [name, value]] of before.entries()) {
        assert.ok(Number(at_once[at][1]) >= Number(value), `${name}: ${at_once[at][1]} after ${value}`);
      }
      await client.query('SELECT * FROM kept');
      before = await totals();
    }
    assert.equal(before.find(([name]) => name === 'total_query_count')?.[1], '13');
    assert.equal(Number(await routed()), 13);
    await admin.end();
  });
});

suite('a setting that needs a restart', () => {
  test('is named at each reload until then, and SHOW CONFIG tells what is in force', async () => {
    await using proxy = await start({});
    const admin = await proxy.admin();
    for (let count = 0; count < 2; count++) {
      assert.deepEqual(await reload(proxy, { general: { host: '127.0.0.2' } }), ['general.host (needs a restart)']);
      const { rows } = await admin.query('SHOW CONFIG');
      assert.equal(rows.find(({ key }) => key === 'host')?.value, '127.0.0.1');
    }
    await admin.end();
  });
});

suite('autoreload', () => {
  const general = { autoreload: 50 };

  test('waits until a file is written to its end', async () => {
    await using proxy = await start({ general });
    const text = configText(cluster, { pool, general, user: { pool_size: 2 } });
    const cut = text.indexOf(`[pools.${DATABASE}.users.1]`);
    const shards = text.slice(text.indexOf(`[pools.${DATABASE}.shards.0]`));
    for (let part = 0; part < 6; part++) {
      // Without bob, and right in every other way.
      proxy.rewrite(`${text.slice(0, cut)}${shards}\n# ${'x'.repeat(part)}`);
      await sleep(60);
    }
    proxy.rewrite(text);
    await eventually('the pool has its new size', () => [...proxy.proxy.clusters()][0].settings.pool_size === 2);
    const changes = proxy.log.filter(({ msg }) => msg === 'Config changed, reloading');
    assert.deepEqual(
      changes.map(({ keys }) => JSON.stringify(keys).includes('username')),
      [false],
    );
  });

  test('complains once of a file that cannot be used, and reads it again when it can', async () => {
    await using proxy = await start({ general });
    proxy.rewrite('not TOML');
    const complaints = () => proxy.log.filter(({ msg }) => /^autoreload changed nothing/.test(String(msg))).length;
    await eventually('it complains', () => complaints() > 0);
    await sleep(600);
    assert.equal(complaints(), 1);
    proxy.rewrite(configText(cluster, { pool, general, user: { pool_size: 2 } }));
    await eventually('the pool has its new size', () => [...proxy.proxy.clusters()][0].settings.pool_size === 2);
  });

  test('can be turned on and off by a reload, and sees a password file change', async () => {
    await using proxy = await start({ general: { autoreload: false } });
    const settings = () => [...proxy.proxy.clusters()][0].settings;
    proxy.rewrite(configText(cluster, { pool, user: { pool_size: 2 } }));
    await sleep(300);
    assert.equal(settings().pool_size, 5);
    await reload(proxy, { general, user: { pool_size: 3 } });
    proxy.rewrite(configText(cluster, { pool, general, user: { pool_size: 4 } }));
    await eventually('the change was seen', () => settings().pool_size === 4);
    await reload(proxy, { user: { pool_size: 2 } });
    proxy.rewrite(configText(cluster, { pool, user: { pool_size: 3 } }));
    await sleep(400);
    assert.equal(settings().pool_size, 2);
  });
});
