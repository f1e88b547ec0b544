/** The extended protocol of one admin client: its prepared statements and portals, which take no parameters. */
import { pgError } from '../errors.ts';
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  dataRow,
  NO_DATA,
  NO_PARAMETERS,
  PARSE_COMPLETE,
  rowDescription,
} from '../wire/backend.ts';
import { message } from '../wire/frontend.ts';
import { BACKEND, FRONTEND } from '../wire/protocol.ts';
import type { Command, Outcome } from './command.ts';
import { type Console, completion, type SessionParameters } from './console.ts';
import type { Fields } from './fields.ts';

/** Named statements that a session keeps, and portals between two Syncs. */
const NAMES_MAX = 100;

const PORTAL_SUSPENDED = message(BACKEND.portalSuspended, Buffer.alloc(0));

/** A command that is being executed. */
interface Portal {
  readonly command: Command;
  /** Once it has run. */
  outcome: Outcome | undefined;
  /** Rows sent so far. */
  sent: number;
}

/** Answers Parse, Bind, Describe, Execute and Close; every method throws PgError. */
export class Extended {
  readonly #console: Console;
  readonly #parameters: SessionParameters;
  readonly #statements = new Map<string, Command>();
  readonly #portals = new Map<string, Portal>();

  constructor(console: Console, parameters: SessionParameters) {
    this.#console = console;
    this.#parameters = parameters;
  }

  /** The messages that answer the message of this type; `signal` ends the wait of a command. */
  async answer(type: number, fields: Fields, signal: AbortSignal): Promise<Buffer[]> {
    switch (type) {
      case FRONTEND.parse:
        return [this.#parse(fields)];
      case FRONTEND.bind:
        return [this.#bind(fields)];
      case FRONTEND.describe:
        return this.#describe(fields);
      case FRONTEND.execute:
        return this.#execute(fields, signal);
      default:
        return [this.#close(fields)];
    }
  }

  /** The portals end with the transaction. */
  endTransaction(): void {
    this.#portals.clear();
  }

  #parse(fields: Fields): Buffer {
    const name = fields.string();
    const [command, ...more] = this.#console.commands(fields.string(), this.#parameters);
    if (more.length > 0) throw pgError('admin_error', 'Unsupported: several commands in one prepared statement');
    if (name !== '' && this.#statements.has(name)) {
      throw pgError('admin_error', `prepared statement "${name}" already exists`);
    }
    keep(this.#statements, name, command);
    return PARSE_COMPLETE;
  }

  #bind(fields: Fields): Buffer {
    const name = fields.string();
    const command = find(this.#statements, fields.string(), 'prepared statement');
    fields.skip(2 * fields.int16());
    const values = fields.int16();
    if (values !== 0) throw pgError('admin_error', 'Unsupported: the admin database takes no parameters');
    for (let left = fields.int16(); left > 0; left--) {
      if (fields.int16() !== 0) throw pgError('admin_error', 'Unsupported: the admin database sends text, not binary');
    }
    keep(this.#portals, name, { command, outcome: undefined, sent: 0 });
    return BIND_COMPLETE;
  }

  #describe(fields: Fields): Buffer[] {
    const isStatement = fields.kind() === 'S';
    const name = fields.string();
    const command = isStatement
      ? find(this.#statements, name, 'prepared statement')
      : find(this.#portals, name, 'portal').command;
    const row = command.columns === undefined ? NO_DATA : rowDescription(command.columns);
    return isStatement ? [NO_PARAMETERS, row] : [row];
  }

  /** Runs the portal at its first Execute; further ones send the rows that are left. */
  async #execute(fields: Fields, signal: AbortSignal): Promise<Buffer[]> {
    const portal = find(this.#portals, fields.string(), 'portal');
    const limit = fields.int32();
    const isFirst = portal.outcome === undefined;
    portal.outcome ??= await portal.command.run(signal);
    const { notices, rows } = portal.outcome;
    const from = portal.sent;
    portal.sent = limit > 0 ? Math.min(from + limit, rows.length) : rows.length;
    const end = portal.sent < rows.length ? PORTAL_SUSPENDED : completion(portal.command);
    return [...(isFirst ? notices : []), ...rows.slice(from, portal.sent).map(dataRow), end];
  }

  #close(fields: Fields): Buffer {
    const names = fields.kind() === 'S' ? this.#statements : this.#portals;
    names.delete(fields.string());
    return CLOSE_COMPLETE;
  }
}

function keep<Value>(names: Map<string, Value>, name: string, value: Value): void {
  if (names.size >= NAMES_MAX && !names.has(name)) {
    throw pgError(
      'admin_error',
      `${NAMES_MAX} prepared statements or portals are open, the most that a session may have`,
    );
  }
  names.set(name, value);
}

function find<Value>(names: ReadonlyMap<string, Value>, name: string, what: string): Value {
  const value = names.get(name);
  if (value === undefined) throw pgError('admin_error', `${what} "${name}" does not exist`);
  return value;
}
