/** Analyses texts and remembers the answers, within bounds: most of what clients send, they have sent before. */
import { LRUCache } from 'lru-cache';
import { analyzeTree } from './analyze.ts';
import { DEFAULT_MAX_LENGTH_BYTES, Parser, type ParserOptions, type Refusal } from './parser.ts';
import { type Statement, unparsedStatement } from './statement.ts';

/** Limits of an {@link Analyzer}. */
export interface AnalyzerOptions extends ParserOptions {
  /** Analyses remembered at most. */
  readonly entries: number;
  /** Memory for them at most, bytes. */
  readonly bytes: number;
}

/** What an analyzer has done since it was made. */
export interface AnalyzerCounters {
  /** Texts whose analysis was remembered, and texts that had to be parsed. */
  readonly hits: number;
  readonly misses: number;
  /** Texts that made the parser fail, and parsers made in place of failed ones. */
  readonly faults: number;
  readonly renewals: number;
}

const DEFAULTS = { max_length: DEFAULT_MAX_LENGTH_BYTES, entries: 10_000, bytes: 16 * 1024 * 1024 };

/** What an entry takes besides its text, roughly: the statement, its detail, and the cache's own fields. */
const ENTRY_BYTES = 500;

/** The refusals that the same text meets again, and that cost something to find out. */
const LASTING: ReadonlySet<Refusal> = new Set<Refusal>(['syntax', 'parser_fault']);

/** PostgreSQL's grammar and a cache in front of it. */
export class Analyzer {
  readonly #parser: Parser;
  readonly #max_length: number;
  readonly #cache: LRUCache<string, Statement>;
  #hits = 0;
  #misses = 0;

  private constructor(parser: Parser, { max_length, entries, bytes }: Omit<AnalyzerOptions, 'now'>) {
    this.#parser = parser;
    this.#max_length = max_length;
    this.#cache = new LRUCache({
      max: entries,
      maxSize: bytes,
      sizeCalculation: (_statement, text) => 2 * text.length + ENTRY_BYTES,
    });
  }

  /**
   * Loads the parser.
   * @throws Error libpg-query cannot be loaded
   */
  static async create(options: Partial<AnalyzerOptions> & Pick<AnalyzerOptions, 'now'>): Promise<Analyzer> {
    const limits = { ...DEFAULTS, ...options };
    return new Analyzer(await Parser.create(limits), limits);
  }

  get counters(): AnalyzerCounters {
    const { faults, renewals } = this.#parser;
    return { hits: this.#hits, misses: this.#misses, faults, renewals };
  }

  /** Analyses remembered now, and their bytes as they are counted against the limit. */
  get size(): { readonly entries: number; readonly bytes: number } {
    return { entries: this.#cache.size, bytes: this.#cache.calculatedSize };
  }

  /** The analysis of a text: the whole string of a Query or Parse message. Never throws. */
  analyzeText(text: string): Statement {
    // A text that is too long is never in the cache, and would take long to look up.
    const known = text.length <= this.#max_length ? this.#cache.get(text) : undefined;
    if (known !== undefined) {
      this.#hits++;
      return known;
    }
    this.#misses++;
    const parsed = this.#parser.parse(text);
    const statement = parsed.tree === undefined ? unparsedStatement(parsed.message) : analyzeTree(parsed.tree);
    if (parsed.refusal === undefined || LASTING.has(parsed.refusal)) this.#cache.set(text, statement);
    return statement;
  }
}
