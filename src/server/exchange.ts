/** One exchange: the replies a server still owes for what was sent, which of them to swallow, and which to add. */
import { CLOSE_COMPLETE, PARSE_COMPLETE } from '../wire/backend.ts';
import { closePortal, SYNC } from '../wire/frontend.ts';
import { BACKEND } from '../wire/protocol.ts';
import type { Assumption, Undo } from './undo.ts';

/** What an entry of an exchange waits for. */
export const OWED = {
  /** ParseComplete, for the client. */
  parse: 0,
  /** ParseComplete of a statement that pglynx put in front: swallowed. */
  parseInjected: 1,
  /** A Parse answered by pglynx: the server has the statement. */
  parseLocal: 2,
  bind: 3,
  describe: 4,
  execute: 5,
  close: 6,
  /** CloseComplete of an evicted statement: swallowed. */
  closeInjected: 7,
  /** A Close answered by pglynx: the server keeps the statement for others. */
  closeLocal: 8,
  sync: 9,
  query: 10,
  functionCall: 11,
  /** CopyDone or CopyFail: owes nothing, but says where copy mode ends in the order of what was sent. */
  copyEnd: 12,
  /** A Sync among copy data: ReadyForQuery if the COPY failed before the server read it, else nothing. */
  copySync: 13,
  /** ReadyForQuery, as often as the server counts Syncs; the first is pglynx's own. See {@link Exchange.unclear}. */
  count: 14,
  /** ReadyForQuery after pglynx's own Sync: swallowed. */
  syncInjected: 15,
} as const;
export type Owed = (typeof OWED)[keyof typeof OWED];

/** What a reply does to its exchange. */
export const STEP = {
  /** Not a reply to this: the connection is broken. */
  illegal: 0,
  /** Passed on; more follow for the same entry. */
  stay: 1,
  /** Passed on; the entry is settled. */
  settle: 2,
  /** Swallowed; the entry is settled. */
  swallow: 3,
  /** Passed on; the server skips to the next Sync. */
  skip: 4,
  /** Passed on; copy-in begins. */
  copyIn: 5,
  /** Passed on; the exchange is over when nothing else is owed. */
  end: 6,
  /** Passed on but for the first; more may follow. */
  count: 7,
} as const;
export type Step = (typeof STEP)[keyof typeof STEP];

const B = BACKEND;
const rows = [B.dataRow, B.copyOutResponse, B.copyData, B.copyDone] as const;

/** The table: for each entry, the replies it takes and the step each makes. Drawn in docs/STATES.md. */
export const EXCHANGE_STEPS: readonly (readonly [Owed, Step, readonly number[]])[] = [
  [OWED.parse, STEP.settle, [B.parseComplete]],
  [OWED.parse, STEP.skip, [B.errorResponse]],
  [OWED.parseInjected, STEP.swallow, [B.parseComplete]],
  [OWED.parseInjected, STEP.skip, [B.errorResponse]],
  [OWED.bind, STEP.settle, [B.bindComplete]],
  [OWED.bind, STEP.skip, [B.errorResponse]],
  [OWED.describe, STEP.stay, [B.parameterDescription]],
  [OWED.describe, STEP.settle, [B.rowDescription, B.noData]],
  [OWED.describe, STEP.skip, [B.errorResponse]],
  [OWED.execute, STEP.stay, rows],
  [OWED.execute, STEP.settle, [B.commandComplete, B.emptyQueryResponse, B.portalSuspended]],
  [OWED.execute, STEP.copyIn, [B.copyInResponse]],
  [OWED.execute, STEP.skip, [B.errorResponse]],
  [OWED.close, STEP.settle, [B.closeComplete]],
  [OWED.close, STEP.skip, [B.errorResponse]],
  [OWED.closeInjected, STEP.swallow, [B.closeComplete]],
  [OWED.closeInjected, STEP.skip, [B.errorResponse]],
  [OWED.sync, STEP.end, [B.readyForQuery]],
  [OWED.sync, STEP.stay, [B.errorResponse]],
  [OWED.query, STEP.stay, [...rows, B.rowDescription, B.commandComplete, B.emptyQueryResponse, B.errorResponse]],
  [OWED.query, STEP.copyIn, [B.copyInResponse]],
  [OWED.query, STEP.end, [B.readyForQuery]],
  [OWED.functionCall, STEP.stay, [B.functionCallResponse, B.errorResponse]],
  [OWED.functionCall, STEP.end, [B.readyForQuery]],
  [OWED.count, STEP.count, [B.readyForQuery]],
  [OWED.count, STEP.swallow, [B.closeComplete]],
  [OWED.syncInjected, STEP.end, [B.readyForQuery]],
];

