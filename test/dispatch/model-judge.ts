/** Holds each reply to one client against what the model allows, and notes what the client was told of its writes. */
import type { Fields } from '../client/backend.ts';
import { type Exchange, isBeginning, isRight, type Known } from './model-exchange.ts';
import { isLoss, type Kills } from './model-kills.ts';
import type { Ledger, Outcome, Write } from './model-ledger.ts';
import type { PipelineClient, Reply } from './pipeline-client.ts';

/** How often clients saw each error that they may see although they gave no reason for it. */
export type Tally = Map<string, number>;

/** Exchanges shown where one went wrong. */
const SHOWN = 12;

/** The model of one connection of a client. */
export class Judge {
  readonly known: Known;
  /** Cancel requests that may still hit something. */
  cancels = 0;
  /** Whether the client itself has ended the connection. */
  left = false;
  readonly #number: number;
  readonly #client: PipelineClient;
  readonly #ledger: Ledger;
  readonly #kills: Kills;
  readonly #tally: Tally;
  readonly #history: (readonly [words: string, reply: Reply | Fields])[] = [];
  /** What the client was told of its settings at login, and how many of such messages are known. */
  readonly #told = new Map<string, string>();
  #told_count: number;
  /** Writes in the open transaction. */
  #open: Write[] = [];
  /** Since when the transaction is open. */
  #since_ms = 0;
  #fatal = false;

  constructor(number: number, client: PipelineClient, ledger: Ledger, kills: Kills, tally: Tally) {
    this.#number = number;
    this.#client = client;
    for (const [name, value] of client.parameters) this.#told.set(name, value);
    this.#told_count = client.parameters.length;
    const application_name = this.#told.get('application_name') ?? '';
    this.#ledger = ledger;
    this.#kills = kills;
    this.#tally = tally;
    this.known = { status: 'I', names: new Map(), application_names: new Set([application_name]) };
  }

  /** Takes the reply to an exchange; answers what is wrong with it. */
  take(exchange: Exchange, reply: Reply): string | undefined {
    this.#history.push([exchange.words, reply]);
    if (this.#history.length > SHOWN) this.#history.shift();
    const problem = this.#problem(exchange, reply) ?? this.#wrongParameter();
    this.#settle(exchange, reply);
    if (reply.status === 'T' && this.known.status === 'I') this.#since_ms = reply.first_ms;
    if (reply.status !== '') this.known.status = reply.status;
    return problem;
  }

  /** The connection is over and nothing is owed; answers what is wrong with that. */
  end(): string | undefined {
    // Nobody asked for a COMMIT.
    this.#note(this.#open.splice(0), 'failed', 'the connection ended');
    if (this.left || this.#fatal) return undefined;
    const { stray, over } = this.#client;
    return stray === undefined ? `the connection ended without a word: ${over}` : this.#stray(stray);
  }

  /** An error came while nothing was owed: only an open transaction can be lost then. */
  #stray(error: Fields): string | undefined {
    const { severity } = error;
    this.#history.push(['(nothing)', error]);
    this.#fatal = true;
    const isRight =
      this.known.status !== 'I' && severity === 'FATAL' && this.#kills.explain(error.code, this.#since_ms);
    return isRight ? undefined : 'an error came while nothing was owed';
  }

  /** What the client did last. */
  get story(): string {
    return this.#history.map(([words, reply]) => `${words.slice(0, 200)}: ${summary(reply)}`).join('\n  ');
  }

  #problem(exchange: Exchange, reply: Reply): string | undefined {
    const { known } = this;
    const { error } = reply;
    const expected = exchange.expected(known);
    if (reply.status === '' && (error === undefined || this.left)) return this.#silence(exchange, reply);
    const isFailed = known.status === 'E' && exchange.harmless !== true;
    const right = expected.find(one => isRight(one, reply, known));
    if (right !== undefined && (!isFailed || right.error !== undefined)) {
      right.learn?.(known);
      return this.#wrongStatus(exchange, reply);
    }
    exchange.doubt?.(known);
    if (expected.length === 0 && !this.#isLost(error)) return undefined;
    if (error === undefined) return `it is not the reply, which would be ${JSON.stringify(expected).slice(0, 1000)}`;
    if (isFailed && error.code === '25P02') return this.#wrongStatus(exchange, reply);
    if (expected.length > 0 && !expected.some(one => isBeginning(one, reply))) return "there are somebody else's rows";
    // Behind its own error the connection may be lost, before it is ready.
    return this.#unexplained(exchange, reply, reply.lastError ?? error);
  }

  /** A reply that breaks off, or none. */
  #silence(exchange: Exchange, reply: Reply): string | undefined {
    exchange.doubt?.(this.known);
    const expected = exchange.expected(this.known);
    if (expected.length > 0 && !expected.some(one => isBeginning(one, reply))) return "there are somebody else's rows";
    if (this.left || this.#fatal) return undefined;
    const { torn, over, stray } = this.#client;
    if (stray !== undefined) return this.#stray(stray);
    if (torn && this.#kills.since(reply.first_ms) > 0) {
      this.#fatal = true;
      return undefined;
    }
    return `it got no reply: ${over}`;
  }

  #wrongStatus({ ends }: Exchange, { status, error, tags }: Reply): string | undefined {
    const before = this.known.status;
    const tag = tags.at(-1) ?? '';
    const ended = tag === 'COMMIT' || tag === 'ROLLBACK';
    if (ends !== undefined && error === undefined) return status === 'I' ? undefined : `it left the status ${status}`;
    const right = ended
      ? 'I'
      : tag === 'BEGIN' || tag === 'START TRANSACTION'
        ? 'T'
        : error !== undefined && before !== 'I'
          ? 'E'
          : before;
    return status === right ? undefined : `it left the status ${status} and not ${right}`;
  }

