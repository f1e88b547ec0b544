/** Texts made to break the parser: none breaks it for others, and none hides a write. */
import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { suite, test } from 'node:test';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { Analyzer } from '../../src/sql/cache.ts';
import { DEFAULT_MAX_LENGTH_BYTES, Parser } from '../../src/sql/parser.ts';
import { CORPUS, READ_REASONS } from './corpus.ts';

/** Text that nests or chains `unit` until it has `length` bytes. */
type Shape = (length: number) => string;

const shape =
  (head: string, unit: string, core: string, closing = ''): Shape =>
  length => {
    const count = Math.floor((length - head.length - core.length) / (unit.length + closing.length));
    return head + unit.repeat(count) + core + closing.repeat(count);
  };

const SHAPES: Readonly<Record<string, Shape>> = {
  sum: shape('SELECT ', '1+', '1'),
  minus: shape('SELECT ', '- ', '1'),
  parentheses: shape('SELECT ', '(', '1', ')'),
  'sub-selects': shape('SELECT ', '(SELECT ', '1', ')'),
  'from sub-selects': shape('', 'SELECT * FROM (', 'SELECT 1', ') x'),
  casts: shape('SELECT 1', '::int', ''),
  unions: shape('', 'SELECT 1 UNION ', 'SELECT 1'),
  'nested unions': shape('', '(SELECT UNION ', 'SELECT', ')'),
  not: shape('SELECT ', 'NOT ', 'true'),
  and: shape('SELECT ', 'a AND ', 'b'),
  or: shape('SELECT ', '(a OR ', 'b', ')'),
  case: shape('SELECT ', 'CASE WHEN a THEN ', '1', ' END'),
  calls: shape('SELECT ', 'f(', '1', ')'),
  arrays: shape('SELECT ', 'ARRAY[', '1', ']'),
  brackets: shape('SELECT a', '[1]', ''),
  rows: shape('SELECT ', 'ROW(', '1', ')'),
  fields: shape('SELECT (a)', '.b', ''),
  names: shape('SELECT a', '.b', ''),
  joins: shape('SELECT * FROM a', ' JOIN b ON c', ''),
  'nested joins': shape('SELECT * FROM ', '(', 'a', ' JOIN b ON c)'),
  ctes: shape('', 'WITH a AS (', 'SELECT 1', ') SELECT 1'),
  explains: shape('', 'EXPLAIN ', 'SELECT 1'),
  statements: shape('', 'SELECT;', ''),
  list: shape('SELECT 1 WHERE 1 IN (1', ',1', ')'),
  'is null': shape('SELECT a', ' IS NULL', ''),
  collate: shape('SELECT a', ' COLLATE b', ''),
  comments: shape('', '/*', 'SELECT 1', '*/'),
  quotes: shape("SELECT '", "''", "'"),
  words: shape('SELECT ', 'x', ''),
  wide: shape("SELECT '", 'é', "'"),
};

const hostile = (index: number): string => {
  const make = index % 2 === 0 ? SHAPES.sum : SHAPES.casts;
  return make?.(100_000 + index) ?? '';
};

suite('within the limit of length', () => {
  for (const [name, make] of Object.entries(SHAPES)) {
    test(`${name}: the parser stands it, and reads well afterwards`, async () => {
      const analyzer = await Analyzer.create({ now: () => 0 });
      for (const length of [DEFAULT_MAX_LENGTH_BYTES, DEFAULT_MAX_LENGTH_BYTES - 7]) {
        analyzer.analyzeText(make(length));
        assert.equal(analyzer.analyzeText(`SELECT ${length}`).reason, 'select');
      }
      assert.equal(analyzer.counters.faults, 0);
    });
  }
});

test('a text that is too long is not parsed, but for what is in its literals', async () => {
  const analyzer = await Analyzer.create({ now: () => 0, max_length: 20 });
  const detail = (sql: string) => analyzer.analyzeText(sql).detail;
  assert.equal(detail(`SELECT ${'x'.repeat(13)}`), 'only reads');
  assert.match(detail(`SELECT ${'x'.repeat(14)}`), /longer than 20 bytes/);
  assert.match(detail(`SELECT ${'é'.repeat(7)}`), /longer than 20 bytes/);
  assert.match(detail(`SET a = ${'x'.repeat(13)}`), /longer than 20 bytes/);
  assert.match(detail('SELECT $1 '.repeat(1_000_000)), /longer than 20 bytes/);
  assert.equal(detail(`SELECT '${'é'.repeat(500_000)}'`), 'only reads');
  assert.match(detail(`SELECT '${'é'.repeat(600_000)}'`), /longer than 20 bytes/);
});

