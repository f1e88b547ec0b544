/** What is remembered of templates: the same answer for the same one, within bounds. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Analyzer } from '../../src/sql/cache.ts';

test('a template is parsed once', async () => {
  const analyzer = await Analyzer.create({ now: () => 0 });
  const first = analyzer.analyzeText('SELECT a FROM t WHERE id = 5');
  assert.equal(analyzer.analyzeText('/* so */ SELECT a\nFROM t WHERE id = 0x7 '), first);
  assert.notEqual(analyzer.analyzeText('SELECT a FROM t WHERE id = 5.5'), first);
  assert.equal(analyzer.analyzeText('SELEC'), analyzer.analyzeText('SELEC'));
  assert.deepEqual(analyzer.counters, { hits: 2, misses: 3, faults: 0, renewals: 0 });
});

test('a hundred thousand different statements stay within the bounds of entries and of bytes', async () => {
  const bounds = { entries: 1000, bytes: 1_000_000 };
  const analyzer = await Analyzer.create({ now: () => 0, ...bounds });
  const long = await Analyzer.create({ now: () => 0, ...bounds });
  const heap = () => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const before = heap();
  for (let index = 0; index < 100_000; index++) {
    const { read } = analyzer.analyzeText(`SELECT a${index} FROM t WHERE id = ${index}`);
    assert.ok(read);
  }
  for (let index = 0; index < 1000; index++) long.analyzeText(`SELECT ${'x'.repeat(4000)}${index}`);
  assert.ok(analyzer.size.entries === bounds.entries && analyzer.size.bytes <= bounds.bytes);
  assert.ok(long.size.entries < 250 && long.size.bytes <= bounds.bytes);
  assert.ok(heap() - before < 64e6, `${heap() - before} bytes more`);
  assert.equal(analyzer.counters.misses, 100_000);
});

test('the texts used last are those that stay', async () => {
  const analyzer = await Analyzer.create({ now: () => 0, entries: 2 });
  for (const sql of ['SELECT a', 'SELECT b', 'SELECT a', 'SELECT c', 'SELECT a']) analyzer.analyzeText(sql);
  assert.equal(analyzer.counters.hits, 2);
});

test('what a text is refused for is not remembered as its template', async () => {
  const analyzer = await Analyzer.create({ now: () => 0 });
  const bytes = (text: string) => Buffer.from(text, 'latin1');
  const analyze = (buffer: Buffer, backslashes = false) => analyzer.analyze(buffer, 0, buffer.length, backslashes);
  assert.match(analyze(bytes('SELECT \xff')).detail, /not UTF-8/);
  assert.match(analyze(bytes("SELECT 'a\0b'")).detail, /NUL/);
  assert.match(analyze(bytes("SET a = 'b\\'"), true).detail, /backslash/);
  assert.equal(analyzer.size.entries, 0);
  assert.equal(analyze(bytes("SELECT 'ab'")).reason, 'select');
  assert.equal(analyze(bytes("SET a = 'b\\'")).reason, 'setting');
});

test('other sharding columns make other statements', async () => {
  const analyzer = await Analyzer.create({ now: () => 0 });
  const first = analyzer.analyzeText('SELECT 1');
  analyzer.columns = new Set();
  assert.equal(analyzer.analyzeText('SELECT 1'), first);
  analyzer.columns = new Set(['id']);
  assert.notEqual(analyzer.analyzeText('SELECT 1'), first);
});
