/** The console of the admin database: turns a text into commands, and says of each what it returns and what it does. */
import { errorText, pgError } from '../errors.ts';
import { type Column, commandComplete, noticeResponse } from '../wire/backend.ts';
import { message } from '../wire/frontend.ts';
import { BACKEND } from '../wire/protocol.ts';
import type { ControlPlane } from './control.ts';
import { TABLES } from './show.ts';
import type { Row } from './table.ts';
import { statementsOf } from './words.ts';

/** What a command came to. */
export interface Outcome {
  readonly rows: readonly Row[];
  /** NoticeResponse messages, in front of the rows. */
  readonly notices: readonly Buffer[];
}

/** One statement, understood and not yet run. */
export interface Command {
  /** The columns of its rows; undefined when it returns none. */
  readonly columns: readonly Column[] | undefined;
  /** Tag of its CommandComplete; a blank text has none. */
  readonly tag: string | undefined;
  /**
   * Runs it.
   * @throws PgError why it failed
   */
  run(): Promise<Outcome>;
}

/** What is known of whoever asks: its session parameters, by PostgreSQL's names. */
export type SessionParameters = ReadonlyMap<string, string>;

/** PgCat's commands that pglynx doesn't have yet. */
const UNBUILT = ['BAN', 'UNBAN', 'PAUSE', 'RESUME'];

/** A session parameter that drivers ask for though no server reports it; PgBouncer answers the same. */
const UNREPORTED: SessionParameters = new Map([['default_transaction_isolation', 'read committed']]);

/** The commands beside SHOW, as SHOW HELP lists them. */
const VERBS = ['SET key = arg', 'RELOAD', 'SHUTDOWN'];

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
    const [verb, object = ''] = words.map(word => word.toUpperCase());
    if (this.#mayOnlyShow && verb !== 'SHOW' && verb !== 'SELECT') throw pgError('show_only');
    switch (verb) {
      case 'SHOW':
        return this.#show(object, parameters);
      case 'SET':
        return { columns: undefined, tag: 'SET', run: async () => SILENT };
      case 'RELOAD':
        return { columns: undefined, tag: 'RELOAD', run: () => this.#reload() };
      case 'SHUTDOWN':
        return { columns: [{ name: 'success', type: 'text' }], tag: 'SHUTDOWN', run: () => this.#shutdown() };
    }
    if (verb === 'SELECT' && words.includes('pg_catalog.pg_type')) return NO_TYPES;
    const unsupported = 'Unsupported query against the admin database';
    if (verb !== undefined && UNBUILT.includes(verb))
      throw pgError('admin_error', `${unsupported}: ${verb} is not built yet`);
    throw pgError('admin_error', unsupported);
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

  async #reload(): Promise<Outcome> {
    let changes: string[];
    try {
      changes = await this.#control.reload();
    } catch (thrown) {
      throw pgError('admin_error', `the configuration was not reloaded, nothing has changed: ${errorText(thrown)}`);
    }
    const notice =
      changes.length === 0
        ? noticeResponse('The configuration has not changed')
        : noticeResponse('The configuration was reloaded', changes.join('\n'));
    return { rows: [], notices: [notice] };
  }

  async #shutdown(): Promise<Outcome> {
    // The answer leaves first.
    setImmediate(() => this.#control.shutdown('drain'));
    return { rows: [['t']], notices: [] };
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
    const lines = [`SHOW ${['HELP', ...TABLES.keys()].join('|')}`, ...VERBS];
    return { rows: [], notices: [noticeResponse('Console usage', lines.map(line => `\n\t${line}`).join(''))] };
  },
};

/** postgres.js asks for array types when it connects, and takes its process down when it gets an error. */
const NO_TYPES: Command = { columns: [], tag: 'SELECT 0', run: async () => SILENT };
