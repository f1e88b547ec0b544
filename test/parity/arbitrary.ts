/** Random sessions: batches of simple and extended queries, COPY and function calls, in legal and illegal orders. */
import fc from 'fast-check';
import * as frontend from '../client/frontend.ts';
import type { Step } from './script.ts';

/** A session for whichever client: its table is written `{t}` in SQL. */
export type Session = readonly Unit[];

/** What belongs together: the messages of a batch, a COPY with its data. */
type Unit = readonly Part[];

/** A message, made for a table, or a moment to wait. */
type Part = ((table: string) => Buffer) | Step;

/** Which session state a session may leave behind: none outside transactions, as transaction mode wants it, or any. */
export type Mode = 'transaction' | 'session';

const READS = [
  'SELECT $1::int4 AS n',
  'SELECT n, s FROM {t} WHERE n >= $1 ORDER BY n',
  'SELECT 1 / $1::int4',
  'SELECT generate_series(1, $1::int4)',
  'SELECT s, $1::text FROM {t} ORDER BY n',
  'SELECT $1::int4 + $2::int4',
  'SELECT 1',
  "SELECT repeat('wide ', 3000) FROM generate_series(1, 5)",
  'VALUES (1), (2), (3)',
  'SHOW DateStyle',
];
const OTHERS = [
  'INSERT INTO {t} VALUES ($1, $2)',
  'UPDATE {t} SET s = $1 WHERE n = 1',
  'DELETE FROM {t} WHERE n = $1',
  'BEGIN',
  'COMMIT',
  'ROLLBACK',
  'SAVEPOINT a',
  'ROLLBACK TO a',
  'RELEASE a',
  '',
  'COPY (SELECT * FROM {t} ORDER BY n) TO STDOUT',
  "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$",
  "SET LOCAL application_name = 'local'",
  'SELEC',
  'SELECT * FROM nowhere',
  'SELECT 1; SELECT 2',
];
const QUERIES = [
  'SELECT 1 AS one',
  'SELECT * FROM {t} ORDER BY n',
  "INSERT INTO {t} VALUES (7, 'seven')",
  'DELETE FROM {t} WHERE n = 7',
  "UPDATE {t} SET s = s || 'x' WHERE n = 1 RETURNING *",
  'BEGIN',
  'BEGIN',
  'COMMIT',
  'ROLLBACK',
  'SAVEPOINT a',
  'ROLLBACK TO a',
  'RELEASE a',
  'SELECT 1 / 0',
  'SELEC',
  '',
  ' -- nothing',
  "DO $$ BEGIN RAISE NOTICE 'noticed'; RAISE WARNING 'warned'; END $$",
  "DO $$ BEGIN RAISE EXCEPTION 'thrown' USING HINT = 'none'; END $$",
  'SELECT generate_series(1, 3)',
  'COPY (SELECT * FROM {t} ORDER BY n) TO STDOUT',
  "SELECT repeat('long ', 30000)",
  'DECLARE c CURSOR FOR SELECT generate_series(1, 5)',
  'FETCH 2 FROM c',
  'CLOSE c',
  "SET LOCAL application_name = 'local'",
  'SHOW application_name',
  'BEGIN; SELECT 1',
  'SELECT 1; SELECT 1 / 0; SELECT 2',
  "BEGIN; INSERT INTO {t} VALUES (8, 'eight'); ROLLBACK; SELECT count(*) FROM {t}",
  'COMMIT; BEGIN',
  'DEALLOCATE ALL',
];
const SESSION_QUERIES = [
  "SET application_name = 'changed'",
  'RESET application_name',
  'SET DateStyle = German',
  'RESET ALL',
  'PREPARE q AS SELECT 1',
  'EXECUTE q',
  'DEALLOCATE q',
  'DISCARD ALL',
];

/** Statement names by what they are used for: a Describe in a failed transaction goes to those that return rows only. */
const READ_NAMES = ['', 'a', 'b'];
const OTHER_NAMES = ['', 'x', 'y'];
const PORTALS = ['', 'p', 'q'];
const VALUES = ['1', '0', '2', '9', 'word', '', null];

const INT4_PLUS = 177;
const INT4_DIVIDE = 154;
const NO_FUNCTION = 999_999;

