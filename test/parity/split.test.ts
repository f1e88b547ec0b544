/** Sessions cut into single bytes on both sides of pglynx, and messages of every kind that are longer than its buffers. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { ChaosProxy } from '../chaos/proxy.ts';
import { decode, errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { assertSame, difference, randomCutter, type Step, send, straightTo, through } from './script.ts';

const { bind, close, copyData, copyDone, describe, execute, parse, query } = frontend;
const SYNC = frontend.sync();
const FLUSH = frontend.flush();

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE lines (n int, s text); GRANT ALL ON lines TO PUBLIC');
});
after(() => cluster.stop());

suite('byte by byte', () => {
  const session = (user: string) =>
    Buffer.concat([
      frontend.startup({ user, database: DATABASE, application_name: 'drops', options: '-c DateStyle=German' }),
      query('SELECT 1 AS one; SELECT NULL; SHOW DateStyle'),
      parse('s', 'SELECT $1::text, n FROM generate_series(1, 3) AS n'),
      describe('S', 's'),
      bind('p', 's', ['ü']),
      describe('P', 'p'),
      execute('p', 2),
      execute('p'),
      FLUSH,
      SYNC,
      bind('', 's', []),
      execute(),
      SYNC,
      query("DO $$ BEGIN RAISE NOTICE 'noticed'; END $$"),
      query('BEGIN'),
      query('SELEC'),
      query('ROLLBACK'),
      frontend.functionCall(177, ['40', '2']),
      query('COPY lines FROM STDIN'),
      copyData('1\tone\n2\t'),
      copyData('two\n'),
      copyDone(),
      parse('', 'COPY lines FROM STDIN'),
      bind('', ''),
      execute(),
      SYNC,
      copyData('3\tthree\n'),
      copyData('four\n'),
      copyDone(),
      SYNC,
      query('COPY lines TO STDOUT'),
      query('TRUNCATE lines'),
      close('S', 's'),
      SYNC,
      query("SELECT 'the end'"),
    ]);

  /** The settings of the greeting, and all that follows it. */
  async function replies(port: number, user: string, size_bytes?: number): Promise<[Map<string, string>, Message[]]> {
    const client = await RawClient.open({ port });
    const bytes = session(user);
    const sent = client.trickle(bytes, size_bytes ?? bytes.length);
    await client.ready(60_000);
    const settings = new Map([...client.parameters].sort());
    const received: Message[] = [];
    while (rowsOf(received.slice(-1))[0]?.[0] !== 'the end') received.push(await client.message(60_000));
    received.push(...(await client.ready()));
    await sent;
    await client.close();
    return [settings, received];
  }

  test('a whole session, startup included, and every reply of the server', async () => {
    const { host, port } = cluster.primary;
    await using narrow = await ChaosProxy.start({ host, port }, { piece_bytes: 1 });
    // Without passwords the bytes of a session are known beforehand.
    await using proxy = await TestProxy.start(
      { servers: [narrow] },
      { general: { connect_timeout: 60_000 }, user: { auth_type: 'trust', server_username: 'postgres', pool_size: 1 } },
    );
    const [settings, expected] = await replies(port, 'postgres');
    const [pglynxSettings, actual] = await replies(proxy.port, 'alice', 1);
    assert.equal(difference(expected, actual), undefined);
    assert.deepEqual(pglynxSettings, settings);
    assert.ok(expected.length > 50);
  });
});

