/** One client's prepared statements: its own names for statements that all clients share. */
import type { Undo } from '../server/exchange.ts';
import { type PreparedStatement, STATEMENT_PREFIX } from '../server/prepared.ts';

/** Statements by the client's names; the unnamed statement has the name ''. */
export class ClientStatements {
  readonly #named = new Map<string, PreparedStatement>();

  get size(): number {
    return this.#named.size;
  }

  find(name: string): PreparedStatement | undefined {
    return this.#named.get(name);
  }

  /** Parse succeeds, unless the server says otherwise: then the result undoes it. */
  define(name: string, statement: PreparedStatement): Undo {
    this.#named.set(name, statement);
    // A failed Parse leaves no unnamed statement either: PostgreSQL drops the old one first.
    return {
      undo: () => {
        if (this.#named.get(name) === statement) this.#named.delete(name);
      },
    };
  }

  /** Close succeeds, unless the server skips it. */
  close(name: string): Undo | undefined {
    const statement = this.#named.get(name);
    if (statement === undefined) return undefined;
    this.#named.delete(name);
    return {
      undo: () => {
        if (!this.#named.has(name)) this.#named.set(name, statement);
      },
    };
  }

  /** A simple query drops the unnamed statement. */
  dropUnnamed(): void {
    this.#named.delete('');
  }

  /** DEALLOCATE ALL or DISCARD ALL: every name is gone, the unnamed statement stays. */
  clear(): void {
    const unnamed = this.#named.get('');
    this.#named.clear();
    if (unnamed !== undefined) this.#named.set('', unnamed);
  }

  /** `text`, bytes read as Latin-1, with the names that statements have on servers replaced by this client's. */
  translate(text: string): string {
    if (!text.includes(STATEMENT_PREFIX)) return text;
    return text.replaceAll(SERVER_NAME, (whole, server: string) => {
      for (const [name, statement] of this.#named) if (statement.name === server) return `"${latin1(name)}"`;
      return whole;
    });
  }
}

const SERVER_NAME = new RegExp(`"(${STATEMENT_PREFIX}\\d+)"`, 'g');

/** The bytes of a name, each as a character: messages are rewritten without knowing their encoding. */
function latin1(name: string): string {
  return Buffer.from(name).toString('latin1');
}
