/** The settings a client wants on whichever server connection serves it, and the SQL that brings them about. */
import { type PgError, pgError } from '../errors.ts';

/** Settings that servers report and that follow a client from connection to connection when it changes them. */
const FOLLOWED = new Set([
  'application_name',
  'client_encoding',
  'datestyle',
  'default_transaction_read_only',
  'intervalstyle',
  'search_path',
  'standard_conforming_strings',
  'timezone',
]);

/** Settings without which a statement must not run: it would have other rights. */
const RIGHTS = ['role', 'session_authorization'] as const;

/** Whether a reported change of this setting is the client's wish from now on. */
export function isFollowed(name: string): boolean {
  return FOLLOWED.has(name.toLowerCase());
}

/** A set of settings that differ from the server's defaults; equal sets of one catalog are the same object. */
export class SettingsProfile {
  /** Setting names in lower case, with their values. */
  readonly values: ReadonlyMap<string, string>;
  /** Those that a text's meaning may depend on when it is prepared: dates, escapes, encodings, names without schema. */
  readonly dialect: string;
  /** Whether it changes whose rights statements have, which a server may come to refuse. */
  readonly hasRights: boolean;

  constructor(values: ReadonlyMap<string, string>) {
    this.values = values;
    this.hasRights = RIGHTS.some(name => values.has(name));
    const meaningful = [...values].filter(([name]) => name !== 'application_name');
    this.dialect = meaningful.length === 0 ? '' : JSON.stringify(meaningful);
  }
}

/** Profiles kept by a catalog before it starts anew; they are small, and identity is only a short cut. */
const PROFILES_MAX = 1000;

/** The profiles in use by one cluster. */
export class ProfileCatalog {
  /** No setting differs from the server's defaults. */
  readonly defaults = new SettingsProfile(new Map());
  readonly #profiles = new Map<string, SettingsProfile>([['[]', this.defaults]]);

  /** The profile with these settings. */
  intern(values: ReadonlyMap<string, string>): SettingsProfile {
    const sorted = [...values].sort(([a], [b]) => (a < b ? -1 : 1));
    const key = JSON.stringify(sorted);
    let profile = this.#profiles.get(key);
    if (profile === undefined) {
      if (this.#profiles.size >= PROFILES_MAX) {
        this.#profiles.clear();
        this.#profiles.set('[]', this.defaults);
      }
      profile = new SettingsProfile(new Map(sorted));
      this.#profiles.set(key, profile);
    }
    return profile;
  }

  /** `profile` with one setting changed. */
  with(profile: SettingsProfile, name: string, value: string): SettingsProfile {
    return this.intern(new Map(profile.values).set(name.toLowerCase(), value));
  }
}

/** The SQL that takes a connection from one profile to another, or undefined when nothing differs. */
export function settingsSql(from: SettingsProfile, to: SettingsProfile): string | undefined {
  if (from === to) return undefined;
  const calls: string[] = [];
  for (const name of from.values.keys()) if (!to.values.has(name)) calls.push(setConfig(name, undefined));
  for (const [name, value] of to.values) if (from.values.get(name) !== value) calls.push(setConfig(name, value));
  return calls.length === 0 ? undefined : `SELECT ${calls.join(', ')}`;
}

/**
 * `set_config` takes a value as a startup packet does (SET would quote a list as one name); NULL resets. What it returns
 * may have no form in the client's encoding.
 */
function setConfig(name: string, value: string | undefined): string {
  return `pg_catalog.set_config(${quoteLiteral(name)}, ${value === undefined ? 'NULL' : quoteLiteral(value)}, false) IS NULL`;
}

/**
 * An SQL string literal that means `value` whatever standard_conforming_strings and client_encoding are: bytes beyond
 * ASCII are the server's, as in a startup packet.
 */
function quoteLiteral(value: string): string {
  const quoted = value.replaceAll("'", "''");
  if (/^[ -[\]-~]*$/.test(quoted)) return `'${quoted}'`;
  const escaped = Buffer.from(quoted.replaceAll('\\', '\\\\')).toString('latin1');
  return `E'${escaped.replace(/[^ -~]/g, byte => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)}'`;
}

/** Startup packet names that are not settings. */
const NOT_SETTINGS = new Set(['user', 'database', 'replication', 'options']);

/**
 * The settings a startup packet asks for: its own parameters and those in `options`.
 * @throws PgError syntax of `options` that PostgreSQL would refuse too, or a name no setting can have
 */
export function startupSettings(parameters: ReadonlyMap<string, string>): Map<string, string> {
  const settings = new Map<string, string>();
  const options = parameters.get('options');
  if (options !== undefined) for (const [name, value] of commandLineSettings(options)) settings.set(name, value);
  for (const [name, value] of parameters) {
    if (NOT_SETTINGS.has(name) || name.startsWith('_pq_.')) continue;
    settings.set(settingName(name), value);
  }
  return settings;
}

/** The error of a client whose settings a server refused in these words. */
export function settingsRefused({ message, sqlstate }: { message: string; sqlstate: string }): PgError {
  const error = pgError('parameter_refused', message);
  error.sqlstate = sqlstate;
  return error;
}

/** `-c name=value`, `-cname=value` and `--name=value`, separated by spaces, a backslash keeping a space in. */
function commandLineSettings(options: string): [string, string][] {
  const words = splitOptions(options);
  const settings: [string, string][] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    let assignment: string | undefined;
    if (word === '-c') assignment = words[++at];
    else if (word.startsWith('-c') || word.startsWith('--')) assignment = word.slice(2);
    const equals = assignment?.indexOf('=') ?? -1;
    if (assignment === undefined || equals <= 0) {
      throw pgError('invalid_startup_option', `invalid command-line argument for server process: ${word}`);
    }
    settings.push([settingName(assignment.slice(0, equals).replaceAll('-', '_')), assignment.slice(equals + 1)]);
  }
  return settings;
}

function splitOptions(options: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < options.length; at++) {
    const c = options[at];
    if (/\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + (c === '\\' ? (options[++at] ?? '') : c);
  }
  if (word !== undefined) words.push(word);
  return words;
}

function settingName(name: string): string {
  if (!/^[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*)*$/.test(name) || name.length > 200) {
    throw pgError('unknown_setting', name.slice(0, 200));
  }
  return name.toLowerCase();
}
