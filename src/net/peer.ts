/** Which user of the operating system is at the other end of a Unix socket: the kernel's own answer. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';

/** The number that a program started by {@link ask} has the socket under. */
const SOCKET_FD = 3;

/**
 * Node has no getsockopt, and these nearly every Linux has. Each is given the very socket and prints the name of the user
 * whom SO_PEERCRED gives: who had connected it, whatever became of that process since. None reads from the socket.
 */
const PROGRAMS: readonly { readonly paths: readonly string[]; readonly args: readonly string[] }[] = [
  {
    paths: ['/usr/bin/perl', '/usr/local/bin/perl'],
    args: [
      '-e',
      `use Socket qw(SOL_SOCKET SO_PEERCRED);
       open(my $peer, '+<&=', ${SOCKET_FD}) or exit 1;
       my $credentials = getsockopt($peer, SOL_SOCKET, SO_PEERCRED) or exit 1;
       exit 1 if length($credentials) != 12;
       my (undef, $uid) = unpack('iII', $credentials);
       my $name = getpwuid($uid);
       print $name if defined $name;`,
    ],
  },
  {
    paths: ['/usr/bin/python3', '/usr/local/bin/python3'],
    args: [
      '-I',
      '-c',
      `import pwd, socket, struct, sys
peer = socket.socket(fileno=${SOCKET_FD})
credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
sys.stdout.write(pwd.getpwuid(struct.unpack('iII', credentials)[1]).pw_name)`,
    ],
  },
];

/** A program that has not answered after this long is ended. */
const ANSWER_MS = 5000;
/** Programs that run at a time; more wait their turn. */
const RUNNING_MAX = 4;
/** Longest name that is taken; Linux has at most 32 bytes. */
const NAME_LENGTH_MAX = 256;

/** A program that can tell, and its arguments. */
interface Program {
  readonly path: string;
  readonly args: readonly string[];
}

let running = 0;
const waiting: (() => void)[] = [];

/**
 * The name of the user who connected this accepted Unix socket. Undefined when that cannot be known: the socket is none,
 * the user has no name here, or this machine has no program that can ask the kernel. Takes some 20 ms, in the background.
 */
export async function peerUser(socket: Socket): Promise<string | undefined> {
  const fd = descriptorOf(socket);
  if (fd === undefined || socket.remoteAddress !== undefined || peerProgram() === undefined) return undefined;
  if (running >= RUNNING_MAX) await new Promise<void>(resolve => waiting.push(resolve));
  else running++;
  try {
    // The number may have become another socket's while this one waited.
    return descriptorOf(socket) === fd ? await ask(fd) : undefined;
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

/** The program that {@link peerUser} asks with; undefined where there is none, so that nobody is ever known. */
export function peerProgram(): Program | undefined {
  if (process.platform !== 'linux') return undefined;
  for (const { paths, args } of PROGRAMS) {
    const path = paths.find(path => existsSync(path));
    if (path !== undefined) return { path, args };
  }
  return undefined;
}

function ask(fd: number): Promise<string | undefined> {
  const program = peerProgram();
  if (program === undefined) return Promise.resolve(undefined);
  return new Promise(resolve => {
    // Nothing of this process's environment may change what the program does.
    const child = spawn(program.path, program.args, {
      env: {},
      cwd: '/',
      stdio: ['ignore', 'pipe', 'ignore', fd],
      timeout: ANSWER_MS,
      killSignal: 'SIGKILL',
    });
    let name = '';
    child.stdout?.on('data', bytes => {
      if (name.length <= NAME_LENGTH_MAX) name += String(bytes);
    });
    child.once('error', () => resolve(undefined));
    child.once('close', code => {
      const isKnown = code === 0 && name !== '' && name.length <= NAME_LENGTH_MAX;
      resolve(isKnown ? name : undefined);
    });
  });
}

/** The socket's number in this process, which Node keeps in its handle. */
function descriptorOf(socket: Socket): number | undefined {
  if (socket.destroyed) return undefined;
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