suite('long messages', () => {
  const text = (length: number) => 'long '.repeat(length / 5);
  const KB = 1_000;
  const MB = 1_000_000;
  const long_parse = (name: string) => parse(name, `SELECT $1::text /* ${text(300 * KB)} */`);
  const row = (n: number, length: number) => copyData(`${n}\t${text(length)}\n`);
  const scripts: Record<string, Step[]> = {
    'Query of 200 KB': [
      send(query(`SELECT '${text(200 * KB)}'`), query(`SELECT length('${text(200 * KB)}')`), query('SELECT 1')),
    ],
    'Query that is skipped': [
      send(parse('', 'SELEC'), query(`SELECT '${text(200 * KB)}'`), FLUSH),
      send(bind('', '', [text(MB)]), query(`SELECT '${text(200 * KB)}'`), SYNC, query('SELECT 1')),
    ],
    'Parse of 300 KB': [
      send(long_parse(''), bind('', '', ['1']), execute(), SYNC, long_parse('s'), describe('S', 's'), SYNC),
      send(bind('', 's', ['2']), execute(), SYNC, long_parse('s'), SYNC, close('S', 's'), SYNC, bind('', 's'), SYNC),
    ],
    'Bind of 5 MB': [
      send(parse('s', 'SELECT length($1::text), md5($1)'), SYNC, bind('', 's', [text(5 * MB)]), execute(), SYNC),
      send(parse('', 'SELECT length($1::text)'), bind('p', '', [text(5 * MB)]), execute('p'), SYNC),
      send(bind('', 's', [text(5 * MB), 'too many']), execute(), SYNC, bind('', 'unknown', [text(5 * MB)]), SYNC),
      send(
        bind('', 's', [text(5 * MB)]),
        describe('P', ''),
        execute(),
        FLUSH,
        bind('', 's', ['short']),
        execute(),
        SYNC,
      ),
    ],
    'rows of 1 MB in a simple COPY': [
      send(query('COPY lines FROM STDIN'), row(1, MB), row(2, 10), row(3, MB), copyDone()),
      send(query('SELECT n, length(s), md5(s) FROM lines ORDER BY n'), query('COPY lines TO STDOUT')),
      send(query('TRUNCATE lines')),
    ],
    'rows of 1 MB in an extended COPY': [
      send(parse('', 'COPY lines FROM STDIN'), bind('', ''), execute(), SYNC),
      { until: 'GE' },
      send(row(1, MB), row(2, MB), copyDone(), SYNC, query('SELECT n, length(s) FROM lines ORDER BY n')),
      send(query('TRUNCATE lines')),
    ],
    'bad rows of 1 MB': [
      send(query('COPY lines FROM STDIN'), copyData(`${text(MB)}\n`), row(1, MB), copyDone(), query('SELECT 1')),
      send(parse('', 'COPY lines FROM STDIN'), bind('', ''), execute(), SYNC),
      send(copyData(`${text(MB)}\n`), row(1, MB), copyDone(), SYNC, query('SELECT 2')),
    ],
    'stray data of 1 MB': [send(row(1, MB), query('SELECT 1'), row(1, MB), query('SELECT 2'))],
    'rows of 10 MB': [
      send(query(`SELECT repeat('0123456789', 1000000) FROM generate_series(1, 2)`)),
      send(parse('', `SELECT repeat('0123456789', 1000000)`), bind('', ''), execute(), SYNC, query('SELECT 1')),
    ],
    'errors and notices of 300 KB': [
      send(
        query(`SELECT '${text(300 * KB)}'::int`),
        query(`DO $$ BEGIN RAISE NOTICE '%', repeat('x', 300000); END $$`),
      ),
      send(parse('s', 'SELECT $1::int'), bind('', 's', [text(300 * KB)]), execute(), SYNC, bind('', 's', []), SYNC),
    ],
    'function call of 200 KB': [send(frontend.functionCall(1257, [text(200 * KB)]), query('SELECT 1'))],
    'many, in one write': [
      send(query('BEGIN'), query(`SELECT length('${text(200 * KB)}')`), parse('s', 'SELECT length($1::text)'), SYNC),
      ...Array.from({ length: 5 }, () => send(bind('', 's', [text(300 * KB)]), execute(), SYNC)),
      send(query('COMMIT')),
    ],
  };
  for (const [name, script] of Object.entries(scripts)) {
    for (const seed of [1, 2]) {
      test(`${name}, cut at random (${seed})`, async () => {
        await using proxy = await TestProxy.start(cluster, { user: { pool_size: 1 } });
        await assertSame(straightTo(cluster), through(proxy), script, randomCutter(seed, 200 * KB));
        await assertSame(straightTo(cluster), through(proxy), [send(query('SELECT 1'))]);
      });
    }
  }
});

suite('messages longer than PostgreSQL takes them', () => {
  const name = 'x'.repeat(20_000);
  const messages: Record<string, Buffer> = {
    Describe: describe('S', name),
    Close: close('P', name),
    Execute: execute(name),
    Sync: frontend.message('S', Buffer.alloc(20_000)),
    Flush: frontend.message('H', Buffer.alloc(20_000)),
    CopyFail: frontend.copyFail(name),
    CopyDone: frontend.message('c', Buffer.alloc(20_000)),
  };
  for (const [type, message] of Object.entries(messages)) {
    test(`${type}: the client is refused, and the server connection never sees it`, async () => {
      await using proxy = await TestProxy.start(cluster, { user: { pool_size: 1 } });
      const pid = async () => {
        await using client = await proxy.raw();
        return rowsOf(await client.query('SELECT pg_backend_pid()'));
      };
      const before = await pid();
      await using client = await proxy.raw();
      await client.query('BEGIN');
      client.send(parse('', 'SELECT 1'), message, SYNC);
      const received = await client.untilClosed();
      assert.equal(errorOf(received)?.code, '08P01');
      assert.equal(decode(received[received.length - 1]).name, 'ErrorResponse');
      assert.deepEqual(await pid(), before);
    });
  }
});
