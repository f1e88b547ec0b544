/** Transactions in every spelling, and what is only true within one. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import * as frontend from '../client/frontend.ts';
import { MOMENT } from './unshared-crowd.ts';
import type { Loner } from './unshared-loner.ts';

const { bind, execute, flush, parse, query, sync } = frontend;

/** What a loner does; it leaves no transaction open. */
export type Mix = (loner: Loner) => Promise<void>;

/** Each leaves a transaction open. */
const BEGINS = [
  'BEGIN',
  'begin',
  'BEGIN WORK',
  'bEgIn TrAnSaCtIoN',
  'START TRANSACTION',
  'START TRANSACTION READ ONLY',
  'BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE',
  'START TRANSACTION ISOLATION LEVEL REPEATABLE READ',
  ' \n\t\r\fBEGIN',
  '/* a */BEGIN/* b */',
  '/* /* nested */ COMMIT; */ begin -- work',
  "-- don't\nBEGIN",
  ';BEGIN',
  ' ;;\n/**/; BEGIN ;;',
  'BEGIN;',
  'BEGIN; SELECT 1',
  'SELECT 1; BEGIN',
  "SELECT 'COMMIT'; BEGIN; SELECT 'COMMIT'",
  'BEGIN; COMMIT; BEGIN',
  'COMMIT; BEGIN',
  'ROLLBACK; START TRANSACTION',
  'BEGIN; COMMIT AND CHAIN',
  'BEGIN; ROLLBACK AND CHAIN',
  'BEGIN; SAVEPOINT a; RELEASE a',
  'BEGIN; BEGIN',
  "BEGIN; SET LOCAL work_mem = '1MB'",
  'SET TRANSACTION READ WRITE; BEGIN',
] as const;

const ENDS = ['COMMIT', 'END', 'ROLLBACK', 'ABORT', ';; /* a */ commit work;', 'SELECT 1; COMMIT'] as const;

const extended = (text: string) => [parse('', text), bind('', ''), execute()];

/** BEGIN by other ways than a simple query. */
const BEGIN_MESSAGES: Readonly<Record<string, Buffer[]>> = {
  'an unnamed statement': [...extended('BEGIN'), sync()],
  'an unnamed statement with comments': [...extended('/* a */; begin work -- b'), sync()],
  'a named statement': [parse('b', 'BEGIN'), sync()],
  'a batch with a read in front': [...extended('SELECT 1'), ...extended('BEGIN'), sync()],
  'a batch with a read behind': [...extended('BEGIN'), ...extended('SELECT 1'), sync()],
  'a batch with a Flush': [...extended('BEGIN'), flush(), ...extended('SELECT 1'), sync()],
};

async function spelled(loner: Loner, words: string, begin: Buffer): Promise<void> {
  const { status } = await loner.send(begin);
  assert.equal(status, 'T', words);
  await loner.apart(words, () => loner.run(`SELECT '${words.replaceAll("'", "''")}'`));
  const end = ENDS[(words.length + loner.number) % ENDS.length];
  const reply = await loner.send(query(end));
  assert.equal(reply.status, 'I', end);
}

