/** The end of a process with clients at work: who may finish, who is told, and what is left on the server. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ShutdownMode } from '../../src/admin/control.ts';
import { errorOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { Command } from './command.ts';

let cluster: TestCluster;
let folder: string;
before(async () => {
  cluster = await startCluster({ settings: { max_connections: '150' } });
  await cluster.sql('CREATE TABLE kept (line int); GRANT ALL ON kept TO PUBLIC');
  folder = mkdtempSync(join(tmpdir(), 'pglynx-drain-'));
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cluster?.stop();
});

/** A pglynx that an operator runs. */
class Service implements AsyncDisposable {
  readonly command: Command;
  readonly port: number;

  private constructor(command: Command, port: number) {
    this.command = command;
    this.port = port;
  }

  static async start(options: ProxyOptions): Promise<Service> {
    const file = join(folder, 'pgcat.toml');
    writeFileSync(file, configText(cluster, options));
    const command = Command.pglynx('--log-format', 'structured', file);
    const [, port] = await command.printed(/"msg":"Running on 127\.0\.0\.1:(\d+)"/);
    return new Service(command, Number(port));
  }

  connect(user: 'alice' | 'bob' = 'alice'): Promise<RawClient> {
    return RawClient.connect({ port: this.port, user, database: DATABASE, password: PASSWORDS[user] });
  }

  connectAdmin(): Promise<RawClient> {
    return RawClient.connect({ port: this.port, ...ADMIN, database: 'pgcat' });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.command[Symbol.asyncDispose]();
  }
}

/** Severity and SQLSTATE of the last word to a client. */
async function lastWord(client: RawClient): Promise<string> {
  const error = errorOf(await client.untilClosed());
  return `${error?.severity} ${error?.code}`;
}

/** No session of a user of pglynx is left on the server, and no transaction either. */
async function nothingLeft(): Promise<void> {
  const sessions = await cluster.activity();
  assert.deepEqual(
    sessions.filter(({ usename }) => usename !== 'postgres'),
    [],
  );
}

suite('SIGTERM', () => {
  test('under 64 clients in transactions lets each end or tells it, and leaves nothing on the server', async () => {
    await using service = await Service.start({ user: { pool_size: 64 }, general: { shutdown_timeout: 3000 } });
    const clients = await Promise.all(Array.from({ length: 64 }, () => service.connect()));
    await Promise.all(clients.map((client, line) => client.query(`BEGIN; INSERT INTO kept VALUES (${line})`)));
    service.command.signal('SIGTERM');
    await service.command.printed(/SIGTERM: waiting for transactions to end/);
    const outcomes = await Promise.all(
      clients.map(async (client, line) => {
        // Some go on a while, some are idle until it is too late, some run a statement that takes longer than there is time.
        if (line % 4 === 3) return [line, false, await lastWord(client)] as const;
        if (line % 4 === 2) {
          client.send(frontend.query('SELECT pg_sleep(100)'));
          return [line, false, await lastWord(client)] as const;
        }
        await sleep(10 * line);
        await client.query('SELECT 1');
        client.send(frontend.query('COMMIT'));
        const last = await client.untilClosed();
        assert.deepEqual(tagsOf(last), ['COMMIT']);
        return [line, true, `${errorOf(last)?.severity} ${errorOf(last)?.code}`] as const;
      }),
    );
    for (const [line, , word] of outcomes) assert.equal(word, 'FATAL 57P01', `client ${line}`);
    assert.equal(await service.command.ended, 0);
    await nothingLeft();
    const rows = await cluster.sql<{ line: number }>('DELETE FROM kept RETURNING line');
    assert.deepEqual(
      new Set(rows.map(({ line }) => line)),
      new Set(outcomes.filter(([, commits]) => commits).map(([line]) => line)),
    );
    assert.match(service.command.output, /Graceful shutdown timed out\. 32 active clients being closed/);
  });

  test('ends at once where the setting says so, as in PgCat', async () => {
    await using service = await Service.start({ general: { sigterm: 'immediate' } });
    const client = await service.connect();
    await client.query('BEGIN');
    client.send(frontend.query('SELECT pg_sleep(100)'));
    await eventually('it runs', async () => (await cluster.activity()).some(({ query }) => /pg_sleep/.test(query)));
    service.command.signal('SIGTERM');
    assert.equal(await lastWord(client), 'FATAL 57P01');
    assert.equal(await service.command.ended, 0);
    assert.match(service.command.output, /Got SIGTERM, closing with 1 clients active/);
    await nothingLeft();
  });
});

suite('a second signal', () => {
  test('tells clients, cancels what they do, and ends with its number', async () => {
    await using service = await Service.start({});
    const client = await service.connect();
    await client.query('BEGIN');
    client.send(frontend.query('SELECT pg_sleep(100)'));
    service.command.signal('SIGINT');
    await service.command.printed(/SIGINT: waiting for transactions to end/);
    await sleep(400);
    service.command.signal('SIGTERM');
    assert.equal(await lastWord(client), 'FATAL 57P01');
    assert.equal(await service.command.ended, 143);
    await nothingLeft();
  });
});

