/** Texts without their strings and comments: nothing that a server would take for a string's content is left. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Analyzer } from '../../src/sql/cache.ts';
import { redacted } from '../../src/sql/redact.ts';

const redact = (text: string, backslashes = false, numbers = true) => {
  const bytes = Buffer.from(text);
  return redacted(bytes, 0, bytes.length, { numbers, backslashes });
};

suite('what is taken out', () => {
  const cases: Readonly<Record<string, string>> = {
    "ALTER USER bob PASSWORD 'secret'": "ALTER USER bob PASSWORD '_'",
    "-- don't\nALTER USER bob PASSWORD 'secret'": "ALTER USER bob PASSWORD '_'",
    "/* it's /* nested's */ */ ALTER USER bob PASSWORD 'secret'": "ALTER USER bob PASSWORD '_'",
    "ALTER USER \"o'brien\" PASSWORD 'secret'": "ALTER USER \"o'brien\" PASSWORD '_'",
    "SELECT E'it\\'s secret', 'b'": "SELECT E'_', '_'",
    "SELECT 'it''s secret'": "SELECT '_'",
    "SELECT 'secret'\n  'and more secret'": "SELECT '_'",
    "SELECT E'a'\n'it\\'s secret'": "SELECT E'_'",
    "SELECT U&'secret', B'101', x'ff', N'secret'": "SELECT U&'_', B'_', x'_', N'_'",
    'DO $x$ secret $y$ secret $x$': "DO '_'",
    'DO $$secret': "DO '_'",
    "SELECT 'secret": "SELECT '_'",
    'SELECT /* secret': 'SELECT',
    'SELECT "secret': 'SELECT "',
    'SET work_mem = 64; FETCH 1.5e3': 'SET work_mem = 1; FETCH 1',
    'SELECT $1, a1, a$1, 0x1F, 1_000': 'SELECT $1, a1, a$1, 1, 1',
    'SELECT   a  --b\n  -- c\n ,d': 'SELECT a ,d',
    "SELECT 'ü', ü": "SELECT '_', ü",
  };
  for (const [text, expected] of Object.entries(cases)) {
    test(text, () => assert.equal(redact(text), expected));
  }

  test('numbers only if that is asked for', () => {
    assert.equal(redact("SET a = 64 -- 'b'", false, false), 'SET a = 64');
  });

  test('a backslash escapes in plain strings where the setting says so', () => {
    assert.equal(redact("SELECT 'it\\'s secret'", true), "SELECT '_'");
  });
});

test('nothing of any string or comment is left, however they are put together', () => {
  const piece = fc.oneof(
    fc.constantFrom(' ', 'SELECT ', 'a ', ', ', '$1 ', '"x" ', '1 ', ';\n'),
    fc.stringMatching(/^[XY'\\$/*"-]*$/).map(inside => `'${inside.replaceAll("'", "''")}', `),
    fc
      .stringMatching(/^[XY' \\$/*"-]*$/)
      .map(inside => `E'${inside.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}', `),
    fc.stringMatching(/^[XY'\\/*"-]*$/).map(inside => ` $t$${inside}$t$ `),
    fc.stringMatching(/^[XY'"\\$]*$/).map(inside => ` /*${inside}*/ `),
    fc.stringMatching(/^[XY'"\\$*/]*$/).map(inside => ` --${inside}\n`),
  );
  fc.assert(
    fc.property(fc.array(piece), pieces => {
      assert.doesNotMatch(redact(pieces.join('')), /[XY]/);
    }),
    { numRuns: 2000 },
  );
});

test('a long text of strings takes one pass', () => {
  const text = "SELECT 'a'\n".concat("'b'\n".repeat(200_000));
  assert.equal(redact(text), "SELECT '_'");
});

test('SHOW ROUTES shows no password, whatever stands in front of it', async () => {
  const analyzer = await Analyzer.create({ now: () => 0 });
  const { template } = analyzer.analyzeText("-- don't\nALTER USER bob PASSWORD 'hunter2'");
  assert.equal(template, "ALTER USER bob PASSWORD '_'");
});
