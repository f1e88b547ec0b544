/** The commands that a client gives pglynx in SQL's place: PgCat's SET SHARD and its kin, and EXPLAIN ROUTE. */
import { commentEnd, decode, isBlank, isWordByte, shardNumber, show } from './comments.ts';

const SHARDS = ['any', 'default'] as const;
const ROLES = ['primary', 'replica', 'any', 'auto', 'default'] as const;
const READS = ['on', 'off', 'default'] as const;

/** A command that is a text of its own. */
export type Hint =
  | { readonly command: 'set_sharding_key'; readonly value: string }
  | { readonly command: 'set_shard'; readonly value: number | 'any' | 'default' }
  | { readonly command: 'show_shard' }
  | { readonly command: 'set_server_role'; readonly value: (typeof ROLES)[number] }
  | { readonly command: 'show_server_role' }
  | { readonly command: 'set_primary_reads'; readonly value: (typeof READS)[number] }
  | { readonly command: 'show_primary_reads' }
  /** `from` is where the explained text begins in the buffer. */
  | { readonly command: 'explain_route'; readonly from: number }
  /** One of these commands with a value that it cannot have. */
  | { readonly command: 'invalid'; readonly message: string };

/** A command with its blanks and comments is not longer than this, what EXPLAIN ROUTE explains apart. */
const HINT_LENGTH_MAX = 4096;

interface Value {
  readonly text: string;
  readonly quoted: boolean;
}

interface Setter {
  readonly words: readonly string[];
  readonly takes: string;
  readonly hint: (value: Value) => Hint | undefined;
}

const SETTERS: readonly Setter[] = [
  {
    words: ['sharding', 'key'],
    takes: 'a whole number, or any text in quotes',
    hint: ({ text, quoted }) =>
      quoted || /^-?\d+$/.test(text) ? { command: 'set_sharding_key', value: text } : undefined,
  },
  {
    words: ['shard'],
    takes: 'the number of a shard, ANY or DEFAULT',
    hint: ({ text }) => {
      const value = SHARDS.find(shard => shard === text.toLowerCase()) ?? shardNumber(text);
      return value === undefined ? undefined : { command: 'set_shard', value };
    },
  },
  {
    words: ['server', 'role'],
    takes: 'primary, replica, any, auto or default',
    hint: ({ text }) => {
      const value = ROLES.find(role => role === text.toLowerCase());
      return value === undefined ? undefined : { command: 'set_server_role', value };
    },
  },
  {
    words: ['primary', 'reads'],
    takes: 'on, off or default',
    hint: ({ text }) => {
      const value = READS.find(reads => reads === text.toLowerCase());
      return value === undefined ? undefined : { command: 'set_primary_reads', value };
    },
  },
];

const SHOWS: readonly (readonly [readonly string[], Hint])[] = [
  [['shard'], { command: 'show_shard' }],
  [['server', 'role'], { command: 'show_server_role' }],
  [['primary', 'reads'], { command: 'show_primary_reads' }],
];

/** Whether a text could be a command: it begins with a comment, or after blanks with SET, SHO or EXP. */
export function mayBeHint(buffer: Buffer, start: number, end: number): boolean {
  const last = Math.min(end, start + HINT_LENGTH_MAX);
  let at = start;
  while (at < last && isBlank(buffer[at])) at++;
  const second = buffer[at + 1] | 0x20;
  const third = buffer[at + 2] | 0x20;
  switch (buffer[at] | 0x20) {
    case 0x73: // set, sho
      return (second === 0x65 && third === 0x74) || (second === 0x68 && third === 0x6f);
    case 0x65: // exp
      return second === 0x78 && third === 0x70;
    case 0x2d:
    case 0x2f:
      return commentEnd(buffer, at, Math.min(at + 2, last)) > at; // its first two bytes are enough
    default:
      return false;
  }
}

/** The command that the text from `start` to `end` is, if it is one and nothing else. */
export function parseHint(buffer: Buffer, start: number, end: number): Hint | undefined {
  const scanner = new Scanner(buffer, start, end);
  if (scanner.words(['set'])) return parseSet(scanner);
  if (scanner.words(['show'])) return parseShow(scanner);
  if (!scanner.words(['explain', 'route'])) return undefined;
  return { command: 'explain_route', from: scanner.blanksEnd };
}

