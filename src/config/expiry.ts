/** Queries that let in whoever's password is no longer valid. */
import { isTable, type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

/** A notice for each `auth_query` that reads passwords where their end stands beside them, and does not look at it. */
export function forgottenExpiry(file: Table): Notice[] {
  const notice = (table: unknown, at: KeyPath): Notice[] => {
    const query = isTable(table) ? table.auth_query : undefined;
    if (typeof query !== 'string' || !/\bpg_(shadow|authid)\b/i.test(query) || /valuntil|rolvaliduntil/i.test(query))
      return [];
    return [{ path: [...at, 'auth_query'], message: `lets in users whose password has expired: ${ADVICE}` }];
  };
  return [
    ...notice(file.general, ['general']),
    ...tablesIn(file.pools).flatMap(([name, pool]) => notice(pool, ['pools', name])),
  ];
}

const ADVICE = 'ask for "CASE WHEN valuntil < now() THEN NULL ELSE passwd END" instead of passwd (CVE-2025-2291)';
