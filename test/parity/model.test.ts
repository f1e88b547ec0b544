/** Sixteen clients of random sessions at once get through pglynx, byte for byte, what each gets straight from PostgreSQL. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { ChaosProxy } from '../chaos/proxy.ts';
import { decode, type Message } from '../client/backend.ts';
import type { RawClient } from '../client/raw.ts';
import { startCluster, type TestCluster } from '../cluster/index.ts';
import { type ProxyOptions, type Servers, TestProxy } from '../proxy/index.ts';
import { type Mode, type Session, session, steps } from './arbitrary.ts';
import { type Cutter, difference, play, randomCutter, straightTo, through, words } from './script.ts';

/** Seconds for each test; set PGLYNX_MODEL_SECONDS for longer runs, PGLYNX_MODEL_SEED to repeat one. */
const SECONDS = Number(process.env.PGLYNX_MODEL_SECONDS ?? 5);
const SEED = Number(process.env.PGLYNX_MODEL_SEED ?? Date.now() % 2 ** 31);
const CLIENTS = 16;
const PARAMETERS = { application_name: 'model' };

let cluster: TestCluster;
const tables = Array.from({ length: CLIENTS }, (_, index) => `model_${index}`);
before(async () => {
  cluster = await startCluster();
  for (const table of tables) {
    await cluster.sql(`CREATE TABLE ${table} (n int PRIMARY KEY, s text); CREATE VIEW seen_${table} AS TABLE ${table}`);
    await cluster.sql(`GRANT ALL ON ${table}, seen_${table} TO PUBLIC`);
  }
});
after(() => cluster.stop());

/** Every table as it is at the start of a run. */
async function fill(): Promise<void> {
  await cluster.sql(
    `TRUNCATE ${tables.join()}; ${tables.map(table => `INSERT INTO ${table} VALUES (1, 'one'), (2, 'two')`).join(';')}`,
  );
}

/**
 * Errors that say no more than that the transaction has failed are told by whichever function looked first: where a
 * connection does not hold the client's statement yet, that is the one for Parse instead of the one for Bind.
 */
function masked(expected: readonly Message[], actual: readonly Message[]): Message[] {
  return actual.map((message, at) => {
    const wanted = expected[at];
    if (message.type !== 'E' || wanted?.type !== 'E' || message.body.equals(wanted.body)) return message;
    const [is, should] = [decode(message), decode(wanted)];
    if (is.name !== 'ErrorResponse' || should.name !== 'ErrorResponse' || is.fields.code !== '25P02') return message;
    return should.fields.code === '25P02' || should.fields.message?.startsWith('bind message supplies')
      ? wanted
      : message;
  });
}

/**
 * PostgreSQL's own confusion after a simple query inside a pipeline: which statement it hits depends on what pglynx
 * has prepared before, and another client never gets it.
 */
function isInternalError(message: Message): boolean {
  if (message.type !== 'E') return false;
  const decoded = decode(message);
  return decoded.name === 'ErrorResponse' && decoded.fields.code === 'XX000';
}

/** The clients of one side; they are used again as long as all is well. */
class Crowd {
  readonly #connect: () => Promise<RawClient>;
  #clients: RawClient[] = [];

  constructor(connect: () => Promise<RawClient>) {
    this.#connect = connect;
  }

  async play(sessions: readonly Session[], cutter?: Cutter): Promise<Message[][]> {
    if (this.#clients.length === 0) {
      this.#clients = await Promise.all(tables.map(() => this.#connect()));
    }
    const options = cutter === undefined ? {} : { cutter };
    return Promise.all(
      sessions.map((units, index) => play(this.#clients[index], steps(units, tables[index]), options)),
    );
  }

  leave(): void {
    for (const client of this.#clients.splice(0)) client.destroy();
  }
}

/** What has gone wrong, without the thousand arrow functions of a counterexample. */
function report({
  failed,
  seed,
  counterexamplePath,
  errorInstance,
}: fc.RunDetails<[readonly Session[], number]>): void {
  if (!failed) return;
  const text = errorInstance instanceof Error ? errorInstance.message : String(errorInstance);
  throw new Error(`seed ${seed}, path ${counterexamplePath}: ${text}`);
}

async function model(
  mode: Mode,
  pool_size: number,
  pool: ProxyOptions['pool'] = {},
  servers: Servers = cluster,
): Promise<string> {
  const options = { general: { connect_timeout: 60_000 }, pool: { pool_mode: mode, ...pool }, user: { pool_size } };
  let proxy = await TestProxy.start(servers, options);
  const straight = new Crowd(() => straightTo(cluster, PARAMETERS).connect());
  const crowd = new Crowd(() => through(proxy, PARAMETERS).connect());
  let runs = 0;
  const run = async (sessions: readonly Session[], cuts: number) => {
    try {
      await fill();
      const expected = await straight.play(sessions);
      await fill();
      const actual = await crowd.play(sessions, randomCutter(cuts));
      for (const [index, messages] of actual.entries()) {
        if (expected[index].some(isInternalError)) continue;
        const found = difference(expected[index], masked(expected[index], messages));
        assert.ok(found === undefined, `${found}\nof the session\n${words(steps(sessions[index], tables[index]))}`);
      }
      runs++;
    } catch (error) {
      // What is left of a failed run must not spoil the next one, which looks for a smaller example.
      straight.leave();
      crowd.leave();
      await proxy.stop();
      proxy = await TestProxy.start(servers, options);
      throw error;
    }
  };
  let running = Promise.resolve();
  const property = fc.asyncProperty<[readonly Session[], number]>(
    fc.array(session(mode, 8), { minLength: CLIENTS, maxLength: CLIENTS }),
    fc.nat(),
    (sessions: readonly Session[], cuts: number) => {
      running = run(sessions, cuts);
      return running;
    },
  );
  try {
    await fc.assert(property, {
      seed: SEED,
      numRuns: 1_000_000,
      interruptAfterTimeLimit: SECONDS * 1000,
      markInterruptAsFailure: false,
      reporter: report,
    });
  } finally {
    // The run that the time limit interrupted.
    await running.catch(() => {});
    straight.leave();
    crowd.leave();
    await proxy.stop();
  }
  assert.ok(runs > 0);
  return `seed ${SEED}: ${runs} runs of ${CLIENTS} clients`;
}

suite('random sessions', () => {
  test('in transaction mode, over three connections', async context =>
    context.diagnostic(await model('transaction', 3)));
  test('in transaction mode, every statement inspected, over two narrow connections with room for two statements', async context => {
    await using narrow = await ChaosProxy.start(cluster.primary, { piece_bytes: 61 });
    const pool = { query_parser_enabled: true, primary_reads_enabled: true, prepared_statements_cache_size: 2 };
    context.diagnostic(await model('transaction', 2, pool, { servers: [narrow] }));
  });
  test('in session mode', async context => context.diagnostic(await model('session', CLIENTS)));
});
