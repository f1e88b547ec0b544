/** Comments that ask for a role, a shard or a key: all spellings, and none that PostgreSQL takes for something else. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { loadModule, scanSync } from 'libpg-query';
import { type CommentHint, commentHint, mayHoldComment } from '../../src/routing/comments.ts';

const NOTHING: CommentHint = { role: undefined, shard: undefined, sharding_key: undefined, error: undefined };

/** Reads a text that lies between others, as in a client's message. */
function read(text: string, backslashes = false): CommentHint | undefined {
  const bytes = Buffer.from(`/*${text}*/ pglynx: '`);
  const end = bytes.length - "*/ pglynx: '".length;
  const hint = commentHint(bytes, 2, end, backslashes);
  if (hint !== undefined) assert.ok(mayHoldComment(bytes, 2, end));
  return hint;
}

const short = (text: string) => JSON.stringify(text.length > 70 ? `${text.slice(0, 70)}...` : text);

suite('a comment asks for', () => {
  const WISHES: readonly (readonly [string, Partial<CommentHint>])[] = [
    ['/* pglynx: role=replica */ SELECT 1', { role: 'replica' }],
    ['SELECT 1 /*pglynx:role=PRIMARY*/', { role: 'primary' }],
    ['SELECT 1 -- pglynx: role=any', { role: 'any' }],
    ['SELECT 1 --pglynx: shard=2\nFROM t', { shard: 2 }],
    ['SELECT 1 -- pglynx: shard=2\r + 1', { shard: 2 }],
    ['/*\n\tpglynx:\nrole = "replica",\n shard= \'02\' ,\n*/ SELECT 1', { role: 'replica', shard: 2 }],
    ['/* pglynx: role=replica shard=2 */', { role: 'replica', shard: 2 }],
    ['/* pglynx: role=replica,key=-5 */', { role: 'replica', sharding_key: '-5' }],
    ["/* pglynx: SHARDING_KEY='it''s, \"é\" = 1' */", { sharding_key: 'it\'s, "é" = 1' }],
    ['/* pglynx: key="a ""b""" */', { sharding_key: 'a "b"' }],
    ["/* pglynx: key='' */", { sharding_key: '' }],
    ['/* pglynx: key=5 key=5 */ -- pglynx: key=5', { sharding_key: '5' }],
    ['/* pglynx: role=any */ SELECT /* pglynx: shard=1 */ 1', { role: 'any', shard: 1 }],
    ['/* a */ -- b\n /* pglynx: shard=1 */', { shard: 1 }],
    ['SELECT 1+/* pglynx: shard=1 */1', { shard: 1 }],
    ['SELECT 1*/* pglynx: shard=1 */1', { shard: 1 }],
    ["SELECT '--', \"/*\", $$'$$, $a$ $$ $b$ $a$, E'\\'' /* pglynx: shard=1 */", { shard: 1 }],
    ["SELECT E'\\\\' /* pglynx: shard=1 */ '", { shard: 1 }],
    ["SELECT '\\' /* pglynx: shard=1 */ , ''", { shard: 1 }],
    ["SELECT 'a' -- pglynx: shard=1\n 'b'", { shard: 1 }],
    ["SELECT E'a' -- ' \n '\\' /*' /* pglynx: shard=1 */ , ''", { shard: 1 }],
    ["SELECT E'a' /**/ \n '\\' /* pglynx: shard=1 */ , ''", { shard: 1 }],
    ['SELECT $1$$ /* $$ /* pglynx: shard=1 */', { shard: 1 }],
    ['SELECT 1e5$$ /* $$ /* pglynx: shard=1 */', { shard: 1 }],
    ['SELECT a$$ /* pglynx: shard=1 */ $$', { shard: 1 }],
    ['SELECT $a /* pglynx: shard=1 */ $a', { shard: 1 }],
    ["SELECT typeE'\\' /* pglynx: shard=1 */", { shard: 1 }],
  ];
  for (const [text, wish] of WISHES) test(short(text), () => assert.deepEqual(read(text), { ...NOTHING, ...wish }));

  test('the same with backslashes in plain strings', () => {
    const asked = ["'\\'' /* pglynx: shard=1 */", "b'\\' /* pglynx: shard=1 */", '"\\" /* pglynx: shard=1 */'];
    for (const text of asked) assert.equal(read(text, true)?.shard, 1, text);
    for (const text of ["'\\' /* pglynx: shard=1 */ '", "N'\\' /* pglynx: shard=1 */ '"]) {
      assert.equal(read(text, true), undefined, text);
    }
  });
});

