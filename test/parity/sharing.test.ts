/** Prepared statements over shared connections: each client has its own names, in its own settings, and hurts nobody. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';
import { assertSame, send, straightTo, through } from './script.ts';

const { bind, close, describe, execute, parse, query } = frontend;
const SYNC = frontend.sync();

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE items (n int PRIMARY KEY, s text)');
  await cluster.sql("INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 5) AS n");
  await cluster.sql('GRANT ALL ON items TO PUBLIC');
});
after(() => cluster.stop());

const startProxy = (pool: ProxyOptions['pool'] = {}, pool_size = 1) =>
  TestProxy.start(cluster, { general: { connect_timeout: 10_000 }, pool, user: { pool_size } });

/** Binds and executes; the Sync is the caller's. */
const run = (statement: string, ...values: (string | null)[]) => [bind('', statement, values), execute()];

suite('over a pool of one connection', () => {
  test('two clients have different statements under the same name, 1,000 times', async () => {
    await using proxy = await startProxy();
    const work = async (client: RawClient, sign: number) => {
      for (let round = 1; round <= 1_000; round++) {
        client.send(
          parse('mine', `SELECT ${sign * round} * $1::int4 AS product`),
          describe('S', 'mine'),
          ...run('mine', '1'),
          SYNC,
        );
        assert.deepEqual(rowsOf(await client.ready()), [[String(sign * round)]]);
        client.send(...run('mine', '2'), close('S', 'mine'), SYNC);
        assert.deepEqual(rowsOf(await client.ready()), [[String(2 * sign * round)]]);
      }
    };
    await using one = await proxy.raw();
    await using two = await proxy.raw();
    await Promise.all([work(one, 1), work(two, -1)]);
    const pids = await Promise.all(
      [one, two].map(async client => rowsOf(await client.query('SELECT pg_backend_pid()'))),
    );
    assert.deepEqual(pids[0], pids[1]);
  });

  test('twenty clients use one text under twenty names, and one unnamed', async () => {
    await using proxy = await startProxy();
    const clients = await Promise.all(Array.from({ length: 20 }, () => proxy.raw()));
    await Promise.all(
      clients.map(async (client, index) => {
        const name = index === 0 ? '' : `name ${index}`;
        client.send(parse(name, 'SELECT s FROM items WHERE n = $1'), SYNC);
        await client.ready();
        for (let round = 0; round < 20; round++) {
          client.send(...run(name, String((round % 5) + 1)), SYNC);
          assert.deepEqual(rowsOf(await client.ready()), [[`item ${(round % 5) + 1}`]]);
        }
      }),
    );
    await Promise.all(clients.map(client => client.close()));
    const held = 'SELECT count(*)::int FROM pg_prepared_statements';
    await using client = await proxy.raw();
    assert.ok(Number(rowsOf(await client.query(held))[0][0]) <= 1);
  });
});

suite("a client's DEALLOCATE ALL and DISCARD ALL", () => {
  for (const sql of ['DEALLOCATE ALL', 'DISCARD ALL']) {
    test(`${sql} hurts nobody else`, async () => {
      await using proxy = await startProxy();
      await using one = await proxy.raw();
      await using two = await proxy.raw();
      for (const client of [one, two]) {
        client.send(parse('s', 'SELECT s FROM items WHERE n = $1'), ...run('s', '1'), SYNC);
        await client.ready();
      }
      assert.deepEqual(tagsOf(await one.query(sql)), [sql]);
      two.send(...run('s', '2'), SYNC);
      assert.deepEqual(rowsOf(await two.ready()), [['item 2']]);
      one.send(...run('s', '2'), SYNC);
      assert.equal(errorOf(await one.ready())?.code, '26000');
    });
  }
});

suite('a server connection holds no more statements than prepared_statements_cache_size', () => {
  const texts = Array.from({ length: 7 }, (_, n) => `SELECT ${n} + $1::int4`);
  for (const prepared_statements_cache_size of [1, 3]) {
    test(`of ${prepared_statements_cache_size}`, async () => {
      await using proxy = await startProxy({ prepared_statements_cache_size });
      await using client = await proxy.raw();
      const held = async () => {
        const names = rowsOf(await client.query("SELECT name FROM pg_prepared_statements WHERE name ~ '^pglynx_'"));
        assert.ok(names.length <= prepared_statements_cache_size, `${names.length} statements: ${names.join()}`);
        return names.length;
      };
      client.send(...texts.map((text, n) => parse(`s${n}`, text)), SYNC);
      await client.ready();
      assert.equal(await held(), prepared_statements_cache_size);
      for (let round = 0; round < 30; round++) {
        const order = texts.map((_, n) => (n * (1 + (round % 6))) % texts.length);
        client.send(...order.flatMap(n => [describe('S', `s${n}`), ...run(`s${n}`, '100')]), SYNC);
        assert.deepEqual(
          rowsOf(await client.ready()),
          order.map(n => [String(100 + n)]),
        );
        await held();
      }
    });
  }
});

