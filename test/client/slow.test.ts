/** The log of slow statements: what is in it, what never is, and when there is none. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';
import { configText, type ProxyOptions, TestProxy } from '../proxy/index.ts';
import * as frontend from './frontend.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE people (id int, name text); GRANT ALL ON people TO PUBLIC');
});
after(() => cluster?.stop());

const start = (least_ms: number, pool: ProxyOptions['pool'] = {}, general: ProxyOptions['general'] = {}) =>
  TestProxy.start(cluster, {
    general: { connect_timeout: 10_000, log_min_duration_statement: least_ms, ...general },
    pool,
  });

const told = ({ log }: TestProxy) => log.filter(({ msg }) => msg === 'Slow statement');

test('one line says what was slow, for whom, where and why there', async () => {
  await using proxy = await start(400, { query_parser_enabled: true });
  const client = await proxy.connect({ application_name: 'my app' });
  await client.query("SELECT 'a secret', 5 FROM pg_sleep(0.5)");
  await client.query('SELECT 1');
  const [{ duration_ms, client: id, time: _time, pid: _pid, hostname: _host, ...line }, ...more] = told(proxy);
  assert.deepEqual(more, []);
  assert.deepEqual(line, {
    level: 30,
    database: DATABASE,
    user: 'alice',
    application_name: 'my app',
    server: `${DATABASE}_shard_0_primary`,
    role: 'primary',
    reason: 'read_without_replica',
    template: "SELECT '_', 1 FROM pg_sleep(1.5)",
    msg: 'Slow statement',
  });
  assert.ok(typeof duration_ms === 'number' && duration_ms >= 400 && duration_ms < 30_000, `${duration_ms}`);
  assert.equal(typeof id, 'number');
  await client.end();
});

suite('what ran is told in every way of sending it', () => {
  test('with parameters, whose values are not told', async () => {
    await using proxy = await start(0);
    const client = await proxy.connect();
    await client.query('INSERT INTO people VALUES ($1, $2)', [1234567, 'Jane Doe']);
    await client.query({ name: 'named', text: 'SELECT name FROM people WHERE id = $1', values: [7654321] });
    const templates = told(proxy).map(({ template }) => template);
    assert.deepEqual(templates, ['INSERT INTO people VALUES ($1, $2)', 'SELECT name FROM people WHERE id = $1']);
    assert.doesNotMatch(JSON.stringify(proxy.log), /1234567|Jane|7654321/);
    await client.end();
  });

  test('in a transaction, statement by statement', async () => {
    await using proxy = await start(0);
    const client = await proxy.connect();
    for (const text of ['BEGIN', 'UPDATE people SET id = 3', 'COMMIT']) await client.query(text);
    assert.deepEqual(
      told(proxy).map(({ template }) => template),
      ['BEGIN', 'UPDATE people SET id = 1', 'COMMIT'],
    );
    await client.end();
  });

  test('in a pipeline with Flush, up to its Sync', async () => {
    await using proxy = await start(0);
    await using client = await proxy.raw();
    const run = (text: string) => [frontend.parse('', text), frontend.bind('', ''), frontend.execute('')];
    client.send(...run('SELECT 11'), frontend.flush());
    await client.until('C');
    client.send(...run('SELECT 22 AS b'), frontend.sync());
    await client.ready();
    await client.query('SELECT 33 AS c');
    assert.deepEqual(
      told(proxy).map(({ template }) => template),
      ['SELECT 1; SELECT 1 AS b', 'SELECT 1 AS c'],
    );
  });

  test('with an error as with a result, and a long one in part', async () => {
    await using proxy = await start(0);
    const client = await proxy.connect();
    await assert.rejects(client.query("SELECT nothing, 'secret'"));
    await client.query(`SELECT '${'x'.repeat(9000)}', 'secret'`);
    await client.query(`SELECT 1 IN (${Array.from({ length: 3000 }, (_, n) => n).join(', ')})`);
    const [failed, long, wide] = told(proxy).map(({ template }) => String(template));
    assert.equal(failed, "SELECT nothing, '_'");
    assert.equal(long, "SELECT '_'...");
    assert.match(wide, /^SELECT 1 IN \(1, 1, 1, .*\.\.\.$/);
    assert.ok(wide.length < 8200, `${wide.length}`);
    await client.end();
  });
});

suite('as text', () => {
  test('what was sent is told as it is', async () => {
    await using proxy = await start(0, { log_statement_as: 'text' });
    const client = await proxy.connect();
    await client.query("SELECT 'data',   5 -- why");
    await client.query('SELECT $1::text', ['value']);
    assert.deepEqual(
      told(proxy).map(({ text }) => text),
      ["SELECT 'data',   5 -- why", 'SELECT $1::text'],
    );
    await client.end();
  });

  test('but for what may hold a password', async () => {
    await using proxy = await start(0, { log_statement_as: 'text' });
    const client = await proxy.connect();
    const texts = [
      "ALTER USER nobody PASSWORD 'hunter2'",
      "-- don't\nALTER ROLE nobody WITH ENCRYPTED PaSSWORD 'hunter2'",
      "SELECT crypt('hunter2', 'hunter2')",
      "CREATE SUBSCRIPTION s CONNECTION 'host=h user=hunter2' PUBLICATION p",
      "CREATE USER MAPPING FOR nobody SERVER s OPTIONS (password 'hunter2')",
      "SET standard_conforming_strings = off; SELECT 'password\\' hunter2'",
    ];
    for (const text of texts) await client.query(text).catch(() => {});
    assert.equal(told(proxy).length, texts.length);
    for (const { text } of told(proxy)) assert.match(String(text), /'_'|not shown/);
    const lines = JSON.stringify(proxy.log.filter(({ msg }) => msg !== 'Client connected'));
    assert.doesNotMatch(lines, /hunter2/);
    await client.end();
  });
});

suite('the limit', () => {
  test('is off unless it is set, and a pool may have its own', async () => {
    await using silent = await TestProxy.start(cluster);
    const first = await silent.connect();
    await first.query('SELECT pg_sleep(0.02)');
    assert.deepEqual(told(silent), []);
    await first.end();
    await using proxy = await start(0, { log_min_duration_statement: -1 });
    const second = await proxy.connect();
    await second.query('SELECT 1');
    assert.deepEqual(told(proxy), []);
    await second.end();
  });

  test('changes with a reload', async () => {
    await using proxy = await start(-1);
    const client = await proxy.connect();
    await client.query('SELECT 1');
    proxy.rewrite(configText(cluster, { general: { log_min_duration_statement: 0 } }));
    await proxy.proxy.reload();
    await client.query('SELECT 2');
    await sleep(10);
    assert.deepEqual(
      told(proxy).map(({ template }) => template),
      ['SELECT 1'],
    );
    await client.end();
  });
});
