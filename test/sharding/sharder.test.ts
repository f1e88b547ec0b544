/** Shards of keys without a server: PgCat's vectors, and what is never guessed. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { PartitionHash } from '../../src/sharding/pghash.ts';
import { Sharder, type WrittenKey } from '../../src/sharding/sharder.ts';

const INT8_MAX = '9223372036854775807';
const INT8_MIN = '-9223372036854775808';

const literal = (text: string, cast?: string): WrittenKey => ({ form: 'string', text, cast });
const integer = (text: string, negative = false, cast?: string): WrittenKey => ({
  form: 'integer',
  text,
  negative,
  cast,
});
const decimal = (text: string, negative = false, cast?: string): WrittenKey => ({
  form: 'decimal',
  text,
  negative,
  cast,
});
const parameter = (text: string, type = 0): WrittenKey => ({ form: 'text', bytes: Buffer.from(text), type });
const binary = (hex: string, type = 0): WrittenKey => ({ form: 'binary', bytes: Buffer.from(hex, 'hex'), type });

const bigint = new Sharder('pg_bigint_hash', 3);
const text = new Sharder('pg_text_hash', 5);
const uuid = new Sharder('pg_uuid_hash', 5);

suite("PgCat's vectors", () => {
  const shards = (sharder: Sharder, keys: readonly (number | string)[]) =>
    keys.map(key => sharder.shardOfText(`${key}`)).join();
  const upTo = (last: number) => [...Array(last + 1).keys()];

  test('pg_bigint_hash', () => {
    const five = new Sharder('pg_bigint_hash', 5);
    const vectors = [
      [1, 4, 5, 14, 19, 39, 40, 46, 47, 53],
      [2, 3, 11, 17, 21, 23, 30, 49, 51, 54],
      [6, 7, 15, 16, 18, 20, 25, 28, 34, 35],
      [8, 12, 13, 22, 29, 31, 33, 36, 41, 43],
      [9, 10, 24, 26, 27, 32, 37, 38, 42, 45],
    ];
    for (const [shard, keys] of vectors.entries()) assert.equal(shards(five, keys), keys.map(() => shard).join());
    assert.equal(shards(five, [0, -1, 1234, 85, INT8_MAX, INT8_MIN]), '3,4,2,0,1,4');
    assert.equal(shards(bigint, upTo(20)), '2,2,0,1,0,2,0,1,0,2,1,2,2,1,1,0,0,2,0,0,0');
    assert.equal(shards(bigint, [-1, -2, -5, 1234, 85, 2 ** 32, INT8_MAX, INT8_MIN]), '2,1,1,0,2,2,0,1');
  });

  test('sha1', () => {
    assert.equal(shards(new Sharder('sha1', 12), upTo(19)), '4,7,8,3,6,0,0,10,3,11,1,7,4,4,11,2,5,0,8,3');
    assert.equal(shards(new Sharder('sha1', 3), upTo(10)), '1,1,2,0,0,0,0,1,0,2,1');
  });

  test('one shard has every key, and more than there can be have none', () => {
    assert.equal(new Sharder('pg_bigint_hash', 1).shardOfText('13'), 0);
    for (const shards of [0, -1, 1.5, 65_537, Number.NaN]) assert.throws(() => new PartitionHash(shards), RangeError);
    assert.ok(new PartitionHash(65_536).ofInteger(0, 7) < 65_536);
  });
});

suite('a whole number', () => {
  const five = bigint.shardOfText('5');

  test('is the same in every spelling', () => {
    const spellings = [
      integer('5'),
      integer('05'),
      decimal('5.0'),
      decimal('5.'),
      decimal('5.00', false, 'int4'),
      integer('5', false, 'int2'),
      literal('5'),
      literal(' +0x5\t'),
      literal('0b1_01', 'int8'),
      parameter('5'),
      parameter('5', 23),
      parameter(' 5', 705),
      parameter('5.00', 1700),
      binary('0005'),
      binary('0005', 21),
      binary('00000005', 23),
      binary('0000000000000005', 20),
    ];
    for (const key of spellings) {
      assert.equal(bigint.shardOf(key, 'compared'), five, JSON.stringify(key));
      assert.equal(bigint.shardOf(key, 'stored'), five, JSON.stringify(key));
    }
    assert.equal(bigint.shardOf(integer('5', true), 'stored'), bigint.shardOfText('-5'));
    assert.equal(bigint.shardOf(literal('-5', 'int8'), 'stored'), bigint.shardOfText('-5'));
    assert.equal(bigint.shardOf(decimal('9223372036854775808', true), 'stored'), bigint.shardOfText(INT8_MIN));
    assert.equal(bigint.shardOf(decimal('0.0', true), 'stored'), bigint.shardOfText('0'));
  });

  test('is rounded where it is stored or cast, and nowhere else', () => {
    for (const key of [decimal('5.5'), decimal('.5', true), parameter('5.5', 1700)]) {
      assert.equal(bigint.shardOf(key, 'compared'), 'unmatched');
      assert.equal(bigint.shardOf(key, 'stored'), 'unknown');
    }
    assert.equal(bigint.shardOf(decimal('5.5', false, 'int8'), 'compared'), 'unknown');
  });

  test('that there is not has no row', () => {
    const none = [
      decimal('9223372036854775808'),
      decimal('99999999999999999999.0'),
      literal('-9800000000000000000', 'int8'),
      literal('_5', 'int8'),
      literal('abc'),
      literal(''),
      literal('5.0', 'int8'),
      literal('12abc', 'int8'),
      parameter('1e3', 20),
      parameter('9223372036854775808', 20),
    ];
    for (const key of none) assert.equal(bigint.shardOf(key, 'compared'), 'unmatched', JSON.stringify(key));
  });

  test('is not guessed', () => {
    const unclear = [
      literal('5.0'), // 5 in `id IN ('5.0', 6.5)`
      literal('5', 'numeric'),
      literal('5', 'text'),
      integer('5', false, 'oid'),
      decimal('5e0'),
      parameter('5', 25),
      parameter('5', 701),
      parameter('NaN', 1700),
      parameter('5\u00a0'),
      parameter('5'.padStart(2000)),
      decimal(`5.${'0'.repeat(50_000)}`),
      binary('05'),
      binary('00000005', 20),
      binary('0000000000000005', 701),
      binary('0000000000000005', 1700),
    ];
    for (const key of unclear) assert.equal(bigint.shardOf(key, 'compared'), 'unknown', JSON.stringify(key));
    for (const key of ['', 'x', '5.0', '9223372036854775808']) assert.equal(bigint.shardOfText(key), undefined);
  });

  test('hostile digits do not hold anybody up', () => {
    const started = performance.now();
    const long = '1'.repeat(1e6);
    for (const key of [literal(`${long}x`), decimal(`${long}x`), parameter(long, 1700), literal(' '.repeat(1e6))]) {
      bigint.shardOf(key, 'compared');
    }
    assert.ok(performance.now() - started < 100);
  });
});

suite('a text', () => {
  test('is hashed as it is, in all forms', () => {
    const shard = text.shardOfText('grüße');
    for (const type of [0, 25, 1043, 705]) {
      assert.equal(text.shardOf(parameter('grüße', type), 'stored'), shard);
      assert.equal(text.shardOf(binary(Buffer.from('grüße').toString('hex'), type), 'stored'), shard);
    }
    for (const cast of [undefined, 'text', 'varchar'])
      assert.equal(text.shardOf(literal('grüße', cast), 'stored'), shard);
  });

  test('is not guessed', () => {
    const unclear = [
      integer('5'),
      integer('5', false, 'text'),
      literal('a', 'bpchar'),
      literal('a', 'name'),
      parameter('5', 23),
      parameter('a', 1042),
      binary('00000005', 23),
      parameter('a'.repeat(2 ** 18 + 1)),
    ];
    for (const key of unclear) assert.equal(text.shardOf(key, 'compared'), 'unknown');
  });

  test('may lose blanks at its end when it is stored', () => {
    assert.equal(typeof text.shardOf(literal('a '), 'compared'), 'number');
    assert.equal(text.shardOf(literal('a '), 'stored'), 'unknown');
    assert.equal(text.shardOf(parameter('a ', 1043), 'stored'), 'unknown');
  });

  test('beyond ASCII is other bytes in other encodings', () => {
    assert.equal(text.shardOf(parameter('ü'), 'compared', false), 'unknown');
    assert.equal(text.shardOf(parameter('u'), 'compared', false), text.shardOfText('u'));
    assert.deepEqual(text.elementsOf(parameter('{ü}'), false), ['unknown']);
    assert.equal(text.shardOfText('ü', false), undefined);
  });
});

suite('a UUID', () => {
  const written = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11';
  const shard = uuid.shardOfText(written);

  test('is the same in every spelling', () => {
    assert.equal(typeof shard, 'number');
    const plain = written.replaceAll('-', '');
    const spellings = [written.toUpperCase(), `{${written}}`, plain, 'a0ee-bc99-9c0b4ef8-bb6d6bb9-bd38-0a11'];
    for (const spelling of spellings) {
      assert.equal(uuid.shardOf(literal(spelling), 'stored'), shard, spelling);
      assert.equal(uuid.shardOf(literal(spelling, 'uuid'), 'compared'), shard);
      assert.equal(uuid.shardOf(parameter(spelling, 2950), 'stored'), shard);
    }
    assert.equal(uuid.shardOf(binary(plain), 'stored'), shard);
  });

  test('that is none has no row, and what may be something else is not guessed', () => {
    for (const spelling of [
      '',
      `{${written}`,
      ` ${written}`,
      `${written}0`,
      `${written}-`,
      `-${written}`,
      written.replace('a0', 'a0-'),
    ]) {
      assert.equal(uuid.shardOf(literal(spelling), 'stored'), 'unmatched', spelling);
    }
    for (const key of [literal(written, 'text'), parameter(written, 25), integer('5'), binary('00'.repeat(15))]) {
      assert.equal(uuid.shardOf(key, 'compared'), 'unknown');
    }
  });
});

test('NULL equals nothing, and is stored in the first partition', () => {
  for (const sharder of [bigint, text, uuid]) {
    assert.equal(sharder.shardOf('null', 'compared'), 'unmatched');
    assert.equal(sharder.shardOf('null', 'stored'), 0);
  }
  assert.equal(new Sharder('sha1', 3).shardOf('null', 'stored'), 'unknown');
});

suite('arrays', () => {
  const array = (elements: readonly string[], type: number, dimensions = 1) => {
    const int32 = (value: number) => Buffer.from(new Uint32Array([value]).buffer).reverse();
    return Buffer.concat([
      ...[dimensions, 0, type, elements.length, 1].map(int32),
      ...elements.flatMap(hex => (hex === '-' ? [int32(-1)] : [int32(hex.length / 2), Buffer.from(hex, 'hex')])),
    ]).toString('hex');
  };

  test('give each answer once', () => {
    assert.deepEqual(bigint.elementsOf(literal('{0,1,2,"5",NULL, 6.5 ,null,x}')), [2, 0, 'unmatched', 'unknown']);
    assert.deepEqual(bigint.elementsOf(parameter('{0,6.5}', 1016)), [2, 'unmatched']);
    assert.deepEqual(bigint.elementsOf(literal('{0, 2}', '_int4')), [2, 0]);
    assert.deepEqual(bigint.elementsOf(parameter('{}')), []);
    assert.deepEqual(bigint.elementsOf('null'), []);
    assert.deepEqual(bigint.elementsOf(binary(array(['00000000', '-', '00000002'], 23))), [2, 'unmatched', 0]);
    assert.deepEqual(bigint.elementsOf(binary(array(['00000000'], 23), 1007)), [2]);
    assert.deepEqual(text.elementsOf(literal('{5}', '_int4')), ['unknown']);
    assert.deepEqual(text.elementsOf(literal('{"a\\"b",NULL,"NULL"}')), [
      text.shardOfText('a"b'),
      'unmatched',
      text.shardOfText('NULL'),
    ]);
  });

  test('that are none, nested, cut off or endless are not read', () => {
    const unread = [
      literal('{'),
      literal('{1,}'),
      literal('{1}}'),
      literal('{{1}}'),
      literal('[2:2]={1}'),
      literal('{a\\b}'),
      literal('{"1"2}'),
      literal('{1}', 'int4'),
      integer('1'),
      parameter('{1}', 20),
      parameter(`{${'1,'.repeat(5_000)}1}`),
      parameter(`{"${'x'.repeat(2 ** 18)}"}`),
      binary(''),
      binary(array(['00000000'], 23), 1016),
      binary(array(['00000000'], 23, 2)),
      binary(array(['00000000'], 23).slice(0, -2)),
      binary(`${array(['00000000'], 23)}00`),
      binary(array([], 23).replace(/(.{24})0{8}/, '$17fffffff')),
    ];
    for (const key of unread) assert.equal(bigint.elementsOf(key), undefined, JSON.stringify(key).slice(0, 100));
    const escapes = parameter(`{"${'\\\\'.repeat(2 ** 16)}","${'\\"'.repeat(2 ** 15)}"}`);
    assert.equal(text.elementsOf(escapes)?.length, 2);
  });
});

suite('ranges', () => {
  test('have the shards of their numbers', () => {
    assert.deepEqual(bigint.rangeOf(integer('0'), integer('1')), [2]);
    assert.deepEqual(bigint.rangeOf(integer('0'), parameter('2', 20)), [2, 0]);
    assert.deepEqual(bigint.rangeOf(integer('2'), integer('1')), []);
    assert.deepEqual(bigint.rangeOf(integer('1', true), integer('0')), [2]);
    assert.deepEqual(bigint.rangeOf(literal(INT8_MAX), literal(INT8_MAX)), [0]);
    assert.deepEqual(
      bigint.rangeOf(literal('4294967295'), literal('4294967297'))?.toSorted(),
      [...new Set(['4294967295', '4294967296', '4294967297'].map(key => bigint.shardOfText(key)))].toSorted(),
    );
  });

  test('that are wide or of something else are not read', () => {
    assert.equal(bigint.rangeOf(integer('0'), integer('256')), undefined);
    assert.equal(bigint.rangeOf(literal(INT8_MIN), literal(INT8_MAX)), undefined);
    assert.equal(bigint.rangeOf(integer('0'), decimal('0.5')), undefined);
    assert.equal(bigint.rangeOf('null', integer('1')), undefined);
    assert.equal(text.rangeOf(literal('a'), literal('a')), undefined);
  });
});
