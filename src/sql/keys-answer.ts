/** Finds the shards of a statement: its plan, evaluated with the values at hand. */

import type {
  Condition,
  KeyContext,
  KeyPlan,
  KeyShard,
  Relation,
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

const NONE: ShardAnswer = { kind: 'none' };

/** The shards of the rows that a statement needs, when its values are what `context` says. */
export function answerShards(plan: KeyPlan, context: KeyContext): ShardAnswer {
  return new Evaluation(plan, context).answer();
}

class Evaluation {
  readonly #plan: KeyPlan;
  readonly #context: KeyContext;
  readonly #key: string;
  /** What terms have been found to say, if they are looked at again and again. */
  readonly #terms: Map<Condition, Shards> | undefined;
  readonly #shards: Shards[] = [];
  readonly #trusted: boolean[] = [];

  constructor(plan: KeyPlan, context: KeyContext) {
    this.#plan = plan;
    this.#context = context;
    this.#key = context.key.column.toLowerCase();
    this.#terms = plan.linked ? new Map() : undefined;
  }

  answer(): ShardAnswer {
    let solved = false;
    let worst: Failed | undefined;
    let shards: readonly number[] = [];
    const found: Found[] = [];
    for (const use of this.#plan.uses) {
      if (!this.#isSharded(use)) continue;
      if (use.assigned.size > 0 && this.#assigns(use))
        return { kind: 'refused', how: complain('assigned', use, this.#key), assigned: true };
      if (use.kind === 'current') continue;
      if (!solved) this.#solve();
      solved = true;
      const answer = this.#answerOf(use);
      if ('kind' in answer) {
        if (worst?.kind !== 'refused') worst = worst === undefined || answer.kind === 'refused' ? answer : worst;
      } else {
        shards = union(shards, answer.shards);
        found.push(answer);
      }
    }
    if (worst !== undefined) return worst;
    if (shards.length === 0) return NONE;
    if (shards.length > 1) {
      const sorted = [...shards].sort((a, b) => a - b);
      return { kind: 'several', shards: sorted, how: describe(found, this.#context) };
    }
    return { kind: 'one', shard: shards[0], how: describe(found.slice(0, 1), this.#context) };
  }

  #fail(use: TableUse, kind: Failed['kind'], complaint: Complaint): Failed {
    return { kind, how: complain(complaint, use, this.#key) };
  }

  #answerOf(use: TableUse): (Found & { readonly shards: readonly number[] }) | Failed {
    if (use.kind === 'copy_from') return this.#fail(use, 'refused', use.kind);
    if (use.kind === 'copy_to' || use.kind === 'truncate' || use.kind === 'lock') {
      return this.#fail(use, 'every', use.kind);
    }
    const kind = use.kind === 'insert' ? 'refused' : 'every';
    if (this.#basesOf(use) !== undefined) return this.#fail(use, kind, 'view');
    const variable = this.#keyOf(use);
    if (variable === undefined) {
      const isUnnamed = use.positions !== undefined && this.#columnsOf(use) === undefined;
      return this.#fail(use, kind, isUnnamed ? 'unnamed' : 'missing');
    }
    const shards = this.#shards[variable.index];
    if (shards !== undefined) return { shards, use, variable };
    return this.#fail(use, kind, variable.conditions.length === 0 ? 'missing' : 'unclear');
  }

  /** The variable of a table's key. */
  #keyOf(use: TableUse): Variable | undefined {
    if (use.positions !== undefined) {
      const columns = this.#columnsOf(use);
      const exact = columns?.indexOf(this.#context.key.column) ?? -1;
      return use.positions[exact !== -1 ? exact : (columns?.findIndex(column => isSame(column, this.#key)) ?? -1)];
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

  #columnsOf(relation: Relation): readonly string[] | undefined {
    return this.#context.columnsOf(nameOf(relation));
  }

  #basesOf(relation: Relation): readonly Relation[] | undefined {
    return this.#context.basesOf?.(nameOf(relation));
  }

  /** Whether it has rows on one shard that others have not. */
  #isSharded(use: TableUse): boolean {
    const bases = this.#basesOf(use);
    return bases === undefined ? this.#hasKey(use) : bases.some(base => this.#hasKey(base));
  }

  #hasKey(relation: Relation): boolean {
    const { schema, table } = this.#context.key;
    const { name } = relation;
    if (schema !== undefined && relation.schema !== undefined && !isSame(relation.schema, schema)) return false;
    if (table !== undefined) return isSame(name, table);
    if (relation.schema === 'pg_catalog' || relation.schema === 'information_schema') return false;
    const columns = this.#columnsOf(relation);
    // The tables of PostgreSQL itself are in no catalog of ours.
    if (columns === undefined) return !name.startsWith('pg_');
    return columns.some(column => isSame(column, this.#key));
  }

  /** Narrows the shards of every variable, from all of them, until nothing changes: there and back again. */
  #solve(): void {
    const { variables, linked } = this.#plan;
    if (linked) for (const variable of variables) this.#trusted.push(this.#isTrusted(variable));
    const last = variables.length - 1;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      let changed = false;
      for (let n = 0; n <= last; n++) if (this.#narrow(variables[round % 2 === 0 ? n : last - n])) changed = true;
      if (!changed || !linked) return;
    }
  }

  /** Whether something is known now that was not before. */
  #narrow({ index, conditions }: Variable): boolean {
    const before = this.#shards[index];
    let shards = before;
    for (const condition of conditions) shards = intersection(shards, this.#of(condition));
    this.#shards[index] = shards;
    return shards?.length !== before?.length;
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
        let shards: readonly number[] = [];
        for (const part of condition.of) {
          const more = this.#of(part);
          if (more === undefined) return undefined;
          shards = union(shards, more);
        }
        return shards;
      }
      case 'unknown':
        return undefined;
    }
  }

  #ofTerms(condition: Extract<Condition, { kind: 'terms' }>): Shards {
    if (this.#terms?.has(condition) === true) return this.#terms.get(condition);
    let shards: Shards = [];
    for (const term of condition.terms) {
      shards = this.#ofTerm(term, condition.use, shards);
      if (shards === undefined) break;
    }
    this.#terms?.set(condition, shards);
    return shards;
  }

  #ofTerm(term: Term | Run, use: 'compared' | 'stored', before: readonly number[]): Shards {
    if (term === 'null' || !('count' in term || 'array' in term || 'from' in term))
      return this.#ofScalar(term, use, before);
    if ('from' in term) {
      const range = this.#context.rangeOf(term.from, term.to);
      return range && union(before, range);
    }
    let shards: Shards = before;
    if ('array' in term) {
      const elements = this.#context.elementsOf(term.array);
      // How they would be stored nobody can ask.
      if (elements === undefined || this.#plan.inserts) return undefined;
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
    if (!('keys' in origin)) return this.#trusts(origin);
    return this.#basesOf(origin) === undefined && this.#hasKey(origin) && this.#isKey(origin, column);
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
      if (this.#context.key.table !== undefined && this.#hasKey(origin) && this.#isKey(origin, column)) return true;
      return this.#columnsOf(origin)?.includes(column) === true;
    }
    if (certain) return true;
    if (origin.kind === 'same') return this.#exists(origin.variable);
    return origin.kind === 'one_of' && this.#existing(origin.variables) !== undefined;
  }
}

function isSame(name: string, other: string): boolean {
  return name === other || name.toLowerCase() === other.toLowerCase();
}

function nameOf({ schema, name }: Relation): string {
  return schema === undefined ? name : `${schema}.${name}`;
}

function join(shards: readonly number[], shard: KeyShard): Shards {
  if (shard === 'unknown') return undefined;
  return shard === 'unmatched' || shards.includes(shard) ? shards : [...shards, shard];
}

function union(left: readonly number[], right: readonly number[]): readonly number[] {
  return left.length === 0 ? right : [...left, ...right.filter(shard => !left.includes(shard))];
}

function intersection(left: Shards, right: Shards): Shards {
  if (left === undefined) return right;
  return right === undefined ? left : left.filter(shard => right.includes(shard));
}
