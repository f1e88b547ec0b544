/** What a client is told when its server connection is lost: whether its work took effect, as far as anybody can know. */
import { type PgError, pgError } from '../errors.ts';
import { FRONTEND, HEADER_LENGTH } from '../wire/protocol.ts';
import { type Batch, type BatchItem, isHead } from './batch.ts';

/** The state of a client when its connection was lost. */
export interface Loss {
  /** Where the server is, and what is known of the cause. */
  readonly server: string;
  readonly cause: string;
  /** Whether an exchange was under way, or the client between two of them. */
  readonly active: boolean;
  /** Whether it was in a transaction before what was under way. */
  readonly inTransaction: boolean;
  /** Whether the client has a part of a message, or has sent more that relies on the reply. */
  readonly cut: boolean;
  /** What was under way. */
  readonly batch: Batch;
}

/** The error: FATAL when the client cannot go on as if only a statement had failed. */
export function lossError({ server, cause, active, inTransaction, cut, batch }: Loss): PgError {
  const isFatal = inTransaction || cut;
  const isUnknown = active && (inTransaction ? mayCommit(batch) : batch.read !== true);
  if (!isUnknown) return pgError(isFatal ? 'server_lost_in_transaction' : 'server_lost', server, cause);
  const error = pgError('outcome_unknown', server, cause);
  if (isFatal) error.severity = 'FATAL';
  return error;
}

/** SQLSTATE of what may have taken effect or not. */
export const OUTCOME_UNKNOWN = '08007';

const COMMITS = /\b(?:commit|end|prepare\s+transaction)\b/i;

/** Whether a batch sent in a transaction may have ended it; one that was sent in pieces is not here any more. */
function mayCommit(batch: Batch): boolean {
  return batch.empty || batch.items.some(itemMayCommit);
}

function itemMayCommit(item: BatchItem): boolean {
  const { type, buffer, start, end, statement } = item;
  if (statement !== undefined) return COMMITS.test(statement.text);
  if (type !== FRONTEND.query) return false;
  return isHead(item) || COMMITS.test(buffer.toString('latin1', start + HEADER_LENGTH, end));
}
