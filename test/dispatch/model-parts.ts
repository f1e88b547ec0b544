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
  slow: 8,
  failing: 30,
  missing: 10,
  portal: 20,
  flushed: 20,
  empty: 10,
  listed: 20,
  copyOut: 10,
  insert: 100,
  own: 30,
  hot: 16,
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

/** Those that may be shared. */
const SHAREABLE: readonly Kind[] = [
  'simple',
  'unnamed',
  'preparing',
  'using',
  'probe',
  'named',
  'several',
  'many',
  'slow',
  'failing',
  'missing',
  'insert',
  'own',
  'hot',
  'failingWrite',
];

/** What clients are like. */
export interface Habits {
  /** How many there are at least, and at most. */
  readonly clients: readonly [number, number];
  /** Units of one in a run, at most. */
  readonly units: number;
  /** Whether they send little but what may be shared, and seldom wait for a reply. */
  readonly sharing: boolean;
  /** Whether they cancel, vanish and stop reading. */
  readonly disturbed: boolean;
}

const pick = fc.nat(2 ** 24);

function single(sharing: boolean) {
  const kinds = Object.entries(WEIGHTS).filter(([name]) => !sharing || SHAREABLE.some(kind => kind === name));
  const kind = fc.oneof(
    ...kinds.map(([name, weight]) => ({ weight, arbitrary: fc.record({ name: fc.constant(name), pick }) })),
  );
  return kind.map(one => ({ kinds: [one], transaction: undefined }));
}

const transaction = fc.record({
  kinds: fc
    .subarray(Object.keys(INSIDE_MAKERS), { minLength: 1, maxLength: 3 })
    .chain(names => fc.tuple(...names.map(name => fc.record({ name: fc.constant(name), pick })))),
  transaction: fc.record({ pick, commits: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.constant(false)) }),
});

const DISTURBANCES: readonly Disturbance[] = ['cancel', 'cancel', 'cancel', 'reset', 'goodbye', 'half', 'pause'];

function unit({ sharing, disturbed }: Habits): fc.Arbitrary<Unit> {
  const disturbance: fc.Arbitrary<Disturbance> = disturbed
    ? fc.oneof({ weight: 14, arbitrary: fc.constant('none' as const) }, fc.constantFrom(...DISTURBANCES))
    : fc.constant('none');
  const usual = (is: boolean) => fc.oneof({ weight: sharing ? 9 : 1, arbitrary: fc.constant(is) }, fc.constant(!is));
  return fc
    .tuple(
      fc.oneof({ weight: sharing ? 49 : 19, arbitrary: single(sharing) }, { weight: 1, arbitrary: transaction }),
      fc.record({ pipelined: usual(true), waits: usual(false), disturbance, after_ms: fc.nat(3) }),
    )
    .map(([work, way]) => ({ ...work, ...way }));
}

/** The parts of all clients of a run. */
export function parts(habits: Habits): fc.Arbitrary<Part[]> {
  const [minLength, maxLength] = habits.clients;
  // Those whose settings differ are not sent on one connection together.
  const profile = fc.oneof({ weight: habits.sharing ? 8 : 0, arbitrary: fc.constant(0) }, fc.nat(1000));
  const part = fc.record({
    profile,
    units: fc.array(unit(habits), { minLength: 1, maxLength: habits.units, size: 'max' }),
  });
  return fc.array(part, { minLength, maxLength, size: 'max' });
}

/** When to break connections, and which: some right behind each other, most so far apart that one read meets one only. */
export const kills: fc.Arbitrary<Kill[]> = fc.array(
  fc.record({ after_ms: fc.oneof(fc.integer({ min: 5, max: 50 }), fc.integer({ min: 150, max: 400 })), pick }),
  { minLength: 10, maxLength: 200, size: 'max' },
);

/** The exchanges of a unit, in order. */
export function exchangesOf({ kinds, transaction }: Unit, author: Author): Exchange[] {
  if (transaction === undefined) return kinds.map(({ name, pick }) => MAKERS[name](author, pick));
  return [
    begin(transaction.pick),
    ...kinds.flatMap(({ name, pick }) => INSIDE_MAKERS[name](author, pick)),
    (transaction.commits ? commit : rollback)(transaction.pick >> 8),
  ];
}
