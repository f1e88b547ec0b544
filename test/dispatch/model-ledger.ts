/** What clients were told of their writes, held against what the database holds. */
import assert from 'node:assert/strict';
import type { TestCluster } from '../cluster/index.ts';

/** One write: a row of `ledger` with this id, or one added to a row of `counters`. */
export interface Write {
  readonly id: number;
  readonly counter: number | undefined;
}

/** What a client was told: it took place, it did not, or nobody knows. */
export type Outcome = 'done' | 'failed' | 'unknown';

/** The counter that all clients fight for; each has one of its own besides, by its number from 1 on. */
export const HOT = 0;

export class Ledger {
  readonly #told = new Map<Write, readonly [outcome: Outcome, words: string]>();
  #count = 0;

  /** A write that nobody else makes. */
  write(counter?: number): Write {
    return { id: ++this.#count, counter };
  }

  /** A client was told that, in these words. */
  note(writes: readonly Write[], outcome: Outcome, words: string): void {
    for (const write of writes) {
      assert.equal(this.#told.get(write), undefined, `write ${write.id} was told twice`);
      this.#told.set(write, [outcome, words]);
    }
  }

  /** How many writes had this outcome. */
  count(outcome: Outcome): number {
    let count = 0;
    for (const [told] of this.#told.values()) if (told === outcome) count++;
    return count;
  }

  static async create(cluster: TestCluster, clients: number): Promise<void> {
    await cluster.sql('CREATE TABLE ledger (id int, filler text); CREATE TABLE counters (id int PRIMARY KEY, n int)');
    await cluster.sql(`INSERT INTO counters SELECT id, 0 FROM generate_series(${HOT}, $1) AS id`, [clients]);
    await cluster.sql('GRANT ALL ON ledger, counters TO PUBLIC');
  }

  /** What is wrong in the database, which nobody writes to any more. */
  async differences(cluster: TestCluster): Promise<string[]> {
    const rows = await cluster.sql<{ id: number; count: number }>(
      'SELECT id, count(*)::int AS count FROM ledger GROUP BY id',
    );
    const counters = await cluster.sql<{ id: number; n: number }>('SELECT id, n FROM counters');
    const kept = new Map(rows.map(({ id, count }) => [id, count]));
    const least = new Map<number, number>();
    const most = new Map<number, number>();
    const found: string[] = [];
    for (const [{ id, counter }, [outcome, words]] of this.#told) {
      if (counter !== undefined) {
        if (outcome === 'done') least.set(counter, (least.get(counter) ?? 0) + 1);
        if (outcome !== 'failed') most.set(counter, (most.get(counter) ?? 0) + 1);
        continue;
      }
      const count = kept.get(id) ?? 0;
      kept.delete(id);
      const right = { done: count === 1, failed: count === 0, unknown: count <= 1 };
      if (!right[outcome]) found.push(`write ${id} was told as ${outcome}, and is there ${count} times: ${words}`);
    }
    for (const [id, count] of kept) found.push(`write ${id} was told by nobody, and is there ${count} times`);
    for (const { id, n } of counters) {
      const [from, to] = [least.get(id) ?? 0, most.get(id) ?? 0];
      if (n < from || n > to) found.push(`counter ${id} is ${n}, and not between ${from} and ${to}`);
    }
    return found;
  }

  /** Empties the tables for the next run. */
  static async clear(cluster: TestCluster): Promise<void> {
    await cluster.sql('TRUNCATE ledger; UPDATE counters SET n = 0 WHERE n <> 0');
  }
}
