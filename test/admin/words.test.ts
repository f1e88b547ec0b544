/** Texts for the admin database come apart into statements and words, whatever they are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { statementsOf } from '../../src/admin/words.ts';

test('statements, words, comments and quotes', () => {
  const texts: readonly (readonly [string, readonly (readonly string[])[]])[] = [
    ['SHOW POOLS', [['SHOW', 'POOLS']]],
    ['  show\n\tpools ; ', [['show', 'pools']]],
    ['RELOAD;SHOW POOLS;;', [['RELOAD'], ['SHOW', 'POOLS']]],
    ['/* app */ SHOW -- what\n POOLS', [['SHOW', 'POOLS']]],
    ["SET a = 'x; y'", [['SET', 'a', '=', "'x; y'"]]],
    ['SET "a;b" TO 1', [['SET', '"a;b"', 'TO', '1']]],
    ["SET a = 'never closed; SHOW", [['SET', 'a', '=', "'never closed; SHOW"]]],
    ['SHOW /* never closed', [['SHOW']]],
    ['', []],
    ['-- ping', []],
    [';', [[]]],
    [' ;; ;', [[]]],
  ];
  for (const [text, statements] of texts) assert.deepEqual(statementsOf(text), statements, text);
});

test('words written with any blanks, comments and semicolons between them are found again', () => {
  const word = fc.stringMatching(/^[A-Za-z0-9_=,.$]{1,8}$/);
  const gap = fc.constantFrom(' ', '\t\n', ' /* ; */ ', ' -- ;\n');
  const statement = fc.array(fc.tuple(word, gap), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(fc.array(statement, { minLength: 1, maxLength: 4 }), statements => {
      const text = statements.map(words => words.flat().join('')).join(';');
      const written = statements.map(words => words.map(([name]) => name));
      assert.deepEqual(statementsOf(text), written);
    }),
  );
});

test('the longest text that can come takes no longer than a moment', () => {
  for (const piece of [' ', ';', "'", '"', '/* ', '/*', '- ', "'' ", '-- ']) {
    const text = piece.repeat(65_536 / piece.length);
    const started = performance.now();
    statementsOf(text);
    statementsOf(`${text}x`);
    const took_ms = performance.now() - started;
    assert.ok(took_ms < 1000, `${JSON.stringify(piece)} took ${took_ms} ms`);
  }
});
