/** The settings of encryption: what they inherit, and which files and companions they need. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { clusterSettings } from '../../src/config/cluster.ts';
import { fixture } from '../tls/secure.ts';
import { afterLine, load, mistakes, SMALL } from './files.ts';

const folder = mkdtempSync(join(tmpdir(), 'pglynx-encryption-'));
after(() => rmSync(folder, { recursive: true }));

/** The file with these lines in [general], and these in the pool. */
function text(general: readonly string[], pool: readonly string[] = []): string {
  return SMALL.replace('[general]', ['[general]', ...general].join('\n')).replace(
    '[pools.db]',
    ['[pools.db]', ...pool].join('\n'),
  );
}

const named = (key: string, file: string) => `${key} = '${fixture(file)}'`;
const modeOf = (...files: Parameters<typeof text>) => clusterSettings(load(text(...files)).config)[0]?.server_tls.mode;

test('server_tls keeps the booleans of PgCat, and a pool overrides [general]', () => {
  assert.equal(modeOf([]), 'disable');
  assert.equal(modeOf(['server_tls = false']), 'disable');
  assert.equal(modeOf(['server_tls = true']), 'prefer');
  assert.equal(modeOf(['server_tls = "Verify-Full"']), 'verify-full');
  assert.equal(modeOf(['server_tls = "require"'], ['server_tls = false']), 'disable');
  assert.equal(modeOf([], ['server_tls = true']), 'prefer');
});

test('verify_server_certificate leaves no mode that verifies nothing', () => {
  const verify = 'verify_server_certificate = true';
  assert.equal(modeOf([verify, 'server_tls = true']), 'verify-full');
  assert.equal(modeOf([verify, 'server_tls = "require"']), 'verify-full');
  assert.equal(modeOf([verify, 'server_tls = "verify-ca"']), 'verify-ca');
  assert.equal(modeOf([verify], ['server_tls = "prefer"']), 'verify-full');
  assert.equal(modeOf([verify]), 'disable');
  assert.deepEqual(load(text([verify])).warnings, [
    'f.toml:2:1: general.verify_server_certificate: has no effect without server_tls',
  ]);
  assert.deepEqual(load(text([verify], ['server_tls = true'])).warnings, []);
});

test('a pool takes authorities and certificate of [general], or a whole pair of its own', () => {
  const pair = (name: string) => [
    named('server_tls_certificate', `${name}.crt`),
    named('server_tls_private_key', `${name}.key`),
  ];
  const general = ['server_tls = true', named('server_tls_ca', 'ca.crt'), ...pair('alice')];
  const settings = (pool: string[]) => clusterSettings(load(text(general, pool)).config)[0]?.server_tls;
  const [ca, certificate, private_key] = [fixture('ca.crt'), fixture('alice.crt'), fixture('alice.key')];
  assert.deepEqual(settings([]), { mode: 'prefer', ca, certificate, private_key });
  assert.deepEqual(settings([...pair('stranger'), named('server_tls_ca', 'stranger-ca.crt')]), {
    mode: 'prefer',
    ca: fixture('stranger-ca.crt'),
    certificate: fixture('stranger.crt'),
    private_key: fixture('stranger.key'),
  });
});

test('files that are missing, no certificates, or of another key are mistakes', () => {
  const missing = join(folder, 'none.key');
  const nonsense = join(folder, 'nonsense');
  writeFileSync(nonsense, 'nonsense');
  const certificate = named('tls_certificate', 'server.crt');
  assert.deepEqual(mistakes(afterLine(1, certificate, `tls_private_key = '${missing}'`)), [
    `3:19: general.tls_private_key: names a file that cannot be read: ENOENT: no such file or directory, open '${missing}'`,
  ]);
  assert.deepEqual(mistakes(afterLine(1, certificate, named('tls_private_key', 'renewed.key'))), [
    '3:19: general.tls_private_key: is not the key of tls_certificate',
  ]);
  const [spoiled] = mistakes(afterLine(1, `tls_certificate = '${nonsense}'`, named('tls_private_key', 'server.key')));
  assert.match(spoiled, /^2:19: general\.tls_certificate: names a file that cannot be used: /);
  for (const key of ['tls_client_ca', 'server_tls_ca']) {
    const lines = [certificate, named('tls_private_key', 'server.key'), `${key} = '${nonsense}'`];
    assert.match(mistakes(afterLine(1, ...lines))[0], new RegExp(`general.${key}: names a file that cannot be used: `));
  }
  const [ofPool] = mistakes(text([], ['server_tls = true', `server_tls_ca = '${missing}'`]));
  assert.match(ofPool, /^6:17: pools\.db\.server_tls_ca: names a file that cannot be read: /);
});

test('settings that need a certificate say so', () => {
  assert.deepEqual(mistakes(afterLine(1, 'tls_mode = "require"')), [
    '2:12: general.tls_mode: needs tls_certificate beside it',
  ]);
  assert.deepEqual(mistakes(afterLine(1, named('tls_client_ca', 'ca.crt'))), [
    '2:17: general.tls_client_ca: needs tls_certificate beside it',
  ]);
  assert.deepEqual(mistakes(text([], [named('server_tls_certificate', 'alice.crt')])), [
    '5:26: pools.db.server_tls_certificate: needs server_tls_private_key beside it',
  ]);
});