suite('no statement holds up the others for 20 ms', () => {
  /** Least of the longest delays of the event loop around several calls, ms: other programs make some of them longer. */
  async function stall(run: () => void): Promise<number> {
    let least = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 12 && least > 10; round++) {
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      await sleep(3);
      run();
      await sleep(3);
      delay.disable();
      least = Math.min(least, delay.max / 1e6);
    }
    return least;
  }

  const long: Readonly<Record<string, string | Buffer>> = {
    '25 KB of 1+1+': SHAPES.sum(25_000),
    '20 KB of nested sub-selects': SHAPES['sub-selects'](20_000),
    '1 MB of numbers in a list': SHAPES.list(1_000_000),
    '1 MB of strings in a list': shape("SELECT 1 WHERE 'a' IN ('b'", ",'c'", ')')(1_000_000),
    '1 MB of escapes, the last one broken': `SELECT E'${'\\\\'.repeat(500_000)}\\`,
    '1 MB of comments': `SELECT ${'/*'.repeat(500_000)}`,
    '8 KB of 1+1+': SHAPES.sum(8192),
    '8 KB of 1+1+ in a text without a template': `SET a = ${'1+'.repeat(4000)}1`,

    '1 MB of dollars': `SELECT $a$${'$a'.repeat(500_000)}`,
    '8 KB of +': `SELECT ${'+'.repeat(8000)}1`,
    '2 KB of +': `SELECT ${'+'.repeat(2000)}1`,
    '8 KB of + in a text without a template': `SET a = ${'+'.repeat(8000)}1`,
    '20 MB of anything': `SELECT '${'x'.repeat(20_000_000)}'`,
    'a NUL': "SELECT 'a\0'; DROP TABLE t",
    'what is not UTF-8': Buffer.from('SELECT \xff FROM t', 'latin1'),
  };
  for (const [name, text] of Object.entries(long)) {
    test(`${name}: unparsed, and the next one is judged well`, async () => {
      const analyzer = await Analyzer.create({ now: () => 0 });
      const bytes = Buffer.from(text);
      assert.equal(analyzer.analyze(bytes, 0, bytes.length, false).reason, 'unparsed');
      const stalled_ms = await stall(() => analyzer.analyze(bytes, 0, bytes.length, false));
      assert.ok(stalled_ms < 20, `${stalled_ms} ms`);
      assert.equal(analyzer.analyzeText('SELECT a FROM t').reason, 'select');
      assert.equal(analyzer.analyzeText('DELETE FROM t').reason, 'writes');
      assert.ok(analyzer.size.entries <= 3);
    });
  }

  const longest = { ...SHAPES, literal: shape("SELECT '", 'x', "'"), lines: shape('SELECT ', '--\n', '1') };
  const lengths = { literal: 1_000_000, lines: 1_000_000, quotes: 1_000_000, wide: 1_000_000 };
  for (const [name, make] of Object.entries(longest)) {
    test(`${name}: parsed within the limit of length`, async () => {
      const analyzer = await Analyzer.create({ now: () => 0, entries: 1 });
      analyzer.columns = new Set(['a', 'id']);
      const length = { ...lengths }[name] ?? DEFAULT_MAX_LENGTH_BYTES;
      let round = 0;
      const stalled_ms = await stall(() => analyzer.analyzeText(`${make(length - 7 - ++round)} as a${round}`));
      assert.ok(stalled_ms < 20, `${stalled_ms} ms`);
    });
  }
});

suite('without a limit of length', () => {
  const unlimited = 1_000_000;

  test('200 texts that break an instance leave 200 parsers that work, and no heap of instances', async () => {
    let now_ms = 0;
    const parser = await Parser.create({ max_length: unlimited, now: () => now_ms });
    for (let index = 0; index < 200; index++) {
      now_ms += 1000;
      assert.equal(parser.parse(Buffer.from(hostile(index))).refusal, 'parser_fault');
      assert.equal(parser.parse(Buffer.from('SELECT 1')).refusal, 'parser_away');
      await turn();
      assert.equal(parser.parse(Buffer.from('SELECT 1')).tree?.stmts?.length, 1);
      assert.equal(parser.parse(Buffer.from('SELECT FROM WHERE')).refusal, 'syntax');
    }
    assert.deepEqual([parser.faults, parser.renewals], [200, 200]);
    // 128 MB of address space belong to an instance; the 200 would have 26 GB.
    assert.ok(process.memoryUsage().external < 3e9);
  });

  test('parsers are renewed four at once, then one a second; texts are unparsed meanwhile', async () => {
    let now_ms = 0;
    const analyzer = await Analyzer.create({ max_length: unlimited, now: () => now_ms });
    const reasons: string[] = [];
    for (let index = 0; index < 8; index++) {
      analyzer.analyzeText(hostile(index));
      await turn();
      reasons.push(analyzer.analyzeText(`SELECT a${index}`).reason);
    }
    assert.deepEqual(reasons, [...Array(4).fill('select'), ...Array(4).fill('unparsed')]);
    assert.deepEqual([analyzer.counters.faults, analyzer.counters.renewals], [5, 4]);
    // Only a text that is not in the cache asks for the parser.
    const ask = () => analyzer.analyzeText('SELECT 1 AS later').detail;
    now_ms = 999;
    ask();
    await turn();
    assert.match(ask(), /being renewed/);
    now_ms = 1000;
    assert.match(ask(), /being renewed/);
    await turn();
    assert.equal(ask(), 'only reads');
  });

  test('a text that broke an instance is remembered and breaks no second one', async () => {
    const analyzer = await Analyzer.create({ max_length: unlimited, now: () => 0 });
    for (let index = 0; index < 20; index++) {
      assert.equal(analyzer.analyzeText(hostile(0)).reason, 'unparsed');
      await turn();
    }
    assert.deepEqual(analyzer.counters, { hits: 19, misses: 1, faults: 1, renewals: 1 });
  });
});

