/** `pglynx explain`: what it prints of a statement under a configuration, aligned, and how it ends. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { Command, ROOT } from './command.ts';

const FILE = 'test/fixtures/seed-pgcat.toml';

async function explained(...args: string[]): Promise<{ code: unknown; output: string; complaint: string }> {
  await using command = Command.pglynx('explain', ...args);
  const code = await command.ended;
  return { code, output: command.output, complaint: command.complaint };
}

suite('the command explain', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'pglynx-explain-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('prints one aligned line for each thing it tells', async () => {
    const { code, output, complaint } = await explained(FILE, 'SELECT * FROM data WHERE id = 5 -- five');
    assert.deepEqual([code, complaint], [0, '']);
    assert.equal(
      output,
      [
        'pool                   sharded_db/sharding_user',
        'statement              SELECT',
        'template               SELECT * FROM data WHERE id = 1',
        'class                  read',
        'reason                 select (only reads)',
        'reads                  data',
        'leaves in its session  nothing',
        'role                   any',
        'role reason            read (every statement is provably a read)',
        'shard                  2',
        'shard reason           key (the sharding key of the statement belongs to it: data.id = 5)',
        'shareable              yes',
        'server                 sharded_db_shard_2_primary (127.0.0.1:5432): one of 3 candidates (random)',
        'server                 sharded_db_shard_2_replica_0 (localhost:5433): one of 3 candidates (random)',
        'server                 sharded_db_shard_2_replica_1 (localhost:5434): one of 3 candidates (random)',
        '',
      ].join('\n'),
    );
  });

  test('answers for databases and users that only `*` stands for, sharding keys and all', async () => {
    const file = join(folder, 'wildcards.toml');
    const seed = readFileSync(FILE, 'utf8').replaceAll('[pools.sharded_db', '[pools."*"');
    const anybody = '[pools."*".users."*"]\npool_size = 1\nauth_type = "trust"\n';
    writeFileSync(file, `${seed}\n${anybody}`);
    const { code, output } = await explained(
      file,
      'SELECT * FROM data WHERE id = 5',
      '--database',
      'any',
      '--user',
      'eve',
    );
    assert.equal(code, 0);
    assert.match(output, /^pool +any\/eve$/m);
    assert.match(output, /^shard +2$/m);
    assert.match(output, /^server +any_shard_2_primary /m);
    writeFileSync(file, seed);
    const failed = await explained(file, 'SELECT 1', '--user', 'eve');
    assert.match(failed.complaint, /has no pool \*\/eve; it has \*\/sharding_user/);
  });

  test('says why a statement would be refused; that is an answer, too', async () => {
    const { code, output } = await explained(FILE, 'INSERT INTO data (id) VALUES (5), (6)');
    assert.equal(code, 0);
    assert.match(output, /^refused +0A000: the rows of this statement belong to several shards: 0, 2 \(.*\)$/m);
    assert.match(output, /^hint +Run one statement for each shard\.$/m);
    assert.doesNotMatch(output, /^server/m);
  });

  test('answers for what is no statement', async () => {
    const sayings = {
      '': /^reason +empty \(holds no statement\)$/m,
      'SELEC 1': /^reason +unparsed \(was not parsed: syntax error at or near "SELEC"\)$/m,
      'SELECT my_own()': /^reason +unknown_function \(.*: my_own\)$/m,
      '/* pglynx: shard=1 */ SELECT 1': /^shard reason +comment \(/m,
    };
    for (const [sql, saying] of Object.entries(sayings)) {
      const { code, output } = await explained(FILE, sql);
      assert.equal(code, 0, sql);
      assert.match(output, saying);
    }
  });

  test('takes the pool and the user that are asked for, else the first', async () => {
    const path = join(folder, 'two.toml');
    const one = readFileSync(join(ROOT, FILE), 'utf8');
    const more = `
[pools.plain.users.0]
username = "other_user"
password = "secret"
pool_size = 1
[pools.plain.shards.0]
servers = [["10.0.0.1", 5432, "primary"]]
database = "plain"
`;
    writeFileSync(path, one + more);
    const pools: [args: string[], pool: string][] = [
      [[], 'sharded_db/sharding_user'],
      [['--user', 'other_user'], 'sharded_db/other_user'],
      [['--database', 'plain'], 'plain/other_user'],
      [['--database', 'sharded_db', '--user', 'other_user'], 'sharded_db/other_user'],
    ];
    for (const [args, pool] of pools) {
      const { code, output } = await explained(path, 'SELECT 1', ...args);
      assert.equal(code, 0);
      assert.equal(/^pool +(.*)$/m.exec(output)?.[1], pool);
      assert.equal(output.includes('10.0.0.1'), pool.startsWith('plain'));
    }
    const known = 'sharded_db/sharding_user, sharded_db/other_user, plain/other_user';
    const unknown: [args: string[], pool: string][] = [
      [['--database', 'nope'], 'nope/*'],
      [['--user', 'nope'], '*/nope'],
      [['--database', 'plain', '--user', 'sharding_user'], 'plain/sharding_user'],
    ];
    for (const [args, pool] of unknown) {
      const { code, output, complaint } = await explained(path, 'SELECT 1', ...args);
      assert.deepEqual([code, output, complaint], [1, '', `pglynx: ${path} has no pool ${pool}; it has ${known}\n`]);
    }
  });

  test('a bad configuration and wrong arguments end with 1 and a line for each mistake', async () => {
    const path = join(folder, 'bad.toml');
    writeFileSync(path, readFileSync(join(ROOT, FILE), 'utf8').replace('port = 6432', 'prot = 6432'));
    const bad = await explained(path, 'SELECT 1');
    assert.deepEqual([bad.code, bad.output], [1, '']);
    for (const line of bad.complaint.trim().split('\n')) assert.ok(line.startsWith(`${path}:`), line);
    assert.match(bad.complaint, /general\.prot: /);
    const missing = await explained('/no/such/file.toml', 'SELECT 1');
    assert.equal(missing.code, 1);
    assert.match(missing.complaint, /^\/no\/such\/file\.toml: [^\n]+\n$/);
    for (const args of [[], [FILE], [FILE, 'SELECT', '1'], [FILE, 'SELECT 1', '--port', '1']]) {
      const { code, output, complaint } = await explained(...args);
      assert.deepEqual([code, output], [1, ''], args.join(' '));
      assert.match(complaint, /^error: [^\n]+\n$/);
    }
  });
});
