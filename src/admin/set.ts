/** SET of the admin database: changes a setting in memory, or takes note of what drivers set in every session. */
import { errorText, pgError } from '../errors.ts';
import type { Command } from './command.ts';
import type { ControlPlane } from './control.ts';

export const SET_USAGE = 'SET key = arg';

/** Session parameters of PostgreSQL that drivers set when they connect; they mean nothing here. */
const SESSION = new Set([
  'application_name',
  'bytea_output',
  'client_encoding',
  'client_min_messages',
  'datestyle',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'extra_float_digits',
  'intervalstyle',
  'lock_timeout',
  'role',
  'search_path',
  'standard_conforming_strings',
  'statement_timeout',
  'synchronous_commit',
  'timezone',
]);

/** Other forms of SET. */
const SESSION_FORMS =
  /^(?:TIME ZONE|NAMES|SESSION CHARACTERISTICS|SESSION AUTHORIZATION|TRANSACTION|CONSTRAINTS|ROLE)\b/i;
const ASSIGNMENT = /^((?:"[^"]*"|'[^']*'|[^=\s"']|\s(?!TO\s))+?)\s*(?:=|\sTO\s)\s*(\S.*)$/is;
const STEP = /\s*(?:"([^"]*)"|'([^']*)'|([\w*-]+))\s*(\.|$)/y;

/**
 * Understands the words behind SET.
 * @throws PgError it does not, or who asks may not change the configuration
 */
export function setCommand(words: readonly string[], control: ControlPlane, mayOnlyShow: boolean): Command {
  const text = words.join(' ').replace(/^(?:SESSION|LOCAL) (?!CHARACTERISTICS|AUTHORIZATION)/i, '');
  if (SESSION_FORMS.test(text)) return ACCEPTED;
  const [, key = '', value = ''] = ASSIGNMENT.exec(text) ?? [];
  const path = pathOf(key);
  if (path === undefined) throw pgError('admin_error', `usage: ${SET_USAGE}`);
  if (path.length === 1 && SESSION.has(path[0].toLowerCase())) return ACCEPTED;
  if (mayOnlyShow) throw pgError('show_only');
  const full = path.length === 1 ? ['general', ...path] : path;
  const run = async () => {
    try {
      await control.set(full, value);
    } catch (thrown) {
      throw pgError('admin_error', `nothing has changed: ${errorText(thrown)}`);
    }
    return { rows: [], notices: [] };
  };
  return { columns: undefined, tag: 'SET', run };
}

const ACCEPTED: Command = { columns: undefined, tag: 'SET', run: async () => ({ rows: [], notices: [] }) };

/** The steps of `pools."my db".pool_mode`. */
function pathOf(key: string): string[] | undefined {
  const path: string[] = [];
  let isOpen = true;
  for (STEP.lastIndex = 0; isOpen; ) {
    const found = STEP.exec(key);
    if (found === null) return undefined;
    const [, double, single, bare, dot] = found;
    path.push(double ?? single ?? bare);
    isOpen = dot === '.';
  }
  return path;
}
