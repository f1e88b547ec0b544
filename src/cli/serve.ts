/** A running proxy under an operating system: what starts it, what its signals do, and how it ends. */
import type { Logger } from 'pino';
import { errorText } from '../errors.ts';
import { createProxy, type LoadedConfig, PortError } from '../index.ts';
import { OperatorError } from './error.ts';

/** npm passes a Ctrl-C on that the terminal has sent already: what comes this soon is the same one. */
const ECHO_MS = 300;

/** A proxy that serves clients. */
export interface Service {
  readonly port: number;
  /** Resolves when a signal has ended it and everything is closed. */
  readonly ended: Promise<void>;
}

/** How a proxy is run. */
export interface ServeOptions {
  readonly logger: Logger;
  /** Tells an operator how to choose another port. */
  readonly port_hint: string;
  /** What SIGHUP does: a service reloads its file; a program for a terminal ends with it. */
  readonly hangup: 'reload' | 'end';
}

/**
 * Starts a proxy. From then on SIGINT and SIGTERM drain it, and a second one ends the process at once.
 * @throws OperatorError when it cannot listen.
 */
export async function serve(loaded: LoadedConfig, { logger, port_hint, hangup }: ServeOptions): Promise<Service> {
  for (const warning of loaded.warnings) logger.warn(warning);
  const proxy = createProxy(loaded, { logger });
  const reload = () => {
    proxy.reload().catch((thrown: unknown) => logger.error(`reload changed nothing: ${errorText(thrown)}`));
  };
  if (hangup === 'reload') process.on('SIGHUP', reload);
  const ending: NodeJS.Signals[] = hangup === 'end' ? ['SIGINT', 'SIGTERM', 'SIGHUP'] : ['SIGINT', 'SIGTERM'];
  const signalled = firstSignal(ending, logger);
  const { port } = await proxy.start().catch((thrown: unknown) => {
    throw (thrown instanceof PortError && listenError(thrown, thrown.address, port_hint)) || thrown;
  });
  const ended = signalled.then(async () => {
    await proxy.drain();
    await proxy.stop();
  });
  return { port, ended };
}

/** What to tell an operator about an address that cannot be listened on; undefined when it is something else. */
export function listenError(thrown: unknown, address: string, port_hint: string): OperatorError | undefined {
  const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
  switch (code) {
    case 'EADDRINUSE':
      return new OperatorError(`${address} is taken by another process: ${port_hint}`);
    case 'EACCES':
      return new OperatorError(`${address} may not be listened on by this user: ${port_hint}`);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new OperatorError(`${address} is no address of this machine: change general.host`);
    case 'ENOENT':
    case 'EEXIST':
    case 'ENAMETOOLONG':
      return new OperatorError(`${address} cannot be made: ${errorText(thrown)}: change general.unix_socket_dir`);
    default:
      return undefined;
  }
}

function firstSignal(names: readonly NodeJS.Signals[], logger: Logger): Promise<void> {
  return new Promise(resolve => {
    let first_ms: number | undefined;
    const onSignal = (name: NodeJS.Signals, number: number) => {
      const now_ms = performance.now();
      if (first_ms === undefined) {
        first_ms = now_ms;
        logger.info(`${name}: waiting for transactions to end; a second signal ends at once`);
        resolve();
      } else if (now_ms - first_ms > ECHO_MS) {
        process.exit(128 + number);
      }
    };
    for (const name of names) process.on(name, onSignal);
  });
}
