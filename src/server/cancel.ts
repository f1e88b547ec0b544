/** Sends one CancelRequest to a server over a connection of its own and waits until the server has acted on it. */
import { connect } from 'node:net';
import { cancelRequest } from '../wire/frontend.ts';

/**
 * Cancels what the server process `pid` runs. The server closes the connection after it has sent the signal, so
 * `settled` is called with undefined then, and with the failure when that could not be seen in `connect_timeout` ms.
 */
export function sendCancel(
  server: { readonly host: string; readonly port: number; readonly connect_timeout: number },
  pid: number,
  secret: Buffer,
  settled: (failure: string | undefined) => void,
): void {
  const { host, port, connect_timeout } = server;
  const socket = connect({ host, port });
  let sent = false;
  let done = false;
  const settle = (failure: string | undefined) => {
    if (done) return;
    done = true;
    clearTimeout(timer);
    socket.destroy();
    settled(failure);
  };
  const timer = setTimeout(() => settle(`no answer in ${connect_timeout} ms`), connect_timeout);
  socket.on('connect', () => {
    sent = true;
    socket.write(cancelRequest(pid, secret));
  });
  // A server that answers by resetting the connection has read the request.
  socket.on('error', error => settle(sent ? undefined : error.message));
  socket.on('close', () => settle(undefined));
  socket.resume();
}
