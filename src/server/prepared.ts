/** Prepared statements: one shared object per text and parameter types, and which of them a server connection holds. */
import { LRUCache } from 'lru-cache';
import type { Literal } from '../sql/literal.ts';
import type { Statement } from '../sql/statement.ts';
import { message, stringEnd } from '../wire/frontend.ts';
import { FRONTEND, HEADER_LENGTH } from '../wire/protocol.ts';
import type { Assumption } from './undo.ts';

/** What statement names on servers begin with. */
export const STATEMENT_PREFIX = 'pglynx_';

/** What a comment that is meant for pglynx begins with. */
const COMMENT_MARK = 'pglynx:';

/** Longest definition that clients share, bytes: a longer one takes long to look up, and a server much to keep. */
const SHARED_LENGTH_MAX = 65_536;

/** A statement as Parse defines it: SQL text and parameter types, under a name of pglynx's own. */
export class PreparedStatement {
  /** The name on every server. */
  readonly name: string;
  /** {@link SettingsProfile.dialect} of the sessions that share it. */
  readonly dialect: string;
  /** Where it is shared: a reload, after which its analysis may be another, makes a new one. */
  readonly catalog: StatementCatalog;
  readonly nameBytes: Buffer;
  /** Text with NUL, count and OIDs of parameter types: a Parse's body after the name. */
  readonly definition: Buffer;
  /** Parse messages for it so far; a text seen once is likely never seen again. */
  uses = 0;
  /** Counts how often its result type changed: connections that prepared an earlier revision prepare it anew. */
  revision = 0;
  /** What the grammar says of the text, once somebody asked. */
  analysis: Statement | undefined;
  /** The literals of the text, where the analysis depends on them. */
  literals: readonly Literal[] = [];
  /** OIDs of all types of parameters, as a server has told them. */
  #described: readonly number[] = [];
  /** Whether a comment of the text may be meant for pglynx. */
  readonly commented: boolean;
  /** Where the text ends in the definition. */
  readonly #textEnd: number;
  #text: string | undefined;
  #parse: Buffer | undefined;

  constructor(id: number, definition: Buffer, dialect: string, catalog: StatementCatalog) {
    this.name = `${STATEMENT_PREFIX}${id}`;
    this.dialect = dialect;
    this.catalog = catalog;
    this.nameBytes = Buffer.from(this.name);
    this.definition = definition;
    this.#textEnd = definition.indexOf(0);
    this.commented = definition.includes(COMMENT_MARK);
  }

  /** Where the types of parameters begin in the definition. */
  get #types(): number {
    return this.#textEnd + 3;
  }

  /** SQL text, without its NUL. */
  get text(): string {
    this.#text ??= this.definition.toString('utf8', 0, Math.max(0, this.#textEnd));
    return this.#text;
  }

  /** The Parse that prepares it under {@link name}. */
  get parse(): Buffer {
    this.#parse ??= parseMessage(this.name, this.definition);
    return this.#parse;
  }

  /** Whether it is so long that nobody keeps it for others. */
  get isLong(): boolean {
    return this.definition.length > SHARED_LENGTH_MAX;
  }

  /** OID of the type of parameter `n`, from 1; 0 when the definition does not give it. */
  typeOf(n: number): number {
    const at = this.#types + 4 * (n - 1);
    return n > 0 && at + 4 <= this.definition.length ? this.definition.readUInt32BE(at) : 0;
  }

  /** The same as a server has told it; 0 when none has. */
  toldTypeOf(n: number): number {
    return this.#described[n - 1] ?? 0;
  }

  /** A server has told the types of its parameters. */
  describe(types: readonly number[]): void {
    this.#described = types;
  }

  /** What servers said of it is no longer so: it must be prepared anew. */
  outdate(): void {
    this.revision++;
    this.#described = [];
  }

  /** Whether the definition gives types of parameters. */
  get hasTypes(): boolean {
    return this.definition.length !== this.#types;
  }
}

/** A Parse of this definition under this name, whose bytes are read as Latin-1. */
export function parseMessage(name: string, definition: Buffer): Buffer {
  return message(FRONTEND.parse, Buffer.concat([Buffer.from(`${name}\0`, 'latin1'), definition]));
}

/** Where name and definition are in the Parse at `buffer[start, end)`; undefined when a string does not end. */
export function splitParse(
  buffer: Buffer,
  start: number,
  end: number,
): { nameEnd: number; textEnd: number } | undefined {
  const nameEnd = stringEnd(buffer, start + HEADER_LENGTH, end);
  if (nameEnd === -1) return undefined;
  const textEnd = stringEnd(buffer, nameEnd + 1, end);
  return textEnd === -1 ? undefined : { nameEnd, textEnd };
}

/** Ids are the process's, so that a name means one statement even where a reload has replaced a cluster. */
let nextId = 1;

/**
 * The statements of all clients of one cluster, by definition. Entries that fall out stay valid for whoever
 * holds them; the next client that prepares the same text gets a new name.
 */
export class StatementCatalog {
  readonly #byDefinition: LRUCache<string, PreparedStatement>;

