/** The ground that contenders run on: pgbench, and PostgreSQL with pgbench's tables. */
import { DemoCluster } from '../src/demo/cluster.ts';
import { findProgram, ProgramError, run } from './program.ts';
import { say } from './rounds.ts';

/** The database and its owner. */
export const NAME = 'bench';

export interface Ground {
  /** pgbench's path. */
  readonly tool: string;
  readonly cluster: DemoCluster;
}

/** Starts PostgreSQL for that many connections and fills the tables. */
export async function prepareGround(connections: number, scale: number): Promise<Ground> {
  const tool = findProgram('pgbench');
  if (tool === undefined)
    throw new ProgramError('pgbench is not installed (Debian: apt-get install postgresql-contrib)');
  const cluster = await DemoCluster.start({
    replicas: 0,
    roles: [{ name: NAME, method: 'trust' }],
    databases: [{ name: NAME, owner: NAME }],
    settings: {
      max_connections: connections + 20,
      shared_buffers: '256MB',
      shared_preload_libraries: '',
      autovacuum: false,
      // As PostgreSQL comes: a commit waits for the disk.
      fsync: true,
    },
    onProgress: say,
  });
  try {
    const { host, port } = cluster.primary;
    say(`pgbench -i -q -s ${scale}`);
    await run(tool, ['-h', host, '-p', String(port), '-U', NAME, '-i', '-q', '-s', String(scale), NAME]);
    return { tool, cluster };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}