/**
 * What makes a server tell how many Syncs of a failed COPY it counts, in any state: a ReadyForQuery for each, one for
 * the first Sync of this, and then the CloseComplete of a portal that nobody has.
 */
export const COUNT_SYNCS = Buffer.concat([SYNC, closePortal('pglynx'), SYNC]);

/** Settled entries that are kept. */
const SETTLED_MAX = 1000;
/** Entries whose room is kept for the next exchange. */
const ROOM_MAX = 64;

const PARSES = new Set<Owed>([OWED.parse, OWED.parseLocal]);

const STEPS = new Uint8Array(16 * 256);
for (const [owed, step, types] of EXCHANGE_STEPS) for (const type of types) STEPS[owed * 256 + type] = step;

/** What of an exchange the server has seen when its connection ends. */
export type Fate = 'unsent' | 'unbegun' | 'unknown';

/** Receives what an exchange yields. Called within one turn; `reply` bytes stay unchanged. */
export interface ExchangeOwner {
  /** Bytes for the client, in order; whole messages or parts of one. */
  reply(bytes: Buffer): void;
  /**
   * An ErrorResponse, still to be passed on; its place in the order is now. `statement` is the client's name of the
   * statement that the refused message names, bytes read as Latin-1; '' is none, or the unnamed one.
   */
  replyError(message: Buffer, statement: string): void;
  /** Whether this ErrorResponse is to be kept back, with all that follows it, because the exchange is repeated. */
  repeatsAfter(message: Buffer): boolean;
  /** The server skips everything that is sent before the next Sync: also what is still to be sent assumes too much. */
  skips(): void;
  /** A CommandComplete passed by; `tag` starts at `buffer[start]`. */
  completed(buffer: Buffer, start: number, end: number): void;
  /** A ParameterDescription passed by: OIDs of the types of the parameters of `statement`, in the client's name. */
  described(types: readonly number[], statement: string): void;
  /** A ParameterStatus came for this session. */
  parameterChanged(name: string, value: string): void;
  /** COPY FROM STDIN has begun, so that the client's data may come, or it is complete, so that other messages may. */
  copyChanged(): void;
  /** ReadyForQuery came and nothing is owed. */
  exchangeEnded(status: number): void;
  /** The connection ended before the exchange did; `cause` in words, `error` the server's last FATAL if it sent one. */
  connectionLost(cause: string, error: Map<string, string> | undefined): void;
  /** A cancel for another exchange may hit this one, which is to be repeated then. */
  endangered(): void;
  /** What it relies on may not come to pass: then it is to be repeated. */
  doubts(): void;
  /** Others wait behind a slow exchange, among them this one: true when its owner has taken it elsewhere. */
  moves(): boolean;
  /** Others wait behind this one, which is slow: true when it may be canceled, since its owner runs it elsewhere then. */
  yields(): boolean;
  /** Others wait for the connection of this one, whose client is slow to read. */
  unread(): void;
}

/** The queue of replies owed for one exchange. */
export class Exchange {
  owner: ExchangeOwner;
  /** Whether replies go nowhere: pglynx's own SETs, checks and cleanups, and what is going to be repeated. */
  silent: boolean;
  /** Whether the last thing sent ends in a ReadyForQuery. */
  sealed = false;
  /** Whether copy-in mode is on: the server takes CopyData and ignores Sync and Flush. */
  copyIn = false;
  /** Whether the server skips everything up to the next Sync; after the exchange's end, whether it would have to. */
  skipping = false;
  /**
   * A COPY failed with Syncs among its data: nobody knows which of them the server read before. {@link COUNT_SYNCS}
   * must be sent, so that it tells, before anything else is.
   */
  unclear = false;
  /** Whether an ErrorResponse came. */
  failed = false;
  /** Whether the connection ended in the middle of a message that was being passed on. */
  torn = false;
  /** Whether a simple query or function call follows an Execute without a Sync in between. */
  mixed = false;
  /** Whether what the server works on, or has yet to begin, is to be canceled. */
  canceled = false;
  /** What the server has seen of it, once the connection has ended. */
  fate: Fate = 'unknown';
  /** How often the connection had flushed when this was enqueued. */
  flushes = 0;

