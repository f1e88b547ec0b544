/** What clients were told of their writes, one row each, and whether the table agrees with it. */
import type { TestCluster } from '../cluster/index.ts';

/** A write took place, it did not, or nobody knows. */
export type Outcome = 'done' | 'failed' | 'unknown';

/** Makes the table of the rows; it has no key, so that a row written twice is there twice. */
export const LEDGER_TABLE = 'CREATE TABLE ledger (id text); GRANT ALL ON ledger TO PUBLIC';

export class Ledger {
  readonly #outcomes = new Map<string, Outcome>();

  note(id: string, outcome: Outcome): void {
    this.#outcomes.set(id, outcome);
  }

  /** How many writes had this outcome. */
  count(outcome: Outcome): number {
    return [...this.#outcomes.values()].filter(noted => noted === outcome).length;
  }

  /** Each row that the table has too often or too seldom for what was said of it. */
  async disagreements(cluster: TestCluster): Promise<string[]> {
    const rows = await cluster.sql<{ id: string; count: string }>('SELECT id, count(*) FROM ledger GROUP BY id');
    const there = new Map(rows.map(({ id, count }) => [id, Number(count)]));
    const complaints: string[] = [];
    for (const [id, outcome] of this.#outcomes) {
      const count = there.get(id) ?? 0;
      const agrees = { done: count === 1, failed: count === 0, unknown: count <= 1 };
      if (!agrees[outcome]) complaints.push(`${id} was told as ${outcome}, and is there ${count} times`);
      there.delete(id);
    }
    for (const [id, count] of there) complaints.push(`${id} was never told, and is there ${count} times`);
    return complaints;
  }
}
