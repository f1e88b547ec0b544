/** PgCat's routing commands: SET SERVER ROLE, SHOW SERVER ROLE, SET PRIMARY READS, SHOW PRIMARY READS. */

/** A command in a client's simple query. */
export type Hint =
  | { readonly command: 'set_server_role'; readonly value: 'primary' | 'replica' | 'any' | 'auto' | 'default' }
  | { readonly command: 'show_server_role' }
  | { readonly command: 'set_primary_reads'; readonly value: 'on' | 'off' | 'default' }
  | { readonly command: 'show_primary_reads' };

/** A command may be longer than this only by blanks that nobody writes. */
const HINT_LENGTH_MAX = 128;

const SET_ROLE = /^\s*set\s+server\s+role\s+to\s+'?(primary|replica|any|auto|default)'?\s*;?\s*$/i;
const SET_READS = /^\s*set\s+primary\s+reads\s+to\s+'?(on|off|default)'?\s*;?\s*$/i;
const SHOW_ROLE = /^\s*show\s+server\s+role\s*;?\s*$/i;
const SHOW_READS = /^\s*show\s+primary\s+reads\s*;?\s*$/i;

/** The command that `text` is, if it is one and nothing else. */
export function parseHint(text: string): Hint | undefined {
  if (text.length > HINT_LENGTH_MAX) return undefined;
  if (SHOW_ROLE.test(text)) return { command: 'show_server_role' };
  if (SHOW_READS.test(text)) return { command: 'show_primary_reads' };
  switch (SET_ROLE.exec(text)?.[1].toLowerCase()) {
    case 'primary':
      return { command: 'set_server_role', value: 'primary' };
    case 'replica':
      return { command: 'set_server_role', value: 'replica' };
    case 'any':
      return { command: 'set_server_role', value: 'any' };
    case 'auto':
      return { command: 'set_server_role', value: 'auto' };
    case 'default':
      return { command: 'set_server_role', value: 'default' };
  }
  switch (SET_READS.exec(text)?.[1].toLowerCase()) {
    case 'on':
      return { command: 'set_primary_reads', value: 'on' };
    case 'off':
      return { command: 'set_primary_reads', value: 'off' };
    case 'default':
      return { command: 'set_primary_reads', value: 'default' };
  }
  return undefined;
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
