/** What servers have done to poolers: every row of the security history where the attacker is at the other end of a pool. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { errorOf, type Fields, tagsOf } from '../client/backend.ts';
import { int32, message, query } from '../client/frontend.ts';
import { LoginError, RawClient } from '../client/raw.ts';
import { eventually, startCluster, type TestCluster } from '../cluster/index.ts';
import * as arbitrary from './arbitrary.ts';
import {
  authentication,
  fields,
  type HostileLine,
  HostileServer,
  letIn,
  type Malice,
  READY,
  until,
  WELCOME,
} from './server.ts';
import { Target } from './target.ts';

/** Every attack has a user of its own, so that no pool remembers the one before. */
const USERS = 300;
/** What the server wants. */
const SECRET = 'the secret that the server wants';

/** Keys of the pools whose server means harm. */
const TRAPS = {
  trap: '',
  prefer: 'server_tls = "prefer"',
  require: 'server_tls = "require"',
  scram: 'server_require_auth = ["scram-sha-256"]',
  few: 'server_scram_iterations_max = 5000',
  plus: 'server_require_auth = ["scram-sha-256-plus"]',
} as const;

function trapText(name: keyof typeof TRAPS, port: number): string {
  const users = Array.from(
    { length: name === 'trap' ? USERS : 20 },
    (_, index) => `[pools.${name}.users.${index}]
username = "u${index}"
auth_type = "trust"
server_password = "${SECRET}"
pool_size = 1
`,
  );
  return `[pools.${name}]
${TRAPS[name]}
[pools.${name}.shards.0]
database = "trap"
servers = [["127.0.0.1", ${port}, "primary"]]
${users.join('')}`;
}

let cluster: TestCluster;
let server: HostileServer;
let target: Target;
const used = new Map<string, number>();
before(async () => {
  cluster = await startCluster();
  server = await HostileServer.start();
  const names = ['trap', 'prefer', 'require', 'scram', 'few', 'plus'] as const;
  target = await Target.start(cluster, {
    general: { connect_timeout: 3000, validate_config: false },
    more: names.map(name => trapText(name, server.port)).join(''),
  });
});
after(async () => {
  await target?.stop();
  await server?.stop();
  await cluster?.stop();
});

/** A client that is sent into a trap. */
function enter(database: keyof typeof TRAPS = 'trap'): Promise<RawClient> {
  const number = used.get(database) ?? 0;
  used.set(database, number + 1);
  return RawClient.connect({ port: target.port, user: `u${number}`, database });
}

/** Why a client could not come in; the honest one is served meanwhile, and all of that takes no longer than a second. */
async function refusal(act: Malice, trap: keyof typeof TRAPS = 'trap'): Promise<Fields> {
  server.malice = act;
  const began_at = performance.now();
  const entering = enter(trap).then(
    client => {
      client.destroy();
      throw new Error('the server was let in');
    },
    (error: unknown) => {
      if (error instanceof LoginError) return error.fields;
      throw error;
    },
  );
  await target.serves();
  const honest_ms = performance.now() - began_at;
  const said = await entering;
  const took_ms = performance.now() - began_at;
  assert.ok(took_ms < 1000 + 2 * honest_ms, `${took_ms} ms until ${said.message}`);
  target.keepsMemory();
  return said;
}

/** Asks for SCRAM and answers the client's first message with `reply`, in which `{nonce}` is what the client sent. */
function scram(reply: (nonce: string) => string | Buffer, then?: Malice): Malice {
  return async line => {
    line.say(authentication(10, 'SCRAM-SHA-256\0\0'));
    const { body } = await line.message();
    const nonce = /r=([^,]+)$/.exec(String(body))?.[1] ?? '';
    line.say(authentication(11, reply(nonce)));
    await then?.(line);
  };
}

