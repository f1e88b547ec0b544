/** Random parts for the clients of a run: what each does, how it sends it, and what happens to it meanwhile. */
import fc from 'fast-check';
import type { Author, Exchange, Maker } from './model-exchange.ts';
import { READ_MAKERS } from './model-reads.ts';
import { begin, commit, INSIDE_MAKERS, rollback, WRITE_MAKERS } from './model-writes.ts';

/** What a client does to itself while a unit is under way. */
export type Disturbance =
  | 'none'
  /** It asks to cancel. */
  | 'cancel'
  /** It breaks the connection. */
  | 'reset'
  /** It says goodbye and waits for nothing. */
  | 'goodbye'
  /** It breaks the connection in the middle of a message. */
  | 'half'
  /** It does not read for a while. */
  | 'pause';

/** Exchanges that belong together. */
export interface Unit {
  /** One kind; of a transaction, the kinds within it. */
  readonly kinds: readonly { readonly name: string; readonly pick: number }[];
  /** How the transaction begins and ends, if it is one. */
  readonly transaction: { readonly pick: number; readonly commits: boolean } | undefined;
  /** Whether all is sent at once, and whether the client then waits for the answers before it goes on. */
  readonly pipelined: boolean;
  readonly waits: boolean;
  readonly disturbance: Disturbance;
  /** When that happens, after sending. */
  readonly after_ms: number;
}

/** What one client does in a run. */
export interface Part {
  readonly profile: number;
  readonly units: readonly Unit[];
}

/** A server process to end: after so many ms, which of them, on which server. */
export interface Kill {
  readonly after_ms: number;
  readonly pick: number;
}

type Kind = keyof typeof READ_MAKERS | keyof typeof WRITE_MAKERS;

const MAKERS: Readonly<Record<string, Maker>> = { ...READ_MAKERS, ...WRITE_MAKERS };

/** How often each kind is sent, of all together; what takes long is rare. */
const WEIGHTS: Readonly<Record<Kind, number>> = {
  simple: 100,
  unnamed: 80,
  preparing: 50,
  using: 80,
  probe: 60,
  named: 30,
  several: 40,
  many: 40,
  large: 4,
  slow: 4,
  failing: 30,
  missing: 10,
  portal: 20,
  flushed: 20,
  empty: 10,
  listed: 20,
  copyOut: 10,
  insert: 100,
  own: 30,
  hot: 12,
  writes: 20,
  failingWrite: 20,
  largeWrite: 2,
  copyIn: 10,
  block: 10,
  renaming: 6,
  notice: 10,
  setting: 4,
  temporary: 2,
  prepared: 4,
};

const pick = fc.nat(2 ** 24);

const kind = fc.oneof(
  ...Object.entries(WEIGHTS).map(([name, weight]) => ({
    weight,
    arbitrary: fc.record({ name: fc.constant(name), pick }),
  })),
);

const single = kind.map(one => ({ kinds: [one], transaction: undefined }));

const transaction = fc.record({
  kinds: fc
    .subarray(Object.keys(INSIDE_MAKERS), { minLength: 1, maxLength: 3 })
    .chain(names => fc.tuple(...names.map(name => fc.record({ name: fc.constant(name), pick })))),
  transaction: fc.record({ pick, commits: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.constant(false)) }),
});

const DISTURBANCES: readonly Disturbance[] = ['cancel', 'cancel', 'cancel', 'reset', 'goodbye', 'half', 'pause'];

function unit(disturbed: boolean): fc.Arbitrary<Unit> {
  const disturbance: fc.Arbitrary<Disturbance> = disturbed
    ? fc.oneof({ weight: 14, arbitrary: fc.constant('none' as const) }, fc.constantFrom(...DISTURBANCES))
    : fc.constant('none');
  return fc
    .tuple(
      fc.oneof({ weight: 19, arbitrary: single }, { weight: 1, arbitrary: transaction }),
      fc.record({ pipelined: fc.boolean(), waits: fc.boolean(), disturbance, after_ms: fc.nat(3) }),
    )
    .map(([work, way]) => ({ ...work, ...way }));
}

/** The parts of all clients of a run. */
export function parts(disturbed: boolean, clients_max: number, units: number): fc.Arbitrary<Part[]> {
  const part = fc.record({
    profile: fc.nat(1000),
    units: fc.array(unit(disturbed), { minLength: 1, maxLength: units, size: 'max' }),
  });
  return fc.array(part, { minLength: 2, maxLength: clients_max, size: 'max' });
}

/** When to end a server process, and which. */
export const kills: fc.Arbitrary<Kill[]> = fc.array(fc.record({ after_ms: fc.integer({ min: 20, max: 120 }), pick }), {
  minLength: 5,
  maxLength: 200,
  size: 'max',
});

/** The exchanges of a unit, in order. */
export function exchangesOf({ kinds, transaction }: Unit, author: Author): Exchange[] {
  if (transaction === undefined) return kinds.map(({ name, pick }) => MAKERS[name](author, pick));
  return [
    begin(transaction.pick),
    ...kinds.flatMap(({ name, pick }) => INSIDE_MAKERS[name](author, pick)),
    (transaction.commits ? commit : rollback)(transaction.pick >> 8),
  ];
}
