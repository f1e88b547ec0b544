/** Sends one CancelRequest to a server over a connection of its own and waits until the server has acted on it. */
import { type DialTarget, dial } from '../net/dial.ts';
import { cancelRequest } from '../wire/frontend.ts';

/** SQLSTATE of a statement that a cancel has ended. */
export const QUERY_CANCELED = '57014';

/** A server, and how long it may take. */
export interface CancelTarget extends DialTarget {
  /** Milliseconds. */
  readonly connect_timeout: number;
}

/**
 * Cancels what the server process `pid` runs. The server closes the connection after it has sent the signal: then, or
 * when the request could not be sent at all, `settled` is called with undefined. A request that was sent and is not
 * answered in `connect_timeout` ms may still take effect, and `settled` is told so in words.
 */
export function sendCancel(
  server: CancelTarget,
  pid: number,
  secret: Buffer,
  settled: (failure: string | undefined) => void,
): void {
  const { connect_timeout } = server;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error('late')), connect_timeout);
  const settle = (failure: string | undefined) => {
    clearTimeout(timer);
    settled(failure);
  };
  dial(server, late.signal).then(
    ({ socket }) => {
      let done = false;
      const end = (failure: string | undefined) => {
        if (done) return;
        done = true;
        socket.destroy();
        settle(failure);
      };
      late.signal.addEventListener('abort', () => end(`no answer in ${connect_timeout} ms`));
      // A server that answers by resetting the connection has read the request.
      socket.on('error', () => end(undefined));
      socket.on('close', () => end(undefined));
      socket.write(cancelRequest(pid, secret));
    },
    () => settle(undefined),
  );
}
