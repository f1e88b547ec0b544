/** The least that a proxy in Node can do, as a process: bytes are passed on as they come; `relay.ts HOST PORT OWN_PORT`. */
import { connect, createServer, type Socket } from 'node:net';

const [host = '', port = '', own_port = ''] = process.argv.slice(2);

/** Passes on one direction, and its end. */
function relay(from: Socket, to: Socket): void {
  from.on('data', chunk => {
    if (to.write(chunk)) return;
    from.pause();
    to.once('drain', () => from.resume());
  });
  // The close that follows says it.
  from.on('error', () => {});
  from.on('close', () => to.destroySoon());
}

createServer({ noDelay: true }, client => {
  const server = connect({ host, port: Number(port), noDelay: true });
  relay(client, server);
  relay(server, client);
}).listen(Number(own_port), host);
