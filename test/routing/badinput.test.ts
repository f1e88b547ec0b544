/** Texts that are made to hurt, through pglynx: it explains them, nobody else waits for them, and nothing is routed wrongly. */
import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { PglynxProcess } from '../failure/process.ts';
import { TestProxy } from '../proxy/index.ts';

const { bind, execute, message, parse, query } = frontend;
const SYNC = frontend.sync();
const POOL = { query_parser_enabled: true };

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  await cluster.sql('CREATE TABLE items AS SELECT 1 AS n; GRANT ALL ON items TO PUBLIC');
  await cluster.caughtUp();
  proxy = await TestProxy.start(cluster, { users: ['alice'], pool: POOL });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

/** `head`, then as many units as fit into so many bytes, then `tail`, and a closing for each unit. */
function shape(length: number, head: string, unit: string, tail: string, closing = ''): string {
  const count = Math.floor((length - head.length - tail.length) / (unit.length + closing.length));
  return head + unit.repeat(count) + tail + closing.repeat(count);
}

/** Bytes behind which a text's NUL comes. */
const terminated = (text: Buffer) => Buffer.concat([text, Buffer.from([0])]);

interface Bad {
  /** A text, another for each number. */
  readonly text: (n: number) => Buffer;
  /** The reason code of EXPLAIN ROUTE, and words of it. */
  readonly reason: RegExp;
  readonly role: 'primary' | 'replica';
}

const long = (text: (n: number) => string): Bad => ({
  text: n => Buffer.from(text(n)),
  reason: /^unparsed \(was not parsed: (it is longer than 8192 bytes|its message is too long to be inspected)\)$/,
  role: 'primary',
});
const wrong = (text: (n: number) => string, why: string, role: Bad['role'] = 'primary'): Bad => ({
  text: n => Buffer.from(text(n), 'latin1'),
  reason: new RegExp(why),
  role,
});

const BAD: Readonly<Record<string, Bad>> = {
  '25 KB of 1+1+': long(n => shape(25_000, `SELECT ${n}+`, '1+', '1')),
  '25 KB of 1+1+ over columns': long(n => shape(25_000, `SELECT n${n}+`, 'n+', 'n FROM items')),
  '20 KB of nested sub-selects': long(n => shape(20_000, `SELECT ${n}, `, '(SELECT ', '1', ')')),
  '1 MB of numbers in a list': long(n => shape(1_000_000, `SELECT n${n} FROM items WHERE n IN (1`, ',1', ')')),
  '1 MB of strings in a list': long(n => shape(1_000_000, `SELECT n${n} FROM items WHERE 'a' IN ('b'`, ",'c'", ')')),
  '60 KB of parameters in a list': long(n => shape(60_000, `SELECT n${n} FROM items WHERE n IN (1`, ',$1', ')')),
  'a NUL in a string': wrong(n => `SELECT ${n}, 'a\0'; DROP TABLE items`, '^unparsed .*NUL'),
  'a NUL at the end': wrong(n => `SELECT ${n}\0`, '^unparsed .*NUL'),
  'a name that is not UTF-8': wrong(n => `SELECT x${n}\xff FROM items`, '^unparsed .*UTF-8'),
  'a string that is not UTF-8': wrong(n => `SELECT '\xff' AS x${n} FROM items`, '^select ', 'replica'),
  'an unfinished string': wrong(n => `SELECT 'x${n}`, '^unparsed .*unterminated'),
  'unfinished comments': wrong(n => shape(8000, `SELECT x${n} `, '/*', ''), '^unparsed '),
};

/** How a text may be sent. */
const FORMS: Readonly<Record<string, (text: Buffer) => Buffer[]>> = {
  Query: text => [message('Q', terminated(text))],
  Parse: text => [
    message('P', Buffer.concat([Buffer.from([0]), terminated(text), Buffer.alloc(2)])),
    ...[bind('', ''), execute(), SYNC],
  ],
};

/** Later statements are routed right. */
async function assertWell(client: RawClient): Promise<void> {
  const replica = async (text: string) => rowsOf(await client.query(text))[0]?.[0];
  assert.equal(await replica('SELECT pg_is_in_recovery(), count(*) FROM items'), 't');
  assert.equal(await replica('UPDATE items SET n = n RETURNING pg_is_in_recovery()'), 'f');
  client.send(parse('', 'SELECT pg_is_in_recovery(), $1'), bind('', '', ['x']), execute(), SYNC);
  assert.deepEqual(rowsOf(await client.ready()), [['t', 'x']]);
}

/** Least of the longest delays of the event loop around several messages, ms: other programs make some of them longer. */
async function stallOf(send: (n: number) => Promise<unknown>): Promise<number> {
  let least_ms = Number.POSITIVE_INFINITY;
  for (let round = 1; round <= 12 && least_ms > 10; round++) least_ms = Math.min(least_ms, await delayOf(send, round));
  return least_ms;
}

/** The longest delay, or what of it was this thread's own work, as others have the machine too. */
async function delayOf(send: (n: number) => Promise<unknown>, round: number): Promise<number> {
  const cpu_ms = () => process.threadCpuUsage().user / 1000;
  let last_ms = cpu_ms();
  let longest_ms = 0;
  const look = () => {
    longest_ms = Math.max(longest_ms, cpu_ms() - last_ms);
    last_ms = cpu_ms();
  };
  const watch = setInterval(look, 1);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await sleep(3);
  await send(round);
  await sleep(3);
  delay.disable();
  clearInterval(watch);
  look();
  return Math.min(delay.max / 1e6, longest_ms);
}

