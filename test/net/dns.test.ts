/** Names of servers: one question for many, the last answer kept, a change noticed. */
import assert from 'node:assert/strict';
import type { LookupAddress } from 'node:dns';
import { suite, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { DnsCache } from '../../src/net/dns.ts';

/** A directory of names that a test can change, and a cache in front of it. */
class Names {
  readonly answers = new Map<string, readonly string[]>();
  readonly log: string[] = [];
  settings = { dns_cache_enabled: true, dns_max_ttl: 30 };
  asked = 0;
  readonly cache: DnsCache;

  constructor(answers: Readonly<Record<string, readonly string[]>>) {
    for (const [name, addresses] of Object.entries(answers)) this.answers.set(name, addresses);
    const tell = (_: object, text: string) => void this.log.push(text);
    this.cache = new DnsCache(
      () => this.settings,
      { info: tell, warn: tell },
      name => this.#resolve(name),
    );
  }

  /** What a socket gets. */
  lookup(name: string, all: boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      this.cache.lookup(name, { all }, (error, address) => {
        if (error !== null) reject(error);
        else resolve(typeof address === 'string' ? address : address.map(each => each.address).join());
      });
    });
  }

  /** Lets `s` seconds pass for the names given, and the questions of that moment end. */
  async refresh(s: number, ...names: string[]): Promise<void> {
    this.cache.refresh(new Set(names), performance.now() + s * 1000);
    await turn();
  }

  async #resolve(name: string): Promise<LookupAddress[]> {
    this.asked++;
    await turn();
    const addresses = this.answers.get(name);
    if (addresses === undefined) throw new Error(`getaddrinfo ENOTFOUND ${name}`);
    return addresses.map(address => ({ address, family: address.includes(':') ? 6 : 4 }));
  }
}

suite('DnsCache', () => {
  test('asks once for all who ask, and remembers the answer in its order', async () => {
    const names = new Names({ db: ['::1', '10.0.0.1'] });
    const all = await Promise.all([names.lookup('db', true), names.lookup('db', true), names.lookup('db', false)]);
    assert.deepEqual(all, ['::1,10.0.0.1', '::1,10.0.0.1', '::1']);
    names.answers.set('db', ['10.0.0.2']);
    assert.equal(await names.lookup('db', true), '::1,10.0.0.1');
    assert.equal(names.asked, 1);
  });

  test('asks again after dns_max_ttl, and knows which addresses are left', async () => {
    const names = new Names({ db: ['10.0.0.1', '10.0.0.2'] });
    await names.lookup('db', true);
    await names.refresh(29, 'db');
    assert.equal(names.asked, 1);
    names.answers.set('db', ['10.0.0.2', '10.0.0.3']);
    await names.refresh(31, 'db');
    await turn();
    assert.equal(names.asked, 2);
    assert.deepEqual(names.log, ['DNS changed for db']);
    assert.equal(names.cache.hasLeft('db', '10.0.0.1'), true);
    assert.equal(names.cache.hasLeft('db', '10.0.0.2'), false);
    assert.equal(names.cache.hasLeft('other', '10.0.0.1'), false);
    const [host] = names.cache.hosts(performance.now());
    assert.deepEqual(host, { hostname: 'db', ttl_s: 30, addresses: ['10.0.0.2', '10.0.0.3'] });
  });

  test('takes another order for no change', async () => {
    const names = new Names({ db: ['10.0.0.1', '10.0.0.2'] });
    await names.lookup('db', true);
    names.answers.set('db', ['10.0.0.2', '10.0.0.1']);
    await names.refresh(31, 'db');
    await turn();
    assert.equal(await names.lookup('db', true), '10.0.0.2,10.0.0.1');
    assert.deepEqual(names.log, []);
  });

  test('keeps the last answer when there is none, and says so once', async () => {
    const names = new Names({ db: ['10.0.0.1'] });
    await names.lookup('db', true);
    names.answers.delete('db');
    for (const s of [31, 62, 93]) {
      await names.refresh(s, 'db');
      await turn();
    }
    assert.equal(names.asked, 4);
    assert.equal(await names.lookup('db', true), '10.0.0.1');
    assert.equal(names.cache.hasLeft('db', '10.0.0.1'), false);
    assert.deepEqual(names.log, ['DNS: getaddrinfo ENOTFOUND db; db keeps its addresses']);
  });

  test('tells whoever asks first that a name has no address, and asks for the next one again', async () => {
    const names = new Names({ empty: [] });
    await assert.rejects(names.lookup('db', true), /ENOTFOUND db/);
    await assert.rejects(names.lookup('empty', false), /empty has no address/);
    names.answers.set('db', ['10.0.0.1']);
    assert.equal(await names.lookup('db', true), '10.0.0.1');
    assert.equal(names.cache.pending, 0);
  });

  test('asks for the names of servers, not for addresses, directories or what is gone', async () => {
    const names = new Names({ db: ['10.0.0.1'] });
    await names.refresh(0, 'db', '10.0.0.9', '::1', '/run/postgresql');
    await turn();
    assert.equal(names.asked, 1);
    assert.deepEqual(
      names.cache.hosts(0).map(({ hostname }) => hostname),
      ['db'],
    );
    await names.refresh(0);
    assert.deepEqual(names.cache.hosts(0), []);
  });

  test('remembers nothing while it is off', async () => {
    const names = new Names({ db: ['10.0.0.1'] });
    await names.lookup('db', true);
    names.settings = { dns_cache_enabled: false, dns_max_ttl: 30 };
    names.answers.set('db', ['10.0.0.2']);
    assert.equal(await names.lookup('db', true), '10.0.0.2');
    await names.refresh(0, 'db');
    assert.deepEqual(names.cache.hosts(0), []);
    assert.equal(names.cache.hasLeft('db', '10.0.0.1'), false);
  });
});