export const TRANSACTION_MIXES: Readonly<Record<string, Mix>> = {
  ...Object.fromEntries(
    BEGINS.map(text => [`${JSON.stringify(text)}`, (loner: Loner) => spelled(loner, text, query(text))]),
  ),

  ...Object.fromEntries(
    Object.entries(BEGIN_MESSAGES).map(([words, messages]) => [
      `BEGIN by ${words}`,
      async (loner: Loner) => {
        const isPrepared = words === 'a named statement';
        if (isPrepared) await loner.send(...messages);
        const bytes = isPrepared ? [bind('', 'b'), execute(), frontend.close('S', 'b'), sync()] : messages;
        await spelled(loner, words, Buffer.concat(bytes));
      },
    ]),
  ),

  'a transaction that failed, and one that went on': async loner => {
    await loner.run('BEGIN');
    await loner.refused('SELECT 1 / 0', '22012');
    await sleep(3);
    await loner.refused('SELECT 1', '25P02');
    await loner.run('ROLLBACK', 'BEGIN');
    await loner.apart('a savepoint', async () => {
      await loner.run('SAVEPOINT a');
      await loner.refused('SELECT 1 / 0', '22012');
      await sleep(3);
      await loner.run('ROLLBACK TO a');
    });
    await loner.run('END');
  },

  'chained transactions': async loner => {
    await loner.run('BEGIN');
    await loner.apart('chained transactions', async () => {
      await loner.run('COMMIT AND CHAIN', 'SELECT 1', 'ROLLBACK AND CHAIN');
    });
    await loner.run('END');
  },

  'one transaction has one number and one clock': async loner => {
    const marks = 'now(), pg_current_xact_id(), pg_current_snapshot()';
    await loner.run('BEGIN ISOLATION LEVEL REPEATABLE READ');
    const first = await loner.run(`SELECT ${marks}`);
    await loner.apart('a transaction', () => loner.run('SELECT count(*) FROM visits'));
    assert.deepEqual(await loner.run(`SELECT ${marks}`), first);
    await loner.run('COMMIT');
  },

  'a batch that is open between its Flush and its Sync': async loner => {
    const { client } = loner;
    const replying = new Promise<void>((resolve, reject) => {
      const done = ({ error, rows, status }: Awaited<ReturnType<Loner['send']>>) => {
        if (error !== undefined || status !== 'I') return reject(new Error(`${error?.message}, status ${status}`));
        const [from, to] = rows.map(row => loner.ran(row));
        loner.alone(from, to, 'an open batch');
        resolve();
      };
      client.send([{ bytes: Buffer.concat([...extended(`SELECT ${MOMENT}`), flush()]), done }]);
    });
    await sleep(5);
    client.write(Buffer.concat([...extended(`SELECT ${MOMENT}`), sync()]));
    await replying;
  },

  'a portal that is read in two parts': async loner => {
    const { client } = loner;
    const text = `SELECT ${MOMENT} FROM generate_series(1, 2)`;
    const replying = new Promise<void>((resolve, reject) => {
      const done = ({ error, rows }: Awaited<ReturnType<Loner['send']>>) => {
        if (error !== undefined) return reject(new Error(error.message));
        const [from, to] = rows.map(row => loner.ran(row));
        loner.alone(from, to, 'a portal');
        resolve();
      };
      client.send([{ bytes: Buffer.concat([parse('', text), bind('p', ''), execute('p', 1), flush()]), done }]);
    });
    await sleep(5);
    client.write(Buffer.concat([execute('p', 1), sync()]));
    await replying;
  },

  'a string of several statements is one transaction': async loner => {
    const id = `several ${loner.number}`;
    await loner.refused(`INSERT INTO notes VALUES ('${id}'); SELECT 1 / 0; SELECT 2`, '22012');
    assert.deepEqual(await loner.seen('SELECT 1 FROM notes WHERE note = $1', [id]), []);
    const rows = await loner.run(`SELECT ${MOMENT}; SELECT pg_sleep(0.003); SELECT ${MOMENT}`);
    const [from, , to] = rows;
    loner.alone(loner.ran(from), loner.ran(to), 'a string');
    const numbers = await loner.run('SELECT pg_current_xact_id(); SELECT pg_current_xact_id()');
    assert.deepEqual(numbers[0], numbers[1]);
  },

  'a prepared transaction': async loner => {
    const name = `two phases ${loner.number}`;
    await loner.run('BEGIN');
    await loner.apart(name, () => loner.run(`INSERT INTO notes VALUES ('${name}')`));
    const { status } = await loner.send(query(`PREPARE TRANSACTION '${name}'`));
    assert.equal(status, 'I');
    await loner.run('SELECT 1', `ROLLBACK PREPARED '${name}'`);
  },

  'commands that no transaction may hold': async loner => {
    const table = `vacuumed_${loner.number}`;
    await loner.run(`CREATE TABLE ${table} (n int)`, `VACUUM ${table}`, `CREATE INDEX CONCURRENTLY ON ${table} (n)`);
    await loner.run(`DROP TABLE ${table}`);
  },
};
