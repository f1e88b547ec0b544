/** The hash that channel binding takes of a certificate is the one that its signature has, or SHA-256. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { endPointHash } from '../../src/auth/binding.ts';
import { der } from '../tls/secure.ts';

const HASHES = {
  'server.crt': 'sha256',
  'renewed.crt': 'sha384',
  'signed-md5.crt': 'sha256',
  'signed-sha1.crt': 'sha256',
  'signed-sha512.crt': 'sha512',
  'signed-pss.crt': 'sha384',
};

for (const [file, hash] of Object.entries(HASHES)) {
  test(`${file}: ${hash}`, () => {
    assert.deepEqual(endPointHash(der(file)), createHash(hash).update(der(file)).digest());
  });
}

test('a signature without a hash binds nothing, and neither does what is no certificate', () => {
  assert.equal(endPointHash(der('signed-ed25519.crt')), undefined);
  const whole = der('server.crt');
  // The algorithm stands in front of the signature, the last 70 bytes or so.
  for (let length = 0; length < whole.length - 90; length++)
    assert.equal(endPointHash(whole.subarray(0, length)), undefined);
  for (const bytes of ['', '30', '3080', '308400000000', '3085ffffffffff', '30ff', '300330030500', '30053003300106']) {
    assert.equal(endPointHash(Buffer.from(bytes, 'hex')), undefined);
  }
});
