/** Every mistake in a file: its words, its line and column, all of them at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { afterLine, errorOf, mistakes, SMALL, withLine } from './files.ts';

const shard1 = ['[pools.db.shards.1]', 'database = "b"', 'servers = [["10.0.0.2", 5432, "primary"]]'];
const user1 = (...lines: string[]) =>
  `${SMALL}\n[pools.db.users.1]\nusername = "bob"\npool_size = 1\n${lines.join('\n')}`;
const choices = 'must be "transaction" or "session", not';

/** [what, file, the mistakes as `line:column: key: words`]. */
const CASES: readonly (readonly [string, string, ...string[]])[] = [
  ['an unknown key', afterLine(1, 'prot = 5'), '2:1: general.prot: is not a setting (did you mean "port"?)'],
  [
    'a key near two others',
    afterLine(1, '  hort = 5'),
    '2:3: general.hort: is not a setting (did you mean "host" or "port"?)',
  ],
  ['a key like no other', afterLine(4, 'reserve_pool = 5'), '5:1: pools.db.reserve_pool: is not a setting'],
  [
    'a key of another section',
    afterLine(4, 'pool_size = 5'),
    '5:1: pools.db.pool_size: is not a setting here; its place is [pools.NAME.users.N]',
  ],
  ['an unknown section', `${SMALL}\n[plugin]`, '13:2: plugin: is not a setting (did you mean "plugins"?)'],
  [
    'a section of an older PgCat',
    `${SMALL}\n[query_router]\ndefault_role = "any"`,
    '13:2: query_router: is not a setting',
  ],
  [
    'settings of a [pool]',
    `${SMALL}\n[pool.db]\npool_mode = "session"`,
    '13:2: pool: is not a setting (did you mean "pools"?)',
  ],
  ['a key that needs quotes', `${SMALL}\n[pools."my db"]\nusers = {}`, '13:8: pools."my db".shards: is required'],
  ['no [general]', '[pools]', '1:1: general: is required'],
  ['no pools', SMALL.split('\n').slice(0, 3).join('\n'), '1:1: pools: is required'],
  ['no admin_username', withLine(2), '1:2: general.admin_username: is required'],
  ['no admin_password', withLine(3), '1:2: general.admin_password: is required'],
  [
    'users without their tables',
    SMALL.replace('users.0', 'users'),
    '7:12: pools.db.users.username: must be a table, not a string',
    '8:12: pools.db.users.password: must be a table, not a string',
    '9:13: pools.db.users.pool_size: must be a table, not a number',
  ],
  ['no username', withLine(7), '6:17: pools.db.users.0.username: is required'],
  ['no pool_size', withLine(9), '6:17: pools.db.users.0.pool_size: is required'],
  ['no database', withLine(11), '10:18: pools.db.shards.0.database: is required'],
  ['a string for a number', afterLine(1, 'port = "64"'), '2:8: general.port: must be a whole number, not a string'],
  ['a number for a string', afterLine(1, 'host = 1'), '2:8: general.host: must be a string or a list of strings'],
  [
    'a number for a password',
    withLine(8, 'password = 1234'),
    '8:12: pools.db.users.0.password: must be a string, not a number',
  ],
  ['a fraction', afterLine(1, 'ban_time = 1.5'), '2:12: general.ban_time: must be a whole number, not 1.5'],
  [
    'nowhere to listen',
    afterLine(1, 'host = []'),
    '2:8: general.host: has no address, and there is no unix_socket_dir: nobody could connect',
  ],
  ['an empty host', afterLine(1, 'host = ["127.0.0.1", ""]'), '2:22: general.host.1: must not be empty'],
  [
    'a relative directory',
    afterLine(1, 'unix_socket_dir = "run"'),
    '2:19: general.unix_socket_dir: must be the full path of a directory',
  ],
  [
    'permissions that are no octal digits',
    afterLine(1, 'unix_socket_mode = "0780"'),
    '2:20: general.unix_socket_mode: must be three octal digits in quotes, such as "0770"',
  ],
  ['a date', afterLine(1, 'host = 2022-01-01'), '2:8: general.host: must be a string or a list of strings'],
  [
    'a number for a boolean',
    afterLine(4, 'primary_reads_enabled = 1'),
    '5:25: pools.db.primary_reads_enabled: must be true or false, not a number',
  ],
  ['a value for a table', `general = 1\n[pools]`, '1:11: general: must be a table, not a number'],
  ['a port too large', afterLine(1, 'port = 70000'), '2:8: general.port: must be at most 65535, not 70000'],
  [
    'an unknown mode',
    withLine(5, 'pool_mode = "sesion"'),
    `5:13: pools.db.pool_mode: ${choices} "sesion" (did you mean "session"?)`,
  ],
  ['statement mode', withLine(5, 'pool_mode = "statement"'), `5:13: pools.db.pool_mode: ${choices} "statement"`],
  [
    'an unknown role',
    afterLine(4, 'default_role = "replicas"'),
    '5:16: pools.db.default_role: must be "any", "primary" or "replica", not "replicas" (did you mean "replica"?)',
  ],
  ...[
    'connect_timeout',
    'idle_timeout',
    'server_lifetime',
    'healthcheck_timeout',
    'autoreload',
    'worker_threads',
    'server_login_retry',
  ].map(
    key =>
      [
        `zero ${key}`,
        afterLine(1, `${key} = 0`),
        `2:${key.length + 4}: general.${key}: must be at least 1, not 0`,
      ] as const,
  ),
  ...['connect_timeout', 'idle_timeout', 'server_lifetime'].map(
    key =>
      [
        `negative ${key} of a pool`,
        afterLine(4, `${key} = -1`),
        `5:${key.length + 4}: pools.db.${key}: must be at least 1, not -1`,
      ] as const,
  ),
  ['zero pool_size', withLine(9, 'pool_size = 0'), '9:13: pools.db.users.0.pool_size: must be at least 1, not 0'],
  [
    'zero idle_timeout of a user',
    afterLine(9, 'idle_timeout = 0'),
    '10:16: pools.db.users.0.idle_timeout: must be at least 1, not 0',
  ],
  [
    'min_pool_size past pool_size',
    afterLine(9, 'min_pool_size = 6'),
    '10:17: pools.db.users.0.min_pool_size: must not be more than pool_size (5), but is 6',
  ],
  [
    'no password',
    user1(),
    '13:17: pools.db.users.1: needs a password (or password_file), because auth_query is not set',
  ],
  [
    'auth_query alone',
    afterLine(1, 'auth_query = "q"', 'auth_query_user = "u"'),
    '2:14: general.auth_query: needs a value for auth_query_password',
  ],
  [
    'auth_query of a pool alone',
    afterLine(4, 'auth_query = "q"'),
    '5:14: pools.db.auth_query: needs a value for auth_query_user and auth_query_password in pool db or [general]',
  ],
  [
    'a certificate without key',
    afterLine(1, `tls_certificate = '${import.meta.filename}'`),
    '2:19: general.tls_certificate: needs tls_private_key beside it',
  ],
  [
    'one port for clients and for metrics',
    afterLine(1, 'enable_prometheus_exporter = true', 'port = 6000', 'prometheus_exporter_port = 6000'),
    '4:28: general.prometheus_exporter_port: is the port of clients as well',
  ],
  [
    'splitting without the parser',
    afterLine(4, 'query_parser_read_write_splitting = true'),
    '5:37: pools.db.query_parser_read_write_splitting: needs query_parser_enabled = true',
  ],
  [
    'plugins without the parser',
    `${SMALL}\n[pools.db.plugins.query_logger]\nenabled = true`,
    '13:11: pools.db.plugins: needs query_parser_enabled = true',
  ],
  ['half a plugin', `${SMALL}\n[plugins.prewarmer]\nenabled = true`, '13:10: plugins.prewarmer.queries: is required'],
  [
    'a sharding key of four parts',
    afterLine(4, 'automatic_sharding_key = "a.b.c.d"'),
    '5:26: pools.db.automatic_sharding_key: must be "table.column", "schema.table.column", "*.column" or "column"',
  ],
  [
    'an empty sharding key',
    afterLine(4, 'automatic_sharding_key = ""'),
    '5:26: pools.db.automatic_sharding_key: must be "table.column", "schema.table.column", "*.column" or "column"',
  ],
  [
    'a function that is no string',
    afterLine(4, 'write_functions = [1]'),
    '5:20: pools.db.write_functions.0: must be a string, not a number',
  ],
  [
    'a catalog read all the time',
    afterLine(4, 'catalog_ttl = 999'),
    '5:15: pools.db.catalog_ttl: must be at least 1000, not 999',
  ],
  ...(
    [
      ['(\\d+', 'is not a valid regular expression: missing closing ) in "(\\d+"'],
      ['[', 'is not a valid regular expression: missing closing ] in "["'],
      ['a(?=b)', 'is not a valid regular expression: invalid or unsupported Perl syntax in "(?="'],
      ['(a)\\1', 'is not a valid regular expression: invalid escape sequence in "\\1"'],
      ['(a)\\', 'is not a valid regular expression: trailing backslash at end of expression'],
      ['(?x) (a)', 'is not a valid regular expression: invalid or unsupported Perl syntax in "(?x"'],
      ['([a-z&&[^b]])', 'is not a valid regular expression: && inside of [] is not supported'],
      ['([\\d[a]])', 'is not a valid regular expression: [ inside of [] is not supported'],
      ['\\<(a)', 'is not a valid regular expression: \\< is not supported'],
      ['(a){1001}', 'is not a valid regular expression: invalid repeat count in "{1001}"'],
      ['key', 'finds nothing without a group: put what is to be found in ()'],
    ] as const
  ).flatMap(([source, words]) =>
    (['shard_id_regex', 'sharding_key_regex'] as const).map(
      key =>
        [
          `${source} as ${key}`,
          afterLine(4, `${key} = '${source}'`),
          `5:${key.length + 4}: pools.db.${key}: ${words}`,
        ] as const,
    ),
  ),
  [
    'a default shard past the last',
    afterLine(4, 'default_shard = "shard_99"'),
    '5:17: pools.db.default_shard: Invalid shard 99: the pool has 1, and the first is 0',
  ],
  [
    'a default shard past the last of two',
    [afterLine(4, 'default_shard = "shard_2"'), ...shard1].join('\n'),
    '5:17: pools.db.default_shard: Invalid shard 2: the pool has 2, and the first is 0',
  ],
  [
    'a default shard of no form',
    afterLine(4, 'default_shard = "1"'),
    '5:17: pools.db.default_shard: must be "shard_N", "random" or "random_healthy"',
  ],
  ...['db_activity_init_delay', 'db_activity_ttl', 'table_mutation_cache_ms_ttl'].map(
    key =>
      [
        `zero ${key}`,
        afterLine(4, 'db_activity_based_routing = true', `${key} = 0`),
        `6:${key.length + 4}: pools.db.${key}: must be at least 1 while db_activity_based_routing is on, not 0`,
      ] as const,
  ),
  [
    'a shard with a name',
    withLine(10, '[pools.db.shards.one]'),
    '10:18: pools.db.shards.one: is not a number: shards are named 0, 1, 2 and so on',
  ],
  [
    'no shard 0',
    withLine(10, '[pools.db.shards.1]'),
    '10:18: pools.db.shards.1: comes without a shard 0: shards are numbered 0, 1, 2 and so on',
  ],
  [
    'a gap in the shards',
    [SMALL, ...shard1, ...shard1].join('\n').replace('shards.1', 'shards.3').replace('shards.1', 'shards.2'),
    '16:18: pools.db.shards.2: comes without a shard 1: shards are numbered 0, 1, 2 and so on',
  ],
  [
    'no shard',
    `${SMALL.split('\n').slice(0, 9).join('\n')}\n[pools.db.shards]`,
    '10:11: pools.db.shards: needs at least one shard',
  ],
  ['no servers', withLine(12), '10:18: pools.db.shards.0.servers: is required'],
  ['an empty list of servers', withLine(12, 'servers = []'), '12:11: pools.db.shards.0.servers: must not be empty'],
  [
    'only a mirror',
    withLine(12, 'servers = [["h", 1, "mirror"]]'),
    '12:11: pools.db.shards.0.servers: needs a primary or a replica',
  ],
  [
    'two primaries',
    withLine(12, 'servers = [["h", 1, "primary"], ["i", 1, "Primary"]]'),
    '12:33: pools.db.shards.0.servers.1: is a second primary; a shard has one at most',
  ],
  [
    'a server twice',
    withLine(12, 'servers = [["h", 1, "replica"],', ' ["h", 1, "replica"]]'),
    '13:2: pools.db.shards.0.servers.1: is listed twice: h:1 as replica',
  ],
  [
    'a server twice with two weights, as list and as table',
    withLine(12, 'servers = [["h", 1, "replica", 1],', ' { host = "h", port = 1, role = "Replica", weight = 2 }]'),
    '13:2: pools.db.shards.0.servers.1: is listed twice: h:1 as replica',
  ],
  [
    'a second primary with a weight, in a table',
    withLine(12, 'servers = [["h", 1, "primary", 2],', ' { host = "i", port = 1, role = "primary", weight = 2 }]'),
    '13:2: pools.db.shards.0.servers.1: is a second primary; a shard has one at most',
  ],
  [
    'a server of two parts',
    withLine(12, 'servers = [["h", 1]]'),
    '12:12: pools.db.shards.0.servers.0: must be [host, port, role] or [host, port, role, weight]',
  ],
  [
    'a server of five parts',
    withLine(12, 'servers = [["h", 1, "primary", 1, 1]]'),
    '12:12: pools.db.shards.0.servers.0: must be [host, port, role] or [host, port, role, weight]',
  ],
  [
    'a negative weight',
    withLine(12, 'servers = [["h", 1, "primary", -1]]'),
    '12:32: pools.db.shards.0.servers.0.weight: must be at least 0, not -1',
  ],
  [
    'a weight too large, in a table',
    withLine(12, 'servers = [{ host = "h", port = 1, role = "primary", weight = 1001 }]'),
    '12:63: pools.db.shards.0.servers.0.weight: must be at most 1000, not 1001',
  ],
  [
    'a server with port 0',
    withLine(12, 'servers = [["h", 0, "primary"]]'),
    '12:18: pools.db.shards.0.servers.0.port: must be at least 1, not 0',
  ],
  [
    'a server of an unknown role',
    withLine(12, 'servers = [["h", 1, "leader"]]'),
    '12:21: pools.db.shards.0.servers.0.role: must be "primary", "replica" or "mirror", not "leader"',
  ],
  [
    'a server table without role',
    withLine(12, 'servers = [{ host = "h", port = 1 }]'),
    '12:12: pools.db.shards.0.servers.0.role: is required',
  ],
  [
    'a mirror of two parts',
    afterLine(12, 'mirrors = [["h", 1]]'),
    '13:12: pools.db.shards.0.mirrors.0: must be [host, port, mirroring_target_index]',
  ],
  [
    'a wrong misspelling',
    afterLine(4, 'table_mutation_cache_ttl = "x"'),
    '5:28: pools.db.table_mutation_cache_ttl: must be a whole number, not a string',
  ],
  [
    'no TOML',
    afterLine(2, 'port = 64 33'),
    '3:11: is not TOML: each key-value declaration must be followed by an end-of-line',
  ],
  [
    'a key twice',
    afterLine(2, 'admin_username = "b"'),
    '3:1: is not TOML: trying to redefine an already defined table or value',
  ],
  [
    'a key that would change all tables',
    `__proto__ = 1\n${SMALL}`,
    '1:1: is not TOML: document contains an unsafe property',
  ],
];

