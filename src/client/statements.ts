/** One client's prepared statements: its own names for statements that all clients share. */

import type { PreparedStatement } from '../server/prepared.ts';
import type { Undo } from '../server/undo.ts';

/** Statements by the client's names, whose bytes are read as Latin-1; the unnamed statement has the name ''. */
export class ClientStatements {
  /** How many names there may be besides ''; 0 is any number. */
  max = 0;
  readonly #named = new Map<string, PreparedStatement>();

  get size(): number {
    return this.#named.size;
  }

  /** Whether one more name, which must be new, is one too many. */
  isFullFor(name: string): boolean {
    if (this.max === 0 || name === '') return false;
    return this.#named.size - (this.#named.has('') ? 1 : 0) >= this.max;
  }

  find(name: string): PreparedStatement | undefined {
    return this.#named.get(name);
  }

  /** Parse succeeds, unless the server says otherwise: then the result undoes it. */
  define(name: string, statement: PreparedStatement): Undo {
    const before = this.#named.get(name);
    this.#named.set(name, statement);
    return {
      undo: refused => {
        if (this.#named.get(name) !== statement) return;
        // A Parse that fails leaves no unnamed statement either: PostgreSQL drops the old one first.
        if (refused || before === undefined) this.#named.delete(name);
        else this.#named.set(name, before);
      },
    };
  }

  /** Close succeeds, unless the server skips it; a simple query closes the unnamed statement. */
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

  /** DEALLOCATE of this name succeeds, or of all names if it is '', unless the server refuses or skips it. */
  drop(name: string): Undo | undefined {
    if (name !== '') return this.close(name);
    const before = [...this.#named];
    this.clear([]);
    return {
      undo: () => {
        for (const [lost, statement] of before) if (!this.#named.has(lost)) this.#named.set(lost, statement);
      },
    };
  }

  /** DEALLOCATE ALL or DISCARD ALL: every name is gone but these; the unnamed statement stays. */
  clear(kept: readonly string[]): void {
    for (const name of this.#named.keys()) if (name !== '' && !kept.includes(name)) this.#named.delete(name);
  }
}
