/** The kinds of value a setting can have, and what the schema records about a setting beside its type. */
import * as z from 'zod';
import { compileRegex } from './regex.ts';

/**
 * When a changed value takes effect: `restart`, with the next process; `live`, at the next event that reads it after a
 * reload; `pools`, at a reload, which gives the pools concerned their new settings.
 */
export type Reload = 'restart' | 'live' | 'pools';

/** What is known about a setting beside its type and default. */
export interface SettingInfo {
  /** What it does, in a sentence or two (Markdown). */
  readonly description: string;
  readonly reload: Reload;
  /** What holds while the key is absent, in words, where the schema itself has no default. */
  readonly unset?: string;
  /** Its value is never printed. */
  readonly secret?: true;
}

/** One key of a section, ready for documentation and SHOW CONFIG. */
export interface Setting extends SettingInfo {
  readonly key: string;
  /** The type in words. */
  readonly type: string;
  /** The schema's default; undefined where it has none. */
  readonly default: unknown;
  readonly required: boolean;
}

/** Holds the {@link SettingInfo} of every setting in the schema. */
export const settingInfo = z.registry<SettingInfo>();

/** Types that need other words than the schema's own. */
export const typeWords = z.registry<{ readonly words: string }>();

/** The longest timer that Node has, about 24 days; longer times count as this. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A time in milliseconds, `least` or more. */
export function milliseconds(least: number) {
  return z
    .int()
    .min(least)
    .transform(ms => Math.min(ms, LONGEST_TIMER_MS))
    .register(typeWords, { words: 'integer, ms' });
}

/** A time in seconds, `least` or more. */
export function seconds(least: number) {
  return z.int().min(least).register(typeWords, { words: 'integer, s' });
}

/** A whole number from `least` to `most`. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER) {
  return z.int().min(least).max(most).register(typeWords, { words: 'integer' });
}

/** A size in bytes from `least` to `most`. */
export function bytes(least: number, most = Number.MAX_SAFE_INTEGER) {
  return z.int().min(least).max(most).register(typeWords, { words: 'integer, bytes' });
}

/** A string that is not empty. */
export function text() {
  return z.string().min(1);
}

/** A host name or address; the brackets PgCat wants around an IPv6 address may stay or go. */
export function host() {
  return text().transform(name => name.replace(/^\[(.*)\]$/, '$1'));
}

/** Hosts to listen on: a list, or PgBouncer's string with commas. */
export function hosts() {
  const split = (value: unknown) => (typeof value === 'string' && value !== '' ? value.split(',') : value);
  const list = z.array(
    z.preprocess(value => (typeof value === 'string' ? value.trim() : value), host()),
    {
      error: issue => (issue.code === 'invalid_type' ? 'must be a string or a list of strings' : undefined),
    },
  );
  return z.preprocess(split, list).register(typeWords, { words: 'string, or list of strings' });
}

/** The directory of a Unix socket. */
export function directory() {
  return text().startsWith('/', { error: 'must be the full path of a directory' });
}

/** Permissions of a file, as chmod takes them: octal digits in a string. */
export function permissions() {
  return z
    .string()
    .regex(/^0?[0-7]{3}$/, { error: 'must be three octal digits in quotes, such as "0770"' })
    .transform(digits => digits.padStart(4, '0'))
    .register(typeWords, { words: 'string, octal' });
}

/** A milliseconds interval, or PgCat's boolean of 2022: true is every 15 s, false is never (undefined). */
export function interval() {
  return z
    .preprocess(value => (value === true ? 15_000 : value === false ? undefined : value), milliseconds(1).optional())
    .register(typeWords, { words: 'integer, ms, or boolean' });
}

/** One of `values`, in any spelling of case and underscores: PgCat takes `session`, `Session` and `PgBigintHash`. */
export function choice<const Value extends string>(
  values: readonly Value[],
  also: Readonly<Record<string, Value>> = {},
) {
  const plain = (word: string) => word.toLowerCase().replaceAll('_', '');
  const known = new Map<string, Value>([...Object.entries(also), ...values.map(value => [value, value] as const)]);
  const canonical = new Map([...known].map(([word, value]) => [plain(word), value]));
  return z.preprocess(
    value => (typeof value === 'string' ? (canonical.get(plain(value)) ?? value) : value),
    z.enum(values),
  );
}

/** A regular expression in Rust's syntax, whose first group is what it finds. */
export function regex() {
  return text()
    .superRefine((source, context) => {
      const message = regexProblem(source);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    })
    .register(typeWords, { words: 'string, regular expression' });
}

function regexProblem(source: string): string | undefined {
  try {
    if (compileRegex(source).groupCount() > 0) return undefined;
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return `is not a valid regular expression: ${thrown.message}`;
    throw thrown;
  }
  return 'finds nothing without a group: put what is to be found in ()';
}

/** The settings of a section in the order of its schema; nested tables that are no setting themselves are `a.b`. */
export function settingsOf(section: z.ZodObject, prefix = ''): Setting[] {
  return Object.entries(section.shape).flatMap(([key, schema]) => {
    const info = settingInfo.get(schema);
    if (info !== undefined) return [describe(prefix + key, schema, info)];
    return [...nestedObjects(schema)].flatMap(([name, nested]) => settingsOf(nested, `${prefix}${key}.${name}`));
  });
}

/** What stands inside defaults, options and conversions: the schema of the value itself, as the file has it. */
export function innermost(schema: z.core.$ZodType): z.core.$ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) return innermost(schema.def.innerType);
  if (schema instanceof z.ZodPipe) {
    return innermost(schema.def.in instanceof z.ZodTransform ? schema.def.out : schema.def.in);
  }
  return schema;
}

function* nestedObjects(schema: z.core.$ZodType): Generator<[string, z.ZodObject]> {
  const inner = innermost(schema);
  if (inner instanceof z.ZodObject) yield ['', inner];
  if (inner instanceof z.ZodRecord && inner.def.valueType instanceof z.ZodObject) yield ['N.', inner.def.valueType];
}

function describe(key: string, schema: z.core.$ZodType, info: SettingInfo): Setting {
  return {
    ...info,
    key,
    type: typeOf(schema),
    default: schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined,
    required: !(schema instanceof z.ZodDefault || schema instanceof z.ZodOptional),
  };
}

function typeOf(schema: z.core.$ZodType): string {
  const words = typeWords.get(schema)?.words;
  if (words !== undefined) return words;
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) return typeOf(schema.def.innerType);
  if (schema instanceof z.ZodPipe) return typeOf(innermost(schema));
  if (schema instanceof z.ZodEnum) return schema.options.map(option => `"${option}"`).join(', ');
  if (schema instanceof z.ZodArray) return `list of ${typeOf(schema.def.element)}`;
  if (schema instanceof z.ZodTuple) return `[${schema.def.items.map(typeOf).join(', ')}]`;
  if (schema instanceof z.ZodRecord) return 'tables';
  if (schema instanceof z.ZodObject) return 'table';
  return schema._zod.def.type;
}
