/** How many clients may come: who is refused is told so at once, the admin gets in, and who is served notices nothing. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { decode, errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster?.stop());

const start = (options: ProxyOptions) => TestProxy.start(cluster, options);

/** A client that needs no password, so that two thousand of them cost little. */
const OPEN = `[pools.${DATABASE}.users.open]
username = "open"
auth_type = "trust"
server_username = "alice"
server_password = ${JSON.stringify(PASSWORDS.alice)}
pool_size = 4
`;

const login = (proxy: TestProxy, user: 'alice' | 'bob' | 'open') => {
  const password = user === 'bob' ? PASSWORDS.bob : PASSWORDS.alice;
  return RawClient.connect({ port: proxy.port, user, database: DATABASE, password });
};

async function refusal(proxy: TestProxy, user: 'alice' | 'bob' = 'alice'): Promise<readonly (string | undefined)[]> {
  const failed = await login(proxy, user).catch((error: unknown) => error);
  assert.ok(failed instanceof LoginError, 'it was let in');
  const { severity, code, message } = failed.fields;
  return [severity, code, message];
}

suite('max_client_conn', () => {
  test('of 2,000 clients at 1,000: the refused are told within a second, the admin gets in, the served go on', async () => {
    await using proxy = await start({ general: { max_client_conn: 1000, connect_timeout: 10_000 }, more: OPEN });
    const clients: RawClient[] = [];
    while (clients.length < 1000) {
      clients.push(...(await Promise.all(Array.from({ length: 100 }, () => login(proxy, 'open')))));
    }
    let served = 0;
    let isOver = false;
    const busy = clients.slice(0, 10).map(async (client, number) => {
      for (let count = 0; !isOver; count++, served++) {
        const tag = `${number}.${count}`;
        assert.deepEqual(rowsOf(await client.query(`SELECT '${tag}'`)), [[tag]]);
      }
    });
    const late: number[] = [];
    for (let wave = 0; wave < 40; wave++) {
      const knocking = Array.from({ length: 25 }, async () => {
        const client = await RawClient.open({ port: proxy.port });
        const began_ms = performance.now();
        client.send(frontend.startup({ user: 'open', database: DATABASE }));
        const [answer, ...more] = (await client.untilClosed()).map(decode);
        assert.deepEqual([answer?.name, more], ['ErrorResponse', []]);
        assert.ok(answer?.name === 'ErrorResponse');
        assert.deepEqual([answer.fields.severity, answer.fields.code], ['FATAL', '53300']);
        assert.match(answer.fields.message ?? '', /no more connections allowed: max_client_conn \(1000\)/);
        late.push(performance.now() - began_ms);
        client.destroy();
      });
      await Promise.all(knocking);
      if (wave % 12 === 0) await (await proxy.admin()).end();
    }
    assert.equal(late.length, 1000);
    assert.ok(Math.max(...late) < 1000, `the slowest was told after ${Math.max(...late)} ms`);
    isOver = true;
    await Promise.all(busy);
    assert.ok(served > 100, `${served} statements were answered meanwhile`);
    const answers = await Promise.all(clients.map(client => client.query('SELECT 1')));
    assert.ok(answers.every(answer => rowsOf(answer)[0]?.[0] === '1'));
    const [gone] = clients;
    await gone?.close();
    await eventually('a place is free', async () => {
      const client = await login(proxy, 'open').catch(() => undefined);
      client?.destroy();
      return client !== undefined;
    });
    for (const client of clients) client.destroy();
    await eventually('all have left', () => [...proxy.proxy.clients()].length === 0);
  });

  test('is refused before a password is asked for, and takes effect at a reload', async () => {
    await using proxy = await start({ general: { max_client_conn: 1 } });
    await using first = await proxy.raw();
    const client = await RawClient.open({ port: proxy.port });
    client.send(frontend.startup({ user: 'alice', database: DATABASE }));
    assert.deepEqual(
      (await client.untilClosed()).map(message => decode(message).name),
      ['ErrorResponse'],
    );
    client.destroy();
    proxy.rewrite(configText(cluster, { general: { max_client_conn: 2 } }));
    await proxy.proxy.reload();
    await using second = await proxy.raw();
    assert.deepEqual(rowsOf(await second.query('SELECT 1')), [['1']]);
    assert.equal((await refusal(proxy))[1], '53300');
    assert.equal(errorOf(await first.query('SELECT 1')), undefined);
  });

  test('of a pool and of a user in it: each has its own, counted after the login', async () => {
    const pool = { max_client_conn: 3 };
    await using proxy = await start({ pool, user: { max_client_conn: 2 } });
    const clients = [await login(proxy, 'alice'), await login(proxy, 'alice')];
    assert.deepEqual(await refusal(proxy), [
      'FATAL',
      '53300',
      `no more connections allowed: max_client_conn (2) of the user "alice" in the pool "${DATABASE}" is reached`,
    ]);
    clients.push(await login(proxy, 'bob'));
    assert.deepEqual(await refusal(proxy, 'bob'), [
      'FATAL',
      '53300',
      `no more connections allowed: max_client_conn (3) of the pool "${DATABASE}" is reached`,
    ]);
    // Who does not know the password learns nothing of it.
    const stranger = RawClient.connect({ port: proxy.port, user: 'bob', database: DATABASE, password: 'wrong' });
    const unknown = await stranger.catch((error: unknown) => error);
    assert.ok(unknown instanceof LoginError);
    assert.equal(unknown.fields.code, '28P01');
    await clients.pop()?.close();
    await using again = await login(proxy, 'bob');
    assert.equal(errorOf(await again.query('SELECT 1')), undefined);
    for (const client of clients) await client.close();
  });

  test('a client that gives up its login, or fails it, gives its place back', async () => {
    await using proxy = await start({ general: { max_client_conn: 1 } });
    for (let count = 0; count < 3; count++) {
      const client = await RawClient.open({ port: proxy.port });
      client.send(frontend.startup({ user: 'alice', database: DATABASE }));
      await client.message();
      assert.equal((await refusal(proxy))[1], '53300', 'who logs in has a place');
      client.destroy();
      await eventually('the place is free', async () => {
        const wrong = RawClient.connect({ port: proxy.port, user: 'alice', database: DATABASE, password: 'wrong' });
        const failed = await wrong.catch((error: unknown) => error);
        return failed instanceof LoginError && failed.fields.code === '28P01';
      });
    }
    await using client = await proxy.raw();
    assert.equal(errorOf(await client.query('SELECT 1')), undefined);
  });
});

suite('client_login_timeout', () => {
  test('ends a login that takes too long, at any stage, and says so with 57014', async () => {
    await using proxy = await start({ general: { client_login_timeout: 200 } });
    const startup = frontend.startup({ user: 'alice', database: DATABASE });
    for (const bytes of [[], [startup.subarray(0, 9)], [startup]]) {
      const client = await RawClient.open({ port: proxy.port });
      client.send(...bytes);
      const error = errorOf(await client.untilClosed());
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '57014']);
      assert.match(error?.message ?? '', /client_login_timeout \(200 ms\)/);
      client.destroy();
    }
  });

  test('0 is never', async () => {
    await using proxy = await start({ general: { client_login_timeout: 0 } });
    await using client = await proxy.raw();
    assert.equal(errorOf(await client.query('SELECT 1')), undefined);
    await (await proxy.connect({ user: ADMIN.user, password: ADMIN.password, database: 'pgbouncer' })).end();
  });
});
