/** Clients that vanish, in every state a client can be in: what they were doing ends, and their connection serves on. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChaosProxy } from '../chaos/proxy.ts';
import { rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import { backendPid, forgetStatements, settled, statementCalls, wholePool } from './backends.ts';
import { Relay } from './relay.ts';

const SIZE = 2;
const COPY = 'COPY kept FROM STDIN';
const ENDLESS = "SELECT generate_series(1, 100000000), repeat('x', 1000)";

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
  proxy = await TestProxy.start(cluster, { user: { pool_size: SIZE }, pool: { connect_timeout: 5000 } });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

/** The ways to vanish; each says which port the client connects to. */
const WAYS: Readonly<Record<string, () => Promise<{ port: number; vanish: (client: RawClient) => Promise<void> }>>> = {
  'with RST': async () => ({ port: proxy.port, vanish: async client => client.destroy() }),
  'with FIN': async () => ({
    port: proxy.port,
    vanish: async client => {
      client.end();
      client.resume();
    },
  }),
  'by SIGKILL': async () => {
    const relay = await Relay.start(proxy.port);
    return { port: relay.port, vanish: () => relay.kill() };
  },
};

/** Brings a client into a state in which it may vanish. */
type Scene = (client: RawClient) => Promise<void> | void;

const extendedCopy = [frontend.parse('', COPY), frontend.bind('', ''), frontend.execute()];
const half = (message: Buffer) => message.subarray(0, message.length >> 1);

const SCENES: Readonly<Record<string, Scene>> = {
  'in a transaction': async client => {
    await client.query("BEGIN; INSERT INTO kept VALUES ('never')");
  },
  'in a failed transaction': async client => {
    await client.query('BEGIN; SELECT 1 / 0');
  },
  'in a transaction, in the middle of a message': async client => {
    await client.query('BEGIN');
    client.send(half(frontend.query("INSERT INTO kept VALUES ('never')")));
    await sleep(20);
  },
  'in a simple COPY between rows': async client => {
    client.send(frontend.query(COPY));
    await client.until('G');
    client.send(frontend.copyData('never\n'));
  },
  'in a simple COPY within a row': async client => {
    client.send(frontend.query(COPY));
    await client.until('G');
    client.send(frontend.copyData('never\n'), half(frontend.copyData(`${'never '.repeat(100)}\n`)));
    await sleep(20);
  },
  'in a simple COPY within a header': async client => {
    client.send(frontend.query(COPY));
    await client.until('G');
    client.send(frontend.copyData('never\n').subarray(0, 3));
    await sleep(20);
  },
  'in an extended COPY between rows': async client => {
    client.send(...extendedCopy, frontend.flush());
    await client.until('G');
    client.send(frontend.copyData('never\n'));
  },
  'in an extended COPY after its Sync': async client => {
    client.send(...extendedCopy, frontend.sync());
    await client.until('G');
    client.send(frontend.copyData('never\n'));
  },
  'in an extended COPY within a row': async client => {
    client.send(...extendedCopy, frontend.flush());
    await client.until('G');
    client.send(half(frontend.copyData(`${'never '.repeat(100)}\n`)));
    await sleep(20);
  },
  'in a COPY within a transaction': async client => {
    await client.query("BEGIN; INSERT INTO kept VALUES ('never')");
    client.send(frontend.query(COPY));
    await client.until('G');
    client.send(frontend.copyData('never\n'));
  },
  'in COPY TO': async client => {
    client.send(frontend.query(`COPY (${ENDLESS}) TO STDOUT`));
    await client.until('d');
  },
  'in a large result': async client => {
    client.send(frontend.query(ENDLESS));
    await client.until('D');
  },
  'in a large result that it does not read': async client => {
    client.pause();
    client.send(frontend.query(ENDLESS));
    await sleep(100);
  },
  'in a large extended result': async client => {
    client.send(frontend.parse('', ENDLESS), frontend.bind('', ''), frontend.execute(), frontend.sync());
    await client.until('D');
  },
  'in pg_sleep': async client => {
    client.send(frontend.query('SELECT pg_sleep(1000)'));
    await sleep(20);
  },
  'in an extended pg_sleep': async client => {
    const sleeping = [frontend.parse('', 'SELECT pg_sleep(1000)'), frontend.bind('', ''), frontend.execute()];
    client.send(...sleeping, frontend.flush());
    await sleep(20);
  },
  'with a batch that nobody flushed': async client => {
    client.send(frontend.parse('s', "INSERT INTO kept VALUES ('never')"), frontend.bind('', 's'), frontend.execute());
    await sleep(20);
  },
  'with an open batch': async client => {
    const insert = frontend.parse('s', "INSERT INTO kept VALUES ('never')");
    client.send(insert, frontend.bind('', 's'), frontend.execute(), frontend.flush());
    await client.until('C');
  },
  'with an open batch that failed': async client => {
    client.send(frontend.parse('', 'SELECT 1 / 0'), frontend.bind('', ''), frontend.execute(), frontend.flush());
    await client.until('E');
  },
  'with a portal half fetched': async client => {
    client.send(frontend.parse('', ENDLESS), frontend.bind('', ''), frontend.execute('', 10), frontend.flush());
    await client.until('s');
  },
  'with a portal half fetched in a transaction': async client => {
    await client.query('BEGIN');
    client.send(frontend.parse('', ENDLESS), frontend.bind('p', ''), frontend.execute('p', 10), frontend.sync());
    await client.ready();
  },
  'with a long query half sent': async client => {
    client.send(frontend.query(`INSERT INTO kept VALUES ('${'never '.repeat(20_000)}')`).subarray(0, 80_000));
    await sleep(20);
  },
};

