/** Temporary objects, cursors, statements, functions and copies: what is a session's or takes more than one message. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import * as frontend from '../client/frontend.ts';
import type { Loner } from './unshared-loner.ts';
import type { Mix } from './unshared-transactions.ts';

const { bind, copyData, copyDone, execute, parse, query, sync } = frontend;

/** What loners use. */
export const TABLES = `
  CREATE TABLE notes (note text, pid int DEFAULT pg_backend_pid(), at timestamptz DEFAULT clock_timestamp());
  CREATE TABLE rows (n int PRIMARY KEY); INSERT INTO rows SELECT generate_series(1, 100);
  CREATE SEQUENCE numbers;
  CREATE FUNCTION local_mark(mark text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
    BEGIN PERFORM set_config('mix.mark', mark, true); PERFORM pg_sleep(0.002); RETURN current_setting('mix.mark'); END $$;
  CREATE FUNCTION noted(words text) RETURNS int LANGUAGE sql VOLATILE AS $$
    INSERT INTO notes VALUES (words); SELECT pg_backend_pid() $$;
  CREATE PROCEDURE in_two(words text) LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO notes VALUES (words); PERFORM pg_sleep(0.002); COMMIT;
    PERFORM pg_sleep(0.002); INSERT INTO notes VALUES (words); END $$;
  GRANT ALL ON notes, rows TO PUBLIC; GRANT ALL ON SEQUENCE numbers TO PUBLIC; GRANT bob TO alice;`;

const noted = (loner: Loner, words: string) =>
  loner.seen(`SELECT ARRAY[pid, extract(epoch FROM at) * 1000]::text[] FROM notes WHERE note = $1 ORDER BY at`, [
    words,
  ]);

/** The rows that it noted were written on one server process, on which nobody else was meanwhile. */
async function notedAlone(loner: Loner, words: string): Promise<void> {
  const moments = (await noted(loner, words)).map(row => {
    assert.ok(Array.isArray(row));
    return loner.ran(row.map(String));
  });
  assert.equal(moments.length, 2, words);
  loner.alone(moments[0], moments[1], words);
  await loner.seen('DELETE FROM notes WHERE note = $1', [words]);
}

const TEMPORARY = [
  "CREATE TEMP TABLE mine AS SELECT '{n}' AS n",
  "CREATE TEMPORARY TABLE mine (n) ON COMMIT PRESERVE ROWS AS SELECT '{n}'",
  "CREATE LOCAL TEMP TABLE mine AS VALUES ('{n}')",
  "SELECT '{n}' AS n INTO TEMP mine",
  "CREATE TABLE pg_temp.mine AS SELECT '{n}'::text AS n",
  "CREATE TEMP VIEW mine AS SELECT '{n}' AS n",
] as const;

const OBJECT_MIXES: Readonly<Record<string, Mix>> = {
  'temporary tables and views': async loner => {
    const number = `${loner.number}`;
    for (const pattern of TEMPORARY) {
      const text = pattern.replace('{n}', number);
      await loner.run(text);
      // It was gone with its exchange, so there is room for another one.
      await loner.refused('SELECT * FROM mine', '42P01');
      await loner.within(text, async () => {
        await loner.run(text);
        await sleep(2);
        const rows = await loner.run('SELECT * FROM mine');
        assert.deepEqual(rows, [[number]]);
      });
      await loner.refused('SELECT * FROM mine', '42P01');
    }
    await loner.run(`CREATE TEMP SEQUENCE mine_too; SELECT nextval('mine_too')`);
    await loner.refused("SELECT nextval('mine_too')", '42P01');
  },

  cursors: async loner => {
    const next = async (cursor: string, n: number) => {
      assert.deepEqual(await loner.run(`FETCH ${cursor}`), [[`${loner.number}`, `${n}`]]);
    };
    for (const kind of ['CURSOR', 'SCROLL CURSOR', 'CURSOR WITH HOLD', 'BINARY CURSOR WITHOUT HOLD']) {
      const text = `DECLARE c ${kind} FOR SELECT '${loner.number}', n::text FROM generate_series(1, 5) AS n`;
      await loner.within(text, async () => {
        await loner.run(text);
        await next('c', 1);
        await sleep(2);
        await next('c', 2);
        await loner.run('MOVE 1 FROM c');
        await next('c', 4);
      });
      await loner.refused('FETCH c', '34000');
    }
    await loner.refused('DECLARE c CURSOR FOR SELECT 1', '25P01');
    await loner.run('DECLARE c CURSOR WITH HOLD FOR SELECT 1');
    await loner.refused('FETCH c', '34000');
  },

  'PREPARE, EXECUTE and DEALLOCATE': async loner => {
    const words = `loner ${loner.number}`;
    await loner.run(`PREPARE q AS SELECT '${words}'`);
    await loner.refused('EXECUTE q', '26000');
    assert.deepEqual(await loner.run(`PREPARE q AS SELECT '${words}'; EXECUTE q`), [[words]]);
    await loner.refused('DEALLOCATE q', '26000');
    await loner.within('PREPARE', async () => {
      await loner.run(`PREPARE q (text) AS SELECT '${words}' || $1`);
      await sleep(2);
      assert.deepEqual(await loner.run("EXECUTE q ('!')"), [[`${words}!`]]);
      if (loner.number % 2 === 0) await loner.run('DEALLOCATE q');
    });
    await loner.refused('EXECUTE q', '26000');
    await loner.run('DEALLOCATE ALL', 'DISCARD PLANS', 'DISCARD ALL');
  },

  'LISTEN, NOTIFY and UNLISTEN': async loner => {
    const { notifications } = loner.client;
    const channel = `channel_${loner.number}`;
    notifications.length = 0;
    await loner.within('LISTEN', async () => {
      await loner.run(`LISTEN ${channel}`, `NOTIFY ${channel}, 'one'`, `SELECT pg_notify('${channel}', 'two')`);
      assert.equal(notifications.length, 0);
    });
    assert.deepEqual(
      notifications.map(({ payload }) => payload),
      ['one', 'two'],
    );
    await loner.run(`LISTEN ${channel}`);
    await loner.moment();
    await loner.seen('SELECT pg_notify($1, $2)', [channel, 'to nobody']);
    await loner.run('SELECT 1', `UNLISTEN ${channel}`, 'UNLISTEN *', `NOTIFY ${channel}`);
    assert.equal(notifications.length, 2);
  },

  sequences: async loner => {
    await loner.run("SELECT nextval('numbers')", 'INSERT INTO notes (note) SELECT $$none$$ WHERE false');
    await loner.within('nextval', async () => {
      const number = await loner.value("nextval('numbers')");
      await sleep(2);
      assert.equal(await loner.value("currval('numbers')"), number);
      assert.equal(await loner.value('lastval()'), number);
    });
  },

  'LOAD, which needs a superuser': async loner => {
    await loner.refused("LOAD 'auto_explain'", '42501');
    await loner.run('BEGIN');
    await loner.refused("LOAD '$libdir/plugins/none'", '58P01');
    await loner.run('ROLLBACK');
  },
};

