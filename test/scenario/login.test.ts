/** Logins on both sides: clients by every method and with every mistake, servers by every method, in one pool. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { formatVerifier } from '../../src/auth/scram.ts';
import { KeyCache } from '../../src/auth/secret.ts';
import { type Decoded, decode, rowsOf } from '../client/backend.ts';
import * as frontend from '../client/frontend.ts';
import { LoginError, RawClient } from '../client/raw.ts';
import { DATABASE, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { ADMIN, TestProxy } from '../proxy/index.ts';

const METHODS = { md5: 'AuthenticationMD5Password', 'scram-sha-256': 'AuthenticationSASL' } as const;
const SECRET = 'Gr\u00fc\u00dfe, "quoted" \\ and \u{1F600}';

/** A user of pglynx only, who is somebody else to the servers. */
interface UserKeys {
  readonly auth_type?: string;
  readonly password?: string;
  readonly server_username?: string;
  readonly server_password?: string;
}

let cluster: TestCluster;
let proxy: TestProxy;
before(async () => {
  cluster = await startCluster({ replicas: 1 });
  const verifier = formatVerifier(await new KeyCache(Buffer.alloc(32)).verifier('stored', SECRET));
  const as_alice = { server_username: 'alice', server_password: PASSWORDS.alice };
  const users: Record<string, UserKeys> = {
    open: { auth_type: 'trust', ...as_alice },
    hashed: { auth_type: 'md5', password: SECRET, ...as_alice },
    salted: { auth_type: 'scram-sha-256', password: SECRET, ...as_alice },
    stored: { auth_type: 'scram-sha-256', password: verifier, ...as_alice },
    usual: { password: SECRET, ...as_alice },
    postgres: { auth_type: 'trust' },
    carol: { password: PASSWORDS.carol },
    dave: { password: PASSWORDS.dave },
    mistaken: { auth_type: 'trust', server_username: 'alice', server_password: 'not hers' },
    speechless: { auth_type: 'trust', server_username: 'alice' },
    nobody: { auth_type: 'trust', server_username: 'nobody_there', server_password: 'x' },
  };
  proxy = await TestProxy.start(cluster, { users: ['alice', 'bob'], more: sections(users) });
});
after(async () => {
  await proxy?.stop();
  await cluster?.stop();
});

function sections(users: Readonly<Record<string, UserKeys>>): string {
  return Object.entries(users)
    .map(([username, keys]) => {
      const lines = Object.entries({ username, pool_size: 2, ...keys }).map(
        ([key, value]) => `${key} = ${JSON.stringify(value)}`,
      );
      return [`[pools.${DATABASE}.users.${username}]`, ...lines].join('\n');
    })
    .join('\n');
}

function login(user: string, password?: string, database: string = DATABASE): Promise<RawClient> {
  return RawClient.connect({ port: proxy.port, user, database, ...(password === undefined ? {} : { password }) });
}

/** What the other side says to a login that fails, with nothing that differs from attempt to attempt. */
async function refusal(
  user: string,
  password: string,
  database: string = DATABASE,
  port = proxy.port,
): Promise<unknown[]> {
  const client = await RawClient.open({ port });
  const failed = await client.login({ user, database, password }).then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(failed instanceof LoginError, `${user} may log in to ${database}, or: ${failed}`);
  assert.deepEqual(await client.untilClosed(), [], 'the refusal is the last word');
  const said = client.greeting.map(decode).map(message => shape(message));
  client.destroy();
  return said;
}

