/** The settings of encryption, towards clients and towards servers, and the rules between them. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as z from 'zod';
import { errorText } from '../errors.ts';
import { choice, integer, settingInfo, text, typeWords } from './setting.ts';
import { type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

const SERVER_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
const AUTH_METHODS = ['none', 'password', 'md5', 'scram-sha-256', 'scram-sha-256-plus'] as const;

/** How a server proves to be the right one, and pglynx that it may come in. */
export type ServerTlsMode = (typeof SERVER_MODES)[number];

/** A way of logging in to a server. */
export type ServerAuthMethod = (typeof AUTH_METHODS)[number];

/** How the connections to servers of one pool are encrypted. */
export interface ServerTlsSettings {
  readonly mode: ServerTlsMode;
  /** Names of files. Without a CA those that Node trusts count. */
  readonly ca: string | undefined;
  readonly certificate: string | undefined;
  readonly private_key: string | undefined;
}

/** PgCat's booleans stay: true is TLS where the server has it. */
function serverMode() {
  const mode = choice(SERVER_MODES);
  return z
    .preprocess(value => (value === true ? 'prefer' : value === false ? 'disable' : value), mode)
    .register(typeWords, { words: `boolean, ${SERVER_MODES.map(word => `"${word}"`).join(', ')}` });
}

/** [general]: towards clients. */
export const clientEncryption = {
  tls_certificate: text()
    .optional()
    .register(settingInfo, {
      reload: 'live',
      unset: 'no TLS',
      description:
        'File with the certificate shown to clients, those of intermediate authorities behind it; turns TLS for clients on. ' +
        'When the file is renewed, those who come then are shown the new one; nobody is disconnected.',
    }),
  tls_private_key: text().optional().register(settingInfo, {
    reload: 'live',
    unset: 'no TLS',
    description: 'File with the key of `tls_certificate`, without a passphrase.',
  }),
  tls_client_ca: text()
    .optional()
    .register(settingInfo, {
      reload: 'live',
      unset: 'clients are not asked for certificates',
      description:
        'File with the authorities that sign the certificates of clients. Clients need not have one, but one that does not check out ' +
        'is refused. pglynx only.',
    }),
  tls_mode: choice(['disable', 'allow', 'require'])
    .default('allow')
    .register(settingInfo, {
      reload: 'live',
      description:
        'Whether clients may encrypt (`allow`, once there is a certificate), must (`require`, those at Unix sockets aside) or ' +
        'cannot (`disable`). pglynx only.',
    }),
};

/** [general]: towards servers. */
export const serverEncryption = {
  server_tls: serverMode()
    .default('disable')
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Encryption towards servers: where they have it (`true` or `prefer`), always (`require`), always and with a certificate ' +
        'of a known authority (`verify-ca`) that is for the name or address of the server (`verify-full`). Every pool starts from ' +
        'it. PgCat has the booleans only.',
    }),
  verify_server_certificate: z.boolean().default(false).register(settingInfo, {
    reload: 'pools',
    description: 'Makes `verify-full` of every `server_tls` that is on and verifies nothing.',
  }),
  server_tls_ca: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'the authorities that Node trusts',
    description:
      'File with the authorities that sign the certificates of servers. Every pool starts from it. pglynx only.',
  }),
  server_tls_certificate: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'File with the certificate that servers are shown. Every pool starts from it. pglynx only.',
  }),
  server_tls_private_key: text().optional().register(settingInfo, {
    reload: 'pools',
    unset: 'none',
    description: 'File with the key of `server_tls_certificate`, without a passphrase. pglynx only.',
  }),
  server_require_auth: z
    .array(choice(AUTH_METHODS))
    .min(1)
    .optional()
    .register(settingInfo, {
      reload: 'pools',
      unset: 'any',
      description:
        "Ways in which pglynx logs in to servers, as libpq's `require_auth`: a server that asks for another, or for none, is " +
        'refused. `scram-sha-256-plus` is SCRAM bound to the certificate of the server. Every pool starts from it. pglynx only.',
    }),
  server_scram_iterations_max: integer(1, 2 ** 31 - 1)
    .default(100_000)
    .register(settingInfo, {
      reload: 'pools',
      description:
        'Most iterations of SCRAM that a server may ask for, each of which costs pglynx time; PostgreSQL asks for 4096. ' +
        'Every pool starts from it. pglynx only.',
    }),
};

const overrides = {
  reload: 'pools',
  unset: 'from [general]',
  description: 'Overrides [general]. pglynx only.',
} as const;

