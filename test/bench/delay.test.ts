/** The delaying proxy of the benchmark: its delay, its order, and that it delays chunks side by side. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Companion } from '../../bench/companion.ts';
import { DelayLine } from '../../bench/delay/line.ts';
import { ProgramError } from '../../bench/program.ts';
import { Guard } from '../../src/demo/guard.ts';

const guard = new Guard(undefined);
after(() => guard.end());

suite('the delaying proxy', { timeout: 30_000 }, () => {
  const DELAY_MS = 40;
  const echo = createServer({ allowHalfOpen: true }, socket => socket.pipe(socket));
  let proxy: Companion;

  before(async () => {
    await once(echo.listen(0, '127.0.0.1'), 'listening');
    proxy = await Companion.start(guard, 'delay/proxy.ts', ['127.0.0.1', portOf(echo.address()), DELAY_MS]);
  });
  after(async () => {
    await proxy.end();
    echo.close();
    assert.ok((proxy.told.get('held_p50_ms') ?? 0) >= DELAY_MS);
  });
  const open = async () => {
    const socket = connect({ port: proxy.told.get('port') ?? 0, host: '127.0.0.1', noDelay: true });
    await once(socket, 'connect');
    return socket;
  };

  test('holds every chunk for the delay in each direction', async () => {
    const socket = await open();
    for (let i = 0; i < 5; i++) {
      const start = performance.now();
      socket.write('x');
      await once(socket, 'data');
      const passed_ms = performance.now() - start;
      assert.ok(passed_ms >= 2 * DELAY_MS, `${passed_ms} ms`);
    }
    socket.destroy();
  });

  test('holds chunks side by side, in order', async () => {
    const CHUNKS = 50;
    const socket = await open();
    const start = performance.now();
    for (let i = 0; i < CHUNKS; i++) {
      socket.write(Buffer.of(i));
      await sleep(1);
    }
    const received = await read(socket, CHUNKS);
    const passed_ms = performance.now() - start;
    assert.deepEqual([...received], [...Array(CHUNKS).keys()]);
    assert.ok(passed_ms < (CHUNKS * 2 * DELAY_MS) / 2, `${passed_ms} ms`);
    socket.destroy();
  });

  test('passes on more than it holds at a time, and the end after it', async () => {
    const socket = await open();
    const sent = randomBytes(24 * 1024 * 1024);
    socket.end(sent);
    await sleep(3 * DELAY_MS);
    assert.ok(sent.equals(await buffer(socket)));
  });
});

test('a delay line never lets go too early, and hardly too late', async () => {
  const line = new DelayLine(1);
  const waits_ms: number[] = [];
  for (let i = 0; i < 100; i++) {
    const start = performance.now();
    await new Promise<void>(resolve => line.add(resolve));
    waits_ms.push(performance.now() - start);
  }
  assert.ok(Math.min(...waits_ms) >= 1);
  assert.ok(line.waited_ms(0.5) >= 1);
  const [quickest = 0] = waits_ms.toSorted((a, b) => a - b);
  assert.ok(quickest < 1.5, `${quickest} ms`);
  await line.close();
});

test('a companion that fails says why', async () => {
  await assert.rejects(
    Companion.start(guard, 'dispatch/crowd.ts', ['127.0.0.1', 1, 'nobody', 1]),
    (error: unknown) => error instanceof ProgramError && error.message.includes('ECONNREFUSED'),
  );
});

async function read(socket: Socket, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let received = 0;
  for await (const chunk of socket) {
    chunks.push(chunk);
    received += chunk.length;
    if (received >= length) break;
  }
  return Buffer.concat(chunks);
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0;
}