suite('a comment is refused in words', () => {
  const expected = 'role=, shard= or key= with a value is expected at';
  const MISTAKES: readonly (readonly [string, string])[] = [
    ['/* pglynx: */', 'role=, shard= or key= is expected'],
    ['-- pglynx:', 'role=, shard= or key= is expected'],
    ['/* pglynx: , */', 'role=, shard= or key= is expected'],
    ['/* pglynx: role */', `${expected} "role"`],
    ['/* pglynx: role=any shard */', `${expected} "shard"`],
    ['/* pglynx: role= */', `${expected} "role="`],
    ["/* pglynx: key='5 */", `${expected} "key='5"`],
    ["/* pglynx: key=5' */", `${expected} "key=5'"`],
    ["/* pglynx: key='5'6 */", `${expected} "key='5'6"`],
    ['/* pglynx: key==5 */', `${expected} "key==5"`],
    ['/* pglynx: shard=1 /* role=any */ */', `${expected} "/* role=any */"`],
    ['/* pglynx: rolle=any */', '"rolle" is unknown: role, shard and key are what it can set'],
    ['/* pglynx: role=auto */', 'role must be primary, replica or any, not "auto"'],
    ['/* pglynx: shard=any */', 'shard must be the number of a shard, not "any"'],
    ['/* pglynx: shard=-1 */', 'shard must be the number of a shard, not "-1"'],
    ['/* pglynx: shard=99999999999999999999 */', 'shard must be the number of a shard, not "99999999999999999999"'],
    ['/* pglynx: role=any role=primary */', 'role is asked to be "any" and "primary"'],
    ['/* pglynx: key=5 */ -- pglynx: key=05', 'sharding_key is asked to be "5" and "05"'],
    ['/* pglynx: shard=1 */ -- pglynx: shard=2', 'shard is asked to be "1" and "2"'],
    ['/* pglynx: shard=1 */ -- pglynx: key=2', 'shard and key exclude each other'],
    ['/* pglynx: shard=x */ -- pglynx: shard=y', 'shard must be the number of a shard, not "x"'],
    [`/* pglynx: key='${'x'.repeat(1024)}' */`, 'UTF-8 of at most 1024 bytes is expected'],
    ['/*pglynx:role=any*/'.repeat(65), 'at most 64 comments may ask for something'],
  ];
  for (const [text, error] of MISTAKES) test(short(text), () => assert.deepEqual(read(text), { ...NOTHING, error }));

  test('a key that is no UTF-8', () => {
    const bytes = Buffer.from('/* pglynx: key=caf\xe9 */', 'latin1');
    const error = 'UTF-8 of at most 1024 bytes is expected';
    assert.deepEqual(commentHint(bytes, 0, bytes.length, false), { ...NOTHING, error });
  });
});

suite('nothing is asked by', () => {
  const OTHERS = [
    '',
    'SELECT 1',
    '/* role=replica */ SELECT 1',
    '/* pglynx role=replica */ SELECT 1',
    '/* a pglynx: role=replica */ SELECT 1',
    '/*+ pglynx: role=replica */ SELECT 1',
    '-- -- pglynx: shard=1',
    'pglynx: shard=1',
    "SELECT '/* pglynx: shard=1 */'",
    "SELECT 'it''s /* pglynx: shard=1 */'",
    "SELECT E'\\'/* pglynx: shard=1 */'",
    "SELECT 1 AS x, e'\\\\\\'/* pglynx: shard=1 */'",
    "SELECT E'a'\n'\\' /* pglynx: shard=1 */ '",
    "SELECT E'a' -- b\n '\\' /* pglynx: shard=1 */ '",
    'SELECT "/* pglynx: shard=1 */"',
    'SELECT "a""/* pglynx: shard=1 */"',
    'SELECT $$ -- pglynx: shard=1 $$',
    'SELECT $a$ $ $b$ $$ -- pglynx: shard=1\n $a$',
    'DO $é1$ /* pglynx: shard=1 */ $é1$',
    'SELECT $$ /* pglynx: shard=1 */',
    '/* /* pglynx: shard=1 */ */',
    "SELECT U&'\\' , '/* pglynx: shard=1 */'",
    'SELECT 1 - - pglynx: shard=1',
    'SELECT 1 / * pglynx: shard=1 */',
  ];
  for (const text of OTHERS) test(short(text), () => assert.equal(read(text), undefined));
});

suite("PostgreSQL's own lexer", async () => {
  await loadModule();
  const piece = fc.constantFrom(
    ..."'' ' \" \"\" \\ E' e'\\' B' b'1' X' x'f' N' U&' U&\" $$ $a$ $b1$ $é$ $1 $ a a$ é E 1 1e5 .5 0x1F . , ; * + - / -- /* */ ( ) x :"
      .split(' ')
      .concat(' ', '\n', '\r', '\t', ' \n '),
  );
  const pieces = fc.array(piece, { maxLength: 12 }).map(list => list.join(''));

  /** Whether the lexer finds a comment at this byte; undefined for a text that it refuses. */
  const sees = (text: string, at: number): boolean | undefined => {
    try {
      return scanSync(text).tokens.some(({ start, tokenName }) => start === at && tokenName.endsWith('_COMMENT'));
    } catch {
      return undefined;
    }
  };

  test('finds the same comments in any text', () => {
    let [found, hidden] = [0, 0];
    fc.assert(
      fc.property(pieces, pieces, (before, after) => {
        const text = `${before}/* pglynx: shard=1 */${after}`;
        const seen = sees(text, Buffer.byteLength(before));
        fc.pre(seen !== undefined);
        if (seen) found++;
        else hidden++;
        assert.equal(read(text)?.shard, seen ? 1 : undefined, text);
      }),
      { numRuns: 5_000 },
    );
    assert.ok(found > 500 && hidden > 500, `${found} found, ${hidden} hidden`);
  });

  test('finds no comment to the end of a line that is missed', () => {
    fc.assert(
      fc.property(pieces, pieces, (before, after) => {
        const text = `${before}-- pglynx: shard=1\n${after}`;
        // In front of it could be a dash, or a /: then it begins elsewhere.
        if (sees(text, Buffer.byteLength(before))) assert.equal(read(text)?.shard, 1, text);
      }),
      { numRuns: 5_000 },
    );
  });
});
