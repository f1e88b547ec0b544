/** auth_hba_file: how its lines are read, which one a login comes under, and what is refused with the number of its line. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, suite, test } from 'node:test';
import { type HbaLogin, parseHba } from '../../src/config/hba.ts';
import { afterLine, load, mistakes } from './files.ts';

const LOGIN = { database: 'shop', user: 'alice', address: '10.1.2.3', encrypted: false } as const;

/** The method for a login, or the number of its line when `what` says so; every line must be right. */
function method(text: string, login: Partial<HbaLogin> = {}): string | undefined {
  const { hba, problems } = parseHba(text);
  assert.deepEqual(problems, []);
  return hba.match({ ...LOGIN, ...login })?.method;
}

function fits(line: string, login: Partial<HbaLogin> = {}): boolean {
  return method(line, login) !== undefined;
}

/** Complaints about `text`, each with its line. */
function problems(text: string): string[] {
  return parseHba(text).problems.map(({ line, message }) => `${line}: ${message}`);
}

suite('a line', () => {
  test('holds for the first login that it fits, from the top', () => {
    const text = [
      '# a comment',
      '',
      'host  shop  bob    10.0.0.0/8  reject',
      'host\tshop\tall\t10.1.0.0/16\tscram-sha-256 # and why',
      'host all all 0.0.0.0/0 md5',
    ].join('\n');
    assert.equal(method(text), 'scram-sha-256');
    assert.equal(method(text, { user: 'bob' }), 'reject');
    assert.equal(method(text, { database: 'other' }), 'md5');
    assert.equal(method(text, { address: '10.2.0.1', user: 'eve' }), 'md5');
    assert.equal(method(text, { address: '::1' }), undefined);
    assert.equal(method(''), undefined);
  });

  test('of each type is for its kind of connection', () => {
    const local: Partial<HbaLogin> = { address: undefined };
    const kinds = { local, plain: {}, encrypted: { encrypted: true } };
    for (const [type, expected] of [
      ['local all all trust', ['local']],
      ['host all all all trust', ['plain', 'encrypted']],
      ['hostssl all all all trust', ['encrypted']],
      ['hostnossl all all all trust', ['plain']],
    ] as const) {
      const found = Object.entries(kinds).filter(([, login]) => fits(type, login));
      assert.deepEqual(
        found.map(([name]) => name),
        expected,
        type,
      );
    }
  });

  test('takes lists of names, quoted ones as they are', () => {
    assert.ok(fits('host a,shop,b carol,alice all trust'));
    assert.ok(fits('host a, shop carol,\talice all trust'), 'a comma goes on with the list');
    assert.ok(fits('host "shop" "alice" all trust'));
    assert.ok(!fits('host shop,other bob,carol all trust'));
    assert.ok(!fits('host "all" all all trust'), 'a quoted keyword is a name');
    assert.ok(fits('host "all" all all trust', { database: 'all' }));
    assert.ok(fits('host all "with space" all trust', { user: 'with space' }));
    assert.ok(fits('host all "a,b" all trust', { user: 'a,b' }));
    assert.ok(fits('host all "+admins" all trust', { user: '+admins' }));
    assert.ok(fits('host all \\\n  alice \\\n all trust'), 'a backslash goes on with the line');
  });

  test('knows sameuser, and nobody comes for replication', () => {
    assert.ok(fits('host sameuser all all trust', { database: 'alice' }));
    assert.ok(!fits('host sameuser all all trust'));
    assert.ok(!fits('host replication all all trust', { database: 'replication' }));
    assert.ok(fits('host "replication" all all trust', { database: 'replication' }));
  });

  test('takes addresses with a length, with a mask, and of both families', () => {
    const from = (address: string, where: string) => fits(`host all all ${where} trust`, { address });
    for (const [address, where] of [
      ['10.1.2.3', '10.1.2.3/32'],
      ['10.1.2.3', '10.1.2.99/24'],
      ['10.1.2.3', '10.0.0.0 255.0.0.0'],
      ['10.1.2.3', '0.0.0.0/0'],
      ['10.1.2.3', 'all'],
      ['::ffff:10.1.2.3', '10.1.2.0/24'],
      ['2001:db8::1', '2001:db8::/32'],
      ['2001:db8::1', '2001:db8:: ffff:ffff::'],
      ['2001:db8::1', '::/0'],
      ['fe80::1%eth0', 'fe80::/10'],
      ['127.0.0.1', 'samehost'],
      ['::1', 'all'],
    ] as const) {
      assert.ok(from(address, where), `${address} in ${where}`);
    }
    for (const [address, where] of [
      ['10.1.2.3', '10.1.2.4/32'],
      ['11.1.2.3', '10.0.0.0 255.0.0.0'],
      ['2001:db9::1', '2001:db8::/32'],
      ['2001:db8::1', '0.0.0.0/0'],
      ['10.1.2.3', '::/0'],
      ['203.0.113.7', 'samehost'],
      ['203.0.113.7', 'samenet'],
    ] as const) {
      assert.ok(!from(address, where), `${address} in ${where}`);
    }
  });

  test('that is wrong is told with its number and the reason, all of them at once', () => {
    const text = [
      'host all all all trust',
      'hostgssenc all all all trust',
      'host all +admins all trust',
      'host @names all all trust',
      'host samerole all all trust',
      'host all /^a all trust',
      'host all all example.org trust',
      'host all all .example.org trust',
      'host all all 10.0.0.0/33 trust',
      'host all all 10.0.0.0 255.0.255.0 trust',
      'host all all 10.0.0.0 trust',
      'host all all all password',
      'host all all all ldap ldapserver=x',
      'host all all all peer',
      'host all all all cert',
      'hostssl all all all cert map=m',
      'host all all all md5 clientcert=verify-ca',
      'host all all all',
      'host all all',
      'local all',
      'local',
      'host "all all all trust',
      'include other.conf',
      'host all all all \\',
      'reject,trust',
    ].join('\n');
    assert.deepEqual(problems(text), [
      '2: begins with "hostgssenc", which is no connection type here; local, host, hostssl, hostnossl are',
      '3: names the role +admins: pglynx does not know who its members are',
      '4: names the file @names: other files are not read',
      '5: holds samerole: pglynx does not know who the members of roles are',
      '6: holds /^a: regular expressions are not supported',
      '7: has the address "example.org": only numeric addresses are supported, no names',
      '8: has the address ".example.org": only numeric addresses are supported, no names',
      '9: has the mask "33", which does not fit 10.0.0.0',
      '10: has the mask "255.0.255.0", which does not fit 10.0.0.0',
      '11: has the mask "trust", which does not fit 10.0.0.0',
      '12: has the method password, which would have the password sent as it is; use scram-sha-256',
      '13: has the method ldap, which is not supported',
      '14: has the method peer, which needs the type local',
      '15: has the method cert, which needs the type hostssl',
      '16: has the option map=m, which is not supported; clientcert is verify-ca or verify-full',
      '17: has the option clientcert, which needs the type hostssl',
      '18: ends before a method',
      '19: ends before an address',
      '20: ends before its users',
      '21: ends before its databases',
      '22: has a quote that does not end',
      '23: begins with "include", which is no connection type here: other files are not read',
      '24: has a list in the place of a method',
    ]);
  });

  test('may be any bytes without a fault of pglynx', () => {
    for (const text of [
      '\0',
      '"',
      '""',
      ',,,',
      '#',
      '\\',
      '"\n"',
      'host'.repeat(10_000),
      '\u{1F600} all all all trust',
    ]) {
      assert.ok(problems(text).length <= 2, JSON.stringify(text.slice(0, 20)));
    }
  });
});

