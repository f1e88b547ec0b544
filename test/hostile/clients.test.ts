/** What clients have done to poolers: every row of the security history where the attacker is a client before its login is over. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { formatVerifier } from '../../src/auth/scram.ts';
import { mockVerifier } from '../../src/auth/secret.ts';
import { ChaosProxy } from '../chaos/proxy.ts';
import { decode, errorOf, type Message, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { type Address, LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { TestProxy } from '../proxy/index.ts';
import * as arbitrary from './arbitrary.ts';
import { type Attack, bytes, Target } from './target.ts';

/** Logs in by trust, so that what is behind a login can be reached without one. */
const OPEN = `[pools.${DATABASE}.users.open]
username = "open"
auth_type = "trust"
server_username = "alice"
server_password = ${JSON.stringify(PASSWORDS.alice)}
pool_size = 2`;

const toScram = frontend.startup({ user: 'alice', database: DATABASE });
const toTrust = frontend.startup({ user: 'open', database: DATABASE });

let cluster: TestCluster;
let line: ChaosProxy;
let target: Target;
before(async () => {
  cluster = await startCluster();
  line = await ChaosProxy.start(cluster.primary);
  target = await Target.start(
    { servers: [{ host: line.host, port: line.port }] },
    {
      general: { max_message_size: 2 ** 30 - 1, login_failure_limit: 0 },
      user: { auth_type: 'scram-sha-256' },
      more: OPEN,
    },
  );
});
after(async () => {
  await target?.stop();
  await line?.stop();
  await cluster?.stop();
});

/** Everything that comes in answer to these bytes until pglynx hangs up. */
async function answers(...messages: Buffer[]): Promise<Message[]> {
  const attacker = await RawClient.open(target);
  attacker.send(...messages);
  const said = await attacker.untilClosed(5000);
  attacker.destroy();
  return said;
}

/** The nonce of the SASLContinue that has come. */
async function serverNonce(attacker: RawClient): Promise<string> {
  for (;;) {
    const message = await attacker.next();
    if (message === undefined) return '';
    const decoded = decode(message);
    if (decoded.name === 'AuthenticationSASLContinue') return /^r=([^,]*)/.exec(String(decoded.data))?.[1] ?? '';
    if (decoded.name === 'ErrorResponse') return '';
  }
}

/** What is said to a user who tries a wrong password by SCRAM, without what is random and the name itself. */
async function exchange(address: Address, user: string, database: string): Promise<string> {
  const attacker = await RawClient.open(address);
  const first = arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abcdefgh');
  attacker.send(frontend.startup({ user, database }), first);
  const said = [decode(await attacker.message()), decode(await attacker.message())];
  const parts = said[1].name === 'AuthenticationSASLContinue' ? String(said[1].data).split(',') : [];
  const proof = Buffer.alloc(32, 1).toString('base64');
  attacker.send(frontend.saslResponse(Buffer.from(`c=biws,${parts[0]},p=${proof}`)));
  const last = errorOf(await attacker.untilClosed());
  attacker.destroy();
  const shape = [said.map(({ name }) => name), parts[0]?.length, parts[1]?.length, parts[2], parts.length];
  return JSON.stringify([shape, { ...last, message: last?.message?.replace(user, '...') }]);
}