  /** Bounded in entries and in bytes of definitions. */
  constructor(entries_max: number, length_max: number) {
    this.#byDefinition = new LRUCache({
      max: entries_max,
      maxSize: length_max,
      sizeCalculation: ({ definition, dialect }) => definition.length * 2 + dialect.length + 256,
    });
  }

  /** Definitions kept, and their bytes. */
  get size(): number {
    return this.#byDefinition.size;
  }

  get bytes(): number {
    return this.#byDefinition.calculatedSize;
  }

  /** The statement that this definition means in this dialect; the bytes are copied when they are new. */
  intern(definition: Buffer, dialect: string): PreparedStatement {
    if (definition.length > SHARED_LENGTH_MAX) {
      return new PreparedStatement(nextId++, Buffer.from(definition), dialect, this);
    }
    const key = `${dialect}\0${definition.toString('latin1')}`;
    let statement = this.#byDefinition.get(key);
    if (statement === undefined) {
      statement = new PreparedStatement(nextId++, Buffer.from(definition), dialect, this);
      this.#byDefinition.set(key, statement);
    }
    statement.uses++;
    return statement;
  }
}

/** How a server connection prepared a statement. */
interface Prepared {
  /** Its revision then; {@link NO_REVISION} when it may be gone. */
  readonly revision: number;
  /** Milliseconds of `performance.now()`. */
  readonly at: number;
  /** Whether the server has said so. */
  sure: boolean;
}

/** The revision of a statement of which nothing is known. */
const NO_REVISION = -1;

/**
 * Milliseconds after which a client's Parse of a statement that the connection holds is a real one, as it would be
 * without a pooler: the server looks at the schema again, whose columns may have other types by then.
 */
const FRESH_MS = 60_000;

/** The statements that one server connection holds, least recently used first. */
export class ServerStatements {
  readonly #held = new Map<PreparedStatement, Prepared>();
  /** Statements kept; beyond it the least recently used is closed. */
  readonly size_max: number;
  /** What the server's unnamed statement is. */
  unnamed: PreparedStatement | undefined;
  /** What was sent and may still be refused or skipped: until then nothing here is sure. */
  pending = 0;
  #newest: PreparedStatement | undefined;

  constructor(size_max: number) {
    this.size_max = size_max;
  }

  get size(): number {
    return this.#held.size;
  }

  /** Whether the connection holds it as it is now; marks it as used. */
  touch(statement: PreparedStatement): boolean {
    const prepared = this.#held.get(statement);
    if (prepared === undefined || prepared.revision !== statement.revision) return false;
    if (statement !== this.#newest) {
      this.#held.delete(statement);
      this.#add(statement, prepared);
    }
    return true;
  }

  /** The same for a client's Parse of it at `now`; `doubtful` behind others, whose own Parse may yet fail. */
  answers(statement: PreparedStatement, now: number, doubtful = false): boolean {
    if (!this.touch(statement)) return false;
    const prepared = this.#held.get(statement);
    return prepared !== undefined && (prepared.sure || !doubtful) && now - prepared.at < FRESH_MS;
  }

  /** It is prepared at `now`. */
  add(statement: PreparedStatement, now: number): Assumption {
    const prepared = { revision: statement.revision, at: now, sure: false };
    this.#add(statement, prepared);
    return this.#assume(
      () => this.remove(statement),
      () => {
        prepared.sure = true;
      },
    );
  }

  /** It becomes the server's unnamed statement. */
  addUnnamed(statement: PreparedStatement): Assumption {
    this.unnamed = statement;
    return this.#assume(() => {
      if (this.unnamed === statement) this.unnamed = undefined;
    });
  }

  #assume(undo: () => void, confirm = () => {}): Assumption {
    this.pending++;
    return {
      undo: () => {
        this.pending--;
        undo();
      },
      confirm: () => {
        this.pending--;
        confirm();
      },
    };
  }

  #add(statement: PreparedStatement, prepared: Prepared): void {
    this.#held.set(statement, prepared);
    this.#newest = statement;
  }

  remove(statement: PreparedStatement): void {
    this.#held.delete(statement);
    if (this.#newest === statement) this.#newest = undefined;
  }

  /** It is closed; undefined when the connection does not hold it. */
  close(statement: PreparedStatement): Assumption | undefined {
    const prepared = this.#held.get(statement);
    if (prepared === undefined) return undefined;
    this.remove(statement);
    return this.#assume(() => this.#add(statement, prepared));
  }

  /** What to close so that `statement` fits: an earlier one of the same, or the least recently used; with its undo. */
  evictFor(
    statement: PreparedStatement,
  ): { readonly evicted: PreparedStatement; readonly assumed: Assumption } | undefined {
    const isFull = this.#held.size >= Math.max(1, this.size_max);
    const evicted = this.#held.has(statement) ? statement : isFull ? this.#held.keys().next().value : undefined;
    const prepared = evicted === undefined ? undefined : this.#held.get(evicted);
    if (evicted === undefined || prepared === undefined) return undefined;
    this.remove(evicted);
    return { evicted, assumed: this.#assume(() => this.#add(evicted, prepared)) };
  }

  /** It may be there or not: it is closed and prepared anew before it is used again. */
  doubt(statement: PreparedStatement): void {
    if (this.unnamed === statement) this.unnamed = undefined;
    this.#held.set(statement, { revision: NO_REVISION, at: 0, sure: false });
  }

  /** Any of them may be gone: each is closed and prepared anew before it is used again. */
  outdate(): void {
    for (const statement of this.#held.keys()) this.#held.set(statement, { revision: NO_REVISION, at: 0, sure: false });
  }

  /** DEALLOCATE ALL ran, and nothing was prepared since. */
  clear(): void {
    this.#held.clear();
    this.#newest = undefined;
    this.unnamed = undefined;
  }
}
