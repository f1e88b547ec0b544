/** A client's messages up to Query, Sync or Flush: what they say, which statements they name, what they leave behind. */
import { type PgError, pgError } from '../errors.ts';
import type { Demand } from '../routing/demand.ts';
import type { Judge } from '../routing/judge.ts';
import type { ServerConnection } from '../server/connection.ts';
import { type PreparedStatement, parseMessage, type StatementCatalog, splitParse } from '../server/prepared.ts';
import type { Undo } from '../server/undo.ts';
import { EFFECT, type Statement } from '../sql/statement.ts';
import { mayLeaveState } from '../sql/suspicion.ts';
import { BindValues } from '../wire/bind.ts';
import { nameStart, query, stringEnd } from '../wire/frontend.ts';
import { FRONTEND, HEADER_LENGTH } from '../wire/protocol.ts';
import type { ClientSettings } from './settings.ts';
import type { ClientStatements } from './statements.ts';

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
  readonly routing: { readonly judge: Judge; readonly catalog: StatementCatalog };
  readonly statements: ClientStatements;
  readonly settings: ClientSettings;
}

export class Batch {
  items: BatchItem[] = [];
  /** Bytes gathered. */
  length = 0;
  /** Bits of EFFECT that its statements may leave. */
  effects = 0;
  /** Whether it binds or executes anything, so that work is done before a Sync comes. */
  runs = false;
  /** Whether it ends in a message that is answered by ReadyForQuery, for the client or for pglynx. */
  sealed = false;
  /** Analysis of the batch's Query, if it is one and was inspected. */
  query: Statement | undefined;
  /** Why it must not run, if it asks for more than its client may have. */
  refusal: PgError | undefined;

  readonly #context: BatchContext;
  /** Items whose assumptions were taken back. */
  #undone = 0;
  /** Whether it binds DEALLOCATE or DISCARD ALL. */
  #drops = false;

  constructor(context: BatchContext) {
    this.#context = context;
  }

  /** What its statements ask of a route. */
  get demand(): Demand {
    return this.#context.routing.judge.demand;
  }

  /** Whether every statement is provably a read; undefined while none has been inspected. */
  get read(): boolean | undefined {
    return this.demand.read;
  }

  get empty(): boolean {
    return this.items.length === 0;
  }

  /** Whether it only prepares and describes, and its replies are wanted now. */
  get preparesOnly(): boolean {
    return !this.runs && this.items.at(-1)?.type === FRONTEND.flush;
  }

  /** Type of the message that it ends in, as far as errors go: Query, Sync or Flush. */
  get endType(): number {
    const type = this.items[0]?.type;
    if (type === FRONTEND.query || type === FRONTEND.functionCall) return FRONTEND.query;
    return this.sealed ? FRONTEND.sync : FRONTEND.flush;
  }

  /** Whether the client waits for the ReadyForQuery at its end. */
  get isAwaited(): boolean {
    return this.sealed && this.items.at(-1)?.type !== OWN_SYNC;
  }

  /** Whether it is an exchange by itself, all of which is here, so that it may be sent twice. */
  get isWhole(): boolean {
    const last = this.items.at(-1);
    if (last?.type === FRONTEND.query) return this.items.length === 1 && !isHead(last);
    return last?.type === FRONTEND.sync || last?.type === OWN_SYNC;
  }

  /** Whether it was looked at and is all of an exchange that the client awaits, so that it may stand between others. */
  get isShareable(): boolean {
    return this.read !== undefined && this.isAwaited && this.isWhole;
  }

  /** Whether it may begin a transaction. */
  get mayBegin(): boolean {
    return !this.empty && this.demand.mayBegin;
  }

  /** Ends in a Sync of pglynx's own instead of its Flush, so that no connection is held until the client's. */
  sealItself(): void {
    this.items.pop();
    this.#push(OWN_SYNC, EMPTY, 0, 0);
    this.sealed = true;
  }

  /** Starts over, keeping nothing. */
  clear(): void {
    if (this.items.length > 0) this.items = [];
    this.length = 0;
    this.demand.clear();
    this.effects = 0;
    this.runs = false;
    this.sealed = false;
    this.query = undefined;
    this.refusal = undefined;
    this.#undone = 0;
    this.#drops = false;
  }

  /** Puts in place of its messages one that the server refuses, and an end of this type: Query, Sync or Flush. */
  poison(why: string, type: number): void {
    this.abandon();
    // What the server logs says why.
    const text = `pglynx /* refused: ${why.replaceAll('*/', '* /').replaceAll('\0', '')} */`;
    const isQuery = type === FRONTEND.query;
    const bytes = isQuery ? query(text) : parseMessage('', Buffer.from(`${text}\0\0\0`));
    this.#push(isQuery ? type : FRONTEND.parse, bytes, 0, bytes.length);
    if (!isQuery) this.#push(type, EMPTY, 0, 0);
    this.sealed = type !== FRONTEND.flush;
  }

