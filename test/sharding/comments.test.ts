/** What comments ask for is done for their statement alone, in both protocols; what they ask for wrongly is an error. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import * as frontend from '../client/frontend.ts';
import type { RawClient } from '../client/raw.ts';
import { DATABASE } from '../cluster/index.ts';
import type { TestProxy } from '../proxy/index.ts';
import { answerOf, KEYS, Shards, WAYS } from './shards.ts';

const { bind, execute, parse, query, sync } = frontend;

const WHERE = 'SELECT current_database(), pg_is_in_recovery()';

let shards: Shards;
before(async () => {
  shards = await Shards.start({ cluster: { replicas: 1 } });
});
after(() => shards?.stop());

/** Sends many statements and returns the database that each ran in. */
async function places(client: RawClient, sql: string, count: number): Promise<(string | null)[]> {
  client.send(...Array.from({ length: count }, () => query(sql)));
  const found: (string | null)[] = [];
  for (let n = 0; n < count; n++) found.push(answerOf(await client.ready()).rows[0][0]);
  return found;
}

suite('pglynx comments', () => {
  let proxy: TestProxy;
  before(async () => {
    proxy = await shards.proxy();
  });
  after(() => proxy.stop());

  const RIGHT: readonly (readonly [string, string, string])[] = [
    [`/* pglynx: shard=1 */ ${WHERE}`, 's1', 't'],
    [`${WHERE} -- pglynx: shard=2`, 's2', 't'],
    [`SELECT /*pglynx:shard='2',role=primary*/ current_database(), pg_is_in_recovery()`, 's2', 'f'],
    [`/* pglynx: role=primary */ ${WHERE}`, 's0', 'f'],
    [`/* pglynx: role=replica */ ${WHERE}`, 's0', 't'],
    [`/* pglynx: key=5 */ ${WHERE}`, 's2', 't'],
    [`/* pglynx: key=-1 role=primary */ ${WHERE}`, 's2', 'f'],
    [`/* pglynx: key='3' */ ${WHERE}`, 's1', 't'],
    [`/* pglynx: role=replica key=3 */ ${WHERE}, count(*) FROM data`, 's1', 't'],
    [`/* pglynx: shard=2 */ ${WHERE}, count(*) FROM data WHERE id = 2`, 's2', 't'],
    ['/* pglynx: role=primary */ SELECT count(*) FROM data', '', ''],
    [`SELECT '/* pglynx: shard=1 */' = '', ${WHERE.slice(7)}`, 'f', 's0'],
    [`/* x pglynx: shard=1 */ ${WHERE}`, 's0', 't'],
  ];

  for (const [way, run] of Object.entries(WAYS)) {
    test(`are followed ${way}, for one statement`, async () => {
      await using client = await proxy.raw();
      for (const [sql, ...expected] of RIGHT) {
        const { rows, error } = await run(client, sql);
        if (expected[0] === '') assert.equal(error?.code, '0A000', sql);
        else {
          assert.equal(error, undefined, `${sql}: ${error?.message}`);
          const compared = way.startsWith('with Flush') && !sql.includes('role=') ? 1 : 2;
          assert.deepEqual(rows[0].slice(0, compared), expected.slice(0, compared), sql);
        }
        assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s0', 't']], sql);
      }
    });
  }

  const WRONG: readonly (readonly [string, RegExp])[] = [
    ['/* pglynx: shard=3 */ SELECT 1', /shard 3 is not configured: the pool has 3/],
    ['/* pglynx: shard=-1 */ SELECT 1', /shard must be the number of a shard/],
    ['/* pglynx: shard=one */ SELECT 1', /shard must be the number of a shard, not "one"/],
    ['/* pglynx: role=master */ SELECT 1', /role must be primary, replica or any/],
    ['/* pglynx: key=five */ SELECT 1', /"five" is no sharding key/],
    ['/* pglynx: shrad=1 */ SELECT 1', /"shrad" is unknown/],
    ['/* pglynx: shard */ SELECT 1', /role=, shard= or key= with a value is expected/],
    ['/* pglynx: */ SELECT 1', /role=, shard= or key= is expected/],
    ['/* pglynx: shard=1 shard=2 */ SELECT 1', /shard is asked to be "1" and "2"/],
    ['/* pglynx: shard=1 */ SELECT 1 -- pglynx: shard=2', /shard is asked to be/],
    ['/* pglynx: role=any role=primary */ SELECT 1', /role is asked to be/],
    ['/* pglynx: shard=1 key=3 */ SELECT 1', /shard and key exclude each other/],
    ["/* pglynx: shard=1 */ SELECT 1; SELECT 'x' /* pglynx: shard=2 */", /shard is asked to be/],
  ];
  for (const [way, run] of Object.entries(WAYS)) {
    test(`that are wrong are an error ${way}`, async () => {
      await using client = await proxy.raw();
      for (const [sql, says] of WRONG) {
        // Statements of a text cannot be prepared together.
        if (sql.includes(';') && way !== 'as a simple query') continue;
        const { error, rows, tags, status } = await run(client, sql);
        assert.equal(error?.code, '22023', `${sql}: ${error?.message}`);
        assert.match(error.message, says, sql);
        assert.deepEqual([rows, tags, status], [[], [], 'I'], sql);
        assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s0', 't']], sql);
      }
    });
    test(`that are wrong fail a transaction ${way}`, async () => {
      await using client = await proxy.raw();
      for (const [sql] of WRONG.slice(0, 5)) {
        await client.query('BEGIN');
        await client.query('INSERT INTO data VALUES (2)');
        const { error, status } = await run(client, sql);
        assert.deepEqual([error?.code, status], ['22023', 'E'], sql);
        assert.deepEqual(answerOf(await client.query('COMMIT')).tags, ['ROLLBACK'], sql);
      }
      assert.deepEqual(await shards.keys(), [[], [], []]);
    });
  }

  test('of a prepared statement are followed whenever it runs, whatever was prepared since', async () => {
    await using client = await proxy.raw();
    for (const [shard] of KEYS.entries()) {
      client.send(parse(`s${shard}`, `/* pglynx: shard=${shard} */ ${WHERE}, $1::int AS n`), sync());
      await client.ready();
    }
    for (let round = 0; round < 10; round++) {
      for (const [shard] of KEYS.entries()) {
        client.send(bind('', `s${shard}`, [String(round)]), execute(), sync());
        assert.deepEqual(answerOf(await client.ready()).rows, [[`s${shard}`, 't', String(round)]]);
      }
    }
    // Two that contradict each other in one batch.
    client.send(bind('', 's1', ['1']), execute(), bind('', 's2', ['1']), execute(), sync());
    const { error, rows } = answerOf(await client.ready());
    assert.deepEqual([error?.code, rows], ['22023', []]);
  });

  test('go before what the client chose, and that before the key of a statement', async () => {
    await using client = await proxy.raw();
    await client.query('SET SHARD TO 1');
    assert.deepEqual(answerOf(await client.query(`/* pglynx: shard=2 */ ${WHERE}`)).rows, [['s2', 't']]);
    const byKey = `${WHERE}, count(*) FROM data WHERE id = 5`;
    assert.deepEqual(answerOf(await client.query(byKey)).rows, [['s1', 't', '0']]);
    await client.query('SET SERVER ROLE TO primary');
    assert.deepEqual(answerOf(await client.query(`/* pglynx: role=replica */ ${WHERE}`)).rows, [['s1', 't']]);
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 'f']]);
  });

  test('role=replica of a write is refused by the replica, and nobody tries it elsewhere', async () => {
    await using client = await proxy.raw();
    const { error } = answerOf(await client.query('/* pglynx: role=replica */ INSERT INTO data VALUES (2)'));
    assert.equal(error?.code, '25006');
    assert.deepEqual(await shards.keys(), [[], [], []]);
  });

  test('begin a transaction where they say', async () => {
    await using client = await proxy.raw();
    await client.query('BEGIN /* pglynx: key=5 */');
    assert.deepEqual(answerOf(await client.query('INSERT INTO data VALUES (5) RETURNING current_database()')).rows, [
      ['s2'],
    ]);
    await client.query('ROLLBACK');
    await client.query('BEGIN /* pglynx: shard=1 role=replica */');
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 't']]);
    await client.query('COMMIT');
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s0', 't']]);
  });
});