for (const [what, text, ...expected] of CASES) {
  test(what, () => assert.deepEqual(mistakes(text), expected));
}

test('all mistakes of a file come at once, in its order', () => {
  const text = [
    '[genral]',
    '[general]',
    'admin_username = ""',
    'admin_password = "x"',
    'conect_timeout = 1',
    'idle_timeout = 0',
    '[pools.a]',
    'pool_mode = "x"',
    'default_shard = "shard_2"',
    '[pools.a.shards.1]',
    'database = "d"',
    'servers = [["h", "p", "primary"]]',
    '[pools.a.users.u]',
    `username = "\${WHO}"`,
    'pool_size = 1',
    'min_pool_size = 2',
  ].join('\n');
  assert.deepEqual(mistakes(text), [
    '1:2: genral: is not a setting (did you mean "general"?)',
    '3:18: general.admin_username: must not be empty',
    '5:1: general.conect_timeout: is not a setting (did you mean "connect_timeout"?)',
    '6:16: general.idle_timeout: must be at least 1, not 0',
    `8:13: pools.a.pool_mode: ${choices} "x"`,
    '9:17: pools.a.default_shard: Invalid shard 2: the pool has 1, and the first is 0',
    '10:17: pools.a.shards.1: comes without a shard 0: shards are numbered 0, 1, 2 and so on',
    '12:18: pools.a.shards.1.servers.0.port: must be a whole number, not a string',
    '13:16: pools.a.users.u: needs a password (or password_file), because auth_query is not set',
    `14:12: pools.a.users.u.username: names the environment variable WHO, which is not set ("$\${WHO}" is the text itself)`,
    '16:17: pools.a.users.u.min_pool_size: must not be more than pool_size (1), but is 2',
  ]);
});

