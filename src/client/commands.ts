/** One client's routing commands, answered without a server, in the simple and the extended protocol. */
import { type PgError, pgError } from '../errors.ts';
import { type Hint, mayBeHint, parseHint } from '../routing/hints.ts';
import type { Router } from '../routing/router.ts';
import {
  BIND_COMPLETE,
  CLOSE_COMPLETE,
  type Column,
  commandComplete,
  dataRow,
  NO_DATA,
  NO_PARAMETERS,
  PARSE_COMPLETE,
  rowDescription,
} from '../wire/backend.ts';
import { stringEnd } from '../wire/frontend.ts';
import { FRONTEND, HEADER_LENGTH, STATUS } from '../wire/protocol.ts';

/** The session that commands are for. */
export interface CommandsOwner {
  readonly router: Router;
  /** Transaction status of the client. */
  readonly status: number;
  /** Rows of EXPLAIN ROUTE; `whole` unless the text goes on behind `end`. */
  explain(buffer: Buffer, start: number, end: number, whole: boolean): string[][];
  /** Why the choices of the router cannot be followed on the connection that the client keeps, if it cannot. */
  unfit(): PgError | undefined;
}

/** A command with the text that it came in. */
interface Command {
  readonly hint: Hint;
  readonly text: Buffer;
  /** Whether the text is all there. */
  readonly whole: boolean;
}

/** What answers a message about a command: replies, or why it fails; undefined when it is about something else. */
type Answer = Buffer[] | PgError | undefined;

/** Where a command stands. */
interface Surroundings {
  /** Whether a server has to do with the batch under way. */
  readonly inside: boolean;
}

/** Commands that a client may have prepared, the oldest making room for another, and portals of them in one batch. */
const NAMES_MAX = 100;

export class Commands {
  /** Whether the batch under way has a command, whose answers wait for its Sync or Flush. */
  pending = false;

  readonly #owner: CommandsOwner;
  readonly #prepared = new Map<string, Command>();
  readonly #portals = new Map<string, Command>();

  constructor(owner: CommandsOwner) {
    this.#owner = owner;
  }

  /** The command that a text is, if it is one. */
  find(buffer: Buffer, start: number, end: number): Hint | undefined {
    return mayBeHint(buffer, start, end) ? parseHint(buffer, start, end) : undefined;
  }

  /** Carries out a simple query's command: its replies but for ReadyForQuery, or why it fails. */
  run(hint: Hint, buffer: Buffer, end: number, whole: boolean): Buffer[] | PgError {
    const columns = columnsOf(hint);
    const done = this.#execute({ hint, text: buffer.subarray(0, end), whole });
    return columns === undefined || !Array.isArray(done) ? done : [rowDescription(columns), ...done];
  }

