/** Judges the statements of one client: whether they read, where their rows are, and what their comments ask for. */
import { pgError } from '../errors.ts';
import type { PreparedStatement } from '../server/prepared.ts';
import type { Catalog } from '../sql/catalog.ts';
import { answerShards, type ShardAnswer } from '../sql/keys.ts';
import type { Literal } from '../sql/literal.ts';
import { REASONS, type Statement, unparsedStatement } from '../sql/statement.ts';
import { LOOKED_AT_MAX, mayLeaveState } from '../sql/suspicion.ts';
import type { Template } from '../sql/template.ts';
import type { BindValues } from '../wire/bind.ts';
import { type CommentHint, type CommentPatterns, commentHint } from './comments.ts';

import { Demand } from './demand.ts';
import type { RoutingContext } from './router.ts';
import { KeyReader, type ShardingKey, type ValueSource } from './values.ts';

/** Analyses SQL text with PostgreSQL's grammar. */
export interface Inspector {
  /** The analysis of the text `buffer[start, end)`; `backslashes` when plain strings have escapes. */
  analyze(buffer: Buffer, start: number, end: number, backslashes: boolean): Statement;
  /** The template of the text analysed last. */
  readonly template: Template;
}

/** What a judge knows of its cluster. */
export interface JudgeContext extends RoutingContext {
  readonly catalog: Catalog;
  /** The key that statements are searched for; undefined when none is, or there is one shard only. */
  readonly key: ShardingKey | undefined;
  readonly patterns: CommentPatterns | undefined;
  /** Longest text that is analysed here, bytes. */
  readonly length_max: number;
  /** Statements that a replica has refused. */
  readonly refused: { has(statement: Statement): boolean };
}

/** How a client's settings make servers read its texts. */
export interface TextReading {
  /** Whether plain strings have backslash escapes: standard_conforming_strings is off. */
  readonly backslashes: boolean;
  /** Whether the client and the database both use UTF8. */
  readonly utf8: boolean;
  /** Whether the server may read this text otherwise than the grammar does. */
  misleads(text: Buffer): boolean;
}

const REFUSED = {
  read: false,
  reason: 'refused',
  detail: REASONS.refused,
} as const;

export class Judge {
  readonly demand = new Demand();
  readonly #inspector: Inspector;
  readonly #reading: TextReading;
  #context: JudgeContext;
  #wishes = new WeakMap<PreparedStatement, CommentHint | 'none'>();

  constructor(inspector: Inspector, reading: TextReading, context: JudgeContext) {
    this.#inspector = inspector;
    this.#reading = reading;
    this.#context = context;
  }

  /** A reload changed the pool. */
  configure(context: JudgeContext): void {
    this.#context = context;
    this.#wishes = new WeakMap();
  }

  /** Whether the shard of every statement must be found, also of those inside a transaction. */
  get keyed(): boolean {
    return this.#context.key !== undefined;
  }

  /** The analysis of a text; what the server may read otherwise counts as not parsed. */
  analyze(buffer: Buffer, start: number, end: number): Statement {
    const statement = this.#analyze(buffer, start, end);
    // A text that is not understood but holds no word that leaves state is a write and nothing worse.
    if (statement.reason !== 'unparsed' || end - start > LOOKED_AT_MAX) return statement;
    if (mayLeaveState(buffer.toString('latin1', start, end))) return statement;
    return { ...statement, effects: 0, known_effects: 0 };
  }

