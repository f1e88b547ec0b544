/** PgCat's configuration of 2022 as it stands, served by the command line: its users, its signals, its end. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { Command } from '../cli/command.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';

const SEED = new URL('../fixtures/seed-pgcat.toml', import.meta.url);
const USERS = ['sharding_user', 'other_user'] as const;

let cluster: TestCluster;
let folder: string;
before(async () => {
  cluster = await startCluster({
    replicas: 2,
    hba: USERS.map(user => `host all ${user} 127.0.0.1/32 scram-sha-256`),
  });
  for (const user of USERS) await cluster.sql(`CREATE ROLE ${user} LOGIN PASSWORD '${user}'`);
  for (const shard of [0, 1, 2]) {
    await cluster.sql(`CREATE DATABASE shard${shard}`);
    const admin = await cluster.connect(cluster.primary, `shard${shard}`);
    await admin.query(`CREATE TABLE data (id bigint, shard int DEFAULT ${shard}); GRANT ALL ON data TO PUBLIC`);
    await admin.end();
  }
  await cluster.caughtUp();
  folder = mkdtempSync(join(tmpdir(), 'pglynx-seed-'));
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cluster?.stop();
});

/** The file with this cluster's ports, and any free one for pglynx. */
function seedText(): string {
  const ports: Record<string, number> = {
    6432: 0,
    9930: 0,
    5432: cluster.primary.port,
    5433: cluster.replica(0).port,
    5434: cluster.replica(1).port,
  };
  return readFileSync(SEED, 'utf8').replaceAll(/\b(6432|9930|543[234])\b/g, port => String(ports[port]));
}

/** `pglynx FILE`, and its log. */
class Service {
  readonly command: Command;
  readonly file: string;
  readonly port: number;

  private constructor(command: Command, file: string, port: number) {
    this.command = command;
    this.file = file;
    this.port = port;
  }

  static async start(text = seedText()): Promise<Service> {
    const file = join(folder, 'pgcat.toml');
    writeFileSync(file, text);
    const command = Command.pglynx('--log-format', 'structured', file);
    const [, port] = await command.printed(/"msg":"Running on 0\.0\.0\.0:(\d+)"/);
    return new Service(command, file, Number(port));
  }

  /** What the log says so far with this level. */
  said(level: string): string[] {
    const lines: Record<string, string>[] = this.command.output
      .split('\n')
      .slice(0, -1)
      .map(line => JSON.parse(line));
    return lines.filter(line => line.level === level).map(line => line.msg);
  }

  /** Changes the file, has it read again, and returns the answer in the log. */
  async reload(text: string | undefined): Promise<string> {
    if (text === undefined) rmSync(this.file);
    else writeFileSync(this.file, text);
    const before = this.command.output.length;
    this.command.signal('SIGHUP');
    const answer = /"msg":"((?:Config |reload changed nothing).*?[^\\])"/;
    await eventually('the log answers', () => answer.test(this.command.output.slice(before)));
    return answer.exec(this.command.output.slice(before))?.[1] ?? '';
  }

  async connect(user: string = USERS[0], database = 'sharded_db', password = user): Promise<Client> {
    const client = new Client({ host: '127.0.0.1', port: this.port, user, password, database });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.command[Symbol.asyncDispose]();
  }
}

/** A key of each shard. */
const SHARDED = [
  [0, 2],
  [1, 3],
  [2, 1],
] as const;

/** What a client is told when its connection is ended. */
function lastError(client: Client): Promise<string> {
  return new Promise(resolve => {
    client.once('error', (error: Error & { code?: string }) => resolve(error.code ?? error.message));
  });
}

suite('the file as it stands', () => {
  test('serves both of its users, rows on the shards of their keys, reads on any server and writes on the primary', async () => {
    await using service = await Service.start();
    for (const user of USERS) {
      const client = await service.connect(user);
      const { rows } = await client.query('SELECT current_user::text AS u, current_database()::text AS d');
      assert.deepEqual(rows, [{ u: user, d: 'shard0' }]);
      for (const [, key] of SHARDED) await client.query('INSERT INTO data (id) VALUES ($1)', [key]);
      await cluster.caughtUp();
      const places = new Set<boolean>();
      for (let i = 0; i < 60; i++) {
        const [shard, key] = SHARDED[i % SHARDED.length];
        const [row] = (await client.query('SELECT shard, pg_is_in_recovery() AS r FROM data WHERE id = $1', [key]))
          .rows;
        assert.equal(row.shard, shard);
        places.add(row.r);
      }
      assert.deepEqual([...places].sort(), [false, true]);
      await client.query('BEGIN');
      assert.deepEqual((await client.query('SELECT pg_is_in_recovery() AS r')).rows, [{ r: false }]);
      await client.query('ROLLBACK');
      await client.end();
      await assert.rejects(service.connect(user, 'sharded_db', 'wrong'), { code: '28P01' });
    }
    const admin = await service.connect('admin_user', 'pgcat', 'admin_pass');
    const { rows } = await admin.query('SHOW POOLS');
    assert.deepEqual(rows.map(row => row.user).sort(), [...USERS].sort());
    await admin.end();
  });

  test('serves its metrics, and has nothing to warn of', async () => {
    await using service = await Service.start();
    const [, port] = await service.command.printed(
      /Exposing prometheus metrics on http:\/\/0\.0\.0\.0:(\d+)\/metrics\./,
    );
    const response = await fetch(`http://127.0.0.1:${port}/metrics`);
    assert.match(
      await response.text(),
      /^pgcat_databases_pool_size\{.*pool="sharded_db".*username="other_user"\} 21$/m,
    );
    assert.deepEqual(service.said('warn'), []);
  });
});

