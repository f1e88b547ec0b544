/** The machine and the versions that numbers were made with. */

import { cpus, release, totalmem, type } from 'node:os';
import { VERSION } from '../src/version.ts';
import { findProgram, run } from './program.ts';

/** Lines of `name: value`, in the order of a report. */
export async function machine(postgres_version: string): Promise<Record<string, string>> {
  const processors = cpus();
  const memory_gib = (totalmem() / 2 ** 30).toFixed(1);
  return {
    machine: `${processors.length} x ${processors[0]?.model.trim() ?? 'unknown processor'}, ${memory_gib} GiB`,
    kernel: `${type()} ${release()}`,
    PostgreSQL: postgres_version,
    pgbench: await version('pgbench'),
    PgBouncer: await version('pgbouncer'),
    pglynx: `${VERSION} on Node ${process.versions.node}`,
  };
}

async function version(name: string): Promise<string> {
  const path = findProgram(name);
  if (path === undefined) return 'not installed';
  const [line = ''] = (await run(path, ['--version'])).split('\n');
  return line.replace(/^\D+/, '');
}