for (const [way, prepare] of Object.entries(WAYS)) {
  suite(`a client that vanishes ${way}`, () => {
    for (const [name, scene] of Object.entries(SCENES)) {
      test(name, async () => {
        const before = await wholePool(proxy, SIZE);
        const { port, vanish } = await prepare();
        await using bystander = await Bystander.start();
        const client = await connect(port);
        try {
          await scene(client);
          await vanish(client);
          await settled(cluster);
        } finally {
          client.destroy();
        }
        assert.deepEqual(await wholePool(proxy, SIZE), before, 'the pool has the connections that it had');
        await bystander.stop();
        assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING *'), []);
      });
    }

    test('while it waits for a connection', async () => {
      const before = await wholePool(proxy, SIZE);
      const { port, vanish } = await prepare();
      const holders = await Promise.all([proxy.raw(), proxy.raw()]);
      await Promise.all(holders.map(holder => holder.query('BEGIN')));
      const client = await connect(port);
      client.send(frontend.query("INSERT INTO kept VALUES ('never')"));
      await waiting(1);
      await vanish(client);
      await waiting(0);
      await Promise.all(holders.map(holder => holder.close()));
      await settled(cluster);
      assert.deepEqual(await wholePool(proxy, SIZE), before);
      assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
    });
  });
}

suite('a client that vanished', () => {
  test('in a transaction has cost one ROLLBACK and nothing else', async () => {
    const client = await proxy.raw();
    await client.query("BEGIN; INSERT INTO kept VALUES ('never')");
    const pid = await backendPid(client);
    await forgetStatements(cluster);
    client.destroy();
    const sessions = await settled(cluster);
    assert.ok(sessions.some(session => session.pid === pid));
    assert.deepEqual(await statementCalls(cluster, '.'), { ROLLBACK: 1 });
  });

  test('between transactions has cost nothing', async () => {
    const client = await proxy.raw();
    await client.query('SELECT 1');
    await forgetStatements(cluster);
    client.destroy();
    await wholePool(proxy, SIZE);
    assert.deepEqual(await statementCalls(cluster, 'ROLLBACK|RESET|DEALLOCATE|DISCARD'), {});
  });

  test('in the middle of a long function call has not made it', async () => {
    const [{ oid }] = await cluster.sql<{ oid: number }>("SELECT 'lo_from_bytea'::regproc::oid AS oid");
    const client = await proxy.raw();
    const call = frontend.functionCall(Number(oid), [frontend.int32(4711), Buffer.alloc(100_000, 'x')], 1);
    client.send(call.subarray(0, 90_000));
    await sleep(50);
    client.destroy();
    await settled(cluster);
    await wholePool(proxy, SIZE);
    assert.deepEqual(await cluster.sql('SELECT oid FROM pg_largeobject_metadata'), []);
  });

  test('is gone at once, though it had sent more than it was answered', async () => {
    const client = await proxy.raw();
    client.send(frontend.query('SELECT pg_sleep(0.5)'), frontend.query("INSERT INTO kept VALUES ('never')"));
    await sleep(50);
    client.destroy();
    await settled(cluster);
    assert.deepEqual(await cluster.sql('SELECT * FROM kept'), []);
  });
});

