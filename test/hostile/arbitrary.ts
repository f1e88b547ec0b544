/** What attackers say: bytes near the edges of every length, name and grammar of the protocol. */
import fc from 'fast-check';
import * as frontend from '../client/frontend.ts';

const { cstring, int16, int32, message } = frontend;

/** Where signed and unsigned numbers of 1, 2 and 4 bytes part, and the limits of pglynx. */
const EDGES = [
  0, 1, 3, 4, 5, 7, 8, 9, 127, 128, 255, 256, 9_999, 10_000, 10_001, 32_767, 32_768, 65_534, 65_535, 65_536, 0x3ffffffe,
  0x3fffffff, 0x40000000, 0x7ffffffb, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0x80000004, 0xfffffff0,
  0xfffffffb, 0xfffffffc, 0xfffffffe, 0xffffffff,
];

/** A number of 4 bytes. */
export const edge = fc.oneof(
  { arbitrary: fc.constantFrom(...EDGES), weight: 3 },
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
);

const garbage = fc.uint8Array({ maxLength: 40 }).map(body => Buffer.from(body));

/** Text as an attacker spells it: quotes, backslashes, patterns, more than a name may have, other alphabets. */
export const name = fc.oneof(
  fc.constantFrom('alice', 'bench', 'pgcat', 'postgres', 'template1', 'pgbouncer', '*', '', ' ', '-c', '--'),
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is meant to be taken for one.
  fc.constantFrom(`a'; DROP TABLE kept; --`, 'a"b', '\\', '$1', '%s', '${a}', '../../x', '__proto__', 'constructor'),
  fc.integer({ min: 60, max: 2000 }).map(length => 'x'.repeat(length)),
  fc.string({ maxLength: 20, unit: 'binary' }).map(text => text.replaceAll('\0', '0')),
);

const parameter = fc.tuple(
  fc.oneof(
    fc.constantFrom('user', 'database', 'options', 'replication', 'application_name', 'client_encoding', '_pq_.x', ''),
    name,
  ),
  name,
);

/** Startup packets: most with one thing wrong, some with all. */
export const startupPacket = fc.oneof(
  fc.array(parameter, { maxLength: 6 }).map(pairs => frontend.startup(Object.fromEntries(pairs))),
  fc
    .record({ code: fc.oneof(edge, fc.constantFrom(0x30000, 0x30002, 0x20000)), body: garbage })
    .map(({ code, body }) => frontend.packet(code, body)),
  fc
    .record({ length: edge, code: fc.constantFrom(0x30000, 80877102, 80877103, 80877104), body: garbage })
    .map(({ length, code, body }) => frontend.packet(code, body, length)),
  fc.constantFrom(frontend.sslRequest(), frontend.gssRequest(), frontend.password('early'), frontend.query('SELECT 1')),
  garbage,
);

/** A gs2 header or an attribute, right or wrong. */
const attribute = fc.oneof(
  fc.constantFrom('n,', 'y,', 'p=tls-unique,', 'p=tls-server-end-point,', 'a=alice,', ',', ',,', '=', 'n=', 'n=alice,'),
  fc.constantFrom(
    'r=',
    'r=abc,',
    'r={nonce},',
    'c=biws,',
    'c=,',
    'p=',
    'p=AAAA',
    'm=ext,',
    'x=1,',
    'i=4096,',
    's=AA==,',
  ),
  fc.constantFrom(`p=${'A'.repeat(43)}=`, `r=${'n'.repeat(5000)},`, `r=${'n'.repeat(60_000)},`, '\0', '\xff', 'r'),
  fc.string({ maxLength: 8 }),
);

/** A SCRAM message, `{nonce}` standing for what the server sent: a right one with one part changed, or any parts. */
function scram(...parts: readonly string[]) {
  return fc.oneof(
    fc.array(attribute, { maxLength: 6 }).map(texts => texts.join('')),
    fc
      .record({ at: fc.nat(parts.length), removed: fc.nat(2), put: fc.array(attribute, { maxLength: 2 }) })
      .map(({ at, removed, put }) => [...parts.slice(0, at), ...put, ...parts.slice(at + removed)].join('')),
  );
}

/** What follows a startup packet whose user is to log in by SCRAM. */
export const saslExchange = fc.record({
  mechanism: fc.oneof(
    { arbitrary: fc.constant('SCRAM-SHA-256'), weight: 5 },
    fc.constantFrom('SCRAM-SHA-256-PLUS', '', 'PLAIN', 'x'.repeat(20_000)),
  ),
  first: scram('n,', ',', 'n=,', 'r=abcdefghijkl'),
  /** Undefined is the right length. */
  length: fc.option(edge, { nil: undefined, freq: 2 }),
  final: scram('c=biws,', 'r={nonce},', `p=${'A'.repeat(43)}=`),
  /** Whether the final message comes without waiting for the one of the server. */
  isHasty: fc.boolean(),
});

/** A SASLInitialResponse that may lie about the length of what it holds. */
export function saslInitialResponse(mechanism: string, response: string, length = Buffer.byteLength(response)): Buffer {
  return message('p', Buffer.concat([cstring(mechanism), int32(length), Buffer.from(response)]));
}

/** A word of `options`, or half of one. */
const word = fc.oneof(
  fc.constantFrom(
    '-c',
    '-c=',
    '--',
    '--=',
    '-c =',
    '-c a',
    '-c a=',
    '-c a=b',
    '-ca=b',
    '-c=a=b',
    '-',
    '=',
    '\\',
    '\\ ',
  ),
  fc.constantFrom('--search_path=', '--a-b=c', '-c role=postgres', '-c session_authorization=postgres', '-D', '-p 1'),
  fc.constantFrom('-c a.b.c=1', '-c a..b=1', "-c search_path='", '-c DateStyle=x', '-c work_mem=1TB', '\t', '\n', '\v'),
  fc.constantFrom('-c', '-c=', '--').map(text => text.repeat(200)),
  name,
);

/** The `options` of a startup packet. */
export const options = fc
  .record({ words: fc.array(word, { maxLength: 8 }), between: fc.constantFrom(' ', '', '  ', '\\', '\n') })
  .map(({ words, between }) => words.join(between).slice(0, 9000));

/** A message of a logged-in client whose numbers are at edges. */
export const edgyMessage = fc.oneof(
  fc
    .record({ type: fc.constantFrom(...'QPBDECSHFdcfXp\0?'), body: garbage, length: edge })
    .map(({ type, body, length }) => message(type, body, length)),
  fc.record({ counts: fc.array(edge, { minLength: 1, maxLength: 4 }), wide: edge, body: garbage }).map(
    // Bind: counts of formats, values and results, and the length of a value.
    ({ counts, wide, body }) =>
      message('B', Buffer.concat([Buffer.alloc(2), ...counts.map(short), int32(wide), body, Buffer.alloc(2)])),
  ),
  fc
    .record({ count: edge, body: garbage })
    .map(({ count, body }) => message('P', Buffer.concat([cstring('s'), cstring('SELECT $1'), short(count), body]))),
  fc
    .record({ oid: edge, counts: fc.array(edge, { maxLength: 3 }), wide: edge })
    .map(({ oid, counts, wide }) => message('F', Buffer.concat([int32(oid), ...counts.map(short), int32(wide)]))),
  fc.record({ max: edge }).map(({ max }) => message('E', Buffer.concat([cstring(''), int32(max)]))),
);

function short(number: number): Buffer {
  return int16((number << 16) >> 16);
}
