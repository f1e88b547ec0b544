/** Bytes that nobody should send: whatever a client or a server says, pglynx goes on serving the others. */
import assert from 'node:assert/strict';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const { bind, close, copyData, copyDone, describe, execute, flush, functionCall, parse, query, sync } = frontend;

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
  await cluster.sql('CREATE TABLE kept (line text); GRANT ALL ON kept TO PUBLIC');
});
after(() => cluster.stop());

/** One change to a stream of bytes: at a position something is put in place of as many bytes. */
interface Corruption {
  readonly at: number;
  readonly removed: number;
  readonly bytes: Buffer;
}

const corruption = fc.record({
  at: fc.nat(3000),
  removed: fc.nat(8),
  bytes: fc.oneof(
    fc.uint8Array({ maxLength: 12 }).map(bytes => Buffer.from(bytes)),
    fc
      .constantFrom(
        'Z',
        'E',
        'C',
        'G',
        'H',
        'd',
        'c',
        '1',
        '2',
        '3',
        'T',
        't',
        'D',
        'I',
        'n',
        's',
        'N',
        'S',
        'A',
        'K',
        'R',
        'V',
        'v',
        'W',
      )
      .chain(type => fc.uint8Array({ maxLength: 8 }).map(body => frontend.message(type, Buffer.from(body)))),
  ),
});

function corrupt(stream: Buffer, { at, removed, bytes }: Corruption): Buffer {
  return Buffer.concat([stream.subarray(0, at), bytes, stream.subarray(at + removed)]);
}

/** Stands in front of a server and changes one place in what it says on each connection. */
class Corruptor {
  change: Corruption | undefined;
  port = 0;
  readonly #server: Server;

  private constructor(target: { port: number }) {
    this.#server = createServer(client => {
      const server = connect(target.port, '127.0.0.1');
      const end = (socket: Socket) => () => socket.destroy();
      client
        .on('error', () => {})
        .on('close', end(server))
        .pipe(server);
      server.on('error', () => {}).on('close', end(client));
      let passed = 0;
      server.on('data', chunk => {
        const { change } = this;
        const isHere = change !== undefined && change.at >= passed && change.at < passed + chunk.length;
        client.write(isHere ? corrupt(chunk, { ...change, at: change.at - passed }) : chunk);
        passed += chunk.length;
      });
    });
  }

  static async start(target: { port: number }): Promise<Corruptor> {
    const corruptor = new Corruptor(target);
    await new Promise<void>(resolve => corruptor.#server.listen(0, '127.0.0.1', resolve));
    const address = corruptor.#server.address();
    if (typeof address === 'object' && address !== null) corruptor.port = address.port;
    return corruptor;
  }

  async stop(): Promise<void> {
    this.#server.close();
  }
}

const WORK = Buffer.concat([
  query('SELECT 1; SELECT 2'),
  parse('s', 'SELECT $1::int'),
  describe('S', 's'),
  bind('', 's', ['1']),
  execute(),
  flush(),
  bind('p', 's', ['2']),
  execute('p', 1),
  close('S', 's'),
  sync(),
  query('BEGIN'),
  query('COPY kept FROM STDIN'),
  copyData('line\n'),
  copyDone(),
  query('ROLLBACK'),
  functionCall(1598, [], 0),
  query('COPY (SELECT generate_series(1, 100)) TO STDOUT'),
]);

/** Does the work and waits for its end, or for the end of the connection, or a moment. */
async function work(port: number, bytes: Buffer): Promise<void> {
  const login = { port, user: 'alice', database: DATABASE, password: PASSWORDS.alice };
  const client = await RawClient.connect(login).catch(() => undefined);
  if (client === undefined) return;
  client.send(bytes);
  const over = (async () => {
    for (let count = 0; count < 7; count++) await client.ready(300);
  })();
  await over.catch(() => {});
  client.destroy();
}

suite('pglynx survives', () => {
  test('a server that says anything', async () => {
    const corruptor = await Corruptor.start(cluster.primary);
    const general = { connect_timeout: 500, healthcheck_delay: 1, healthcheck_timeout: 300 };
    const servers = [{ host: '127.0.0.1', port: corruptor.port }];
    await using proxy = await TestProxy.start({ servers }, { general, user: { pool_size: 2 } });
    try {
      await fc.assert(
        fc.asyncProperty(corruption, async change => {
          corruptor.change = change;
          await work(proxy.port, WORK);
        }),
        { numRuns: 60 },
      );
      corruptor.change = undefined;
      for (let left = 20; ; left--) {
        const client = await proxy.raw().catch(() => undefined);
        const messages = await client?.query('SELECT 42').catch(() => []);
        client?.destroy();
        if (messages !== undefined && rowsOf(messages)[0]?.[0] === '42') break;
        assert.ok(left > 0, 'pglynx serves again');
      }
    } finally {
      await corruptor.stop();
    }
  });

  test('a client that says anything', async () => {
    await using proxy = await TestProxy.start(cluster, { general: { connect_timeout: 2000 }, user: { pool_size: 2 } });
    await using bystander = await proxy.raw();
    await fc.assert(
      fc.asyncProperty(fc.record({ ...corruptionOf(WORK.length) }), async change => {
        await work(proxy.port, corrupt(WORK, change));
        assert.deepEqual(rowsOf(await bystander.query('SELECT 42')), [['42']]);
      }),
      { numRuns: 60 },
    );
  });
});

function corruptionOf(length: number) {
  return {
    at: fc.nat(length),
    removed: fc.nat(8),
    bytes: fc.oneof(
      fc.uint8Array({ maxLength: 12 }).map(bytes => Buffer.from(bytes)),
      fc
        .constantFrom(...'QPBDECSHFdcfXp?')
        .chain(type => fc.uint8Array({ maxLength: 8 }).map(body => frontend.message(type, Buffer.from(body)))),
    ),
  };
}
