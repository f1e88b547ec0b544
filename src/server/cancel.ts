/** Sends one CancelRequest to a server over a connection of its own and waits until the server has acted on it. */
import { connect } from 'node:net';
import { cancelRequest } from '../wire/frontend.ts';

/** SQLSTATE of a statement that a cancel has ended. */
export const QUERY_CANCELED = '57014';

/**
 * Cancels what the server process `pid` runs. The server closes the connection after it has sent the signal: then, or
 * when the request could not be sent at all, `settled` is called with undefined. A request that was sent and is not
 * answered in `connect_timeout` ms may still take effect, and `settled` is told so in words.
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
  const timer = setTimeout(() => settle(sent ? `no answer in ${connect_timeout} ms` : undefined), connect_timeout);
  socket.on('connect', () => {
    sent = true;
    socket.write(cancelRequest(pid, secret));
  });
  // A server that answers by resetting the connection has read the request.
  socket.on('error', () => settle(undefined));
  socket.on('close', () => settle(undefined));
  socket.resume();
}
