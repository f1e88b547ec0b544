/** The commands of the admin database that do something: what each may be given, and what it returns. */
import { errorText, pgError } from '../errors.ts';
import { noticeResponse } from '../wire/backend.ts';
import type { Command, Outcome } from './command.ts';
import type { ControlPlane, ShutdownMode } from './control.ts';
import { namesIn } from './names.ts';
import type { PoolOfCluster } from './steering.ts';
import { text } from './table.ts';

/** One command beside SHOW. */
interface Verb {
  /** How SHOW HELP lists it. */
  readonly usage: string;
  /**
   * Understands the words behind the first.
   * @throws PgError it does not
   */
  command(words: readonly string[], control: ControlPlane): Command;
}

/** A command whose answer is nothing but its tag. */
type Action = (signal: AbortSignal) => Promise<void> | void;

const SILENT: Outcome = { rows: [], notices: [] };

/** The words that a command may be given: none, or names of which it takes `least` to `most`. */
interface Arguments {
  readonly names: string;
  readonly least: number;
  readonly most: number;
}

const NONE: Arguments = { names: '', least: 0, most: 0 };
const MAYBE_POOL: Arguments = { names: ' [db, user]', least: 0, most: 2 };
const MAYBE_DATABASE: Arguments = { names: ' [db]', least: 0, most: 1 };
const DATABASE: Arguments = { names: ' db', least: 1, most: 1 };

/** A verb whose arguments are names. */
function verb(name: string, wanted: Arguments, act: (control: ControlPlane, names: readonly string[]) => Action): Verb {
  const usage = `${name}${wanted.names}`;
  const command = (words: readonly string[], control: ControlPlane): Command => {
    const names = namesIn(words);
    if (names === undefined || names.length < wanted.least || names.length > wanted.most) throw wrongUse(usage);
    const action = act(control, names);
    const run = async (signal: AbortSignal) => {
      await action(signal);
      return SILENT;
    };
    // As PgCat has it.
    const tag = names.length === 2 ? `${name} ${names.join(',')}` : name;
    return { columns: undefined, tag, run };
  };
  return { usage, command };
}

function wrongUse(usage: string) {
  return pgError('admin_error', `usage: ${usage}`);
}

const reload: Verb = {
  usage: 'RELOAD',
  command: (_words, control) => ({ columns: undefined, tag: 'RELOAD', run: () => runReload(control) }),
};

async function runReload(control: ControlPlane): Promise<Outcome> {
  let changes: string[];
  try {
    changes = await control.reload();
  } catch (thrown) {
    throw pgError('admin_error', `the configuration was not reloaded, nothing has changed: ${errorText(thrown)}`);
  }
  const notice =
    changes.length === 0
      ? noticeResponse('The configuration has not changed')
      : noticeResponse('The configuration was reloaded', changes.join('\n'));
  return { rows: [], notices: [notice] };
}

const MODES: ReadonlyMap<string, ShutdownMode> = new Map([
  ['', 'drain'],
  ['WAIT_FOR_SERVERS', 'wait_for_servers'],
  ['WAIT_FOR_CLIENTS', 'wait_for_clients'],
]);

const shutdown: Verb = {
  usage: 'SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]',
  command: (words, control) => {
    const mode = MODES.get(words.join(' ').toUpperCase());
    if (mode === undefined) throw wrongUse(shutdown.usage);
    const run = async () => {
      // The answer leaves first.
      setImmediate(() => control.shutdown(mode));
      return { rows: [['t']], notices: [] };
    };
    return { columns: [{ name: 'success', type: 'text' }], tag: 'SHUTDOWN', run };
  },
};

/** What BAN and UNBAN return: PgCat's columns. */
const SERVERS = [
  text<PoolOfCluster>('db', ({ cluster }) => cluster.settings.database),
  text<PoolOfCluster>('user', ({ cluster }) => cluster.settings.username),
  text<PoolOfCluster>('role', ({ pool }) => pool.address.role),
  text<PoolOfCluster>('host', ({ pool }) => pool.address.host),
];

