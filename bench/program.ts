/** Programs of this machine that the benchmark runs: where they are, and what they print. */
import { spawn } from 'node:child_process';
import { accessSync, constants, globSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { text } from 'node:stream/consumers';

/** A program is missing or has failed; the message is one line. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError';
}

/** Where distributions keep programs that are not in everybody's PATH. */
const MORE_PLACES = ['/usr/sbin', '/usr/local/sbin', '/usr/lib/postgresql/*/bin', '/usr/pgsql-*/bin'];

/** The path of a program, or undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const places = [
    ...(process.env.PATH ?? '').split(delimiter),
    ...MORE_PLACES.flatMap(place => globSync(place).sort().reverse()),
  ];
  return places.map(place => join(place, name)).find(isExecutable);
}

/** How a program is run. */
export interface RunOptions {
  readonly cwd?: string;
  /** When it is ended as hanging; never when absent. */
  readonly timeout_ms?: number;
}

/**
 * Runs a program to its end and returns its standard output.
 * @throws ProgramError when its exit code is not 0.
 */
export async function run(
  path: string,
  args: readonly string[],
  { cwd, timeout_ms }: RunOptions = {},
): Promise<string> {
  const child = spawn(path, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: timeout_ms });
  const code = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const [output, complaint, exit] = await Promise.all([text(child.stdout), text(child.stderr), code]);
  if (exit !== 0)
    throw new ProgramError(
      `${path} ${args.join(' ')}: ${complaint.trim() || (exit === null ? 'it was killed' : `exit code ${exit}`)}`,
    );
  return output;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
