/** Literals spelled in every way that PostgreSQL knows, with the value that each must have. */
import fc from 'fast-check';
import type { LiteralForm } from '../../src/sql/literal.ts';

/** A literal as it is written, and what it says. */
export interface Spelled {
  readonly written: string;
  readonly form: LiteralForm;
  readonly text: string;
}

const characters = fc.constantFrom(
  ...[
    "'",
    '\\',
    '$',
    '$$',
    '$q$',
    '"',
    'a',
    'n',
    'x41',
    'u0061',
    'é',
    'ü',
    '日',
    '😀',
    '\n',
    '\t',
    ' ',
    '--',
    '/*',
    '*/',
    ';',
    '%',
    '0',
    '1',
  ],
);
const value = fc.array(characters, { maxLength: 8 }).map(parts => parts.join(''));

/** Of `'..'`: quotes doubled; with backslashes, those doubled as well. */
function plain(text: string, backslashes: boolean): string {
  const quoted = text.replaceAll("'", "''");
  return backslashes ? quoted.replaceAll('\\', '\\\\') : quoted;
}

/** Of `E'..'`: every character escaped in one of the ways that it has. */
function escaped(text: string, ways: readonly number[]): string {
  return [...text]
    .map((character, index) => {
      const code = character.codePointAt(0) ?? 0;
      const hex = code.toString(16);
      const units = [...character.split('')]
        .map(unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
        .join('');
      const options = [units, `\\U${hex.padStart(8, '0')}`];
      if (code < 0x80)
        options.push(`\\x${hex}`.replace(/^\\x(.)$/, '\\x0$1'), `\\${code.toString(8).padStart(3, '0')}`);
      if (character === '\n') options.push('\\n', '\n', '\\\n');
      else if (character === "'") options.push("''", "\\'");
      else if (character === '\\') options.push('\\\\');
      else if (code >= 0x80) options.push(character);
      else if (!/[bfnrtvxuU0-7]/.test(character)) options.push(character, `\\${character}`);
      else options.push(character);
      return options[(ways[index] ?? 0) % options.length];
    })
    .join('');
}

/** Of `U&'..'`. */
function unicode(text: string, ways: readonly number[]): string {
  return [...text]
    .map((character, index) => {
      const hex = (character.codePointAt(0) ?? 0).toString(16);
      const units = [...character.split('')]
        .map(unit => `\\${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
        .join('');
      const self = character === "'" ? "''" : character === '\\' ? '\\\\' : character;
      return [units, `\\+${hex.padStart(6, '0')}`, self][(ways[index] ?? 0) % 3];
    })
    .join('');
}

const ways = fc.array(fc.nat(30), { minLength: 8, maxLength: 40 });
const gap = fc.constantFrom('\n', ' \n', '\n ', '\t\n\f', '\r', '\r\n \n');

/** `'..'` alone: all that may stand right after a word. */
export function plainString(backslashes: boolean): fc.Arbitrary<Spelled> {
  return fc.array(value, { minLength: 1, maxLength: 3 }).chain(parts =>
    gap.map(between => ({
      written: parts.map(part => `'${plain(part, backslashes)}'`).join(between),
      form: 'string' as const,
      text: parts.join(''),
    })),
  );
}

/** A string in any spelling. */
export function string(backslashes: boolean): fc.Arbitrary<Spelled> {
  const parts = fc.array(value, { minLength: 1, maxLength: 3 });
  const inParts = (prefix: string, spell: (text: string, ways: readonly number[]) => string) =>
    fc.tuple(parts, ways, gap).map(([texts, chosen, between]) => ({
      written: `${prefix}${texts.map(text => `'${spell(text, chosen)}'`).join(between)}`,
      form: 'string' as const,
      text: texts.join(''),
    }));
  const dollars = fc
    .tuple(value, fc.constantFrom('$$', '$q$', '$é1$', '$_$'))
    .filter(([text, tag]) => !`${text}${tag}`.slice(0, -1).includes(tag))
    .map(([text, tag]) => ({ written: `${tag}${text}${tag}`, form: 'string' as const, text }));
  const choices = [plainString(backslashes), inParts('E', escaped), inParts('e', escaped), dollars];
  // PostgreSQL refuses U&'..' where plain strings have escapes.
  return fc.oneof(...choices, ...(backslashes ? [] : [inParts('U&', unicode), inParts('u&', unicode)]));
}

const underscored = (digits: string, chosen: readonly number[]) =>
  [...digits]
    .map((digit, index) => (index > 0 && (chosen[index % chosen.length] ?? 0) % 5 === 0 ? `_${digit}` : digit))
    .join('');

/** An integer that fits int4; one to the base 10 where something follows that would go on with another. */
export function integer(decimal: boolean): fc.Arbitrary<Spelled> {
  const bases = decimal ? [10] : [10, 16, 8, 2];
  return fc
    .tuple(fc.nat(0x7fffffff), fc.constantFrom(...bases), ways, fc.nat(2))
    .map(([number, base, chosen, zeros]) => {
      const digits = underscored(`${'0'.repeat(zeros)}${number.toString(base)}`, chosen);
      const prefix = { 16: chosen[0] % 2 === 0 ? '0x' : '0X', 8: '0o', 2: '0B' }[base] ?? '';
      return { written: `${prefix}${digits}`, form: 'integer', text: String(number) };
    });
}

/** Any other number. */
export const decimal: fc.Arbitrary<Spelled> = fc
  .tuple(fc.bigInt(0n, 10n ** 20n), fc.bigInt(2147483648n, 2n ** 70n), fc.nat(5), fc.nat(99), ways)
  .map(([small, large, shape, exponent, chosen]) => {
    const digits = underscored(String(small), chosen);
    const fraction = `${digits}.${underscored(String(exponent), chosen)}`;
    const shapes = [String(large), `${digits}.`, fraction, `${digits}e${exponent}`, `${fraction}E-${exponent}`];
    const written = shapes[shape] ?? `0x${large.toString(16)}`;
    return { written, form: 'decimal', text: shape === 5 ? String(large) : written.replaceAll('_', '') };
  });

/** Bits of the kind that `B` or `X` says. */
export function bits(letter: string): fc.Arbitrary<Spelled> {
  const digit = letter === 'B' ? fc.constantFrom('0', '1') : fc.constantFrom(...'0123456789abcdefABCDEF');
  const lower = letter.toLowerCase();
  return fc
    .tuple(fc.array(fc.array(digit), { minLength: 1, maxLength: 2 }), gap, fc.boolean())
    .map(([parts, between, small]) => ({
      written: `${small ? lower : letter}${parts.map(part => `'${part.join('')}'`).join(between)}`,
      form: 'bits',
      text: `${lower}${parts.flat().join('')}`,
    }));
}
