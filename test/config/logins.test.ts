/** The keys about logins: what they come to, and what of them cannot be meant. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { clusterSettings } from '../../src/config/cluster.ts';
import { unlistedSettings } from '../../src/config/wildcards.ts';
import { afterLine, load, mistakes, SMALL } from './files.ts';

const ASKING = ['auth_query = "SELECT a($1)"', 'auth_query_user = "asker"', 'auth_query_password = "p"'];

/** {@link SMALL} that asks for passwords, with `*` beside it. */
function wild(...lines: string[]): string {
  const shard = '[pools."*".shards.0]\ndatabase = "*"\nservers = [["10.0.0.2", 1, "primary"]]';
  const users = '[pools.db.users."*"]\npool_size = 2\n[pools."*".users."*"]\npool_size = 3';
  return [afterLine(1, ...ASKING), users, ...lines, shard].join('\n');
}

suite('auth_query', () => {
  const found = (text: string) => clusterSettings(load(text).config)[0]?.auth_query;

  test('is that of the pool key by key, else that of [general]', () => {
    assert.equal(found(SMALL), undefined);
    const usual = { query: 'SELECT a($1)', user: 'asker', password: 'p', database: 'postgres', pool: 'db' };
    assert.deepEqual(found(afterLine(1, ...ASKING)), usual);
    const own = afterLine(4, 'auth_query = "SELECT b($1)"', 'auth_query_database = "other"');
    const text = own.replace('[general]', ['[general]', ...ASKING].join('\n'));
    assert.deepEqual(found(text), { ...usual, query: 'SELECT b($1)', database: 'other' });
  });

  test('names the user by $1', () => {
    assert.deepEqual(mistakes(afterLine(1, 'auth_query = "SELECT $10"', ...ASKING.slice(1))), [
      '2:14: general.auth_query: has no $1, which stands for the name of the user',
    ]);
  });
});

suite('what the file does not list', () => {
  const { config } = load(wild());
  const settings = (database: string, user: string) => unlistedSettings(config, database, user);

  test('is made of the nearest `*`', () => {
    assert.deepEqual([settings('db', 'bob')?.pool_size, settings('db', 'bob')?.username], [2, 'bob']);
    assert.equal(settings('db', 'bob')?.shards[0]?.database, 'postgres');
    assert.deepEqual([settings('new', 'bob')?.pool_size, settings('new', 'bob')?.database], [3, 'new']);
    assert.deepEqual(
      settings('new', 'bob')?.shards.map(({ database }) => database),
      ['new'],
    );
    assert.equal(settings('new', 'bob')?.server_username, 'bob');
    assert.equal(settings('db', 'alice'), undefined, 'the file lists it');
    assert.equal(clusterSettings(config).length, 1, '`*` itself is nobody');
  });

  test('asks for passwords in a database that is there, once for all databases', () => {
    assert.equal(settings('new', 'bob')?.auth_query?.database, 'postgres');
    assert.deepEqual(settings('new', 'bob')?.auth_query, settings('other', 'bob')?.auth_query);
    const [here, other] = ['there', '*'].map(
      name => load(wild().replace('database = "*"', `database = "${name}"`)).config,
    );
    assert.equal(unlistedSettings(here ?? config, 'new', 'bob')?.auth_query?.database, 'there');
    assert.equal(unlistedSettings(here ?? config, 'new', 'bob')?.shards[0]?.database, 'there');
    assert.equal(unlistedSettings(other ?? config, 'new', 'bob')?.shards[0]?.database, 'new');
  });

  test('may have any name that PostgreSQL knows', () => {
    for (const name of ['*', '__proto__', 'constructor', 'toString', "'", '"', '\u{1F600}', 'n'.repeat(63)]) {
      assert.equal(settings(name, name)?.database, name);
      assert.equal(settings('db', name)?.username, name);
    }
    assert.equal(settings('n'.repeat(64), 'bob'), undefined);
    assert.equal(settings('new', '\u{1F600}'.repeat(16)), undefined);
  });

  test('is nothing without `*`', () => {
    const { config } = load(SMALL);
    for (const [database, user] of [
      ['db', 'bob'],
      ['new', 'alice'],
      ['*', '*'],
      ['constructor', 'alice'],
    ] as const) {
      assert.equal(unlistedSettings(config, database, user), undefined);
    }
  });
});

suite('`*`', () => {
  test('has no password, for it would be everybody’s', () => {
    const user = '[pools.db.users.any]\nusername = "*"\npassword = "x"\npool_size = 1';
    assert.deepEqual(mistakes(`${SMALL}\n${user}`), [
      '15:12: pools.db.users.any.password: would be the password of every user: "*" stands for those whom auth_query knows',
    ]);
  });

  test('needs auth_query, or another proof', () => {
    const user = '[pools.db.users."*"]\npool_size = 1';
    assert.deepEqual(mistakes(`${SMALL}\n${user}`), [
      '13:17: pools.db.users."*": needs a password (or password_file), because auth_query is not set',
    ]);
    load(`${SMALL}\n${user}\nauth_type = "trust"`);
  });

  test('is a database in `[pools."*"]` only', () => {
    assert.deepEqual(mistakes(SMALL.replace('database = "postgres"', 'database = "*"')), [
      '11:12: pools.db.shards.0.database: may be "*" in [pools."*"] only',
    ]);
    load(wild());
  });
});
