/** What PostgreSQL sees of pglynx: which of its connections are at rest, and whether a pool can use all of them. */
import assert from 'node:assert/strict';
import { rowsOf } from '../client/backend.ts';
import type { RawClient } from '../client/raw.ts';
import { type Activity, eventually, type TestCluster } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';

/** Waits until every session that pglynx has on the primary is idle outside a transaction, and returns them. */
export async function settled(cluster: TestCluster, limit_ms = 5000): Promise<Activity[]> {
  let sessions: Activity[] = [];
  const inspect = async () => {
    sessions = await cluster.activity();
    return sessions.every(({ state }) => state === 'idle');
  };
  await eventually('pg_stat_activity shows idle sessions only', inspect, limit_ms).catch((error: Error) => {
    throw new Error(`${error.message}, but ${JSON.stringify(sessions)}`);
  });
  return sessions;
}

/** The server processes that serve `size` clients which hold a transaction each at the same time. */
export async function wholePool(proxy: TestProxy, size: number): Promise<number[]> {
  const clients = await Promise.all(Array.from({ length: size }, () => proxy.raw()));
  try {
    await Promise.all(clients.map(client => client.query('BEGIN')));
    const pids = await Promise.all(clients.map(backendPid));
    assert.equal(new Set(pids).size, size, 'each has a connection of its own');
    await Promise.all(clients.map(client => client.query('COMMIT')));
    return pids.sort((a, b) => a - b);
  } finally {
    await Promise.all(clients.map(client => client.close()));
  }
}

/** The server process that serves this client's next statement, or its transaction. */
export async function backendPid(client: RawClient): Promise<number> {
  const [[pid]] = rowsOf(await client.query('SELECT pg_backend_pid()'));
  return Number(pid);
}

/** How often each statement that matches ran, by its text, since {@link forgetStatements}. */
export async function statementCalls(cluster: TestCluster, pattern: string): Promise<Record<string, number>> {
  const rows = await cluster.sql<{ query: string; calls: string }>(
    `SELECT query, sum(calls) AS calls FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid
     WHERE r.rolname <> 'postgres' AND query ~ $1 GROUP BY query`,
    [pattern],
  );
  return Object.fromEntries(rows.map(({ query, calls }) => [query, Number(calls)]));
}

export async function forgetStatements(cluster: TestCluster): Promise<void> {
  await cluster.sql('SELECT pg_stat_statements_reset()');
}
