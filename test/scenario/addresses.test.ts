/** Clients and servers at other places than one IPv4 address: Unix sockets, IPv6, several addresses. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { ClientConfig } from 'pg';
import { errorOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, TestProxy } from '../proxy/index.ts';

const hasIPv6 = Object.values(networkInterfaces()).some(all => all?.some(({ address }) => address === '::1'));

/** Seconds until the kernel asks for a sign of life on this process's connections with this port on one side. */
function silenceOf(side: 'local' | 'remote', port: number): number[] {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n');
  return lines.flatMap(line => {
    const [, local, remote, state, , timer = ''] = line.trim().split(/\s+/);
    const address = side === 'local' ? local : remote;
    const [kind, ticks = ''] = timer.split(':');
    if (state !== '01' || kind !== '02' || !address?.endsWith(`:${hex}`)) return [];
    return [Number.parseInt(ticks, 16) / 100];
  });
}

suite('addresses', () => {
  let cluster: TestCluster;
  let folder: string;
  before(async () => {
    cluster = await startCluster({
      settings: { listen_addresses: '127.0.0.1,::1' },
      hba: ['host all all ::1/128 scram-sha-256'],
    });
    folder = mkdtempSync(join(tmpdir(), 'pglynx-addresses-'));
  });
  after(async () => {
    rmSync(folder, { recursive: true, force: true });
    await cluster.stop();
  });

  /** Where the servers' own Unix socket is. */
  const local = () => ({ servers: [{ host: cluster.folder, port: cluster.primary.port }] });

  async function answer(proxy: TestProxy, config: ClientConfig, sql: string): Promise<unknown> {
    const client = await proxy.connect(config);
    try {
      return Object.values((await client.query({ text: sql })).rows[0] ?? {})[0];
    } finally {
      await client.end();
    }
  }

  test('clients come in by a Unix socket, and by it alone when there is no host', async () => {
    const general = { unix_socket_dir: folder, unix_socket_mode: '0700', port: 6001 };
    await using proxy = await TestProxy.start(cluster, { general: { ...general, host: [] }, users: ['alice'] });
    assert.equal(await answer(proxy, { host: folder }, 'SELECT current_user::text'), 'alice');
    await assert.rejects(proxy.connect({ host: folder, password: 'wrong' }), { code: '28P01' });
    assert.ok(proxy.log.some(({ msg, address }) => address === 'unix' && String(msg).startsWith('Login failed')));
    await assert.rejects(proxy.connect(), { code: 'ECONNREFUSED' });
    await proxy.proxy.stop();
    assert.equal(existsSync(join(folder, '.s.PGSQL.6001')), false);
  });

  test('a cancel request by the Unix socket ends the statement on a server at a Unix socket', async () => {
    const general = { unix_socket_dir: folder };
    await using proxy = await TestProxy.start(local(), { general, users: ['alice'] });
    assert.equal(await answer(proxy, { host: folder }, 'SELECT inet_server_addr()'), null);
    const address = { host: folder, port: proxy.port };
    await using client = await RawClient.connect({
      ...address,
      user: 'alice',
      password: PASSWORDS.alice,
      database: DATABASE,
    });
    client.send(frontend.query('SELECT pg_sleep(60)'));
    await eventually('the statement runs', async () =>
      (await cluster.activity()).some(({ query, state }) => state === 'active' && query.includes('pg_sleep')),
    );
    await cancel(address, client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
  });

  test('a server that is not at its Unix socket is named by the path', async () => {
    const servers = [{ host: folder, port: 5999 }];
    await using proxy = await TestProxy.start({ servers }, { users: ['alice'] });
    const path = join(folder, '.s.PGSQL.5999');
    await assert.rejects(proxy.connect(), error => {
      assert.match(
        String(error),
        new RegExp(`AllServersDown: bench_shard_0_primary \\(${path}\\): connect ENOENT ${path}`),
      );
      return true;
    });
  });

  test('IPv6 addresses serve both sides, and stand in brackets', { skip: !hasIPv6 && 'no IPv6 here' }, async () => {
    const servers = [{ host: '[::1]', port: cluster.primary.port }];
    const general = { host: '127.0.0.1, [::1]' };
    await using proxy = await TestProxy.start({ servers }, { general, users: ['alice'] });
    for (const host of ['127.0.0.1', '::1']) {
      assert.equal(await answer(proxy, { host }, 'SELECT host(inet_server_addr())'), '::1');
    }
    const { port } = proxy;
    assert.ok(proxy.log.some(({ msg }) => msg === `Running on 127.0.0.1:${port}, [::1]:${port}`));
    await assert.rejects(proxy.connect({ host: '::1', password: 'wrong' }), { code: '28P01' });
    assert.ok(proxy.log.some(({ address }) => /^\[::1\]:\d+$/.test(String(address))));
    const opened = proxy.log.find(({ msg }) => String(msg).startsWith('Creating a new server connection'));
    assert.equal(opened?.address, `[::1]:${cluster.primary.port}`);
    await using absent = await TestProxy.start({ servers: [{ host: '::1', port: 1 }] }, { users: ['alice'] });
    await assert.rejects(absent.connect(), /AllServersDown: bench_shard_0_primary \(\[::1\]:1\)/);
  });

  test('the log tells who comes from where, and who goes why and after how long', async () => {
    const general = { unix_socket_dir: folder, log_client_connections: true, log_client_disconnections: true };
    await using proxy = await TestProxy.start(cluster, { general, users: ['alice'] });
    const told = (msg: string, values: object) =>
      proxy.log.some(line => line.msg === msg && Object.entries(values).every(([key, value]) => line[key] === value));
    const client = await proxy.connect({ application_name: 'shop', host: folder });
    assert.ok(told('Client connected', { user: 'alice', address: 'unix', application_name: 'shop', level: 30 }));
    await client.end();
    const cause = 'the client said goodbye';
    await eventually('its end is told', () => told('Client disconnected', { user: 'alice', address: 'unix', cause }));
    const admin = await proxy.admin();
    const line = proxy.log.find(({ msg, database }) => msg === 'Client connected' && database === 'pgcat');
    assert.match(String(line?.address), /^127\.0\.0\.1:\d+$/);
    await admin.end();
    await eventually('its end is told', () => told('Client disconnected', { client: line?.client, level: 30 }));
    const { duration_ms } = proxy.log.findLast(({ msg }) => msg === 'Client disconnected') ?? {};
    assert.equal(typeof duration_ms, 'number');
  });

  test('both sides are asked for a sign of life after tcp_keepalives_idle, which a reload changes', {
    skip: process.platform !== 'linux' && 'only Linux tells',
  }, async () => {
    const options = { general: { tcp_keepalives_idle: 7000 }, users: ['alice'] } as const;
    await using proxy = await TestProxy.start(cluster, options);
    const client = await proxy.connect();
    await client.query('SELECT 1');
    await eventually('both are silent', () => {
      const silences = [silenceOf('local', proxy.port), silenceOf('remote', cluster.primary.port)];
      return silences.every(all => all.length > 0 && all.every(s => s > 6900 && s <= 7000));
    });
    proxy.rewrite(configText(cluster, { ...options, general: { tcp_keepalives_idle: 5000, port: proxy.port } }));
    await proxy.proxy.reload();
    const later = await proxy.connect();
    await eventually('the new one is silent', () => silenceOf('local', proxy.port).some(s => s > 4900 && s <= 5000));
    await Promise.all([client.end(), later.end()]);
  });

  test('SHOW CONFIG tells what is listened on', async () => {
    const general = { host: '127.0.0.1,localhost', unix_socket_dir: folder, unix_socket_mode: '770' };
    await using proxy = await TestProxy.start(cluster, { general });
    const admin = await proxy.admin();
    const { rows } = await admin.query('SHOW CONFIG');
    const value = (key: string) => rows.find(row => row.key === key)?.value;
    assert.equal(value('host'), '127.0.0.1,localhost');
    assert.equal(value('unix_socket_dir'), folder);
    assert.equal(value('unix_socket_mode'), '0770');
    await admin.end();
  });
});