  /** Judges a simple query whose analysis this is: the one made last. */
  query(statement: Statement): void {
    this.#judge(statement, true);
    if (this.#context.key === undefined) return;
    const { template } = this.#inspector;
    this.demand.addShards(
      this.#shards(statement, {
        literal: n => template.literal(n),
        bound: undefined,
        utf8: this.#reading.utf8,
        type: () => 0,
        toldType: () => 0,
      }),
    );
  }

  /** Judges a statement that is prepared, or runs with these parameters; undefined when they were not all there. */
  statement(prepared: PreparedStatement, statement: Statement, runs: boolean, bound: BindValues | undefined): void {
    this.#judge(statement, runs);
    if (this.#context.key === undefined || !runs) return;
    this.demand.addShards(
      this.#shards(statement, {
        literal: n => prepared.literals[n] ?? NO_LITERAL,
        bound,
        utf8: this.#reading.utf8,
        type: n => prepared.typeOf(n),
        toldType: n => prepared.toldTypeOf(n),
      }),
    );
  }

  /** A statement that says nothing of shards goes with the batch. */
  join(statement: Statement): void {
    this.#judge(statement, true);
  }

  /** Bits of EFFECT that a statement leaves, as far as this pool's catalog knows. */
  effects(statement: Statement): number {
    return this.#context.catalog.judge(statement).effects;
  }

  /** A statement under a name that nobody has: the server will say so. */
  unnamed(): void {
    this.demand.addUnknown();
  }

  /** Something of which nothing is known. */
  unknown(): void {
    this.demand.addUnknown();
    if (this.#context.key !== undefined) this.demand.addShards(UNSEEN);
  }

  /** The comments of a query's text. */
  wishOfText(buffer: Buffer, start: number, end: number): void {
    const wish = this.#wish(buffer, start, end);
    if (wish !== undefined) this.demand.addWish(wish, true);
  }

  /** The comments of a prepared statement's text. */
  wishOf(prepared: PreparedStatement, runs: boolean): void {
    if (this.#context.patterns === undefined && !prepared.commented) return;
    let wish = this.#wishes.get(prepared);
    if (wish === undefined) {
      const { definition } = prepared;
      wish = this.#wish(definition, 0, definition.indexOf(0)) ?? 'none';
      this.#wishes.set(prepared, wish);
    }
    if (wish !== 'none') this.demand.addWish(wish, runs);
  }

  /** Analyses a prepared statement and keeps what its executions need. */
  prepare(prepared: PreparedStatement): Statement {
    const { definition } = prepared;
    const statement = this.analyze(definition, 0, definition.indexOf(0));
    prepared.analysis = statement;
    if (statement.keys !== undefined) {
      const { template } = this.#inspector;
      prepared.literals = Array.from({ length: template.literals }, (_, n) => template.literal(n));
    }
    return statement;
  }

  #analyze(buffer: Buffer, start: number, end: number): Statement {
    if (end - start > this.#context.length_max) return unparsedStatement('it is longer than query_parser_max_length');
    if (this.#reading.misleads(buffer.subarray(start, end))) {
      return unparsedStatement("the client's settings make it mean something else");
    }
    return this.#inspector.analyze(buffer, start, end, this.#reading.backslashes);
  }

  #judge(statement: Statement, runs: boolean): void {
    const { catalog, refused } = this.#context;
    const judgement = catalog.judge(statement);
    if (judgement.read && refused.has(statement)) this.demand.add(statement, { ...judgement, ...REFUSED }, runs);
    else this.demand.add(statement, judgement, runs);
  }

  #shards(statement: Statement, source: ValueSource): ShardAnswer {
    const { key, sharder, catalog } = this.#context;
    if (statement.mistake !== undefined) this.demand.error ??= pgError('syntax_error', statement.mistake);
    if (statement.reason === 'unparsed') return unparsed(statement);
    if (executes(statement)) return EXECUTES;
    if (key === undefined || statement.keys === undefined) return NO_SHARD;
    const reader = new KeyReader(key, sharder, catalog, source, statement.keys.ambiguous);
    return answerShards(statement.keys, reader);
  }

  #wish(buffer: Buffer, start: number, end: number): CommentHint | undefined {
    const found = this.#context.patterns?.find(buffer, start, end);
    if (found !== undefined) return { ...NO_WISH, ...found };
    return commentHint(buffer, start, end, this.#reading.backslashes);
  }
}

const NO_SHARD: ShardAnswer = { kind: 'none' };
const NO_LITERAL: Literal = { form: 'bits', text: '' };
const NO_WISH: CommentHint = { role: undefined, shard: undefined, sharding_key: undefined, error: undefined };
const UNSEEN: ShardAnswer = { kind: 'refused', how: 'the message could not be inspected' };
const EXECUTES: ShardAnswer = { kind: 'refused', how: 'EXECUTE does not say what the statement does' };

/** Whether a text runs a statement that SQL's PREPARE made, alone or inside another. */
function executes({ executes, plain, kind, count, template }: Statement): boolean {
  if (executes !== undefined) return true;
  return !plain && (count > 1 || RUNNING.has(kind)) && /\bexecute\b/i.test(template);
}

/** Kinds of statements that may have an EXECUTE inside. */
const RUNNING: ReadonlySet<string> = new Set(['EXPLAIN', 'CREATE TABLE AS', 'SELECT INTO', 'DECLARE CURSOR']);

/** A text that was not parsed may hold rows for any shard. */
function unparsed({ detail }: Statement): ShardAnswer {
  return { kind: 'refused', how: `the statement ${detail}` };
}
