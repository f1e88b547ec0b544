/** When TCP asks whether the other side of a silent connection is still there. */
import type { Socket } from 'node:net';

/** What the operating system is told. */
export interface KeepAlive {
  /** Seconds of silence before the first question; 0 leaves all of it to the system. */
  readonly idle_s: number;
  /** Seconds between two questions, and how many may stay unanswered; 0 leaves it to Node: 1 s and 10. */
  readonly interval_s: number;
  readonly count: number;
}

/** The settings of the file. */
export interface KeepAliveSettings {
  readonly tcp_keepalives_idle: number;
  readonly tcp_keepalives_interval: number;
  readonly tcp_keepalives_count: number;
}

export function keepAliveOf(settings: KeepAliveSettings): KeepAlive {
  const { tcp_keepalives_idle: idle_s, tcp_keepalives_interval: interval_s, tcp_keepalives_count: count } = settings;
  return { idle_s, interval_s, count };
}

/** Turns it on, on a socket that is connected. A Node before 24.19 knows `idle_s` only; a Unix socket needs none. */
export function keepAlive(socket: Socket, { idle_s, interval_s, count }: KeepAlive): void {
  socket.setKeepAlive(true, idle_s * 1000, interval_s === 0 ? undefined : interval_s * 1000, count || undefined);
}
