/** Writes src/sql/builtins.ts from the catalog of the PostgreSQL that the demo runs: `node scripts/make-builtins.ts`. */
import { writeFile } from 'node:fs/promises';
import { Client } from 'pg';
import { DemoCluster } from '../src/demo/cluster.ts';

const LINE_WIDTH = 118;

/**
 * The functions that SQL text may sensibly name. The others take or return types internal to the server, or their
 * description says by PostgreSQL's convention that they are the inside of an operator or an aggregate.
 */
const QUERY = `
  WITH function AS (
    SELECT proname::text AS name, provolatile = 'v' AS volatile,
      NOT proargtypes::regtype[] && ARRAY['internal', 'cstring']::regtype[]
      AND prorettype NOT IN (SELECT oid FROM pg_type WHERE typtype = 'p' AND typname ~ '^(internal|cstring|.*handler|.*trigger)$')
      AND (proname IN ('array_cat', 'starts_with') OR obj_description(oid, 'pg_proc') !~
        '^(implementation of .* operator|aggregate \\w+ function|less-equal-greater|window RANGE support)$')
      AS callable
    FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
  )
  SELECT name, bool_or(volatile) AS volatile FROM function GROUP BY name HAVING bool_or(callable)
  ORDER BY name COLLATE "C"`;

/** The text of src/sql/builtins.ts for the server that `client` is connected to. */
export async function builtinsSource(client: Client): Promise<string> {
  const { rows } = await client.query<{ name: string; volatile: boolean }>(QUERY);
  const { rows: versions } = await client.query<{ version: string }>(
    "SELECT split_part(current_setting('server_version'), '.', 1) AS version",
  );
  const table = (name: string, about: string, volatile: boolean) => {
    const names = rows.filter(row => row.volatile === volatile).map(row => row.name);
    return `/** ${about} */\nexport const ${name} = \`\n${wrap(names)}\n\`;\n`;
  };
  return [
    `/** The functions of PostgreSQL ${versions[0]?.version}, by volatility. Made by scripts/make-builtins.ts; do not edit. */\n`,
    table('STEADY', 'Names whose functions are all immutable or stable.', false),
    table('VOLATILE', 'Names with at least one volatile function.', true),
  ].join('\n');
}

function wrap(names: readonly string[]): string {
  const lines: string[] = [];
  let line = '';
  for (const name of names) {
    if (line !== '' && line.length + 1 + name.length > LINE_WIDTH) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? name : `${line} ${name}`;
  }
  return [...lines, line].join('\n');
}

if (import.meta.main) {
  const cluster = await DemoCluster.start({ replicas: 0, roles: [{ name: 'postgres', method: 'trust' }] });
  try {
    const { host, port } = cluster.primary;
    const client = new Client({ host, port, user: 'postgres', database: 'postgres' });
    await client.connect();
    const source = await builtinsSource(client);
    await client.end();
    await writeFile(new URL('../src/sql/builtins.ts', import.meta.url), source);
  } finally {
    await cluster.stop();
  }
}
