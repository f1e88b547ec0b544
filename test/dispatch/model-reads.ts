/** The reads of the model's clients: each answers words that only its client has, in that client's settings. */
import * as frontend from '../client/frontend.ts';
import {
  type Author,
  batch,
  type Exchange,
  type Expected,
  either,
  type Known,
  type Maker,
  NOTHING,
  type Row,
  rows,
  simple,
  unnamed,
} from './model-exchange.ts';
import { PROBES } from './model-profiles.ts';

const { bind, close, describe, execute, flush, parse, query, sync } = frontend;

const READS = { reads: true } as const;

/** Statements to be prepared, and the row that each answers behind its parameter. */
const TEXTS: readonly ((author: Author) => readonly [text: string, answer: Row])[] = [
  () => ['SELECT $1::text, 1', ['1']],
  () => ['SELECT $1::text, 2', ['2']],
  () => ["SELECT $1::text, 'three'", ['three']],
  ({ number }) => [`SELECT $1::text, ${number}`, [`${number}`]],
  ...PROBES.map(
    (probe, at) =>
      ({ profile }: Author) =>
        [`SELECT $1::text, ${probe}`, profile.answers[at]] as const,
  ),
];
const NAMES = ['a', 'b', 'c'];

/** Makes a name stand for another statement; uses it at once unless it is only `kept`. */
function preparing(author: Author, pick: number, kept: boolean): Exchange {
  const name = NAMES[pick % NAMES.length];
  const number = (pick >> 3) % TEXTS.length;
  const [text, answer] = TEXTS[number](author);
  const tag = author.tag();
  const right: Expected = {
    types: kept ? '31' : '312DC',
    rows: kept ? [] : [[tag, ...answer]],
    learn: ({ names }) => void names.set(name, new Set([number])),
  };
  const doubt = ({ names }: Known) => {
    names.set(name, new Set([...(names.get(name) ?? [NOTHING]), NOTHING, number]));
  };
  const use = kept ? [] : [bind('', name, [tag]), execute()];
  const bytes = [close('S', name), parse(name, text), ...use, sync()];
  return batch(`prepare ${name}: ${text} <- ${tag}`, bytes, right, { ...READS, doubt });
}

/** Uses a name for what it stands for. */
function using(author: Author, pick: number): Exchange {
  const name = NAMES[pick % NAMES.length];
  const isDescribed = (pick >> 3) % 4 === 0;
  const tag = author.tag();
  const expected = ({ names }: Known) =>
    [...(names.get(name) ?? [NOTHING])].map((number): Expected => {
      const learn = () => void names.set(name, new Set([number]));
      if (number === NOTHING) return { types: 'E', error: ['26000', name], learn };
      return { types: isDescribed ? 'tT2DC' : '2DC', rows: [[tag, ...TEXTS[number](author)[1]]], learn };
    });
  const bytes = [...(isDescribed ? [describe('S', name)] : []), bind('', name, [tag]), execute(), sync()];
  const reads = ({ names }: Known) => names.get(name)?.has(NOTHING) === false;
  return { reads, words: `use ${name} <- ${tag}`, bytes: Buffer.concat(bytes), expected };
}

/** Several statements up to one Sync; the one at `failing` fails, if there is such a one. */
function several({ tag: next }: Author, count: number, failing: number): Exchange {
  const tag = next();
  const bytes: Buffer[] = [];
  for (let at = 0; at < count; at++) {
    const type = at === failing ? 'int4' : 'text';
    bytes.push(parse('', `SELECT $1::${type}, ${at}`), bind('', '', [`${tag}/${at}`]), execute());
  }
  const answer = Array.from({ length: Math.min(count, failing) }, (_, at) => [`${tag}/${at}`, `${at}`]);
  const types = '12DC'.repeat(answer.length);
  const right: Expected =
    failing < count
      ? { types: `${types}1E`, rows: answer, error: ['22P02', `type integer: "${tag}/${failing}"`] }
      : { types, rows: answer };
  return batch(`${count} of ${tag}, ${failing} fails`, [...bytes, sync()], right, READS);
}

function large(tag: string, pick: number): Exchange {
  if (pick % 2 === 0) {
    const length = 100_000 + (pick % 300_000);
    return either(`SELECT '${tag}', repeat('x', ${length})`, rows([tag, 'x'.repeat(length)]), pick >> 1, READS);
  }
  const answer = Array.from({ length: 300 }, (_, n) => [tag, `${n + 1}`, 'y'.repeat(1000)]);
  const text = `SELECT '${tag}', n, repeat('y', 1000) FROM generate_series(1, 300) AS n`;
  return either(text, rows(...answer), pick >> 1, READS);
}

const many = (tag: string, count: number, pick: number): Exchange => {
  const answer = Array.from({ length: count }, (_, n) => [tag, `${n + 1}`]);
  return either(`SELECT '${tag}', n FROM generate_series(1, ${count}) AS n`, rows(...answer), pick, READS);
};

