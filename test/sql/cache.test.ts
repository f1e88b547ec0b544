/** What is remembered of texts: the same answer for the same text, within bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Analyzer } from '../../src/sql/cache.ts';

test('a text is parsed once', async () => {
  const analyzer = await Analyzer.create({ now: () => 0 });
  const first = analyzer.analyzeText('SELECT a FROM t');
  assert.equal(analyzer.analyzeText('SELECT a FROM t'), first);
  assert.equal(analyzer.analyzeText('SELEC'), analyzer.analyzeText('SELEC'));
  assert.notEqual(analyzer.analyzeText('SELECT a FROM t '), first);
  assert.deepEqual(analyzer.counters, { hits: 2, misses: 3, faults: 0, renewals: 0 });
});

test('a hundred thousand different statements stay within the bounds of entries and of bytes', async () => {
  const bounds = { entries: 1000, bytes: 1_000_000 };
  const analyzer = await Analyzer.create({ now: () => 0, ...bounds });
  const long = await Analyzer.create({ now: () => 0, ...bounds });
  const heap = () => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const before = heap();
  for (let index = 0; index < 100_000; index++) {
    const { read } = analyzer.analyzeText(`SELECT a FROM t WHERE id = ${index}`);
    assert.ok(read);
  }
  for (let index = 0; index < 1000; index++) long.analyzeText(`SELECT '${'x'.repeat(4000)}', ${index}`);
  assert.ok(analyzer.size.entries === bounds.entries && analyzer.size.bytes <= bounds.bytes);
  assert.ok(long.size.entries < 250 && long.size.bytes <= bounds.bytes);
  assert.ok(heap() - before < 64e6, `${heap() - before} bytes more`);
  assert.equal(analyzer.counters.misses, 100_000);
});

test('the texts used last are those that stay', async () => {
  const analyzer = await Analyzer.create({ now: () => 0, entries: 2 });
  for (const sql of ['SELECT 1', 'SELECT 2', 'SELECT 1', 'SELECT 3', 'SELECT 1']) analyzer.analyzeText(sql);
  assert.equal(analyzer.counters.hits, 2);
});
