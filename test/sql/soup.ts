/** Heaps of tokens: words, numbers, strings and marks that PostgreSQL's scanner reads together or apart. */
import fc from 'fast-check';

const WORDS = [
  ...[
    'SELECT',
    'select',
    'a',
    'e',
    'E',
    'b',
    'x',
    'n',
    'N',
    'u',
    'U',
    'U&',
    'float',
    'FLOAT',
    'uescape',
    'é',
    'a$1',
    '_',
  ],
  ...[
    '"a"',
    '"a""b"',
    '"float"',
    'U&"a"',
    'FROM',
    'AS',
    'explain',
    'values',
    'with',
    'SET',
    'interval',
    'timestamp',
    'not',
  ],
];
const NUMBERS = [
  ...['1', '0', '42', '2147483648', '1.5', '.5', '5.', '1e5', '1e', '1e+', '1.e5', '0x1F', '0xg', '0b1', '0o7', '0x_1'],
  ...['1_000', '1_', '$1', '$12', '$', '1..2', '007', '99999999999999999999', '1E-7', '0x80000000'],
];
const STRINGS = [
  ...[
    "'a'",
    "''",
    "'it''s'",
    "'\\'",
    "'\\\\'",
    "'a\\'b'",
    "E'a'",
    "e'\\n'",
    "E'\\'",
    "E'\\xff'",
    "E'\\u00e9'",
    "E'\\ud83d'",
  ],
  ...[
    "N'a'",
    "B'1'",
    "x'F'",
    "U&'a'",
    "U&'\\0061'",
    "u&'\\'",
    '$$a$$',
    '$$',
    '$a$',
    '$a$x$a$',
    "'--'",
    "'/*'",
    '$1$',
    "'",
  ],
];
const MARKS = [
  ...[
    '(',
    ')',
    '[',
    ']',
    ',',
    ';',
    '.',
    '..',
    ':',
    '::',
    ':=',
    '=>',
    '=',
    '<',
    '>=',
    '<>',
    '!=',
    '+',
    '-',
    '--',
    '*',
    '/',
  ],
  ...['/*', '*/', '@', '~', '!', '|', '||', '&', '#', '?', '%', '^', '`', '->', '@-', '<-', '"', '\\', '{', '\u00a0'],
];
const GAPS = [
  '',
  '',
  '',
  '',
  ' ',
  ' ',
  '  ',
  '\n',
  '\t',
  '\f\v',
  '\r\n',
  '/*c*/',
  '/* /* */ */',
  '--c\n',
  ' -- \n',
  '/**/',
];

/** Tokens one after the other, many of them glued. With `backslashes`, also the text in which E makes strings so. */
export function soup(backslashes: boolean): fc.Arbitrary<{ text: string; as_escaped: string }> {
  // No E before a quote that may be inside other quotes, and none at all where U& and N are.
  const isSafe = (token: string) => !/^[NUu"]|^(\$\$|\$a\$|'|'\\'|E'\\')$/.test(token);
  const tokens = backslashes ? STRINGS.filter(isSafe) : STRINGS;
  const marks = backslashes ? MARKS.filter(isSafe) : MARKS;
  const token = fc.oneof(
    fc.constantFrom(...WORDS),
    fc.constantFrom(...NUMBERS),
    fc.constantFrom(...tokens),
    fc.constantFrom(...marks),
    fc.constantFrom(...marks.slice(0, 22)),
  );
  const start = fc.constantFrom('SELECT ', 'SELECT ', 'select ', 'VALUES(', '(SELECT ', '');
  return fc
    .tuple(start, fc.array(fc.tuple(token, fc.constantFrom(...GAPS)), { maxLength: 9 }))
    .map(([first, parts]) => {
      let [text, as_escaped] = [first, first];
      for (const [part, gap] of parts) {
        // A letter before its quote must not end a word.
        const space = backslashes && part.includes("'") ? ' ' : '';
        text += `${space}${part}${gap}`;
        as_escaped += `${space}${backslashes && part.startsWith("'") ? 'E' : ''}${part}${gap}`;
      }
      return { text, as_escaped };
    });
}
