/** Tells the log of exchanges that took longer than log_min_duration_statement: what ran, for whom, where and why there. */
import type { Cluster } from '../pool/cluster.ts';
import type { LeaseSource } from '../pool/lease.ts';
import type { PreparedStatement } from '../server/prepared.ts';
import { redacted } from '../sql/redact.ts';
import { Template } from '../sql/template.ts';
import { FRONTEND, HEADER_LENGTH } from '../wire/protocol.ts';
import { type Batch, type BatchItem, isHead } from './batch.ts';
import type { ClientRouting } from './routing.ts';
import type { ClientSettings } from './settings.ts';

/** The session whose exchanges they are. */
export interface SlowOwner {
  readonly id: number;
  readonly database: string;
  readonly user: string;
  readonly application_name: string;
  readonly cluster: Cluster;
  readonly settings: ClientSettings;
  readonly routing: ClientRouting;
  readonly batch: Batch;
}

/** Statements of one exchange that are told of, and bytes of each that are looked at. */
const STATEMENTS_MAX = 20;
const LENGTH_MAX = 8192;
/** What a text holds that is never shown whole: its strings may be passwords. */
const SECRETIVE = /pass|pwd|secret|credential|token|crypt|connection/i;
/** Stands for a text in which it cannot be told where strings end. */
const UNREADABLE = '(not shown: it depends on settings where its strings end)';

const TEMPLATE = new Template(LENGTH_MAX);

export class SlowLog {
  readonly #owner: SlowOwner;
  /** What was sent of the exchange under way and is not in the batch any more. */
  #sent: PreparedStatement[] = [];

  constructor(owner: SlowOwner) {
    this.#owner = owner;
  }

  /** An exchange begins. */
  begin(): void {
    if (this.#sent.length > 0) this.#sent = [];
  }

  /** A batch is sent that does not end its exchange. */
  sent(batch: Batch): void {
    if (this.#owner.cluster.settings.log_min_duration_statement < 0) return;
    for (const { type, statement } of batch.items) {
      if (type === FRONTEND.bind && statement !== undefined && this.#sent.length < STATEMENTS_MAX)
        this.#sent.push(statement);
    }
  }

  /** An exchange has taken so long on a server of `pool`. */
  ended(duration_ms: number, pool: LeaseSource): void {
    const { cluster } = this.#owner;
    const { log_min_duration_statement: least_ms } = cluster.settings;
    if (least_ms >= 0 && duration_ms >= least_ms) this.#tell(duration_ms, pool);
  }

  #tell(duration_ms: number, { address }: LeaseSource): void {
    const { id, database, user, application_name, cluster, routing } = this.#owner;
    const form = cluster.settings.log_statement_as;
    const fields = {
      client: id,
      database,
      user,
      application_name,
      duration_ms: Math.round(duration_ms * 1000) / 1000,
      server: address.name,
      role: address.role,
      reason: routing.route?.reason,
      [form]: this.#texts()
        .map(text => this.#shown(text, form === 'text'))
        .join('; '),
    };
    cluster.context.log.info(fields, 'Slow statement');
  }

  /** The texts that ran; where none did, those that were prepared. */
  #texts(): Buffer[] {
    const { items } = this.#owner.batch;
    const ran = items.flatMap(item =>
      item.type === FRONTEND.query ? [textOf(item)] : definitionOf(item, FRONTEND.bind),
    );
    const all = [...this.#sent.map(({ definition }) => textIn(definition)), ...ran];
    const prepared = all.length > 0 ? all : items.flatMap(item => definitionOf(item, FRONTEND.parse));
    return prepared.slice(0, STATEMENTS_MAX);
  }

  #shown(text: Buffer, whole: boolean): string {
    const { settings } = this.#owner;
    const start = text.subarray(0, LENGTH_MAX);
    const end = text.length > LENGTH_MAX ? '...' : '';
    if (whole && !SECRETIVE.test(text.toString('latin1'))) return `${start.toString('utf8')}${end}`;
    const read = (backslashes: boolean) => redacted(start, 0, start.length, { numbers: true, backslashes });
    const plain = read(false);
    // The setting may have changed since the text was sent.
    if (settings.misleads(start) || plain !== read(true)) return UNREADABLE;
    TEMPLATE.scan(start, 0, start.length, false);
    const hasTemplate = end === '' && TEMPLATE.refusal === undefined && !TEMPLATE.verbatim;
    return hasTemplate ? TEMPLATE.text : `${plain}${end}`;
  }
}

/** The text of a Query, as far as it is here. */
function textOf(item: BatchItem): Buffer {
  const { buffer, start, end } = item;
  return buffer.subarray(start + HEADER_LENGTH, isHead(item) ? end : end - 1);
}

function definitionOf({ type, statement }: BatchItem, wanted: number): Buffer[] {
  return type === wanted && statement !== undefined ? [textIn(statement.definition)] : [];
}

/** The text at the beginning of a statement's definition. */
function textIn(definition: Buffer): Buffer {
  return definition.subarray(0, definition.indexOf(0));
}
