/** The HTTP server without any PostgreSQL: what is where, what is refused, and how long it waits for whom. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TABLES } from '../../src/admin/show.ts';
import { Exporter } from '../../src/http/exporter.ts';
import { type HttpLimits, HttpServer } from '../../src/http/server.ts';
import { Turnstile } from '../../src/http/turnstile.ts';
import { client, TestControl } from '../admin/control.ts';

const PATIENT: HttpLimits = {
  connections_max: 20,
  head_length_max: 4096,
  head_timeout: 60_000,
  request_timeout: 60_000,
  answer_timeout: 60_000,
  idle_timeout: 60_000,
};
const HASTY = { head_timeout: 300, request_timeout: 300, answer_timeout: 700, idle_timeout: 300 };

const servers: HttpServer[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.destroy();
});

/** A server in front of `control`; answers its port. */
async function start(limits: Partial<HttpLimits> = {}, control = new TestControl()): Promise<number> {
  const logged: string[] = [];
  const server = new HttpServer(control, { error: text => logged.push(text) }, { ...PATIENT, ...limits });
  servers.push(server);
  const { port } = await server.listen(['127.0.0.1'], 0);
  return port;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

async function ask(port: number, path: string, method = 'GET', body = ''): Promise<Answer> {
  const request = httpRequest({ port, host: '127.0.0.1', path, method, agent: false });
  request.end(body);
  const [response]: IncomingMessage[] = await once(request, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode ?? 0, headers: response.headers, body: text };
}

/** Resolves when a connection is over, however it ended. */
function closed(socket: Socket): Promise<unknown> {
  return new Promise(resolve => socket.once('close', resolve));
}

/** What comes back for these bytes until the connection is closed. */
async function say(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let heard = '';
  socket.setEncoding('utf8').on('data', chunk => {
    heard += chunk;
  });
  socket.on('error', () => {});
  socket.write(text);
  await closed(socket);
  return heard;
}

test('a port that was listened on for a reload that came to nothing is free for the next one', async () => {
  const probe = new HttpServer(new TestControl(), { error: () => {} });
  const { port } = await probe.listen(['127.0.0.1'], 0);
  probe.destroy();
  const exporter = new Exporter(new TestControl(), ['127.0.0.1'], { info: () => {}, error: () => {} });
  const settings = { enable_prometheus_exporter: true, prometheus_exporter_port: port };
  await exporter.prepare(settings);
  assert.equal(exporter.port, undefined);
  const expose = await exporter.prepare(settings);
  expose();
  assert.equal((await ask(port, '/livez')).status, 200);
  await exporter.prepare({ ...settings, prometheus_exporter_port: 0 });
  exporter.stop();
  await assert.rejects(ask(port, '/livez'));
});

suite('paths', () => {
  test('/livez is there as long as the process', async () => {
    const control = new TestControl();
    control.draining = true;
    const { status, body, headers } = await ask(await start({}, control), '/livez?verbose');
    assert.deepEqual([status, body], [200, 'ok\n']);
    assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
    assert.equal(headers['cache-control'], 'no-store');
  });

  test('every table of SHOW is there, and /api lists them', async () => {
    const control = new TestControl();
    control.sessions = [client(7, 'bob', 'waiting', { wait_ms: 2_500_000 }), client(8, 'bob', 'idle')];
    const port = await start({}, control);
    const { tables } = JSON.parse((await ask(port, '/api')).body);
    assert.deepEqual(
      tables,
      [...TABLES.keys()].map(name => `/api/${name.toLowerCase()}`),
    );
    assert.ok(tables.length > 10);
    for (const [name, table] of TABLES) {
      const { status, headers, body } = await ask(port, `/api/${name.toLowerCase()}`);
      assert.equal(status, 200, name);
      assert.equal(headers['content-type'], 'application/json; charset=utf-8');
      const rows: Record<string, unknown>[] = JSON.parse(body);
      const shown = table.rows(control);
      assert.equal(rows.length, shown.length, name);
      for (const row of rows) {
        for (const { name: column, type } of table.columns) {
          assert.equal(typeof row[column], type === 'text' ? 'string' : 'number', `${name}.${column}`);
        }
      }
    }
    const pools = JSON.parse((await ask(port, '/api/pools')).body);
    const ofBob = pools.find(({ database, user }: Record<string, string>) => database === 'shop' && user === 'bob');
    assert.deepEqual([ofBob.cl_waiting, ofBob.cl_idle, ofBob.maxwait], [1, 1, 2500]);
  });

  test('no secret is told anywhere', async () => {
    const port = await start();
    for (const name of [...TABLES.keys()].map(name => `/api/${name.toLowerCase()}`).concat('/metrics', '/readyz')) {
      const { body } = await ask(port, name);
      assert.doesNotMatch(body, /"secret"|: secret/, name);
    }
    const config = JSON.parse((await ask(port, '/api/config')).body);
    assert.ok(config.some((row: Record<string, string>) => row.key === 'admin_password' && row.value === '********'));
  });

  test('what is not there is 404, whatever the method', async () => {
    const port = await start();
    for (const path of ['/', '/metric', '/metrics/', '/api/', '/api/help', '/api/POOLS', '/api/constructor', '//']) {
      for (const method of ['GET', 'POST']) assert.equal((await ask(port, path, method)).status, 404, path);
    }
    assert.match((await ask(port, '/')).body, /\/metrics/);
  });
});

suite('methods', () => {
  test('HEAD is GET without the body', async () => {
    const port = await start();
    for (const path of ['/livez', '/api/version', '/readyz']) {
      const whole = await ask(port, path);
      const head = await ask(port, path, 'HEAD');
      assert.deepEqual([head.status, head.body], [whole.status, '']);
      assert.equal(head.headers['content-length'], String(Buffer.byteLength(whole.body)));
      assert.equal(head.headers['content-type'], whole.headers['content-type']);
    }
  });

  test('all others are 405 and change nothing', async () => {
    const port = await start();
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const { status, headers } = await ask(port, '/api/pools', method);
      assert.deepEqual([status, headers.allow], [405, 'GET, HEAD'], method);
    }
  });

  test('a GET with a body is 413, and its connection is closed', async () => {
    const port = await start();
    const heard = await say(port, 'GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbody');
    assert.match(heard, /^HTTP\/1.1 413 /);
    assert.match(heard, /\r\nConnection: close\r\n/);
  });
});