suite('SCRAM with a server', () => {
  test('CVE-2026-6665, 140a9a77 of odyssey: its nonce, salt or message is longer than any buffer', async () => {
    for (const length of [4096, 65_000, 70_000, 2 ** 22]) {
      for (const reply of [
        (nonce: string) => `r=${nonce}${'n'.repeat(length)},s=c2FsdA==,i=4096`,
        (nonce: string) => `r=${nonce}x,s=${'A'.repeat(length)},i=4096`,
        (nonce: string) => `r=${nonce}x,s=c2FsdA==,i=4096,${'x'.repeat(length)}`,
      ]) {
        const said = await refusal(scram(reply));
        assert.equal(said.severity, 'FATAL');
        assert.match(said.message ?? '', /longer than|not allowed/);
      }
    }
  });

  test('CVE-2026-6669, CVE-2026-42198: it asks for iterations without limit', async () => {
    for (const iterations of ['100001', '2147483647', '2147483648', '4294967297', '99999999999999999999', '1e9']) {
      const said = await refusal(scram(nonce => `r=${nonce}x,s=c2FsdA==,i=${iterations}`));
      assert.match(said.message ?? '', /iteration/, iterations);
    }
    for (const iterations of ['0', '-1', '', '4096x', ' 4096', '+4096', '0x1000', 'NaN']) {
      const said = await refusal(scram(nonce => `r=${nonce}x,s=c2FsdA==,i=${iterations}`));
      assert.match(said.message ?? '', /malformed|iteration/, iterations);
    }
  });

  test('CVE-2026-6669: it asks for more than server_scram_iterations_max', async () => {
    const asking = (iterations: number) =>
      scram(
        nonce => `r=${nonce}x,s=c2FsdA==,i=${iterations}`,
        line => void line.socket.end(),
      );
    const limit = /5001 SCRAM iterations, more than the 5000 of server_scram_iterations_max/;
    assert.match((await refusal(asking(5001), 'few')).message ?? '', limit);
    assert.doesNotMatch((await refusal(asking(5000), 'few')).message ?? '', /iterations/);
    assert.doesNotMatch((await refusal(asking(5001))).message ?? '', /iterations/);
  });

  test('CVE-2026-6669: it asks for the most iterations there may be, of every login anew, and others wait for nothing', async () => {
    const salt = () => randomBytes(16).toString('base64');
    server.malice = scram(
      nonce => `r=${nonce}x,s=${salt()},i=100000`,
      async line => {
        await line.message();
        line.socket.end();
      },
    );
    const entering = Array.from({ length: 8 }, () => enter().catch(() => undefined));
    for (let count = 0; count < 10; count++) {
      const began_at = performance.now();
      const client = await target.pglynx.connect();
      await target.serves();
      await client.close();
      assert.ok(performance.now() - began_at < 1000, 'an honest client logs in within a second');
    }
    await Promise.all(entering);
  });

  test('it ends the exchange early, so that it need not know the password', async () => {
    for (const early of [authentication(0), WELCOME, authentication(12, `v=${randomBytes(32).toString('base64')}`)]) {
      await refusal(
        scram(
          nonce => `r=${nonce}x,s=c2FsdA==,i=4096`,
          line => line.say(early, WELCOME),
        ),
      );
    }
    await refusal(
      scram(
        nonce => nonce,
        line => line.say(WELCOME),
      ),
    );
  });

  test('CVE-2026-6664: its messages are anything', async () => {
    const reply = fc.array(
      fc.constantFrom(
        'r=',
        '{nonce}',
        'x',
        ',',
        's=',
        'c2FsdA==',
        ',i=',
        '4096',
        '=',
        'm=1',
        'e=other-error',
        '\0',
        'v=',
      ),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(reply, fc.constantFrom(10, 11, 12, 5, 3, 99), async (parts, code) => {
        const text = parts.join('');
        await refusal(async line => {
          await scram(nonce => text.replaceAll('{nonce}', nonce))(line);
          line.say(authentication(code, text));
          line.socket.end();
        });
      }),
      { numRuns: 60 },
    );
  });
});

