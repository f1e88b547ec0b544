/** Clients and servers that are slow: pglynx waits for them without gathering what they do not take. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { PglynxProcess } from './process.ts';

const MB = 1e6;
const ROW_BYTES = 50_000;
const ROWS = 10_000;
const wide = (rows: number) => `SELECT i, rpad(i::text, ${ROW_BYTES}, '.') FROM generate_series(1, ${rows}) i`;

const options = { skip: process.platform === 'linux' ? false : 'memory is read from /proc' };

suite('slow', options, () => {
  let cluster: TestCluster;
  let pglynx: PglynxProcess;
  before(async () => {
    cluster = await startCluster();
    await cluster.sql(`
      CREATE SEQUENCE seen;
      CREATE TABLE kept (line text, seen bigint DEFAULT nextval('seen'));
      GRANT ALL ON kept, seen TO PUBLIC`);
    const user = { pool_size: 2 };
    pglynx = await PglynxProcess.start(cluster, { users: ['alice'], user, pool: { connect_timeout: 5000 } });
    // What any process needs, and the garbage that it leaves between two collections, does not count.
    await using client = await pglynx.connect();
    for (let count = 0; count < 1000; count++) await client.query(`SELECT ${count}`);
    await client.query(wide(ROWS / 5));
  });
  after(async () => {
    await pglynx?.stop();
    await cluster?.stop();
  });

  test('a client that stops reading a result of 500 MB costs less than 64 MB, delays nobody, and gets every row', async () => {
    const before_bytes = pglynx.resident_bytes;
    await using client = await pglynx.connect();
    await using other = await pglynx.connect();
    const work = async () => {
      client.send(frontend.query(wide(ROWS)));
      await client.until('T');
      client.pause();
      const began_ms = performance.now();
      let longest_ms = 0;
      while (performance.now() - began_ms < 2000) {
        const asked_ms = performance.now();
        assert.deepEqual(rowsOf(await other.query('SELECT 42')), [['42']]);
        longest_ms = Math.max(longest_ms, performance.now() - asked_ms);
        await sleep(2);
      }
      assert.ok(longest_ms < 500, `another client waited ${longest_ms} ms`);
      client.resume();
      assert.equal(await checksum(client), expectedChecksum());
    };
    const grown_bytes = (await pglynx.peakDuring(work())) - before_bytes;
    assert.ok(grown_bytes < 64 * MB, `the process grew by ${grown_bytes / MB} MB`);
    assert.deepEqual(rowsOf(await client.query('SELECT 42')), [['42']]);
  });

  test('a server that stops while a client sends 500 MB by COPY costs less than 64 MB, and gets every row', async () => {
    const before_bytes = pglynx.resident_bytes;
    await using client = await pglynx.connect();
    const line = `${'x'.repeat(999)}\n`;
    const block = frontend.copyData(line.repeat(100));
    const work = async () => {
      // Rows are counted, and kept only if they are not what was sent.
      client.send(frontend.query('COPY kept (line) FROM STDIN WHERE length(line) <> 999'));
      await client.until('G');
      const halted = (async () => {
        await sleep(200);
        await cluster.primary.pause();
        await sleep(2000);
        await cluster.primary.resume();
      })();
      for (let sent = 0; sent < 5000; sent++) {
        client.send(block);
        if (sent % 10 === 9) await client.drained();
      }
      client.send(frontend.copyDone());
      assert.deepEqual(tagsOf(await client.ready(30_000)), ['COPY 0']);
      await halted;
    };
    const grown_bytes = (await pglynx.peakDuring(work())) - before_bytes;
    assert.ok(grown_bytes < 64 * MB, `the process grew by ${grown_bytes / MB} MB`);
    assert.deepEqual(await cluster.sql('SELECT last_value FROM seen'), [{ last_value: '500000' }]);
  });

  test('200 idle clients cost less than 100 kB each', async () => {
    const before_bytes = pglynx.resident_bytes;
    const clients: RawClient[] = [];
    for (let count = 0; count < 200; count++) clients.push(await pglynx.connect());
    for (const client of clients) assert.equal(errorOf(await client.query('SELECT 1')), undefined);
    const each_bytes = (pglynx.resident_bytes - before_bytes) / clients.length;
    assert.ok(each_bytes < 100_000, `each costs ${each_bytes} bytes`);
    await Promise.all(clients.map(client => client.close()));
  });

  test('a client that sends byte by byte is served, and delays nobody', async () => {
    await using client = await pglynx.connect();
    await using other = await pglynx.connect();
    const sent = client.trickle(frontend.query("SELECT 'slowly'"));
    for (let count = 0; count < 50; count++) assert.deepEqual(rowsOf(await other.query('SELECT 42')), [['42']]);
    await sent;
    assert.deepEqual(rowsOf(await client.ready()), [['slowly']]);
  });
});

/** Reads the rows of {@link wide} up to ReadyForQuery, keeping none. */
async function checksum(client: RawClient): Promise<string> {
  let sum = 0;
  let rows = 0;
  for (;;) {
    const message = await client.message(20_000);
    if (message.type === 'Z') return `${rows} rows, ${sum}`;
    if (message.type !== 'D') continue;
    rows++;
    sum = crc32(message.body, sum);
  }
}

function expectedChecksum(): string {
  let sum = 0;
  for (let row = 1; row <= ROWS; row++) {
    const number = Buffer.from(String(row));
    const padded = Buffer.alloc(ROW_BYTES, '.');
    number.copy(padded);
    const values = [number, padded].flatMap(value => [frontend.int32(value.length), value]);
    sum = crc32(Buffer.concat([frontend.int16(2), ...values]), sum);
  }
  return `${ROWS} rows, ${sum}`;
}
