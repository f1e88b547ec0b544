/** Ends connections whose other side acknowledges nothing any more: Linux's TCP_USER_TIMEOUT, which Node cannot set. */
import { createReadStream } from 'node:fs';
import { isIPv6, type Socket } from 'node:net';
import { endianness } from 'node:os';
import { errorText } from '../errors.ts';

/** What the kernel tells of its connections, a line each, to whoever asks. */
const TABLES = ['/proc/net/tcp', '/proc/net/tcp6'];

/**
 * A line of an open connection that sends again, or asks whether there is room again: both addresses, bytes that are not
 * acknowledged, what was sent again without an answer, and questions without one.
 */
const LINE = /^ *\d+: (\S+ \S+) 01 ([\dA-F]{8}):[\dA-F]{8} 0[14]:[\dA-F]{8} ([\dA-F]{8}) +\d+ +(\d+) /;

/** So often the kernel has tried before it counts: a lost packet or two is no lost connection. */
const TRIES_MIN = 3;
const LOOK_MIN_MS = 250;
const LOOK_MAX_MS = 2500;
/** The part of the time that is spent on reading the tables, at most, on a machine with very many connections. */
const SHARE = 50;

/** Where it is told that this machine has no such tables. */
export interface UnacknowledgedLog {
  warn(text: string): void;
}

/** What was seen of a socket when it was last looked at. */
class Sight {
  read = -1;
  written = -1;
  /** Bytes written by the time when all was acknowledged, or answered. */
  answered = 0;
  /** When the kernel was first seen to try again in vain, and how often it had tried by the last look. */
  since: number | undefined;
  tries = 0;
}

export class Unacknowledged {
  readonly #limit_ms: () => number;
  readonly #log: UnacknowledgedLog;
  readonly #sights = new Map<Socket, Sight>();
  #next_at = 0;
  #looking = false;
  #unable = process.platform !== 'linux';

  /** `limit_ms` 0 is never. */
  constructor(limit_ms: () => number, log: UnacknowledgedLog) {
    this.#limit_ms = limit_ms;
    this.#log = log;
  }

  /** Looks after a connected socket until it is closed. */
  watch(socket: Socket): void {
    if (this.#unable || socket.remoteAddress === undefined || socket.destroyed) return;
    this.#sights.set(socket, new Sight());
    socket.once('close', () => this.#sights.delete(socket));
  }

  /** Looks, if it is time and anybody has been sent something and been silent since. */
  look(now: number): void {
    const limit_ms = this.#limit_ms();
    if (this.#unable || limit_ms === 0 || this.#looking || now < this.#next_at) return;
    this.#next_at = now + Math.min(LOOK_MAX_MS, Math.max(LOOK_MIN_MS, limit_ms / 4));
    const silent = this.#silent();
    if (silent.size === 0) return;
    this.#looking = true;
    this.#examine(silent, limit_ms, now)
      .catch((error: unknown) => {
        this.#unable = true;
        this.#log.warn(`tcp_user_timeout has no effect here: ${errorText(error)}`);
      })
      .finally(() => {
        this.#looking = false;
        this.#next_at = Math.max(this.#next_at, performance.now() + SHARE * (performance.now() - now));
      });
  }

  /** Sockets that were sent something and have said nothing since the last look, by the kernel's name for them. */
  #silent(): Map<string, Socket> {
    const silent = new Map<string, Socket>();
    for (const [socket, sight] of this.#sights) {
      const { bytesRead: read, bytesWritten: written } = socket;
      const isSilent = read === sight.read;
      sight.read = read;
      if (!isSilent) {
        sight.answered = sight.written;
        sight.since = undefined;
      }
      sight.written = written;
      if (isSilent && written !== sight.answered) silent.set(nameOf(socket), socket);
    }
    return silent;
  }

  async #examine(silent: ReadonlyMap<string, Socket>, limit_ms: number, now: number): Promise<void> {
    const trying = new Map<Socket, number>();
    for (const path of TABLES) {
      for await (const line of linesOf(path)) {
        const [, name = '', bytes = '', again = '', asked = ''] = LINE.exec(line) ?? [];
        const socket = silent.get(name);
        const tries = Math.max(Number.parseInt(again, 16), Number(asked));
        if (socket !== undefined && Number.parseInt(bytes, 16) > 0) trying.set(socket, tries);
      }
    }
    for (const socket of silent.values()) this.#judge(socket, trying.get(socket), limit_ms, now);
  }

  /** `tries` is undefined when nothing of what was sent is under way. */
  #judge(socket: Socket, tries: number | undefined, limit_ms: number, now: number): void {
    const sight = this.#sights.get(socket);
    if (sight === undefined || socket.bytesRead !== sight.read) return;
    if (tries === undefined) sight.answered = sight.written;
    // Fewer tries than before: some of it has arrived meanwhile.
    if (tries === undefined || tries < TRIES_MIN || tries < sight.tries) sight.since = undefined;
    else sight.since ??= now;
    sight.tries = tries ?? 0;
    if (sight.since === undefined || now - sight.since < limit_ms) return;
    socket.destroy(new Error(`what was sent was not acknowledged for tcp_user_timeout (${limit_ms} ms)`));
  }
}

/** The lines of a file, read in pieces, so that a long one holds nobody up. */
async function* linesOf(path: string): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of createReadStream(path, 'latin1')) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

/** `local remote`, as the tables have them. */
function nameOf({ localAddress = '', localPort = 0, remoteAddress = '', remotePort = 0 }: Socket): string {
  return `${hexOf(localAddress)}:${portHex(localPort)} ${hexOf(remoteAddress)}:${portHex(remotePort)}`;
}

function portHex(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}

/** An address as the kernel prints it: words of four bytes, each as a number of this machine. */
function hexOf(address: string): string {
  const bytes = isIPv6(address) ? bytesOf(address) : Buffer.from(address.split('.').map(Number));
  if (endianness() === 'LE') bytes.swap32();
  return bytes.toString('hex').toUpperCase();
}

function bytesOf(address: string): Buffer {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  const [, front = '', a, b, c, d] = dotted ?? [];
  const pair = (high: unknown, low: unknown) => (Number(high) * 256 + Number(low)).toString(16);
  const plain = (dotted === null ? address : `${front}${pair(a, b)}:${pair(c, d)}`).replace(/%.*/, '');
  const [head = '', tail] = plain.split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const [first, last] = [groups(head), groups(tail)];
  const zeros = Array.from({ length: tail === undefined ? 0 : 8 - first.length - last.length }, () => '0');
  const bytes = Buffer.alloc(16);
  for (const [index, group] of [...first, ...zeros, ...last].entries()) {
    bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2);
  }
  return bytes;
}
