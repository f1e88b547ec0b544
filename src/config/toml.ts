/** TOML text: its values, and where in the text each key and value stands. */
import { parse, TomlError } from 'smol-toml';
import { type AST, ParseError, parseTOML } from 'toml-eslint-parser';

/** A table of the file. */
export type Table = Record<string, unknown>;

/** Keys and list indexes that lead from the top of the file to a value. */
export type KeyPath = readonly (string | number)[];

/** A place in a text; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** Something to say about the value at `path`, or about the key itself. */
export interface Notice {
  readonly path: KeyPath;
  readonly message: string;
  readonly about?: 'key';
}

/** The text is not TOML. */
export class TomlSyntaxError extends Error {
  readonly position: Position;

  constructor(message: string, position: Position) {
    super(message);
    this.name = 'TomlSyntaxError';
    this.position = position;
  }
}

/** The values of `text`. Throws {@link TomlSyntaxError}. */
export function parseToml(text: string): Table {
  try {
    return parse(text, { unsafeKeyBehaviour: 'throw' });
  } catch (thrown) {
    if (!(thrown instanceof TomlError)) throw thrown;
    // The rest of the message is a picture of the text around the place, which may show a password.
    const [sentence = ''] = thrown.message.replace(/^Invalid TOML document: /, '').split('\n');
    throw new TomlSyntaxError(`is not TOML: ${sentence}`, { line: thrown.line, column: thrown.column });
  }
}

/** Whether `value` is a table. */
export function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** The tables directly in `value`, by name; none if it is no table. */
export function tablesIn(value: unknown): [string, Table][] {
  const found: [string, Table][] = [];
  for (const [name, inner] of isTable(value) ? Object.entries(value) : [])
    if (isTable(inner)) found.push([name, inner]);
  return found;
}

/** `path` as TOML writes it. */
export function dotted(path: readonly PropertyKey[]): string {
  return path.map(step => (/^[\w-]+$/.test(String(step)) ? String(step) : JSON.stringify(String(step)))).join('.');
}

/** Where the keys and values of one text stand. */
export class Positions {
  readonly #keys = new Map<string, Position>();
  readonly #values = new Map<string, Position>();

  /** Reads `text`, which {@link parseToml} has accepted. */
  constructor(text: string) {
    // Slower than parseToml, so only made when there is something to point at.
    for (const node of nodesOf(text)) {
      if (node.type === 'TOMLTable') this.#addTable(node);
      else this.#addPair(node, []);
    }
  }

  /** Whether the text has the key or list element at `path`. */
  holds(path: KeyPath): boolean {
    return this.#keys.has(id(path)) || this.#values.has(id(path));
  }

  /** The key that `path` ends in; the nearest table around it if the text does not hold it. */
  key(path: KeyPath): Position {
    return this.#keys.get(id(path)) ?? this.#values.get(id(path)) ?? this.#around(path);
  }

  /** The value at `path`; the nearest table around it if the text does not hold it. */
  value(path: KeyPath): Position {
    return this.#values.get(id(path)) ?? this.#keys.get(id(path)) ?? this.#around(path);
  }

  #around(path: KeyPath): Position {
    return path.length === 0 ? { line: 1, column: 1 } : this.key(path.slice(0, -1));
  }

  #addTable(table: AST.TOMLTable): void {
    const path = table.resolvedKey;
    const names = table.key.keys;
    for (const [index, name] of names.entries()) this.#addKey(path.slice(0, index + 1), place(name));
    // The header that defines a table is its place, even if an earlier header went through it.
    const last = names.at(-1);
    if (last !== undefined) this.#keys.set(id(path), place(last));
    for (const pair of table.body) this.#addPair(pair, path);
  }

  #addPair(pair: AST.TOMLKeyValue, table: KeyPath): void {
    let path = table;
    for (const name of pair.key.keys) {
      path = [...path, name.type === 'TOMLBare' ? name.name : name.value];
      this.#addKey(path, place(name));
    }
    this.#addValue(pair.value, path);
  }

  #addValue(node: AST.TOMLContentNode, path: KeyPath): void {
    this.#values.set(id(path), place(node));
    if (node.type === 'TOMLInlineTable') for (const pair of node.body) this.#addPair(pair, path);
    if (node.type === 'TOMLArray') {
      for (const [index, element] of node.elements.entries()) this.#addValue(element, [...path, index]);
    }
  }

  #addKey(path: KeyPath, position: Position): void {
    if (!this.#keys.has(id(path))) this.#keys.set(id(path), position);
  }
}

function nodesOf(text: string): AST.TOMLTopLevelTable['body'] {
  try {
    return parseTOML(text, { tomlVersion: 'latest' }).body[0].body;
  } catch (thrown) {
    if (!(thrown instanceof ParseError)) throw thrown;
    // Should the two parsers disagree, messages without their places are better than none.
    return [];
  }
}

function id(path: KeyPath): string {
  return path.join('\0');
}

function place(node: { readonly loc: { readonly start: Position } }): Position {
  return { line: node.loc.start.line, column: node.loc.start.column + 1 };
}
