/** The cost of judging a statement: when its template is known, and when it has to be parsed; `npm run bench -- routing`. */
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { Analyzer } from '../src/sql/cache.ts';
import { machine } from './machine.ts';
import { median } from './statistics.ts';
import { alignedLines, factLines } from './table.ts';

/** A kind of statement: its text with other names and with other values each time. */
interface Case {
  readonly name: string;
  make(name: number, value: number): string;
}

/** A case with its texts, and the microseconds that one of them took in each round. */
interface Entry {
  readonly name: string;
  readonly length: number;
  readonly texts: Readonly<Record<Kind, readonly Buffer[]>>;
  readonly us: Record<Kind, number[]>;
}

/** A text whose template is remembered, and one whose template is new. */
const KINDS = ['hit', 'miss'] as const;
type Kind = (typeof KINDS)[number];

/** Texts of a case that take turns. */
const TEXTS = 64;
/** What a measurement lasts. */
const SAMPLE_MS = 20;
const WARM_UP_ROUNDS = 3;
const ROUNDS = 15;

const list = (length: number, item: (index: number) => string) => Array.from({ length }, (_, i) => item(i)).join(', ');

const CASES: readonly Case[] = [
  { name: 'point SELECT', make: (n, v) => `SELECT abalance FROM accounts_${n} WHERE aid = ${v};` },
  {
    name: '100 bytes',
    make: (n, v) =>
      `SELECT id, name, email FROM users_${n} WHERE tenant_id = ${v} AND email = 'user${v}@example.com' LIMIT 10`,
  },
  {
    name: 'pgbench UPDATE',
    make: (n, v) => `UPDATE accounts_${n} SET abalance = abalance + -${v} WHERE aid = ${v + 1};`,
  },
  {
    name: 'upsert',
    make: (n, v) =>
      `INSERT INTO counters_${n} (id, n, at) VALUES (${v}, 1, now()) ON CONFLICT (id) DO UPDATE SET n = counters_${n}.n + excluded.n, at = excluded.at RETURNING n`,
  },
  {
    name: 'JOIN',
    make: (n, v) =>
      `SELECT o.id, o.total, c.name FROM orders_${n} o JOIN customers c ON c.id = o.customer_id WHERE o.customer_id = ${v} AND o.state IN ('paid', 'sent') AND o.at > now() - interval '${v} days' ORDER BY o.at DESC LIMIT 20`,
  },
  {
    name: 'CTE, window',
    make: (n, v) =>
      `WITH recent AS (SELECT id, region, amount FROM sales_${n} WHERE at >= '2024-01-01' AND amount > ${v}) SELECT region, amount, rank() OVER (PARTITION BY region ORDER BY amount DESC) AS place FROM recent WHERE region <> 'none'`,
  },
  {
    name: 'INSERT, 100 rows',
    make: (n, v) =>
      `INSERT INTO log_${n} (id, level, message) VALUES ${list(100, i => `(${v + i}, ${i % 5}, 'message ${i}')`)}`,
  },
  {
    name: 'IN, 500 values',
    make: (n, v) => `SELECT * FROM items_${n} WHERE id IN (${list(500, i => String(v + 7 * i))})`,
  },
];

/** Runs and prints the benchmark. */
export async function routingBench(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({ args: [...args], options: { rounds: { type: 'string', default: String(ROUNDS) } } });
  const rounds = Math.max(1, Math.trunc(Number(values.rounds)) || ROUNDS);
  const now = () => performance.now();
  const analyzers: Readonly<Record<Kind, Analyzer>> = {
    hit: await Analyzer.create({ now }),
    // Nothing is remembered long enough to come again.
    miss: await Analyzer.create({ now, entries: 1 }),
  };
  const entries = CASES.map(entryOf);
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    for (const entry of round % 2 === 0 ? entries : entries.toReversed()) {
      for (const kind of KINDS) {
        const us = sample(analyzers[kind], entry.texts[kind]);
        if (round >= 0) entry.us[kind].push(us);
      }
    }
  }
  const { machine: processors, kernel, pglynx } = await machine('');
  const facts = {
    machine: processors,
    kernel,
    'libpg-query': libraryVersion(),
    pglynx,
    command: `npm run bench -- routing --rounds ${rounds}`,
    numbers: `microseconds a statement on one thread, medians of ${rounds} interleaved rounds of ${SAMPLE_MS} ms`,
  };
  console.log([...factLines(facts), '', table(entries)].join('\n'));
}

function entryOf({ name, make }: Case): Entry {
  const texts = (make_one: (index: number) => string) =>
    Array.from({ length: TEXTS }, (_, i) => Buffer.from(make_one(i)));
  return {
    name,
    length: Buffer.byteLength(make(1, 1000)),
    texts: { hit: texts(i => make(1, 1000 + i)), miss: texts(i => make(i, 1000 + i)) },
    us: { hit: [], miss: [] },
  };
}

/** Microseconds that an analysis takes. */
function sample(analyzer: Analyzer, texts: readonly Buffer[]): number {
  const start = performance.now();
  let count = 0;
  let passed_ms = 0;
  while (passed_ms < SAMPLE_MS) {
    for (const text of texts) analyzer.analyze(text, 0, text.length, false);
    count += texts.length;
    passed_ms = performance.now() - start;
  }
  return (1000 * passed_ms) / count;
}

function table(entries: readonly Entry[]): string {
  const head = ['', 'bytes', 'hit us', 'miss us', 'hits/s', 'parses/s'];
  const rows = entries.map(({ name, length, us }) => {
    const [hit, miss] = [median(us.hit), median(us.miss)];
    return [name, String(length), hit.toFixed(2), miss.toFixed(1), (1e6 / hit).toFixed(0), (1e6 / miss).toFixed(0)];
  });
  return alignedLines([head, ...rows]).join('\n');
}

function libraryVersion(): string {
  const { version } = createRequire(import.meta.url)('libpg-query/package.json');
  return String(version);
}