function parseSet(scanner: Scanner): Hint | undefined {
  const setter = SETTERS.find(({ words }) => scanner.words(words));
  // SET shard.setting is PostgreSQL's.
  if (setter === undefined || scanner.byte('.')) return undefined;
  const name = `SET ${setter.words.join(' ').toUpperCase()}`;
  const takes = `${name} TO takes ${setter.takes}`;
  const value = scanner.words(['to']) || scanner.byte('=') ? scanner.value() : undefined;
  if (value === undefined) return invalid(takes);
  const hint = setter.hint(value);
  if (hint === undefined) return invalid(`${takes}, not ${show(value.text)}`);
  return scanner.ended ? hint : invalid(`${takes}, and nothing may follow`);
}

function parseShow(scanner: Scanner): Hint | undefined {
  for (const [words, hint] of SHOWS) {
    if (!scanner.words(words)) continue;
    if (scanner.byte('.')) return undefined;
    return scanner.ended ? hint : invalid(`nothing may follow SHOW ${words.join(' ').toUpperCase()}`);
  }
  return undefined;
}

function invalid(message: string): Hint {
  return { command: 'invalid', message };
}

/** Reads words and values off a text, with blanks and comments between them. */
class Scanner {
  readonly #buffer: Buffer;
  readonly #end: number;
  /** Where the text ends, or as much of it as is looked at. */
  readonly #last: number;
  /** Behind what was read last. */
  at: number;

  constructor(buffer: Buffer, start: number, end: number) {
    this.#buffer = buffer;
    this.#end = end;
    this.#last = Math.min(end, start + HINT_LENGTH_MAX);
    this.at = start;
  }

  /** Whether these words come next, in any case; moves behind them if so. */
  words(words: readonly string[]): boolean {
    let at = this.at;
    for (const word of words) {
      at = this.#skip(at);
      for (let n = 0; n < word.length; n++) if ((this.#buffer[at + n] | 0x20) !== word.charCodeAt(n)) return false;
      at += word.length;
      if (at > this.#last || (at < this.#last && isWordByte(this.#buffer[at]))) return false;
    }
    this.at = at;
    return true;
  }

  /** Whether this character comes next; moves behind it if so. */
  byte(character: string): boolean {
    const at = this.#skip(this.at);
    if (at >= this.#last || this.#buffer[at] !== character.charCodeAt(0)) return false;
    this.at = at + 1;
    return true;
  }

  /** The value that comes next; undefined for none, and for one whose quotes are never closed or that is no text. */
  value(): Value | undefined {
    const from = this.#skip(this.at);
    const quote = this.#buffer[from];
    if (from >= this.#last) return undefined;
    if (quote === 0x22 || quote === 0x27) return this.#quoted(from, quote);
    let to = from;
    while (to < this.#last && !this.#ends(to)) to++;
    this.at = to;
    return to === from ? undefined : { text: this.#buffer.toString('utf8', from, to), quoted: false };
  }

  /** Whether nothing but blanks, comments and semicolons is left. */
  get ended(): boolean {
    let at = this.#skip(this.at);
    while (at < this.#last && this.#buffer[at] === 0x3b) at = this.#skip(at + 1);
    return at === this.#end;
  }

  /** Behind the blanks that come next. */
  get blanksEnd(): number {
    let at = this.at;
    while (at < this.#last && isBlank(this.#buffer[at])) at++;
    return at;
  }

  #quoted(from: number, quote: number): Value | undefined {
    let to = from + 1;
    for (; to < this.#last; to++) {
      if (this.#buffer[to] !== quote) continue;
      if (to + 1 >= this.#last || this.#buffer[to + 1] !== quote) break;
      to++;
    }
    if (to >= this.#last) return undefined;
    const text = decode(this.#buffer, from + 1, to);
    if (text === undefined || text.includes('\0')) return undefined;
    this.at = to + 1;
    const one = String.fromCharCode(quote);
    return { text: text.replaceAll(one + one, one), quoted: true };
  }

  /** Whether a bare value ends before this byte. */
  #ends(at: number): boolean {
    const byte = this.#buffer[at];
    if (isBlank(byte) || byte === 0x3b || byte === 0x22 || byte === 0x27) return true;
    return commentEnd(this.#buffer, at, Math.min(at + 2, this.#last)) > at;
  }

  /** The first byte from `at` that is neither blank nor comment. */
  #skip(at: number): number {
    for (;;) {
      while (at < this.#last && isBlank(this.#buffer[at])) at++;
      const after = commentEnd(this.#buffer, at, this.#last);
      if (after === at) return at;
      at = after;
    }
  }
}
