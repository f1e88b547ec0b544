/** One client that sleeps in the server and one that streams, as a process: `neighbours.ts HOST PORT USER`. */
import { DiscardingClient } from '../client.ts';
import { stdinEnd, tell } from '../companion.ts';

export const SLEEP = 'SELECT pg_sleep(0.5)';
/** A result of 100 MB. */
export const STREAM = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";

async function main([host = '', port = '', user = '']: readonly string[]): Promise<void> {
  const address = { host, port: Number(port), user };
  const [sleeper, streamer] = [await DiscardingClient.connect(address), await DiscardingClient.connect(address)];
  let wanted = true;
  let sleeps = 0;
  const loop = async (client: DiscardingClient, text: string, done: () => void) => {
    while (wanted) {
      await client.query(text);
      done();
    }
    client.close();
  };
  const start = performance.now();
  const loops = [loop(sleeper, SLEEP, () => sleeps++), loop(streamer, STREAM, () => {})];
  tell('ready', 1);
  await Promise.race([stdinEnd(), ...loops]);
  const passed_s = (performance.now() - start) / 1000;
  tell('sleeps/s', sleeps / passed_s);
  tell('streamed_MB/s', streamer.bytes / 1e6 / passed_s);
  wanted = false;
  await Promise.all(loops);
  process.exit();
}

if (import.meta.main) await main(process.argv.slice(2));