test('comments are followed without a parser, too', async () => {
  await using plain = await shards.proxy({
    pool: { query_parser_enabled: false, query_parser_read_write_splitting: false, default_role: 'primary' },
  });
  await using client = await plain.raw();
  for (const run of Object.values(WAYS)) {
    for (const [shard, [key]] of KEYS.entries()) {
      assert.deepEqual((await run(client, `/* pglynx: shard=${shard} */ ${WHERE}`)).rows, [[`s${shard}`, 'f']]);
      assert.deepEqual((await run(client, `/* pglynx: key=${key} role=replica */ ${WHERE}`)).rows, [
        [`s${shard}`, 't'],
      ]);
    }
    assert.equal((await run(client, '/* pglynx: shard=3 */ SELECT 1')).error?.code, '22023');
  }
});

suite("the pool's own expressions", () => {
  let proxy: TestProxy;
  before(async () => {
    proxy = await shards.proxy({
      pool: {
        shard_id_regex: '/\\* shard_id: (-?\\w+) \\*/',
        sharding_key_regex: '/\\* sharding_key: (-?\\w+) \\*/',
        regex_search_limit: 100,
      },
    });
  });
  after(() => proxy.stop());

  for (const [way, run] of Object.entries(WAYS)) {
    test(`find shards and keys ${way}, for one statement`, async () => {
      await using client = await proxy.raw();
      const place = async (sql: string) => {
        const { rows, error } = await run(client, sql);
        return error?.code ?? rows[0][0];
      };
      for (const [shard, keys] of KEYS.entries()) {
        assert.equal(await place(`/* shard_id: ${shard} */ ${WHERE}`), `s${shard}`);
        for (const key of keys) assert.equal(await place(`/* sharding_key: ${key} */ ${WHERE}`), `s${shard}`);
        assert.equal(await place(WHERE), 's0');
      }
      assert.equal(await place(`/* sharding_key: -1 */ ${WHERE}`), 's2');
      // A number goes before a key, and both before pglynx's own comments.
      assert.equal(await place(`/* sharding_key: 5 */ /* shard_id: 1 */ ${WHERE}`), 's1');
      assert.equal(await place(`/* pglynx: shard=2 */ /* shard_id: 1 */ ${WHERE}`), 's1');
      assert.equal(await place(`/* pglynx: shard=2 */ ${WHERE}`), 's2');
      for (const [sql, says] of [
        [`/* shard_id: 3 */ ${WHERE}`, /shard 3 is not configured/],
        [`/* shard_id: one */ ${WHERE}`, /"one", which is no shard's number/],
        [`/* sharding_key: five */ ${WHERE}`, /"five" is no sharding key/],
      ] as const) {
        const { error, status } = await run(client, sql);
        assert.deepEqual([error?.code, status], ['22023', 'I'], sql);
        assert.match(error?.message ?? '', says, sql);
        assert.equal(await place(WHERE), 's0');
      }
      assert.equal(
        await place(`SELECT current_database(), '${'x'.repeat(100)}' /* shard_id: 1 */`),
        's0',
        'behind the limit',
      );
    });
  }

  test('are searched for in prepared statements at each Bind', async () => {
    await using client = await proxy.raw();
    for (const [shard, [key]] of KEYS.entries()) {
      client.send(parse(`id ${shard}`, `/* shard_id: ${shard} */ ${WHERE}`), sync());
      client.send(parse(`key ${shard}`, `/* sharding_key: ${key} */ ${WHERE}, $1::text AS n`), sync());
      await client.ready();
      await client.ready();
    }
    for (let round = 0; round < 5; round++) {
      for (const [shard] of KEYS.entries()) {
        client.send(bind('', `id ${shard}`), execute(), sync());
        assert.deepEqual(answerOf(await client.ready()).rows, [[`s${shard}`, 't']]);
        client.send(bind('', `key ${shard}`, ['n']), execute(), sync());
        assert.deepEqual(answerOf(await client.ready()).rows, [[`s${shard}`, 't', 'n']]);
      }
    }
  });

  test('leave commands alone: SET SHARD works beside them', async () => {
    await using client = await proxy.raw();
    assert.deepEqual(answerOf(await client.query('SET SHARD TO 2')).tags, ['SET SHARD']);
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s2', 't']]);
    assert.deepEqual(answerOf(await client.query(`/* shard_id: 1 */ ${WHERE}`)).rows, [['s1', 't']]);
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s2', 't']]);
  });

  test('place transactions', async () => {
    await using client = await proxy.raw();
    await client.query('/* sharding_key: 5 */ BEGIN');
    assert.deepEqual(answerOf(await client.query('INSERT INTO data VALUES (5) RETURNING current_database()')).rows, [
      ['s2'],
    ]);
    const { error, status } = answerOf(await client.query('/* shard_id: 1 */ SELECT 1'));
    assert.deepEqual([error?.code, status], ['0A000', 'E']);
    await client.query('ROLLBACK');
    assert.deepEqual(await shards.keys(), [[], [], []]);
  });

  test('work without a parser, and `;` alone hurts nobody', async () => {
    await using plain = await shards.proxy({
      pool: {
        query_parser_enabled: false,
        query_parser_read_write_splitting: false,
        default_role: 'primary',
        sharding_key_regex: '/\\* sharding_key: (\\d+) \\*/',
      },
    });
    await using client = await plain.raw();
    for (const run of Object.values(WAYS)) {
      assert.deepEqual((await run(client, `/* sharding_key: 3 */ ${WHERE}`)).rows, [['s1', 'f']]);
      assert.deepEqual((await run(client, WHERE)).rows, [['s0', 'f']]);
    }
    assert.equal(answerOf(await client.query(';')).error, undefined);
    assert.equal(answerOf(await client.query('')).error, undefined);
  });

  test('without being configured, their comments are comments', async () => {
    await using none = await shards.proxy();
    await using client = await none.raw();
    assert.deepEqual(answerOf(await client.query(`/* shard_id: 1 */ ${WHERE}`)).rows, [['s0', 't']]);
  });
});

suite('default_shard', () => {
  for (const [shard, name] of [
    [0, 's0'],
    [2, 's2'],
  ] as const) {
    test(`shard_${shard} has what names no shard`, async () => {
      await using proxy = await shards.proxy({ pool: { default_shard: `shard_${shard}` } });
      await using client = await proxy.raw();
      for (const [way, run] of Object.entries(WAYS)) {
        assert.equal((await run(client, WHERE)).rows[0][0], name, way);
        await run(client, 'BEGIN');
        assert.equal((await run(client, WHERE)).rows[0][0], name, way);
        await run(client, 'COMMIT');
        assert.equal(
          (await run(client, `${WHERE} FROM (SELECT count(*) FROM data WHERE id = 3) c`)).rows[0][0],
          's1',
          way,
        );
      }
    });
  }

  test('random is another one each time, and one for a transaction', async () => {
    await using proxy = await shards.proxy({ pool: { default_shard: 'random' } });
    await using client = await proxy.raw();
    assert.deepEqual(new Set(await places(client, WHERE, 60)), new Set(shards.names));
    assert.deepEqual(answerOf(await client.query('SHOW SHARD')).rows, [['unset']]);
    const begun = new Set<string | null>();
    for (let round = 0; round < 20; round++) {
      await client.query('BEGIN');
      const inside = new Set(await places(client, WHERE, 5));
      assert.equal(inside.size, 1);
      begun.add([...inside][0]);
      await client.query('COMMIT');
    }
    assert.ok(begun.size > 1);
    const byKey = `SELECT current_database(), count(*) FROM data WHERE id = 5`;
    assert.deepEqual(new Set(await places(client, byKey, 30)), new Set(['s2']));
  });

  test('random_healthy leaves out shards with a banned server, as long as there are others', async () => {
    const { primary } = shards.cluster;
    /** Three shards, of which these have a replica that nobody can reach. */
    const start = (broken: readonly number[]) =>
      shards.proxy({
        pool: { default_shard: 'random_healthy', primary_reads_enabled: true },
        general: { ban_time: 600 },
        shards: [],
        more: shards.names
          .map((name, n) => {
            const servers = [`["127.0.0.1", ${primary.port}, "primary"]`];
            if (broken.includes(n)) servers.push('["127.0.0.1", 1, "replica"]');
            return `[pools.${DATABASE}.shards.${n}]\ndatabase = "${name}"\nservers = [${servers.join(', ')}]`;
          })
          .join('\n'),
      });
    const breakAll = async (client: RawClient) => {
      for (const n of [0, 1, 2]) await places(client, `/* pglynx: shard=${n} */ ${WHERE}`, 20);
    };
    await using one = await start([1]);
    await using client = await one.raw();
    await breakAll(client);
    assert.deepEqual(new Set(await places(client, WHERE, 60)), new Set(['s0', 's2']));
    await client.query('SET SHARD TO 1');
    assert.deepEqual(answerOf(await client.query(WHERE)).rows, [['s1', 'f']], 'asked for, it is used');
    await using all = await start([0, 1, 2]);
    await using other = await all.raw();
    await breakAll(other);
    assert.deepEqual(new Set(await places(other, WHERE, 60)), new Set(shards.names), 'when all have one, any will do');
  });
});
