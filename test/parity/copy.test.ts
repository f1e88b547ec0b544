/** COPY FROM STDIN through pglynx as straight to PostgreSQL: data ahead of its time, Syncs that count or don't, errors anywhere. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { decode, errorOf, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { assertSame, type Step, send, straightTo, through } from './script.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE target (n int, s text); CREATE VIEW seen AS SELECT * FROM target');
  await cluster.sql('GRANT ALL ON target, seen TO PUBLIC');
});
after(() => cluster.stop());

/** Plays the script to both sides; then another client must find the one connection of the pool in order. */
async function compare(script: readonly Step[]): Promise<void> {
  await using proxy = await TestProxy.start(cluster, { user: { pool_size: 1 } });
  await assertSame(straightTo(cluster), through(proxy), [
    send(frontend.query('TRUNCATE target')),
    { mark: 'wait' },
    ...script,
    { mark: 'wait' },
    send(frontend.query('SELECT * FROM target ORDER BY n, s')),
  ]);
  await assertSame(straightTo(cluster), through(proxy), [send(frontend.query('SELECT 1'))]);
}

const copy = (table: string) => frontend.query(`COPY ${table} FROM STDIN`);
const prepared = (table: string) => [
  frontend.parse('', `COPY ${table} FROM STDIN`),
  frontend.bind('', ''),
  frontend.execute(),
];
const rows = (count: number) => frontend.copyData(Array.from({ length: count }, (_, n) => `${n}\trow ${n}\n`).join(''));
const BAD = frontend.copyData('not a number\tx\n');
const DONE = frontend.copyDone();
const FAIL = frontend.copyFail('changed my mind');
const SYNC = frontend.sync();
const FLUSH = frontend.flush();
const SELECT = frontend.query("SELECT 'after'");

const select = [frontend.parse('', "SELECT 'behind'"), frontend.bind('', ''), frontend.execute()];

/** When a client waits for the server to take its data. */
const STARTED: Step = { until: 'GE' };

suite('by a simple query', () => {
  const scripts: Record<string, Step[]> = {
    'in order': [send(copy('target')), STARTED, send(rows(3), DONE)],
    'all at once': [send(copy('target'), rows(2), rows(1), DONE, SELECT)],
    'given up': [send(copy('target')), STARTED, send(rows(3), FAIL)],
    'given up at once': [send(copy('target'), FAIL, SELECT)],
    'refused, with data on its way': [send(copy('nowhere'), rows(2), DONE, SELECT)],
    'of a bad row': [send(copy('target')), STARTED, send(BAD, rows(1), DONE, SELECT)],
    'of a bad row, all at once': [send(copy('target'), rows(1), BAD, rows(1), DONE, SELECT)],
    'of a bad row without an end': [send(copy('target'), BAD, SELECT, SELECT)],
    'two in one query': [
      send(frontend.query('COPY target FROM STDIN; SELECT 1; COPY target FROM STDIN; SELECT 2')),
      STARTED,
      send(rows(1), DONE),
      STARTED,
      send(rows(2), DONE),
    ],
    'two in one query, all at once': [
      send(frontend.query('COPY target FROM STDIN; COPY target FROM STDIN'), rows(1), DONE, rows(2), DONE, SELECT),
    ],
    'two in one query, the first given up': [
      send(frontend.query('COPY target FROM STDIN; COPY target FROM STDIN'), FAIL, rows(2), DONE, SELECT),
    ],
    'into a view': [send(copy('seen')), STARTED, send(rows(1), DONE, SELECT)],
    'with Sync and Flush among the data': [
      send(copy('target')),
      STARTED,
      send(SYNC, rows(1), FLUSH, SYNC, rows(1), SYNC, DONE, SELECT),
    ],
    'with Syncs among the data, all at once': [send(copy('target'), SYNC, rows(1), SYNC, DONE, SYNC, SELECT)],
    'with Syncs around a bad row': [send(copy('target'), SYNC, BAD, SYNC, rows(1), SYNC, DONE, SELECT)],
    'with Syncs, into a view': [send(copy('seen'), SYNC, rows(1), SYNC, DONE, SELECT)],
    'with Syncs, refused': [send(copy('nowhere'), SYNC, rows(1), SYNC, DONE, SELECT)],
    'in a transaction that fails by it': [
      send(frontend.query('BEGIN'), copy('target'), SYNC, BAD, SYNC, DONE, SELECT, frontend.query('ROLLBACK')),
    ],
    'in pieces of any size': [
      send(copy('target')),
      STARTED,
      send(...Array.from(rows(3).subarray(5), byte => frontend.copyData(Buffer.from([byte]))), DONE),
    ],
  };
  for (const [name, script] of Object.entries(scripts)) test(name, () => compare(script));
});

