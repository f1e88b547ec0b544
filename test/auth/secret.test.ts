/** Configured passwords: their forms, MD5 answers, SASLprep, and the keys and verifiers made from them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { formatVerifier, ScramClient, ScramServer, type ScramVerifier } from '../../src/auth/scram.ts';
import {
  checkMd5,
  KeyCache,
  md5Response,
  mockVerifier,
  passwordKind,
  preparedPassword,
  scramNonce,
} from '../../src/auth/secret.ts';

const secret = Buffer.alloc(32, 's');
const salt = Buffer.from([1, 2, 3, 4]);
const md5Hash = `md5${createHash('md5').update('pencilmartha').digest('hex')}`;
const scramText =
  'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';

/** Whether a client with this password gets past this verifier. */
async function login(cache: KeyCache, password: string, verifier: ScramVerifier): Promise<boolean> {
  const client = new ScramClient(scramNonce());
  const server = new ScramServer(verifier, scramNonce());
  const challenge = client.serverFirst(server.first(client.first()));
  const keys = await cache.keys(password, challenge.salt, challenge.iterations);
  const reply = server.final(client.final(keys));
  return reply !== undefined && client.verify(reply);
}

test('the three forms of a password are told apart as PostgreSQL does', () => {
  assert.equal(passwordKind(md5Hash), 'md5');
  assert.equal(passwordKind(scramText), 'scram-sha-256');
  const plain = ['', 'pencil', 'md5', md5Hash.slice(0, -1), md5Hash.toUpperCase(), `${md5Hash}0`, 'SCRAM-SHA-256$x'];
  for (const password of plain) assert.equal(passwordKind(password), 'plain', password);
});

suite('md5', () => {
  test('a plain password and its hash answer alike', () => {
    assert.match(md5Response('martha', 'pencil', salt) ?? '', /^md5[0-9a-f]{32}$/);
    assert.equal(md5Response('martha', 'pencil', salt), md5Response('martha', md5Hash, salt));
  });

  test('the right answer is taken, and no other', () => {
    const response = md5Response('martha', 'pencil', salt) ?? '';
    assert.equal(checkMd5('martha', 'pencil', salt, response), true);
    assert.equal(checkMd5('martha', md5Hash, salt, response), true);
    assert.equal(checkMd5('martha', 'pencil', Buffer.from([1, 2, 3, 5]), response), false);
    assert.equal(checkMd5('arthur', 'pencil', salt, response), false);
    for (const wrong of ['', 'pencil', md5Hash, response.toUpperCase(), `${response}0`, response.slice(0, -1)]) {
      assert.equal(checkMd5('martha', 'pencil', salt, wrong), false, wrong);
    }
  });

  test('a SCRAM verifier and an unknown user have no answer', () => {
    assert.equal(md5Response('martha', scramText, salt), undefined);
    assert.equal(checkMd5('martha', scramText, salt, ''), false);
    assert.equal(checkMd5('martha', undefined, salt, ''), false);
  });
});

test('passwords are prepared by SASLprep, or left as they are where PostgreSQL leaves them', async () => {
  const pairs: [password: string, prepared: string][] = [
    ['', ''],
    ['pencil', 'pencil'],
    ['bell\x07', 'bell\x07'],
    ['I\u00adX', 'IX'],
    ['\u2168', 'IX'],
    ['\u00aa', 'a'],
    ['no\u00a0break', 'no break'],
    ['u\u0308', '\u00fc'],
    ['\u00fc\x07', '\u00fc\x07'],
    ['\u00ad', '\u00ad'],
    ['\u06271', '\u06271'],
    ['\u{1f600}\u00a0', '\u{1f600}\u00a0'],
    ['\ud800\u00a0', '\ud800\u00a0'],
  ];
  for (const [password, prepared] of pairs) assert.equal(await preparedPassword(password), prepared);
});

suite('the key cache', () => {
  test('many logins at once share one derivation, and later ones find it', async () => {
    const cache = new KeyCache(secret);
    const salt = Buffer.from('salt');
    const first = cache.keys('pencil', salt, 10);
    assert.equal(cache.keys('pencil', Buffer.from('salt'), 10), first);
    await first;
    assert.equal(cache.keys('pencil', salt, 10), first);
    for (const other of [cache.keys('Pencil', salt, 10), cache.keys('pencil', Buffer.from('Salt'), 10)]) {
      assert.notDeepEqual(await other, await first);
    }
    assert.notDeepEqual(await cache.keys('pencil', salt, 11), await first);
  });

  test('derives off the event loop', async () => {
    let done = false;
    const keys = new KeyCache(secret).keys('pencil', Buffer.from('salt'), 200_000).then(() => {
      done = true;
    });
    await setImmediate();
    assert.equal(done, false);
    await keys;
  });

  test('keeps no more than it may', async () => {
    const cache = new KeyCache(secret, 2);
    const first = cache.keys('a', Buffer.from('salt'), 1);
    await Promise.all(['b', 'c'].map(password => cache.keys(password, Buffer.from('salt'), 1)));
    assert.notEqual(cache.keys('a', Buffer.from('salt'), 1), first);
  });

  test('a derivation that fails is told to everybody and not remembered', async () => {
    const cache = new KeyCache(secret);
    const failed = cache.keys('pencil', Buffer.from('salt'), -1);
    await assert.rejects(failed, /iterations/);
    assert.notEqual(cache.keys('pencil', Buffer.from('salt'), -1).catch(String), failed);
  });
});

suite('the verifier of a client', () => {
  const cache = new KeyCache(secret);

  test('lets in the configured password, plain or as a verifier, and no other', async () => {
    for (const configured of ['pencil', scramText]) {
      const verifier = await cache.verifier('martha', configured);
      assert.equal(await login(cache, 'pencil', verifier), true);
      assert.equal(await login(cache, 'Pencil', verifier), false);
      assert.deepEqual(await cache.verifier('martha', configured), verifier);
    }
    assert.equal(formatVerifier(await cache.verifier('martha', scramText)), scramText);
  });

  test('lets in every way of typing a password that SASLprep makes one', async () => {
    const verifier = await cache.verifier('martha', 'gr\u00fcn\u2168');
    assert.equal(await login(cache, 'gru\u0308nIX', verifier), true);
    assert.equal(await login(cache, 'grun', verifier), false);
  });

  test('of an unknown user looks like any other and fits no password', async () => {
    const unknown = await cache.verifier('nobody', undefined);
    assert.deepEqual(unknown.salt, (await cache.verifier('nobody', undefined)).salt);
    assert.deepEqual(unknown.salt, (await cache.verifier('nobody', 'pencil')).salt);
    assert.deepEqual(unknown.salt, mockVerifier('nobody', secret).salt);
    assert.notDeepEqual(unknown.salt, mockVerifier('nobody', Buffer.alloc(32)).salt);
    assert.notDeepEqual(unknown.salt, (await cache.verifier('martha', undefined)).salt);
    assert.equal(unknown.iterations, (await cache.verifier('martha', 'pencil')).iterations);
    for (const password of ['', 'pencil']) assert.equal(await login(cache, password, unknown), false);
  });

  test('of a user with an md5 hash fits no password: the hash cannot prove it', async () => {
    assert.equal(await login(cache, 'pencil', await cache.verifier('martha', md5Hash)), false);
    assert.equal(await login(cache, md5Hash, await cache.verifier('martha', md5Hash)), false);
  });
});