suite('a login to a server', () => {
  test('CVE-2026-6666: its error has no SQLSTATE, no message or no field at all', async () => {
    const errors: Record<string, Buffer> = {
      'no SQLSTATE': fields('E', ['SFATAL', 'VFATAL', 'Mgo away']),
      'no message': fields('E', ['SFATAL', 'VFATAL', 'C28P01']),
      'no severity': fields('E', ['Mgo away']),
      'no field': fields('E', []),
      'no end': fields('E', ['SFATAL', 'Mgo away'], false),
      'no body': message('E'),
      'a field without an end': message('E', Buffer.from('SFATAL\0Mgo aw')),
      'fields of no name': fields('E', ['\x01a', '\xffb', ' c']),
      'an SQLSTATE of another length': fields('E', ['SFATAL', 'C', 'Mgo away']),
    };
    for (const [what, error] of Object.entries(errors)) {
      const said = await refusal(line => line.say(error));
      assert.deepEqual([said.severity, said.code?.length], ['FATAL', 5], what);
      assert.match(said.message ?? '', /could not get connection from the pool - ./, what);
    }
    await refusal(
      scram(
        nonce => `r=${nonce}x,s=c2FsdA==,i=4096`,
        line => line.say(fields('E', [])),
      ),
    );
  });

  test('CVE-2025-49146: it is ready without having asked for a password or said that none is needed', async () => {
    const key = message('K', Buffer.concat([int32(1), int32(2)]));
    for (const words of [[READY], [key, READY], [authentication(10, 'SCRAM-SHA-256\0\0'), READY]]) {
      await refusal(line => line.say(...words));
    }
  });

  test('CVE-2026-107348: its messages have lengths at the edges of signed and unsigned', async () => {
    const body = fc.uint8Array({ maxLength: 12 }).map(Buffer.from);
    const type = fc.constantFrom(...'RSKZENvTDCA\0');
    await fc.assert(
      fc.asyncProperty(type, arbitrary.edge, body, async (type, length, body) => {
        await refusal(line => {
          line.say(message(type, body, length));
          line.socket.end();
        });
      }),
      { numRuns: 60 },
    );
  });

  test('CVE-2026-6668: it goes on without end', async () => {
    const name = () => Buffer.concat([randomBytes(2000), Buffer.from('\0value\0')]);
    const floods: Record<string, () => Buffer> = {
      parameters: () => message('S', name()),
      notices: () => fields('N', [`M${'x'.repeat(60_000)}`]),
      keys: () => message('K', Buffer.alloc(60_000)),
    };
    for (const next of Object.values(floods)) {
      const flood = (line: HostileLine) => pour(line, next);
      assert.match((await refusal(flood)).message ?? '', /more was sent than a login may take/);
      await refusal(scram(nonce => `r=${nonce}x,s=c2FsdA==,i=100000`, flood));
    }
  });
});

suite('logins to a server', () => {
  test('are refused again and again: nobody asks in a loop', async () => {
    server.malice = line => {
      line.say(fields('E', ['SFATAL', 'VFATAL', 'C28000', 'Mno']));
      line.socket.end();
    };
    const before = server.count;
    const login = { port: target.port, user: `u${USERS - 1}`, database: 'trap' };
    const clients = Array.from({ length: 100 }, () => RawClient.connect(login).catch((error: unknown) => error));
    await target.serves();
    for (const failed of await Promise.all(clients)) assert.ok(failed instanceof LoginError);
    const count = server.count - before;
    assert.ok(count >= 1 && count <= 20, `the server was asked ${count} times`);
  });
});

suite('a server that is to prove who it is', () => {
  /** Nothing more is said to it: no name, no password. */
  const hearsNothing = async (line: HostileLine, ...words: Buffer[]) => {
    line.say(...words);
    const heard = await line.message().catch(() => undefined);
    if (heard !== undefined) confided.push(heard.type);
  };
  let confided: string[] = [];

  test('CVE-2021-23222, CVE-2021-43767: answers the request for encryption and goes on in the clear', async () => {
    const yes = Buffer.from('S');
    const no = Buffer.from('N');
    confided = [];
    for (const trap of ['prefer', 'require'] as const) {
      for (const answer of [yes, no]) {
        for (const words of [WELCOME, authentication(3), READY, Buffer.from('N')]) {
          await refusal(line => hearsNothing(line, answer, words), trap);
        }
      }
      await refusal(async line => {
        line.say(yes);
        await sleep(20);
        line.say(WELCOME);
        line.socket.end();
      }, trap);
    }
    assert.match((await refusal(line => hearsNothing(line, no), 'require')).message ?? '', /does not offer TLS/);
    assert.deepEqual(confided, []);
  });

  test('CVE-2024-10977: answers the request for encryption with an error, in whose words somebody is to believe', async () => {
    for (const words of [
      fields('E', ['SFATAL', 'C28P01', 'Mcall this number']),
      Buffer.from('Ecall this number\n\0'),
    ]) {
      for (const trap of ['prefer', 'require'] as const) {
        assert.doesNotMatch((await refusal(line => line.say(words), trap)).message ?? '', /call this number/);
      }
    }
  });

  test('CVE-2025-49146: asks for less than server_require_auth wants, or for nothing', async () => {
    const weaker = [
      authentication(3),
      authentication(5, 'salt'),
      authentication(0),
      WELCOME,
      READY,
      authentication(10, 'PLAIN\0\0'),
    ];
    confided = [];
    for (const words of weaker) await refusal(line => hearsNothing(line, words), 'scram');
    for (const words of [
      ...weaker,
      authentication(10, 'SCRAM-SHA-256\0\0'),
      authentication(10, 'SCRAM-SHA-256-PLUS\0\0'),
    ]) {
      await refusal(line => hearsNothing(line, words), 'plus');
    }
    assert.deepEqual(confided, []);
    // It gives up its exchange, and asks for the password itself.
    await refusal(async line => {
      await scram(nonce => `r=${nonce}x,s=c2FsdA==,i=4096`)(line);
      await line.message();
      await hearsNothing(line, authentication(3));
    }, 'scram');
    assert.deepEqual(confided, []);
  });
});

