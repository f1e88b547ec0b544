/** The framer by property: however a stream is cut, the same messages come out, held, passed on or refused as they must be. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Framer, PART, type Part } from '../../src/wire/framer.ts';
import { HEADER_LENGTH, INSPECT_LENGTH_MAX, MESSAGE_LENGTH_MAX } from '../../src/wire/protocol.ts';

const EAGER = 'd'.charCodeAt(0);
const HELD = 'P'.charCodeAt(0);
const PLAIN = 'Q'.charCodeAt(0);
const HELD_LENGTH_MAX = 200_000;

const makeFramer = () => new Framer({ eager: [EAGER], held: { types: [HELD], length_max: HELD_LENGTH_MAX } });

/** A message as it was put together again from its parts. */
interface Framed {
  readonly type: number;
  readonly bytes: Buffer;
  /** Lengths of its parts; one means it came whole. */
  readonly parts: number[];
}

function message(type: number, body: Buffer): Buffer {
  const bytes = Buffer.alloc(HEADER_LENGTH + body.length);
  bytes[0] = type;
  bytes.writeUInt32BE(4 + body.length, 1);
  body.copy(bytes, HEADER_LENGTH);
  return bytes;
}

/** Feeds the chunks one after another and puts every message together; checks that parts come in their order. */
function frame(chunks: Iterable<Buffer>, framer = makeFramer()): Framed[] {
  const framed: Framed[] = [];
  let open: { type: number; pieces: Buffer[]; length: number } | undefined;
  for (const chunk of chunks) {
    framer.feed(chunk);
    for (let part: Part = framer.next(); part !== PART.none; part = framer.next()) {
      assert.notEqual(part, PART.bad, `refused a message of ${framer.length} bytes`);
      const begins = part === PART.whole || part === PART.first;
      assert.equal(open === undefined, begins, 'a part out of order');
      open ??= { type: framer.type, pieces: [], length: framer.length };
      open.pieces.push(framer.buffer.subarray(framer.start, framer.end));
      assert.equal(framer.streaming, part === PART.first || part === PART.middle);
      if (part === PART.whole || part === PART.last) {
        const bytes = Buffer.concat(open.pieces);
        assert.equal(bytes.length, open.length);
        framed.push({ type: open.type, bytes, parts: open.pieces.map(({ length }) => length) });
        open = undefined;
      }
    }
    assert.equal(framer.unread, false, 'none was said while bytes were left');
  }
  assert.equal(framer.atBoundary, open === undefined);
  return framed;
}

/** `bytes` cut at these positions. */
function cut(bytes: Buffer, positions: readonly number[]): Buffer[] {
  const ends = [...new Set(positions.map(at => at % (bytes.length + 1))), bytes.length].sort((a, b) => a - b);
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
}

const TYPE = fc.constantFrom(EAGER, HELD, PLAIN, 0, 255);
const SHORT = fc.tuple(TYPE, fc.uint8Array({ maxLength: 40 })).map(([type, body]) => message(type, Buffer.from(body)));
/** Lengths around every limit; the bytes count up, so that a byte out of place shows. */
const LONG = fc
  .tuple(TYPE, fc.constantFrom(0, 1, 250, INSPECT_LENGTH_MAX, HELD_LENGTH_MAX), fc.integer({ min: -6, max: 6 }))
  .map(([type, length, more]) => {
    const body = Buffer.alloc(Math.max(0, length + more));
    for (let at = 0; at < body.length; at++) body[at] = at * 7 + (at >> 8);
    return message(type, body);
  });

