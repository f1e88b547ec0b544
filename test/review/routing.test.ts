/** Reads on replicas, writes on the primary, however a client's messages are cut into batches. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const { bind, describe, execute, flush, parse, query, sync } = frontend;

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE items (n int); GRANT ALL ON items TO PUBLIC');
  await cluster.caughtUp();
  proxy = await TestProxy.start(cluster, {
    pool: {
      query_parser_enabled: true,
      query_parser_read_write_splitting: true,
      primary_reads_enabled: false,
      default_role: 'any',
    },
    user: { pool_size: 1 },
  });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

const READ = 'SELECT pg_is_in_recovery()';
const WRITE = 'INSERT INTO items VALUES (1) RETURNING pg_is_in_recovery()';
const run = (statement: string) => [bind('', statement), execute()];

async function answer(client: RawClient): Promise<unknown> {
  const messages = await client.ready();
  return errorOf(messages) ?? rowsOf(messages).map(([value]) => value);
}

/** Prepares a statement with Flush, as asyncpg and postgres.js do, and waits for its description. */
async function prepare(client: RawClient, name: string, text: string): Promise<void> {
  client.send(parse(name, text), describe('S', name), flush());
  await client.until('T');
}

suite('a statement that was prepared with Flush and no Sync', () => {
  test('runs where it belongs', async () => {
    await using client = await proxy.raw();
    await prepare(client, 'r', READ);
    client.send(...run('r'), sync());
    assert.deepEqual(await answer(client), ['t']);
    await prepare(client, 'w', WRITE);
    client.send(...run('w'), sync());
    assert.deepEqual(await answer(client), ['f']);
  });

  test('does not bind the statements after it to its server', async () => {
    await using client = await proxy.raw();
    await prepare(client, 'r', READ);
    await prepare(client, 'w', WRITE);
    client.send(...run('w'), sync());
    assert.deepEqual(await answer(client), ['f']);
    client.send(...run('r'), sync());
    assert.deepEqual(await answer(client), ['t']);
    await prepare(client, 'r2', READ);
    client.send(query(WRITE));
    assert.deepEqual(await answer(client), ['f']);
  });

  test('holds no connection', async () => {
    await using one = await proxy.raw();
    await using two = await proxy.raw();
    await prepare(one, 'r', READ);
    two.send(query(READ));
    assert.deepEqual(await answer(two), ['t']);
    one.send(...run('r'), sync());
    assert.deepEqual(await answer(one), ['t']);
  });

  test('is skipped to Sync when it is wrong', async () => {
    await using client = await proxy.raw();
    client.send(parse('x', 'SELECT nothing'), describe('S', 'x'), flush());
    await client.until('E');
    client.send(parse('r', READ), ...run('r'), query(WRITE), flush());
    assert.ok(await client.silent(100));
    client.send(sync());
    assert.deepEqual(
      (await client.ready()).map(({ type }) => type),
      ['Z'],
    );
    client.send(...run('r'), sync());
    assert.equal(errorOf(await client.ready())?.code, '26000');
  });

  test('and a Sync after it', async () => {
    await using client = await proxy.raw();
    await prepare(client, 'r', READ);
    client.send(sync(), ...run('r'), sync());
    assert.deepEqual(
      (await client.ready()).map(({ type }) => type),
      ['Z'],
    );
    assert.deepEqual(await answer(client), ['t']);
  });

  test('all at once', async () => {
    await using client = await proxy.raw();
    client.send(parse('r', READ), flush(), parse('', WRITE), flush(), ...run(''), ...run('r'), sync());
    const types = (await client.ready()).map(({ type }) => type).join('');
    assert.equal(types, '112DC2DCZ');
  });

  test('in a transaction', async () => {
    await using client = await proxy.raw();
    client.send(query('BEGIN'));
    await client.ready();
    await prepare(client, 'r', READ);
    client.send(...run('r'), sync());
    assert.deepEqual(await answer(client), ['f']);
    client.send(query('COMMIT'));
    await client.ready();
  });
});

test('a long text at the head of a batch does not bind what follows to a replica', async () => {
  await using client = await proxy.raw();
  const long = Array.from({ length: 10 }, (_, n) => parse(`r${n}`, `${READ} /* ${'x'.repeat(10_000)} */`));
  client.send(...long, ...run('r0'), parse('', WRITE), ...run(''), sync());
  assert.deepEqual(await answer(client), ['f', 'f']);
});

test('a role that the client chooses holds for statements that are prepared already', async () => {
  await using client = await proxy.raw();
  client.send(parse('r', READ), parse('w', WRITE), sync());
  await client.ready();
  const roles: [string, string, string[] | '25006'][] = [
    ['primary', 'f', ['f']],
    ['replica', 't', '25006'],
    ['auto', 't', ['f']],
    ['primary', 'f', ['f']],
    ['default', 't', ['f']],
  ];
  for (const [role, read, write] of roles) {
    await client.query(`SET SERVER ROLE TO '${role}'`);
    client.send(...run('r'), sync());
    assert.deepEqual(await answer(client), [read], role);
    client.send(...run('w'), sync());
    const messages = await client.ready();
    assert.deepEqual(errorOf(messages)?.code ?? rowsOf(messages).flat(), write, role);
  }
});
