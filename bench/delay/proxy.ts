/** A TCP proxy, as a process: every chunk is passed on a fixed time after it came; `proxy.ts HOST PORT DELAY_MS`. */
import { connect, createServer, type Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { stdinEnd, tell } from '../companion.ts';
import { DelayLine } from './line.ts';

/** Bytes that one direction of a connection holds before it stops reading. */
const HELD_MAX = 4 * 1024 * 1024;

// A network needs no processor: nobody's work is to hold it up. Only root may.
try {
  setPriority(constants.priority.PRIORITY_HIGHEST);
} catch {}

const [host = '', port = '', delay_ms = ''] = process.argv.slice(2);
const line = new DelayLine(Number(delay_ms));
const options = { allowHalfOpen: true, noDelay: true };

/** Passes on in one direction what comes from `from`, its end and its loss too, all in order. */
function relay(from: Socket, to: Socket): void {
  let held = 0;
  from.on('data', chunk => {
    held += chunk.length;
    if (held > HELD_MAX) from.pause();
    line.add(() => {
      const done = () => {
        held -= chunk.length;
        if (held <= HELD_MAX && from.isPaused()) from.resume();
      };
      if (to.destroyed) done();
      else to.write(chunk, done);
    });
  });
  from.on('end', () => line.add(() => to.end()));
  // The close that follows says it.
  from.on('error', () => {});
  from.on('close', () => line.add(() => to.destroySoon()));
}

const listener = createServer(options, client => {
  const server = connect({ ...options, host, port: Number(port) });
  relay(client, server);
  relay(server, client);
});
listener.listen(0, '127.0.0.1', () => {
  const address = listener.address();
  if (address !== null && typeof address === 'object') tell('port', address.port);
  tell('ready', 1);
});
await stdinEnd();
tell('held_p50_ms', line.waited_ms(0.5));
tell('held_p99_ms', line.waited_ms(0.99));
process.exit();
