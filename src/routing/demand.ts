/** What the statements of one batch ask of a route, gathered as they come. */
import type { PgError } from '../errors.ts';
import type { Judgement } from '../sql/catalog.ts';
import type { ShardAnswer } from '../sql/keys.ts';
import type { ReasonCode, Statement } from '../sql/statement.ts';
import type { CommentHint } from './comments.ts';

/** One statement and what became of its analysis in this pool. */
export interface Judged {
  readonly statement: Statement;
  readonly judgement: Judgement;
}

const ANY_SHARD: ShardAnswer = { kind: 'none' };

/** Statements of a batch that are remembered one by one. */
const JUDGED_MAX = 64;

export class Demand {
  /** Whether every statement is provably a read; undefined while none has been inspected. */
  read: boolean | undefined;
  /** Why not, or why: of the first statement that is not a read, else of the first. */
  reason: ReasonCode | undefined;
  /** Words of the reason, with the name that they are about. */
  detail = '';
  /** The shards that the rows of all statements are on. */
  answer: ShardAnswer = ANY_SHARD;
  /** What the client is told of a text that has a mistake, and so no shard. */
  error: PgError | undefined;
  /** What comments ask for. */
  wish: CommentHint | undefined;
  /** Statements that are to run, and those of them whose own comments ask for something. */
  #runs = 0;
  #wishes = 0;
  /** Whether every statement changes nothing but rows: false once one was not inspected. */
  shareable = true;
  /** The statements, once for each time that one is to run; the first ones of many. */
  judged: Judged[] = [];
  /** Whether more is to run than {@link judged} says. */
  more = false;

  /** Starts over. */
  clear(): void {
    this.read = undefined;
    this.reason = undefined;
    this.detail = '';
    this.answer = ANY_SHARD;
    this.error = undefined;
    this.wish = undefined;
    this.#runs = 0;
    this.#wishes = 0;
    this.shareable = true;
    if (this.judged.length > 0) this.judged = [];
    this.more = false;
  }

  /** Whether the comments speak for every statement that is to run. */
  get isWishOfAll(): boolean {
    return this.#wishes >= this.#runs;
  }

  /** Whether it may begin a transaction. */
  get mayBegin(): boolean {
    if (this.read === undefined || this.more) return true;
    return this.judged.some(
      ({ statement: { transaction, reason, mistake } }) =>
        transaction !== 'none' || (reason === 'unparsed' && mistake === undefined),
    );
  }

  /** Adds a statement that is to run, or only to be prepared. */
  add(statement: Statement, judgement: Judgement, runs: boolean): void {
    const { read, reason, detail } = judgement;
    if (this.reason === undefined || (this.read !== false && !read)) {
      this.reason = reason;
      this.detail = detail;
    }
    this.read = this.read !== false && read;
    this.shareable &&= judgement.shareable;
    if (!runs) return;
    this.#runs++;
    if (this.judged.length < JUDGED_MAX) this.judged.push({ statement, judgement });
    else this.more = true;
  }

  /** Adds a statement that nothing is known of. */
  addUnknown(): void {
    this.read = false;
    this.reason ??= 'unparsed';
    this.shareable = false;
    this.more = true;
    this.#runs++;
  }

  /** Adds the shards of a statement that is to run: all must agree on one. */
  addShards(answer: ShardAnswer): void {
    this.answer = both(this.answer, answer);
  }

  /** Adds what a comment asks for; comments that contradict each other are an error. */
  addWish(wish: CommentHint, runs: boolean): void {
    if (runs) this.#wishes++;
    const other = this.wish;
    this.wish = other === undefined ? wish : merged(other, wish);
  }
}

const RANK = { none: 0, one: 1, several: 2, every: 3, refused: 4 } as const;

function both(first: ShardAnswer, second: ShardAnswer): ShardAnswer {
  if (second.kind === 'refused' && second.assigned === true) return second;
  if (first.kind === 'one' && second.kind === 'one' && first.shard !== second.shard) {
    return {
      kind: 'several',
      shards: [first.shard, second.shard].sort((a, b) => a - b),
      how: `${first.how}; ${second.how}`,
    };
  }
  return RANK[second.kind] > RANK[first.kind] ? second : first;
}

function merged(first: CommentHint, second: CommentHint): CommentHint {
  const differs = (['role', 'shard', 'sharding_key'] as const).find(
    word => first[word] !== undefined && second[word] !== undefined && first[word] !== second[word],
  );
  const shard = first.shard ?? second.shard;
  const sharding_key = first.sharding_key ?? second.sharding_key;
  const isTwofold = shard !== undefined && sharding_key !== undefined;
  const mistake = isTwofold ? 'comments of one batch name a shard and a key' : undefined;
  return {
    role: first.role ?? second.role,
    shard,
    sharding_key,
    error:
      first.error ??
      second.error ??
      (differs === undefined ? mistake : `comments of one batch ask for different values of ${differs}`),
  };
}