suite('a server that was let in', () => {
  test('CVE-2026-6666: its error has no SQLSTATE, or no field at all', async () => {
    for (const error of [fields('E', ['SERROR', 'Mno']), fields('E', []), fields('E', ['Mno'], false), message('E')]) {
      server.malice = async line => {
        await letIn(line, 'bait');
        line.say(error, READY);
        await until(line, 'more bait');
        line.say(message('C', Buffer.from('SELECT 0\0')), READY);
      };
      const client = await enter();
      client.send(query('SELECT bait'));
      const types = (await client.ready()).map(({ type }) => type);
      assert.deepEqual(types, ['E', 'Z']);
      assert.deepEqual(tagsOf(await client.query('SELECT more bait')), ['SELECT 0']);
      client.destroy();
      await target.serves();
    }
  });

  test('CVE-2026-6668: it reports settings without end', async () => {
    let isOver = false;
    server.malice = async line => {
      await letIn(line, 'bait');
      await pour(line, () =>
        message('S', Buffer.concat([randomBytes(2000).map(byte => byte | 1), Buffer.from('\0x\0')])),
      );
      isOver = true;
    };
    const client = await enter();
    client.send(query('SELECT bait'));
    await eventually('nobody listens any more', () => isOver, 5000);
    client.destroy();
    await target.serves();
    target.keepsMemory();
  });

  test('CVE-2026-6666: its last words have no SQLSTATE', async () => {
    for (const words of [fields('E', ['SFATAL', 'Mgone']), fields('E', ['VFATAL']), fields('E', ['VPANIC', 'C'])]) {
      server.malice = async line => {
        await letIn(line, 'bait');
        line.say(words);
        line.socket.end();
      };
      const client = await enter();
      client.send(query('SELECT bait'));
      const error = errorOf([await client.message()]);
      assert.equal(error?.code?.length, 5);
      client.destroy();
      await target.serves();
    }
  });

  test('CVE-2026-107348: its messages have lengths at the edges of signed and unsigned', async () => {
    const body = fc.uint8Array({ maxLength: 12 }).map(Buffer.from);
    const type = fc.constantFrom(...'RSKZENTtDC123InsAGHWdcVvv\0');
    await fc.assert(
      fc.asyncProperty(type, arbitrary.edge, body, async (type, length, body) => {
        server.malice = async line => {
          await letIn(line, 'bait');
          line.say(message(type, body, length));
          line.socket.end();
        };
        const client = await enter();
        client.send(query('SELECT bait'), query('SELECT more'));
        await target.serves();
        // Whatever has become of it: it is not left alone.
        await client.bytes(1, 3000).catch(error => {
          if (!client.closed) throw error;
        });
        client.destroy();
      }),
      { numRuns: 40 },
    );
  });
});

/** Says it again and again, as fast as it is heard, until nobody listens. */
async function pour({ socket }: HostileLine, next: () => Buffer): Promise<void> {
  while (!socket.destroyed) {
    const piece = Buffer.concat(Array.from({ length: 20 }, next));
    if (!socket.write(piece)) await Promise.race([new Promise(resolve => socket.once('drain', resolve)), sleep(50)]);
    else await sleep(0);
  }
}