suite('any text', () => {
  test('gets an answer, and the next one too', async () => {
    const analyzer = await Analyzer.create({ now: () => 0 });
    const words = fc.constantFrom(
      ...['SELECT', 'FROM', 't', '(', ')', "'", '"', ';', '$$', '$1', "E'\\", '/*', '*/', '--', '\n', ',', '1', '::'],
      ...['WITH', 'AS', 'INTO', 'UPDATE', 'SET', 'nextval', 'BEGIN', 'READ ONLY', 'EXPLAIN', 'COPY', 'TO', 'U&"', '.'],
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 60 }),
      fc.array(words, { maxLength: 20 }).map(list => list.join(' ')),
      fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes).toString()),
    );
    fc.assert(
      fc.property(text, sql => {
        const { read, reason } = analyzer.analyzeText(sql);
        assert.equal(read, READ_REASONS.has(reason));
        if (/[\0\ufffd]/.test(sql) || !sql.isWellFormed()) assert.equal(reason, 'unparsed');
        assert.equal(analyzer.analyzeText('SELECT 1').reason, 'select');
      }),
      { numRuns: 1500 },
    );
    assert.equal(analyzer.counters.faults, 0);
  });

  test('that hides a write at any depth is no read; the same around a read is one', async () => {
    const analyzer = await Analyzer.create({ now: () => 0 });
    const isQuery = (sql: string) => /^(SELECT|VALUES|TABLE|WITH)\b/.test(sql) && !/\bINTO\b|;|\$\d/.test(sql);
    const queries = CORPUS.filter(({ sql, reason }) => isQuery(sql) && reason !== 'unparsed' && reason !== 'writes');
    // Where the rows of a query may stand; PostgreSQL allows writing WITH queries at the top only, its grammar does not mind.
    const places: readonly ((query: string) => string)[] = [
      query => `SELECT EXISTS (${query})`,
      query => `SELECT 1 FROM t WHERE NOT EXISTS (${query} )`,
      query => `WITH q AS MATERIALIZED (${query}) SELECT 1`,
      query => `SELECT * FROM t CROSS JOIN LATERAL (${query}) l`,
      query => `SELECT 1 UNION ALL (${query})`,
      query => `(${query}) EXCEPT SELECT 2 ORDER BY 1`,
      query => `SELECT CASE WHEN true THEN ARRAY(${query}) END`,
      query => `SELECT max(1) FILTER (WHERE 1 = ANY (${query})) OVER (ORDER BY (${query}))`,
      query => `VALUES ((${query}), 1)`,
      query => `SELECT 1 LIMIT (${query})`,
      query => `SELECT coalesce(lower((${query})), 'x')::text COLLATE "C"`,
      query => `SELECT * FROM generate_series(1, (${query}))`,
      query => `SELECT JSON_OBJECT('k' VALUE (${query}))`,
    ];
    const outside: readonly ((query: string) => string)[] = [
      query => query,
      query => `EXPLAIN (ANALYZE) ${query}`,
      query => `COPY (${query}) TO STDOUT`,
      query => `SELECT 1; ${query}`,
      query => `BEGIN READ ONLY; ${query}; COMMIT`,
    ];
    assert.ok(queries.length > 100);
    fc.assert(
      fc.property(
        fc.constantFrom(...queries),
        fc.array(fc.constantFrom(...places), { maxLength: 4 }),
        fc.constantFrom(...outside),
        ({ sql, reason }, inner, outer) => {
          const text = outer(inner.reduce((query, place) => place(query), sql));
          const statement = analyzer.analyzeText(text);
          if (/longer than/.test(statement.detail)) return;
          assert.equal(statement.read, READ_REASONS.has(reason), `${text}: ${statement.detail}`);
        },
      ),
      { numRuns: 1500 },
    );
  });
});
