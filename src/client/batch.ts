/** A client's messages up to Query, Sync or Flush: what they say, which statements they name, what they leave behind. */
import type { Undo } from '../server/exchange.ts';
import { type PreparedStatement, type StatementCatalog, splitParse } from '../server/prepared.ts';
import { EFFECT, type Statement, unparsedStatement } from '../sql/statement.ts';
import { mayLeaveState } from '../sql/suspicion.ts';
import { nameStart, stringEnd } from '../wire/frontend.ts';
import { FRONTEND, HEADER_LENGTH } from '../wire/protocol.ts';
import type { ClientSettings } from './settings.ts';
import type { ClientStatements } from './statements.ts';

/** Analyses SQL text with PostgreSQL's grammar. */
export interface Inspector {
  analyzeText(text: string): Statement;
}

/** One message of a batch: `buffer[start, end)`, perhaps only the head of a long one. */
export interface BatchItem {
  readonly type: number;
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
  /** The statement that a Parse, Bind, Describe or Close names; undefined for an unknown name and other messages. */
  readonly statement: PreparedStatement | undefined;
  /** The client's name for it, bytes read as Latin-1; of an Execute with `undo`, the name it drops, '' being all. */
  readonly name: string;
  /** Where that name stands. */
  readonly nameFrom: number;
  readonly nameTo: number;
  /** A Parse under a name that is taken: whose it is. */
  readonly taken: PreparedStatement | undefined;
  readonly undo: Undo | undefined;
}

/** Type of an item that stands for a Sync of pglynx's own. */
export const OWN_SYNC = 0;

/** What a batch needs to read its messages. */
export interface BatchContext {
  readonly inspector: Inspector;
  readonly catalog: StatementCatalog;
  readonly statements: ClientStatements;
  readonly settings: ClientSettings;
}

export class Batch {
  readonly items: BatchItem[] = [];
  /** Bytes gathered. */
  length = 0;
  /** Whether every statement is provably a read; undefined while none has been inspected. */
  read: boolean | undefined;
  /** Bits of EFFECT that its statements may leave. */
  effects = 0;
  /** Whether it binds or executes anything, so that work is done before a Sync comes. */
  runs = false;
  /** Whether it ends in a message that is answered by ReadyForQuery, for the client or for pglynx. */
  sealed = false;
  /** Analysis of the batch's Query, if it is one and was inspected. */
  query: Statement | undefined;

  readonly #context: BatchContext;
  /** Items whose assumptions were taken back. */
  #undone = 0;
  /** Whether it binds DEALLOCATE or DISCARD ALL. */
  #drops = false;

  constructor(context: BatchContext) {
    this.#context = context;
  }

  get empty(): boolean {
    return this.items.length === 0;
  }

  /** Whether it only prepares and describes, and its replies are wanted now. */
  get preparesOnly(): boolean {
    return !this.runs && this.items.at(-1)?.type === FRONTEND.flush;
  }

  /** Ends in a Sync of pglynx's own instead of its Flush, so that no connection is held until the client's. */
  sealItself(): void {
    this.items.pop();
    this.#push(OWN_SYNC, EMPTY, 0, 0);
    this.sealed = true;
  }

  /** Starts over, keeping nothing. */
  clear(): void {
    this.items.length = 0;
    this.length = 0;
    this.read = undefined;
    this.effects = 0;
    this.runs = false;
    this.sealed = false;
    this.query = undefined;
    this.#undone = 0;
    this.#drops = false;
  }

