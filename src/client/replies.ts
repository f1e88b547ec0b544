/** Takes what a server connection yields for one client: passes replies on and learns from them what changed. */
import type { PgError } from '../errors.ts';
import type { Outbox } from '../net/outbox.ts';
import type { Cluster } from '../pool/cluster.ts';
import { QUERY_CANCELED } from '../server/cancel.ts';
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import type { Exchange, ExchangeOwner } from '../server/exchange.ts';
import { isFollowed } from '../server/parameters.ts';
import { STATEMENT_PREFIX } from '../server/prepared.ts';
import { EFFECT } from '../sql/statement.ts';
import { errorFields, errorResponse, fieldsMessage } from '../wire/backend.ts';
import { BACKEND, FRONTEND, HEADER_LENGTH, STATUS } from '../wire/protocol.ts';
import type { Batch } from './batch.ts';
import type { Commands } from './commands.ts';
import { endCopyIn } from './farewell.ts';
import { lossError } from './loss.ts';
import type { SessionPhase } from './phases.ts';
import type { Place } from './place.ts';
import { isRefusal } from './refusal.ts';
import type { Retries } from './retries.ts';
import type { ClientSettings } from './settings.ts';
import type { ClientStatements } from './statements.ts';

/** The session that replies belong to. */
export interface RepliesOwner {
  readonly phase: SessionPhase;
  readonly gone: boolean;
  readonly connection: ServerConnection | undefined;
  readonly exchange: Exchange;
  readonly batch: Batch;
  readonly cluster: Cluster;
  readonly statements: ClientStatements;
  readonly commands: Commands;
  readonly settings: ClientSettings;
  exchangeEnded(status: number): void;
  /** Whether the client shares the connection with others. */
  readonly shared: boolean;
  readonly retries: Retries;
  readonly place: Place;
  /** `crashed` when the server did not say why. */
  connectionLost(error: PgError, crashed: boolean): void;
  /** Whether the client has sent more already, without waiting for this reply. */
  readonly pipelines: boolean;
  /** More of the client's messages may be taken now. */
  process(): void;
  /** A statement changed a function, view, table or the like. */
  schemaChanged(): void;
  /** An ErrorResponse was passed on. */
  serverFailed(message: Buffer): void;
}

/** Whether, and where, the batch is sent once more when its exchange is over. */
type Again = 'no' | 'here' | 'anywhere' | 'alone' | 'elsewhere' | 'on_primary';

export class Replies implements ExchangeOwner {
  /**
   * What the client is told in place of the server's error, when it is pglynx that ended the statement: of any error,
   * or of a cancel's only, since the statement may fail by itself before.
   */
  instead: { readonly error: PgError; readonly ofCancel: boolean } | undefined;

  readonly #owner: RepliesOwner;
  readonly #outbox: Outbox;
  /** Replies that say nothing yet, kept back while the batch may be sent once more. */
  #held: Buffer[] = [];
  /** Whether the batch may be sent once more: nothing of its reply has gone to the client. */
  #guarded = false;
  /** Whether that may be on another server. */
  #rescuable = false;
  #again: Again = 'no';
  /** Whether the batch under way is all of its exchange. */
  #isWhole = false;
  /** Whether all of the reply is kept back, since the exchange may still have to be repeated. */
  #keeps = false;
  /** Whether a cancel for another client's exchange may hit it. */
  #endangered = false;
  /** Whether it was asked to make room for others. */
  #yields = false;
  /** Bytes of the reply so far. */
  length = 0;

  constructor(owner: RepliesOwner, outbox: Outbox) {
    this.#owner = owner;
    this.#outbox = outbox;
  }

  /**
   * A batch is sent; `repeatable` when it is a whole exchange outside a transaction, kept until its end, `rescuable`
   * when another server may run it just as well.
   */
  begin(repeatable: boolean, rescuable: boolean): void {
    this.#guarded = repeatable;
    this.#rescuable = repeatable && rescuable;
    this.#isWhole = repeatable;
    this.#keeps = false;
    this.#endangered = false;
    this.#yields = false;
    this.length = 0;
    this.#dropHeld();
  }

