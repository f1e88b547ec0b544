/** What is wrong with a configuration file, in words and with its place. */
import type * as z from 'zod';
import { keysAt, SECTIONS } from './schema.ts';
import { didYouMean } from './spelling.ts';
import type { KeyPath, Notice } from './toml.ts';

/** One mistake in a file. */
export interface Problem {
  /** The key, as `pools.db.users.0.pool_size`; empty where the file as a whole is meant. */
  readonly path: string;
  /** From 1; 0 where the file has no such place, as when it cannot be read. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
  readonly message: string;
}

/** A configuration file that cannot be used, with all of its mistakes in the order of the file. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[];

  constructor(file: string, problems: readonly Problem[]) {
    super(problems.map(problem => problemLine(file, problem)).join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** `file:line:column: key: message`. */
export function problemLine(file: string, { path, line, column, message }: Problem): string {
  return [line > 0 ? `${file}:${line}:${column}` : file, ...(path === '' ? [] : [path]), message].join(': ');
}

/** What the schema found, one notice a mistake; the issues are of a parse with {@link issueText}. */
export function noticesOf(issues: readonly z.core.$ZodIssue[]): Notice[] {
  return issues.flatMap((issue): Notice[] => {
    const path = issue.path.map(step => (typeof step === 'number' ? step : String(step)));
    if (issue.code !== 'unrecognized_keys') return [{ path, message: issue.message }];
    return issue.keys.map(key => ({ path: [...path, key], message: unknownKeyText(path, key), about: 'key' }));
  });
}

/** Zod's error map: the words for an issue that the schema has none for. Quotes no string that could be a password. */
export function issueText(issue: z.core.$ZodRawIssue): string | undefined {
  const { input } = issue;
  switch (issue.code) {
    case 'invalid_type':
      if (input === undefined) return 'is required';
      return `must be ${KINDS[issue.expected] ?? issue.expected}, not ${kindOf(input)}`;
    case 'invalid_value':
      return input === undefined ? 'is required' : choiceText(input, issue.values.map(String));
    case 'too_small':
      return typeof input === 'number' ? `must be at least ${issue.minimum}, not ${input}` : 'must not be empty';
    case 'too_big':
      return typeof input === 'number' ? `must be at most ${issue.maximum}, not ${input}` : 'is too long';
    default:
      return undefined;
  }
}

function choiceText(input: unknown, values: readonly string[]): string {
  const quoted = values.map(value => `"${value}"`);
  const wanted = `must be ${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
  if (typeof input !== 'string') return `${wanted}, not ${kindOf(input)}`;
  return `${wanted}, not ${JSON.stringify(input)}${didYouMean(input, values)}`;
}

const KINDS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a whole number',
  string: 'a string',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'a table',
  record: 'a table',
};

function kindOf(value: unknown): string {
  if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : String(value);
  if (typeof value === 'boolean') return String(value);
  if (value instanceof Date) return 'a date';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'string' ? 'a string' : 'a table';
}

function unknownKeyText(at: KeyPath, key: string): string {
  const homes = SECTIONS.filter(({ schema }) => key in schema.shape).map(({ header }) => header);
  if (homes.length > 0) return `is not a setting here; its place is ${homes.join(' or ')}`;
  return `is not a setting${didYouMean(key, keysAt(at))}`;
}
