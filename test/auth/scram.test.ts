/** SCRAM-SHA-256: the RFC's vector, both sides against each other, and every way to break a message. */
import assert from 'node:assert/strict';
import { pbkdf2Sync } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import {
  deriveKeys,
  formatVerifier,
  MAX_MESSAGE_BYTES,
  parseVerifier,
  ScramClient,
  ScramError,
  type ScramKeys,
  ScramServer,
  type ScramVerifier,
} from '../../src/auth/scram.ts';

const SALT = Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64');

/** The messages of RFC 7677 section 3: user "user", password "pencil". */
const RFC = {
  clientNonce: 'rOprNGfwEbeRWgbNEkqO',
  serverNonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
  clientFirst: 'n,,n=user,r=rOprNGfwEbeRWgbNEkqO',
  serverFirst: 'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
  clientFinal:
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  serverFinal: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
};

const keysOf = (password: string, salt: Buffer, iterations: number): ScramKeys =>
  deriveKeys(pbkdf2Sync(password, salt, iterations, 32, 'sha256'));

const verifierOf = (password: string, salt: Buffer, iterations: number): ScramVerifier => {
  const { storedKey, serverKey } = keysOf(password, salt, iterations);
  return { iterations, salt, storedKey, serverKey };
};

const pencil = verifierOf('pencil', SALT, 4096);
const pencilKeys = keysOf('pencil', SALT, 4096);
const printable = fc.stringMatching(/^[!-+\--~]{1,40}$/);

/** A whole login; each message may be changed on its way. True when both sides are content. */
function login(keys: ScramKeys, verifier: ScramVerifier, alter: (index: number, message: Buffer) => Buffer): boolean {
  const client = new ScramClient('client-nonce');
  const server = new ScramServer(verifier, 'server-nonce');
  const serverFirst = server.first(alter(0, client.first()));
  client.serverFirst(alter(1, serverFirst));
  const serverFinal = server.final(alter(2, client.final(keys)));
  return serverFinal !== undefined && client.verify(alter(3, serverFinal));
}

/**
 * Whether a login with altered messages gets in. A refusal by ScramError counts as false, and so does an alteration
 * that changed nothing; anything else thrown fails the test.
 */
function survives(alter: (index: number, message: Buffer) => Buffer): boolean {
  let altered = false;
  const watched = (index: number, message: Buffer) => {
    const result = alter(index, message);
    altered ||= !result.equals(message);
    return result;
  };
  try {
    return login(pencilKeys, pencil, watched) && altered;
  } catch (thrown) {
    assert.ok(thrown instanceof ScramError, `threw ${thrown}`);
    return false;
  }
}

const unchanged = (_index: number, message: Buffer) => message;
const at = (index: number, change: (message: Buffer) => Buffer) => (turn: number, message: Buffer) =>
  turn === index ? change(message) : message;
const text = (change: (message: string) => string) => (message: Buffer) => Buffer.from(change(message.toString()));