/** Fails as it is analysed, or at its second row. */
function failing(tag: string, pick: number): Exchange {
  const early = `SELECT '${tag}'::int4`;
  const late = `SELECT n, CASE WHEN n = 2 THEN ('${tag}' || n)::int4 END FROM generate_series(1, 3) AS n`;
  const isLate = pick % 2 === 0;
  const text = isLate ? late : early;
  const types = isLate ? 'DE' : 'E';
  const right = (head: string): Expected => ({
    types: `${head}${types}`,
    rows: isLate ? [['1', null]] : [],
    error: ['22P02', `type integer: "${tag}${isLate ? 2 : ''}"`],
  });
  if (pick % 3 === 0) {
    const bytes = [parse('', text), bind('', ''), execute(), sync()];
    return batch(text, bytes, right(isLate ? '12' : ''), READS);
  }
  return batch(text, [query(text)], right(isLate ? 'T' : ''), READS);
}

/** The client's application_name, which it may have changed. */
function named(tag: string): Exchange {
  const text = `SELECT '${tag}', current_setting('application_name')`;
  const expected = ({ application_names }: Known): Expected[] => [
    { types: 'TDC', rows: ([row]) => row[0] === tag && application_names.has(`${row[1]}`) },
  ];
  return { ...READS, words: text, bytes: query(text), expected };
}

/** Two rows, and the third. */
function portal(tag: string): Exchange {
  const bytes = [parse('', 'SELECT $1::text, n FROM generate_series(1, 3) AS n'), bind('p', '', [tag])];
  const answer = ['1', '2', '3'].map(n => [tag, n]);
  return batch(`portal of ${tag}`, [...bytes, execute('p', 2), execute('p'), sync()], {
    types: '12DsDC',
    rows: answer,
  });
}

/** Answered in part at a Flush. */
function flushed(tag: string): Exchange {
  const bytes = [parse('', 'SELECT $1::text'), bind('', '', [tag]), execute(), flush()];
  const right = { types: '12DC2DC', rows: [[tag], [`${tag}+`]] };
  return batch(`flushed ${tag}`, [...bytes, bind('', '', [`${tag}+`]), execute(), sync()], right, {
    inBatches: true,
  });
}

function empty(pick: number): Exchange {
  const more = { harmless: true };
  if (pick % 2 === 0) return batch('nothing', [query(' -- nothing')], { types: 'I' }, more);
  return batch('nothing', [parse('', ''), bind('', ''), execute(), sync()], { types: '12I' }, more);
}

function listed(tag: string): Exchange {
  const right = { types: 'TDCTDC', rows: [[tag], [`${tag}+`]], tags: ['SELECT 1', 'SELECT 1'] };
  const text = `SELECT '${tag}'; SELECT '${tag}+'`;
  return batch(text, [query(text)], right);
}

export const READ_MAKERS = {
  simple: ({ tag }) => {
    const word = tag();
    return simple(`SELECT '${word}'`, rows([word]), READS);
  },
  unnamed: ({ number, tag }, pick) => {
    const word = tag();
    return unnamed(`SELECT $1::text, ${number}`, [word], rows([word, `${number}`]), pick, READS);
  },
  preparing: (author, pick) => preparing(author, pick, pick % 4 === 3),
  using,
  probe: ({ profile, tag }, pick) => {
    const word = tag();
    const number = pick % PROBES.length;
    return either(`SELECT '${word}', ${PROBES[number]}`, rows([word, ...profile.answers[number]]), pick >> 2, READS);
  },
  named: ({ tag }) => named(tag()),
  several: (author, pick) => several(author, 1 + (pick % 6), (pick >> 3) % 12),
  many: ({ tag }, pick) => many(tag(), pick % 200, pick >> 8),
  large: ({ tag }, pick) => large(tag(), pick),
  // One template, so that nobody expects the few that take long.
  slow: ({ tag }, pick) => {
    const word = tag();
    const seconds = pick % 8 === 0 ? 0.025 : 0.0001;
    return either(`SELECT '${word}' FROM pg_sleep(${seconds.toFixed(4)})`, rows([word]), pick >> 3, READS);
  },
  failing: ({ tag }, pick) => failing(tag(), pick),
  missing: ({ number }, pick) => {
    const text = `SELECT 1 FROM nowhere_${number}`;
    const right: Expected = { types: 'E', error: ['42P01', `"nowhere_${number}"`] };
    return batch(text, pick % 2 === 0 ? [query(text)] : [parse('', text), sync()], right, READS);
  },
  portal: ({ tag }) => portal(tag()),
  flushed: ({ tag }) => flushed(tag()),
  empty: (_, pick) => empty(pick),
  listed: ({ tag }) => listed(tag()),
  copyOut: ({ tag }) => {
    const word = tag();
    const text = `COPY (SELECT '${word}') TO STDOUT`;
    return batch(text, [query(text)], { types: 'HdcC', rows: [[`${word}\n`]], tags: ['COPY 1'] });
  },
} as const satisfies Readonly<Record<string, Maker>>;