  /** Entries from #head to #end are owed; the arrays keep their room from exchange to exchange. */
  #kinds: Owed[] = [];
  /** What the client's session assumed, and what was assumed of the connection. */
  #undos: (Undo | undefined)[] = [];
  #assumed: (Assumption | undefined)[] = [];
  #statements: string[] = [];
  #head = 0;
  #end = 0;
  /** Whether a CopyInResponse came whose COPY has neither completed nor failed. */
  #copying = false;
  /** ReadyForQuery messages that came while Syncs were counted. */
  #counted = 0;
  /** Whether an Execute was sent. */
  #executes = false;

  constructor(owner: ExchangeOwner, silent: boolean) {
    this.owner = owner;
    this.silent = silent;
  }

  /** Makes a finished exchange ready for the next batch. */
  reset(): void {
    this.silent = false;
    this.sealed = false;
    this.copyIn = false;
    this.skipping = false;
    this.unclear = false;
    this.failed = false;
    this.torn = false;
    this.mixed = false;
    this.canceled = false;
    this.fate = 'unknown';
    if (this.#kinds.length > ROOM_MAX) this.#shrink();
    this.#head = 0;
    this.#end = 0;
    this.#copying = false;
    this.#counted = 0;
    this.#executes = false;
  }

  /** Whether the client waits for the ReadyForQuery at the end. */
  get isAwaited(): boolean {
    return this.sealed && this.#find(OWED.syncInjected, 0) === this.#end;
  }

  /** Whether nothing is owed. */
  get settled(): boolean {
    return this.#head === this.#end;
  }

  /** Whether the server waits for the client: for copy data, or for the rest of a batch. */
  get awaitsClient(): boolean {
    return this.copyIn || (this.settled && !this.sealed);
  }

  /** What the next reply is for. */
  get head(): Owed | undefined {
    return this.#head < this.#end ? this.#kinds[this.#head] : undefined;
  }

  /** The client's names of statements whose Parse has not been answered. */
  get parsing(): string[] {
    const owed = this.#statements.slice(0, this.#end);
    return owed.filter((_, at) => at >= this.#head && PARSES.has(this.#kinds[at]));
  }

  /** The client's name of the statement that the next reply is about, if it is about one. */
  get statement(): string {
    return this.#head < this.#end ? this.#statements[this.#head] : '';
  }

  /** Whoever sent it wants no more of it: what is owed is taken by `owner`, and its sender's assumptions stay. */
  disown(owner: ExchangeOwner): void {
    this.owner = owner;
    this.silent = true;
    this.#undos.fill(undefined);
  }

  /**
   * Notes that a message was sent for which `owed` comes; when the server refuses or skips it, `undo` takes back what the
   * client's session assumed; `assumed` is what was assumed of the connection. `statement` is the client's name of the
   * statement that it names.
   */
  owe(owed: Owed, undo?: Undo, statement = '', assumed?: Assumption): void {
    if (owed === OWED.sync || owed === OWED.query || owed === OWED.functionCall || owed === OWED.syncInjected) {
      this.sealed = true;
    }
    if (owed === OWED.copyEnd) this.copyIn = false;
    if (this.skipping) {
      if (owed === OWED.sync) this.skipping = false;
      else {
        if (owed === OWED.query || owed === OWED.functionCall) this.sealed = false;
        return;
      }
    }
    if (owed === OWED.execute) this.#executes = true;
    else if (owed === OWED.query || owed === OWED.functionCall) this.mixed = this.#executes;
    if (this.#head > SETTLED_MAX) this.#forget();
    const at = this.#end++;
    this.#kinds[at] = owed;
    this.#undos[at] = undo;
    this.#assumed[at] = assumed;
    this.#statements[at] = statement;
  }

  /** The step that a reply of this type makes now. */
  step(type: number): Step {
    this.#passCopy();
    const owed = this.head;
    return owed === undefined ? STEP.illegal : stepFor(owed, type);
  }

  /** Settles the entry at the head. */
  settle(): void {
    this.#undos[this.#head] = undefined;
    this.#assumed[this.#head]?.confirm();
    this.#assumed[this.#head] = undefined;
    this.#head++;
  }

  /** The reply that pglynx owes at this point instead of the server, if it is its turn. */
  takeLocal(): Buffer | undefined {
    this.#passCopy();
    const owed = this.head;
    if (owed !== OWED.parseLocal && owed !== OWED.closeLocal) return undefined;
    this.settle();
    return owed === OWED.parseLocal ? PARSE_COMPLETE : CLOSE_COMPLETE;
  }

  /** An ErrorResponse; `skip` when the server skips to the next Sync after it. */
  fail(skip: boolean): void {
    this.failed = true;
    this.canceled = false;
    this.copyIn = false;
    if (this.#copying && this.#find(OWED.copySync, this.#head) < this.#end) this.#count();
    else if (skip) {
      const refused = this.#undos[this.#head];
      const assumed = this.#assumed[this.#head];
      this.#undos[this.#head] = undefined;
      this.#assumed[this.#head] = undefined;
      this.skip();
      refused?.undo(true);
      assumed?.undo(true);
    }
    this.#copying = false;
  }

  /** Drops what the server skips, the newest undone first. */
  skip(): void {
    const sync = Math.min(this.#find(OWED.sync, this.#head), this.#find(OWED.syncInjected, this.#head));
    if (sync === this.#end) {
      this.sealed = false;
      this.skipping = true;
      this.owner.skips();
    }
    this.#undo(sync);
    this.#head = sync;
  }

  /** Copy-in has begun: Syncs sent before the end of the copy data count only if it fails. */
  beginCopyIn(): void {
    const kinds = this.#kinds;
    const stop = this.#find(OWED.copyEnd, this.#head);
    this.#copying = true;
    this.copyIn = stop === this.#end;
    if (this.head === OWED.query) return;
    for (let at = this.#head + 1; at < stop; at++) if (kinds[at] === OWED.sync) kinds[at] = OWED.copySync;
    this.sealed = this.#find(OWED.sync, this.#head) < this.#end;
  }

  /**
   * Whether a COPY is under way, all its data sent, Syncs among them: whether the server will skip what is sent now is
   * not known until it has completed or failed.
   */
  get undecided(): boolean {
    return this.#copying && !this.copyIn && this.#find(OWED.copySync, this.#head) < this.#end;
  }

  /** A CommandComplete: if it is a COPY's, the server has read its data and every Sync among them. Whether it is. */
  complete(): boolean {
    if (!this.#copying) return false;
    this.#copying = false;
    const from = this.#head + 1;
    const stop = this.#find(OWED.copyEnd, from);
    if (stop < this.#end) this.#cut(from, stop + 1 - from);
    return true;
  }

  /** A ReadyForQuery while Syncs are counted: whether it is for the client. */
  count(): boolean {
    return this.#counted++ > 0;
  }

  /** A ReadyForQuery that settles; true when the exchange is over with it. */
  end(): boolean {
    this.skipping = this.failed && this.head === OWED.syncInjected && this.#counted < 2;
    this.canceled = false;
    this.settle();
    this.#passCopy();
    return this.settled;
  }

  /** The connection is gone: takes back everything that was not answered. */
  abandon(): void {
    this.#undo(this.#end);
    this.#head = this.#end;
  }

  #undo(stop: number): void {
    for (let at = stop - 1; at >= this.#head; at--) {
      this.#undos[at]?.undo(false);
      this.#undos[at] = undefined;
      this.#assumed[at]?.undo(false);
      this.#assumed[at] = undefined;
    }
  }

  #count(): void {
    this.#undos[this.#head] = undefined;
    this.#assumed[this.#head] = undefined;
    this.#undo(this.#end);
    this.#kinds = [OWED.count, OWED.syncInjected];
    this.#undos = [undefined, undefined];
    this.#assumed = [undefined, undefined];
    this.#statements = ['', ''];
    this.#head = 0;
    this.#end = 2;
    this.sealed = true;
    this.unclear = true;
  }

  /** Lets go of what is settled: a client may go on for ever without a Sync. */
  #forget(): void {
    this.#cut(0, this.#head);
    this.#head = 0;
  }

  #cut(from: number, count: number): void {
    this.#kinds.splice(from, count);
    this.#undos.splice(from, count);
    this.#assumed.splice(from, count);
    this.#statements.splice(from, count);
    this.#end -= count;
  }

  #shrink(): void {
    this.#kinds = [];
    this.#undos = [];
    this.#assumed = [];
    this.#statements = [];
  }

  /** Where the first entry of this kind is, from `at` on; the end when there is none. */
  #find(owed: Owed, at: number): number {
    let found = at;
    while (found < this.#end && this.#kinds[found] !== owed) found++;
    return Math.min(found, this.#end);
  }

  /** Passes over the ends of copy data that was ignored. */
  #passCopy(): void {
    while (this.#head < this.#end && this.#kinds[this.#head] === OWED.copyEnd) this.#head++;
  }
}

function stepFor(owed: Owed, type: number): Step {
  const step = STEPS[owed * 256 + type];
  return isStep(step) ? step : STEP.illegal;
}

function isStep(value: number): value is Step {
  return value <= STEP.count;
}
