/** Sends a batch to a connection: statements under their shared names, missing ones prepared in front. */
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import { type Exchange, OWED } from '../server/exchange.ts';
import { type PreparedStatement, parseMessage, STATEMENT_PREFIX } from '../server/prepared.ts';
import { adjustLength, closeStatement, FLUSH, renamed, SYNC } from '../wire/frontend.ts';
import { FRONTEND, STATUS } from '../wire/protocol.ts';
import { type Batch, type BatchItem, OWN_SYNC } from './batch.ts';

/** What a name like pglynx's own is replaced by when the client has not prepared it: a name that is never given. */
const NOBODY = Buffer.from(`${STATEMENT_PREFIX}0`);
/** Another one, which stands for a name that the client has taken. */
const OCCUPIED = `${STATEMENT_PREFIX}00`;
const UNNAMED = Buffer.alloc(0);
/** What an empty text is in a Parse. */
const NOTHING = Buffer.alloc(3);

/** Sends `batch` as (the next part of) `exchange`. */
export function forwardBatch(batch: Batch, connection: ServerConnection, exchange: Exchange): void {
  if (exchange.skipping) return forwardSkipped(batch, connection, exchange);
  // What others have sent in front of it may yet fail, and what the server holds be other than it seems.
  const isDoubtful = connection.statements.pending > 0 && exchange.settled;
  if (isDoubtful) {
    exchange.owner.doubts();
    // If the Parse is skipped, the unnamed statement is an older one, which would run without an error.
    connection.statements.unnamed = undefined;
  }
  for (const item of batch.items) {
    switch (item.type) {
      case FRONTEND.query:
        connection.statements.unnamed = undefined;
        raw(item, connection);
        exchange.owe(OWED.query, item.undo);
        break;
      case FRONTEND.parse:
        forwardParse(item, connection, exchange, isDoubtful);
        break;
      case FRONTEND.bind:
        forwardNamed(item, connection, exchange);
        exchange.owe(OWED.bind, undefined, item.name);
        break;
      case FRONTEND.describe:
        forwardNamed(item, connection, exchange);
        exchange.owe(OWED.describe, undefined, item.name);
        break;
      case FRONTEND.close:
        forwardClose(item, connection, exchange);
        break;
      case FRONTEND.execute:
        if (item.undo !== undefined) forwardDrop(item.name, connection, exchange);
        raw(item, connection);
        exchange.owe(OWED.execute, item.undo);
        break;
      case FRONTEND.functionCall:
        raw(item, connection);
        exchange.owe(OWED.functionCall);
        break;
      case FRONTEND.sync:
        connection.write(SYNC);
        exchange.owe(OWED.sync);
        break;
      case FRONTEND.flush:
        connection.write(FLUSH);
        break;
      case OWN_SYNC:
        connection.write(SYNC);
        exchange.owe(OWED.syncInjected);
        break;
    }
  }
  if (!exchange.sealed) connection.passLocal(exchange);
}

/** After an error the server reads nothing of a batch but its Sync. */
function forwardSkipped(batch: Batch, connection: ServerConnection, exchange: Exchange): void {
  batch.undo();
  for (const item of batch.items) {
    raw(item, connection);
    if (item.type === FRONTEND.sync) exchange.owe(OWED.sync);
  }
}

function raw({ buffer, start, end }: BatchItem, connection: ServerConnection): void {
  connection.write(start === 0 && end === buffer.length ? buffer : buffer.subarray(start, end));
}

function forwardParse(item: BatchItem, connection: ServerConnection, exchange: Exchange, isDoubtful: boolean): void {
  const { statement, taken, name, undo } = item;
  const { statements, counters, status } = connection;
  if (statement === undefined) {
    raw(item, connection);
    exchange.owe(OWED.parse);
  } else if (taken !== undefined) {
    // The server itself refuses the second Parse of a name, after it has looked at the text as PostgreSQL does.
    const occupied = status === STATUS.failed ? occupy(name, connection, exchange) : taken.name;
    if (occupied === taken.name) prepare(taken, name, connection, exchange);
    connection.write(parseMessage(occupied, statement.definition));
    exchange.owe(OWED.parse, undefined, name);
  } else if (status === STATUS.failed || (name === '' && !isShared(statement, connection))) {
    // In a failed transaction the server takes a ROLLBACK only: nothing that it holds is given up for the rest.
    if (name === '') raw(item, connection);
    else connection.write(parseMessage('', statement.definition));
    exchange.owe(OWED.parse, undo, name, statements.addUnnamed(statement));
  } else if (statements.answers(statement, performance.now(), isDoubtful)) {
    counters.prepare_hits++;
    exchange.owe(OWED.parseLocal, undo, name);
  } else {
    counters.prepare_misses++;
    makeRoom(statement, connection, exchange);
    connection.write(statement.parse);
    exchange.owe(OWED.parse, undo, name, statements.add(statement, performance.now()));
  }
}

