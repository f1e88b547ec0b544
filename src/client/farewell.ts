/** Brings the exchange of a client that is gone to its end, so that the server connection can serve somebody else. */
import type { ServerConnection } from '../server/connection.ts';
import { type Exchange, OWED } from '../server/exchange.ts';
import { copyFail, SYNC } from '../wire/frontend.ts';
import { INSPECT_LENGTH_MAX } from '../wire/protocol.ts';
import type { Intake } from './intake.ts';

/** Ends copy-in mode for a client that is gone, even if it begins only now. */
export function endCopyIn(connection: ServerConnection, exchange: Exchange): void {
  connection.write(copyFail('the client vanished'));
  exchange.owe(OWED.copyEnd);
  if (!exchange.sealed) sendSync(connection, exchange);
}

/**
 * Ends what the client was sending, cancels the statement, and closes an open batch with a Sync. The replies go
 * nowhere. A connection that does not become idle in `timeout` ms is closed.
 */
export function finishExchange(
  connection: ServerConnection,
  exchange: Exchange,
  intake: Intake,
  timeout: number,
): void {
  exchange.silent = true;
  connection.resume();
  if (intake.remaining > 0 && intake.stream === 'forward') {
    if (intake.remaining > INSPECT_LENGTH_MAX) {
      connection.close('the client vanished in the middle of a long message');
      return;
    }
    // The server cannot be told that the rest of a message will never come; what it gets instead is rolled back.
    connection.write(Buffer.alloc(intake.remaining));
  }
  if (exchange.copyIn) endCopyIn(connection, exchange);
  else connection.cancel();
  if (!exchange.sealed) sendSync(connection, exchange);
  const timer = setTimeout(() => {
    if (connection.serves(exchange)) connection.close('the statement of a client that vanished did not end');
  }, timeout);
  timer.unref();
}

function sendSync(connection: ServerConnection, exchange: Exchange): void {
  connection.write(SYNC);
  exchange.owe(OWED.sync);
}
