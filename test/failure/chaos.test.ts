/** Clients at work over a network that breaks all the while: every reply is the client's own, and no outcome is a lie. */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChaosProxy } from '../chaos/proxy.ts';
import { errorOf, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { cancel, type RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { settled, wholePool } from './backends.ts';

const SIZE = 4;
const CLIENTS = 10;
const TIME_MS = 4000;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (id int); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster?.stop());

/** What a client was told of a write: it took place, it did not, or nobody knows. */
type Outcome = 'done' | 'failed' | 'unknown';

test('ten clients, four connections and a network that breaks', async context => {
  const seed = randomInt(2 ** 31);
  context.diagnostic(`seed ${seed}`);
  const random = generator(seed);
  await using network = await ChaosProxy.start(cluster.primary);
  await using proxy = await TestProxy.start(
    { servers: [network] },
    {
      users: ['alice'],
      user: { pool_size: SIZE },
      pool: { connect_timeout: 1000 },
      general: { healthcheck_delay: 20, healthcheck_timeout: 300 },
    },
  );
  const outcomes = new Map<number, Outcome>();
  const until_ms = performance.now() + TIME_MS;
  const workers = Array.from({ length: CLIENTS }, (_, number) => {
    const worker = new Worker(proxy, outcomes, number, generator(seed + number + 1));
    return worker.run(until_ms);
  });
  const chaos = async () => {
    while (performance.now() < until_ms) {
      await disturb(network, random);
      await sleep(20 + random(60));
    }
    network.faults = {};
  };
  // Whoever fails, the others end their work before anything is taken from under them.
  const work = [...workers, chaos().then(() => 0)];
  await Promise.allSettled(work);
  const total = (await Promise.all(work)).reduce((sum, count) => sum + count, 0);
  assert.ok(total > CLIENTS, `${total} statements succeeded`);
  await eventually('the pool is whole', async () => (await wholePool(proxy, SIZE)).length === SIZE);
  await settled(cluster);
  const faults = proxy.log.filter(({ level, msg, cause }) => Number(level) >= 50 || /internal/.test(`${msg} ${cause}`));
  assert.deepEqual(faults, []);
  const rows = await cluster.sql<{ id: number; count: string }>('SELECT id, count(*) FROM kept GROUP BY id');
  const kept = new Map(rows.map(({ id, count }) => [id, Number(count)]));
  for (const [id, outcome] of outcomes) {
    const count = kept.get(id) ?? 0;
    const right = { done: count === 1, failed: count === 0, unknown: count <= 1 };
    assert.ok(right[outcome], `write ${id} was told as ${outcome}, and is there ${count} times`);
  }
});

async function disturb(network: ChaosProxy, random: (below: number) => number): Promise<void> {
  switch (random(6)) {
    case 0:
      return network.reset();
    case 1:
      return network.halfClose(random(2) === 0 ? 'client' : 'server');
    case 2:
      network.faults = { latency_ms: random(20) };
      return;
    case 3:
      network.faults = { piece_bytes: 1 + random(50) };
      return;
    case 4:
      network.faults = { silent: true };
      await sleep(random(50));
      network.faults = {};
      return;
    case 5:
      network.refuse();
      await sleep(random(50));
      await network.accept();
  }
}

/** A client that does one thing after the other, and checks what it is told. */
class Worker {
  readonly #proxy: TestProxy;
  readonly #outcomes: Map<number, Outcome>;
  readonly #number: number;
  readonly #random: (below: number) => number;
  #client: RawClient | undefined;
  #prepared = false;
  #count = 0;
  #succeeded = 0;

  constructor(proxy: TestProxy, outcomes: Map<number, Outcome>, number: number, random: (below: number) => number) {
    this.#proxy = proxy;
    this.#outcomes = outcomes;
    this.#number = number;
    this.#random = random;
  }

  /** Works until then; answers how much succeeded. */
  async run(until_ms: number): Promise<number> {
    const actions = [
      this.#select,
      this.#extended,
      this.#named,
      this.#insert,
      this.#transaction,
      this.#copy,
      this.#many,
    ];
    while (performance.now() < until_ms) {
      this.#count++;
      const client = await this.#connected();
      if (client === undefined) continue;
      await actions[this.#random(actions.length)].call(this, client);
      if (this.#random(50) === 0) client.destroy();
      if (client.closed) this.#client = undefined;
    }
    await this.#client?.close();
    return this.#succeeded;
  }

  async #connected(): Promise<RawClient | undefined> {
    if (this.#client !== undefined) return this.#client;
    this.#prepared = false;
    this.#client = await this.#proxy.raw().catch((error: Error) => {
      assert.match(error.message, /58000|08006/);
      return undefined;
    });
    return this.#client;
  }

  get #tag(): string {
    return `${this.#number}.${this.#count}`;
  }

  /** What came up to ReadyForQuery, or to the end of the connection. */
  async #reply(client: RawClient): Promise<{ rows: (string | null)[][]; tags: string[]; code: string | undefined }> {
    const messages = [];
    while (messages.at(-1)?.type !== 'Z') {
      const message = await client.next().catch((error: Error) => {
        // The connection may end in the middle of a message; that none comes is not allowed.
        if (!client.closed) throw error;
      });
      if (message === undefined) break;
      messages.push(message);
    }
    const code = errorOf(messages)?.code ?? (messages.at(-1)?.type === 'Z' ? undefined : 'closed');
    if (code !== undefined) assert.match(code, /^(08006|08007|58000|57P01|closed|57014)$/);
    else this.#succeeded++;
    return { rows: rowsOf(messages), tags: tagsOf(messages), code };
  }

  async #select(client: RawClient): Promise<void> {
    client.send(frontend.query(`SELECT '${this.#tag}'`));
    const { rows, code } = await this.#reply(client);
    if (code === undefined) assert.deepEqual(rows, [[this.#tag]]);
    else assert.ok(rows.every(([tag]) => tag === this.#tag));
  }

  async #extended(client: RawClient): Promise<void> {
    const statement = frontend.parse('', 'SELECT $1::text');
    client.send(statement, frontend.bind('', '', [this.#tag]), frontend.execute(), frontend.sync());
    const { rows, code } = await this.#reply(client);
    if (code === undefined) assert.deepEqual(rows, [[this.#tag]]);
  }

  async #named(client: RawClient): Promise<void> {
    if (!this.#prepared) {
      client.send(frontend.parse('mine', `SELECT ${this.#number}, $1::text`), frontend.sync());
      const { code } = await this.#reply(client);
      if (code !== undefined) return;
      this.#prepared = true;
    }
    client.send(frontend.bind('', 'mine', [this.#tag]), frontend.execute(), frontend.sync());
    const { rows, code } = await this.#reply(client);
    if (code === undefined) assert.deepEqual(rows, [[`${this.#number}`, this.#tag]]);
  }

  async #many(client: RawClient): Promise<void> {
    client.send(frontend.query(`SELECT '${this.#tag}', repeat('x', 100) FROM generate_series(1, 1000)`));
    if (this.#random(4) === 0) await cancel(this.#proxy, client);
    const { rows, code } = await this.#reply(client);
    if (code === undefined) assert.equal(rows.length, 1000);
    assert.ok(rows.every(([tag]) => tag === this.#tag));
  }

  get #id(): number {
    return this.#number * 1_000_000 + this.#count;
  }

  #note(code: string | undefined): void {
    const unknown = code === '08007' || code === 'closed';
    this.#outcomes.set(this.#id, code === undefined ? 'done' : unknown ? 'unknown' : 'failed');
  }

  async #insert(client: RawClient): Promise<void> {
    client.send(frontend.query(`INSERT INTO kept VALUES (${this.#id})`));
    const { tags, code } = await this.#reply(client);
    if (code === undefined) assert.deepEqual(tags, ['INSERT 0 1']);
    this.#note(code);
  }

  async #transaction(client: RawClient): Promise<void> {
    for (const sql of ['BEGIN', `INSERT INTO kept VALUES (${this.#id})`, 'COMMIT']) {
      client.send(frontend.query(sql));
      const { code } = await this.#reply(client);
      this.#note(code);
      if (code === undefined) continue;
      // What failed before COMMIT has not taken place, whatever the client is told of its own statement.
      if (sql !== 'COMMIT') this.#outcomes.set(this.#id, 'failed');
      return;
    }
  }

  async #copy(client: RawClient): Promise<void> {
    const data = [frontend.copyData(`${this.#id}\n`), frontend.copyDone()];
    client.send(frontend.query('COPY kept FROM STDIN'), ...data);
    const { tags, code } = await this.#reply(client);
    if (code === undefined) assert.deepEqual(tags, ['COPY 1']);
    this.#note(code);
  }
}

/** Numbers below a bound, the same for the same seed (mulberry32). */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