suite('SIGHUP', () => {
  test('applies a changed file to those who are connected, too', async () => {
    await using service = await Service.start();
    const client = await service.connect();
    await client.query('SELECT 1');
    const changed = seedText()
      .replace('log_client_connections = false', 'log_client_connections = true')
      .replace('database = "shard0"', 'database = "shard1"');
    assert.match(await service.reload(changed), /^Config changed/);
    assert.deepEqual((await client.query('SELECT current_database()::text AS d')).rows, [{ d: 'shard1' }]);
    assert.ok(!service.said('info').includes('Client connected'));
    await (await service.connect('other_user')).end();
    await eventually('the next client is logged', () => service.said('info').includes('Client connected'));
    assert.match(await service.reload(changed), /^Config has not changed/);
    await client.end();
  });

  test('lets a transaction finish on the connection that it has', async () => {
    await using service = await Service.start();
    const client = await service.connect();
    await client.query('BEGIN');
    await client.query('INSERT INTO data (id) VALUES (77)');
    assert.match(await service.reload(seedText().replace('pool_size = 9', 'pool_size = 2')), /^Config changed/);
    assert.deepEqual((await client.query('SELECT id FROM data WHERE id = 77')).rows, [{ id: '77' }]);
    await client.query('COMMIT');
    await cluster.caughtUp();
    assert.deepEqual((await client.query('SELECT id FROM data WHERE id = 77')).rows, [{ id: '77' }]);
    await client.end();
  });

  test('of a bad file changes nothing, and the log says what is wrong and where', async () => {
    await using service = await Service.start();
    const client = await service.connect();
    await client.query('SELECT 1');
    const bad = [
      [seedText().replace('pool_size = 9', 'pool_size = "nine"'), /pool_size/],
      [seedText().replace('pool_mode', 'pool_mood'), /pool_mood.*pool_mode/s],
      ['[general', /:1:/],
      [undefined, /ENOENT|no such file/],
    ] as const;
    for (const [text, complaint] of bad) {
      const answer = await service.reload(text);
      assert.match(answer, /^reload changed nothing: /);
      assert.match(answer, complaint);
      assert.deepEqual((await client.query('SELECT 1 AS n')).rows, [{ n: 1 }]);
      await (await service.connect('other_user')).end();
    }
    await client.end();
  });
});

suite('SIGTERM and SIGINT', () => {
  test('with nobody connected any more end it at once, with code 0', async () => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      await using service = await Service.start();
      await (await service.connect()).end();
      const started_at = performance.now();
      service.command.signal(name);
      assert.equal(await service.command.ended, 0);
      assert.ok(performance.now() - started_at < 3000);
    }
  });

  test('wait for an open transaction, refuse new clients, and tell idle ones to go', async () => {
    await using service = await Service.start();
    const [busy, idle] = [await service.connect(), await service.connect('other_user')];
    await idle.query('SELECT 1');
    await busy.query('BEGIN');
    await busy.query('INSERT INTO data (id) VALUES (1000)');
    const told = lastError(idle);
    service.command.signal('SIGTERM');
    assert.equal(await told, '57P01');
    await assert.rejects(service.connect(), { code: '57P03' });
    await sleep(500);
    await busy.query('INSERT INTO data (id) VALUES ($1)', [1000]);
    const end = lastError(busy);
    assert.equal((await busy.query('COMMIT')).command, 'COMMIT');
    assert.equal(await end, '57P01');
    assert.equal(await service.command.ended, 0);
    const admin = await cluster.connect(cluster.primary, 'shard2');
    assert.equal((await admin.query('SELECT FROM data WHERE id >= 1000')).rowCount, 2);
    await admin.end();
    await eventually('no session is left', async () => (await cluster.activity()).length === 0);
  });

  test('a statement under way may finish, too', async () => {
    await using service = await Service.start();
    const client = await service.connect();
    const slow = client.query('SELECT pg_sleep(0.7), 5 AS n');
    await eventually('it runs', async () => (await cluster.activity()).length > 0);
    await sleep(100);
    service.command.signal('SIGTERM');
    assert.equal((await slow).rows[0].n, 5);
    assert.equal(await service.command.ended, 0);
  });

  test('a second one ends it at once, with the code of the signal', async () => {
    for (const [name, code] of [
      ['SIGTERM', 143],
      ['SIGINT', 130],
    ] as const) {
      await using service = await Service.start();
      const client = await service.connect();
      await client.query('BEGIN');
      service.command.signal('SIGTERM');
      await service.command.printed(/SIGTERM: waiting/);
      await sleep(400);
      const told = lastError(client);
      const signaled_at = performance.now();
      service.command.signal(name);
      assert.equal(await service.command.ended, code);
      assert.ok(performance.now() - signaled_at < 2000);
      await told;
    }
    await eventually('no session is left', async () => (await cluster.activity()).length === 0);
  });

  test('shutdown_timeout ends the wait, and what was not committed is rolled back', async () => {
    await using service = await Service.start(seedText().replace('shutdown_timeout = 60000', 'shutdown_timeout = 400'));
    const client = await service.connect();
    await client.query('BEGIN');
    await client.query('INSERT INTO data (id) VALUES (2000)');
    const told = lastError(client);
    service.command.signal('SIGINT');
    assert.equal(await told, '57P01');
    assert.equal(await service.command.ended, 0);
    assert.ok(service.said('warn').some(msg => msg.startsWith('Graceful shutdown timed out')));
    const admin = await cluster.connect(cluster.primary, 'shard0');
    assert.equal((await admin.query('SELECT FROM data WHERE id = 2000')).rowCount, 0);
    await admin.end();
  });
});