/** [pools.NAME]: towards servers. */
export const poolEncryption = {
  server_tls: serverMode().optional().register(settingInfo, overrides),
  server_tls_ca: text().optional().register(settingInfo, overrides),
  server_tls_certificate: text().optional().register(settingInfo, overrides),
  server_tls_private_key: text().optional().register(settingInfo, overrides),
  server_require_auth: z.array(choice(AUTH_METHODS)).min(1).optional().register(settingInfo, overrides),
  server_scram_iterations_max: integer(1, 2 ** 31 - 1)
    .optional()
    .register(settingInfo, overrides),
};

type General = z.output<z.ZodObject<typeof serverEncryption>>;
type Pool = z.output<z.ZodObject<typeof poolEncryption>>;

/** What a pool runs with. */
export function serverTls(general: General, pool: Pool): ServerTlsSettings {
  const mode = pool.server_tls ?? general.server_tls;
  const isBlind = mode === 'prefer' || mode === 'require';
  const own = pool.server_tls_certificate === undefined ? general : pool;
  return {
    mode: isBlind && general.verify_server_certificate ? 'verify-full' : mode,
    ca: pool.server_tls_ca ?? general.server_tls_ca,
    certificate: own.server_tls_certificate,
    private_key: own.server_tls_private_key,
  };
}

type Report = (path: KeyPath, message: string) => void;

/** Every breach of the rules of encryption in [general]. */
export function checkEncryption(general: Table, pools: unknown, report: Report): void {
  checkPair(general, ['general'], 'tls_certificate', 'tls_private_key', report);
  for (const key of ['tls_client_ca', 'tls_mode']) {
    const asks = key === 'tls_mode' ? general[key] === 'require' : key in general;
    if (asks && !('tls_certificate' in general)) report(['general', key], 'needs tls_certificate beside it');
  }
  read(general, ['general'], 'tls_client_ca', parseCertificate, report);
  checkServer(general, ['general'], report);
  for (const [name, pool] of tablesIn(pools)) checkServer(pool, ['pools', name], report);
}

function checkServer(table: Table, at: KeyPath, report: Report): void {
  checkPair(table, at, 'server_tls_certificate', 'server_tls_private_key', report);
  read(table, at, 'server_tls_ca', parseCertificate, report);
}

/** A certificate and its key; PgCat takes a key alone for nothing. */
function checkPair(table: Table, at: KeyPath, certificate: string, key: string, report: Report): void {
  if (certificate in table && !(key in table)) report([...at, certificate], `needs ${key} beside it`);
  const shown = read(table, at, certificate, parseCertificate, report);
  const secret = read(table, at, key, pem => createPrivateKey(pem), report);
  if (shown !== undefined && secret !== undefined && !belongs(shown, secret))
    report([...at, key], `is not the key of ${certificate}`);
}

function belongs(certificate: X509Certificate, key: KeyObject): boolean {
  return certificate.checkPrivateKey(key);
}

function parseCertificate(pem: Buffer): X509Certificate {
  return new X509Certificate(pem);
}

/** What the file that `key` names holds; it is reported when that is not what it should be. */
function read<Value>(
  table: Table,
  at: KeyPath,
  key: string,
  parse: (pem: Buffer) => Value,
  report: Report,
): Value | undefined {
  const file = table[key];
  if (typeof file !== 'string' || file === '') return undefined;
  let pem: Buffer;
  try {
    pem = readFileSync(file);
  } catch (thrown) {
    report([...at, key], `names a file that cannot be read: ${errorText(thrown)}`);
    return undefined;
  }
  try {
    return parse(pem);
  } catch (thrown) {
    report([...at, key], `names a file that cannot be used: ${errorText(thrown)}`);
    return undefined;
  }
}

/** Settings of encryption towards servers that nothing is encrypted for. */
export function idleEncryption(file: Table): Notice[] {
  const message = 'has no effect without server_tls';
  const general = tablesIn({ general: file.general });
  const isOn = (table: Table) =>
    table.server_tls !== undefined && table.server_tls !== false && table.server_tls !== 'disable';
  const isAnyOn = [...general, ...tablesIn(file.pools)].some(([, table]) => isOn(table));
  if (isAnyOn) return [];
  const keys = ['verify_server_certificate', 'server_tls_ca', 'server_tls_certificate'];
  return general.flatMap(([name, table]) =>
    keys.filter(key => table[key] !== undefined && table[key] !== false).map(key => ({ path: [name, key], message })),
  );
}
