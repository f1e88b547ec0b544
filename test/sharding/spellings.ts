/** Keys as people and drivers write them, right and nearly right. */
import fc from 'fast-check';
import type { WrittenKey } from '../../src/sharding/sharder.ts';

/** Integers that fit into so many bits. */
export const whole = (bits: number) =>
  fc
    .oneof(
      { weight: 3, arbitrary: fc.bigInt({ min: -(2n ** BigInt(bits - 1)), max: 2n ** BigInt(bits - 1) - 1n }) },
      fc.bigInt({ min: -1000n, max: 1000n }),
      fc.constantFrom(-(2n ** BigInt(bits - 1)), -(2n ** BigInt(bits / 2)), 2n ** BigInt(bits - 1) - 1n),
    )
    .map(String);

export const words = fc.oneof(
  fc.string({ unit: fc.constantFrom(...'abcxyz019 _-', 'ü', '漢', '😀'), maxLength: 40 }),
  fc.string({ unit: 'grapheme-ascii', maxLength: 100 }),
);

/** A value as SQL has it, and as the sharder gets it. */
export interface Spelling {
  readonly sql: string;
  readonly key: WrittenKey;
}

export const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;

/** Digits of integers about every edge that there is. */
export const digits = fc
  .tuple(fc.constantFrom(0n, 2n ** 15n, 2n ** 31n, 2n ** 32n, 2n ** 63n), fc.bigInt({ min: -3n, max: 12n }))
  .map(([edge, n]) => `${edge + n < 0n ? -(edge + n) : edge + n}`);

/** What int8in, numeric_in and their like read, and what they nearly read. */
export const numberText = fc
  .tuple(
    fc.constantFrom('', '', '', '', '', ' ', '\t\n', '\u00a0'),
    fc.constantFrom('', '', '-', '+', '- '),
    fc.oneof(
      { weight: 4, arbitrary: digits },
      fc.bigInt({ min: 0n, max: 20n }).map(n => `0x${n.toString(16)}`),
      fc.bigInt({ min: 0n, max: 20n }).map(n => `0B${n.toString(2)}`),
      fc.string({ unit: fc.constantFrom(...'0123456789_xob.e'), maxLength: 6 }),
      fc.constantFrom('5.0', '5.', '.5', '1_0', '0x_f', '0x', '1__0', '1_', 'NaN', 'inf', '5e0', 'abc', '', '5x'),
    ),
    fc.constantFrom('', '', '', '', '', ' ', '\v\f', 'x'),
  )
  .map(parts => parts.join(''));

const cast = fc.option(fc.constantFrom('int2', 'int4', 'int8', 'int8', 'text', 'numeric', 'oid', 'float8'), {
  freq: 2,
  nil: undefined,
});

export const integerSpelling: fc.Arbitrary<Spelling> = fc.oneof(
  fc
    .record({ text: digits, fraction: fc.constantFrom('', '', '.', '.0', '.50', '.00'), negative: fc.boolean(), cast })
    .map(
      ({ text, fraction, negative, cast }): Spelling => ({
        sql: `${negative ? '-' : ''}${text}${fraction}${cast === undefined ? '' : `::${cast}`}`,
        key: {
          form: fraction === '' && Number(text) < 2 ** 31 ? 'integer' : 'decimal',
          text: text + fraction,
          negative,
          cast,
        },
      }),
    ),
  fc.record({ text: numberText, cast, negative: fc.boolean() }).map(
    ({ text, cast, negative }): Spelling => ({
      sql: `${negative ? '-' : ''}${quoted(text)}${cast === undefined ? '' : `::${cast}`}`,
      key: { form: 'string', text, cast, negative },
    }),
  ),
);

export const stringSpelling = (values: fc.Arbitrary<string>, casts: readonly (string | undefined)[]) =>
  fc.record({ text: values, cast: fc.constantFrom(...casts) }).map(
    ({ text, cast }): Spelling => ({
      sql: `${quoted(text)}${cast === undefined ? '' : `::${cast}`}`,
      key: { form: 'string', text, cast },
    }),
  );

export const someWord = fc.oneof(
  fc.constantFrom('', 'a', 'a ', ' a', 'ab      ', '12345678   ', 'ü', '漢字', "it's", 'a\\b', 'null', '5'),
  words,
);

export const someUuid = fc
  .tuple(
    fc.constantFrom('', '', '', '', '', '', '{', ' ', '-'),
    fc.bigInt({ min: 0n, max: 40n }),
    fc.constantFrom(0, 1, 1, 2, 2, 3, 3, 4),
    fc.constantFrom('', '', '', '', '', '', '}', ' '),
  )
  .map(([before, n, style, after]) => {
    const hex = n.toString(16).padStart(32, '0');
    const groups = [
      hex,
      hex.replace(/(.{4})(?=.)/g, '$1-'),
      hex.replace(/(.{8})(?=.)/g, '$1-').toUpperCase(),
      `{${hex}}`,
      `${hex}a`,
    ];
    return `${before}${groups[style]}${after}`;
  });

/** Bytes in the binary formats of integers, numerics, floats and of nothing. */
export const numberBytes = fc
  .tuple(fc.constantFrom(2, 4, 8, 8, 3, 10), fc.bigInt({ min: -12n, max: 20n }))
  .map(([length, n]) => {
    const bytes = Buffer.alloc(Math.max(8, length));
    bytes.writeBigInt64BE(n, bytes.length - 8);
    return bytes.subarray(bytes.length - length);
  });
