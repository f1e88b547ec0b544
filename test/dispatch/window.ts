/** Which cancel request may have ended which exchange, by when each of them was under way as its client saw it. */

/** A time in moments: each thing that happens to a client has one of its own. */
export interface Window {
  readonly began: number;
  /** Infinity while it is under way. */
  ended: number;
}

let moments = 0;

/** A moment later than any before it. */
export function moment(): number {
  return ++moments;
}

export function openWindow(): Window {
  return { began: moment(), ended: Number.POSITIVE_INFINITY };
}

/**
 * The exchanges that ended by cancel although no request can be the cause. A request is the cause of one end at most, and
 * only of an exchange that was sent before the request's connection was closed, and had not been answered when the
 * request was sent: PostgreSQL forgets a signal that comes between two statements, and has sent the signal when it
 * closes the connection. Both lists are one client's, in the order in which they began.
 */
export function unexplained<Exchange extends Window>(
  canceled: readonly Exchange[],
  requests: readonly Window[],
): Exchange[] {
  const unused = new Set(requests);
  return canceled.filter(exchange => {
    let cause: Window | undefined;
    // Exchanges begin and end in order, so the request that is over first is of the least use to those that follow.
    for (const request of unused) {
      const mayBe = request.began < exchange.ended && request.ended > exchange.began;
      if (mayBe && (cause === undefined || request.ended < cause.ended)) cause = request;
    }
    if (cause !== undefined) unused.delete(cause);
    return cause === undefined;
  });
}
