/** Templates: the same tree as their text, the values that the grammar and PostgreSQL find, and one key for all spellings. */
import assert from 'node:assert/strict';
import { after, before, describe, suite, test } from 'node:test';
import fc from 'fast-check';
import { loadModule, scanSync } from 'libpg-query';
import { Parser } from '../../src/sql/parser.ts';
import { MAX_TEXT_BYTES, Template } from '../../src/sql/template.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { soup } from './soup.ts';
import { bits, decimal, integer, plainString, type Spelled, string } from './spellings.ts';
import { hasCommentedGap, TEXTS, textsBelow } from './texts.ts';
import { assertSame } from './trees.ts';

const LIMIT = 65536;
const parser = await Parser.create({ now: () => 0, max_length: LIMIT });
await loadModule();

/** The template of a text, scanned in the middle of a buffer. */
function scanned(text: string | Buffer, backslashes = false): Template {
  const template = new Template(LIMIT);
  const bytes = Buffer.concat([Buffer.from("'"), Buffer.from(text), Buffer.from("\0'1")]);
  template.scan(bytes, 1, bytes.length - 3, backslashes);
  return template;
}

const templateOf = (text: string, backslashes = false): string => scanned(text, backslashes).text;

/** Where the holes of a template begin. */
function holesOf(template: Template): number[] {
  const bytes = template.bytes;
  return [...bytes.keys()].filter(at => bytes[at] !== 0x2d && template.holeAt(at) !== undefined);
}

