/** PgCat's routing commands: SET SERVER ROLE, SHOW SERVER ROLE, SET PRIMARY READS, SHOW PRIMARY READS. */

const ROLES = ['primary', 'replica', 'any', 'auto', 'default'] as const;
const READS = ['on', 'off', 'default'] as const;

/** A command in a client's simple query. */
export type Hint =
  | { readonly command: 'set_server_role'; readonly value: (typeof ROLES)[number] }
  | { readonly command: 'show_server_role' }
  | { readonly command: 'set_primary_reads'; readonly value: (typeof READS)[number] }
  | { readonly command: 'show_primary_reads' };

/** A command may be longer than this only by blanks that nobody writes. */
const HINT_LENGTH_MAX = 128;

const SET_ROLE = /^\s*set\s+server\s+role\s+to\s+'?(\w+)'?\s*;?\s*$/i;
const SET_READS = /^\s*set\s+primary\s+reads\s+to\s+'?(\w+)'?\s*;?\s*$/i;
const SHOW_ROLE = /^\s*show\s+server\s+role\s*;?\s*$/i;
const SHOW_READS = /^\s*show\s+primary\s+reads\s*;?\s*$/i;

/** The command that `text` is, if it is one and nothing else. */
export function parseHint(text: string): Hint | undefined {
  if (text.length > HINT_LENGTH_MAX) return undefined;
  if (SHOW_ROLE.test(text)) return { command: 'show_server_role' };
  if (SHOW_READS.test(text)) return { command: 'show_primary_reads' };
  const role = choice(ROLES, SET_ROLE.exec(text));
  if (role !== undefined) return { command: 'set_server_role', value: role };
  const reads = choice(READS, SET_READS.exec(text));
  return reads === undefined ? undefined : { command: 'set_primary_reads', value: reads };
}

/** What a command chooses, among what it may choose. */
function choice<Value extends string>(values: readonly Value[], match: RegExpExecArray | null): Value | undefined {
  const chosen = match?.[1].toLowerCase();
  return values.find(value => value === chosen);
}

/** Whether a query's bytes could be a command: they begin, after blanks, with SET or SHOW. */
export function mayBeHint(buffer: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at < end && buffer[at] <= 0x20) at++;
  if ((buffer[at] | 0x20) !== 0x73) return false; // s
  const second = buffer[at + 1] | 0x20;
  if (second === 0x68) return true; // sh
  return second === 0x65 && (buffer[at + 2] | 0x20) === 0x74; // set
}