  reply(bytes: Buffer): void {
    if (this.#owner.gone) return;
    this.length += bytes.length;
    if (this.#guarded) {
      if (this.#holds(bytes)) {
        this.#held.push(bytes);
        return;
      }
      this.#passHeld();
    }
    this.#outbox.push(bytes);
    if (this.#outbox.full) this.#owner.place.full();
  }

  /** Whether a part of the reply is kept back. */
  #holds(bytes: Buffer): boolean {
    if (this.#keeps) return this.length < this.#owner.cluster.settings.limits.max_reply_memory;
    return saysNothing(bytes, this.#rescuable && this.length < FLUSHED_LENGTH);
  }

  endangered(): void {
    this.#endangered = true;
    this.#keeps = true;
  }

  doubts(): void {
    this.#keeps = true;
  }

  moves(): boolean {
    const { shared, phase, batch, retries } = this.#owner;
    if (!shared || phase !== 'active' || !this.#guarded || batch.read !== true || retries.canceled) return false;
    this.#dropHeld();
    this.#guarded = false;
    retries.move();
    return true;
  }

  /** Whether a read that waits behind others may be left to run as nobody's: nothing of its reply is kept then. */
  leaves(): boolean {
    const { shared, batch, connection, exchange } = this.#owner;
    if (!shared || !this.#guarded || batch.read !== true || connection?.isHead(exchange) !== false) return false;
    this.#dropHeld();
    this.#guarded = false;
    return true;
  }

  yields(): boolean {
    const { shared, phase, retries } = this.#owner;
    if (!shared || phase !== 'active' || !this.#guarded || this.#yields || retries.canceled) return false;
    this.#yields = true;
    // What comes before the cancel hits it must not be passed on either.
    this.endangered();
    return true;
  }

  unread(): void {
    this.#owner.place.unread();
  }

  replyError(message: Buffer, statement: string): void {
    if (isOutdated(message)) this.#renewStatements(statement);
    const { instead } = this;
    const isMeant = isWhole(message) && (instead?.ofCancel === false || sqlstateOf(message) === QUERY_CANCELED);
    if (instead !== undefined && isMeant) this.reply(errorResponse(instead.error));
    else this.reply(inClientsName(message, statement));
    this.#owner.serverFailed(message);
  }

  skips(): void {
    const { batch } = this.#owner;
    // A sealed one has been sent: the exchange takes back what it assumed.
    if (!batch.sealed) batch.undo();
  }

  repeatsAfter(message: Buffer): boolean {
    if (!this.#guarded) return false;
    if (isOutdated(message) || this.#isDuplicate(message)) {
      this.#again = 'here';
      this.#renewStatements('');
    } else if (this.#endangered && !this.#owner.retries.canceled && sqlstateOf(message) === QUERY_CANCELED) {
      this.#again = this.#yields ? 'alone' : 'anywhere';
    } else {
      const mayRescue = this.#rescuable && this.#held.every(bytes => saysNothing(bytes, false));
      const fields = mayRescue ? errorFields(message, 0, message.length) : undefined;
      if (fields === undefined || !this.#owner.retries.rescues(fields)) return false;
      this.#again = isRefusal(fields) ? 'on_primary' : 'elsewhere';
    }
    this.#guarded = false;
    this.#dropHeld();
    return true;
  }

  completed(buffer: Buffer, start: number, end: number): void {
    const first = buffer[start];
    // S: SET; D: DISCARD, DEALLOCATE, DECLARE, DROP; R: RESET; P: PREPARE; L: LISTEN; C: CREATE; A: ALTER.
    // SELECT is passed over at its third letter.
    if (first === 0x53 ? buffer[start + 2] !== 0x54 : !TAG_INITIALS.has(first)) return;
    const { connection, batch, settings } = this.#owner;
    if (connection === undefined) return;
    const tag = buffer.toString('latin1', start, end - 1);
    switch (tag) {
      case 'DISCARD ALL':
        // What follows it in its batch may leave something again.
        if (batch.items.length === 1) connection.dirty = 0;
        connection.profile = connection.options.startup;
        settings.restart();
        this.#dropStatements(connection);
        break;
      case 'DEALLOCATE ALL':
        this.#dropStatements(connection);
        break;
      case 'RESET':
        settings.resetting = true;
        connection.dirty |= DIRTY.settings;
        break;
      default:
        if (DDL.test(tag)) this.#owner.schemaChanged();
        // What could not be inspected tells by its tags what it did.
        if ((batch.effects & EFFECT.unknown) !== 0) connection.dirty |= TAG_LEFTOVERS.get(tag) ?? 0;
    }
  }

  described(types: readonly number[], statement: string): void {
    if (!this.#isWhole) return;
    // A batch may prepare one name twice: which of them was described is not known then.
    const named = this.#owner.batch.items.filter(item => item.name === statement && item.statement !== undefined);
    const [first] = named;
    if (named.every(item => item.statement === first.statement)) first?.statement?.describe(types);
  }

  parameterChanged(name: string, value: string): void {
    const { connection, settings } = this.#owner;
    if (connection === undefined) return;
    // What is shared cannot have changed it by the client's wish.
    if (isFollowed(name) && !this.#owner.shared) settings.reported(name, value);
    else if (name !== 'session_authorization') return;
    connection.dirty |= DIRTY.settings;
  }

  copyChanged(): void {
    const { gone, connection, exchange, batch } = this.#owner;
    // What was sent is not sent again; what the client sends now is no part of it.
    if (batch.sealed) batch.clear();
    if (!gone) this.#owner.process();
    else if (connection !== undefined && exchange.copyIn) endCopyIn(connection, exchange);
  }

  exchangeEnded(status: number): void {
    this.instead = undefined;
    const { connection, exchange, settings } = this.#owner;
    settings.settle();
    if (exchange.mixed && connection !== undefined) connection.dirty |= DIRTY.pipeline;
    const again = this.#again;
    this.#again = 'no';
    if (again !== 'no' && !this.#owner.gone) {
      if (again === 'here') return this.#owner.retries.repeat();
      if (again === 'anywhere' || again === 'alone') return this.#owner.retries.again(again === 'alone');
      return this.#owner.retries.rescue(again === 'on_primary', undefined);
    }
    this.#passHeld();
    this.#owner.exchangeEnded(status);
  }

  connectionLost(cause: string, error: Map<string, string> | undefined): void {
    const { connection, exchange, batch, phase, settings } = this.#owner;
    if (connection === undefined) return;
    settings.settle();
    const isOurs = this.instead !== undefined;
    this.instead = undefined;
    const again = this.#again;
    this.#again = 'no';
    const isUndone = exchange.fate !== 'unknown' || again === 'anywhere' || again === 'alone';
    if (isUndone && this.#owner.shared && !this.#owner.gone && !isOurs) {
      this.#dropHeld();
      return this.#owner.retries.again(again === 'alone');
    }
    if (this.#rescuesLoss(isOurs, again, error)) {
      return this.#owner.retries.rescue(again === 'on_primary', error === undefined ? cause : undefined);
    }
    this.#passHeld();
    const { host, port } = connection.options;
    const loss = lossError({
      server: `${host}:${port}`,
      cause: error?.get('M') ?? cause,
      active: phase === 'active',
      inTransaction: connection.status !== STATUS.idle,
      cut: exchange.torn || this.#owner.pipelines,
      batch,
    });
    this.#owner.connectionLost(loss, error === undefined);
  }

  /** Whether the loss of the connection, not of pglynx's making, is to be made good elsewhere. */
  #rescuesLoss(isOurs: boolean, again: Again, error: ReadonlyMap<string, string> | undefined): boolean {
    const isUnderWay = this.#guarded || again === 'elsewhere' || again === 'on_primary';
    const { gone, phase } = this.#owner;
    if (isOurs || gone || phase !== 'active' || !this.#rescuable || !isUnderWay || !this.#owner.retries.rescues(error))
      return false;
    this.#guarded = false;
    this.#dropHeld();
    return true;
  }

  /** Whether the server has a statement that it was taken not to have. */
  #isDuplicate(message: Buffer): boolean {
    if (!message.includes(STATEMENT_PREFIX) || sqlstateOf(message) !== DUPLICATE_STATEMENT) return false;
    return this.#owner.batch.items.every(({ taken }) => taken === undefined);
  }

  #dropHeld(): void {
    if (this.#held.length > 0) this.#held = [];
  }

  /** Nothing is kept back any more: the batch cannot be sent again. */
  #passHeld(): void {
    this.#guarded = false;
    for (const bytes of this.#held) this.#outbox.push(bytes);
    this.#dropHeld();
  }

  /** The client has deallocated its statements, but for those that it prepares after that. */
  #dropStatements(connection: ServerConnection): void {
    const { batch, exchange, statements, commands } = this.#owner;
    connection.statements.outdate();
    commands.clear();
    const unsent = batch.sealed ? [] : batch.items.filter(({ type }) => type === FRONTEND.parse);
    statements.clear([...exchange.parsing, ...unsent.map(({ name }) => name)]);
  }

  /** Every connection prepares the batch's statements, and the client's of this name, anew before it uses them again. */
  #renewStatements(name: string): void {
    const { batch, statements } = this.#owner;
    const outdated = new Set([...batch.items.map(({ statement }) => statement), statements.find(name)]);
    for (const statement of outdated) statement?.outdate();
  }
}

/** Replies that come before the first that says something: a row, the end of a statement, an error. */
const PREAMBLE = new Set<number>([
  BACKEND.parseComplete,
  BACKEND.bindComplete,
  BACKEND.closeComplete,
  BACKEND.parameterDescription,
  BACKEND.rowDescription,
  BACKEND.noData,
  BACKEND.copyOutResponse,
]);

/** What else there is in the reply to a read; it comes in one piece, unless a dying server has cut it off. */
const RESULT = new Set<number>([
  BACKEND.dataRow,
  BACKEND.commandComplete,
  BACKEND.emptyQueryResponse,
  BACKEND.portalSuspended,
  BACKEND.readyForQuery,
]);

/** Bytes that a server gathers before it sends them. */
const FLUSHED_LENGTH = 8192;

/**
 * Whether bytes are nothing but a preamble, whole messages that promise a result, or a dying server's last words; with
 * `small` also the result of a read.
 */
function saysNothing(bytes: Buffer, small: boolean): boolean {
  let at = 0;
  while (at + HEADER_LENGTH <= bytes.length) {
    const end = at + bytes.readUInt32BE(at + 1) + 1;
    const isHeld = PREAMBLE.has(bytes[at]) || (small && RESULT.has(bytes[at]));
    if (!isHeld && !areLastWords(bytes, at, end)) return false;
    at = end;
  }
  return at === bytes.length;
}

/** Whether a message is the notice with which a server ends a session at once: its crash, or that of another session. */
function areLastWords(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] !== BACKEND.noticeResponse || end > bytes.length) return false;
  return LAST_WORDS.has(errorFields(bytes, start, end).get('C'));
}

const LAST_WORDS: ReadonlySet<string | undefined> = new Set(['57P01', '57P02']);

const UNKNOWN_STATEMENT = '26000';
const DUPLICATE_STATEMENT = '42P05';
const DDL = /^(?:CREATE|ALTER|DROP) /;
const TAG_INITIALS = new Set(['D', 'R', 'P', 'L', 'C', 'A'].map(letter => letter.charCodeAt(0)));
const TAG_LEFTOVERS = new Map<string, number>([
  ['SET', DIRTY.settings],
  ['PREPARE', DIRTY.prepared],
  ['LISTEN', DIRTY.listen],
  ['DECLARE CURSOR', DIRTY.cursors],
]);

/** An ErrorResponse about a statement, with the client's name of it in place of pglynx's. */
function inClientsName(message: Buffer, statement: string): Buffer {
  if (!message.includes(STATEMENT_PREFIX) || !NAMING.has(sqlstateOf(message) ?? '')) return message;
  if (!isWhole(message)) return message;
  const body = message.toString('latin1', HEADER_LENGTH, message.length - 1);
  const named = (field: string) => (field[0] === 'M' ? field.replace(SERVER_NAME, () => `"${statement}"`) : field);
  const fields = body.split('\0').slice(0, -1);
  return fieldsMessage(
    BACKEND.errorResponse,
    fields.map(field => [named(field)]),
    'latin1',
  );
}

/** The errors that name a statement: it does not exist, it exists already, it takes another number of parameters. */
const NAMING = new Set([UNKNOWN_STATEMENT, DUPLICATE_STATEMENT, '08P01']);
const SERVER_NAME = new RegExp(`"${STATEMENT_PREFIX}\\d+"`);

/** Whether these bytes are more than the head of a message. */
function isWhole(message: Buffer): boolean {
  return message.length === message.readUInt32BE(1) + 1;
}

function sqlstateOf(message: Buffer): string | undefined {
  return errorFields(message, 0, message.length).get('C');
}

/**
 * Whether a statement on the server is not what pglynx takes it for: "cached plan must not change result type", told by
 * the function that raises it, whatever the language, or a statement that is gone, which another client deallocated.
 */
function isOutdated(message: Buffer): boolean {
  if (!message.includes('RevalidateCachedQuery') && !message.includes(STATEMENT_PREFIX)) return false;
  const fields = errorFields(message, 0, message.length);
  if (fields.get('C') === UNKNOWN_STATEMENT) return fields.get('M')?.includes(STATEMENT_PREFIX) === true;
  return fields.get('C') === '0A000' && fields.get('R') === 'RevalidateCachedQuery';
}