function shape(message: Decoded): unknown {
  if (message.name === 'ErrorResponse') {
    const { severity, code, message: text } = message.fields;
    return [severity, code, text?.replaceAll(/"[^"]*"/g, '"..."')];
  }
  if (message.name === 'AuthenticationSASLContinue') {
    const [, salt, iterations] = String(message.data).split(',');
    return [message.name, salt.length, iterations];
  }
  return message.name;
}

function initial(text: string, mechanism = 'SCRAM-SHA-256'): Buffer {
  return frontend.saslInitialResponse(mechanism, Buffer.from(text));
}

function response(text: string): Buffer {
  return frontend.saslResponse(Buffer.from(text));
}

suite('a client', () => {
  test('logs in by the method of its user, and is greeted as by PostgreSQL', async () => {
    const names = async (client: RawClient) => client.greeting.map(message => decode(message).name);
    const straight = await RawClient.connect({
      port: cluster.primary.port,
      user: 'alice',
      database: DATABASE,
      password: PASSWORDS.alice,
    });
    for (const [user, expected] of [
      ['open', 'AuthenticationOk'],
      ['hashed', METHODS.md5],
      ['usual', METHODS.md5],
      ['salted', METHODS['scram-sha-256']],
      ['stored', METHODS['scram-sha-256']],
    ] as const) {
      const client = await login(user, user === 'open' ? undefined : SECRET);
      assert.equal((await names(client))[0], expected);
      assert.deepEqual(rowsOf(await client.query('SELECT current_user')), [['alice']]);
      const count = (list: string[], name: string) => list.filter(each => each === name).length;
      for (const name of ['AuthenticationOk', 'BackendKeyData', 'ReadyForQuery']) {
        assert.equal(count(await names(client), name), 1, name);
      }
      if (user === 'salted') assert.deepEqual(await names(client), await names(straight));
      assert.deepEqual([...client.parameters.keys()].sort(), [...straight.parameters.keys()].sort());
      assert.ok(client.pid > 0 && client.secret.length === 4);
      await client.close();
    }
    await straight.close();
  });

  test('with a wrong password is refused in PostgreSQL’s words', async () => {
    for (const password of ['wrong', '', `${SECRET} `, 'x'.repeat(1000)]) {
      const [asked, refused] = await refusal('hashed', password);
      assert.deepEqual(
        [asked, refused],
        [METHODS.md5, ['FATAL', '28P01', 'password authentication failed for user "..."']],
      );
      assert.deepEqual((await refusal('salted', password)).at(-1), refused);
      assert.deepEqual((await refusal('stored', password)).at(-1), refused);
    }
    assert.deepEqual(await refusal('alice', 'wrong', DATABASE, cluster.primary.port), await refusal('salted', 'wrong'));
  });

  test('cannot find out which users and databases there are', async () => {
    const known = await refusal('salted', 'wrong');
    await using others = await TestProxy.start(cluster, { user: { auth_type: 'scram-sha-256' } });
    const wrong = await refusal('alice', 'wrong', DATABASE, others.port);
    assert.deepEqual(wrong, known);
    for (const [user, database] of [
      ['stranger', DATABASE],
      ['alice', 'nowhere'],
      ['stranger', 'nowhere'],
      ['stranger', 'stranger'],
    ]) {
      assert.deepEqual(await refusal(user, 'wrong', database, others.port), wrong, `${user} of ${database}`);
    }
    const right = await refusal('alice', PASSWORDS.alice, 'nowhere', others.port);
    const said = 'no pool configured for database: "...", user: "..."';
    assert.deepEqual(right, [METHODS['scram-sha-256'], wrong[1], 'AuthenticationSASLFinal', ['FATAL', '3D000', said]]);
    const md5 = [METHODS.md5, ['FATAL', '28P01', 'password authentication failed for user "..."']];
    await using hashing = await TestProxy.start(cluster);
    for (const [user, database] of [
      ['alice', DATABASE],
      ['stranger', DATABASE],
      ['alice', 'nowhere'],
      ['stranger', 'nowhere'],
      [ADMIN.user, 'pgcat'],
      ['stranger', 'pgcat'],
      ['alice', 'pgbouncer'],
    ]) {
      assert.deepEqual(await refusal(user, 'wrong', database, hashing.port), md5, `${user} of ${database}`);
    }
  });

  test('that is unknown gets the same salt each time, and a different one from others', async () => {
    await using scram = await TestProxy.start(cluster, { user: { auth_type: 'scram-sha-256' } });
    const saltOf = async (user: string) => {
      const client = await RawClient.open({ port: scram.port });
      client.send(frontend.startup({ user, database: DATABASE }));
      assert.equal(decode(await client.message()).name, METHODS['scram-sha-256']);
      client.send(initial('n,,n=,r=abcdefghijklmnopqrstuvwx'));
      const reply = decode(await client.message());
      client.destroy();
      assert.ok(reply.name === 'AuthenticationSASLContinue');
      return /s=([^,]+)/.exec(String(reply.data))?.[1];
    };
    assert.equal(await saltOf('stranger'), await saltOf('stranger'));
    assert.equal(await saltOf('alice'), await saltOf('alice'));
    assert.equal(new Set([await saltOf('stranger'), await saltOf('other'), await saltOf('alice')]).size, 3);
  });

  test('that breaks the exchange is refused with a protocol error, and the next one is served', async () => {
    const exchanges: [string, Buffer[]][] = [
      ['hashed', [frontend.query('SELECT 1')]],
      ['hashed', [frontend.message('p')]],
      ['hashed', [frontend.message('p', Buffer.from('no end'))]],
      ['hashed', [frontend.message('p', Buffer.from('two\0ends\0'))]],
      ['hashed', [frontend.terminate()]],
      ['salted', [frontend.sync()]],
      ['salted', [frontend.message('p')]],
      ['salted', [frontend.password('plain')]],
      ['salted', [initial('p=tls-unique,,n=,r=abc', 'SCRAM-SHA-256-PLUS')]],
      ['salted', [initial('p=tls-unique,,n=,r=abcdefghijkl')]],
      ['salted', [initial('nonsense')]],
      ['salted', [initial('n,,n=,r=')]],
      ['salted', [initial('n,,n=,r=abcdefghijkl'), response('c=biws')]],
      [
        'salted',
        [
          initial('n,,n=,r=abcdefghijkl'),
          response('c=biws,r=abcdefghijkl,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='),
        ],
      ],
    ];
    for (const [user, messages] of exchanges) {
      const what = `${user}: ${messages.map(String).join(' ')}`;
      const client = await RawClient.open({ port: proxy.port });
      client.send(frontend.startup({ user, database: DATABASE }), ...messages);
      const replies = (await client.untilClosed()).map(decode);
      client.destroy();
      const last = replies.at(-1);
      if (messages[0].equals(frontend.terminate())) assert.ok(!replies.some(({ name }) => name === 'AuthenticationOk'));
      else {
        assert.ok(last?.name === 'ErrorResponse', what);
        assert.deepEqual([last.fields.severity, last.fields.code], ['FATAL', '08P01'], what);
      }
    }
    await (await login('salted', SECRET)).close();
  });

  test('of the admin database logs in with its own user', async () => {
    for (const database of ['pgcat', 'pgbouncer']) {
      const admin = await login(ADMIN.user, ADMIN.password, database);
      assert.equal(decode(admin.greeting[0]).name, METHODS.md5);
      await admin.close();
    }
  });

  test('that asks for replication is refused', async () => {
    const failed = await RawClient.connect({
      port: proxy.port,
      user: 'open',
      database: DATABASE,
      parameters: { replication: 'database' },
    }).catch((error: unknown) => error);
    assert.ok(failed instanceof LoginError);
    assert.equal(failed.fields.code, '0A000');
  });
});

suite('a server', () => {
  test('is logged in to by trust, password, md5 and SCRAM, on the primary and on the replica', async () => {
    for (const [user, password] of [
      ['postgres', undefined],
      ['dave', PASSWORDS.dave],
      ['carol', PASSWORDS.carol],
      ['alice', PASSWORDS.alice],
      ['bob', PASSWORDS.bob],
    ] as const) {
      const client = await login(user, password);
      for (const role of ['primary', 'replica']) {
        await client.query(`SET SERVER ROLE TO ${role}`);
        const rows = rowsOf(await client.query('SELECT current_user, pg_is_in_recovery()'));
        assert.deepEqual(rows, [[user, role === 'replica' ? 't' : 'f']]);
      }
      await client.close();
    }
  });

  test('that refuses the configured password costs the client an error that says so', async () => {
    for (const [user, code, cause] of [
      ['mistaken', '28P01', /password authentication failed for user "alice"/],
      ['speechless', '28000', /the server asks for a password, and none is configured/],
      ['nobody', '28000', /no pg_hba.conf entry .*"nobody_there"/],
    ] as const) {
      const failed = await login(user).catch((error: unknown) => error);
      assert.ok(failed instanceof LoginError);
      assert.deepEqual([failed.fields.severity, failed.fields.code], ['FATAL', code]);
      assert.match(failed.fields.message ?? '', cause);
      assert.match(failed.fields.message ?? '', /could not get connection from the pool/);
    }
  });

  test('that sends notices and warnings while it is logged in to is no failure', async () => {
    await cluster.sql(`CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE NOTICE 'welcome'; RAISE WARNING 'beware'; END $$`);
    await cluster.sql('CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION greet()');
    await cluster.caughtUp();
    await using fresh = await TestProxy.start(cluster, { users: ['alice', 'carol', 'dave'] });
    for (const user of ['alice', 'carol', 'dave'] as const) {
      const login = { user, database: DATABASE, password: PASSWORDS[user] };
      const straight = await RawClient.connect({ port: cluster.primary.port, ...login });
      assert.ok(
        straight.greeting.some(({ type }) => type === 'N'),
        'PostgreSQL raised no notice',
      );
      await straight.close();
      const client = await RawClient.connect({ port: fresh.port, ...login });
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']]);
      await client.close();
    }
    await cluster.sql('DROP EVENT TRIGGER greet');
    assert.deepEqual(
      fresh.log.filter(({ reason }) => reason !== undefined),
      [],
    );
  });
});