suite('clients that are slow or many', () => {
  test('leave most of the time to others: answers are made one by one, with pauses', async () => {
    const turnstile = new Turnstile();
    const made: number[] = [];
    let underway = 0;
    let most = 0;
    const work = async (n: number) => {
      most = Math.max(most, ++underway);
      await sleep(10);
      underway--;
      made.push(n);
      if (n === 1) throw new Error('no answer');
      return n;
    };
    const began_at = performance.now();
    const all = await Promise.allSettled(
      [0, 1, 2, 3].map(n =>
        turnstile.pass(
          () => false,
          () => work(n),
        ),
      ),
    );
    assert.deepEqual(made, [0, 1, 2, 3]);
    assert.deepEqual(
      all.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
    );
    assert.equal(most, 1);
    // Four answers of 10 ms, and three pauses of four times that.
    assert.ok(performance.now() - began_at > 140);
  });

  test('and whoever waits for his turn keeps nobody from asking whether pglynx lives', async () => {
    const control = new TestControl();
    control.sessions = Array.from({ length: 5_000 }, (_, id) => client(id, 'bob', 'idle'));
    const port = await start({}, control);
    let waiting = 8;
    const tables = Array.from({ length: waiting }, () => ask(port, '/api/clients').finally(() => waiting--));
    await Promise.all([ask(port, '/livez'), ask(port, '/readyz')]);
    assert.ok(waiting > 0, 'all tables were there before');
    for (const { status } of await Promise.all(tables)) assert.equal(status, 200);
  });

  test('get so many answers on one connection and no more', async () => {
    const heard = await say(await start({ idle_timeout: 300 }), 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(1000));
    const answers = [...heard.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status);
    assert.equal(answers.filter(status => status === '200').length, 100);
  });

  test('a connection on which nothing comes is closed', async () => {
    const heard = await say(await start(HASTY), '');
    assert.match(heard, /^HTTP\/1.1 408 |^$/);
  });

  test('a request whose head does not end is closed', async () => {
    const heard = await say(await start(HASTY), 'GET /livez HTTP/1.1\r\nHost:');
    assert.match(heard, /^HTTP\/1.1 408 /);
  });

  test('a head that is too long is refused', async () => {
    const heard = await say(await start(), `GET /livez HTTP/1.1\r\nHost: ${'x'.repeat(5000)}\r\n\r\n`);
    assert.match(heard, /^HTTP\/1.1 431 /);
  });

  test('a connection that is kept alive and idle is closed', async () => {
    const heard = await say(await start(HASTY), 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
    assert.match(heard, /^HTTP\/1.1 200 /);
  });

  test('one who does not read the answer is cut off', async () => {
    const control = new TestControl();
    // More than the sockets hold.
    control.sessions = Array.from({ length: 50_000 }, (_, id) => client(id, 'bob', 'idle'));
    const port = await start({ answer_timeout: HASTY.answer_timeout }, control);
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET /api/clients HTTP/1.1\r\nHost: x\r\n\r\n');
    socket.pause();
    await sleep(2000);
    let heard = '';
    socket.on('data', chunk => {
      heard += String(chunk);
    });
    socket.resume();
    await closed(socket);
    const [, whole] = /\r\nContent-Length: (\d+)\r\n/.exec(heard) ?? assert.fail(heard.slice(0, 200));
    assert.ok(heard.length < Number(whole), `${heard.length} of ${whole}`);
  });

  test('more connections than there may be are cut off, and the others served', async () => {
    const port = await start({ connections_max: 3 });
    const idle = Array.from({ length: 3 }, () => connect(port, '127.0.0.1'));
    await Promise.all(idle.map(socket => once(socket, 'connect')));
    assert.equal(await say(port, 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'), '');
    for (const socket of idle) socket.on('error', () => {});
    idle[0].write('GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const [answer] = await once(idle[0], 'data');
    assert.match(String(answer), /^HTTP\/1.1 200 /);
    for (const socket of idle) socket.destroy();
  });
});