suite('the file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pglynx-hba-'));
  const path = join(folder, 'hba.conf');
  after(() => rmSync(folder, { recursive: true }));

  test('is read with the configuration, and a mistake in it is one of the configuration', () => {
    writeFileSync(path, 'host all all all md5\nlocal all all peer\n');
    const text = afterLine(1, `auth_hba_file = ${JSON.stringify(path)}`, 'admin_auth_type = "hba"');
    assert.equal(load(text).hba?.lines.length, 2);
    assert.equal(load(afterLine(9, 'auth_type = "trust"')).hba, undefined);
    writeFileSync(path, 'host all all all md5\nhost all\n\nhost all +x all md5\n');
    assert.deepEqual(mistakes(text), [
      `2:17: general.auth_hba_file: ${path}:2: ends before its users; ${path}:4: names the role +x: pglynx does not know who its members are`,
    ]);
    assert.match(
      mistakes(text.replace('hba.conf', 'nowhere.conf')).join(),
      /auth_hba_file: names a file that cannot be read/,
    );
  });

  test('is needed where a user, or the administrator, logs in by it', () => {
    assert.deepEqual(mistakes(afterLine(2, 'admin_auth_type = "hba"')), [
      '3:19: general.admin_auth_type: needs auth_hba_file in [general]',
    ]);
    assert.deepEqual(mistakes(afterLine(9, 'auth_type = "HBA"')), [
      '10:13: pools.db.users.0.auth_type: needs auth_hba_file in [general]',
    ]);
  });

  test('that asks for certificates needs the authority that signs them, as "cert" does', () => {
    writeFileSync(path, 'hostssl all all all md5 clientcert=verify-ca\n');
    assert.deepEqual(mistakes(afterLine(1, `auth_hba_file = ${JSON.stringify(path)}`)), [
      '2:17: general.auth_hba_file: asks for certificates, and needs tls_client_ca',
    ]);
    assert.deepEqual(mistakes(afterLine(9, 'auth_type = "cert"')), [
      '10:13: pools.db.users.0.auth_type: needs tls_client_ca in [general]',
    ]);
  });
});