suite('by extended query', () => {
  const scripts: Record<string, Step[]> = {
    'with Flush': [send(...prepared('target'), FLUSH), STARTED, send(rows(3), DONE, SYNC)],
    'with Sync': [send(...prepared('target'), SYNC), STARTED, send(rows(3), DONE, SYNC, SELECT)],
    'with neither, all at once': [send(...prepared('target'), rows(3), DONE, SYNC, SELECT)],
    'all at once': [send(...prepared('target'), SYNC, rows(3), DONE, SYNC, SELECT)],
    'with more Syncs than it needs': [
      send(...prepared('target'), SYNC, SYNC, FLUSH),
      STARTED,
      send(rows(1), SYNC, rows(1), FLUSH, DONE, SYNC, SYNC, SELECT),
    ],
    'given up': [send(...prepared('target'), SYNC), STARTED, send(rows(3), FAIL, SYNC, SELECT)],
    'given up at once': [send(...prepared('target'), SYNC, FAIL, SYNC, SELECT)],
    'given up and then no Sync for a while': [
      send(...prepared('target'), SYNC),
      STARTED,
      send(FAIL),
      { until: 'E' },
      send(...prepared('target'), SELECT, SYNC, SELECT),
    ],
    refused: [send(...prepared('nowhere'), SYNC, rows(3), DONE, SYNC, SELECT)],
    'of a bad row': [send(...prepared('target'), SYNC), STARTED, send(BAD, rows(1), DONE, SYNC, SELECT)],
    'of a bad row, and the client waits': [
      send(...prepared('target'), SYNC),
      STARTED,
      send(rows(1), BAD, rows(1), DONE),
      { until: 'E' },
      send(SELECT, SYNC, SELECT),
    ],
    'of a bad row, all at once': [send(...prepared('target'), SYNC, BAD, rows(1), DONE, SYNC, SELECT)],
    'of a bad row, with Syncs before and after': [
      send(...prepared('target'), SYNC, SYNC, BAD, SYNC, rows(1), SYNC, DONE, SYNC, SELECT),
    ],
    'into a view': [send(...prepared('seen'), FLUSH), STARTED, send(rows(1), DONE, SYNC, SELECT)],
    'into a view, with Sync': [send(...prepared('seen'), SYNC), STARTED, send(rows(1), DONE, SYNC, SELECT)],
    'with a batch behind it, all at once': [send(...prepared('target'), SYNC, rows(1), DONE, ...select, SYNC, SELECT)],
    'with a batch behind it, and the client waits': [
      send(...prepared('target'), SYNC),
      STARTED,
      send(rows(1), DONE, ...select, FLUSH),
      { until: 'D' },
      send(SYNC, SELECT),
    ],
    'of a bad row, with a batch behind it': [
      send(...prepared('target'), SYNC, BAD, DONE, ...select, SYNC, SELECT),
      send(...prepared('target'), SYNC, FAIL, ...select, ...select, SYNC, ...select, SYNC),
    ],
    'into a view, with a batch behind it': [
      send(...prepared('seen'), SYNC, rows(1), DONE, ...select, SYNC, ...prepared('seen'), SYNC, FAIL, SELECT, SYNC),
    ],
    'into a view, all at once': [send(...prepared('seen'), SYNC, SYNC, rows(1), DONE, SYNC, SELECT)],
    'of a bad row that a long row follows': [
      send(...prepared('target'), SYNC, BAD, frontend.copyData(`1\t${'x'.repeat(3_000_000)}\n`), DONE, SYNC, SELECT),
    ],
    'in a transaction that fails by it': [
      send(frontend.query('BEGIN'), ...prepared('target'), SYNC, BAD, SYNC, DONE, SYNC, SELECT),
      send(frontend.query('ROLLBACK')),
    ],
  };
  for (const [name, script] of Object.entries(scripts)) test(name, () => compare(script));
});

test('stray data means nothing', () =>
  compare([
    send(rows(1), DONE, FAIL, SELECT, rows(1), SELECT, DONE),
    send(frontend.parse('', 'SELECT 1'), rows(1), frontend.bind('', ''), DONE, frontend.execute(), FAIL, SYNC),
  ]));

suite('what is no copy data ends the session, but not the connection of the pool', () => {
  const scripts: Record<string, Buffer[]> = {
    'a query in a simple COPY': [copy('target'), rows(1), SELECT],
    'a query in an extended COPY': [...prepared('target'), SYNC, rows(1), SELECT],
    'a Parse sent before COPY began': [...prepared('target'), FLUSH, frontend.parse('', 'SELECT 1')],
  };
  for (const [name, script] of Object.entries(scripts)) {
    test(name, async () => {
      await using direct = await straightTo(cluster).connect();
      direct.send(...script);
      const expected = errorOf(await direct.untilClosed());
      await using proxy = await TestProxy.start(cluster, { user: { pool_size: 1 } });
      const pid = async () => {
        await using other = await proxy.raw();
        return rowsOf(await other.query('SELECT pg_backend_pid()'));
      };
      const before = await pid();
      await using client = await proxy.raw();
      client.send(...script);
      const messages = await client.untilClosed();
      const last = decode(messages[messages.length - 1]);
      assert.ok(last.name === 'ErrorResponse');
      assert.deepEqual(
        [last.fields.severity, last.fields.code, last.fields.message],
        ['FATAL', expected?.code, expected?.message],
      );
      assert.deepEqual(await pid(), before);
      assert.deepEqual(await cluster.sql('SELECT count(*)::int AS rows FROM target WHERE n = 0'), [{ rows: 0 }]);
    });
  }
});