function servers(tag: string, act: () => PoolOfCluster[]): Command {
  const run = async () => {
    const rows = act().map(source => SERVERS.map(column => column.value(source)));
    return { rows, notices: [] };
  };
  return { columns: SERVERS, tag, run };
}

/** The longest ban, about 68 years. */
const BAN_MAX_S = 2 ** 31 - 1;

const ban: Verb = {
  usage: 'BAN host [seconds]',
  command: ([host, seconds], control) => {
    const [name, ...more] = namesIn(host === undefined ? [] : [host]) ?? [];
    if (name === undefined || more.length > 0) throw pgError('admin_error', 'usage: BAN hostname duration_seconds');
    if (seconds !== undefined && !/^[+-]?\d+$/.test(seconds))
      throw pgError('admin_error', 'duration_seconds must be an integer');
    const duration_s = seconds === undefined ? undefined : Number(seconds);
    if (duration_s !== undefined && (duration_s <= 0 || duration_s > BAN_MAX_S))
      throw pgError('admin_error', `duration_seconds must be ${duration_s <= 0 ? '>= 0' : `<= ${BAN_MAX_S}`}`);
    return servers('BAN', () => control.steering.ban(name, duration_s));
  },
};

const unban: Verb = {
  usage: 'UNBAN host',
  command: ([host], control) => {
    const [name, ...more] = namesIn(host === undefined ? [] : [host]) ?? [];
    if (name === undefined || more.length > 0)
      throw pgError('admin_error', 'UNBAN command requires a hostname to unban');
    return servers('UNBAN', () => control.steering.unban(name));
  },
};

/** `0x0000002A`, as SHOW CLIENTS has it, or a decimal number. */
function clientId(written: string): number {
  if (!/^(?:0x[\da-f]{1,8}|\d{1,10})$/i.test(written)) throw pgError('admin_error', `invalid client id: ${written}`);
  return Number(written);
}

/** All of them by the first word, in the order of SHOW HELP. */
export const VERBS: ReadonlyMap<string, Verb> = new Map([
  ['RELOAD', reload],
  [
    'PAUSE',
    verb('PAUSE', MAYBE_POOL, (control, [database, user]) => {
      return signal => control.steering.pause({ database, user }, signal);
    }),
  ],
  [
    'RESUME',
    verb('RESUME', MAYBE_POOL, (control, [database, user]) => {
      return () => control.steering.resume({ database, user });
    }),
  ],
  ['SUSPEND', verb('SUSPEND', NONE, control => signal => control.steering.suspend(signal))],
  [
    'RECONNECT',
    verb(
      'RECONNECT',
      MAYBE_DATABASE,
      (control, [database]) =>
        () =>
          control.steering.reconnect({ database }),
    ),
  ],
  [
    'WAIT_CLOSE',
    verb('WAIT_CLOSE', MAYBE_DATABASE, (control, [database]) => {
      return signal => control.steering.waitClose({ database }, signal);
    }),
  ],
  [
    'KILL',
    verb(
      'KILL',
      MAYBE_DATABASE,
      (control, [database]) =>
        () =>
          control.steering.kill({ database }),
    ),
  ],
  [
    'KILL_CLIENT',
    verb('KILL_CLIENT', { names: ' id', least: 1, most: 1 }, (control, [id]) => {
      return () => control.steering.killClient(clientId(id));
    }),
  ],
  [
    'DISABLE',
    verb(
      'DISABLE',
      DATABASE,
      (control, [database]) =>
        () =>
          control.steering.setDisabled(database, true),
    ),
  ],
  [
    'ENABLE',
    verb(
      'ENABLE',
      DATABASE,
      (control, [database]) =>
        () =>
          control.steering.setDisabled(database, false),
    ),
  ],
  ['BAN', ban],
  ['UNBAN', unban],
  ['SHUTDOWN', shutdown],
]);
