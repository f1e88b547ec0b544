/** Turns SQL text into PostgreSQL's own parse tree; owns libpg-query, so that no text can break the parser for others. */
import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { ParseResult } from '@pgsql/types';
import { BYTE, CLASSES, OPERATOR } from './lexer.ts';

/** Longest text that is parsed by default, bytes: deeper input than fits overruns the WASM stack. */
export const DEFAULT_MAX_LENGTH_BYTES = 8192;

/**
 * Longest run of operator characters. PostgreSQL's own limit is 64, but a longer run of `+` is many operators, and its
 * scanner reads the whole run again for each.
 */
const OPERATOR_LENGTH = 128;
/** Of the longest text, how much may be operators: nothing else makes as large a tree of as little text. */
const OPERATORS_SHARE = 1 / 4;
/** New instances that may be made at once, and the time after which one more is allowed. */
const RENEWALS_AT_ONCE = 4;
const RENEWAL_INTERVAL_MS = 1000;
/** Failed instances after which garbage is collected; each holds about 5 MB until then. */
const COLLECTED_AT_ONCE = 8;
/** Characters kept of the grammar's message, which quotes the text. */
const MESSAGE_LENGTH = 120;
/** Byte offsets in the C structs PgQueryParseResult {tree, stderr, error} and PgQueryError {message, ...}. */
const RESULT_TREE = 0;
const RESULT_ERROR = 8;
const ERROR_MESSAGE = 0;

/**
 * Optimising the grammar's one huge function takes V8 half a gigabyte for a second, some time after the first
 * texts; its baseline code takes about twice as long a text, and most texts are remembered.
 */
function keepToBaselineCode(): void {
  setFlagsFromString('--no-wasm-tier-up');
  setFlagsFromString('--no-wasm-dynamic-tiering');
}

/**
 * Why a text has no tree: `syntax` (the grammar refuses it), `too_long` (also for its operators), `nul` (PostgreSQL ends a text there),
 * `encoding` (not UTF-8, so the server may read it differently), `parser_fault` (the parser failed on this very text),
 * `parser_away` (an earlier fault, and no new instance yet: the same text may parse later).
 */
export type Refusal = 'syntax' | 'too_long' | 'nul' | 'encoding' | 'parser_fault' | 'parser_away';

/** A parse tree, or why there is none. */
export type Parsed =
  | { readonly tree: ParseResult; readonly refusal?: undefined }
  | { readonly tree?: undefined; readonly refusal: Refusal; readonly message: string };

/** What a parser needs to know of its surroundings. */
export interface ParserOptions {
  /** Longest text parsed, bytes. */
  readonly max_length: number;
  /** A clock that never goes back, ms. */
  readonly now: () => number;
}

/** The part of the emscripten module that is used here. Pointers are numbers; HEAPU8 is replaced when memory grows. */
interface Instance {
  readonly HEAPU8: Uint8Array<ArrayBuffer>;
  _malloc(length: number): number;
  _free(pointer: number): void;
  getValue(pointer: number, type: 'i32'): number;
  UTF8ToString(pointer: number): string;
  _wasm_parse_query_raw(text: number): number;
  _wasm_free_parse_result(result: number): void;
}

/** The part of the WebAssembly API that is used here: Node has it, its types do not declare it. */
declare const WebAssembly: {
  compile(bytes: Uint8Array): Promise<object>;
  readonly Instance: new (module: object, imports: object) => object;
};

type Factory = (settings: {
  instantiateWasm(imports: object, done: (instance: object) => void): void;
  print(line: string): void;
  printErr(line: string): void;
}) => Promise<Instance>;

/**
 * PostgreSQL's grammar as a synchronous function. Input that overruns the stack leaves an instance unusable, silently:
 * whatever throws discards its instance, and a new one is made, a few at a time.
 */
export class Parser {
  /** The longest text that is parsed, bytes. */
  max_length: number;
  readonly #now: () => number;
  readonly #make: () => Promise<Instance>;
  #instance: Instance | undefined;
  #renewing = false;
  #allowed = RENEWALS_AT_ONCE;
  #allowed_at_ms: number;
  #discarded = 0;
  #faults = 0;
  #renewals = 0;

  private constructor(options: ParserOptions, make: () => Promise<Instance>, instance: Instance) {
    this.max_length = options.max_length;
    this.#now = options.now;
    this.#make = make;
    this.#instance = instance;
    this.#allowed_at_ms = options.now();
  }