const PROGRAM_MIXES: Readonly<Record<string, Mix>> = {
  'functions of the user': async loner => {
    const mark = `mark ${loner.number}`;
    assert.equal(await loner.value(`local_mark('${mark}')`), mark);
    const left = "coalesce(current_setting('mix.mark', true), '')";
    assert.equal(await loner.value(left), '');
    await loner.within('local_mark', async () => {
      await loner.run(`SELECT local_mark('${mark}')`);
      assert.equal(await loner.value(left), mark);
    });
    const words = `function ${loner.number}`;
    await loner.run('BEGIN');
    await loner.run(`SELECT noted('${words}')`, 'SELECT pg_sleep(0.002)', `SELECT noted('${words}')`, 'COMMIT');
    await notedAlone(loner, words);
  },

  DO: async loner => {
    const words = `do ${loner.number}`;
    const note = `INSERT INTO notes VALUES ('${words}')`;
    const reply = await loner.send(
      query(`DO $$ BEGIN ${note}; RAISE NOTICE '${words}'; PERFORM pg_sleep(0.002); ${note}; END $$`),
    );
    assert.deepEqual(
      reply.notices.map(({ message }) => message),
      [words],
    );
    await notedAlone(loner, words);
    // A transaction after the other, in one statement.
    await loner.run(`DO $$ BEGIN ${note}; COMMIT; PERFORM pg_sleep(0.002); ${note}; END $$`);
    await notedAlone(loner, words);
  },

  CALL: async loner => {
    const words = `call ${loner.number}`;
    await loner.run(`CALL in_two('${words}')`);
    await notedAlone(loner, words);
    await loner.send(parse('', 'CALL in_two($1)'), bind('', '', [words]), execute(), sync());
    await notedAlone(loner, words);
  },

  COPY: async loner => {
    const { client } = loner;
    const words = `copy ${loner.number}`;
    const text = 'COPY notes (note) FROM STDIN';
    for (const begin of [[query(text)], [parse('', text), bind('', ''), execute(), sync()]]) {
      const replying = new Promise<void>((resolve, reject) => {
        const done = ({ error, tags }: Awaited<ReturnType<Loner['send']>>) =>
          error === undefined && tags[0] === 'COPY 2' ? resolve() : reject(new Error(`${error?.message}, ${tags}`));
        client.send([{ bytes: Buffer.concat([...begin, copyData(`${words}\n`)]), done }]);
      });
      await sleep(5);
      client.write(Buffer.concat([copyData(`${words}\n`), copyDone(), ...(begin.length > 1 ? [sync()] : [])]));
      await replying;
      await notedAlone(loner, words);
    }
    assert.deepEqual(await loner.run(`COPY (SELECT n, '${words}' FROM rows WHERE n < 3) TO STDOUT`), [
      [`1\t${words}\n`],
      [`2\t${words}\n`],
    ]);
  },
};

export const OBJECT_AND_PROGRAM_MIXES = { ...OBJECT_MIXES, ...PROGRAM_MIXES } as const;
