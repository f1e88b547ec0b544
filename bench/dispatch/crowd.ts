/** Clients that log in and stay idle, as a process: `crowd.ts HOST PORT USER COUNT`. */
import { DiscardingClient } from '../client.ts';
import { stdinEnd, tell } from '../companion.ts';

/** Logins at a time. */
const AT_ONCE = 50;

const [host = '', port = '', user = '', count = ''] = process.argv.slice(2);
const address = { host, port: Number(port), user };
const clients: DiscardingClient[] = [];
while (clients.length < Number(count)) {
  const length = Math.min(AT_ONCE, Number(count) - clients.length);
  clients.push(...(await Promise.all(Array.from({ length }, () => DiscardingClient.connect(address)))));
}
tell('ready', 1);
await stdinEnd();
for (const client of clients) client.close();