suite('a changed result type heals itself', () => {
  const select = 'SELECT * FROM changing';
  const change = async (column: string) => void (await cluster.sql(`ALTER TABLE changing ADD COLUMN ${column} int`));
  before(async () => {
    await cluster.sql('CREATE TABLE changing AS SELECT 1 AS a; GRANT ALL ON changing TO PUBLIC');
  });

  for (const name of ['s', '']) {
    test(`of ${name === '' ? 'the unnamed' : 'a named'} statement, outside a transaction: nobody sees an error`, async () => {
      await using proxy = await startProxy({}, 2);
      await using one = await proxy.raw();
      await using two = await proxy.raw();
      let columns = rowsOf(await one.query(select))[0].length;
      const use = async (client: RawClient, again: boolean) => {
        client.send(...(again ? [parse(name, select)] : []), describe('S', name), ...run(name), SYNC);
        const messages = await client.ready();
        assert.equal(errorOf(messages), undefined);
        assert.equal(rowsOf(messages)[0].length, columns);
      };
      for (const client of [one, two, one, two]) {
        client.send(parse(name, select), ...run(name), ...(name === '' ? [] : [close('S', name)]), SYNC);
        await client.ready();
      }
      if (name !== '') {
        one.send(parse(name, select), SYNC);
        await one.ready();
      }
      await change(`b${columns++}`);
      await use(one, false);
      await use(one, false);
      await use(two, true);
      await change(`b${columns++}`);
      await use(two, false);
      await use(one, false);
      // A COPY in between must not make a difference.
      await one.query('COPY items TO STDOUT');
      one.send(query('COPY items FROM STDIN'), frontend.copyDone());
      await one.ready();
      await change(`b${columns++}`);
      await use(one, name === '');
    });
  }

  test('inside a transaction the next use after the error is well', async () => {
    await using proxy = await startProxy();
    await using client = await proxy.raw();
    client.send(parse('s', select), ...run('s'), SYNC);
    const columns = rowsOf(await client.ready())[0].length + 1;
    await change('inside');
    await client.query('BEGIN');
    client.send(...run('s'), SYNC);
    const refused = errorOf(await client.ready());
    assert.deepEqual([refused?.code, refused?.message], ['0A000', 'cached plan must not change result type']);
    await client.query('ROLLBACK');
    await client.query('BEGIN');
    client.send(...run('s'), SYNC);
    assert.equal(rowsOf(await client.ready())[0].length, columns);
    await client.query('COMMIT');
  });
});

suite('a changed type of a column reaches whoever prepares the statement a minute later', () => {
  const text = 'SELECT id FROM typed WHERE id = $1';
  for (const name of ['s', '']) {
    test(`as ${name === '' ? 'the unnamed' : 'a named'} one`, async context => {
      await cluster.sql('DROP TABLE IF EXISTS typed; CREATE TABLE typed (id int); GRANT ALL ON typed TO PUBLIC');
      await using proxy = await startProxy();
      const use = async (value: string) => {
        await using client = await proxy.raw();
        client.send(parse(name, text), describe('S', name), ...run(name, value), SYNC);
        return await client.ready();
      };
      for (let round = 0; round < 3; round++) assert.equal(errorOf(await use('1')), undefined);
      await cluster.sql("ALTER TABLE typed ALTER COLUMN id TYPE text; INSERT INTO typed VALUES ('word')");
      const now = performance.now.bind(performance);
      context.mock.method(performance, 'now', () => now() + 61_000);
      assert.deepEqual(rowsOf(await use('word')), [['word']]);
    });
  }
});

suite('a text means what it means in the settings of its client', () => {
  const shown =
    "SELECT '01/02/2024'::date - '2024-01-01'::date, '2024-06-01 00:00'::timestamptz AT TIME ZONE 'UTC', 'a\\nb'";
  const settings: Record<string, string>[] = [
    {},
    { DateStyle: 'SQL, DMY' },
    { TimeZone: 'Asia/Tokyo' },
    { standard_conforming_strings: 'off', escape_string_warning: 'off' },
    { client_encoding: 'LATIN1' },
  ];
  test('when clients with different settings share a connection', async () => {
    await using proxy = await startProxy();
    for (let round = 0; round < 3; round++) {
      for (const parameters of settings) {
        for (const name of ['', 's']) {
          await assertSame(straightTo(cluster, parameters), through(proxy, parameters), [
            send(parse(name, shown), ...run(name), SYNC, parse('e', "SELECT length('ü'), 'ü'"), ...run('e'), SYNC),
          ]);
        }
      }
    }
  });

  test('when a client changes its settings after Parse', async () => {
    await using proxy = await startProxy();
    await using one = await proxy.raw();
    await using two = await proxy.raw();
    const text = "SELECT '2024-06-01 00:00'::timestamptz AT TIME ZONE 'UTC'";
    one.send(parse('s', text), SYNC);
    await one.ready();
    await one.query("SET TimeZone = 'Asia/Tokyo'");
    await two.query('DEALLOCATE ALL');
    one.send(...run('s'), SYNC);
    await one.ready();
    two.send(parse('s', text), ...run('s'), SYNC);
    assert.deepEqual(rowsOf(await two.ready()), [['2024-06-01 00:00:00']]);
  });

  test('names are bytes', async () => {
    await using proxy = await startProxy();
    const latin1 = { client_encoding: 'LATIN1' };
    await assertSame(
      straightTo(cluster, latin1),
      through(proxy, latin1),
      ['\xe9', '\xe8'].map(name => {
        const bytes = Buffer.from(`${name}\0SELECT '${name}', $1::int\0\0\0`, 'latin1');
        const bound = Buffer.concat([Buffer.from(`\0${name}\0`, 'latin1'), Buffer.alloc(6)]);
        return send(
          frontend.message('P', bytes),
          SYNC,
          frontend.message('B', bound),
          SYNC,
          frontend.message('P', bytes),
          SYNC,
        );
      }),
    );
  });
});