/** Takes a name on the server with the only kind of text that it prepares in a failed transaction; answers the name. */
function occupy(name: string, connection: ServerConnection, exchange: Exchange): string {
  connection.write(closeStatement(OCCUPIED));
  exchange.owe(OWED.closeInjected);
  connection.write(parseMessage(OCCUPIED, Buffer.from('ROLLBACK\0\0\0')));
  exchange.owe(OWED.parseInjected, undefined, name);
  connection.dirty |= DIRTY.prepared;
  return OCCUPIED;
}

/**
 * Whether an unnamed statement is worth a shared name: a plain statement that came before. Inside a transaction it
 * stays unnamed, so that PostgreSQL looks at its text afresh, as it would without a pooler.
 */
function isShared(statement: PreparedStatement, connection: ServerConnection): boolean {
  return (
    statement.uses > 1 &&
    statement.analysis?.plain === true &&
    connection.status === STATUS.idle &&
    connection.statements.size_max > 0
  );
}

/** A Bind or Describe, of a statement or of what the client has none of. */
function forwardNamed(item: BatchItem, connection: ServerConnection, exchange: Exchange): void {
  const { statement, name, nameFrom } = item;
  if (nameFrom === 0) raw(item, connection);
  else if (statement !== undefined) {
    const unnamed = name === '';
    rename(
      item,
      connection,
      unnamed ? nameForUnnamed(statement, connection, exchange) : prepare(statement, name, connection, exchange),
    );
  } else if (name === '') {
    // Another client's unnamed statement may still be there: PostgreSQL's own error must come, not its rows.
    connection.write(closeStatement(''));
    connection.statements.unnamed = undefined;
    exchange.owe(OWED.closeInjected);
    raw(item, connection);
  } else if (name.startsWith(STATEMENT_PREFIX)) rename(item, connection, NOBODY);
  else raw(item, connection);
}

/** Sees to it that the connection holds `statement`, which the client calls `name`; answers its name there. */
function prepare(statement: PreparedStatement, name: string, connection: ServerConnection, exchange: Exchange): Buffer {
  const { statements, counters } = connection;
  if (statements.touch(statement)) counters.prepare_hits++;
  else {
    counters.prepare_misses++;
    makeRoom(statement, connection, exchange);
    connection.write(statement.parse);
    exchange.owe(OWED.parseInjected, undefined, name, statements.add(statement, performance.now()));
  }
  return statement.nameBytes;
}

/** The same for a client's unnamed statement, which may be on the server under either name. */
function nameForUnnamed(statement: PreparedStatement, connection: ServerConnection, exchange: Exchange): Buffer {
  const { statements } = connection;
  if (statements.unnamed === statement) return UNNAMED;
  if (statements.touch(statement)) return statement.nameBytes;
  connection.write(parseMessage('', statement.definition));
  exchange.owe(OWED.parseInjected, undefined, '', statements.addUnnamed(statement));
  return UNNAMED;
}

function forwardClose(item: BatchItem, connection: ServerConnection, exchange: Exchange): void {
  const { statement, name, nameFrom } = item;
  // The server keeps a shared statement for others, a long one for nobody; a name it may know from SQL's PREPARE it closes itself.
  if (nameFrom !== 0 && (statement !== undefined || name === '' || name.startsWith(STATEMENT_PREFIX))) {
    const closing = statement?.isLong === true ? connection.statements.close(statement) : undefined;
    if (statement === undefined || closing === undefined) return exchange.owe(OWED.closeLocal, item.undo);
    connection.write(closeStatement(statement.name));
    return exchange.owe(OWED.close, item.undo, '', closing);
  }
  raw(item, connection);
  exchange.owe(OWED.close);
}

/** In front of a DEALLOCATE: the name that the client prepared by protocol is one that no server knows. */
function forwardDrop(name: string, connection: ServerConnection, exchange: Exchange): void {
  if (name === '') connection.statements.outdate();
  else if (!name.startsWith(STATEMENT_PREFIX)) {
    connection.write(closeStatement(name));
    exchange.owe(OWED.closeInjected);
    connection.write(parseMessage(name, NOTHING));
    exchange.owe(OWED.parseInjected);
    connection.dirty |= DIRTY.prepared;
  }
}

/** Closes what has to go so that the connection can prepare `statement`. */
function makeRoom(statement: PreparedStatement, connection: ServerConnection, exchange: Exchange): void {
  const { statements, counters } = connection;
  const eviction = statements.evictFor(statement);
  if (eviction === undefined) return;
  counters.prepare_evictions++;
  connection.write(closeStatement(eviction.evicted.name));
  exchange.owe(OWED.closeInjected, undefined, '', eviction.assumed);
}

/** Sends a message under another statement name; of a long one this is the head. */
function rename(item: BatchItem, connection: ServerConnection, name: Buffer): void {
  const { buffer, start, end, nameFrom, nameTo } = item;
  const copy = renamed(buffer, start, end, nameFrom, nameTo, name);
  adjustLength(copy, name.length - (nameTo - nameFrom));
  connection.write(copy);
}