suite('while a process drains', () => {
  /** What a signal does. */
  const end = ({ proxy }: TestProxy) => proxy.drain().then(() => proxy.stop());
  const adminOf = ({ port }: TestProxy) => RawClient.connect({ port, ...ADMIN, database: 'pgcat' });

  test('those between transactions and those who wait are told, new clients refused, the admin served', async () => {
    await using proxy = await TestProxy.start(cluster, { user: { pool_size: 1 }, pool: { connect_timeout: 30_000 } });
    const [busy, waiting, idle] = [await proxy.raw(), await proxy.raw(), await proxy.raw()];
    const admin = await adminOf(proxy);
    await idle.query('SELECT 1');
    await busy.query('BEGIN; INSERT INTO kept VALUES (1)');
    waiting.send(frontend.query('INSERT INTO kept VALUES (2)'));
    await eventually('it waits', () => [...proxy.proxy.clients()].some(({ state }) => state === 'waiting'));
    const ended = end(proxy);
    assert.deepEqual(await Promise.all([waiting, idle].map(lastWord)), ['FATAL 57P01', 'FATAL 57P01']);
    await assert.rejects(proxy.raw(), /FATAL 57P03/);
    assert.equal(errorOf(await admin.query('SHOW VERSION')), undefined);
    const second = await adminOf(proxy);
    assert.equal(errorOf(await second.query('SHOW POOLS')), undefined);
    busy.send(frontend.query('COMMIT'));
    assert.equal(await lastWord(busy), 'FATAL 57P01');
    assert.deepEqual([await lastWord(admin), await lastWord(second)], ['FATAL 57P01', 'FATAL 57P01']);
    await ended;
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 1 }]);
    await nothingLeft();
  });

  test('those whom PAUSE holds are told, and a transaction is still finished', async () => {
    await using proxy = await TestProxy.start(cluster, {});
    const admin = await adminOf(proxy);
    const [held, busy] = [await proxy.raw(), await proxy.raw()];
    await busy.query('BEGIN; INSERT INTO kept VALUES (1)');
    // It answers when the transaction is over.
    admin.send(frontend.query('PAUSE'));
    await eventually('it holds', async () => {
      held.send(frontend.query('SELECT 1'));
      await sleep(50);
      return [...proxy.proxy.clients()].some(({ state }) => state === 'waiting');
    });
    const ended = end(proxy);
    await eventually('one is told', () => [...proxy.proxy.clients()].every(({ state }) => state !== 'waiting'));
    held.destroy();
    busy.send(frontend.query('COMMIT'));
    assert.equal(await lastWord(busy), 'FATAL 57P01');
    await ended;
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 1 }]);
    admin.destroy();
    await nothingLeft();
  });

  test('a client of session mode may finish its transaction, and one between transactions goes', async () => {
    await using proxy = await TestProxy.start(cluster, { pool: { pool_mode: 'session' } });
    const [busy, idle, listening] = [await proxy.raw(), await proxy.raw(), await proxy.raw()];
    await idle.query('CREATE TEMP TABLE mine (n int)');
    await listening.query('LISTEN something');
    await busy.query('BEGIN; INSERT INTO kept VALUES (1)');
    const ended = end(proxy);
    assert.deepEqual(await Promise.all([idle, listening].map(lastWord)), ['FATAL 57P01', 'FATAL 57P01']);
    busy.send(frontend.query('COMMIT'));
    assert.equal(await lastWord(busy), 'FATAL 57P01');
    await ended;
    assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING line'), [{ line: 1 }]);
    await nothingLeft();
  });

  test('who has not logged in yet is told as well', async () => {
    await using proxy = await TestProxy.start(cluster, {});
    const stranger = await RawClient.open({ port: proxy.port });
    // Its socket is accepted before that of whoever comes later.
    await (await proxy.raw()).close();
    const ended = end(proxy);
    assert.equal(await lastWord(stranger), 'FATAL 57P03');
    stranger.destroy();
    await ended;
  });
});

suite('SHUTDOWN', () => {
  const begin = async (proxy: TestProxy, mode: ShutdownMode) => {
    let over = false;
    const drained = proxy.proxy.drain(mode).then(() => {
      over = true;
    });
    await assert.rejects(proxy.raw(), /57P03/);
    return { drained, isOver: () => over };
  };
  const general = { shutdown_timeout: 100 };

  test('as PgCat has it ends the process with code 0, and a signal on the way does not force it', async () => {
    await using service = await Service.start({});
    const admin = await service.connectAdmin();
    const [idle, busy] = [await service.connect(), await service.connect()];
    await busy.query('BEGIN');
    await admin.query('SHUTDOWN');
    assert.equal(await lastWord(idle), 'FATAL 57P01');
    service.command.signal('SIGTERM');
    await service.command.printed(/SIGTERM: waiting for transactions to end/);
    busy.send(frontend.query('COMMIT'));
    assert.equal(await lastWord(busy), 'FATAL 57P01');
    assert.equal(await service.command.ended, 0);
    await nothingLeft();
  });

  test('WAIT_FOR_SERVERS has no time limit', async () => {
    await using proxy = await TestProxy.start(cluster, { general });
    const [busy, idle] = [await proxy.raw(), await proxy.raw()];
    await busy.query('BEGIN');
    const { drained, isOver } = await begin(proxy, 'wait_for_servers');
    assert.equal(await lastWord(idle), 'FATAL 57P01');
    await sleep(300);
    assert.equal(isOver(), false);
    busy.send(frontend.query('COMMIT'));
    assert.equal(await lastWord(busy), 'FATAL 57P01');
    await drained;
  });

  test('WAIT_FOR_CLIENTS sends nobody away, until a more urgent one comes', async () => {
    await using proxy = await TestProxy.start(cluster, { general });
    const [first, second] = [await proxy.raw(), await proxy.raw()];
    const { drained, isOver } = await begin(proxy, 'wait_for_clients');
    await sleep(300);
    assert.deepEqual(tagsOf(await first.query('SELECT 1')), ['SELECT 1']);
    await first.close();
    await sleep(50);
    assert.equal(isOver(), false);
    void proxy.proxy.drain('drain');
    assert.equal(await lastWord(second), 'FATAL 57P01');
    await drained;
  });
});
