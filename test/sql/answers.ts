/** Shards of statements as a proxy finds them: template, parse tree, plan, and a sharder for the values. */
import assert from 'node:assert/strict';
import { Sharder, type ShardingFunction, type WrittenKey } from '../../src/sharding/sharder.ts';
import {
  answerShards,
  type KeyContext,
  type KeyPlan,
  planKeys,
  type Relation,
  type Scalar,
  type ShardAnswer,
} from '../../src/sql/keys.ts';
import type { Literal } from '../../src/sql/literal.ts';
import { Parser } from '../../src/sql/parser.ts';
import { Template } from '../../src/sql/template.ts';

/** A configuration with a sharding key. */
export interface Sharding {
  /** `data.id`, `*.id`, `shop.data.id`. */
  readonly key: string;
  readonly shards?: number;
  readonly fn?: ShardingFunction;
  readonly exact?: boolean;
  /** What views read. */
  readonly views?: Readonly<Record<string, readonly Relation[]>>;
  /** Columns that are keys of other pools. */
  readonly others?: readonly string[];
  /** Columns by table; a table that is not here is not known. */
  readonly tables?: Readonly<Record<string, readonly string[]>>;
}

/** One analysed text. */
export interface Planned {
  readonly plan: KeyPlan | undefined;
  /** The literals that were taken out of it. */
  readonly literals: readonly Literal[];
  /** What planning took of the thread's time. */
  readonly planning_us: number;
}

const MAX_LENGTH = 8192;

export class Answers {
  readonly sharder: Sharder;
  readonly #parser: Parser;
  readonly #sharding: Sharding;
  readonly #template = new Template(MAX_LENGTH);
  readonly #key: KeyContext['key'];

  private constructor(parser: Parser, sharding: Sharding) {
    this.#parser = parser;
    this.#sharding = sharding;
    this.sharder = new Sharder(sharding.fn ?? 'pg_bigint_hash', sharding.shards ?? 3);
    const parts = sharding.key.split('.');
    const [column = '', table, schema] = parts.reverse();
    this.#key = { column, table: table === '*' ? undefined : table, schema };
  }

  static async create(sharding: Sharding): Promise<Answers> {
    return new Answers(await Parser.create({ max_length: MAX_LENGTH, now: () => 0 }), sharding);
  }

  /** The same parser for another configuration. */
  with(sharding: Sharding): Answers {
    return new Answers(this.#parser, sharding);
  }

  /** The plan of the text's template; `verbatim`: of the text itself, literals and all. */
  plan(sql: string, verbatim = false): Planned {
    const bytes = Buffer.from(sql);
    const template = this.#template;
    template.scan(bytes, 0, bytes.length, false);
    const parsed = this.#parser.parse(verbatim ? bytes : template.bytes);
    assert.ok(parsed.tree !== undefined, `${parsed.refusal}: ${sql}`);
    const holeAt = (offset: number) => (verbatim ? undefined : template.holeAt(offset));
    const columns = new Set([this.#key.column.toLowerCase(), ...(this.#sharding.others ?? [])]);
    const before = process.threadCpuUsage();
    const plan = planKeys(parsed.tree, columns, holeAt);
    const { user, system } = process.threadCpuUsage(before);
    const literals = Array.from({ length: template.literals }, (_, n) => template.literal(n));
    return { plan, literals, planning_us: user + system };
  }

  /** The answer for a text with these parameters, in text format. */
  answer(sql: string, values: readonly (string | null)[] = [], verbatim = false): ShardAnswer {
    const { plan, literals } = this.plan(sql, verbatim);
    return plan === undefined ? { kind: 'none' } : answerShards(plan, this.context(literals, values));
  }

  context(literals: readonly Literal[], values: readonly (string | null)[]): KeyContext {
    const written = (scalar: Scalar): WrittenKey | undefined => {
      if (scalar === 'null') return scalar;
      if ('param' in scalar) {
        const value = values[scalar.param - 1];
        if (value === undefined || scalar.cast?.match(/^_?(int[248]|text|uuid)$/) === null) return undefined;
        return value === null ? 'null' : { form: 'text', bytes: Buffer.from(value), type: 0 };
      }
      const { form, text } = 'hole' in scalar ? literals[scalar.hole] : scalar.literal;
      return form === 'bits' ? undefined : { form, text, negative: scalar.negative, cast: scalar.cast };
    };
    const { sharder } = this;
    return {
      key: this.#key,
      shards: sharder.shards,
      exact: this.#sharding.exact ?? false,
      columnsOf: table => this.#sharding.tables?.[table],
      basesOf: table => this.#sharding.views?.[table],
      shardOf: (scalar, use) => {
        const key = written(scalar);
        return key === undefined ? 'unknown' : sharder.shardOf(key, use);
      },
      elementsOf: array => {
        const key = written(array);
        return key === undefined ? undefined : sharder.elementsOf(key);
      },
      textOf: scalar => {
        if (scalar === 'null') return 'NULL';
        if ('param' in scalar) return `$${scalar.param}`;
        const { form, text } = 'hole' in scalar ? literals[scalar.hole] : scalar.literal;
        const sign = scalar.negative ? '-' : '';
        return form === 'string' ? `${sign}'${text}'` : sign + text;
      },
      rangeOf: (from, to) => {
        const keys = [written(from), written(to)].filter(key => key !== undefined);
        return keys.length < 2 ? undefined : sharder.rangeOf(keys[0], keys[1]);
      },
    };
  }
}