  /** Only application_name is ever changed by the client. */
  #wrongParameter(): string | undefined {
    for (const [name, value] of this.#client.parameters.slice(this.#told_count)) {
      this.#told_count++;
      const right =
        name === 'application_name' ? this.known.application_names.has(value) : this.#told.get(name) === value;
      if (!right) return `it is told that ${name} is ${value}`;
    }
  }

  /** An error that is not the exchange's own: has anything been done that explains it? */
  #unexplained(exchange: Exchange, reply: Reply, error: Fields): string | undefined {
    const { code, severity, message } = error;
    const { status } = this.known;
    this.#tally.set(code, (this.#tally.get(code) ?? 0) + 1);
    // A cancel may end the connection where it hits what pglynx itself has put in front of the exchange.
    const isCanceled = code === '57014' || (isLoss(code) && message.endsWith('due to user request'));
    const isAhead = this.#client.owed > 0 || exchange.inBatches === true;
    if (isCanceled) return this.#canceled(severity, isAhead);
    const since_ms = status === 'I' ? reply.first_ms : this.#since_ms;
    if (!this.#kills.explain(code, since_ms)) return 'nothing explains its error';
    const isAlone = status === 'I' && reply.types === 'E' && !isAhead;
    if (severity === 'FATAL') {
      this.#fatal = true;
      return isAlone ? 'the client could have gone on' : undefined;
    }
    if (status !== 'I') return 'the client goes on although its transaction is lost';
    const { reads = false } = exchange;
    if (reads === false || (reads !== true && !reads(this.known))) return undefined;
    if (code === '08007') return 'the outcome of a read is not unknown';
    const isRepeatable = this.#kills.repairs && isAlone && this.#kills.since(since_ms) < 2;
    return isRepeatable ? 'it was a read that could have been repeated' : undefined;
  }

  #canceled(severity: string, isAhead: boolean): string | undefined {
    if (this.cancels-- <= 0) return 'nobody canceled it';
    if (severity === 'ERROR') return undefined;
    this.#fatal = true;
    // What waits behind a statement that never began may rely on it: on a BEGIN, say.
    return isAhead ? undefined : 'the client could have gone on';
  }

  #isLost(error: Fields | undefined): boolean {
    return error !== undefined && (error.severity !== 'ERROR' || isLoss(error.code));
  }

  #settle({ writes = [], ends, words }: Exchange, reply: Reply): void {
    const { error, status, tags } = reply;
    const inTransaction = this.known.status !== 'I';
    const answer = `${words.slice(0, 200)}: ${summary(reply)}`;
    if (error !== undefined) {
      // An error in a transaction undoes it, and so does the end of the connection.
      const outcome = error.code === '08007' ? 'unknown' : 'failed';
      this.#note([...this.#open.splice(0), ...writes], outcome, answer);
      return;
    }
    this.#open.push(...writes);
    if (status === 'T' || (status === '' && inTransaction && ends === undefined)) return;
    const isUndone = status === '' ? ends === 'rollback' : tags.at(-1) === 'ROLLBACK';
    const outcome = isUndone ? 'failed' : status === '' ? 'unknown' : 'done';
    this.#note(this.#open.splice(0), outcome, answer);
    // What was sent behind it was outside the transaction.
    if (status === '') this.known.status = 'I';
  }

  #note(writes: readonly Write[], outcome: Outcome, words: string): void {
    this.#ledger.note(writes, outcome, `client ${this.#number}: ${words}`);
  }
}

function summary(reply: Reply | Fields): string {
  if (!isReply(reply)) return `${reply.severity} ${reply.code} ${reply.message}`;
  const { types, rows, tags, lastError, notices, status } = reply;
  const errors = new Set([reply.error, lastError]);
  const words = [types, JSON.stringify(rows).slice(0, 200), tags.join(), ...notices.map(({ message }) => message)];
  return [...words, ...[...errors].map(error => (error === undefined ? '' : summary(error))), status].join(' | ');
}

function isReply(reply: Reply | Fields): reply is Reply {
  return typeof reply.types === 'string';
}