const fixed = (bytes: Buffer) => () => bytes;
const inTable = (text: string, table: string) => text.replaceAll('{t}', table);

const sync = fixed(frontend.sync());
const flush = fixed(frontend.flush());

const portal = fc.constantFrom(...PORTALS);
const statement = fc.constantFrom(...READ_NAMES, ...OTHER_NAMES);

const parse = fc.oneof(
  fc.record({ name: fc.constantFrom(...READ_NAMES), text: fc.constantFrom(...READS) }),
  fc.record({ name: fc.constantFrom(...OTHER_NAMES), text: fc.constantFrom(...OTHERS) }),
);
const values = fc.array(fc.constantFrom(...VALUES), { maxLength: 2 });
const resultFormats = fc.constantFrom([], [], [1], [0, 1]);

const message: fc.Arbitrary<Part> = fc.oneof(
  {
    weight: 5,
    arbitrary: parse.map(
      ({ name, text }) =>
        (table: string) =>
          frontend.parse(name, inTable(text, table)),
    ),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(portal, statement, values, resultFormats)
      .map(([to, name, given, formats]) => fixed(frontend.bind(to, name, given, { resultFormats: formats }))),
  },
  { weight: 1, arbitrary: fc.constantFrom('a', 'b').map(name => fixed(frontend.describe('S', name))) },
  { weight: 2, arbitrary: portal.map(name => fixed(frontend.describe('P', name))) },
  {
    weight: 5,
    arbitrary: fc.tuple(portal, fc.constantFrom(0, 0, 1, 2)).map(([p, max]) => fixed(frontend.execute(p, max))),
  },
  { weight: 1, arbitrary: statement.map(name => fixed(frontend.close('S', name))) },
  { weight: 1, arbitrary: portal.map(name => fixed(frontend.close('P', name))) },
  { weight: 1, arbitrary: fc.constant(flush) },
  { weight: 2, arbitrary: fc.constant(sync) },
);

/** Parse, Bind and Execute that belong together, so that most of what is sent makes sense. */
const statementRun: fc.Arbitrary<Unit> = fc
  .tuple(parse, fc.boolean(), fc.boolean(), portal, values, fc.constantFrom(0, 0, 1, 2))
  .map(([{ name, text }, describes, again, to, given, max]) => [
    table => frontend.parse(name, inTable(text, table)),
    ...(describes ? [fixed(frontend.describe('S', name))] : []),
    fixed(frontend.bind(to, name, given)),
    ...(describes ? [fixed(frontend.describe('P', to))] : []),
    fixed(frontend.execute(to, max)),
    ...(again ? [fixed(frontend.execute(to, max))] : []),
  ]);

const batch: fc.Arbitrary<Unit> = fc
  .tuple(
    fc.array(
      fc.oneof(
        message.map(part => [part]),
        statementRun,
      ),
      { minLength: 1, maxLength: 6 },
    ),
    fc.boolean(),
  )
  .map(([parts, synced]) => [...parts.flat(), ...(synced ? [sync] : [])]);

const functionCall: fc.Arbitrary<Unit> = fc
  .tuple(
    fc.constantFrom(INT4_PLUS, INT4_DIVIDE, NO_FUNCTION),
    fc.array(fc.constantFrom('6', '3', '0', null), { maxLength: 3 }),
  )
  .map(([oid, given]) => [fixed(frontend.functionCall(oid, given))]);

const ROWS = ['10\tten\n', '11\televen\n', '12', '\ttwelve\n', 'bad\trow\n', '1\ttwice\n', ''];
const dataPart: fc.Arbitrary<Part> = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...ROWS).map(row => fixed(frontend.copyData(row))) },
  { weight: 1, arbitrary: fc.constant(fixed(frontend.copyData(`13\t${'x'.repeat(100_000)}\n`))) },
  { weight: 1, arbitrary: fc.constantFrom(sync, flush) },
);
const data = fc
  .tuple(fc.array(dataPart, { maxLength: 5 }), fc.constantFrom(frontend.copyDone(), frontend.copyFail('given up')))
  .map(([parts, end]) => [...parts, fixed(end)]);

const COPIES = ['COPY {t} FROM STDIN', 'COPY {t} FROM STDIN', 'COPY seen_{t} FROM STDIN', 'COPY nowhere FROM STDIN'];
const started: Unit = [{ until: 'GE' }];

