/** The file of auth_hba_file, in the format of PostgreSQL's pg_hba.conf: who may come in from where, and how it is proved. */
import { isIP } from 'node:net';
import { type Addresses, addressesOf, sameHost, sameNet } from './addresses.ts';

/** How a line has a login proved. */
export type HbaMethod = 'trust' | 'reject' | 'md5' | 'scram-sha-256' | 'cert' | 'peer';

/** A login that asks which line it comes under. */
export interface HbaLogin {
  readonly database: string;
  readonly user: string;
  /** Undefined for a Unix socket. */
  readonly address: string | undefined;
  readonly encrypted: boolean;
}

/** One line. */
export interface HbaLine {
  /** Its number in the file. */
  readonly number: number;
  readonly type: HbaType;
  readonly databases: readonly Word[];
  readonly users: readonly Word[];
  /** Undefined for any. */
  readonly addresses: Addresses | undefined;
  readonly method: HbaMethod;
  /** The certificate wanted beside the method: a valid one, or one in the user's name. */
  readonly clientcert: 'verify-ca' | 'verify-full' | undefined;
}

/** A mistake in the file. */
export interface HbaProblem {
  readonly line: number;
  readonly message: string;
}

const TYPES = ['local', 'host', 'hostssl', 'hostnossl'] as const;
type HbaType = (typeof TYPES)[number];

const METHODS = ['trust', 'reject', 'md5', 'scram-sha-256', 'cert', 'peer'] as const;

/** PostgreSQL's other methods, and why they are not here. */
const REFUSED: ReadonlyMap<string, string> = new Map([
  ['password', 'would have the password sent as it is; use scram-sha-256'],
]);

/** One word; within quotes it is no keyword. */
interface Word {
  readonly text: string;
  readonly quoted: boolean;
}

/** The lines of a file, asked from the top. */
export class Hba {
  /** What the file holds. */
  readonly text: string;
  readonly lines: readonly HbaLine[];

  constructor(text: string, lines: readonly HbaLine[]) {
    this.text = text;
    this.lines = lines;
  }

  /** Whether some line wants a client to have a certificate. */
  get wantsCertificates(): boolean {
    return this.lines.some(({ method, clientcert }) => method === 'cert' || clientcert !== undefined);
  }

  /** The first line that this login comes under. */
  match(login: HbaLogin): HbaLine | undefined {
    return this.lines.find(
      line =>
        typeFits(line.type, login) &&
        line.databases.some(word => databaseFits(word, login)) &&
        line.users.some(word => isKeyword(word, 'all') || word.text === login.user) &&
        (line.addresses === undefined || (login.address !== undefined && line.addresses.includes(login.address))),
    );
  }
}

/** Reads the text of a file; its lines count only when there is no problem. */
export function parseHba(text: string): { hba: Hba; problems: HbaProblem[] } {
  const lines: HbaLine[] = [];
  const problems: HbaProblem[] = [];
  for (const { number, text: line } of logicalLines(text)) {
    try {
      const fields = fieldsOf(line);
      if (fields.length > 0) lines.push(lineOf(number, fields));
    } catch (thrown) {
      if (!(thrown instanceof Mistake)) throw thrown;
      problems.push({ line: number, message: thrown.message });
    }
  }
  return { hba: new Hba(text, lines), problems };
}

/** Why a line cannot be used. */
class Mistake extends Error {}

function typeFits(type: HbaType, { address, encrypted }: HbaLogin): boolean {
  if (type === 'local' || address === undefined) return type === 'local' && address === undefined;
  return type === 'host' || (type === 'hostssl') === encrypted;
}

function databaseFits(word: Word, { database, user }: HbaLogin): boolean {
  if (isKeyword(word, 'all')) return true;
  // Replication is not for poolers: nobody comes under it.
  if (isKeyword(word, 'replication')) return false;
  return isKeyword(word, 'sameuser') ? database === user : word.text === database;
}

function isKeyword({ text, quoted }: Word, keyword: string): boolean {
  return !quoted && text === keyword;
}

/** Lines with those that a backslash continues, by the number of the first; comments are left out. */
function* logicalLines(text: string): Generator<{ number: number; text: string }> {
  const lines = text.split(/\r?\n/);
  for (let at = 0; at < lines.length; at++) {
    const number = at + 1;
    let line = lines[at] ?? '';
    while (line.endsWith('\\') && at + 1 < lines.length) line = line.slice(0, -1) + lines[++at];
    yield { number, text: line };
  }
}

