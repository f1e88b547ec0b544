/** Which statements are one and the same, and which of them a server connection holds. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type PreparedStatement, ServerStatements, StatementCatalog, splitParse } from '../../src/server/prepared.ts';
import * as frontend from '../client/frontend.ts';

/** What a Parse holds behind its name. */
const definition = (text: string, types: readonly number[] = []) => frontend.parse('', text, types).subarray(6);

suite('a catalog', () => {
  test('knows a statement by its text, its types and its dialect, in every byte', () => {
    const catalog = new StatementCatalog(100, 1_000_000);
    const made = [
      catalog.intern(definition('SELECT 1'), ''),
      catalog.intern(definition('SELECT 1 '), ''),
      catalog.intern(definition('SELECT 1', [23]), ''),
      catalog.intern(definition('SELECT 1', [25]), ''),
      catalog.intern(definition('SELECT 1'), 'dialect'),
      catalog.intern(Buffer.from('SELECT \xe9\0\0\0', 'latin1'), ''),
      catalog.intern(Buffer.from('SELECT \xe8\0\0\0', 'latin1'), ''),
    ];
    assert.equal(new Set(made).size, made.length);
    assert.equal(new Set(made.map(({ name }) => name)).size, made.length);
    assert.equal(catalog.intern(definition('SELECT 1'), ''), made[0]);
    assert.equal(catalog.intern(definition('SELECT 1'), 'dialect'), made[4]);
    assert.deepEqual(
      made.map(({ uses }) => uses),
      [2, 1, 1, 1, 2, 1, 1],
    );
    assert.deepEqual(
      made.map(({ hasTypes }) => hasTypes),
      [false, false, true, true, false, false, false],
    );
  });

  test('keeps no bytes of the caller, and the Parse it makes is the one that came but for its name', () => {
    const catalog = new StatementCatalog(100, 1_000_000);
    const bytes = Buffer.from(definition('SELECT $1', [23]));
    const statement = catalog.intern(bytes, '');
    bytes.fill(0);
    assert.equal(statement.text, 'SELECT $1');
    assert.deepEqual(statement.parse, frontend.parse(statement.name, 'SELECT $1', [23]));
  });

  test('is bounded in entries and in bytes; what falls out lives on with whoever holds it', () => {
    const few = new StatementCatalog(3, 1_000_000);
    const [first] = [0, 1, 2, 3].map(n => few.intern(definition(`SELECT ${n}`), ''));
    assert.notEqual(few.intern(definition('SELECT 0'), ''), first);
    const short = new StatementCatalog(1_000, 10_000);
    const long = short.intern(definition('x'.repeat(3_000)), '');
    short.intern(definition('y'.repeat(3_000)), '');
    assert.notEqual(short.intern(definition('x'.repeat(3_000)), ''), long);
    assert.equal(long.text.length, 3_000);
  });
});

suite('a server connection', () => {
  const catalog = new StatementCatalog(1_000, 1_000_000);
  const statements = Array.from({ length: 6 }, (_, n) => catalog.intern(definition(`SELECT ${n}`), ''));

  /** Prepares it as client/forward does, and says what was closed for it. */
  function use(held: ServerStatements, statement: PreparedStatement): PreparedStatement | undefined {
    if (held.touch(statement)) return undefined;
    const eviction = held.evictFor(statement);
    held.add(statement, 0);
    return eviction?.evicted;
  }

  test('holds the statements used last, in any order of uses', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(fc.nat({ max: 5 }), { maxLength: 60 }), (size, uses) => {
        const held = new ServerStatements(size);
        let expected: PreparedStatement[] = [];
        for (const n of uses) {
          const statement = statements[n];
          const known = expected.includes(statement);
          const dropped = !known && expected.length === size ? expected[0] : undefined;
          expected = [...expected.filter(other => other !== statement && other !== dropped), statement];
          assert.equal(use(held, statement), dropped);
          assert.equal(held.size, expected.length);
        }
        assert.deepEqual(
          statements.filter(other => held.touch(other)),
          statements.filter(other => expected.includes(other)),
        );
      }),
    );
  });

  test('with no room has room for one', () => {
    const held = new ServerStatements(0);
    assert.equal(use(held, statements[0]), undefined);
    assert.equal(use(held, statements[1]), statements[0]);
    assert.equal(held.size, 1);
  });

  test('prepares a statement anew once its result type has changed, and closes the old one first', () => {
    const held = new ServerStatements(3);
    const [one, two] = statements;
    use(held, one);
    use(held, two);
    one.revision++;
    assert.equal(held.touch(one), false);
    const eviction = held.evictFor(one);
    assert.equal(eviction?.evicted, one);
    assert.equal(held.size, 1);
    // The Close did not take place: it is the old one that the connection still holds.
    eviction?.assumed.undo(false);
    assert.equal(held.size, 2);
    assert.equal(held.touch(one), false);
    held.add(one, 0);
    assert.equal(held.touch(one), true);
  });

  test('that may have lost them prepares each anew, and closes it first', () => {
    const held = new ServerStatements(3);
    const [one, two] = statements;
    use(held, one);
    use(held, two);
    held.outdate();
    assert.deepEqual([use(held, one), use(held, two), use(held, one)], [one, two, undefined]);
    assert.equal(held.size, 2);
  });

  test('answers a Parse for a minute, whatever is bound meanwhile', () => {
    const held = new ServerStatements(3);
    const [one, two] = statements;
    held.add(one, 1_000);
    held.add(two, 2_000);
    assert.equal(held.answers(one, 60_999), true);
    assert.equal(held.touch(two), true);
    assert.equal(held.answers(one, 61_000), false);
    assert.equal(held.answers(two, 61_000), true);
    assert.equal(held.touch(one), true, 'a Bind does not mind its age');
    held.add(one, 61_000);
    assert.equal(held.answers(one, 61_000), true);
  });

  test('forgets everything at once', () => {
    const held = new ServerStatements(3);
    use(held, statements[0]);
    held.unnamed = statements[1];
    held.clear();
    assert.equal(held.size, 0);
    assert.equal(held.unnamed, undefined);
    assert.equal(held.touch(statements[0]), false);
  });
});

test('a Parse is split where its strings end, wherever it stands', () => {
  const message = frontend.parse('name', 'SELECT 1', [23, 25]);
  const buffer = Buffer.concat([Buffer.from('junk'), message, Buffer.from('\0junk\0')]);
  const parts = splitParse(buffer, 4, 4 + message.length);
  assert.deepEqual(parts, { nameEnd: 4 + 5 + 4, textEnd: 4 + 5 + 4 + 1 + 8 });
  for (const broken of ['no end', 'name\0no end']) {
    const bytes = frontend.message('P', Buffer.from(broken));
    assert.equal(splitParse(Buffer.concat([bytes, Buffer.from('\0\0')]), 0, bytes.length), undefined);
  }
});
