/** Analyses templates of texts and remembers the answers, within bounds: most of what clients send, they have sent before. */
import type { ParseResult } from '@pgsql/types';
import { LRUCache } from 'lru-cache';
import { analyzeTree } from './analyze.ts';
import { planKeys } from './keys.ts';
import { DEFAULT_MAX_LENGTH_BYTES, Parser, type ParserOptions, type Refusal } from './parser.ts';
import { redacted } from './redact.ts';
import { type Statement, unparsedStatement } from './statement.ts';
import { type KeyRefusal, Template } from './template.ts';

/** Limits of an {@link Analyzer}. */
export interface AnalyzerOptions extends ParserOptions {
  /** Analyses remembered at most. */
  readonly entries: number;
  /** Memory for them at most, bytes. */
  readonly bytes: number;
}

/** What an analyzer has done since it was made. */
export interface AnalyzerCounters {
  /** Texts whose template was remembered, and texts that had to be parsed or were refused. */
  readonly hits: number;
  readonly misses: number;
  /** Texts that made the parser fail, and parsers made in place of failed ones. */
  readonly faults: number;
  readonly renewals: number;
}

const DEFAULTS = { max_length: DEFAULT_MAX_LENGTH_BYTES, entries: 10_000, bytes: 16 * 1024 * 1024 };

/** What an entry takes besides its key, roughly: the statement, its lists of names, and the cache's own fields. */
const ENTRY_BYTES = 600;
/** How often an entry holds each character of its key: in the key, the template, names and the parser's message. */
const COPIES = 4;

/** The refusals that the same template meets again, and that cost something to find out. */
const LASTING: ReadonlySet<Refusal> = new Set<Refusal>(['syntax', 'parser_fault']);

/** PostgreSQL's grammar and a cache in front of it. */
export class Analyzer {
  /** Of the text analysed last. */
  template: Template;

  readonly #parser: Parser;
  #max_length: number;
  readonly #cache: LRUCache<string, Statement>;
  #columns: ReadonlySet<string> = new Set();
  #hits = 0;
  #misses = 0;

  private constructor(parser: Parser, { max_length, entries, bytes }: Omit<AnalyzerOptions, 'now'>) {
    this.template = new Template(max_length);
    this.#parser = parser;
    this.#max_length = max_length;
    this.#cache = new LRUCache({
      max: entries,
      maxSize: bytes,
      sizeCalculation: ({ keys }, key) => COPIES * key.length + ENTRY_BYTES + (keys?.bytes ?? 0),
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

  /** The longest text that is analysed, bytes. */
  get max_length(): number {
    return this.#max_length;
  }

  set max_length(max_length: number) {
    if (max_length === this.#max_length) return;
    this.#max_length = max_length;
    this.#parser.max_length = max_length;
    this.template = new Template(max_length);
  }

  /** Names of the columns that are sharding keys in any pool, in lower case. */
  get columns(): ReadonlySet<string> {
    return this.#columns;
  }

  /** Other columns make other statements: what is remembered is forgotten. */
  set columns(columns: ReadonlySet<string>) {
    const same = columns.size === this.#columns.size && [...columns].every(column => this.#columns.has(column));
    if (same) return;
    this.#columns = columns;
    this.#cache.clear();
  }

  /**
   * The analysis of the text `buffer[start, end)`: the whole string of a Query or Parse message. `backslashes`: its
   * standard_conforming_strings is off. Never throws.
   */
  analyze(buffer: Buffer, start: number, end: number, backslashes: boolean): Statement {
    const { template } = this;
    template.scan(buffer, start, end, backslashes);
    if (template.refusal !== undefined) {
      this.#misses++;
      return unparsedStatement(this.#wordsFor(template.refusal));
    }
    const known = this.#cache.get(template.key);
    if (known !== undefined) {
      this.#hits++;
      return known;
    }
    this.#misses++;
    const parsed = this.#parser.parse(template.bytes);
    const { tree, refusal } = parsed;
    const mistake = refusal === 'syntax' ? parsed.message : undefined;
    const text = template.verbatim ? shown(template.bytes) : template.text;
    const statement =
      tree === undefined ? unparsedStatement(parsed.message, text, mistake) : this.#statementOf(tree, text);
    if (refusal === undefined || LASTING.has(refusal)) this.#cache.set(template.key, statement);
    return statement;
  }

  /** The analysis of a text that is at hand as a string, for tests and tools. */
  analyzeText(text: string): Statement {
    // Decoding has put this in place of what was not UTF-8.
    if (text.includes('\ufffd') || !text.isWellFormed()) return unparsedStatement('it is not UTF-8');
    const buffer = Buffer.from(text);
    return this.analyze(buffer, 0, buffer.length, false);
  }

  #statementOf(tree: ParseResult, text: string): Statement {
    const statement = analyzeTree(tree, text);
    if (this.#columns.size === 0) return statement;
    return { ...statement, keys: planKeys(tree, this.#columns, offset => this.template.holeAt(offset)) };
  }

  #wordsFor(refusal: KeyRefusal): string {
    switch (refusal) {
      case 'too_long':
        return `it is longer than ${this.#max_length} bytes`;
      case 'nul':
        return 'it holds a NUL character';
      case 'escapes':
        return 'it holds a backslash, and standard_conforming_strings is off';
    }
  }
}

/** A text that is its own template, to be shown to people. */
function shown(bytes: Uint8Array): string {
  return redacted(Buffer.from(bytes), 0, bytes.length, { numbers: false, backslashes: false });
}