suite('a stream in pieces', () => {
  test('every pair of messages, cut at every pair of boundaries', () => {
    fc.assert(
      fc.property(SHORT, SHORT, (one, two) => {
        const stream = Buffer.concat([one, two]);
        for (let first = 0; first <= stream.length; first++) {
          for (let second = first; second <= stream.length; second += 3) {
            const framed = frame(cut(stream, [first, second]));
            assert.deepEqual(
              framed.map(({ bytes }) => bytes),
              [one, two],
            );
            const held = framed.filter(({ type }) => type !== EAGER);
            assert.ok(held.every(({ parts }) => parts.length === 1));
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  test('byte by byte', () => {
    fc.assert(
      fc.property(fc.array(SHORT, { maxLength: 6 }), messages => {
        const stream = Buffer.concat(messages);
        const bytes = Array.from({ length: stream.length }, (_, at) => stream.subarray(at, at + 1));
        assert.deepEqual(
          frame(bytes).map(({ bytes }) => bytes),
          messages,
        );
      }),
    );
  });

  test('messages of every length, cut anywhere: the same bytes, and parts that depend on nothing but limits', () => {
    fc.assert(
      fc.property(
        fc.array(LONG, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (messages, positions) => {
          const framed = frame(cut(Buffer.concat(messages), positions));
          assert.equal(framed.length, messages.length);
          for (const [index, { type, bytes, parts }] of framed.entries()) {
            assert.ok(bytes.equals(messages[index]), `message ${index} has other bytes`);
            if (type === EAGER) continue;
            const limit = type === HELD ? HELD_LENGTH_MAX : INSPECT_LENGTH_MAX;
            if (bytes.length <= limit) assert.equal(parts.length, 1, 'a message that fits was not held');
            else assert.ok(parts[0] >= INSPECT_LENGTH_MAX, `the head to inspect has ${parts[0]} bytes only`);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test('an eager message is passed on as it comes', () => {
    const bytes = message(EAGER, Buffer.alloc(100, 'x'));
    const framer = makeFramer();
    framer.feed(bytes.subarray(0, 4));
    assert.equal(framer.next(), PART.none);
    const seen: (readonly [Part, number])[] = [];
    for (const [from, to] of [
      [4, 5],
      [5, 40],
      [40, 105],
    ]) {
      framer.feed(bytes.subarray(from, to));
      seen.push([framer.next(), framer.end - framer.start]);
      assert.equal(framer.remaining, 105 - to);
      assert.equal(framer.next(), PART.none);
    }
    assert.deepEqual(seen, [
      [PART.first, 5],
      [PART.middle, 35],
      [PART.last, 65],
    ]);
  });

  test('whole messages of one chunk are slices of it: nothing is copied', () => {
    const chunk = Buffer.concat([message(PLAIN, Buffer.from('one')), message(HELD, Buffer.from('two'))]);
    const framer = makeFramer();
    framer.feed(chunk);
    for (const expected of [0, 8]) {
      assert.equal(framer.next(), PART.whole);
      assert.equal(framer.buffer, chunk);
      assert.equal(framer.start, expected);
    }
  });

  test('a part stays what it is while later chunks come', () => {
    const stream = Buffer.concat([message(PLAIN, Buffer.from('first')), message(PLAIN, Buffer.from('second'))]);
    const framer = makeFramer();
    const kept: Buffer[] = [];
    for (const chunk of cut(stream, [3, 12])) {
      framer.feed(Buffer.from(chunk));
      while (framer.next() !== PART.none) kept.push(framer.buffer.subarray(framer.start, framer.end));
    }
    assert.deepEqual(
      kept.map(bytes => bytes.toString('latin1', HEADER_LENGTH)),
      ['first', 'second'],
    );
  });
});

suite('lengths', () => {
  const header = (length: number) => {
    const bytes = Buffer.alloc(HEADER_LENGTH);
    bytes[0] = PLAIN;
    bytes.writeUInt32BE(length, 1);
    return bytes;
  };

  test('that no message has are refused as soon as they are there, in one piece or byte by byte', () => {
    for (const length of [0, 1, 2, 3, MESSAGE_LENGTH_MAX, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const framer = makeFramer();
      framer.feed(header(length));
      assert.equal(framer.next(), PART.bad, `${length} in one piece`);
      assert.equal(framer.type, PLAIN);
      assert.equal(framer.length, length + 1);
      assert.equal(framer.next(), PART.bad, 'and it stays so');
      const slow = makeFramer();
      const parts = Array.from(header(length), byte => {
        slow.feed(Buffer.from([byte]));
        return slow.next();
      });
      assert.deepEqual(parts, [PART.none, PART.none, PART.none, PART.none, PART.bad], `${length} byte by byte`);
      assert.equal(slow.length, length + 1);
    }
  });

  test('of four and of the longest message are fine', () => {
    const framer = makeFramer();
    framer.feed(header(4));
    assert.equal(framer.next(), PART.whole);
    framer.feed(header(MESSAGE_LENGTH_MAX - 1));
    assert.equal(framer.next(), PART.none);
    framer.feed(Buffer.alloc(INSPECT_LENGTH_MAX));
    assert.equal(framer.next(), PART.first);
    assert.equal(framer.length, MESSAGE_LENGTH_MAX);
  });

  test('have the limit of the phase', () => {
    const framer = makeFramer();
    framer.length_max = 20;
    framer.feed(header(19));
    assert.equal(framer.next(), PART.none);
    framer.feed(Buffer.concat([Buffer.alloc(15), header(20)]));
    assert.equal(framer.next(), PART.whole);
    assert.equal(framer.next(), PART.bad);
  });

  test('reserve no memory by themselves', () => {
    const framers = Array.from({ length: 2_000 }, makeFramer);
    const before_bytes = process.memoryUsage().arrayBuffers;
    const head = message(HELD, Buffer.alloc(0));
    head.writeUInt32BE(HELD_LENGTH_MAX - 1, 1);
    for (const framer of framers) {
      framer.feed(head);
      assert.equal(framer.next(), PART.none);
    }
    const grown_bytes = process.memoryUsage().arrayBuffers - before_bytes;
    assert.ok(grown_bytes < 20_000_000, `${grown_bytes} bytes for 2,000 headers`);
  });
});

test('a long message in small pieces costs time in proportion to its length', () => {
  const time_ms = (length: number) => {
    const framer = new Framer({ eager: [], held: { types: [HELD], length_max: 64_000_000 } });
    const piece = Buffer.alloc(64, 'x');
    const head = message(HELD, Buffer.alloc(0));
    head.writeUInt32BE(4 + length, 1);
    const began = performance.now();
    framer.feed(head);
    assert.equal(framer.next(), PART.none);
    for (let at = 0; at < length; at += piece.length) {
      framer.feed(piece);
      assert.equal(framer.next(), at + piece.length < length ? PART.none : PART.whole);
    }
    return performance.now() - began;
  };
  time_ms(1 << 20);
  const short_ms = time_ms(1 << 20);
  const long_ms = time_ms(1 << 24);
  assert.ok(long_ms < short_ms * 64 + 200, `1 MiB took ${short_ms} ms and 16 MiB ${long_ms} ms`);
});

suite('what stands next', () => {
  test('is known by its type before it is complete', () => {
    const framer = makeFramer();
    assert.equal(framer.nextType, undefined);
    framer.feed(Buffer.from([PLAIN]));
    assert.equal(framer.nextType, PLAIN);
    assert.equal(framer.next(), PART.none);
    assert.equal(framer.nextType, PLAIN, 'also once it is set aside');
    framer.feed(Buffer.concat([message(PLAIN, Buffer.alloc(0)).subarray(1), message(EAGER, Buffer.alloc(3))]));
    assert.equal(framer.next(), PART.whole);
    assert.equal(framer.nextType, EAGER);
    assert.equal(framer.next(), PART.whole);
    assert.equal(framer.nextType, undefined);
  });

  test('is unread until a part has covered it', () => {
    const framer = makeFramer();
    framer.feed(Buffer.concat([message(PLAIN, Buffer.alloc(1)), message(PLAIN, Buffer.alloc(1))]));
    assert.equal(framer.unread, true);
    framer.next();
    assert.equal(framer.unread, true);
    assert.equal(framer.atBoundary, false);
    framer.next();
    assert.equal(framer.unread, false);
    assert.equal(framer.atBoundary, true);
    framer.feed(message(PLAIN, Buffer.alloc(1)).subarray(0, 3));
    framer.next();
    assert.equal(framer.unread, false, 'a message set aside in part has been read');
    assert.equal(framer.atBoundary, false);
  });

  test('chunks fed before the last one was used up are not lost', () => {
    fc.assert(
      fc.property(fc.array(SHORT, { maxLength: 5 }), fc.array(fc.nat(), { maxLength: 8 }), (messages, positions) => {
        const framer = makeFramer();
        const stream = Buffer.concat(messages);
        const chunks = cut(stream, positions);
        const out: Buffer[] = [];
        const take = () => {
          const part = framer.next();
          if (part !== PART.none) out.push(Buffer.from(framer.buffer.subarray(framer.start, framer.end)));
          return part;
        };
        // One part a chunk: the rest waits, as it does for a client whose exchange is under way.
        for (const chunk of chunks) {
          framer.feed(chunk);
          take();
        }
        while (take() !== PART.none);
        assert.ok(Buffer.concat(out).equals(stream));
      }),
    );
  });

  test('can be taken back for another reader, the part set aside included', () => {
    fc.assert(
      fc.property(SHORT, SHORT, fc.nat(), fc.nat(), (one, two, at, set_aside) => {
        const stream = Buffer.concat([one, two]);
        const framer = makeFramer();
        const rest = stream.subarray(one.length);
        framer.feed(one);
        assert.notEqual(framer.next(), PART.none);
        const [head, tail] = cut(rest, [Math.min(at % rest.length, HEADER_LENGTH - 1)]);
        framer.feed(head);
        if (set_aside % 2 === 0) framer.next();
        if (tail !== undefined) framer.feed(tail);
        assert.ok(framer.takeUnread().equals(rest));
        assert.equal(framer.atBoundary, true);
        assert.equal(framer.next(), PART.none);
        assert.equal(framer.takeUnread().length, 0);
      }),
    );
  });
});
