/** Finds the shards of a statement: its plan, evaluated with the values at hand. */

import type {
  Condition,
  KeyContext,
  KeyPlan,
  KeyShard,
  Run,
  Scalar,
  ShardAnswer,
  TableUse,
  Term,
  Variable,
} from './keys-plan.ts';
import { type Complaint, complain, describe, type Found } from './keys-words.ts';

/** Shards that rows may be on; undefined for every shard. */
type Shards = readonly number[] | undefined;

type Failed = Extract<ShardAnswer, { kind: 'every' | 'refused' }>;

/** Looks at each variable after the first one: what is not found until then is not found. */
const ROUNDS_MAX = 20;

/** The shards of the rows that a statement needs, when its values are what `context` says. */
export function answerShards(plan: KeyPlan, context: KeyContext): ShardAnswer {
  return new Evaluation(plan, context).answer();
}

class Evaluation {
  readonly #plan: KeyPlan;
  readonly #context: KeyContext;
  readonly #key: string;
  readonly #sharded = new Map<TableUse, boolean>();
  readonly #terms = new Map<Condition, Shards>();
  readonly #shards: Shards[] = [];
  readonly #trusted: boolean[] = [];

  constructor(plan: KeyPlan, context: KeyContext) {
    this.#plan = plan;
    this.#context = context;
    this.#key = context.key.column.toLowerCase();
  }

