/** Failed logins are counted for each user and address: what is refused, for how long, and who is not concerned. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Attempts } from '../../src/client/attempts.ts';
import { type Address, type Login, LoginError, RawClient } from '../client/raw.ts';
import { ADMIN, TestProxy } from '../proxy/index.ts';

const HOME = '10.0.0.1';
const AWAY = '10.0.0.2';

function limited(limit = 3, interval_ms = 1000): Attempts {
  return new Attempts({ limit: () => limit, interval_ms: () => interval_ms });
}

/** Makes logins fail until one is refused unseen, or `most` have; says how many failed. */
function fail(attempts: Attempts, user: string, address: string | undefined, now: number, most = 1000): number {
  for (let count = 0; count < most; count++) {
    const attempt = attempts.begin(address, user, now);
    if (attempt === undefined) return count;
    attempt.failed(now);
  }
  return most;
}

suite('failed logins', () => {
  test('of a user from an address are refused unseen past the limit, and one more after each interval', () => {
    const attempts = limited();
    assert.equal(fail(attempts, 'alice', HOME, 0), 3);
    assert.equal(fail(attempts, 'alice', HOME, 900), 0);
    assert.equal(fail(attempts, 'alice', HOME, 1000), 1);
    assert.equal(fail(attempts, 'alice', HOME, 1900), 0);
    assert.equal(fail(attempts, 'alice', HOME, 60_000), 3);
  });

  test('concern nobody at another address, and nobody else at this one', () => {
    const attempts = limited();
    fail(attempts, 'alice', HOME, 0);
    for (let host = 2; host < 200; host++) fail(attempts, 'alice', `10.0.0.${host}`, 0);
    assert.notEqual(attempts.begin('10.0.1.1', 'alice', 0), undefined);
    assert.notEqual(attempts.begin(HOME, 'bob', 0), undefined);
    assert.notEqual(attempts.begin(undefined, 'alice', 0), undefined);
  });

  test('of many users from one address are refused too', () => {
    const attempts = limited();
    let failed = 0;
    for (let user = 0; user < 1000; user++) failed += fail(attempts, `user${user}`, HOME, 0, 1);
    assert.equal(failed, 30);
    assert.equal(attempts.begin(HOME, 'anybody', 0), undefined);
    assert.notEqual(attempts.begin(AWAY, 'anybody', 0), undefined);
    assert.notEqual(attempts.begin(HOME, 'anybody', 1000), undefined);
  });

  test('from addresses of one IPv6 network count together', () => {
    const attempts = limited();
    assert.equal(fail(attempts, 'alice', '2001:db8:1:2::1', 0), 3);
    assert.equal(attempts.begin('2001:db8:1:2:ffff:ffff:ffff:ffff', 'alice', 0), undefined);
    assert.notEqual(attempts.begin('2001:db8:1:3::1', 'alice', 0), undefined);
  });

  test('of endless names take no endless memory: what is too long for a name counts together', () => {
    const attempts = limited();
    const failed = fail(attempts, 'a'.repeat(9000), HOME, 0);
    assert.equal(failed, 3);
    assert.equal(attempts.begin(HOME, `${'a'.repeat(9000)}b`, 0), undefined);
    assert.notEqual(attempts.begin(HOME, 'a'.repeat(63), 0), undefined);
  });

  test('are forgotten with a login that succeeds', () => {
    const attempts = limited();
    assert.equal(fail(attempts, 'alice', HOME, 0, 2), 2);
    attempts.begin(HOME, 'alice', 0)?.succeeded();
    assert.equal(fail(attempts, 'alice', HOME, 0), 3);
  });

  test('cannot be had cheaper by many at a time', () => {
    const attempts = limited();
    const together = Array.from({ length: 1000 }, () => attempts.begin(HOME, 'alice', 0));
    for (const attempt of together) attempt?.failed(0);
    assert.equal(attempts.begin(HOME, 'alice', 59_000), undefined, 'they wait for what was too much');
    assert.notEqual(attempts.begin(HOME, 'alice', 62_000), undefined, 'but not for ever');
  });

  test('that come to no end count for nothing, and a crowd with the right password is let in', () => {
    const attempts = limited();
    for (let round = 0; round < 100; round++) attempts.begin(HOME, 'alice', 0)?.abandoned();
    const crowd = Array.from({ length: 1000 }, () => attempts.begin(HOME, 'alice', 0));
    assert.ok(crowd.every(attempt => attempt !== undefined));
    for (const attempt of crowd) attempt?.succeeded();
    assert.equal(fail(attempts, 'alice', HOME, 0), 3);
  });

  test('are any number with a limit of 0', () => {
    assert.equal(fail(limited(0), 'alice', HOME, 0), 1000);
  });

  test('are remembered of so many addresses only', () => {
    const attempts = limited(1);
    for (let host = 0; host < 50_000; host++)
      fail(attempts, 'alice', `10.${host >> 16}.${(host >> 8) & 255}.${host & 255}`, 0, 1);
    assert.notEqual(attempts.begin('10.0.0.0', 'alice', 0), undefined, 'the oldest is forgotten');
    assert.equal(attempts.begin('10.0.195.79', 'alice', 0), undefined, 'the newest is not');
  });
});

// Only Linux has all of 127.0.0.0/8.
const skip = process.platform === 'linux' ? false : 'this machine has one address only';

test('a client that guesses is told to wait, by address and user, and the others log in', { skip }, async () => {
  const nowhere = { servers: [{ host: '127.0.0.1', port: 1 }] };
  const general = { login_failure_limit: 2, login_failure_interval: 3_600_000, validate_config: false };
  await using proxy = await TestProxy.start(nowhere, { general });
  const right: Address & Login = { port: proxy.port, user: ADMIN.user, database: 'pgcat', password: ADMIN.password };
  const wrong = { ...right, password: 'a guess' };
  const code = (login: Address & Login) =>
    RawClient.connect(login).then(
      async client => {
        await client.close();
        return 'in';
      },
      (error: unknown) => (error instanceof LoginError ? error.fields.code : error),
    );
  for (let round = 0; round < 2; round++) assert.equal(await code(wrong), '28P01');
  assert.equal(await code(wrong), '28000');
  assert.equal(await code(right), '28000', 'the password is not looked at');
  assert.equal(await code({ ...wrong, database: 'bench' }), '28000', 'whatever the database');
  assert.equal(await code({ ...wrong, user: 'somebody' }), '28P01');
  assert.equal(await code({ ...right, from: '127.0.0.2' }), 'in');
  assert.equal(await code(right), '28000');
});