suite('the exchange', () => {
  test('the server gives the answers of RFC 7677', () => {
    const server = new ScramServer(pencil, RFC.serverNonce);
    assert.equal(server.first(Buffer.from(RFC.clientFirst)).toString(), RFC.serverFirst);
    assert.equal(server.final(Buffer.from(RFC.clientFinal))?.toString(), RFC.serverFinal);
  });

  test('the client reads the RFC message and names no user, as libpq', () => {
    const client = new ScramClient(RFC.clientNonce);
    assert.equal(client.first().toString(), `n,,n=,r=${RFC.clientNonce}`);
    assert.deepEqual(client.serverFirst(Buffer.from(RFC.serverFirst)), { salt: SALT, iterations: 4096 });
  });

  test('any right password gets in and any wrong one does not', () => {
    const salts = fc.uint8Array({ minLength: 1, maxLength: 40 }).map(bytes => Buffer.from(bytes));
    fc.assert(
      fc.property(
        fc.string(),
        fc.string(),
        salts,
        fc.integer({ min: 1, max: 50 }),
        (right, wrong, salt, iterations) => {
          const verifier = verifierOf(right, salt, iterations);
          assert.equal(login(keysOf(right, salt, iterations), verifier, unchanged), true);
          // HMAC pads its key with zeros, so passwords that differ only in those are one password.
          fc.pre(wrong.replace(/\0+$/, '') !== right.replace(/\0+$/, ''));
          assert.equal(login(keysOf(wrong, salt, iterations), verifier, unchanged), false);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('any nonces do, and bytes of a user name outside ASCII stay as they are', () => {
    fc.assert(
      fc.property(printable, printable, fc.constantFrom('n', 'y'), (clientNonce, serverNonce, flag) => {
        const server = new ScramServer(pencil, serverNonce);
        const bare = `n=grün,r=${clientNonce}`;
        const serverFirst = server.first(Buffer.from(`${flag},,${bare}`)).toString();
        assert.equal(serverFirst, `r=${clientNonce}${serverNonce},s=${SALT.toString('base64')},i=4096`);
        const header = Buffer.from(`${flag},,`).toString('base64');
        const wrongProof = `c=${header},r=${clientNonce}${serverNonce},p=${Buffer.alloc(32).toString('base64')}`;
        assert.equal(server.final(Buffer.from(wrongProof)), undefined);
      }),
    );
  });

  test('a server that does not know the password is found out', () => {
    const lying = { ...pencil, serverKey: Buffer.alloc(32, 7) };
    assert.equal(login(pencilKeys, lying, unchanged), false);
  });

  test('a proof counts once', () => {
    const server = new ScramServer(pencil, RFC.serverNonce);
    server.first(Buffer.from(RFC.clientFirst));
    server.final(Buffer.from(RFC.clientFinal));
    assert.throws(() => server.final(Buffer.from(RFC.clientFinal)), ScramError);
  });

  test('steps out of order are refused', () => {
    assert.throws(() => new ScramServer(pencil, 'n').final(Buffer.from(RFC.clientFinal)), ScramError);
    assert.throws(() => new ScramClient('n').final(pencilKeys), ScramError);
    assert.throws(() => new ScramClient('n').verify(Buffer.from(RFC.serverFinal)), ScramError);
  });
});

suite('a broken message', () => {
  const lengths: number[] = [];
  login(pencilKeys, pencil, (_index, message) => {
    lengths.push(message.length);
    return message;
  });
  const names = ['client-first', 'server-first', 'client-final', 'server-final'];

  for (const [index, name] of names.entries()) {
    const length = lengths[index] ?? 0;

    test(`${name}: no truncation gets in`, () => {
      for (let lost = 1; lost <= length; lost++) {
        assert.equal(survives(at(index, message => message.subarray(0, -lost))), false, `cut ${lost} before the end`);
      }
    });

    test(`${name}: no changed or added byte gets in`, () => {
      fc.assert(
        fc.property(fc.nat(200), fc.integer({ min: 0, max: 255 }), fc.boolean(), (place, byte, insert) => {
          const change = (message: Buffer) => {
            const start = place % message.length;
            const rest = message.subarray(insert ? start : start + 1);
            return Buffer.concat([message.subarray(0, start), Buffer.from([byte]), rest]);
          };
          assert.equal(survives(at(index, change)), false);
        }),
        { numRuns: 300 },
      );
    });

    test(`${name}: no other order or doubling of its attributes gets in`, () => {
      fc.assert(
        fc.property(fc.array(fc.nat(4), { minLength: 1, maxLength: 6 }), order => {
          const mix = text(message => {
            const parts = message.split(',');
            return order.map(place => parts[place % parts.length]).join(',');
          });
          assert.equal(survives(at(index, mix)), false);
        }),
        { numRuns: 300 },
      );
    });

    test(`${name}: longer than ${MAX_MESSAGE_BYTES} bytes is refused`, () => {
      const long = text(message => `${message},x=${'x'.repeat(MAX_MESSAGE_BYTES)}`);
      assert.throws(() => login(pencilKeys, pencil, at(index, long)), /longer than 4096/);
    });
  }

  test('no bytes at all make either side throw anything else', () => {
    const pieces = fc.constantFrom(
      'n,,',
      'y,,',
      'n=',
      ',r=',
      ',s=',
      ',i=',
      'c=biws',
      ',p=',
      'v=',
      'm=',
      'AAAA',
      '1',
      ',',
    );
    const made = fc.array(fc.oneof(pieces, fc.string({ maxLength: 4 })), { maxLength: 12 }).map(all => all.join(''));
    fc.assert(
      fc.property(fc.nat(3), made, (index, message) => {
        survives(at(index, () => Buffer.from(message)));
      }),
      { numRuns: 1000 },
    );
  });
});

suite('what PostgreSQL refuses', () => {
  const first = (message: string) => new ScramServer(pencil, 'server').first(Buffer.from(message));

  test('channel binding, which pglynx does not offer', () => {
    assert.throws(() => first('p=tls-server-end-point,,n=,r=abc'), /without channel binding/);
  });
  test('acting for somebody else', () => assert.throws(() => first('n,a=admin,n=,r=abc'), /authorization identity/));
  test('a mandatory extension in any place', () => {
    assert.throws(() => first('n,,m=must,n=,r=abc'), /unsupported SCRAM extension/);
    assert.throws(() => first('n,,n=,r=abc,m=must'), /unsupported SCRAM extension/);
    const client = new ScramClient('abc');
    assert.throws(() => client.serverFirst(Buffer.from('m=must,r=abcd,s=AAAA,i=1')), /unsupported SCRAM extension/);
  });
  test('an optional extension is no obstacle', () => {
    assert.match(first('n,,n=,r=abc,x=1,y=2').toString(), /^r=abcserver,/);
  });
  test('a client-final for another gs2 header', () => {
    const server = new ScramServer(pencil, RFC.serverNonce);
    server.first(Buffer.from(RFC.clientFirst.replace('n,,', 'y,,')));
    assert.throws(() => server.final(Buffer.from(RFC.clientFinal)), /channel-binding/);
  });
  test('a nonce that is empty, or holds what cannot be printed', () => {
    for (const nonce of ['', 'a b', 'a\tb', 'ä']) assert.throws(() => first(`n,,n=,r=${nonce}`), /nonce/);
  });
});

suite('a server that pglynx logs in to', () => {
  const read = (message: string, most?: number) =>
    new ScramClient('abc', undefined, most).serverFirst(Buffer.from(message));

  test('must extend the nonce', () => {
    for (const nonce of ['abc', 'ab', 'xabc', 'abx1']) {
      assert.throws(() => read(`r=${nonce},s=AAAA,i=1`), /nonce does not extend/);
    }
  });
  test('may ask for a hundred thousand iterations and no more, or for what the caller allows', () => {
    assert.equal(read('r=abcd,s=AAAA,i=100000').iterations, 100_000);
    assert.throws(() => read('r=abcd,s=AAAA,i=100001'), /100001 SCRAM iterations, more than the 100000 of/);
    assert.throws(() => read('r=abcd,s=AAAA,i=4097', 4096), /more than the 4096 of/);
    for (const count of ['0', '-1', '', '1e3', '0x10', ' 1', '99999999999999999999']) {
      assert.throws(() => read(`r=abcd,s=AAAA,i=${count}`), /iteration count/);
    }
  });
  test('must send real base64', () => {
    for (const salt of ['', 'AAA', 'AA*A', 'AAAA AAAA', 'AAA=AAAA']) {
      assert.throws(() => read(`r=abcd,s=${salt},i=1`), /base64/);
    }
  });
  test('may end the exchange with an error, which is told', () => {
    assert.throws(
      () =>
        login(
          pencilKeys,
          pencil,
          at(3, () => Buffer.from('e=other-error')),
        ),
      /other-error/,
    );
  });
});

suite('the stored verifier', () => {
  // The password and salt of RFC 7677, as pg_authid.rolpassword holds them.
  const stored =
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=';

  test('is read, and written as it was', () => {
    const verifier = parseVerifier(stored);
    assert.ok(verifier !== undefined);
    assert.deepEqual(verifier, pencil);
    assert.equal(formatVerifier(verifier), stored);
    assert.equal(login(pencilKeys, verifier, unchanged), true);
  });

  test('survives writing and reading, whatever it holds', () => {
    const bytes = (length: number) =>
      fc.uint8Array({ minLength: length, maxLength: length }).map(array => Buffer.from(array));
    fc.assert(
      fc.property(
        fc.record(
          {
            iterations: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
            salt: fc.integer({ min: 1, max: 64 }).chain(bytes),
            storedKey: bytes(32),
            serverKey: bytes(32),
          },
          { noNullPrototype: true },
        ),
        verifier => assert.deepEqual(parseVerifier(formatVerifier(verifier)), verifier),
      ),
    );
  });

  test('anything else is none', () => {
    const broken = ['', 'pencil', 'md5', stored.slice(0, -1), `${stored}=`, `${stored}:x`, stored.replace('4096', '0')];
    broken.push(stored.replace('4096', '4294967296'), stored.replace('SCRAM-SHA-256', 'SCRAM-SHA-1'));
    for (const value of broken) assert.equal(parseVerifier(value), undefined, value);
  });
});