/** Fields are lists of words; a comma behind a word goes on with the list. */
function fieldsOf(line: string): Word[][] {
  const fields: Word[][] = [];
  const pattern = /[\s,]*((?:"[^"]*"|[^\s,"#])+)(,?)|[\s,]*(#.*)?$|[\s,]*"/y;
  let isOpen = false;
  while (pattern.lastIndex < line.length) {
    const match = pattern.exec(line);
    if (match === null) break;
    const [whole, word, comma] = match;
    if (whole.endsWith('"') && word === undefined) throw new Mistake('has a quote that does not end');
    if (word === undefined) break;
    const found = { text: word.replaceAll('"', ''), quoted: word.startsWith('"') };
    const field = isOpen ? fields.at(-1) : undefined;
    if (field === undefined) fields.push([found]);
    else field.push(found);
    isOpen = comma === ',';
  }
  return fields;
}

function lineOf(number: number, fields: readonly (readonly Word[])[]): HbaLine {
  const [first, databases = [], users = []] = fields;
  const type = typeOf(single(first, 'a connection type'));
  if (databases.length === 0) throw new Mistake('ends before its databases');
  if (users.length === 0) throw new Mistake('ends before its users');
  checkNames(databases, users);
  const { addresses, taken } = type === 'local' ? { addresses: undefined, taken: 3 } : addressField(fields);
  const method = methodOf(single(fields[taken], 'a method'), type);
  const clientcert = optionsOf(fields.slice(taken + 1), type);
  return { number, type, databases, users, addresses, method, clientcert };
}

function single(field: readonly Word[] | undefined, what: string): string {
  const [word, ...more] = field ?? [];
  if (word === undefined) throw new Mistake(`ends before ${what}`);
  if (more.length > 0) throw new Mistake(`has a list in the place of ${what}`);
  return word.text;
}

function typeOf(word: string): HbaType {
  const type = TYPES.find(known => known === word);
  if (type !== undefined) return type;
  const why = /^(include|@)/.test(word) ? ': other files are not read' : `; ${TYPES.join(', ')} are`;
  throw new Mistake(`begins with ${JSON.stringify(word)}, which is no connection type here${why}`);
}

function checkNames(databases: readonly Word[], users: readonly Word[]): void {
  for (const word of [...databases, ...users]) {
    if (word.quoted) continue;
    const { text } = word;
    if (text.startsWith('+')) throw new Mistake(`names the role ${text}: pglynx does not know who its members are`);
    if (text.startsWith('@')) throw new Mistake(`names the file ${text}: other files are not read`);
    if (text.startsWith('/')) throw new Mistake(`holds ${text}: regular expressions are not supported`);
  }
  const group = databases.find(word => isKeyword(word, 'samerole') || isKeyword(word, 'samegroup'));
  if (group !== undefined) throw new Mistake(`holds ${group.text}: pglynx does not know who the members of roles are`);
}

function addressField(fields: readonly (readonly Word[])[]): { addresses: Addresses | undefined; taken: number } {
  const text = single(fields[3], 'an address');
  if (text === 'all') return { addresses: undefined, taken: 4 };
  if (text === 'samehost') return { addresses: sameHost(), taken: 4 };
  if (text === 'samenet') return { addresses: sameNet(), taken: 4 };
  const [address = '', length] = text.split('/');
  if (isIP(address) === 0) {
    throw new Mistake(`has the address ${JSON.stringify(text)}: only numeric addresses are supported, no names`);
  }
  const mask = length ?? single(fields[4], 'the mask of its address');
  const addresses = addressesOf(address, mask);
  if (addresses === undefined) throw new Mistake(`has the mask ${JSON.stringify(mask)}, which does not fit ${address}`);
  return { addresses, taken: length === undefined ? 5 : 4 };
}

function methodOf(word: string, type: HbaType): HbaMethod {
  const method = METHODS.find(known => known === word);
  if (method === undefined) {
    throw new Mistake(`has the method ${word}, which ${REFUSED.get(word) ?? 'is not supported'}`);
  }
  if (method === 'cert' && type !== 'hostssl') throw new Mistake('has the method cert, which needs the type hostssl');
  if (method === 'peer' && type !== 'local') throw new Mistake('has the method peer, which needs the type local');
  return method;
}

function optionsOf(fields: readonly (readonly Word[])[], type: HbaType): HbaLine['clientcert'] {
  let clientcert: HbaLine['clientcert'];
  for (const field of fields) {
    const option = single(field, 'an option');
    const [, value] = /^clientcert=(verify-ca|verify-full)$/.exec(option) ?? [];
    if (value !== 'verify-ca' && value !== 'verify-full') {
      throw new Mistake(`has the option ${option}, which is not supported; clientcert is verify-ca or verify-full`);
    }
    if (type !== 'hostssl') throw new Mistake('has the option clientcert, which needs the type hostssl');
    clientcert = value;
  }
  return clientcert;
}