suite('a template', () => {
  test('has one literal of each form in place of all, and one blank in place of blanks and comments', () => {
    const cases: Readonly<Record<string, string>> = {
      ' SELECT  5 , 0x1F,1_0\n--x\n;': 'SELECT 1 , 1,1 ;',
      "select 'a''b',E'\\'',U&'\\0061',$$x$$,$a$x$a$, 'a'\n 'b' 'c'": "select '_','_','_','_','_', '_' '_'",
      "VALUES (1.5, .5,5., 1e3, 2147483648, N'x',n'x', b'1', x'F')":
        "VALUES (1.5, 1.5,1.5, 1.5, 1.5, N'_',N'_', B'1', X'1')",
      'SELECT $1,a$1,"x  1",1::float(5),1::FLOAT /**/ ( 7)': 'SELECT $1,a$1,"x  1",1::float(5),1::FLOAT ( 7)',
      "/* a */(SELECT/* b */1);EXECUTE p('x')--": "(SELECT 1);EXECUTE p('_')",
      'EXPLAIN SELECT 5': 'EXPLAIN SELECT 1',
      '  ': '',
    };
    for (const [text, template] of Object.entries(cases)) assert.equal(templateOf(text), template);
  });

  test('keeps apart what would be read together', () => {
    const cases: Readonly<Record<string, string>> = {
      "SELECT $$a$$'b'": "SELECT '_' '_'",
      "SELECT 'a'E'b'": "SELECT '_' '_'",
      'SELECT u&$$a$$': "SELECT u& '_'",
      'SELECT $1.5, a.5, 0x1.5': 'SELECT $1 1.5, a 1.5, 1 1.5',
      'SELECT 0x1., 0x1..2, 1..2, 1...5': 'SELECT 1 ., 1 ..1, 1..1, 1.. 1.5',
    };
    for (const [text, template] of Object.entries(cases)) assert.equal(templateOf(text), template);
  });

  test('is the text itself where a literal may decide anything, or a token is in doubt', () => {
    const texts = [
      ...['SET x = 5', 'BEGIN', 'SELECT 1; SET x = 5', "DO 'x'", "COPY t TO 'x'", 'PREPARE p AS SELECT 5', '-5', "'a'"],
      ...['EXPLAIN (ANALYZE 0) SELECT 1', 'EXPLAIN /**/ (ANALYZE 0) SELECT 1', 'EXPLAIN--\n(ANALYZE 0) SELECT 1'],
      ...["SELECT U&'!0061' UESCAPE '!'", 'SELECT U&"!0061" UESCAPE \'!\'', 'SELECT 1a', 'SELECT 0x', 'SELECT 1e+'],
      ...["SELECT 'a", 'SELECT "a', 'SELECT /* a', 'SELECT $a$ b', 'SELECT $', 'SELECT $1a', 'SELECT 1_', 'SELECT 0b2'],
      ...[
        "SELECT E'\\xff'",
        "SELECT E'\\0'",
        "SELECT E'\\ud800'",
        "SELECT E'\\udc00\\udc00'",
        "SELECT E'\\u00'",
        "SELECT U&'\\00'",
        "SELECT U&'\\d800'",
      ],
    ];
    const keys = texts.map(text => {
      const template = scanned(text);
      assert.deepEqual([template.verbatim, template.literals, template.text], [true, 0, text]);
      return template.key;
    });
    assert.ok(!texts.some(text => keys.includes(text)));
    assert.equal(new Set(keys).size, texts.length);
  });

  test('is refused where it is too long, holds a NUL, or hides escapes from the grammar', () => {
    const template = new Template(20);
    const refusal = (text: string, backslashes = false) => {
      const bytes = Buffer.from(text);
      template.scan(bytes, 0, bytes.length, backslashes);
      assert.equal(template.key === '', template.refusal !== undefined);
      return template.refusal;
    };
    assert.equal(refusal('SELECT 1, 2, 3, 4, 5'), undefined);
    for (const text of ['SELECT 1, 2, 3, 4, 56789', 'SELECT 1,         2, 3, 4, 5 --'])
      assert.equal(refusal(text), undefined);
    for (const more of [', 6', 'a', '"a"', '+', '(', "'a'", '.5', '$1', 'é', ';']) {
      assert.equal(refusal(`SELECT 1, 2, 3, 4, 5${more}`), 'too_long', more);
    }
    assert.equal(refusal(`SELECT '${'x'.repeat(MAX_TEXT_BYTES - 9)}'`), undefined);
    assert.equal(refusal(`SELECT '${'x'.repeat(MAX_TEXT_BYTES - 8)}'`), 'too_long');
    assert.equal(refusal(`SELECT ${'+'.repeat(100)}`), 'too_long');
    assert.equal(refusal(`SET a = 1, 2, 3, 4, 56789`), 'too_long');
    for (const text of ["SELECT 'a\0b'", 'SELECT 1 --\0', 'SET\0']) assert.equal(refusal(text), 'nul');
    assert.equal(refusal("SET a = 'b\\'", true), 'escapes');
    assert.equal(refusal("SET a = 'b\\'"), undefined);
    assert.equal(refusal("SET a = 'b'", true), undefined);
  });

  test('tells whether there may be comments', () => {
    for (const text of ['SELECT 1', 'SELECT \'--\', "/*", $$/* */$$', 'SET a = 1', 'SELECT 1 - 1 / 1 * 2']) {
      assert.equal(scanned(text).comments, false, text);
    }
    for (const text of ['SELECT 1 --', '/**/ SELECT 1', "SELECT 'a' --\n 'b'", 'SET a = 1 -- x', 'BEGIN /* x */']) {
      assert.equal(scanned(text).comments, true, text);
    }
  });

  test('finds the hole of a constant, also behind its sign', () => {
    const template = scanned("SELECT -5, - ( -(6)), 7 - 8, 'a', $1, -b");
    assert.equal(template.text, "SELECT -1, - ( -(1)), 1 - 1, '_', $1, -b");
    const found = (offset: number) => {
      const hole = template.holeAt(offset);
      return hole === undefined ? undefined : template.literal(hole).text;
    };
    assert.deepEqual([7, 11, 22, 26, 29].map(found), ['5', '6', '7', '8', 'a']);
    assert.deepEqual([0, 6, 9, 34, 38, 99].map(found), [
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });
});

suite('the tree of a template is that of its text, with the same values', () => {
  test('for every text of the tests', () => {
    let compared = 0;
    for (const text of TEXTS) compared += assertSame(parser, scanned(text), Buffer.from(text)) ?? 0;
    assert.ok(TEXTS.length > 1000 && compared > 1000, `${TEXTS.length} texts, ${compared} literals`);
  });

  const folder = process.env.SQL_TEXTS;
  test('for every statement below the folder SQL_TEXTS', { skip: folder === undefined }, context => {
    const counts = { texts: 0, templates: 0, literals: 0, refused: 0, encodings: 0 };
    for (const text of textsBelow(folder ?? '')) {
      counts.texts++;
      const template = scanned(text);
      if (!template.verbatim) counts.templates++;
      // What is no UTF-8 inside a literal does not matter to us.
      if (parser.parse(text).refusal === 'encoding') counts.encodings++;
      else if (hasCommentedGap(text.toString('latin1'))) continue;
      else {
        const compared = assertSame(parser, template, text);
        if (compared === undefined) counts.refused++;
        else counts.literals += compared;
      }
    }
    context.diagnostic(JSON.stringify(counts));
  });

  for (const backslashes of [false, true]) {
    test(`for any other literals in their places${backslashes ? ', plain strings having escapes' : ''}`, () => {
      const templates = TEXTS.map(text => scanned(text)).filter(({ verbatim, literals }) => !verbatim && literals > 0);
      let compared = 0;
      const property = fc.property(
        fc
          .constantFrom(...templates)
          .chain(template => fc.tuple(fc.constant(template), filling(template, backslashes))),
        ([template, { text, values }]) => {
          const other = scanned(text, backslashes);
          assert.equal(other.key, template.key, text);
          assert.deepEqual(
            [...values.keys()].map(hole => other.literal(hole).text),
            values,
          );
          if (!backslashes) compared += assertSame(parser, other, Buffer.from(text)) ?? 0;
        },
      );
      fc.assert(property, { numRuns: 2000 });
      assert.ok(backslashes || compared > 2000, `${compared} literals`);
    });
  }

  test('for any heap of tokens, down to the tokens of PostgreSQL', () => {
    let templates = 0;
    const property = fc.property(soup(false), ({ text }) => {
      fc.pre(!hasCommentedGap(text));
      const template = scanned(text);
      if (!template.verbatim) templates++;
      assertSame(parser, template, Buffer.from(text));
      // The scanner takes no empty text, and its answer is no JSON when these are in a comment.
      if (template.text !== '' && !/[\f\v]/.test(text)) assert.deepEqual(tokensOf(template.text), tokensOf(text));
    });
    fc.assert(property, { numRuns: 6000 });
    assert.ok(templates > 2000, `${templates} templates`);
  });

  test('for any heap of tokens with escapes in plain strings: as if E stood before them', () => {
    const property = fc.property(soup(true), ({ text, as_escaped }) => {
      // The second part of a string has no E.
      fc.pre(!hasCommentedGap(text) && !/'\s*[\n\r]\s*'/.test(text));
      const [template, other] = [scanned(text, true), scanned(as_escaped)];
      if (template.refusal === 'escapes') return;
      assert.equal(template.verbatim, other.verbatim);
      if (template.verbatim) return;
      assert.equal(template.key, other.key);
      const values = (from: Template) => Array.from({ length: from.literals }, (_, hole) => from.literal(hole));
      assert.deepEqual(values(template), values(other));
    });
    fc.assert(property, { numRuns: 4000 });
  });
});

describe('PostgreSQL itself', () => {
  let cluster: TestCluster;
  before(async () => {
    cluster = await startCluster();
  });
  after(() => cluster.stop());

  for (const setting of ['on', 'off'] as const) {
    test(`finds the same values, standard_conforming_strings = ${setting}`, async () => {
      const client = await cluster.connect();
      await client.query(`SET standard_conforming_strings = ${setting}`);
      // libpg-query does not continue strings over comments, PostgreSQL does.
      const gaps = ['\n', ' -- c\n', '\n-- c\n --\n ', '--\r'].map(between => `'a'${between}'b\\\\c'`);
      const spelled = fc.sample(string(setting === 'off'), 300).map(({ written }) => written);
      for (const written of [...gaps, "E'\\?\\'x\\x41\\501'", ...spelled]) {
        const template = scanned(`SELECT ${written}`, setting === 'off');
        assert.equal(template.literals, 1, written);
        const { rows } = await client.query<{ value: string }>(`SELECT ${written} AS value`);
        assert.equal(template.literal(0).text, rows[0]?.value, written);
      }
      await client.end();
    });
  }
});

/** A text with this template, and the values of its literals. */
function filling(template: Template, backslashes: boolean): fc.Arbitrary<{ text: string; values: string[] }> {
  const offsets = holesOf(template);
  const bytes = Buffer.from(template.bytes);
  const spellings = offsets.map(offset => {
    const [before, first] = [
      bytes.toString('latin1', offset - 1, offset),
      bytes.toString('latin1', offset, offset + 3),
    ];
    if (first[0] === "'")
      return { length: 3, spelling: /[^\s(,=]/.test(before) ? plainString(backslashes) : string(backslashes) };
    if (/^[BX]/.test(first)) return { length: 4, spelling: bits(first[0]) };
    if (first === '1.5') return { length: 3, spelling: decimal };
    return { length: 1, spelling: integer(first[1] === '.') };
  });
  return fc.tuple(...spellings.map(({ spelling }): fc.Arbitrary<Spelled> => spelling)).map(literals => {
    let text = '';
    let from = 0;
    for (const [index, { written }] of literals.entries()) {
      text += bytes.toString('utf8', from, offsets[index]) + written;
      from = (offsets[index] ?? 0) + (spellings[index]?.length ?? 0);
    }
    return { text: text + bytes.toString('utf8', from), values: literals.map(literal => literal.text) };
  });
}

/** Tokens as libpg-query's scanner tells them, literals without values; undefined when it refuses one. */
function tokensOf(text: string): string[] | undefined {
  const bytes = Buffer.from(text);
  let scan: ReturnType<typeof scanSync>;
  try {
    scan = scanSync(text);
  } catch {
    return undefined;
  }
  const tokens = scan.tokens.filter(({ tokenName }) => !/COMMENT/.test(tokenName));
  return tokens.map(({ tokenType, start, end }) => {
    const written = bytes.toString('utf8', start, end);
    if (/^(['$]|[eE]'|[uU]&')/.test(written) && !/^\$\d/.test(written)) return 'string';
    if (/^[bBxX]'/.test(written)) return written.slice(0, 1).toUpperCase();
    if (written === 'n' && bytes[end] === 0x27) return 'N';
    return /^[.\d]*\d/.test(written) ? `number ${tokenType}` : written;
  });
}
