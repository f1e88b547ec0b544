/** A BEGIN that waits for the first statement of its transaction, whose sharding key says where both belong. */
import type { ServerConnection } from '../server/connection.ts';
import type { Statement } from '../sql/statement.ts';
import { commandComplete } from '../wire/backend.ts';
import { FRONTEND, HEADER_LENGTH, STATUS } from '../wire/protocol.ts';
import type { Batch } from './batch.ts';

/** What makes a server's transaction fail, as pglynx's own error did in the client's eyes. */
const FAILURE = 'pglynx /* the transaction failed before it had a server */';

export class Opening {
  /** Transaction status as the client knows it: in a transaction, failed or not, once a BEGIN waits. */
  status: number = STATUS.idle;
  /** The BEGIN that waits. */
  statement: Statement | undefined;
  #text = '';

  /** The reply to a batch that is nothing but a BEGIN, which waits from now on; undefined when it is anything else. */
  take({ items, query }: Batch): Buffer | undefined {
    const begins = query?.transaction === 'begin' || query?.transaction === 'begin_read_only';
    if (this.statement !== undefined || !begins || query.count !== 1 || items.length !== 1) return undefined;
    const [{ type, buffer, start, end }] = items;
    if (type !== FRONTEND.query) return undefined;
    this.statement = query;
    this.status = STATUS.transaction;
    this.#text = buffer.toString('utf8', start + HEADER_LENGTH, end - 1);
    return commandComplete(query.kind);
  }

  /** An error was told to the client: a transaction that waits has failed. */
  fail(): void {
    if (this.statement !== undefined) this.status = STATUS.failed;
  }

  /** Whether a transaction waits that has failed. */
  get failed(): boolean {
    return this.status === STATUS.failed;
  }

  /** Begins the transaction on a connection; `begun` gets the server's error, if any, and then there is none. */
  begin(connection: ServerConnection, begun: (error: Map<string, string> | undefined) => void): void {
    const { failed } = this;
    let refusal: Map<string, string> | undefined;
    const end = () => {
      this.statement = undefined;
      this.status = STATUS.idle;
      begun(refusal);
    };
    connection.inject(this.#text, error => {
      refusal = error;
      if (!failed) end();
    });
    if (!failed) return;
    connection.inject(FAILURE, error => {
      if (connection.state === 'closed') refusal = error;
      end();
    });
  }
}
