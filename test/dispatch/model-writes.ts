/** What the model's clients do beside reading: writes, transactions, and what leaves its mark on a session. */
import * as frontend from '../client/frontend.ts';
import {
  type Author,
  batch,
  type Exchange,
  type Expected,
  either,
  inside,
  type Known,
  type Maker,
  rows,
  simple,
  unnamed,
} from './model-exchange.ts';
import { HOT } from './model-ledger.ts';

const { bind, copyData, copyDone, execute, parse, query, sync } = frontend;

const INTO = 'INSERT INTO public.ledger VALUES';
const INSERTED = { tag: 'INSERT 0 1' };

/** One row for the ledger, in many ways. */
function insert({ ledger, tag: next }: Author, pick: number): Exchange {
  const write = ledger.write();
  const { id } = write;
  const tag = next();
  const writes = { writes: [write] };
  const answer = { rows: [[`${id}`, tag]], tag: 'INSERT 0 1' };
  const way = pick >> 3;
  switch (pick % 6) {
    case 0:
      return simple(`${INTO} (${id})`, INSERTED, writes);
    case 1:
      return unnamed(`${INTO} ($1)`, [`${id}`], INSERTED, way, writes);
    case 2:
      return either(`${INTO} (${id}) RETURNING id, '${tag}'`, answer, way, writes);
    case 3:
      return unnamed(`${INTO} ($1) RETURNING id, $2::text`, [`${id}`, tag], answer, way, writes);
    case 4: {
      const text = `WITH w AS (${INTO} (${id}) RETURNING id) SELECT id, '${tag}' FROM w`;
      return either(text, { ...answer, tag: 'SELECT 1' }, way, writes);
    }
    default:
      return simple(
        `INSERT INTO public.ledger SELECT ${id} FROM pg_sleep(0.0${way % 16 === 0 ? 2 : 0})`,
        INSERTED,
        writes,
      );
  }
}

function increment({ ledger, tag: next }: Author, counter: number, pick: number): Exchange {
  const tag = next();
  const text = `UPDATE public.counters SET n = n + 1 WHERE id = ${counter} RETURNING id, '${tag}'`;
  const answer = { rows: [[`${counter}`, tag]], tag: 'UPDATE 1' };
  // Where it is in a transaction, others wait for the row: for most of them longer than they were expected to take.
  const think_ms = pick % 8 === 0 ? 25 : pick % 5;
  return either(text, answer, pick >> 3, { writes: [ledger.write(counter)], think_ms });
}

/** Two writes and a read in one exchange, which succeed or fail together. */
function several({ ledger, tag: next }: Author, pick: number): Exchange {
  const [asMessages, fails] = [pick % 2 === 0, pick % 3 === 0];
  const tag = next();
  const writes = [ledger.write(), ledger.write()];
  const texts = [...writes.map(({ id }) => `${INTO} (${id})`), fails ? `SELECT '${tag}'::int4` : `SELECT '${tag}'`];
  const right = (types: string): Expected => ({
    types: `${types}`,
    rows: fails ? [] : [[tag]],
    ...(fails ? { error: ['22P02', `type integer: "${tag}"`] } : {}),
  });
  const words = texts.join('; ');
  if (!asMessages) return batch(words, [query(words)], right(fails ? 'CCE' : 'CCTDC'), { writes });
  const bytes = texts.flatMap(text => [parse('', text), bind('', ''), execute()]);
  return batch(words, [...bytes, sync()], right(`12C12C${fails ? 'E' : '12DC'}`), { writes });
}

/** A write that fails as it runs. */
function failing({ ledger, tag: next }: Author, pick: number): Exchange {
  const tag = next();
  const write = ledger.write();
  const text = `INSERT INTO public.ledger SELECT ${write.id}, (('${tag}' || n)::int4)::text FROM generate_series(1, 2) AS n`;
  const isSimple = pick % 2 === 0;
  const bytes = isSimple ? [query(text)] : [parse('', text), bind('', ''), execute(), sync()];
  const right: Expected = { types: isSimple ? 'E' : '12E', error: ['22P02', `type integer: "${tag}1"`] };
  return batch(text, bytes, right, { writes: [write] });
}

function copyIn({ ledger }: Author): Exchange {
  const writes = [ledger.write(), ledger.write()];
  const data = writes.map(({ id }) => copyData(`${id}\n`));
  const bytes = [query('COPY public.ledger (id) FROM STDIN'), ...data, copyDone()];
  return batch(
    `COPY of ${writes.map(({ id }) => id)}`,
    bytes,
    { types: 'GC', tags: ['COPY 2'] },
    {
      writes,
      inBatches: true,
    },
  );
}

function large({ ledger }: Author, pick: number): Exchange {
  const write = ledger.write();
  const filler = 'z'.repeat(50_000 + (pick % 100_000));
  const writes = { writes: [write], words: `a large insert of ${write.id}` };
  if (pick % 2 === 0) return simple(`${INTO} (${write.id}, '${filler}')`, INSERTED, writes);
  return unnamed(`${INTO} ($1, $2)`, [`${write.id}`, filler], INSERTED, pick >> 1, writes);
}

/** A transaction in one text. */
function block({ ledger }: Author): Exchange {
  const write = ledger.write();
  const text = `BEGIN; ${INTO} (${write.id}); COMMIT`;
  const right = { types: 'CCC', tags: ['BEGIN', 'INSERT 0 1', 'COMMIT'] };
  return batch(text, [query(text)], right, { writes: [write], ends: 'commit' });
}

