/** PAUSE, another server behind the name, RESUME: under load no client notices but by the time that it takes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Client } from 'pg';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, TestProxy } from '../proxy/index.ts';

const CLIENTS = 16;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE written (id text PRIMARY KEY, port int DEFAULT inet_server_port())');
  await cluster.sql('GRANT ALL ON written TO PUBLIC');
});
after(() => cluster?.stop());

/** Rows that a client was told are there, and what went wrong. */
class Work {
  readonly told: string[] = [];
  readonly errors: string[] = [];
  stopped = false;

  /** Writes and reads in the ways that reach a server differently, until it is told to stop. */
  async run(client: Client, name: string): Promise<void> {
    for (let turn = 0; !this.stopped; turn++) {
      const id = `${name}-${turn}`;
      try {
        await this.#write(client, id, turn % 4);
        this.told.push(id);
        const { rows } = await client.query('SELECT count(*)::int AS count FROM written WHERE id = $1', [id]);
        if (rows[0].count !== 1) this.errors.push(`${id} was read ${rows[0].count} times`);
      } catch (error) {
        this.errors.push(`${id}: ${error}`);
      }
    }
  }

  async #write(client: Client, id: string, way: number): Promise<void> {
    if (way === 0) await client.query(`INSERT INTO written VALUES ('${id}')`);
    else if (way === 1) await client.query('INSERT INTO written VALUES ($1)', [id]);
    else if (way === 2) await client.query({ name: 'write', text: 'INSERT INTO written VALUES ($1)', values: [id] });
    else {
      await client.query('BEGIN');
      await client.query('INSERT INTO written VALUES ($1)', [id]);
      await client.query('COMMIT');
    }
  }
}

test('the server behind the name is switched under load: no error, nothing lost, nothing twice', async () => {
  const [old, next] = cluster.servers;
  const options = { user: { pool_size: 4 }, pool: { connect_timeout: 1000 } };
  await using proxy = await TestProxy.start({ servers: [old] }, options);
  const admin = await proxy.admin();
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => proxy.connect()));
  const work = new Work();
  const runs = clients.map((client, at) => work.run(client, `client ${at}`));
  const goesOn = async () => {
    const before = work.told.length;
    await eventually('work goes on', () => work.told.length > before + 10 * CLIENTS || work.errors.length > 0);
  };
  await goesOn();
  await admin.query('PAUSE');
  const told = work.told.length;
  assert.deepEqual(await cluster.activity(old), []);
  await cluster.caughtUp();
  await cluster.sql('SELECT pg_promote()', [], next);
  await old.stop();
  proxy.rewrite(configText({ servers: [next] }, options));
  await admin.query('RELOAD');
  const { rows } = await admin.query('SHOW POOLS');
  assert.equal(rows.find(({ user }) => user === 'alice')?.cl_waiting, String(CLIENTS));
  assert.equal(work.told.length, told);
  await admin.query('RESUME');
  await goesOn();
  work.stopped = true;
  await Promise.all(runs);
  assert.deepEqual(work.errors, []);
  const written = await cluster.sql<{ id: string; port: number }>('SELECT id, port FROM written', [], next);
  assert.deepEqual(written.map(({ id }) => id).sort(), [...work.told].sort());
  assert.deepEqual(new Set(written.map(({ port }) => port)), new Set([old.port, next.port]));
  await Promise.all(clients.map(client => client.end()));
  await admin.end();
});
