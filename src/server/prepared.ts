/** Prepared statements: one shared object per text and parameter types, and which of them a server connection holds. */
import { LRUCache } from 'lru-cache';
import { message, stringEnd } from '../wire/frontend.ts';
import { FRONTEND, HEADER_LENGTH } from '../wire/protocol.ts';

/** What statement names on servers begin with. */
export const STATEMENT_PREFIX = 'pglynx_';

/** A statement as Parse defines it: SQL text and parameter types, under a name of pglynx's own. */
export class PreparedStatement {
  /** The name on every server. */
  readonly name: string;
  readonly nameBytes: Buffer;
  /** SQL text, without its NUL. */
  readonly text: string;
  /** Text with NUL, count and OIDs of parameter types: a Parse's body after the name. */
  readonly definition: Buffer;
  /** The Parse that prepares it under {@link name}. */
  readonly parse: Buffer;
  /** Parse messages for it so far; a text seen once is likely never seen again. */
  uses = 0;

  constructor(id: number, definition: Buffer) {
    this.name = `${STATEMENT_PREFIX}${id}`;
    this.nameBytes = Buffer.from(this.name);
    this.definition = definition;
    this.text = definition.toString('utf8', 0, Math.max(0, definition.indexOf(0)));
    this.parse = parseMessage(this.name, definition);
  }
}

/** A Parse of this definition under this name. */
export function parseMessage(name: string, definition: Buffer): Buffer {
  return message(FRONTEND.parse, Buffer.concat([Buffer.from(`${name}\0`), definition]));
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
      sizeCalculation: statement => statement.definition.length * 2 + 256,
    });
  }

  /** The statement that this definition means; the bytes are copied when they are new. */
  intern(definition: Buffer): PreparedStatement {
    const key = definition.toString('latin1');
    let statement = this.#byDefinition.get(key);
    if (statement === undefined) {
      statement = new PreparedStatement(nextId++, Buffer.from(definition));
      this.#byDefinition.set(key, statement);
    }
    statement.uses++;
    return statement;
  }

  /** Forgets a statement whose result type changed: its text is prepared afresh under a new name. */
  renew(statement: PreparedStatement): void {
    this.#byDefinition.delete(statement.definition.toString('latin1'));
  }
}

/** The statements that one server connection holds, least recently used first. */
export class ServerStatements {
  readonly #held = new Set<PreparedStatement>();
  /** Statements kept; beyond it the least recently used is closed. */
  size_max: number;
  /** What the server's unnamed statement is. */
  unnamed: PreparedStatement | undefined;
  #newest: PreparedStatement | undefined;

  constructor(size_max: number) {
    this.size_max = size_max;
  }

  get size(): number {
    return this.#held.size;
  }

  has(statement: PreparedStatement): boolean {
    return this.#held.has(statement);
  }

  /** Whether the connection holds it; marks it as used now. */
  touch(statement: PreparedStatement): boolean {
    if (statement === this.#newest) return true;
    if (!this.#held.delete(statement)) return false;
    this.#held.add(statement);
    this.#newest = statement;
    return true;
  }

  add(statement: PreparedStatement): void {
    this.#held.add(statement);
    this.#newest = statement;
  }

  remove(statement: PreparedStatement): void {
    this.#held.delete(statement);
    if (this.#newest === statement) this.#newest = undefined;
  }

  /** The statement to close so that one more fits, if it takes one. */
  evict(): PreparedStatement | undefined {
    if (this.#held.size < Math.max(1, this.size_max)) return undefined;
    const [oldest] = this.#held;
    this.remove(oldest);
    return oldest;
  }

  /** DEALLOCATE ALL or DISCARD ALL ran. */
  clear(): void {
    this.#held.clear();
    this.#newest = undefined;
    this.unnamed = undefined;
  }
}
