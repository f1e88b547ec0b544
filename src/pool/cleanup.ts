/** Makes a server connection fit for the next client: ends its transaction and takes back what a session left. */
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import type { SettingsProfile } from '../server/parameters.ts';
import { STATUS } from '../wire/protocol.ts';

/** What takes back each kind of leftover; each travels as a statement of its own, since several in one query would be one transaction. */
const CLEANUPS: readonly (readonly [number, readonly string[]])[] = [
  [DIRTY.cursors, ['CLOSE ALL']],
  [DIRTY.settings, ['RESET ROLE', 'RESET ALL']],
  [DIRTY.prepared, ['DEALLOCATE ALL']],
  [DIRTY.listen, ['UNLISTEN *']],
  [DIRTY.temp, ['DISCARD TEMP']],
  [DIRTY.sequences, ['DISCARD SEQUENCES']],
  [DIRTY.locks, ['SELECT pg_catalog.pg_advisory_unlock_all()']],
];

/** Every bit of {@link DIRTY}: after statements whose effects nobody can know. */
export const ALL_DIRTY = CLEANUPS.reduce((bits, [bit]) => bits | bit, 0);

/** Whether {@link cleanUp} has anything to do. */
export function needsCleanup(connection: ServerConnection): boolean {
  return connection.status !== STATUS.idle || connection.dirty !== 0;
}

/**
 * Cleans the connection, in at most `timeout` ms.
 * @throws Error a statement failed or took too long: the connection must be closed
 */
export async function cleanUp(
  connection: ServerConnection,
  defaults: SettingsProfile,
  enabled: boolean,
  timeout: number,
): Promise<void> {
  const timer = setTimeout(() => connection.close(`cleaning up took longer than ${timeout} ms`), timeout);
  try {
    const statements: string[] = [];
    let rolledBack: Promise<void> | undefined;
    // It is the error of this statement, if it is one, that ends the transaction.
    if ((connection.dirty & DIRTY.pipeline) !== 0)
      rolledBack = new Promise(resolve => connection.inject('ROLLBACK', () => resolve()));
    else if (connection.status !== STATUS.idle) statements.push('ROLLBACK');
    // RESET ALL leaves it as it is.
    const { user } = connection.options.identity;
    if ((connection.parameters.get('session_authorization') ?? user) !== user) {
      statements.push('RESET SESSION AUTHORIZATION');
    }
    const dirty = connection.dirty;
    connection.dirty = 0;
    if ((dirty & DIRTY.settings) !== 0) connection.profile = enabled ? defaults : undefined;
    if (enabled) for (const [bit, sql] of CLEANUPS) if ((dirty & bit) !== 0) statements.push(...sql);
    if (enabled && (dirty & DIRTY.prepared) !== 0) connection.statements.clear();
    await Promise.all([rolledBack, ...statements.map(sql => connection.run(sql))]);
    if (connection.status !== STATUS.idle) throw new Error('the connection did not become idle');
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Tests an idle connection with an empty query, as PgCat does.
 * @throws Error it failed, or took longer than `healthcheck_timeout` ms
 */
export async function healthCheck(connection: ServerConnection, healthcheck_timeout: number): Promise<void> {
  const timer = setTimeout(
    () => connection.close(`no answer to a health check in ${healthcheck_timeout} ms`),
    healthcheck_timeout,
  );
  try {
    await connection.run(';');
    if (connection.state !== 'ready') throw new Error('the connection was lost after its health check');
  } finally {
    clearTimeout(timer);
  }
}