suite('no text crashes, stalls or misleads', () => {
  for (const [name, { text, reason, role }] of Object.entries(BAD)) {
    for (const [form, messages] of Object.entries(FORMS)) {
      test(`${name}, in a ${form}`, async () => {
        await using client = await proxy.raw();
        const sent = Array.from({ length: 13 }, (_, n) => Buffer.concat(messages(text(n))));
        const stalled_ms = await stallOf(async n => {
          client.send(sent[n]);
          await client.ready();
        });
        assert.ok(stalled_ms < 20, `${stalled_ms} ms`);
        await assertWell(client);
      });
    }

    test(`${name}: EXPLAIN ROUTE knows why, and does not stall`, async () => {
      await using client = await proxy.raw();
      const explained = (n: number) => Buffer.concat([Buffer.from('EXPLAIN ROUTE '), text(n)]);
      let answer: Message[] = [];
      const stalled_ms = await stallOf(async n => {
        client.send(message('Q', terminated(explained(n))));
        answer = await client.ready();
      });
      assert.ok(stalled_ms < 20, `${stalled_ms} ms`);
      const rows = Object.fromEntries(rowsOf(answer));
      assert.match(rows.reason ?? `${errorOf(answer)?.message}`, reason);
      assert.equal(rows.role, role);
      await assertWell(client);
    });
  }

  test('all of them at once, by clients who do not wait for each other', async () => {
    const clients = await Promise.all(Object.keys(BAD).map(() => proxy.raw()));
    const work = Object.values(BAD).map(async ({ text }, index) => {
      const client = clients[index];
      for (const messages of Object.values(FORMS)) {
        client.send(...messages(text(100)), query('SELECT 7'));
        await client.ready(60_000);
        assert.deepEqual(rowsOf(await client.ready(60_000)), [['7']]);
        await assertWell(client);
      }
    });
    await Promise.all(work);
    await Promise.all(clients.map(client => client.close()));
  });

  test('nobody was the cause of a fault', () => {
    const faults = proxy.log.filter(
      ({ level, msg, cause }) => Number(level) >= 50 || /internal/.test(`${msg} ${cause}`),
    );
    assert.deepEqual(faults, []);
  });
});

suite('memory is bounded', () => {
  const MB = 2 ** 20;
  const COUNT = 50_000;
  const AT_ONCE = 100;

  /** Sends so many different statements, 100 at a time, and asserts that each was answered rightly. */
  async function flood(pglynx: PglynxProcess, from: number, statements: (n: number) => Buffer[]): Promise<void> {
    await using client = await pglynx.connect();
    for (let n = from; n < from + COUNT; n += AT_ONCE) {
      client.send(...Array.from({ length: AT_ONCE }, (_, index) => statements(n + index)).flat());
      for (let index = 0; index < AT_ONCE; index++) {
        const answer = await client.ready();
        assert.deepEqual(rowsOf(answer), [[`${n + index}`, (n + index) % 2 === 0 ? 't' : 'f']]);
      }
    }
  }

  /** Half of them read, half write; the template of each is its own. */
  const text = (n: number) =>
    n % 2 === 0
      ? `SELECT ${n}, pg_is_in_recovery() AS a${n}`
      : `SELECT ${n}, pg_is_in_recovery() AS a${n} FROM (SELECT txid_current()) AS b${n}`;

  test(`by ${2 * COUNT} different statements, each in its place`, async context => {
    await using pglynx = await PglynxProcess.start(cluster, { users: ['alice'], pool: POOL });
    const statements = (n: number) =>
      n % 3 === 0 ? [query(text(n))] : [parse('', text(n)), bind('', ''), execute(), SYNC];
    const first = await pglynx.peakDuring(flood(pglynx, 0, statements));
    const second = await pglynx.peakDuring(flood(pglynx, COUNT, statements));
    context.diagnostic(`${Math.round(first / MB)} MB, then ${Math.round(second / MB)} MB`);
    assert.ok(second - first < 128 * MB, `${first} bytes, then ${second}`);
  });

  test('by 300 texts of 1 MB, prepared and run', async context => {
    await using pglynx = await PglynxProcess.start(cluster, { users: ['alice'], pool: POOL });
    await using client = await pglynx.connect();
    const many = async (from: number) => {
      for (let n = from; n < from + 150; n++) {
        const long = shape(1_000_000, `SELECT ${n} AS a${n} /* `, 'long ', '*/');
        client.send(parse('', long), bind('', ''), execute(), SYNC);
        assert.deepEqual(rowsOf(await client.ready()), [[`${n}`]]);
      }
    };
    const first = await pglynx.peakDuring(many(0));
    const second = await pglynx.peakDuring(many(1000));
    context.diagnostic(`${Math.round(first / MB)} MB, then ${Math.round(second / MB)} MB`);
    assert.ok(second - first < 128 * MB, `${first} bytes, then ${second}`);
    await assertWell(client);
  });
});