  /**
   * The replies to a message of the extended protocol that is about a command; undefined when it is not. A Parse of
   * something else takes the name of a command away from it. No command is taken `inside` a batch for a server.
   */
  take(type: number, buffer: Buffer, start: number, end: number, batch: Surroundings): Answer {
    if (type === FRONTEND.parse) return this.#parse(buffer, start, end, batch);
    if (this.#prepared.size === 0 && this.#portals.size === 0) return undefined;
    switch (type) {
      case FRONTEND.bind:
        return this.#bind(buffer, start, end, batch);
      case FRONTEND.describe:
        return this.#describe(buffer, start, end, batch);
      case FRONTEND.execute:
        return this.#run(buffer, start, end);
      case FRONTEND.close:
        return this.#close(buffer, start, end, batch);
      default:
        return undefined;
    }
  }

  /** The batch is over: the portals end with it. */
  end(): void {
    this.pending = false;
    if (this.#portals.size > 0) this.#portals.clear();
  }

  /** A simple query ends portals and the unnamed statement. */
  interrupt(): void {
    this.end();
    if (this.#prepared.size > 0) this.#prepared.delete('');
  }

  /** DEALLOCATE: whether there was a command of this name. */
  drop(name: string): boolean {
    return this.#prepared.delete(name);
  }

  /** DEALLOCATE ALL or DISCARD ALL: only the unnamed one stays. */
  clear(): void {
    for (const name of this.#prepared.keys()) if (name !== '') this.#prepared.delete(name);
  }

  #parse(buffer: Buffer, start: number, end: number, batch: Surroundings): Answer {
    const nameFrom = start + HEADER_LENGTH;
    const nameTo = stringEnd(buffer, nameFrom, end);
    if (nameTo === -1) return undefined;
    const isPlain = !mayBeHint(buffer, nameTo + 1, end);
    if (isPlain && this.#prepared.size === 0) return undefined;
    const textTo = isPlain ? -1 : stringEnd(buffer, nameTo + 1, end);
    const hint = textTo === -1 ? undefined : parseHint(buffer, nameTo + 1, textTo);
    const name = buffer.toString('latin1', nameFrom, nameTo);
    if (hint === undefined) {
      this.#prepared.delete(name);
      return undefined;
    }
    if (batch.inside) return pgError('command_in_batch');
    if (this.#prepared.size >= NAMES_MAX && !this.#prepared.has(name)) this.#forgetOldest();
    this.pending = true;
    this.#prepared.set(name, this.#copied(hint, buffer, nameTo + 1, textTo));
    return [PARSE_COMPLETE];
  }

  #forgetOldest(): void {
    for (const name of this.#prepared.keys()) {
      this.#prepared.delete(name);
      return;
    }
  }

  /** A command outlives the chunk that it came in. */
  #copied(hint: Hint, buffer: Buffer, from: number, to: number): Command {
    const moved = hint.command === 'explain_route' ? { ...hint, from: hint.from - from } : hint;
    return { hint: moved, text: Buffer.from(buffer.subarray(from, to)), whole: true };
  }

  #bind(buffer: Buffer, start: number, end: number, batch: Surroundings): Answer {
    const portalFrom = start + HEADER_LENGTH;
    const portalTo = stringEnd(buffer, portalFrom, end);
    const nameTo = portalTo === -1 ? -1 : stringEnd(buffer, portalTo + 1, end);
    if (nameTo === -1) return undefined;
    const portal = buffer.toString('latin1', portalFrom, portalTo);
    const command = this.#prepared.get(buffer.toString('latin1', portalTo + 1, nameTo));
    if (command === undefined) {
      this.#portals.delete(portal);
      return undefined;
    }
    if (batch.inside) return pgError('command_in_batch');
    if (this.#portals.size >= NAMES_MAX) return pgError('too_many_portals', NAMES_MAX);
    this.pending = true;
    this.#portals.set(portal, command);
    return [BIND_COMPLETE];
  }

  #describe(buffer: Buffer, start: number, end: number, batch: Surroundings): Answer {
    const { isStatement, command } = this.#named(buffer, start, end);
    if (command === undefined) return undefined;
    if (batch.inside) return pgError('command_in_batch');
    this.pending = true;
    const columns = columnsOf(command.hint);
    const row = columns === undefined ? NO_DATA : rowDescription(columns);
    return isStatement ? [NO_PARAMETERS, row] : [row];
  }

  #run(buffer: Buffer, start: number, end: number): Answer {
    const from = start + HEADER_LENGTH;
    const to = stringEnd(buffer, from, end);
    const command = to === -1 ? undefined : this.#portals.get(buffer.toString('latin1', from, to));
    return command === undefined ? undefined : this.#execute(command);
  }

  #close(buffer: Buffer, start: number, end: number, batch: Surroundings): Answer {
    const { isStatement, name, command } = this.#named(buffer, start, end);
    if (command === undefined) return undefined;
    (isStatement ? this.#prepared : this.#portals).delete(name);
    // A server knows nothing of it, but answers in order.
    return batch.inside ? undefined : [CLOSE_COMPLETE];
  }

  /** What a Describe or Close names. */
  #named(
    buffer: Buffer,
    start: number,
    end: number,
  ): { isStatement: boolean; name: string; command: Command | undefined } {
    const from = start + HEADER_LENGTH + 1;
    const isStatement = buffer[from - 1] === OF_STATEMENT;
    const to = stringEnd(buffer, from, end);
    const name = buffer.toString('latin1', from, Math.max(from, to));
    return { isStatement, name, command: (isStatement ? this.#prepared : this.#portals).get(name) };
  }

  #execute({ hint, text, whole }: Command): Buffer[] | PgError {
    const { router, status } = this.#owner;
    if (status === STATUS.failed) return pgError('in_failed_transaction');
    const { command } = hint;
    switch (command) {
      case 'show_shard':
        return one(router.chosenShard === undefined ? 'unset' : String(router.chosenShard));
      case 'show_server_role':
        return one(router.serverRole);
      case 'show_primary_reads':
        return one(router.primaryReads ? 'on' : 'off');
      case 'explain_route': {
        const rows = this.#owner.explain(text, hint.from, text.length, whole);
        return [...rows.map(dataRow), commandComplete('EXPLAIN')];
      }
      default: {
        if (status !== STATUS.idle && command !== 'invalid') return pgError('command_in_transaction', TAGS[command]);
        const refusal = router.attempt(hint, () => this.#owner.unfit());
        return refusal ?? [commandComplete(command === 'invalid' ? '' : TAGS[command])];
      }
    }
  }
}

const TAGS = {
  set_sharding_key: 'SET SHARDING KEY',
  set_shard: 'SET SHARD',
  set_server_role: 'SET SERVER ROLE',
  set_primary_reads: 'SET PRIMARY READS',
} as const;

/** The kind byte of Describe and Close: 'S' for a statement, 'P' for a portal. */
const OF_STATEMENT = 0x53;

function columnsOf({ command }: Hint): readonly Column[] | undefined {
  switch (command) {
    case 'show_shard':
      return [{ name: 'shard', type: 'text' }];
    case 'show_server_role':
      return [{ name: 'server role', type: 'text' }];
    case 'show_primary_reads':
      return [{ name: 'primary reads', type: 'text' }];
    case 'explain_route':
      return [
        { name: 'route', type: 'text' },
        { name: 'answer', type: 'text' },
      ];
    default:
      return undefined;
  }
}

function one(value: string): Buffer[] {
  return [dataRow([value]), commandComplete('SELECT 1')];
}
