/** One command of the admin database: understood, and not yet run. */
import type { Column } from '../wire/backend.ts';
import type { Row } from './table.ts';

/** What a command came to. */
export interface Outcome {
  readonly rows: readonly Row[];
  /** NoticeResponse messages, in front of the rows. */
  readonly notices: readonly Buffer[];
}

export interface Command {
  /** The columns of its rows; undefined when it returns none. */
  readonly columns: readonly Column[] | undefined;
  /** Tag of its CommandComplete; a blank text has none. */
  readonly tag: string | undefined;
  /**
   * Runs it; a `signal` ends its wait, if it waits for something.
   * @throws PgError why it failed, or the reason of `signal`
   */
  run(signal: AbortSignal): Promise<Outcome>;
}