function renaming(tag: string): Exchange {
  const doubt = (known: Known) => {
    known.application_names = new Set([...known.application_names, tag]);
  };
  const learn = (known: Known) => {
    if (known.status === 'I') known.application_names = new Set([tag]);
    else doubt(known);
  };
  const text = `SET application_name = '${tag}'`;
  return batch(text, [query(text)], { types: 'C', tags: ['SET'], learn }, { doubt });
}

export const WRITE_MAKERS = {
  insert,
  own: (author, pick) => increment(author, author.number, pick),
  hot: (author, pick) => increment(author, HOT, pick),
  writes: several,
  failingWrite: failing,
  largeWrite: large,
  copyIn,
  block,
  renaming: ({ tag }) => renaming(tag()),
  notice: ({ tag }) => {
    const word = tag();
    const text = `DO $$ BEGIN RAISE NOTICE '${word}'; END $$`;
    return batch(text, [query(text)], { types: 'C', tags: ['DO'], notice: word });
  },
  // What these leave behind is for nobody, not even for their own client.
  setting: (_, pick) => simple(`SET work_mem = '${1100 + (pick % 900)}kB'`, { tag: 'SET' }),
  temporary: ({ tag }) => simple(`CREATE TEMP TABLE mine AS SELECT '${tag()}' AS tag`, { tag: 'SELECT 1' }),
  prepared: ({ tag }) => simple(`PREPARE q AS SELECT '${tag()}'`, { tag: 'PREPARE' }),
} as const satisfies Readonly<Record<string, Maker>>;

const asMessages = (text: string) => [parse('', text), bind('', ''), execute(), sync()];

/** BEGIN, COMMIT or ROLLBACK in any spelling. */
function control(text: string, tag: string, pick: number, more: Partial<Exchange>): Exchange {
  const isSimple = pick % 3 !== 0;
  // A COMMIT says ROLLBACK in a failed transaction.
  const expected = ({ status }: Known): Expected[] => [
    { types: isSimple ? 'C' : '12C', tags: [status === 'E' ? 'ROLLBACK' : tag] },
  ];
  const bytes = Buffer.concat(isSimple ? [query(text)] : asMessages(text));
  return { words: text, bytes, expected, ...more };
}

const BEGINS = [
  'BEGIN',
  'begin work',
  'START TRANSACTION',
  '/* so */ BEGIN',
  ';BEGIN READ WRITE',
  '-- it begins\nBegin;;',
  'BEGIN ISOLATION LEVEL READ COMMITTED',
] as const;
const COMMITS = ['COMMIT', 'END', 'commit work', 'END TRANSACTION;', '/**/COMMIT AND NO CHAIN'] as const;
const ROLLBACKS = ['ROLLBACK', 'ABORT', 'rollback work', 'ABORT TRANSACTION'] as const;

export const begin = (pick: number) => {
  const text = BEGINS[(pick >> 2) % BEGINS.length];
  return control(text, text.startsWith('START') ? text : 'BEGIN', pick, {});
};

export const commit = (pick: number) =>
  control(COMMITS[(pick >> 2) % COMMITS.length], 'COMMIT', pick, { ends: 'commit', harmless: true });

export const rollback = (pick: number) =>
  control(ROLLBACKS[(pick >> 2) % ROLLBACKS.length], 'ROLLBACK', pick, { ends: 'rollback', harmless: true });

/** What can only be seen inside a transaction; in the order in which a transaction may do them. */
export const INSIDE_MAKERS: Readonly<Record<string, (author: Author, pick: number) => readonly Exchange[]>> = {
  insert: (author, pick) => {
    const exchange = insert(author, pick);
    const [{ id }] = exchange.writes ?? [];
    return [exchange, inside(simple(`SELECT count(*) FROM public.ledger WHERE id = ${id}`, rows(['1'])))];
  },
  setting: (_, pick) => {
    const value = `${1100 + (pick % 900)}kB`;
    return [
      inside(simple(`SET ${pick % 2 === 0 ? 'LOCAL' : 'SESSION'} work_mem = '${value}'`, { tag: 'SET' })),
      inside(simple("SELECT current_setting('work_mem')", rows([value]))),
    ];
  },
  temporary: ({ tag }, pick) => {
    const word = tag();
    const drop = pick % 2 === 0 ? ' ON COMMIT DROP' : '';
    return [
      inside(simple(`CREATE TEMP TABLE mine${drop} AS SELECT '${word}' AS tag`, { tag: 'SELECT 1' })),
      inside(either('SELECT tag FROM mine', rows([word]), pick >> 1)),
    ];
  },
  prepared: ({ tag }) => {
    const word = tag();
    return [
      inside(simple(`PREPARE q AS SELECT '${word}'`, { tag: 'PREPARE' })),
      inside(simple('EXECUTE q', rows([word]))),
    ];
  },
  cursor: ({ tag }, pick) => {
    const word = tag();
    const hold = pick % 2 === 0 ? ' WITH HOLD' : '';
    return [
      inside(simple(`DECLARE c CURSOR${hold} FOR SELECT '${word}', 1`, { tag: 'DECLARE CURSOR' })),
      inside(simple('FETCH c', { rows: [[word, '1']], tag: 'FETCH 1' })),
    ];
  },
  // The only one that may wait for others, and so the last.
  hot: (author, pick) => [increment(author, HOT, pick)],
};