suite('a client that vanishes before a server far away has answered', () => {
  let far: TestProxy;
  let network: ChaosProxy;
  before(async () => {
    network = await ChaosProxy.start(cluster.primary, { latency_ms: 40 });
    far = await TestProxy.start({ servers: [network] }, { user: { pool_size: 1 }, pool: { connect_timeout: 5000 } });
  });
  after(async () => {
    await far?.stop();
    await network?.stop();
  });

  const extendedInsert = [
    frontend.parse('', "INSERT INTO kept VALUES ('never')"),
    frontend.bind('', ''),
    frontend.execute(),
  ];
  const sent: Readonly<Record<string, readonly Buffer[]>> = {
    'a simple COPY': [frontend.query(COPY)],
    'a simple COPY and rows': [frontend.query(COPY), frontend.copyData('never\n')],
    'an extended COPY and a Sync': [...extendedCopy, frontend.sync()],
    'an extended COPY and a Flush': [...extendedCopy, frontend.flush()],
    'an extended COPY, rows and a Flush': [...extendedCopy, frontend.flush(), frontend.copyData('never\n')],
    'an extended COPY that fails': [frontend.parse('', 'COPY nowhere FROM STDIN'), frontend.sync()],
    'a statement and a Flush': [...extendedInsert, frontend.flush()],
    'a statement that fails and a Flush': [frontend.parse('', 'SELECT nothing'), frontend.flush()],
    'BEGIN and a Flush': [frontend.parse('', 'BEGIN'), frontend.bind('', ''), frontend.execute(), frontend.flush()],
    'a transaction': [frontend.query("BEGIN; INSERT INTO kept VALUES ('never')")],
  };
  for (const [name, messages] of Object.entries(sent)) {
    test(name, async () => {
      const before = await wholePool(far, 1);
      const client = await far.raw();
      client.send(...messages);
      await sleep(20);
      client.destroy();
      // Long enough for the statement to have arrived, so that what is seen is how it ended.
      await sleep(60);
      await settled(cluster);
      assert.deepEqual(await wholePool(far, 1), before);
      assert.deepEqual(await cluster.sql('DELETE FROM kept RETURNING *'), []);
    });
  }
});

/** Logs in as alice; the relay of a killed process is not where TestProxy would connect to. */
function connect(port: number): Promise<RawClient> {
  return RawClient.connect({ port, user: 'alice', database: DATABASE, password: PASSWORDS.alice });
}

/** Waits until so many clients wait for a connection, as the admin database tells it. */
async function waiting(count: number): Promise<void> {
  const admin = await proxy.admin();
  try {
    await eventually(`${count} clients wait`, async () => {
      const { rows } = await admin.query<{ cl_waiting: string }>('SHOW POOLS');
      return rows.reduce((sum, row) => sum + Number(row.cl_waiting), 0) === count;
    });
  } finally {
    await admin.end();
  }
}

/** A client that asks for its own tag all the while and fails when it gets anything else. */
class Bystander {
  readonly #client: RawClient;
  readonly #done: Promise<void>;
  #stopping = false;

  private constructor(client: RawClient) {
    this.#client = client;
    this.#done = this.#run();
    this.#done.catch(() => {});
  }

  static async start(): Promise<Bystander> {
    return new Bystander(await proxy.raw());
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#done;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().finally(() => this.#client.close());
  }

  async #run(): Promise<void> {
    for (let count = 0; !this.#stopping; count++) {
      const tag = `bystander ${count}`;
      const messages = await this.#client.query(`SELECT '${tag}'`);
      assert.equal(messages.map(({ type }) => type).join(''), 'TDCZ');
      assert.deepEqual(rowsOf(messages), [[tag]]);
    }
  }
}
