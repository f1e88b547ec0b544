/** Settings of clients: read from startup packets as PostgreSQL reads them, and brought about by SQL that cannot be misread. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { isFollowed, ProfileCatalog, settingsSql, startupSettings } from '../../src/server/parameters.ts';
import { errorOf, rowsOf } from '../client/backend.ts';
import { LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, startCluster, type TestCluster } from '../cluster/index.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster.stop());

const connect = (parameters: Record<string, string> = {}) =>
  RawClient.connect({ port: cluster.primary.port, user: 'postgres', database: DATABASE, parameters });

/** The bytes of a setting as the server shows them to this client. */
async function shown(client: RawClient, name: string): Promise<string | null> {
  const messages = await client.query(`SELECT current_setting('${name}', true)`);
  assert.equal(errorOf(messages), undefined);
  return rowsOf(messages)[0][0];
}

const profiles = new ProfileCatalog();
const profile = (values: Record<string, string>) => profiles.intern(new Map(Object.entries(values)));

suite('the SQL between two profiles', () => {
  const hostile = [
    "it's",
    "'; DROP TABLE users; --",
    "\\'; SELECT 1; --",
    '\\',
    '\\\\',
    "\\'",
    '"double"',
    'a\nb\tc',
    '$1 $$ %s',
    'ünïcödé 😀',
    '{}',
    'x'.repeat(2_000),
    '',
  ];
  const sessions: Record<string, string>[] = [
    {},
    { standard_conforming_strings: 'off', escape_string_warning: 'on', backslash_quote: 'off' },
    { standard_conforming_strings: 'off', backslash_quote: 'on' },
    { client_encoding: 'LATIN1' },
    { client_encoding: 'SJIS' },
  ];

  test('sets any value, whatever the session makes of quotes, backslashes and encodings', async () => {
    await using reader = await connect();
    for (const parameters of sessions) {
      await using client = await connect(parameters);
      for (const value of hostile) {
        const sql = settingsSql(profiles.defaults, profile({ 'app.hostile': value }));
        assert.ok(sql !== undefined);
        const messages = await client.query(sql);
        assert.equal(errorOf(messages), undefined, sql);
        assert.equal(messages.filter(({ type }) => type === 'C').length, 1, 'one statement has become several');
        // Read in UTF-8, so that the client's encoding plays no part in it.
        const expected = rowsOf(
          await client.query(
            "BEGIN; SET LOCAL client_encoding = 'UTF8'; SELECT current_setting('app.hostile'); COMMIT",
          ),
        );
        assert.deepEqual(expected, [[value]], `${JSON.stringify(parameters)}: ${sql}`);
      }
    }
    assert.equal(await shown(reader, 'app.hostile'), null);
  });

  test('sets lists of names as a startup packet does', async () => {
    for (const search_path of ['public', 'a, b', '"A b", "$user", public', '"with ""quotes""", pg_catalog', '']) {
      await using straight = await connect({ search_path });
      await using client = await connect();
      const sql = settingsSql(profiles.defaults, profile({ search_path }));
      assert.ok(sql !== undefined);
      assert.equal(errorOf(await client.query(sql)), undefined);
      assert.equal(await shown(client, 'search_path'), await shown(straight, 'search_path'));
      const schemas = 'SELECT current_schemas(true)::text';
      assert.deepEqual(rowsOf(await client.query(schemas)), rowsOf(await straight.query(schemas)));
    }
  });

  test('resets what the next profile does not have, and leaves alone what is the same', async () => {
    await using client = await connect({ datestyle: 'German' });
    const from = profile({ timezone: 'Asia/Tokyo', 'app.a': '1', intervalstyle: 'iso_8601' });
    const to = profile({ timezone: 'Asia/Tokyo', 'app.b': '2' });
    for (const [before, after] of [
      [profiles.defaults, from],
      [from, to],
    ]) {
      const sql = settingsSql(before, after);
      assert.ok(sql !== undefined);
      await client.query(sql);
    }
    assert.equal(settingsSql(from, to)?.includes('timezone'), false);
    const names = ['timezone', 'app.a', 'app.b', 'intervalstyle', 'datestyle'];
    const values = await names.reduce<Promise<(string | null)[]>>(
      async (all, name) => [...(await all), await shown(client, name)],
      Promise.resolve([]),
    );
    assert.deepEqual(values, ['Asia/Tokyo', '', '2', 'postgres', 'German, DMY']);
    assert.equal(settingsSql(to, to), undefined);
    assert.equal(settingsSql(to, profile({ 'app.b': '2', timezone: 'Asia/Tokyo' })), undefined);
  });
});

