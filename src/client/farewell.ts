/** Brings the exchange of a client that is gone to its end, so that the server connection can serve somebody else. */
import type { ServerConnection } from '../server/connection.ts';
import { type Exchange, OWED } from '../server/exchange.ts';
import { copyFail, query, SYNC } from '../wire/frontend.ts';
import { FRONTEND, INSPECT_LENGTH_MAX } from '../wire/protocol.ts';
import type { Intake } from './intake.ts';

/** Ends copy-in mode for a client that is gone, even if it begins only now. */
export function endCopyIn(connection: ServerConnection, exchange: Exchange): void {
  failCopyIn(connection, exchange, VANISHED);
  if (!exchange.sealed) sendSync(connection, exchange);
}

/**
 * Ends a message of which the client has sent a part: the server waits for the rest of it and cannot be told that it
 * will never come. What it gets instead is refused or rolled back. The connection is closed where that is not sure.
 */
export function completeMessage(connection: ServerConnection, intake: Intake): void {
  const { remaining, type, stream } = intake;
  if (remaining === 0 || stream === 'drop') return;
  intake.stream = 'drop';
  if (remaining > INSPECT_LENGTH_MAX) connection.close('a client left in the middle of a long message');
  else if (type === FRONTEND.functionCall) connection.close('a client left in the middle of a function call');
  else connection.write(Buffer.alloc(remaining));
}

/**
 * Ends what the client was sending, cancels the statement, and rolls back an open batch. The replies go nowhere. A
 * connection that does not become idle in `timeout` ms is closed.
 */
export function finishExchange(
  connection: ServerConnection,
  exchange: Exchange,
  intake: Intake,
  timeout: number,
): void {
  exchange.silent = true;
  connection.resume();
  completeMessage(connection, intake);
  if (exchange.copyIn) endCopyIn(connection, exchange);
  else {
    connection.cancel();
    if (!exchange.sealed) rollBack(connection, exchange);
  }
  const timer = setTimeout(() => {
    if (connection.queue.includes(exchange)) connection.close('the statement of a client that vanished did not end');
  }, timeout);
  timer.unref();
}

/** Ends a batch whose Sync does not come, of which PostgreSQL commits nothing. */
export function rollBack(connection: ServerConnection, exchange: Exchange): void {
  // If a COPY is about to begin, this ends it; else it is ignored.
  failCopyIn(connection, exchange, VANISHED);
  connection.statements.unnamed = undefined;
  connection.write(query('ROLLBACK'));
  exchange.owe(OWED.query);
  // After an error the server skips the query, and waits for this.
  sendSync(connection, exchange);
}

/** Makes a COPY fail for this reason. */
export function failCopyIn(connection: ServerConnection, exchange: Exchange, reason: string): void {
  connection.write(copyFail(reason));
  exchange.owe(OWED.copyEnd);
}

function sendSync(connection: ServerConnection, exchange: Exchange): void {
  connection.write(SYNC);
  exchange.owe(OWED.sync);
}

const VANISHED = 'the client vanished';
