/** Any one mistyped letter in any key of a full file is found, placed, and corrected. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { didYouMean, editDistance } from '../../src/config/spelling.ts';
import { dotted, Positions } from '../../src/config/toml.ts';
import { errorOf } from './files.ts';

const FULL = readFileSync(`${import.meta.dirname}/../fixtures/full-pgcat.toml`, 'utf8');
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCXYZ0123456789_-';

/** A key in the text: its line and column, and the names of the tables around it with its own name last. */
interface Key {
  readonly line: number;
  readonly column: number;
  readonly path: readonly string[];
}

const KEYS: readonly Key[] = FULL.split('\n').reduce<{ table: string[]; keys: Key[] }>(
  ({ table, keys }, text, index) => {
    const line = index + 1;
    const header = /^\[(.*)\]$/.exec(text)?.[1]?.split('.');
    const key = /^(\w+) =/.exec(text)?.[1];
    if (key !== undefined) keys.push({ line, column: 1, path: [...table, key] });
    for (const [place] of (header ?? []).entries()) {
      const before = header?.slice(0, place).join('.') ?? '';
      keys.push({ line, column: place === 0 ? 2 : before.length + 3, path: header?.slice(0, place + 1) ?? [] });
    }
    return { table: header ?? table, keys };
  },
  { table: [], keys: [] },
).keys;

/** Names that the user chooses are no keys: pools, users, shards, queries. A stray [pool...] is checked elsewhere. */
const fixed = KEYS.filter(
  ({ path }) => path[0] !== 'pool' && !['pools', 'users', 'shards', 'queries'].includes(path.at(-2) ?? ''),
);

const typo = fc
  .record({
    key: fc.constantFrom(...fixed),
    kind: fc.constantFrom('add', 'remove', 'replace', 'swap'),
    place: fc.nat(40),
    letter: fc.constantFrom(...LETTERS),
  })
  .map(({ key, kind, place, letter }) => {
    const right = key.path.at(-1) ?? '';
    const at = place % right.length;
    const [head, tail] = [right.slice(0, at), right.slice(at)];
    const wrong = {
      add: head + letter + tail,
      remove: head + tail.slice(1),
      replace: head + letter + tail.slice(1),
      swap: head + (tail[1] ?? '') + (tail[0] ?? '') + tail.slice(2),
    }[kind];
    return { key, right, wrong };
  })
  // [pool.NAME.plugins] is PgCat's own mistake, a warning.
  .filter(({ right, wrong }) => wrong !== right && !(wrong === 'pool'));

test('any one mistyped letter in a key gives an error at its place that names the right key', () => {
  assert.ok(fixed.length > 100);
  fc.assert(
    fc.property(typo, ({ key, right, wrong }) => {
      const lines = FULL.split('\n');
      const line = lines[key.line - 1] ?? '';
      lines[key.line - 1] = line.slice(0, key.column - 1) + wrong + line.slice(key.column - 1 + right.length);
      const { problems } = errorOf(lines.join('\n'));
      const path = dotted([...key.path.slice(0, -1), wrong]);
      const problem = problems.find(found => found.path === path);
      assert.ok(problem, `${path} is not among ${problems.map(found => found.path).join()}`);
      assert.deepEqual([problem.line, problem.column], [key.line, key.column]);
      assert.match(problem.message, new RegExp(`^is not a setting \\(did you mean .*"${right}"`));
    }),
    { numRuns: 300 },
  );
});

test('every key of the full file is found where it stands', () => {
  const positions = new Positions(FULL);
  for (const { line, column, path } of KEYS) {
    // A table that several headers pass through is where it is first named, or defined.
    const place = positions.key(path);
    const shown = FULL.split('\n')[place.line - 1]?.slice(place.column - 1);
    assert.ok(shown?.startsWith(path.at(-1) ?? '?'), `${dotted(path)} at ${place.line}:${place.column}`);
    if (column === 1) assert.deepEqual(place, { line, column });
  }
});

test('nothing is suggested for a word like no other', () => {
  assert.equal(didYouMean('zzzzzz', ['host', 'port']), '');
  assert.equal(didYouMean('x', []), '');
  assert.equal(didYouMean('PORT', ['host', 'port']), ' (did you mean "port"?)');
});

test('the edit distance is symmetric, zero only between equals, and one for one edit', () => {
  const word = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      assert.equal(editDistance(a, b), editDistance(b, a));
      assert.equal(editDistance(a, b) === 0, a === b);
      assert.ok(editDistance(a, b) <= Math.max(a.length, b.length));
    }),
    { numRuns: 200 },
  );
  assert.deepEqual(
    [editDistance('prot', 'port'), editDistance('hst', 'host'), editDistance('host', 'pool_mode')],
    [1, 1, 8],
  );
});
