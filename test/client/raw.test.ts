/** The raw client straight on PostgreSQL: every message it knows, every login, and what it does when nothing comes. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { formatVerifier, parseVerifier, ScramServer } from '../../src/auth/scram.ts';
import { KeyCache } from '../../src/auth/secret.ts';
import { DATABASE, eventually, PASSWORDS, startCluster, type TestCluster } from '../cluster/index.ts';
import { decode, errorOf, rowsOf, tagsOf } from './backend.ts';
import * as frontend from './frontend.ts';
import { cancel, LoginError, RawClient } from './raw.ts';

let cluster: TestCluster;
before(async () => {
  cluster = await startCluster();
});
after(() => cluster.stop());

const address = () => ({ port: cluster.primary.port, host: cluster.primary.host });
const connect = (user = 'postgres', password?: string, parameters: Record<string, string> = {}) =>
  RawClient.connect({
    ...address(),
    user,
    database: DATABASE,
    parameters,
    ...(password === undefined ? {} : { password }),
  });
const types = (messages: readonly { type: string }[]) => messages.map(message => message.type).join('');

suite('a login', () => {
  test('by trust, cleartext, MD5 and SCRAM', async () => {
    const logins = { postgres: '', ...PASSWORDS };
    const asked: Record<string, string> = {};
    for (const [user, password] of Object.entries(logins)) {
      await using client = await connect(user, password);
      asked[user] = decode(client.greeting[0]).name;
      assert.deepEqual(rowsOf(await client.query('SELECT current_user')), [[user]]);
    }
    assert.deepEqual(asked, {
      postgres: 'AuthenticationOk',
      alice: 'AuthenticationSASL',
      bob: 'AuthenticationSASL',
      carol: 'AuthenticationMD5Password',
      dave: 'AuthenticationCleartextPassword',
    });
  });

  test('with a wrong password is refused with 28P01', async () => {
    for (const user of ['alice', 'carol', 'dave', 'nobody']) {
      await assert.rejects(connect(user, 'wrong'), (error: LoginError) => {
        assert.ok(error instanceof LoginError);
        assert.match(error.fields.code, user === 'nobody' ? /28000|28P01/ : /28P01/);
        return true;
      });
    }
  });

  test('by SCRAM with passwords that SASLprep changes, refuses or leaves alone', async () => {
    const passwords = ['grün', 'I\u00adX', '\u2168', 'a\u00a0b', 'ü\x07', '\u06271', 'pass😀word', '\u00ad', ' '];
    for (const password of passwords) {
      await cluster.sql(`ALTER ROLE bob PASSWORD '${password}'`);
      await using client = await connect('bob', password);
      assert.deepEqual(rowsOf(await client.query('SELECT 1')), [['1']], JSON.stringify(password));
    }
  });

  test('PostgreSQL and pglynx derive the same verifier', async () => {
    await cluster.sql("ALTER ROLE bob PASSWORD 'grün\u2168'");
    const [{ rolpassword }] = await cluster.sql<{ rolpassword: string }>(
      "SELECT rolpassword FROM pg_authid WHERE rolname = 'bob'",
    );
    const verifier = parseVerifier(rolpassword);
    assert.ok(verifier !== undefined);
    assert.equal(formatVerifier(verifier), rolpassword);
    const keys = await new KeyCache(Buffer.alloc(32)).keys('grünIX', verifier.salt, verifier.iterations);
    assert.deepEqual([keys.storedKey, keys.serverKey], [verifier.storedKey, verifier.serverKey]);
  });

  test('by SCRAM: PostgreSQL refuses what ScramServer refuses, and goes on where it goes on', async () => {
    const verifier = await new KeyCache(Buffer.alloc(32)).verifier('alice', PASSWORDS.alice);
    const messages = [
      'n,,n=,r=abc',
      'y,,n=,r=abc',
      'n,,n=name,r=abc',
      'n,,n=,r=abc,x=1',
      'p=tls-server-end-point,,n=,r=abc',
      'n,a=alice,n=,r=abc',
      'n,,m=1,n=,r=abc',
      'n,,r=abc,n=',
      'n,,n=,r=a b',
      'n,,n=',
      'n,',
      'x,,n=,r=abc',
      'n,,n=,r=abc\0',
    ];
    for (const text of messages) {
      const message = Buffer.from(text);
      await using client = await RawClient.open(address());
      client.send(frontend.startup({ user: 'alice', database: DATABASE }));
      await client.until('R');
      client.send(frontend.saslInitialResponse('SCRAM-SHA-256', message));
      const accepted = (await client.message()).type === 'R';
      const ours = () => new ScramServer(verifier, 'server').first(message);
      if (accepted) assert.match(ours().toString(), /^r=abcserver,s=.*,i=4096$/, text);
      else assert.throws(ours, text);
    }
  });

  test('after SSLRequest and GSSENCRequest were declined, one byte at a time', async () => {
    await using client = await RawClient.open(address());
    for (const request of [frontend.sslRequest(), frontend.gssRequest()]) {
      client.send(request);
      assert.equal((await client.bytes(1)).toString(), 'N');
    }
    await client.trickle(frontend.startup({ user: 'postgres', database: DATABASE, application_name: 'drop by drop' }));
    await client.ready();
    assert.equal(client.parameters.get('application_name'), 'drop by drop');
    assert.ok(client.pid > 0);
    await client.trickle(frontend.query('SELECT 1'), 3);
    assert.deepEqual(rowsOf(await client.ready()), [['1']]);
  });

  test('of protocol 3.2 has a longer secret, and an unknown option is named', async () => {
    await using client = await RawClient.connect({
      ...address(),
      user: 'postgres',
      database: DATABASE,
      protocol: frontend.PROTOCOL_3_2,
      parameters: { '_pq_.wish': 'yes' },
    });
    assert.equal(client.secret.length, 32);
    assert.deepEqual(decode(client.greeting[0]), {
      name: 'NegotiateProtocolVersion',
      newest: frontend.PROTOCOL_3_2,
      unknown: ['_pq_.wish'],
    });
  });
});

suite('a query', () => {
  test('simple: rows, NULL, tags, an error with its fields, a notice', async () => {
    await using client = await connect();
    const messages = await client.query("SELECT 'ä' AS a, NULL AS b; SELECT 1 WHERE false");
    assert.equal(types(messages), 'TDCTCZ');
    assert.deepEqual(rowsOf(messages), [['ä', null]]);
    assert.deepEqual(tagsOf(messages), ['SELECT 1', 'SELECT 0']);
    assert.deepEqual(decode(messages[0]), {
      name: 'RowDescription',
      columns: [
        { name: 'a', type: 25, format: 0 },
        { name: 'b', type: 25, format: 0 },
      ],
    });
    const error = errorOf(await client.query('SELECT * FROM nowhere'));
    assert.equal(error?.code, '42P01');
    assert.equal(error?.severity, 'ERROR');
    assert.equal(error?.position, '15');
    assert.equal(types(await client.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")), 'NCZ');
    assert.equal(types(await client.query('')), 'IZ');
  });

  test('extended: prepared, described, bound in both formats, executed in parts, closed', async () => {
    await using client = await connect();
    client.send(
      frontend.parse('twice', 'SELECT $1::int4 * generate_series(1, 3) AS n'),
      frontend.describe('S', 'twice'),
      frontend.bind('p', 'twice', ['2']),
      frontend.describe('P', 'p'),
      frontend.execute('p', 2),
      frontend.execute('p'),
      frontend.close('P', 'p'),
      frontend.sync(),
    );
    const messages = await client.ready();
    assert.equal(types(messages), '1tT2TDDsDC3Z');
    assert.deepEqual(rowsOf(messages), [['2'], ['4'], ['6']]);
    assert.deepEqual(decode(messages[1]), { name: 'ParameterDescription', types: [23] });

    const options = { formats: [1], resultFormats: [1] };
    client.send(frontend.bind('', 'twice', [frontend.int32(7)], options), frontend.execute('', 1), frontend.sync());
    assert.deepEqual((await client.until('D')).at(-1)?.body.subarray(-4), frontend.int32(7));
    await client.ready();

    client.send(frontend.parse('', 'SELECT 1'), frontend.flush());
    assert.equal(types(await client.until('1')), '1');
    assert.equal(await client.silent(50), true);
    client.send(frontend.bind('', 'gone'), frontend.execute(), frontend.sync());
    const refused = await client.ready();
    assert.equal(types(refused), 'EZ');
    assert.equal(errorOf(refused)?.code, '26000');
  });

  test('copies in, out and not at all', async () => {
    await using client = await connect();
    await client.query('CREATE TEMP TABLE lines (line text)');
    client.send(frontend.query('COPY lines FROM STDIN'));
    assert.deepEqual(decode(await client.message()), { name: 'CopyInResponse', format: 0, formats: [0] });
    client.send(frontend.copyData('one\ntw'), frontend.copyData(Buffer.from('o\n')), frontend.copyDone());
    assert.deepEqual(tagsOf(await client.ready()), ['COPY 2']);
    client.send(frontend.query('COPY lines FROM STDIN'));
    await client.until('G');
    client.send(frontend.copyFail('no more'));
    assert.equal(errorOf(await client.ready())?.code, '57014');
    const messages = await client.query('COPY lines TO STDOUT');
    assert.equal(types(messages), 'HddcCZ');
    assert.deepEqual(decode(messages[2]), { name: 'CopyData', data: 'two\n' });
  });

  test('calls a function by OID', async () => {
    await using client = await connect();
    const [[oid]] = rowsOf(await client.query("SELECT 'pg_catalog.int4pl'::regproc::oid"));
    client.send(frontend.functionCall(Number(oid), ['2', '40']));
    assert.deepEqual(decode(await client.message()), { name: 'FunctionCallResponse', value: '42' });
    assert.equal(types(await client.ready()), 'Z');
  });

  test('hears notifications and parameter changes', async () => {
    await using client = await connect();
    const messages = await client.query("LISTEN news; NOTIFY news, 'good'; SET TimeZone = 'Asia/Tokyo'");
    assert.equal(client.parameters.get('TimeZone'), 'Asia/Tokyo');
    const notification = messages.find(message => message.type === 'A');
    assert.ok(notification !== undefined);
    assert.deepEqual(decode(notification), {
      name: 'NotificationResponse',
      pid: client.pid,
      channel: 'news',
      payload: 'good',
    });
  });

  test('is cancelled from another connection', async () => {
    await using client = await connect();
    client.send(frontend.query('SELECT pg_sleep(30)'));
    await eventually('the query runs', async () => (await cluster.activity())[0]?.state === 'active');
    await cancel(address(), client);
    assert.equal(errorOf(await client.ready())?.code, '57014');
  });
});

suite('reading', () => {
  test('pauses: a large result stays at the server until it is wanted', async () => {
    await using client = await connect();
    client.pause();
    client.send(frontend.query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"));
    assert.equal(await client.silent(100), true);
    client.resume();
    const messages = await client.ready();
    assert.equal(messages.length, 20_003);
    assert.equal(client.unread_bytes, 0);
  });

  test('gives up in time and tells what has come', async () => {
    await using client = await connect();
    client.send(frontend.query('SELECT 42 AS answer'));
    await assert.rejects(
      client.until('A', 100),
      /time is up while waiting for .*"A".*RowDescription.*'42'.*'SELECT 1'/,
    );
    await assert.rejects(client.message(20), /received nothing/);
    await assert.rejects(client.untilClosed(20), /the end of the connection/);
  });

  test('sees the connection closed by the server', async () => {
    await using client = await connect();
    await cluster.sql('SELECT pg_terminate_backend($1)', [client.pid]);
    const messages = await client.untilClosed();
    assert.equal(errorOf(messages)?.code, '57P01');
    await assert.rejects(client.ready(), /closed the connection while waiting/);
  });

  test('a destroyed or closed client is gone from the server', async () => {
    for (const leave of [(client: RawClient) => client.destroy(), (client: RawClient) => client.close()]) {
      const client = await connect('postgres', undefined, { application_name: 'leaver' });
      await leave(client);
      await eventually('the server has noticed', async () => (await cluster.activity()).length === 0);
    }
  });
});