suite('before the login', () => {
  test('CVE-2012-4575: the name of a database is too long', async () => {
    for (const length of [63, 64, 65, 128, 1024, 9900]) {
      const database = 'd'.repeat(length);
      const error = errorOf(await answers(frontend.startup({ user: 'open', database })));
      assert.equal(error?.severity, 'FATAL', `${length} bytes`);
      await target.withstands([
        bytes(frontend.startup({ user: database })),
        bytes(frontend.startup({ user: database, database: 'alice' })),
        bytes(frontend.startup({ user: 'alice', database: 'pgcat', [database]: database.slice(0, 8) })),
      ]);
    }
  });

  test('CVE-2015-4054: a password comes before the startup packet', async () => {
    for (const early of [frontend.password('secret'), arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abc')]) {
      const error = errorOf(await answers(early));
      assert.deepEqual([error?.severity, error?.code], ['FATAL', '08P01']);
      await target.withstands([bytes(early, toScram), bytes(frontend.sslRequest(), early)]);
    }
  });

  test('CVE-2026-6479: requests for encryption go on without end', async () => {
    const requests = Array.from({ length: 1000 }, (_, index) =>
      index % 2 === 0 ? frontend.sslRequest() : frontend.gssRequest(),
    );
    const attacker = await RawClient.open(target);
    attacker.send(...requests);
    assert.equal(String(await attacker.bytes(2)), 'NN');
    assert.equal(errorOf(await attacker.untilClosed())?.severity, 'FATAL');
    attacker.destroy();
    await target.withstands([
      bytes(...requests),
      bytes(...requests.slice(0, 2)),
      bytes(...requests.slice(0, 3), toTrust),
    ]);
  });

  test('CVE-2026-6664: lengths overflow in startup packets', async () => {
    await target.withstandsAll(
      fc.array(arbitrary.startupPacket, { minLength: 1, maxLength: 3 }).map(all => bytes(...all)),
    );
  });

  test('CVE-2026-6668: a message before the login is said to be of gigabytes, and comes', async () => {
    const piece = Buffer.alloc(2 ** 20, 'p');
    const flood =
      (length: number, ...first: Buffer[]): Attack =>
      async attacker => {
        attacker.send(...first, frontend.message('p', Buffer.alloc(0), length));
        for (let sent = 0; sent < 32 && !attacker.closed; sent++) {
          attacker.send(piece);
          await Promise.race([attacker.drained(), sleep(20)]);
        }
      };
    await target.withstands([
      ...[65_536, 0x3fffffff, 0x7fffffff, 0x80000000, 0xffffffff].map(length => flood(length, toScram)),
      flood(0xffffffff),
      async attacker => {
        attacker.send(frontend.packet(0x30000, Buffer.alloc(0), 0x7fffffff));
        await attacker.drained();
      },
    ]);
  });

  test('CVE-2026-107349: options without a name are looked at forever (`-c=`, `-c`, `--`)', async () => {
    for (const options of [
      '-c=',
      '-c',
      '--',
      '-c =',
      '--=',
      '-c=x',
      '-c -c',
      '-c= -c=',
      '\\',
      '-c '.repeat(3000),
      '--'.repeat(4000),
    ]) {
      const said = errorOf(await answers(frontend.startup({ user: 'open', database: DATABASE, options })));
      assert.deepEqual([said?.severity, said?.code.slice(0, 2)], ['FATAL', '42'], options.slice(0, 20));
    }
  });

  test('CVE-2026-107349: options of any other form', async () => {
    const attack = arbitrary.options.map(options =>
      bytes(frontend.startup({ user: 'open', database: DATABASE, options })),
    );
    await target.withstandsAll(attack);
  });
});

suite('during the login', () => {
  test('CVE-2026-107350: a second StartupMessage takes over the login of another user', async () => {
    const first = arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abcdefghijkl');
    for (const second of [
      toTrust,
      toScram,
      frontend.sslRequest(),
      frontend.startup({ user: 'open', database: 'pgcat' }),
    ]) {
      for (const before of [[], [first], [first, frontend.saslResponse(Buffer.from('c=biws,r=x,p=AAAA'))]]) {
        const said = (await answers(toScram, ...before, second)).map(decode);
        assert.equal(said[0].name, 'AuthenticationSASL');
        const last = said.at(-1);
        assert.ok(last?.name === 'ErrorResponse' && last.fields.code === '08P01', JSON.stringify(last));
        assert.ok(!said.some(({ name }) => name === 'AuthenticationOk'));
      }
    }
    // One that comes while the proof of the first is still being looked at does not change who logs in.
    const client = await RawClient.connect({
      port: target.port,
      user: 'alice',
      database: DATABASE,
      password: PASSWORDS.alice,
    });
    client.send(frontend.startup({ user: 'bob', database: DATABASE }));
    assert.equal(errorOf(await client.untilClosed())?.code, '08P01');
    client.destroy();
    await target.serves();
  });

  test('CVE-2026-19888: the last SCRAM message lacks an attribute, or has them in another order', async () => {
    const proof = `p=${Buffer.alloc(32).toString('base64')}`;
    const finals = ['', 'c=biws', 'r={nonce}', proof, 'c=biws,r={nonce}', `c=biws,${proof}`, `r={nonce},${proof}`];
    const orders = [
      `r={nonce},c=biws,${proof}`,
      `${proof},c=biws,r={nonce}`,
      `c=biws,r={nonce},${proof},`,
      `c=biws,,${proof}`,
    ];
    for (const final of [...finals, ...orders, `c=biws,r={nonce},${proof.slice(0, -2)}`, 'c,r,p', 'c=,r=,p=']) {
      const attacker = await RawClient.open(target);
      attacker.send(toScram, arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abcdefghijkl'));
      const nonce = await serverNonce(attacker);
      attacker.send(frontend.saslResponse(Buffer.from(final.replaceAll('{nonce}', nonce))));
      assert.equal(errorOf(await attacker.untilClosed())?.code, '08P01', final);
      attacker.destroy();
    }
    await target.serves();
  });

  test('CVE-2026-6664: lengths overflow in SCRAM messages, and these are anything', async () => {
    const attack = arbitrary.saslExchange.map(
      ({ mechanism, first, length, final, isHasty }): Attack =>
        async attacker => {
          attacker.send(toScram, arbitrary.saslInitialResponse(mechanism, first, length));
          const nonce = isHasty ? 'abcdefghijkl' : await serverNonce(attacker);
          attacker.send(frontend.saslResponse(Buffer.from(final.replaceAll('{nonce}', nonce))));
        },
    );
    await target.withstandsAll(attack);
  });

  test('140a9a77 of odyssey: the nonce of a client is as long as a message may be', async () => {
    for (const length of [64, 1024, 4000, 4096, 60_000]) {
      const attacker = await RawClient.open(target);
      attacker.send(toScram, arbitrary.saslInitialResponse('SCRAM-SHA-256', `n,,n=,r=${'n'.repeat(length)}`));
      const nonce = await serverNonce(attacker);
      if (length <= 4000) assert.ok(nonce.startsWith('n'.repeat(length)) && nonce.length > length, `${length} bytes`);
      else assert.equal(nonce, '', `${length} bytes are too many`);
      attacker.destroy();
    }
    await target.serves();
  });

  test('CVE-2015-6817: a user whom nobody knows logs in as one who is known', async () => {
    await using md5 = await TestProxy.start(cluster, { general: { login_failure_limit: 0 } });
    for (const { port } of [target, md5]) {
      for (const password of [PASSWORDS.alice, PASSWORDS.bob, '']) {
        for (const user of ['stranger', 'alice ', 'ALICE', 'alice\uFEFF']) {
          const failed = await RawClient.connect({ port, user, database: DATABASE, password }).catch(
            (error: unknown) => error,
          );
          assert.ok(failed instanceof LoginError && failed.fields.code === '28P01', `${user}: ${failed}`);
        }
      }
    }
  });

  test('users and databases are guessed by what is said to them', async () => {
    const known = await exchange(target, 'alice', DATABASE);
    for (const [user, database] of [
      ['bob', DATABASE],
      ['stranger', DATABASE],
      ['postgres', DATABASE],
      ['alice', 'nowhere'],
      ['stranger', 'nowhere'],
      ['stranger', 'template1'],
    ]) {
      assert.equal(await exchange(target, user, database), known, `${user} of ${database}`);
    }
  });

  test('users are guessed by the exchange and its iterations, where others need no password or have a verifier', async () => {
    const verifier = formatVerifier({ ...mockVerifier('zoe', randomBytes(32)), iterations: 12_345 });
    const section = (name: string, how: string) =>
      `[pools.mixed.users.${name}]\nusername = "${name}"\n${how}\nserver_password = "x"\npool_size = 1\n`;
    const shard = `[pools.mixed.shards.0]\ndatabase = "x"\nservers = [["127.0.0.1", 1, "primary"]]\n`;
    const users = section('any', 'auth_type = "trust"') + section('zoe', `password = "${verifier}"`);
    await using mixed = await TestProxy.start(cluster, {
      general: { validate_config: false },
      more: `[pools.mixed]\n${shard}${users}`,
    });
    const known = await exchange(mixed, 'zoe', 'mixed');
    assert.match(known, /i=12345/);
    for (const user of ['stranger', 'postgres', 'any2']) assert.equal(await exchange(mixed, user, 'mixed'), known);
  });

  test('users are guessed by how long an answer takes', async () => {
    const took_ms = async (user: string) => {
      const attacker = await RawClient.open(target);
      const began_at = performance.now();
      attacker.send(frontend.startup({ user, database: DATABASE }));
      attacker.send(arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abcdefgh'));
      await serverNonce(attacker);
      attacker.destroy();
      return performance.now() - began_at;
    };
    const known: number[] = [];
    const unknown: number[] = [];
    for (let round = 0; round < 41; round++) {
      known.push(await took_ms('bob'));
      unknown.push(await took_ms(`stranger${round % 3}`));
    }
    const [middle, other] = [known, unknown].map(times => times.sort((a, b) => a - b)[20]);
    // 4096 iterations of PBKDF2 take as long as a few answers.
    assert.ok(
      Math.abs(middle - other) < Math.max(1, Math.min(middle, other) / 2),
      `${middle} ms for a user, ${other} ms for a stranger`,
    );
  });
});

suite('after the login', () => {
  test('CVE-2026-107348: lengths and counts are at the edges of signed and unsigned', async () => {
    const messages = fc.array(arbitrary.edgyMessage, { minLength: 1, maxLength: 4 });
    const attack = fc.tuple(messages, fc.boolean()).map(
      ([messages, syncs]): Attack =>
        async attacker => {
          attacker.send(toTrust);
          await attacker.ready();
          attacker.send(...messages, ...(syncs ? [frontend.sync()] : []));
        },
    );
    await target.withstandsAll(attack, { runs: 10, size: 16 });
  });

  test('CVE-2026-6668: a message of gigabytes is held, as max_message_size would have it', async () => {
    const piece = Buffer.alloc(2 ** 20, 'x');
    const flood =
      (type: string, length: number): Attack =>
      async attacker => {
        attacker.send(toTrust);
        await attacker.ready();
        attacker.send(frontend.message(type, Buffer.from('\0'), length));
        for (let sent = 0; sent < 16 && !attacker.closed; sent++) {
          attacker.send(piece);
          await Promise.race([attacker.drained(), sleep(20)]);
        }
      };
    await target.withstands([
      ...['Q', 'P', 'B', 'F', 'd'].map(type => flood(type, 0x40000000)),
      ...['P', 'B', 'D', 'X', 'S'].map(type => flood(type, 0xffffffff)),
      ...['D', 'C', 'E', 'f', 'H'].map(type => flood(type, 0x3fffffff)),
    ]);
  });
});

suite('floods', () => {
  test('of logins that fail keep nobody out', async () => {
    const wrong: Attack = async attacker => {
      attacker.send(toScram, arbitrary.saslInitialResponse('SCRAM-SHA-256', 'n,,n=,r=abcdefgh'));
      const nonce = await serverNonce(attacker);
      attacker.send(frontend.saslResponse(Buffer.from(`c=biws,r=${nonce},p=${Buffer.alloc(32).toString('base64')}`)));
    };
    const over = target.withstands(Array.from({ length: 200 }, () => wrong));
    const bob = await RawClient.connect({
      port: target.port,
      user: 'bob',
      database: DATABASE,
      password: PASSWORDS.bob,
    });
    assert.deepEqual(rowsOf(await bob.query('SELECT 42')), [['42']]);
    await bob.close();
    await over;
  });

  test('of logins that never end are cut off, and keep nobody out', async () => {
    await using hasty = await TestProxy.start(cluster, { general: { client_login_timeout: 1200 } });
    const slow = await Promise.all(Array.from({ length: 200 }, () => RawClient.open(hasty)));
    for (const [index, attacker] of slow.entries()) attacker.send(toScram.subarray(0, index % toScram.length));
    const bob = await hasty.connect({ user: 'bob' });
    assert.deepEqual((await bob.query('SELECT 42 AS n')).rows, [{ n: 42 }]);
    await eventually('all of them are cut off', () => slow.every(attacker => attacker.closed));
    assert.deepEqual((await bob.query('SELECT 42 AS n')).rows, [{ n: 42 }]);
    await bob.end();
    for (const attacker of slow) attacker.destroy();
  });

  test('of cancel requests that guess hit nobody', async () => {
    const victim = await target.pglynx.connect();
    victim.send(frontend.query('SELECT pg_sleep(0.6)'));
    await asleep('SELECT pg_sleep(0.6)');
    const { pid } = victim;
    await target.withstands(
      Array.from({ length: 300 }, (_, index) =>
        bytes(frontend.cancelRequest(index % 2 === 0 ? pid : pid ^ index, randomBytes(4))),
      ),
    );
    assert.equal(errorOf(await victim.ready()), undefined);
    await victim.close();
  });

  test('of cancel requests with the right key make no flood of connections to the server, and hit nobody else', async () => {
    const attacker = await target.pglynx.connect();
    attacker.send(frontend.query('BEGIN'), frontend.query(STUBBORN));
    await asleep(STUBBORN);
    let peak = 0;
    const open = line.connections;
    const watch = setInterval(() => {
      peak = Math.max(peak, line.connections - open);
    }, 1);
    for (let round = 0; round < 2; round++) {
      const request = bytes(frontend.cancelRequest(attacker.pid, attacker.secret));
      await target.withstands(Array.from({ length: 100 }, () => request));
    }
    clearInterval(watch);
    assert.ok(peak >= 1 && peak <= 10, `${peak} connections more to the server`);
    attacker.send(frontend.query('ROLLBACK'));
    for (let count = 0; count < 3; count++) await attacker.ready();
    assert.deepEqual(rowsOf(await attacker.query('SELECT 42')), [['42']]);
    await attacker.close();
  });
});

/** Goes on for a second though it is canceled. */
const STUBBORN = `DO $$ DECLARE over timestamptz := clock_timestamp() + interval '1 s'; BEGIN
  WHILE clock_timestamp() < over LOOP
    BEGIN PERFORM pg_sleep(0.05); EXCEPTION WHEN query_canceled THEN NULL; END;
  END LOOP; END $$`;

async function asleep(text: string): Promise<void> {
  await eventually('it runs', async () =>
    (await cluster.activity()).some(({ query, state }) => state === 'active' && query === text),
  );
}
