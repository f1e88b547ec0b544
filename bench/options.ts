/** The benchmark's command line. */
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util';
import { MODES, type Mode } from './pgbench.ts';
import { ProgramError } from './program.ts';

export interface BenchOptions {
  readonly modes: readonly Mode[];
  readonly clients: number;
  readonly connections: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly scale: number;
  readonly split: boolean;
  readonly profile: boolean;
  readonly json: boolean;
  readonly help: boolean;
}

/** Where CPU profiles go. */
export const PROFILES = '.tmp';

export const HELP = `npm run bench -- [simple] [extended] [prepared] [options]

Runs pgbench -S in these query modes (in all of them when none is named), and prints the medians of interleaved rounds.

  --clients N      clients of pgbench (64)
  --connections N  server connections of a pooler (4)
  --seconds N      length of a run (5)
  --rounds N       runs of each contender in each mode (5)
  --scale N        pgbench's scale factor (10)
  --split          pglynx once more, with read/write splitting
  --profile        write a CPU profile of pglynx into ${PROFILES}/
  --json           print JSON instead of tables

npm run bench -- routing [--rounds N]

Prints what it costs to judge a statement whose template is known, and one that has to be parsed.

npm run bench -- dispatch [case ...] [--rounds N] [--seconds N] [--profile] [--json]

Holds pglynx with shared dispatch against PgBouncer and against itself without, case by case, each with its target:
simple, extended, prepared, single, delay, mixed, idle, tpcb.`;

/** An option that is on or off. */
export const FLAG = { type: 'boolean', default: false } as const;

const OPTIONS = {
  clients: { type: 'string', default: '64' },
  connections: { type: 'string', default: '4' },
  seconds: { type: 'string', default: '5' },
  rounds: { type: 'string', default: '5' },
  scale: { type: 'string', default: '10' },
  split: FLAG,
  profile: FLAG,
  json: FLAG,
  help: FLAG,
} as const;

/** @throws ProgramError when an argument is not understood. */
export function parseOptions(args: readonly string[]): BenchOptions {
  const { values, positionals } = parsed(args, OPTIONS);
  return {
    ...values,
    modes: positionals.length === 0 ? MODES : positionals.map(modeNamed),
    clients: natural('clients', values.clients),
    connections: natural('connections', values.connections),
    seconds: natural('seconds', values.seconds),
    rounds: natural('rounds', values.rounds),
    scale: natural('scale', values.scale),
  };
}

/** The options and words among a program's arguments. @throws ProgramError when an option is not known. */
export function parsed<Options extends ParseArgsOptionsConfig>(args: readonly string[], options: Options) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options });
  } catch (error) {
    throw error instanceof TypeError ? new ProgramError(error.message) : error;
  }
}

function modeNamed(word: string): Mode {
  const mode = MODES.find(known => known === word);
  if (mode === undefined) throw new ProgramError(`${word} is no query mode: ${MODES.join(', ')}`);
  return mode;
}

/** @throws ProgramError when it is not a whole number from 1 up. */
export function natural(name: string, value: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1) throw new ProgramError(`--${name} must be a whole number from 1 up`);
  return number;
}
