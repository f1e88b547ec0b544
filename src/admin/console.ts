/** The console of the admin database: turns a text into commands, and says of each what it returns and what it does. */
import { pgError } from '../errors.ts';
import { commandComplete, noticeResponse } from '../wire/backend.ts';
import { message } from '../wire/frontend.ts';
import { BACKEND } from '../wire/protocol.ts';
import type { Command, Outcome } from './command.ts';
import type { ControlPlane } from './control.ts';
import { SET_USAGE, setCommand } from './set.ts';
import { TABLES } from './show.ts';
import { VERBS } from './verbs.ts';
import { statementsOf } from './words.ts';

/** What is known of whoever asks: its session parameters, by PostgreSQL's names. */
export type SessionParameters = ReadonlyMap<string, string>;

/** A session parameter that drivers ask for though no server reports it; PgBouncer answers the same. */
const UNREPORTED: SessionParameters = new Map([['default_transaction_isolation', 'read committed']]);

const SILENT: Outcome = { rows: [], notices: [] };

export class Console {
  readonly #control: ControlPlane;
  readonly #mayOnlyShow: boolean;

  /** `mayOnlyShow`: for clients that may look and change nothing. */
  constructor(control: ControlPlane, mayOnlyShow = false) {
    this.#control = control;
    this.#mayOnlyShow = mayOnlyShow;
  }

  /**
   * The commands of `sql`, at least one. All are understood before the first can run.
   * @throws PgError one of them is none of the console's
   */
  commands(sql: string, parameters: SessionParameters): Command[] {
    const statements = statementsOf(sql);
    return statements.length === 0 ? [BLANK] : statements.map(words => this.#command(words, parameters));
  }

  #command(words: readonly string[], parameters: SessionParameters): Command {
    const [verb = '', object = ''] = words.map(word => word.toUpperCase());
    if (verb === 'SET') return setCommand(words.slice(1), this.#control, this.#mayOnlyShow);
    if (this.#mayOnlyShow && verb !== 'SHOW' && verb !== 'SELECT') throw pgError('show_only');
    if (verb === 'SHOW') return this.#show(object, parameters);
    const known = VERBS.get(verb);
    if (known !== undefined) return known.command(words.slice(1), this.#control);
    if (verb === 'SELECT' && words.includes('pg_catalog.pg_type')) return NO_TYPES;
    throw pgError('admin_error', 'Unsupported query against the admin database');
  }

  #show(object: string, parameters: SessionParameters): Command {
    const table = TABLES.get(object);
    if (table !== undefined) {
      const run = async () => ({ rows: table.rows(this.#control), notices: [] });
      return { columns: table.columns, tag: table.tag, run };
    }
    if (object === 'HELP') return HELP;
    const parameter = [...parameters, ...UNREPORTED].find(([name]) => name.toUpperCase() === object);
    if (parameter === undefined) throw pgError('admin_error', 'Unsupported SHOW query against the admin database');
    const [name, value] = parameter;
    return { columns: [{ name, type: 'text' }], tag: 'SHOW', run: async () => ({ rows: [[value]], notices: [] }) };
  }
}

/** The last message that a command is answered with. */
export function completion({ tag }: Command): Buffer {
  return tag === undefined ? EMPTY_QUERY_RESPONSE : commandComplete(tag);
}

const EMPTY_QUERY_RESPONSE = message(BACKEND.emptyQueryResponse, Buffer.alloc(0));

const BLANK: Command = { columns: undefined, tag: undefined, run: async () => SILENT };

const HELP: Command = {
  columns: undefined,
  tag: 'SHOW',
  run: async () => {
    const usages = Array.from(VERBS.values(), ({ usage }) => usage);
    const lines = [`SHOW ${['HELP', ...TABLES.keys()].join('|')}`, SET_USAGE, ...usages];
    return { rows: [], notices: [noticeResponse('Console usage', lines.map(line => `\n\t${line}`).join(''))] };
  },
};

/** postgres.js asks for array types when it connects, and takes its process down when it gets an error. */
const NO_TYPES: Command = { columns: [], tag: 'SELECT 0', run: async () => SILENT };
