/** Shards for tests: databases of one server with the same tables, a pglynx in front, and a look at what is in them. */
import type { Client } from 'pg';
import { errorOf, type Fields, type Message, rowsOf, tagsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster, type TestClusterOptions } from '../cluster/index.ts';
import { type ProxyOptions, TestProxy } from '../proxy/index.ts';

/** Keys by their shard, of three: PgCat's vectors for `pg_bigint_hash`. */
export const KEYS = [
  [2, 4, 6, 8, 15],
  [3, 7, 10, 13, 14],
  [0, 1, 5, 9, 11],
] as const;

/** Three shards with a table `data`, and in front of them a pglynx that looks for `data.id`. */
const SCHEMA = 'CREATE TABLE data (id bigint, x int)';

export interface ShardsOptions {
  readonly cluster?: TestClusterOptions;
  /** Made in every shard; all may use it. */
  readonly schema?: string;
  readonly count?: number;
}

export class Shards {
  readonly cluster: TestCluster;
  /** The databases, by shard. */
  readonly names: readonly string[];
  readonly #admins: readonly Client[];

  private constructor(cluster: TestCluster, names: readonly string[], admins: readonly Client[]) {
    this.cluster = cluster;
    this.names = names;
    this.#admins = admins;
  }

  static async start({ cluster: options, schema = SCHEMA, count = 3 }: ShardsOptions = {}): Promise<Shards> {
    const cluster = await startCluster(options);
    const names = Array.from({ length: count }, (_, n) => `s${n}`);
    const admins: Client[] = [];
    for (const name of names) {
      await cluster.sql(`CREATE DATABASE ${name}`);
      const admin = await cluster.connect(cluster.primary, name);
      await admin.query(
        `${schema}; GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC`,
      );
      admins.push(admin);
    }
    await cluster.caughtUp();
    return new Shards(cluster, names, admins);
  }

  /** A pglynx that finds keys in `data.id`, and reads and writes, unless `pool` says otherwise. */
  proxy({ pool, ...options }: ProxyOptions = {}): Promise<TestProxy> {
    return TestProxy.start(this.cluster, {
      users: ['alice'],
      shards: this.names,
      ...options,
      pool: { query_parser_enabled: true, automatic_sharding_key: 'data.id', ...pool },
    });
  }

  /** The values of the first column of a query's rows, by shard. */
  async each(sql: string): Promise<string[][]> {
    const results = await Promise.all(this.#admins.map(admin => admin.query({ text: sql, rowMode: 'array' })));
    return results.map(({ rows }) => rows.map(([value]) => String(value)));
  }

  /** Keys of `data`, by shard. */
  keys(): Promise<string[][]> {
    return this.each('SELECT id FROM data ORDER BY id');
  }

  async stop(): Promise<void> {
    await Promise.allSettled(this.#admins.map(admin => admin.end()));
    await this.cluster.stop();
  }
}

/** What a reply is: its tags, its rows, its error, and the transaction status at its end. */
export interface Answer {
  readonly rows: (string | null)[][];
  readonly tags: string[];
  readonly error: Fields | undefined;
  readonly status: string;
}

export function answerOf(messages: readonly Message[]): Answer {
  const last = messages.at(-1);
  return {
    rows: rowsOf(messages),
    tags: tagsOf(messages),
    error: errorOf(messages),
    status: last?.type === 'Z' ? last.body.toString('latin1', 0, 1) : '',
  };
}

/** The ways in which a client may run a statement. Each gets the statement done, or its error, and then ReadyForQuery. */
export const WAYS: Readonly<Record<string, (client: RawClient, sql: string) => Promise<Answer>>> = {
  'as a simple query': async (client, sql) => answerOf(await client.query(sql)),
  'unnamed, with Sync': async (client, sql) => {
    client.send(frontend.parse('', sql), frontend.bind('', ''), frontend.execute(), frontend.sync());
    return answerOf(await client.ready());
  },
  'with Flush, and Sync later': async (client, sql) => {
    client.send(frontend.parse('', sql), frontend.describe('S', ''), frontend.flush());
    const head = await untilDescribed(client);
    if (head.at(-1)?.type !== 'E') {
      client.send(frontend.bind('', ''), frontend.execute(), frontend.flush());
      while (!['C', 'E', 'G'].includes(head.at(-1)?.type ?? '')) head.push(await client.message());
    }
    client.send(frontend.sync());
    return answerOf([...head, ...(await client.ready())]);
  },
  'prepared in front': async (client, sql) => {
    client.send(frontend.parse('prepared', sql), frontend.sync());
    const head = await client.ready();
    client.send(frontend.bind('', 'prepared'), frontend.execute(), frontend.sync());
    const answer = answerOf([...head, ...(await client.ready())]);
    client.send(frontend.close('S', 'prepared'), frontend.sync());
    await client.ready();
    return answer;
  },
};

async function untilDescribed(client: RawClient): Promise<Message[]> {
  const messages: Message[] = [];
  while (!['T', 'n', 'E'].includes(messages.at(-1)?.type ?? '')) messages.push(await client.message());
  return messages;
}
