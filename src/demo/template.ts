/** An initialised data folder with roles and databases in it, never started: servers are copies of it. */
import { join } from 'node:path';
import type { Binaries } from './binaries.ts';

/** How a client of the demo's servers proves who it is (pg_hba.conf's auth-method). */
export type AuthMethod = 'scram-sha-256' | 'md5' | 'password' | 'trust';

/** A role that can log in over TCP. */
export interface Role {
  readonly name: string;
  readonly password?: string;
  readonly method: AuthMethod;
}

/** A database and what is in it from the start. */
export interface Database {
  readonly name: string;
  readonly owner?: string;
  /** Statements that the superuser runs in it, one after another. */
  readonly sql?: readonly string[];
}

/** What a data folder contains. */
export interface TemplateContents {
  readonly roles: readonly Role[];
  readonly databases: readonly Database[];
}

/** The superuser of every server; it logs in through the socket in the cluster's folder, which is closed to others. */
export const SUPERUSER = 'postgres';

/**
 * Makes the data folder `folder`, which must not exist yet: initdb, then PostgreSQL's single-user mode for the SQL.
 * @throws DemoError when either fails.
 */
export async function createTemplate(binaries: Binaries, folder: string, contents: TemplateContents): Promise<void> {
  const cwd = join(folder, '..');
  const locale = ['--no-locale', '--encoding=UTF8'];
  // Small WAL segments make a folder that is quickly copied.
  const speed = ['--no-sync', '--wal-segsize=1', '--no-instructions'];
  await binaries.run('initdb', ['-D', folder, '-U', SUPERUSER, '-A', 'trust', ...locale, ...speed], { cwd });
  const singleUser = async (database: string, statements: readonly string[]) => {
    if (statements.length === 0) return;
    const args = ['--single', '-j', '-D', folder, '-c', 'exit_on_error=on', '-c', 'fsync=off', database];
    await binaries.run('postgres', args, { cwd, input: statements.map(sql => `${sql};\n\n`).join('') });
  };
  await singleUser('postgres', [
    ...contents.roles.flatMap(createRole),
    ...contents.databases.map(({ name, owner }) => `CREATE DATABASE ${ident(name)} OWNER ${ident(owner ?? SUPERUSER)}`),
  ]);
  for (const { name, sql = [] } of contents.databases) await singleUser(name, sql);
}

function createRole({ name, password, method }: Role): string[] {
  const encryption = method === 'md5' ? 'md5' : 'scram-sha-256';
  const secret = password === undefined ? '' : ` PASSWORD ${literal(password)}`;
  const verb = name === SUPERUSER ? 'ALTER' : 'CREATE';
  return [`SET password_encryption = '${encryption}'`, `${verb} ROLE ${ident(name)} LOGIN${secret}`];
}

function ident(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(value: string): string {
  return `E'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`;
}
