/** Certificates that change while clients are there. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { rowsOf } from '../client/backend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { der, direct, fixture, startTls, startTlsSocket } from './secure.ts';

const LOGIN = { user: 'alice', database: DATABASE, password: PASSWORDS.alice };
const CLIENTS = 32;

let cluster: TestCluster;
const folder = mkdtempSync(join(tmpdir(), 'pglynx-tls-'));
before(async () => {
  cluster = await startCluster();
});
after(async () => {
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const files = { tls_certificate: 'certificate', tls_private_key: 'key', tls_client_ca: 'ca' };
const path = (name: string) => join(folder, name);
const general = Object.fromEntries(Object.entries(files).map(([key, name]) => [key, path(name)]));

/** Puts another certificate in the place of the one that is shown. */
function put(name: string): void {
  copyFileSync(fixture(`${name}.crt`), path('certificate'));
  copyFileSync(fixture(`${name}.key`), path('key'));
  copyFileSync(fixture('ca.crt'), path('ca'));
}

/** Whether a client that comes now is shown this one. */
async function isShown(port: number, name: string): Promise<boolean> {
  const socket = await startTlsSocket(port);
  const shown = socket.getPeerX509Certificate()?.raw;
  socket.destroy();
  return shown?.equals(der(`${name}.crt`)) === true;
}

suite('a reload', () => {
  test(`swaps the certificate under ${CLIENTS} busy clients without one error`, async () => {
    put('server');
    await using proxy = await TestProxy.start(cluster, { general, user: { auth_type: 'scram-sha-256' } });
    let isOver = false;
    let statements = 0;
    let logins = 0;
    const stay = async (open: typeof direct) => {
      const client = await open(proxy.port);
      await client.login(LOGIN);
      while (!isOver) {
        assert.deepEqual(rowsOf(await client.query(`SELECT ${++statements} % 1`)), [['0']]);
      }
      await client.close();
    };
    const comeAndGo = async (open: typeof direct) => {
      while (!isOver) {
        const client = await open(proxy.port);
        await client.login(LOGIN);
        assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
        await client.close();
        logins++;
      }
    };
    const busy = Array.from({ length: CLIENTS }, (_, i) => {
      const open = i % 2 === 0 ? startTls : direct;
      return i % 8 === 0 ? comeAndGo(open) : stay(open);
    });
    const ended = Promise.all(busy);
    const work = async () => {
      for (let round = 0; round < 10; round++) {
        const name = round % 2 === 0 ? 'renewed' : 'server';
        put(name);
        await proxy.proxy.reload();
        assert.ok(await isShown(proxy.port, name));
        const [before, came] = [statements, logins];
        await eventually('they all go on', () => statements > before + CLIENTS && logins > came + 1);
      }
      isOver = true;
    };
    // An error of a client ends the test at once.
    await Promise.race([work(), ended]);
    await ended;
    assert.deepEqual(
      proxy.log.filter(({ level }) => Number(level) >= 40),
      [],
    );
  });

  test('with a certificate that cannot be used changes nothing and says why', async () => {
    put('server');
    await using proxy = await TestProxy.start(cluster, { general });
    const client = await startTls(proxy.port);
    await client.login(LOGIN);
    for (const [spoil, complaint] of [
      [() => copyFileSync(fixture('server.key'), path('key')), /tls_private_key: is not the key of tls_certificate/],
      [() => writeFileSync(path('certificate'), 'nonsense'), /tls_certificate: names a file that cannot be used/],
      [() => writeFileSync(path('ca'), ''), /tls_client_ca: names a file that cannot be used/],
      [() => rmSync(path('key')), /tls_private_key: names a file that cannot be read: ENOENT/],
    ] as const) {
      put('renewed');
      spoil();
      await assert.rejects(proxy.proxy.reload(), complaint);
      assert.ok(await isShown(proxy.port, 'server'));
    }
    put('renewed');
    await proxy.proxy.reload();
    assert.ok(await isShown(proxy.port, 'renewed'));
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
    await client.close();
  });

  test('is not needed when files are renewed: it happens by itself, once they can be used', async () => {
    put('server');
    await using proxy = await TestProxy.start(cluster, { general });
    const client = await startTls(proxy.port);
    await client.login(LOGIN);
    copyFileSync(fixture('renewed.crt'), path('certificate'));
    const said = (text: string) => proxy.log.filter(({ msg }) => String(msg).startsWith(text));
    await eventually('the key is missed', () => said('certificates were not renewed: ').length === 1);
    assert.ok(await isShown(proxy.port, 'server'));
    copyFileSync(fixture('renewed.key'), path('key'));
    await eventually('the new certificate is shown', () => isShown(proxy.port, 'renewed'));
    assert.deepEqual(
      said('Certificates were renewed').map(({ files }) => files),
      [[path('certificate'), path('key')]],
    );
    assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
    await client.close();
  });

  test('turns encryption on, makes it a must and turns it off, for those who come then', async () => {
    put('server');
    await using proxy = await TestProxy.start(cluster, {});
    const plain = await proxy.raw();
    await assert.rejects(startTls(proxy.port), /answered with N/);
    const original = readFileSync(proxy.path, 'utf8');
    const keys = Object.entries(general).map(([key, file]) => `${key} = ${JSON.stringify(file)}`);
    const apply = async (...lines: string[]) => {
      proxy.rewrite(original.replace('[general]', ['[general]', ...lines].join('\n')));
      await proxy.proxy.reload();
    };
    await apply(...keys);
    const encrypted = await startTls(proxy.port);
    await encrypted.login(LOGIN);
    await apply(...keys, 'tls_mode = "require"');
    await assert.rejects(RawClient.connect({ port: proxy.port, ...LOGIN }), /connections must be encrypted/);
    await (await startTls(proxy.port)).close();
    await apply(...keys, 'tls_mode = "disable"');
    await assert.rejects(startTls(proxy.port), /answered with N/);
    await (await proxy.raw()).close();
    for (const client of [plain, encrypted]) {
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
      await client.close();
    }
  });
});
