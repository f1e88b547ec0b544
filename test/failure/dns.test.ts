/** A server whose name gets another address: old connections finish what they do, new work goes to the new address. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { rowsOf } from '../client/backend.ts';
import type { RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';

const NAME = 'primary.test';
const [OLD, NEW] = ['127.0.0.1', '127.0.0.2'];
const other = process.platform !== 'linux' && 'this system has one loopback address only';

suite('a name with another address', { skip: other }, () => {
  let cluster: TestCluster;
  let proxy: TestProxy;
  let addresses: readonly string[] = [OLD];
  before(async () => {
    cluster = await startCluster({ settings: { listen_addresses: `${OLD},${NEW}` } });
    proxy = await TestProxy.start(
      { servers: [{ host: NAME, port: cluster.primary.port }] },
      {
        general: { dns_cache_enabled: true, dns_max_ttl: 1 },
        users: ['alice'],
        resolve: async name => {
          if (name !== NAME || addresses.length === 0) throw new Error(`getaddrinfo ENOTFOUND ${name}`);
          return addresses.map(address => ({ address, family: 4 }));
        },
      },
    );
  });
  after(async () => {
    await proxy?.stop();
    await cluster?.stop();
  });

  const known = () =>
    proxy.proxy.network.dns
      .hosts(performance.now())
      .find(({ hostname }) => hostname === NAME)
      ?.addresses.join();

  async function serverOf(client: RawClient): Promise<string> {
    const [row] = rowsOf(await client.query('SELECT host(inet_server_addr()), pg_backend_pid()'));
    return String(row?.[0]);
  }

  test('a transaction ends where it is, and everything else goes to the new one', async () => {
    await using busy = await proxy.raw();
    await using idle = await proxy.raw();
    await eventually('work is done at the old address', async () => (await serverOf(busy)) === OLD);
    await busy.query('BEGIN');
    addresses = [NEW];
    await eventually('other work is done at the new address', async () => (await serverOf(idle)) === NEW);
    assert.equal(await serverOf(busy), OLD);
    const pid = Number(rowsOf(await busy.query('SELECT pg_backend_pid()'))[0]?.[0]);
    await busy.query('COMMIT');
    assert.equal(await serverOf(busy), NEW);
    await eventually('its connection is closed', async () =>
      (await cluster.activity()).every(each => each.pid !== pid),
    );
    const closed = proxy.log.filter(({ msg }) =>
      /Server connection closed.*no longer has its address/.test(String(msg)),
    );
    assert.ok(closed.some(line => line.server_pid === pid));
  });

  test('no client notices, however busy', async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => proxy.raw()));
    let isOver = false;
    const seen = new Set<string>();
    const working = clients.map(async client => {
      while (!isOver) seen.add(await serverOf(client));
    });
    addresses = [OLD];
    await eventually('work is done at the other address only', () => {
      const [only] = seen;
      const hasMoved = seen.size === 1 && only === OLD;
      seen.clear();
      return hasMoved;
    });
    isOver = true;
    await Promise.all(working);
    await Promise.all(clients.map(client => client.close()));
  });

  test('the next address is tried when nobody is at the first', async () => {
    await using client = await proxy.raw();
    addresses = ['127.0.0.3', NEW];
    await eventually('work is done at the second', async () => (await serverOf(client)) === NEW);
  });

  test('a name that is not found keeps its address', async () => {
    await using client = await proxy.raw();
    addresses = [];
    await eventually('it is told', () =>
      proxy.log.some(({ msg }) => /ENOTFOUND.*keeps its addresses/.test(String(msg))),
    );
    assert.equal(await serverOf(client), NEW);
    assert.equal(known(), `127.0.0.3,${NEW}`);
  });
});