  /** Takes back what the messages so far assumed, the newest first: they have no effect. */
  undo(): void {
    for (let at = this.items.length - 1; at >= this.#undone; at--) this.items[at].undo?.undo(false);
    this.#undone = this.items.length;
  }

  /** Assumes once more what was taken back, since the batch is sent again: on `connection`, or on another. */
  assume(connection: ServerConnection | undefined): void {
    const held = connection?.statements;
    const { statements } = this.#context;
    for (const { type, name, statement, taken, undo } of this.items) {
      if (held !== undefined && statement !== undefined && statement === held.unnamed) held.unnamed = undefined;
      if (type === FRONTEND.parse && statement !== undefined && taken === undefined) statements.define(name, statement);
      else if (type === FRONTEND.close || type === FRONTEND.query) statements.close(name);
      else if (type === FRONTEND.execute && undo !== undefined) statements.drop(name);
    }
  }

  /** Forgets the messages and what they assumed: they will not be sent. */
  abandon(): void {
    this.undo();
    this.clear();
  }

  /** Judges its messages again, since the rules have changed; `inspect` as in {@link add}. */
  renew(inspect: boolean): void {
    const { items } = this;
    this.abandon();
    for (const item of items) {
      const { type, buffer, start, end } = item;
      if (type === OWN_SYNC) this.#push(OWN_SYNC, EMPTY, 0, 0);
      else this.add(type, buffer, start, end, isHead(item), inspect);
      this.sealed ||= type === OWN_SYNC;
    }
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
        this.#unknown();
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
    const { judge } = this.#context.routing;
    const isText = !partial && buffer.indexOf(0, from) === end - 1;
    judge.wishOfText(buffer, from, isText ? end - 1 : end);
    if (!isText) this.#unknown();
    else if (inspect || mayLeaveState(buffer.toString('latin1', from, end - 1))) {
      this.query = judge.analyze(buffer, from, end - 1);
      if (inspect) judge.query(this.query);
      this.effects |= judge.effects(this.query);
    }
    this.#push(FRONTEND.query, buffer, start, end, this.#context.statements.close(''));
  }

  #addParse(buffer: Buffer, start: number, end: number, inspect: boolean): boolean {
    const parts = splitParse(buffer, start, end);
    if (parts === undefined) return false;
    const { nameEnd } = parts;
    const nameFrom = start + HEADER_LENGTH;
    const name = buffer.toString('latin1', nameFrom, nameEnd);
    const { routing, statements, settings } = this.#context;
    const statement = routing.catalog.intern(buffer.subarray(nameEnd + 1, end), settings.dialect);
    this.#judge(statement, inspect, false, undefined);
    const taken = name === '' ? undefined : statements.find(name);
    if (taken === undefined && statements.isFullFor(name))
      this.refusal ??= pgError('too_many_statements', statements.max);
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
    const { statements, routing } = this.#context;
    const { judge } = routing;
    const statement = this.#find(name);
    const isBind = type === FRONTEND.bind;
    const bound = isBind && judge.keyed ? new BindValues(buffer, nameTo + 1, end) : undefined;
    if (type !== FRONTEND.close) this.#judge(statement, inspect, isBind, bound);
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

  /** The client's statement of this name; after a change of settings or a reload, the one that its text means now. */
  #find(name: string): PreparedStatement | undefined {
    const { routing, statements, settings } = this.#context;
    const { catalog } = routing;
    const statement = statements.find(name);
    const { dialect } = settings;
    if (statement === undefined || (statement.dialect === dialect && statement.catalog === catalog)) return statement;
    // Prepared in front of a change of settings, it stays what it was.
    const isHere = this.items.some(item => item.type === FRONTEND.parse && item.statement === statement);
    if (isHere) return statement;
    const renewed = catalog.intern(statement.definition, dialect);
    // What a reload has made another is so from now on.
    if (statement.catalog !== catalog || renewed.isLong) statements.define(name, renewed);
    return renewed;
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

  /** Judges a statement that is named; `runs` with these parameters, if they are known. */
  #judge(
    statement: PreparedStatement | undefined,
    inspect: boolean,
    runs: boolean,
    bound: BindValues | undefined,
  ): void {
    if (statement === undefined) {
      this.#context.routing.judge.unnamed();
      this.effects |= EFFECT.unknown;
      return;
    }
    const { settings, routing } = this.#context;
    const { judge } = routing;
    if (settings.misleads(statement.definition)) {
      settings.alter();
      return this.#unknown();
    }
    judge.wishOf(statement, runs);
    let { analysis } = statement;
    if (
      analysis === undefined &&
      (inspect || statement.uses > 1 || statement.isLong || mayLeaveState(statement.text))
    ) {
      analysis = judge.prepare(statement);
    }
    if (analysis === undefined) return;
    if (droppedBy(analysis) !== undefined) this.#drops = true;
    if ((analysis.effects & (EFFECT.set | EFFECT.set_local)) !== 0) settings.alter();
    if (inspect) judge.statement(statement, analysis, runs, bound);
    this.effects |= judge.effects(analysis);
  }

  /** What could not be inspected counts as a write that may leave anything. */
  #unknown(): void {
    this.#context.routing.judge.unknown();
    this.effects |= EFFECT.unknown;
  }
}

/** Whether more of a message follows than its item holds. */
export function isHead({ buffer, start, end }: BatchItem): boolean {
  return end - start < buffer.readUInt32BE(start + 1) + 1;
}

/** The name of the statement that a text drops, its bytes read as Latin-1; '' is all. */
function droppedBy({ effects, deallocates }: Statement): string | undefined {
  if ((effects & (EFFECT.deallocate_all | EFFECT.discard_all)) !== 0) return '';
  return deallocates === undefined ? undefined : Buffer.from(deallocates).toString('latin1');
}

const EMPTY: Buffer = Buffer.alloc(0);

/** The kind byte of Describe and Close: 'S' for a statement, 'P' for a portal. */
const OF_STATEMENT = 0x53;
