/** What is counted survives pools and connections: histograms, accounts of servers and clusters, and their bounds. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { ConnectionCounters } from '../../src/stats/counters.ts';
import { BOUNDS_US, Histogram } from '../../src/stats/histogram.ts';
import { Ledger, type ServerKey } from '../../src/stats/ledger.ts';

const key = (database: string, port = 5432): ServerKey => ({
  database,
  user: 'alice',
  shard: 0,
  role: 'primary',
  host: 'db',
  port,
  index: 0,
  server_database: database,
});

const connection = (bytes: number) => ({
  sent_bytes: bytes,
  write_count: 1,
  counters: Object.assign(new ConnectionCounters(), { received_bytes: 2 * bytes, prepare_hits: 3 }),
});

suite('a histogram', () => {
  test('puts a time into the bucket whose bound it does not exceed', () => {
    for (const [at, bound] of BOUNDS_US.entries()) {
      const histogram = new Histogram();
      histogram.observe(bound);
      histogram.observe(bound + 0.001);
      assert.equal(histogram.counts[at], 1, `${bound}`);
      assert.equal(histogram.counts[at + 1], 1, `${bound}`);
    }
  });

  test('puts nothing at all into the first, and any length into the last', () => {
    const histogram = new Histogram();
    histogram.observe(0);
    histogram.observe(1e15);
    assert.equal(histogram.counts[0], 1);
    assert.equal(histogram.counts.at(-1), 1);
    assert.equal(histogram.sum_us, 1e15);
  });
});

suite('the account of a server', () => {
  test('is one for all pools that stand for the same server', () => {
    const ledger = new Ledger();
    const first = ledger.server(key('shop'));
    assert.equal(ledger.server(key('shop')), first);
    assert.notEqual(ledger.server(key('shop', 5433)), first);
    assert.equal([...ledger.servers].length, 2);
  });

  test('counts what connections move once, while they are open and afterwards', () => {
    const account = new Ledger().server(key('shop'));
    const traffic = connection(10);
    account.opened(traffic);
    traffic.sent_bytes = 15;
    const { sent_bytes, received_bytes, prepare_hits, write_count, opened_count } = account.totals();
    assert.deepEqual([sent_bytes, received_bytes, prepare_hits, write_count, opened_count], [15, 20, 3, 1, 1]);
    account.closed(traffic);
    account.closed(traffic);
    assert.deepEqual(account.totals(), account.counters);
    assert.equal(account.counters.sent_bytes, 15);
  });
});

suite('a ledger with too many accounts', () => {
  test('adds up those that nobody adds to any more, and keeps the others', () => {
    const ledger = new Ledger(3);
    for (const [at, name] of ['a', 'b', 'c', 'd', 'e', 'f'].entries()) {
      const account = ledger.server(key(name));
      account.counters.query_count = 10 ** at;
      account.times.query.observe(1);
      account.banned('FailedCheckout');
      ledger.cluster(name, 'alice').client_count = 10 ** at;
      ledger.cluster(name, 'alice').route('any', 'read').count = 10 ** at;
      if (name !== 'b') account.holders = 0;
    }
    const servers = [...ledger.servers].map(({ key, counters }) => [key.database, counters.query_count]);
    assert.deepEqual(Object.fromEntries(servers), { b: 10, f: 100_000, others: 11_101 });
    const clusters = [...ledger.clusters].map(({ database, client_count, routes }) => [
      database,
      [client_count, [...routes][0].count],
    ]);
    assert.deepEqual(Object.fromEntries(clusters), {
      b: [10, 10],
      f: [100_000, 100_000],
      others: [11_101, 11_101],
    });
    const [others] = [...ledger.servers].filter(({ key }) => key.database === 'others');
    assert.equal(others.times.query.counts[0], 4);
    assert.equal(others.bans.get('FailedCheckout'), 4);
  });

  test('keeps them all while they are held', () => {
    const ledger = new Ledger(1);
    for (const name of ['a', 'b', 'c']) ledger.server(key(name));
    assert.equal([...ledger.servers].length, 3);
  });

  test('counts failed logins by SQLSTATE, up to a number of those', () => {
    const ledger = new Ledger();
    for (let n = 0; n < 200; n++) ledger.loginFailed(String(n).padStart(5, '0'));
    ledger.loginFailed('00000');
    assert.equal(ledger.login_failures.get('00000'), 2);
    assert.equal(ledger.login_failures.get('others'), 100);
    assert.equal(ledger.login_failures.size, 101);
  });
});
