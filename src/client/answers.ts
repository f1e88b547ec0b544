/** Answers what a client sends that needs no server: routing commands, a BEGIN that waits, statements known to all. */
import { type PgError, pgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { ServerConnection } from '../server/connection.ts';
import type { Exchange } from '../server/exchange.ts';
import { CLOSE_COMPLETE, commandComplete, PARSE_COMPLETE, readyForQuery } from '../wire/backend.ts';
import type { Framer } from '../wire/framer.ts';
import { FRONTEND, HEADER_LENGTH, STATUS } from '../wire/protocol.ts';
import type { Batch, BatchItem } from './batch.ts';
import type { Commands } from './commands.ts';
import type { SessionPhase } from './phases.ts';
import type { ClientStatements } from './statements.ts';

/** The session whose messages are answered. */
export interface AnsweredOwner {
  readonly phase: SessionPhase;
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  /** Transaction status of the client. */
  readonly status: number;
  readonly commands: Commands;
  readonly statements: ClientStatements;
  /** Answers a batch that ends in a message of this type with an error; inside a transaction, that fails as well. */
  refuse(error: PgError, type: number): void;
  /** The reply to a batch that need not be sent before the next one, if it is such. */
  defers(): Buffer | undefined;
}

export class Answers {
  readonly #owner: AnsweredOwner;
  readonly #outbox: Outbox;
  readonly #batch: Batch;

  constructor(owner: AnsweredOwner, outbox: Outbox, batch: Batch) {
    this.#owner = owner;
    this.#outbox = outbox;
    this.#batch = batch;
  }

  /** Whether a server has to do with the batch under way, so that it cannot be answered in front of one. */
  get inside(): boolean {
    const { phase, connection } = this.#owner;
    if (phase !== 'idle') return true;
    return !this.#batch.empty && (connection !== undefined || !this.#batch.items.every(needsNoServer));
  }

  /** Answers a message, or the head of one, that is about a routing command; false when it is for a server. */
  takesCommand({ type, buffer, start, end }: Framer, partial: boolean): boolean {
    const { commands, phase, exchange } = this.#owner;
    // The server skips it, whatever it is.
    if (phase === 'active' && exchange.skipping) return false;
    if (type === FRONTEND.query) {
      commands.interrupt();
      return (
        phase === 'idle' &&
        this.#batch.empty &&
        this.#takesCommandQuery(buffer, start, partial ? end : end - 1, partial)
      );
    }
    const { pending } = commands;
    if (type === FRONTEND.sync || type === FRONTEND.flush) {
      if (pending && type === FRONTEND.sync) this.#endCommands();
      return pending;
    }
    const answer = partial ? undefined : commands.take(type, buffer, start, end, this);
    if (answer !== undefined) {
      if (!this.inside) this.#tellKnown();
      this.#tell(answer, FRONTEND.flush);
    } else if (pending) this.#owner.refuse(pgError('command_in_batch'), FRONTEND.flush);
    return answer !== undefined || pending;
  }

  /** Answers a batch that is a simple query, if it needs no server. */
  takesQuery(): boolean {
    const reply = this.#deallocated() ?? this.#owner.defers();
    if (reply === undefined) return false;
    this.#batch.clear();
    this.#outbox.push(reply);
    this.#ready();
    return true;
  }

  /** Answers a batch that a Sync ends, if it needs no server. */
  takesSync(): boolean {
    if (this.inside) return false;
    this.#tellKnown();
    this.#ready();
    return true;
  }

  /** Answers a batch that needs no server so far. */
  #tellKnown(): void {
    for (const { type } of this.#batch.items)
      this.#outbox.push(type === FRONTEND.parse ? PARSE_COMPLETE : CLOSE_COMPLETE);
    this.#batch.clear();
  }

  /** Of what does not come whole, EXPLAIN ROUTE alone is a command. */
  #takesCommandQuery(buffer: Buffer, start: number, end: number, partial: boolean): boolean {
    const { commands } = this.#owner;
    const hint = commands.find(buffer, start + HEADER_LENGTH, end);
    if (hint === undefined || (partial && hint.command !== 'explain_route')) return false;
    if (this.#tell(commands.run(hint, buffer, end, !partial), FRONTEND.query)) this.#endCommands();
    return true;
  }

  /** Whether the command was carried out. */
  #tell(answer: Buffer[] | PgError, type: number): boolean {
    if (!Array.isArray(answer)) {
      this.#owner.refuse(answer, type);
      return false;
    }
    for (const bytes of answer) this.#outbox.push(bytes);
    return true;
  }

  #endCommands(): void {
    this.#owner.commands.end();
    this.#ready();
  }

  /** The reply to SQL's DEALLOCATE of a statement that the client prepared by protocol, whose name no server knows. */
  #deallocated(): Buffer | undefined {
    const { query, items } = this.#batch;
    const { statements, commands, status } = this.#owner;
    if (query?.deallocates === undefined || items.length !== 1 || status === STATUS.failed) return undefined;
    const name = Buffer.from(query.deallocates).toString('latin1');
    if (statements.close(name) === undefined && !commands.drop(name)) return undefined;
    return commandComplete('DEALLOCATE');
  }

  #ready(): void {
    this.#outbox.push(readyForQuery(this.#owner.status));
  }
}

/**
 * Whether pglynx answers a batch item without asking a server: the Close of a statement that servers keep for others,
 * and the Parse of BEGIN and its like, which no server could refuse. Clients prepare those while others hold every
 * connection in transactions, and some (pgbench) let nobody go on until they are answered.
 */
function needsNoServer({ type, nameFrom, statement, name, taken }: BatchItem): boolean {
  if (type === FRONTEND.close) return nameFrom !== 0 && (statement?.isLong === false || name === '');
  if (type !== FRONTEND.parse || taken !== undefined || statement === undefined || statement.hasTypes) return false;
  return statement.analysis?.count === 1 && statement.analysis.transaction !== 'none';
}
