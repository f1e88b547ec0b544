/** The two expressions of a pool: what they find, how far they look, and that no text makes them slow. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { CommentPatterns } from '../../src/routing/comments.ts';
import { Pattern } from '../../src/routing/pattern.ts';

const ID = '/\\* shard_id: (\\d+) \\*/';
const KEY = '/\\* sharding_key: (-?\\w+) \\*/';

function patterns(settings: { id?: string; key?: string; limit?: number } = { id: ID, key: KEY }): CommentPatterns {
  return new CommentPatterns({
    id_regex: settings.id,
    key_regex: settings.key,
    regex_search_limit: settings.limit ?? 1000,
  });
}

/** Looks in a text that lies between others, as in a client's message. */
function look(text: string, by = patterns()) {
  const bytes = Buffer.from(`/* shard_id: 9 */${text}/* shard_id: 9 */`);
  return by.find(bytes, 17, bytes.length - 17);
}

suite('finds', () => {
  test('the number of a shard', () => {
    assert.deepEqual(look('/* shard_id: 1 */ select 1'), { shard: 1 });
    assert.deepEqual(look('select 1 /* shard_id: 0012 */'), { shard: 12 });
  });

  test('a key', () => {
    assert.deepEqual(look('/* sharding_key: 6 */ select 1'), { sharding_key: '6' });
    assert.deepEqual(look('/* sharding_key: -6 */ select 1'), { sharding_key: '-6' });
    assert.deepEqual(look('/* sharding_key: café */ select 1'), { sharding_key: 'café' });
  });

  test('a number before a key, and the first of several', () => {
    assert.deepEqual(look('/* sharding_key: 6 */ /* shard_id: 1 */ /* shard_id: 2 */'), { shard: 1 });
  });

  test('nothing in texts without one, nor in an empty one', () => {
    for (const text of ['select 1', ';', '', '/* shard_id: x */']) assert.equal(look(text), undefined, text);
    assert.equal(look('/* shard_id: 1 */', patterns({ key: KEY })), undefined);
    assert.equal(look('/* shard_id: 1 */', patterns({})), undefined);
  });

  test('nothing when the group was not part of the match', () => {
    assert.equal(look('a', patterns({ id: 'a(b)?' })), undefined);
  });

  test('what is no shard, and says so', () => {
    const words = "which is no shard's number";
    const by = patterns({ id: 'id: (\\S+)', key: 'id: (.)' });
    assert.deepEqual(look('id: x', by), { error: `shard_id_regex finds "x", ${words}` });
    assert.deepEqual(look('id: -1', by), { error: `shard_id_regex finds "-1", ${words}` });
    assert.deepEqual(look(`id: ${'9'.repeat(20)}`, by), {
      error: `shard_id_regex finds "${'9'.repeat(20)}", ${words}`,
    });
  });
});

suite('Rust has the same syntax:', () => {
  const SAME: readonly (readonly [string, string, string])[] = [
    ['(?i)KEY=(\\d+)', 'key=5', '5'],
    ['(?P<key>\\d+)', 'x 5', '5'],
    ['(?<key>\\d+)', 'x 5', '5'],
    ['(?:a|b)(?s:.)(\\d{2,3}?)', 'b\n1234', '12'],
    ['(?m)^k (.*)$', 'x\nk v\ny', 'v'],
    ['\\bk\\b[[:space:]]*=[\\t ]*([[:alnum:]]+)', 'kk = a, k = b1;', 'b1'],
    ['(\\pL+)\\d', 'ab é1', 'é'],
    ['([^\\x{41}-\\x{5A}]+)', 'ABc1D', 'c1'],
    ['/\\*\\s*([\\w\\-\\.]+)\\s*\\*/', '/* é-1.b */', 'é-1.b'],
    ['k(\\W+)', 'ké k, ', ', '],
    ['[]^]([^]]+)', 'a]b]', 'b'],
    ['[:x:](\\w)', ':a', 'a'],
  ];
  for (const [source, text, found] of SAME) {
    test(source, () => {
      const bytes = Buffer.from(text);
      const range = new Pattern(source).find(bytes);
      assert.equal(range && bytes.toString('utf8', range.from, range.to), found);
    });
  }
});

suite('the limit', () => {
  const text = 'é/* shard_id: 123 */';

  test('counts bytes', () => {
    assert.deepEqual(look(text, patterns({ id: ID, limit: 21 })), { shard: 123 });
    assert.equal(look(text, patterns({ id: ID, limit: 20 })), undefined);
  });

  test('of 0 looks at nothing', () => {
    assert.equal(look('5', patterns({ id: '(\\d)', limit: 0 })), undefined);
    assert.equal(look('5', patterns({ id: '(5?)', limit: 0 })), undefined);
  });

  test('never makes half a number or half a key of one', () => {
    const cut = 'what regex_search_limit cuts, or what is no UTF-8';
    const [id, key] = ['shard_id: (\\d+)', 'shard_id: (.+)$'];
    assert.deepEqual(look(text, patterns({ id, limit: 19 })), { shard: 123 });
    for (const limit of [17, 18]) {
      assert.deepEqual(look(text, patterns({ id, limit })), { error: `shard_id_regex finds ${cut}` });
    }
    assert.deepEqual(look(text, patterns({ key, limit: 17 })), { error: `sharding_key_regex finds ${cut}` });
    assert.deepEqual(look('shard_id: 12', patterns({ id, limit: 12 })), { shard: 12 });
  });
});

test('a key that is no UTF-8 is an error', () => {
  const bytes = Buffer.from('key: caf\xe9;', 'latin1');
  const by = patterns({ key: 'key: ([^;]+)' });
  const error = 'sharding_key_regex finds what regex_search_limit cuts, or what is no UTF-8';
  assert.deepEqual(by.find(bytes, 0, bytes.length), { error });
});

test('any bytes are looked through without a fault', () => {
  const by = patterns({ id: '(?i)id.*?(\\d+)', key: '(\\W+)x' });
  fc.assert(
    fc.property(fc.uint8Array(), bytes => {
      by.find(Buffer.from(bytes), 0, bytes.length);
    }),
  );
});

suite('time grows as the text does, not faster', () => {
  const HOSTILE: readonly (readonly [string, string, string])[] = [
    ['((a+)+)$', 'a', '!'],
    ['(([a-z]+)*)=', 'a', ''],
    ['((a|aa)+)$', 'a', '!'],
    ['(.*a){12}$', 'a', '!'],
    ['((\\w|\\d|é)*)*x', 'é1', ''],
    ['/\\*.*(\\d+).*(\\d+).*\\*/', '/* 1', ''],
  ];
  /** The least time of a few, ms. */
  const time = (run: () => void) =>
    Math.min(
      ...Array.from({ length: 5 }, () => {
        const start = performance.now();
        run();
        return performance.now() - start;
      }),
    );

  for (const [source, unit, tail] of HOSTILE) {
    test(`${source} over many ${unit}`, () => {
      const pattern = new Pattern(source);
      const [small, large] = [2_000, 32_000].map(count => {
        const bytes = Buffer.from(unit.repeat(count) + tail);
        return time(() => pattern.find(bytes));
      });
      // Twice as steep as a line; a square would be at 256, and JavaScript's own engine at no number at all.
      assert.ok(large < small * 64 + 5, `${small} ms, then ${large} ms for 16 times the text`);
    });
  }
});