  /** Loads and compiles the WASM module once per parser. */
  static async create(options: ParserOptions): Promise<Parser> {
    const require = createRequire(import.meta.url);
    const factory: Factory = require('libpg-query/wasm/libpg-query.js');
    keepToBaselineCode();
    const module = await WebAssembly.compile(await readFile(require.resolve('libpg-query/wasm/libpg-query.wasm')));
    const make = () =>
      factory({
        instantiateWasm: (imports, done) => done(new WebAssembly.Instance(module, imports)),
        // An aborting instance prints what it also throws.
        print: () => undefined,
        printErr: () => undefined,
      });
    return new Parser(options, make, await make());
  }

  /** Texts that made an instance fail. */
  get faults(): number {
    return this.#faults;
  }

  /** Instances made in place of failed ones. */
  get renewals(): number {
    return this.#renewals;
  }

  /** The parse tree of the text that these bytes are, or why there is none. Never throws. */
  parse(text: Uint8Array): Parsed {
    if (text.length > this.max_length) return refuse('too_long', `it is longer than ${this.max_length} bytes`);
    if (text.includes(0)) return refuse('nul', 'it holds a NUL character');
    if (!isUtf8(text)) return refuse('encoding', 'it is not UTF-8');
    const operators = Math.max(OPERATOR_LENGTH, this.max_length * OPERATORS_SHARE);
    if (hasHeavyOperators(text, operators)) return refuse('too_long', 'it has too many operators');
    const instance = this.#instance;
    if (instance === undefined) {
      this.#renew();
      return refuse('parser_away', 'the parser is being renewed');
    }
    try {
      return this.#run(instance, text);
    } catch (fault) {
      this.#faults++;
      this.#instance = undefined;
      this.#renew();
      return refuse('parser_fault', fault instanceof Error ? fault.message : String(fault));
    }
  }

  #run(instance: Instance, text: Uint8Array): Parsed {
    const pointer = instance._malloc(text.length + 1);
    if (pointer === 0) throw new Error('out of memory');
    instance.HEAPU8.set(text, pointer);
    instance.HEAPU8[pointer + text.length] = 0;
    const result = instance._wasm_parse_query_raw(pointer);
    if (result === 0) throw new Error('out of memory');
    const error = instance.getValue(result + RESULT_ERROR, 'i32');
    const text_pointer = instance.getValue(error === 0 ? result + RESULT_TREE : error + ERROR_MESSAGE, 'i32');
    const answer = instance.UTF8ToString(text_pointer);
    instance._free(pointer);
    instance._wasm_free_parse_result(result);
    if (error !== 0) return refuse('syntax', answer);
    return { tree: JSON.parse(answer) };
  }

  /** Starts to make a new instance, unless one is under way or faults come faster than instances may be made. */
  #renew(): void {
    if (this.#renewing) return;
    const now_ms = this.#now();
    const earned = Math.floor((now_ms - this.#allowed_at_ms) / RENEWAL_INTERVAL_MS);
    if (earned > 0) {
      this.#allowed = Math.min(RENEWALS_AT_ONCE, this.#allowed + earned);
      this.#allowed_at_ms += earned * RENEWAL_INTERVAL_MS;
    }
    if (this.#allowed === 0) return;
    this.#allowed--;
    if (++this.#discarded === COLLECTED_AT_ONCE) {
      this.#discarded = 0;
      collectGarbage();
    }
    this.#renewing = true;
    this.#make().then(
      instance => {
        this.#renewing = false;
        this.#renewals++;
        this.#instance = instance;
      },
      // No memory for it: texts stay unparsed, and one of them tries again.
      () => {
        this.#renewing = false;
        this.#faults++;
      },
    );
  }
}

/** V8 hardly counts the memory of a WASM instance, and would let hundreds of unused ones pile up. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect === 'function') collect();
}

/** Whether operators are too many or too long to parse; dashes after a dash are a comment's. */
function hasHeavyOperators(text: Uint8Array, most: number): boolean {
  let count = 0;
  let run = 0;
  for (let i = 0; i < text.length; i++) {
    if ((CLASSES[text[i]] & OPERATOR) === 0 || (text[i] === BYTE.dash && text[i - 1] === BYTE.dash)) {
      run = 0;
      continue;
    }
    count++;
    run++;
    if (run > OPERATOR_LENGTH || count > most) return true;
  }
  return false;
}

function refuse(refusal: Refusal, message: string): Parsed {
  return { refusal, message: message.length > MESSAGE_LENGTH ? `${message.slice(0, MESSAGE_LENGTH)}...` : message };
}