test('the error carries each problem apart, and its message names the file in every line', () => {
  const error = errorOf(afterLine(1, 'prot = 5', 'port = 70000'));
  assert.deepEqual(error.problems, [
    { path: 'general.prot', line: 2, column: 1, message: 'is not a setting (did you mean "port"?)' },
    { path: 'general.port', line: 3, column: 8, message: 'must be at most 65535, not 70000' },
  ]);
  assert.match(error.message, /^f\.toml:2:1: general\.prot: .*\nf\.toml:3:8: general\.port: /);
});

test('no password is shown', () => {
  const text = SMALL.replace('"wonder"', '["wonder"]').replace('"secret"', '{ a = "secret" }');
  assert.doesNotMatch(errorOf(text).message, /wonder|secret/);
  assert.doesNotMatch(errorOf(`${SMALL}\npassword = "wonder" 7`).message, /wonder/);
});

test('what is valid beside these mistakes', () => {
  const works = [
    user1('auth_type = "trust"'),
    user1().replace(
      '[pools.db]',
      '[pools.db]\nauth_query = "SELECT $1"\nauth_query_user = "u"\nauth_query_password = "p"',
    ),
    user1()
      .replace('[pools.db]', '[pools.db]\nauth_query_user = "u"')
      .replace('[general]', '[general]\nauth_query = "SELECT $1"\nauth_query_user = "g"\nauth_query_password = "p"'),
    afterLine(4, 'db_activity_init_delay = 0'),
    withLine(12, 'servers = [["h", 1, "primary"], ["h", 1, "replica"]]'),
    [SMALL, ...shard1].join('\n'),
    afterLine(1, 'healthcheck_delay = 0', 'ban_time = 0', 'shutdown_timeout = 0', 'port = 0'),
    '[general]\nadmin_username = "a"\nadmin_password = "b"\n[pools]',
  ];
  for (const text of works) assert.throws(() => mistakes(text), { message: 'the file was accepted' });
});
