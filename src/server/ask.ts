/** Asks a server one question of pglynx's own, its values bound as parameters, and reads the few rows of the answer. */
import { Framer, PART } from '../wire/framer.ts';
import { message, SYNC } from '../wire/frontend.ts';
import { BACKEND, FRONTEND } from '../wire/protocol.ts';
import type { ServerConnection } from './connection.ts';
import { Exchange, OWED } from './exchange.ts';
import { fieldsOf } from './fields.ts';
import { ServerError, SilentOwner } from './silent.ts';

/** A row; undefined is NULL. */
export type AnswerRow = readonly (string | undefined)[];

/** The longest row that is read; a longer one counts as one without fields. */
const ROW_LENGTH_MAX = 65_536;

/**
 * Runs `sql`, its `$1` and so on being `values`, on a connection that nobody uses, and returns its first rows, one more than
 * `rows_max` at most.
 * @throws ServerError the server's error, or the end of the connection
 */
export function ask(
  connection: ServerConnection,
  sql: string,
  values: readonly string[],
  rows_max: number,
): Promise<AnswerRow[]> {
  return new Promise((resolve, reject) => {
    const answer = new Answer(rows_max, error =>
      error === undefined ? resolve(answer.rows) : reject(new ServerError(error)),
    );
    const exchange = new Exchange(answer, false);
    connection.enqueue(exchange);
    for (const owed of [OWED.parse, OWED.bind, OWED.execute, OWED.sync]) exchange.owe(owed);
    connection.statements.unnamed = undefined;
    const parse = message(FRONTEND.parse, Buffer.from(`\0${sql}\0\0\0`));
    const execute = message(FRONTEND.execute, executeBody(rows_max + 1));
    connection.write(Buffer.concat([parse, message(FRONTEND.bind, bindBody(values)), execute, SYNC]));
  });
}

class Answer extends SilentOwner {
  readonly rows: AnswerRow[] = [];
  readonly #rows_max: number;
  readonly #framer = new Framer({ eager: [], held: { types: [BACKEND.dataRow], length_max: ROW_LENGTH_MAX } });

  constructor(rows_max: number, ended: (error: Map<string, string> | undefined) => void) {
    super(ended);
    this.#rows_max = rows_max;
  }

  override reply(bytes?: Buffer): void {
    if (bytes === undefined) return;
    const framer = this.#framer;
    framer.feed(bytes);
    for (let part = framer.next(); part !== PART.none && part !== PART.bad; part = framer.next()) {
      const isRow = framer.type === BACKEND.dataRow && (part === PART.whole || part === PART.first);
      if (!isRow || this.rows.length > this.#rows_max) continue;
      this.rows.push(part === PART.whole ? fieldsOf(framer.buffer, framer.start) : []);
    }
  }
}

/** Unnamed portal and statement, values in text, rows in text. */
function bindBody(values: readonly string[]): Buffer {
  const parts: Buffer[] = [Buffer.from('\0\0'), uint16(0), uint16(values.length)];
  for (const value of values) {
    const bytes = Buffer.from(value);
    const length = Buffer.alloc(4);
    length.writeInt32BE(bytes.length);
    parts.push(length, bytes);
  }
  parts.push(uint16(0));
  return Buffer.concat(parts);
}

function executeBody(rows: number): Buffer {
  const body = Buffer.alloc(5);
  body.writeInt32BE(rows, 1);
  return body;
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
