/** PostgreSQL's side of the protocol as far as the order of replies goes, and random sessions of clients for it. */
import fc from 'fast-check';

/** A message of a client, by its type byte, and what the server makes of it when it gets to it. */
export interface ClientMessage {
  readonly type: string;
  /** Whether it succeeds; copy data that is not ok makes its COPY fail. */
  readonly ok: boolean;
  /** What an Execute or Query does: nothing special, COPY FROM STDIN (once or twice), or one that fails once begun. */
  readonly copies?: 'once' | 'twice' | 'fails';
  /** Whether pglynx answers it by itself. */
  readonly local?: boolean;
  /** What pglynx puts in front of it: a Parse, or a Close and a Parse. */
  readonly injects?: 'P' | 'C';
  /** Whether something must be taken back when it has no effect. */
  readonly undone?: boolean;
}

/** What became of a message. */
type Fate = 'done' | 'refused' | 'skipped';

const REPLIES: Readonly<Record<string, string>> = {
  P: '1',
  B: '2',
  D: 'tT',
  E: 'DC',
  C: '3',
  S: 'Z',
  Q: 'TDCZ',
  F: 'VZ',
};

/** Takes messages in order and says which types of replies come, as PostgreSQL's main loop and COPY do. */
export class ModelServer {
  #state: 'ready' | 'skipping' | 'copying' = 'ready';
  /** Whether the COPY under way, or the last message, is one of the extended protocol. */
  #extended = false;
  /** COPYs that follow in the same query. */
  #more = 0;

  take(message: ClientMessage): { answer: string; fate: Fate } {
    const { type } = message;
    if (this.#state === 'copying') return { answer: this.#takeInCopy(message), fate: 'done' };
    if ('dcfH'.includes(type)) return { answer: '', fate: 'done' };
    if (this.#state === 'skipping' && type !== 'S') return { answer: '', fate: 'skipped' };
    this.#state = 'ready';
    this.#extended = !'SQF'.includes(type);
    if (!message.ok) return { answer: this.#fail(), fate: 'refused' };
    if (message.copies === undefined) return { answer: REPLIES[type], fate: 'done' };
    this.#more = message.copies === 'twice' && type === 'Q' ? 1 : 0;
    this.#state = 'copying';
    return { answer: `G${message.copies === 'fails' ? this.#fail() : ''}`, fate: 'done' };
  }

  #takeInCopy({ type, ok }: ClientMessage): string {
    if (type === 'f' || (type === 'd' && !ok)) return this.#fail();
    if (type !== 'c') return '';
    if (this.#more-- > 0) return 'CG';
    this.#state = 'ready';
    return this.#extended ? 'C' : 'CZ';
  }

  #fail(): string {
    this.#state = this.#extended ? 'skipping' : 'ready';
    return this.#extended ? 'E' : 'EZ';
  }
}

const ok = fc.integer({ max: 7 }).map(n => n > 0);
const plain = (type: string) => ok.map((ok): ClientMessage => ({ type, ok }));
const always = (type: string): ClientMessage => ({ type, ok: true });

const parse = fc.oneof(
  ok.map((ok): ClientMessage => ({ type: 'P', ok, undone: true })),
  fc.constant<ClientMessage>({ type: 'P', ok: true, local: true, undone: true }),
);
const close = fc.boolean().map((local): ClientMessage => ({ type: 'C', ok: true, local, undone: true }));
const bind = fc
  .tuple(ok, fc.constantFrom(undefined, 'P' as const, 'C' as const))
  .map(([ok, injects]): ClientMessage => ({ type: 'B', ok, ...(injects === undefined ? {} : { injects }) }));
/** A query closes the unnamed statement, also where it fails. */
const query = ok.map((ok): ClientMessage => ({ type: 'Q', ok, undone: true }));
const message = fc.oneof(
  { weight: 3, arbitrary: parse },
  { weight: 3, arbitrary: bind },
  { weight: 2, arbitrary: plain('D') },
  { weight: 3, arbitrary: plain('E') },
  { weight: 2, arbitrary: close },
  { weight: 2, arbitrary: fc.constant(always('S')) },
  { weight: 1, arbitrary: fc.constant(always('H')) },
  { weight: 1, arbitrary: query },
  { weight: 1, arbitrary: plain('F') },
  { weight: 1, arbitrary: fc.constantFrom('d', 'c', 'f').map(always) },
);

const data = fc.array(fc.oneof(plain('d'), plain('d'), fc.constantFrom('S', 'H').map(always)), { maxLength: 5 });
const end = fc.constantFrom('c', 'c', 'f').map(always);

/** A COPY with its data: an Execute may have Syncs behind it, and has one at its end; a query may copy twice. */
const copy = fc
  .tuple(
    fc.boolean(),
    fc.constantFrom('once' as const, 'twice' as const, 'fails' as const),
    ok,
    fc.array(fc.tuple(data, end), { minLength: 2, maxLength: 2 }),
    fc.array(fc.oneof(parse, query, bind), { maxLength: 2 }),
  )
  .map(([simple, copies, ok, parts, behind]): ClientMessage[] => {
    const twice = simple && copies === 'twice';
    const rest = parts.slice(0, twice ? 2 : 1).flatMap(([rows, last]) => [...rows, last]);
    const begin: ClientMessage = { type: simple ? 'Q' : 'E', ok, copies, undone: simple };
    return [always('S'), begin, ...rest, ...behind, always('S')];
  });

/** Sessions: any messages in any order, but nothing except data, Sync and Flush while a COPY may be under way. */
export const session: fc.Arbitrary<ClientMessage[]> = fc
  .array(fc.oneof({ weight: 8, arbitrary: message.map(one => [one]) }, { weight: 1, arbitrary: copy }), {
    maxLength: 16,
  })
  .map(parts => [...parts.flat(), always('S')]);