/** COPY FROM STDIN: in a simple query or in an extended one, with data at its time or ahead of it. */
const copyIn: fc.Arbitrary<Unit> = fc
  .tuple(
    fc.constantFrom(...COPIES),
    fc.boolean(),
    fc.boolean(),
    fc.constantFrom([sync], [flush], [], [sync, sync]),
    data,
  )
  .map(([sql, simple, waits, syncs, rows]) => {
    const copy = (table: string) => inTable(sql, table);
    const extended: Unit = [
      table => frontend.parse('copy', copy(table)),
      fixed(frontend.bind('', 'copy')),
      fixed(frontend.execute()),
      ...syncs,
    ];
    const begin: Unit = simple ? [table => frontend.query(copy(table))] : extended;
    const isAnswered = simple || syncs.length > 0;
    // Only after a mark is it sure that the COPY is not skipped, so that there is something to wait for.
    return [
      { mark: waits ? 'wait' : 'go on' },
      ...begin,
      ...(waits && isAnswered ? started : []),
      ...rows,
      sync,
      fixed(frontend.close('S', 'copy')),
      sync,
    ];
  });

/** Data that belongs to no COPY. */
const stray: fc.Arbitrary<Unit> = fc
  .constantFrom(frontend.copyData('stray'), frontend.copyDone(), frontend.copyFail('stray'))
  .map(bytes => [{ mark: 'go on' }, fixed(bytes)]);

/** An extended query that is answered at Flush. */
const flushed: fc.Arbitrary<Unit> = fc
  .constantFrom(...READS)
  .map(text => [
    { mark: 'wait' },
    table => frontend.parse('', inTable(text, table)),
    fixed(frontend.describe('S', '')),
    flush,
    { until: 'TnE' },
  ]);

/** Sessions for this mode; no session has two Closes in a row, see script.ts. */
export function session(mode: Mode, maxLength: number): fc.Arbitrary<Session> {
  const texts = mode === 'session' ? [...QUERIES, ...SESSION_QUERIES] : QUERIES;
  const simple: fc.Arbitrary<Unit> = fc
    .constantFrom(...texts)
    .map(text => [(table: string) => frontend.query(inTable(text, table))]);
  const unit: fc.Arbitrary<Unit> = fc.oneof(
    { weight: 6, arbitrary: batch },
    { weight: 5, arbitrary: simple },
    { weight: 1, arbitrary: functionCall },
    { weight: 2, arbitrary: copyIn },
    { weight: 1, arbitrary: flushed },
    { weight: 1, arbitrary: stray },
    { weight: 1, arbitrary: fc.constant<Unit>([{ mark: 'wait' }]) },
  );
  return fc.array(unit, { minLength: 1, maxLength });
}

/** The session's steps on this table, and at the end everything undone, so that the client can play another one. */
export function steps(units: Session, table: string): Step[] {
  const made: Step[] = [];
  let before = '';
  let isBound = false;
  for (const part of units.flat()) {
    const step = typeof part === 'function' ? { send: part(table) } : part;
    const bytes = 'send' in step ? step.send : Buffer.from('S');
    const type = String.fromCharCode(bytes[0]);
    if (type === 'C' && before === 'C') continue;
    if (!isBound && usesUnnamedPortal(type, bytes)) continue;
    if (!SILENT.includes(type)) before = type;
    if ('SQ'.includes(type)) isBound = false;
    else if (type === 'B') isBound ||= bytes[BODY] === 0;
    made.push(step);
  }
  const undo = ['ROLLBACK', 'DEALLOCATE ALL', 'SET SESSION AUTHORIZATION DEFAULT'].map(frontend.query);
  return [...made, { mark: 'wait' }, { send: Buffer.concat(undo) }, { mark: 'wait' }];
}

/**
 * PostgreSQL 18.4 crashes when a client executes the unnamed portal that a failed simple query has left in a failed
 * transaction. So nobody uses it but right behind a Bind.
 */
function usesUnnamedPortal(type: string, bytes: Buffer): boolean {
  if (type === 'E') return bytes[BODY] === 0;
  return type === 'D' && bytes.toString('latin1', BODY) === 'P\0';
}

/** Where the body of a message begins. */
const BODY = 5;

/** Messages that are answered by nothing. */
const SILENT = 'Hdcf';
