/** Settings and locks: each lasts as long as transaction pooling says, and is nobody else's. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import * as frontend from '../client/frontend.ts';
import { eventually } from '../cluster/index.ts';
import type { Loner } from './unshared-loner.ts';
import type { Mix } from './unshared-transactions.ts';

const { bind, execute, parse, sync } = frontend;

/** A setting is not the client's own any more once its exchange has ended: neither for itself nor for others. */
async function forgotten(loner: Loner, expression: string, usual: string): Promise<void> {
  for (let count = 0; count < 3; count++) assert.equal(await loner.value(expression), usual, expression);
}

/** The advisory locks that alice's sessions hold under these keys. */
const held = (loner: Loner, key: number) =>
  loner.seen("SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND objid = $1", [key]);

const MARK = "coalesce(current_setting('mix.mark', true), '')";

const SETTING_MIXES: Readonly<Record<string, Mix>> = {
  SET: async loner => {
    for (const text of ["SET work_mem = '7MB'", "SET SESSION mix.mark = 'set'", "SET SESSION work_mem TO '9MB'"]) {
      await loner.run(text);
      await sleep(1);
    }
    await forgotten(loner, "current_setting('work_mem')", '4MB');
    await forgotten(loner, MARK, '');
    await loner.within('SET', async () => {
      await loner.run("SET work_mem = '8MB'", "SET mix.mark = 'within'");
      assert.equal(await loner.value(`current_setting('work_mem') || ${MARK}`), '8MBwithin');
    });
    await forgotten(loner, "current_setting('work_mem')", '4MB');
    await loner.run(
      'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE',
      'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
    );
    await loner.run('RESET default_transaction_read_only', 'RESET ALL');
  },

  'SET of what servers report': async loner => {
    await loner.run("SET TimeZone = 'Asia/Tokyo'", "SET application_name = 'mine'", 'SET search_path = pg_catalog');
    for (let count = 0; count < 5; count++) {
      const shown =
        "current_setting('TimeZone') || current_setting('application_name') || current_setting('search_path')";
      assert.equal(await loner.value(shown), 'Asia/Tokyominepg_catalog');
    }
    await loner.run('RESET TimeZone', 'RESET application_name', 'RESET search_path');
  },

  'SET LOCAL': async loner => {
    await loner.run("SET LOCAL work_mem = '5MB'");
    await forgotten(loner, "current_setting('work_mem')", '4MB');
    await loner.within('SET LOCAL', async () => {
      await loner.run("SET LOCAL work_mem = '6MB'", "SET LOCAL TimeZone = 'Asia/Tokyo'");
      assert.equal(await loner.value("current_setting('work_mem') || current_setting('TimeZone')"), '6MBAsia/Tokyo');
    });
    await forgotten(loner, "current_setting('work_mem') || current_setting('TimeZone')", '4MBUTC');
  },

  'SET ROLE': async loner => {
    await loner.run('SET ROLE bob');
    await forgotten(loner, 'current_user', 'alice');
    await loner.within('SET ROLE', async () => {
      await loner.run('SET LOCAL ROLE bob');
      assert.equal(await loner.value('current_user'), 'bob');
    });
    await forgotten(loner, 'current_user', 'alice');
  },

  set_config: async loner => {
    const texts = [
      "SELECT set_config('mix.mark', 'config', false)",
      "SELECT length(upper(set_config('mix.mark', 'nested', 1 > 2)))",
      "SELECT * FROM set_config('mix.mark', 'from', false)",
      "WITH w AS (SELECT set_config('mix.mark', 'with', false)) SELECT * FROM w",
      "SELECT 1 WHERE set_config('mix.mark', 'where', false) = 'where'",
      "INSERT INTO notes VALUES ('gone') RETURNING set_config('mix.mark', 'returning', false)",
      "DELETE FROM notes WHERE note = set_config('mix.mark', 'gone', false)",
      "SELECT pg_catalog.set_config('work_mem', '3MB', false)",
    ];
    for (const text of texts) {
      await loner.run(text);
      await forgotten(loner, MARK, '');
      await loner.send(parse('', text), bind('', ''), execute(), sync());
      await forgotten(loner, MARK, '');
    }
    await forgotten(loner, "current_setting('work_mem')", '4MB');
    await loner.within('set_config', async () => {
      await loner.run("SELECT set_config('mix.mark', 'local', true)");
      assert.equal(await loner.value(MARK), 'local');
    });
    await forgotten(loner, MARK, '');
  },
};

const LOCK_MIXES: Readonly<Record<string, Mix>> = {
  'advisory locks of the session': async loner => {
    const key = 1000 + loner.number;
    for (const lock of [
      `SELECT pg_advisory_lock(${key})`,
      `SELECT pg_try_advisory_lock_shared(${key})`,
      `SELECT n, pg_advisory_lock(${key}) FROM rows WHERE n < 3`,
      `WITH w AS (SELECT pg_advisory_lock(${key})) SELECT count(*) FROM w WHERE w IS NOT NULL`,
    ]) {
      await loner.run(lock);
      await eventually(`the lock of ${lock} is gone`, async () => (await held(loner, key))[0] === 0);
      await loner.within(lock, async () => {
        await loner.run(lock);
        assert.deepEqual(await held(loner, key), [1]);
      });
      await eventually(`the lock of a transaction with ${lock} is gone`, async () => (await held(loner, key))[0] === 0);
    }
    await loner.within('pg_advisory_unlock', async () => {
      await loner.run(`SELECT pg_advisory_lock(${key})`);
      assert.equal(await loner.value(`pg_advisory_unlock(${key})`), 't');
      assert.deepEqual(await held(loner, key), [0]);
    });
  },

  'advisory locks of the transaction': async loner => {
    const key = 2000 + loner.number;
    await loner.run(`SELECT pg_advisory_xact_lock(${key})`);
    assert.deepEqual(await held(loner, key), [0]);
    await loner.within('pg_advisory_xact_lock', async () => {
      await loner.run(`SELECT pg_advisory_xact_lock(${key})`, 'SELECT 1');
      assert.deepEqual(await held(loner, key), [1]);
      assert.deepEqual(await loner.seen('SELECT pg_try_advisory_lock($1)', [key]), [false]);
    });
    assert.deepEqual(await held(loner, key), [0]);
  },

  'SELECT FOR UPDATE, and statements behind it': async loner => {
    const lock = `SELECT n FROM rows WHERE n = ${loner.number} FOR UPDATE`;
    const isFree = () =>
      loner.seen('SELECT n FROM rows WHERE n = $1 FOR UPDATE SKIP LOCKED', [loner.number]).then(rows => rows.length);
    await loner.run(lock);
    assert.equal(await isFree(), 1);
    await loner.within('FOR UPDATE', async () => {
      await loner.run(lock, 'SELECT 1');
      assert.equal(await isFree(), 0);
      await loner.run(`UPDATE rows SET n = n WHERE n = ${loner.number}`);
    });
    assert.equal(await isFree(), 1);
  },

  'LOCK TABLE': async loner => {
    const table = `locked_${loner.number}`;
    await loner.run(`CREATE TABLE ${table} ()`);
    const locks = () => loner.seen('SELECT 1 FROM pg_locks WHERE relation = $1::regclass AND granted', [table]);
    await loner.within('LOCK', async () => {
      await loner.run(`LOCK TABLE ${table}`, 'SELECT 1');
      assert.equal((await locks()).length, 1);
    });
    assert.equal((await locks()).length, 0);
    await loner.run(`DROP TABLE ${table}`);
  },
};

export const SESSION_MIXES = { ...SETTING_MIXES, ...LOCK_MIXES } as const;