  /** Takes back what the messages so far assumed, the newest first: they have no effect. */
  undo(): void {
    for (let at = this.items.length - 1; at >= this.#undone; at--) this.items[at].undo?.undo(false);
    this.#undone = this.items.length;
  }

  /** Forgets the messages and what they assumed: they will not be sent. */
  abandon(): void {
    this.undo();
    this.clear();
  }

  /**
   * Adds a message, `partial` when more of it follows. `inspect` says whether to judge reads and writes.
   * False when it cannot be served: a head in which a name does not end.
   */
  add(type: number, buffer: Buffer, start: number, end: number, partial: boolean, inspect: boolean): boolean {
    this.length += end - start;
    switch (type) {
      case FRONTEND.query:
        this.sealed = true;
        this.#addQuery(buffer, start, end, partial, inspect);
        return true;
      case FRONTEND.parse:
        if (this.#addParse(buffer, start, end, inspect)) return true;
        break;
      case FRONTEND.bind:
        this.runs = true;
        if (this.#addNaming(type, buffer, start, end, inspect)) return true;
        if (partial) return false;
        break;
      case FRONTEND.describe:
      case FRONTEND.close:
        if (this.#addNaming(type, buffer, start, end, inspect)) return true;
        break;
      case FRONTEND.functionCall:
        this.sealed = true;
        this.read = false;
        this.effects |= EFFECT.unknown;
        break;
      case FRONTEND.sync:
        this.sealed = true;
        break;
      case FRONTEND.execute:
        this.runs = true;
        if (this.#drops) {
          this.#addDrop(buffer, start, end);
          return true;
        }
        break;
    }
    // Without a name that it can find, the server refuses it as well.
    this.#push(type, buffer, start, end);
    return true;
  }

  #addQuery(buffer: Buffer, start: number, end: number, partial: boolean, inspect: boolean): void {
    const from = start + HEADER_LENGTH;
    const isText = !partial && buffer.indexOf(0, from) === end - 1;
    if (!isText) this.#judge(undefined);
    else if (inspect || mayLeaveState(buffer.toString('latin1', from, end - 1))) {
      this.query = this.#analyze(buffer.toString('utf8', from, end - 1));
      if (inspect) this.#judge(this.query);
      else this.effects |= this.query.effects;
    }
    this.#push(FRONTEND.query, buffer, start, end, this.#context.statements.close(''));
  }

  #addParse(buffer: Buffer, start: number, end: number, inspect: boolean): boolean {
    const parts = splitParse(buffer, start, end);
    if (parts === undefined) return false;
    const { nameEnd } = parts;
    const nameFrom = start + HEADER_LENGTH;
    const name = buffer.toString('latin1', nameFrom, nameEnd);
    const { catalog, statements, settings } = this.#context;
    const statement = catalog.intern(buffer.subarray(nameEnd + 1, end), settings.dialect);
    this.#judgeStatement(statement, inspect);
    const taken = name === '' ? undefined : statements.find(name);
    const undo = taken === undefined ? statements.define(name, statement) : undefined;
    this.items.push({
      type: FRONTEND.parse,
      buffer,
      start,
      end,
      statement,
      name,
      nameFrom,
      nameTo: nameEnd,
      taken,
      undo,
    });
    return true;
  }

  /** Bind, or Describe or Close of a statement; false for what is something else or has no name. */
  #addNaming(type: number, buffer: Buffer, start: number, end: number, inspect: boolean): boolean {
    let nameFrom = nameStart(type, start);
    let nameTo = stringEnd(buffer, nameFrom, end);
    if (nameTo !== -1 && type === FRONTEND.bind) {
      nameFrom = nameTo + 1;
      nameTo = stringEnd(buffer, nameFrom, end);
    }
    if (nameTo === -1) return false;
    if (type !== FRONTEND.bind && buffer[start + HEADER_LENGTH] !== OF_STATEMENT) return false;
    const name = nameFrom === nameTo ? '' : buffer.toString('latin1', nameFrom, nameTo);
    const { statements } = this.#context;
    const statement = this.#find(name);
    if (type !== FRONTEND.close) this.#judgeStatement(statement, inspect);
    const undo = type === FRONTEND.close ? statements.close(name) : undefined;
    this.items.push({ type, buffer, start, end, statement, name, nameFrom, nameTo, taken: undefined, undo });
    return true;
  }

  /** An Execute that may drop statements: what follows it in the batch finds them gone. */
  #addDrop(buffer: Buffer, start: number, end: number): void {
    const from = start + HEADER_LENGTH;
    const portal = buffer.subarray(from, stringEnd(buffer, from, end) + 1);
    const isBind = ({ type, buffer, start }: BatchItem) => {
      const from = start + HEADER_LENGTH;
      return type === FRONTEND.bind && portal.equals(buffer.subarray(from, from + portal.length));
    };
    const analysis = this.items.findLast(isBind)?.statement?.analysis;
    const name = analysis === undefined ? undefined : droppedBy(analysis);
    const undo = name === undefined ? undefined : this.#context.statements.drop(name);
    this.#push(FRONTEND.execute, buffer, start, end, undo, name);
  }

  /** The client's statement of this name; after a change of settings, the one that its text means now. */
  #find(name: string): PreparedStatement | undefined {
    const { catalog, statements, settings } = this.#context;
    const statement = statements.find(name);
    const { dialect } = settings;
    if (statement === undefined || statement.dialect === dialect) return statement;
    // Prepared in front of a change of settings, it stays what it was.
    const isHere = this.items.some(item => item.type === FRONTEND.parse && item.statement === statement);
    if (isHere) return statement;
    return catalog.intern(statement.definition, dialect);
  }

  #push(type: number, buffer: Buffer, start: number, end: number, undo?: Undo, name = ''): void {
    this.items.push({
      type,
      buffer,
      start,
      end,
      statement: undefined,
      name,
      nameFrom: 0,
      nameTo: 0,
      taken: undefined,
      undo,
    });
  }

  #judgeStatement(statement: PreparedStatement | undefined, inspect: boolean): void {
    if (statement === undefined) {
      this.#judge(undefined);
      return;
    }
    const { settings } = this.#context;
    if (settings.misleads(statement.text)) {
      settings.alter();
      return this.#judge(undefined);
    }
    if (statement.analysis === undefined && (inspect || statement.uses > 1 || mayLeaveState(statement.text))) {
      statement.analysis = this.#analyze(statement.text);
    }
    if (statement.analysis !== undefined && droppedBy(statement.analysis) !== undefined) this.#drops = true;
    if (((statement.analysis?.effects ?? 0) & (EFFECT.set | EFFECT.set_local)) !== 0) settings.alter();
    if (inspect) this.#judge(statement.analysis);
    else this.effects |= statement.analysis?.effects ?? 0;
  }

  #analyze(text: string): Statement {
    const { inspector, settings } = this.#context;
    if (settings.misleads(text)) return unparsedStatement("the client's settings make it mean something else");
    const statement = inspector.analyzeText(text);
    // A text that is not understood but holds no word that leaves state is a write and nothing worse.
    if (statement.reason !== 'unparsed' || mayLeaveState(text)) return statement;
    return { ...statement, effects: 0 };
  }

  /** Adds one judgement; what could not be inspected counts as a write that may leave anything. */
  #judge(statement: Statement | undefined): void {
    this.read = this.read !== false && (statement?.read ?? false);
    this.effects |= statement?.effects ?? EFFECT.unknown;
  }
}

/** The name of the statement that a text drops, its bytes read as Latin-1; '' is all. */
function droppedBy({ effects, deallocates }: Statement): string | undefined {
  if ((effects & (EFFECT.deallocate_all | EFFECT.discard_all)) !== 0) return '';
  return deallocates === undefined ? undefined : Buffer.from(deallocates).toString('latin1');
}

const EMPTY: Buffer = Buffer.alloc(0);

/** The kind byte of Describe and Close: 'S' for a statement, 'P' for a portal. */
const OF_STATEMENT = 0x53;
