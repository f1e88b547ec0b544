/** The demo command: a PostgreSQL cluster from npm with pglynx in front, until Ctrl-C. */
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { DemoCluster } from '../demo/cluster.ts';
import { DEMO_ADMIN, DEMO_USER, demoConfig } from '../demo/config.ts';
import { loadConfig } from '../index.ts';
import { Progress } from './progress.ts';
import { listenError, type Service, serve } from './serve.ts';

export interface DemoOptions {
  /** Where clients connect, on 127.0.0.1. */
  readonly port: number;
  readonly replicas: number;
  /** Leaves data and logs behind. */
  readonly keep: boolean;
}

const HOST = '127.0.0.1';

/**
 * Runs the demo until a signal ends it.
 * @throws DemoError or OperatorError with the reason when it cannot start; nothing is left behind then.
 */
export async function demo({ port, replicas, keep }: DemoOptions, logger: Logger): Promise<void> {
  const port_hint = `choose another port with demo --port ${port === 65_535 ? 6432 : port + 1}`;
  await refuseTakenPort(port, port_hint);
  const progress = new Progress();
  const cluster = await DemoCluster.start({
    replicas,
    keep,
    roles: [{ name: DEMO_USER, password: DEMO_USER, method: 'scram-sha-256' }],
    databases: [{ name: DEMO_USER, owner: DEMO_USER }],
    onProgress: step => progress.step(step),
  }).finally(() => progress.end());
  try {
    const file = join(cluster.folder, 'pgcat.toml');
    await writeFile(file, demoConfig(cluster, port));
    const service = await serve(loadConfig(file), { logger, port_hint, hangup: 'end' });
    console.log(welcome(cluster, service, file));
    await service.ended;
  } finally {
    await cluster.stop();
  }
  console.log(keep ? `stopped; data and logs are in ${cluster.folder}` : 'stopped; nothing is left behind');
}

/** Tells of a taken port before the work rather than after it. */
async function refuseTakenPort(port: number, port_hint: string): Promise<void> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', thrown => reject(listenError(thrown, `${HOST}:${port}`, port_hint) ?? thrown));
    probe.listen(port, HOST, () => probe.close(() => resolve()));
  });
}

function welcome(cluster: DemoCluster, { port }: Service, file: string): string {
  const url = `postgres://${DEMO_USER}:${DEMO_USER}@${HOST}:${port}/${DEMO_USER}`;
  const sql = 'SELECT inet_server_port() AS port, pg_is_in_recovery() AS replica';
  const servers = cluster.servers.map(server => `  ${server.name.padEnd(9)} ${server.host}:${server.port}`);
  return `
PostgreSQL ${cluster.version}:
${servers.join('\n')}
pglynx:
  listening ${HOST}:${port}, configured by ${file}

Reads go to the replicas; writes and transactions go to the primary. Try it:
  psql ${url} -c '${sql}'
  node --input-type=module -e 'import pg from "pg"; const c = new pg.Client("${url}"); await c.connect(); console.table((await c.query("${sql}")).rows); await c.end()'
  psql postgres://${DEMO_ADMIN}:${DEMO_ADMIN}@${HOST}:${port}/pgcat -c 'SHOW POOLS'

Ctrl-C stops everything.`;
}