  answer(): ShardAnswer {
    const uses = this.#plan.uses.filter(use => use.kind !== 'current' && this.#isSharded(use));
    const assigned = this.#plan.uses.find(use => use.assigned.size > 0 && this.#isSharded(use) && this.#assigns(use));
    if (assigned !== undefined) return { kind: 'refused', how: complain('assigned', assigned, this.#key) };
    if (uses.length === 0) return { kind: 'none' };
    this.#solve();
    let worst: ShardAnswer | undefined;
    const shards: number[] = [];
    const found: Found[] = [];
    for (const use of uses) {
      const answer = this.#answerOf(use);
      if ('kind' in answer) {
        if (worst === undefined || answer.kind === 'refused') worst = answer;
      } else {
        for (const shard of answer.shards) if (!shards.includes(shard)) shards.push(shard);
        found.push(answer);
      }
      if (worst?.kind === 'refused') return worst;
    }
    return (
      worst ??
      this.#told(
        shards.sort((a, b) => a - b),
        found,
      )
    );
  }

  #told(shards: readonly number[], found: readonly Found[]): ShardAnswer {
    if (shards.length === 0) return { kind: 'none' };
    const how = describe(shards.length === 1 ? found.slice(0, 1) : found, this.#context);
    return shards.length === 1 ? { kind: 'one', shard: shards[0], how } : { kind: 'several', shards, how };
  }

  #answerOf(use: TableUse): (Found & { readonly shards: readonly number[] }) | Failed {
    const fail = (kind: Failed['kind'], complaint: Complaint): Failed => {
      return { kind, how: complain(complaint, use, this.#key) };
    };
    if (use.kind === 'copy_from') return fail('refused', use.kind);
    if (use.kind === 'copy_to' || use.kind === 'truncate' || use.kind === 'lock') return fail('every', use.kind);
    const kind = use.kind === 'insert' ? 'refused' : 'every';
    const variable = this.#keyOf(use);
    if (variable === undefined) {
      const isUnnamed = use.positions !== undefined && this.#columnsOf(use) === undefined;
      return fail(kind, isUnnamed ? 'unnamed' : 'missing');
    }
    const shards = this.#shards[variable.index];
    if (shards !== undefined) return { shards, use, variable };
    return fail(kind, variable.conditions.length === 0 ? 'missing' : 'unclear');
  }

  /** The variable of a table's key. */
  #keyOf(use: TableUse): Variable | undefined {
    if (use.positions !== undefined) {
      const columns = this.#columnsOf(use);
      const exact = columns?.indexOf(this.#context.key.column) ?? -1;
      return use.positions[
        exact !== -1 ? exact : (columns?.findIndex(column => column.toLowerCase() === this.#key) ?? -1)
      ];
    }
    const exact = use.keys.get(this.#context.key.column);
    if (exact !== undefined) return exact;
    for (const [name, variable] of use.keys) if (this.#isKey(use, name)) return variable;
    return undefined;
  }

  /** Case is nothing unless the table has columns that differ in nothing else. */
  #isKey(use: TableUse, name: string): boolean {
    const { column } = this.#context.key;
    if (name === column) return true;
    return name.toLowerCase() === this.#key && this.#columnsOf(use)?.includes(column) !== true;
  }

  #assigns(use: TableUse): boolean {
    for (const name of use.assigned) if (this.#isKey(use, name)) return true;
    return false;
  }

  #columnsOf({ schema, name }: TableUse): readonly string[] | undefined {
    return this.#context.columnsOf(schema === undefined ? name : `${schema}.${name}`);
  }

  #isSharded(use: TableUse): boolean {
    let sharded = this.#sharded.get(use);
    if (sharded === undefined) {
      sharded = this.#judge(use);
      this.#sharded.set(use, sharded);
    }
    return sharded;
  }

  #judge(use: TableUse): boolean {
    const { schema, table } = this.#context.key;
    if (schema !== undefined && use.schema !== undefined && use.schema.toLowerCase() !== schema.toLowerCase())
      return false;
    if (table !== undefined) return use.name.toLowerCase() === table.toLowerCase();
    if (use.schema === 'pg_catalog' || use.schema === 'information_schema') return false;
    const columns = this.#columnsOf(use);
    // The tables of PostgreSQL itself are in no catalog of ours.
    if (columns === undefined) return !use.name.startsWith('pg_');
    return columns.some(column => column.toLowerCase() === this.#key);
  }

  /** Narrows the shards of every variable, from all of them, until nothing changes. */
  #solve(): void {
    const { variables, linked } = this.#plan;
    if (linked) for (const variable of variables) this.#trusted.push(this.#isTrusted(variable));
    for (let round = 0; round < ROUNDS_MAX; round++) {
      let changed = false;
      for (const { index, conditions } of variables) {
        const before = this.#shards[index];
        let shards = before;
        for (const condition of conditions) shards = intersection(shards, this.#of(condition));
        this.#shards[index] = shards;
        if (shards?.length !== before?.length) changed = true;
      }
      if (!changed || !linked) return;
    }
  }

  #of(condition: Condition): Shards {
    switch (condition.kind) {
      case 'terms':
        return this.#ofTerms(condition);
      case 'same':
        return this.#shards[condition.variable.index];
      case 'equal':
        return this.#trusts(condition.to) ? this.#of(condition.to) : undefined;
      case 'one_of': {
        const variable = this.#existing(condition.variables);
        return variable && this.#shards[variable.index];
      }
      case 'all':
        return condition.of.reduce<Shards>((shards, part) => intersection(shards, this.#of(part)), undefined);
      case 'any': {
        let shards: Shards = [];
        for (const part of condition.of) shards = union(shards, this.#of(part));
        return shards;
      }
      case 'unknown':
        return undefined;
    }
  }

  #ofTerms(condition: Extract<Condition, { kind: 'terms' }>): Shards {
    if (this.#terms.has(condition)) return this.#terms.get(condition);
    let shards: Shards = [];
    for (const term of condition.terms) {
      shards = this.#ofTerm(term, condition.use, shards);
      if (shards === undefined) break;
    }
    this.#terms.set(condition, shards);
    return shards;
  }

  #ofTerm(term: Term | Run, use: 'compared' | 'stored', before: readonly number[]): Shards {
    if (term === 'null' || !('count' in term || 'array' in term || 'from' in term))
      return this.#ofScalar(term, use, before);
    if ('from' in term) return union(before, this.#context.rangeOf(term.from, term.to));
    let shards: Shards = before;
    if ('array' in term) {
      const elements = this.#context.elementsOf(term.array);
      // What is stored is one of the elements, as it was compared.
      if (elements === undefined || (this.#plan.inserts && elements.includes('unmatched'))) return undefined;
      for (const element of elements) if (shards !== undefined) shards = join(shards, element);
      return shards;
    }
    const { of, first, step, count, cast } = term;
    for (let i = 0; i < count && shards !== undefined; i++) {
      const number = first + i * step;
      const scalar: Scalar = of === 'param' ? { param: number, cast } : { hole: number, negative: false, cast };
      shards = this.#ofScalar(scalar, use, shards);
    }
    return shards;
  }

  #ofScalar(term: Scalar, use: 'compared' | 'stored', before: readonly number[]): Shards {
    const shard = this.#context.shardOf(term, use);
    // What is compared may be stored afterwards, by the same statement.
    if (use === 'compared' && this.#plan.inserts && this.#context.shardOf(term, 'stored') !== shard) return undefined;
    return join(before, shard);
  }

  /** Whether equality with it tells of keys: it is a key, or comes from keys and from constants. */
  #isTrusted({ origin, column }: Variable): boolean {
    if (this.#context.exact === true) return true;
    if (origin === undefined) return false;
    return 'keys' in origin ? this.#isSharded(origin) && this.#isKey(origin, column) : this.#trusts(origin);
  }

  #trusts(condition: Condition): boolean {
    switch (condition.kind) {
      case 'terms':
        return this.#ofTerms(condition) !== undefined;
      case 'same':
        return this.#trusted[condition.variable.index] ?? false;
      case 'equal':
        return this.#trusts(condition.to);
      case 'one_of': {
        const variable = this.#existing(condition.variables);
        return variable !== undefined && (this.#trusted[variable.index] ?? false);
      }
      case 'all':
      case 'any':
        return condition.of.every(part => this.#trusts(part));
      case 'unknown':
        return false;
    }
  }

  /** The only one of these that is a column for certain. */
  #existing(variables: readonly Variable[]): Variable | undefined {
    const existing = variables.filter(variable => this.#exists(variable));
    return existing.length === 1 ? existing[0] : undefined;
  }

  #exists({ origin, column, certain }: Variable): boolean {
    if (origin === undefined) return false;
    if ('keys' in origin) {
      if (this.#context.key.table !== undefined && this.#isSharded(origin) && this.#isKey(origin, column)) return true;
      return this.#columnsOf(origin)?.includes(column) === true;
    }
    if (certain) return true;
    if (origin.kind === 'same') return this.#exists(origin.variable);
    return origin.kind === 'one_of' && this.#existing(origin.variables) !== undefined;
  }
}

function join(shards: readonly number[], shard: KeyShard): Shards {
  if (shard === 'unknown') return undefined;
  return shard === 'unmatched' || shards.includes(shard) ? shards : [...shards, shard];
}

function union(left: Shards, right: Shards): Shards {
  if (left === undefined || right === undefined) return undefined;
  return left.length === 0 ? right : [...left, ...right.filter(shard => !left.includes(shard))];
}

function intersection(left: Shards, right: Shards): Shards {
  if (left === undefined) return right;
  return right === undefined ? left : left.filter(shard => right.includes(shard));
}
