/** The command line of `npm run bench -- dispatch`. */
import { FLAG, natural, parsed } from '../options.ts';
import { ProgramError } from '../program.ts';
import type { Case } from './case.ts';
import { CASES } from './cases.ts';

export interface DispatchOptions {
  readonly cases: readonly Case[];
  readonly rounds: number;
  readonly seconds: number;
  readonly profile: boolean;
  readonly json: boolean;
  readonly help: boolean;
}

const OPTIONS = {
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '5' },
  profile: FLAG,
  json: FLAG,
  help: FLAG,
} as const;

/** @throws ProgramError when an argument is not understood. */
export function parseDispatchOptions(args: readonly string[]): DispatchOptions {
  const { values, positionals } = parsed(args, OPTIONS);
  return {
    ...values,
    cases: positionals.length === 0 ? CASES : positionals.map(caseNamed),
    rounds: natural('rounds', values.rounds),
    seconds: natural('seconds', values.seconds),
  };
}

function caseNamed(word: string): Case {
  const found = CASES.find(({ name }) => name === word);
  if (found === undefined) throw new ProgramError(`${word} is no case: ${CASES.map(({ name }) => name).join(', ')}`);
  return found;
}
