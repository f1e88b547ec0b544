/** Servers with a user who may ask for the passwords of others, and what tests of logins through that look at. */
import assert from 'node:assert/strict';
import type { ClientConfig } from 'pg';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';

/** Who runs auth_query. */
export const ASKER = { name: 'asker', password: "asker's \\ password" } as const;

/** The keys of [general] for it; who is asked for is noted in a table. */
export const ASKING = {
  auth_query: "SELECT * FROM public.lookup('$1')",
  auth_query_user: ASKER.name,
  auth_query_password: ASKER.password,
} as const;

/** Answers as pg_shadow does. */
const LOOKUP = `CREATE FUNCTION lookup(who text, OUT usename text, OUT passwd text) RETURNS SETOF record
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
  BEGIN
    INSERT INTO public.asked VALUES (who);
    RETURN QUERY SELECT s.usename::text, s.passwd FROM pg_shadow s WHERE s.usename = who;
  END $$`;

/** A primary and as many replicas, which ask everybody but the superuser for a password as it is kept. */
export async function startAskedCluster(replicas = 0): Promise<TestCluster> {
  // As PostgreSQL itself, md5 is SCRAM for those who have a SCRAM verifier.
  const hba = ['host all postgres 127.0.0.1/32 trust', 'host all all 127.0.0.1/32 md5'];
  const cluster = await startCluster({ hba, replicas });
  await cluster.sql(`CREATE ROLE ${ASKER.name} LOGIN PASSWORD '${ASKER.password.replaceAll("'", "''")}'`);
  await cluster.sql('CREATE TABLE public.asked (who text)');
  await cluster.sql(LOOKUP);
  await cluster.sql('REVOKE ALL ON FUNCTION lookup FROM PUBLIC');
  await cluster.sql(`GRANT EXECUTE ON FUNCTION lookup TO ${ASKER.name}`);
  await cluster.sql(`GRANT SELECT ON pg_shadow TO ${ASKER.name}`);
  await cluster.caughtUp();
  return cluster;
}

/** Whom auth_query has been asked for, since the table was emptied. */
export async function asked(cluster: TestCluster): Promise<string[]> {
  const rows = await cluster.sql<{ who: string }>('SELECT who FROM public.asked ORDER BY who');
  return rows.map(({ who }) => who);
}

/** Who a client is to the server. */
export async function whoAmI(proxy: TestProxy, config: ClientConfig): Promise<unknown> {
  const client = await proxy.connect(config);
  try {
    const { rows } = await client.query('SELECT current_user AS "user", current_database() AS database');
    return rows[0];
  } finally {
    await client.end();
  }
}

/** Every login that fails here fails in the same words. */
export async function isRefused(proxy: TestProxy, config: ClientConfig): Promise<void> {
  await assert.rejects(proxy.connect(config), (error: Error & { code?: string }) => {
    assert.deepEqual(
      [error.code, error.message.replace(/".*"/s, '"..."')],
      ['28P01', 'password authentication failed for user "..."'],
    );
    return true;
  });
}
