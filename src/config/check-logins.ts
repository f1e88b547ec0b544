/** Rules between the keys that say who may come in, and the file of auth_hba_file. */
import { readFileSync } from 'node:fs';
import { errorText } from '../errors.ts';
import { WILDCARD } from './cluster.ts';
import { type Hba, parseHba } from './hba.ts';
import { isTable, type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

const AUTH_QUERY = ['auth_query', 'auth_query_user', 'auth_query_password'];

type Report = (path: KeyPath, message: string) => void;

/** Every breach in `file`; looks only at values of the right type. */
export function checkLogins(file: Table): Notice[] {
  const problems: Notice[] = [];
  const report: Report = (path, message) => problems.push({ path, message });
  const general = isTable(file.general) ? file.general : {};
  checkStats(general, report);
  checkType('admin_auth_type', general, general, ['general'], report);
  checkAuthQuery(general, ['general'], '', report);
  checkQuery(general, ['general'], report);
  for (const [name, pool] of tablesIn(file.pools)) checkPool(pool, general, name, report);
  return problems;
}

/** The lines of the file that auth_hba_file names, and what is wrong with it. */
export function readHba(file: Table): { hba: Hba | undefined; problems: Notice[] } {
  const name = isTable(file.general) ? file.general.auth_hba_file : undefined;
  if (typeof name !== 'string' || name === '') return { hba: undefined, problems: [] };
  const path = ['general', 'auth_hba_file'];
  try {
    const { hba, problems } = parseHba(readFileSync(name, 'utf8'));
    const message = problems.map(problem => `${name}:${problem.line}: ${problem.message}`).join('; ');
    if (message !== '') return { hba, problems: [{ path, message }] };
    const isBlind = hba.wantsCertificates && isTable(file.general) && !('tls_client_ca' in file.general);
    return { hba, problems: isBlind ? [{ path, message: 'asks for certificates, and needs tls_client_ca' }] : [] };
  } catch (thrown) {
    return { hba: undefined, problems: [{ path, message: `names a file that cannot be read: ${errorText(thrown)}` }] };
  }
}

function checkStats(general: Table, report: Report): void {
  const { stats_username, admin_username, admin_auth_type } = general;
  if (stats_username === undefined) return;
  if (stats_username === admin_username) report(['general', 'stats_username'], 'is admin_username, who may do more');
  if (needsPassword(admin_auth_type) && !('stats_password' in general)) {
    report(['general', 'stats_username'], 'needs stats_password (or stats_password_file)');
  }
}

/** What a way of logging in needs beside it. */
function checkType(key: string, table: Table, general: Table, at: KeyPath, report: Report): void {
  const needed = typeOf(table[key]) === 'hba' ? 'auth_hba_file' : typeOf(table[key]) === 'cert' ? 'tls_client_ca' : '';
  if (needed !== '' && !(needed in general)) report([...at, key], `needs ${needed} in [general]`);
}

function checkAuthQuery(table: Table, at: KeyPath, owner: string, report: Report): void {
  if (!('auth_query' in table)) return;
  const missing = AUTH_QUERY.filter(key => !(key in table));
  if (missing.length > 0) report([...at, 'auth_query'], `needs a value for ${missing.join(' and ')}${owner}`);
}

function checkQuery({ auth_query }: Table, at: KeyPath, report: Report): void {
  if (typeof auth_query !== 'string' || /\$1(?!\d)/.test(auth_query)) return;
  report([...at, 'auth_query'], 'has no $1, which stands for the name of the user');
}

function checkPool(pool: Table, general: Table, name: string, report: Report): void {
  const at = ['pools', name];
  const login = Object.fromEntries(
    AUTH_QUERY.flatMap(key => (key in pool ? [[key, pool[key]]] : key in general ? [[key, general[key]]] : [])),
  );
  if ('auth_query' in pool) checkAuthQuery(login, at, ` in pool ${name} or [general]`, report);
  checkQuery(pool, at, report);
  const fetchesPasswords = AUTH_QUERY.every(key => key in login);
  for (const [index, user] of tablesIn(pool.users)) {
    const path = [...at, 'users', index];
    checkType('auth_type', user, general, path, report);
    const given = 'password' in user || 'password_file' in user;
    if (given && user.username === WILDCARD) {
      report([...path, 'password'], 'would be the password of every user: "*" stands for those whom auth_query knows');
    } else if (!given && needsPassword(user.auth_type) && !fetchesPasswords) {
      report(path, 'needs a password (or password_file), because auth_query is not set');
    }
  }
  if (name === WILDCARD) return;
  for (const [number, { database }] of tablesIn(pool.shards)) {
    if (database === WILDCARD) report([...at, 'shards', number, 'database'], 'may be "*" in [pools."*"] only');
  }
}

/** `auth_type`s are spelled as the schema's choice takes them. */
function typeOf(written: unknown): string | undefined {
  return typeof written === 'string' ? written.toLowerCase().replaceAll('_', '') : undefined;
}

function needsPassword(auth_type: unknown): boolean {
  return !['trust', 'cert', 'hba'].includes(typeOf(auth_type) ?? '');
}