suite('the options of a startup packet', () => {
  const read = (options: string) => startupSettings(new Map([['options', options]]));

  test('mean what they mean to PostgreSQL', async () => {
    /** A word with its blanks and backslashes kept in by backslashes, and some more where they do no harm. */
    const escaped = (text: string, extra: boolean) =>
      text.replace(extra ? /[\s\\a-c]/g : /[\s\\]/g, character => `\\${character}`);
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            style: fc.constantFrom('-c ', '-c', '--', ' -c  ', '\t-c\n'),
            name: fc.constantFrom('app.one', 'app.two', 'app-x.three', 'app.THREE'),
            value: fc.string({ unit: fc.constantFrom('a', 'b', ' ', '\\', '=', "'", '"', '-', 'ü', '\t') }),
            extra: fc.boolean(),
          }),
          { maxLength: 4 },
        ),
        async parts => {
          const options = parts
            .map(({ style, name, value, extra }) => `${style}${name}=${escaped(value, extra)} `)
            .join('');
          const settings = read(options);
          await using client = await connect({ options });
          for (const [name, value] of settings) assert.equal(await shown(client, name), value, options);
          assert.equal(settings.size, new Set(parts.map(({ name }) => name.toLowerCase().replaceAll('-', '_'))).size);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('are refused where PostgreSQL refuses them', async () => {
    const refused = [
      '-c',
      '-c app.one',
      '--app.one',
      'word',
      '-c =1',
      '-c app.one=1 word',
      '-c 1app=2',
      '-c "app.one"=2',
    ];
    for (const options of refused) {
      await assert.rejects(connect({ options }), LoginError, options);
      assert.throws(() => read(options), { name: 'PgError' }, options);
    }
    for (const options of ['', '   ', '-c app.one=', '-c app.one==']) {
      const client = await connect({ options });
      await client.close();
      read(options);
    }
  });

  test('come before the parameters of the packet, which are no settings when they say who connects', () => {
    const packet = {
      user: 'alice',
      database: 'bench',
      replication: 'false',
      '_pq_.option': 'x',
      options: '-c TimeZone=UTC -c search_path=a',
      TimeZone: 'Asia/Tokyo',
      application_name: '',
    };
    assert.deepEqual(Object.fromEntries(startupSettings(new Map(Object.entries(packet)))), {
      timezone: 'Asia/Tokyo',
      search_path: 'a',
      application_name: '',
    });
  });
});

suite('profiles', () => {
  test('of the same settings are the same object, in whatever order they come', () => {
    assert.equal(profile({ a: '1', b: '2' }), profile({ b: '2', a: '1' }));
    assert.equal(profile({}), profiles.defaults);
    assert.notEqual(profile({ a: '1' }), profile({ a: '2' }));
    assert.equal(profiles.with(profile({ a: '1' }), 'B', '2'), profile({ a: '1', b: '2' }));
  });

  test('of the same dialect share statements: everything but the name of the application', () => {
    assert.equal(profiles.defaults.dialect, '');
    assert.equal(profile({ application_name: 'one' }).dialect, '');
    assert.notEqual(profile({ timezone: 'UTC' }).dialect, '');
    assert.equal(
      profile({ timezone: 'UTC', application_name: 'one' }).dialect,
      profile({ application_name: 'two', timezone: 'UTC' }).dialect,
    );
  });

  test('do not grow without end', () => {
    const catalog = new ProfileCatalog();
    const first = catalog.intern(new Map([['app.n', '0']]));
    for (let n = 1; n <= 3_000; n++) catalog.intern(new Map([['app.n', String(n)]]));
    assert.notEqual(catalog.intern(new Map([['app.n', '0']])), first);
    assert.equal(catalog.intern(new Map()), catalog.defaults);
  });

  test('follow what servers report and clients change, by any spelling', async () => {
    await using client = await connect();
    const followed = [...client.parameters.keys()].filter(isFollowed).sort();
    assert.deepEqual(followed, [
      'DateStyle',
      'IntervalStyle',
      'TimeZone',
      'application_name',
      'client_encoding',
      'default_transaction_read_only',
      'search_path',
      'standard_conforming_strings',
    ]);
  });
});
