/** A running proxy under an operating system: what starts it, what its signals do, and how it ends. */
import type { Logger } from 'pino';
import { errorText } from '../errors.ts';
import { ExporterError } from '../http/exporter.ts';
import { createProxy, type LoadedConfig, PortError } from '../index.ts';
import { Ending } from './ending.ts';
import { OperatorError } from './error.ts';
import { inheritedSockets, Systemd } from './systemd.ts';

/** Tells an operator how to choose another port for metrics. */
const METRICS_HINT = 'change general.prometheus_exporter_port, or turn enable_prometheus_exporter off';

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
  /** The environment of a process that systemd may have started. */
  readonly env?: NodeJS.ProcessEnv;
  /** Opens the log's file anew, which SIGHUP asks for as well. */
  readonly reopenLog?: () => void;
}

/**
 * Starts a proxy. From then on SIGINT and SIGTERM drain it, and a second one ends the process at once.
 * @throws OperatorError when it cannot listen.
 */
export async function serve(loaded: LoadedConfig, options: ServeOptions): Promise<Service> {
  const { logger, port_hint, hangup, reopenLog, env = {} } = options;
  for (const warning of loaded.warnings) logger.warn(warning);
  const systemd = new Systemd(env, logger);
  let status = '';
  const proxy = createProxy(loaded, {
    logger,
    sockets: inheritedSockets(env, process.pid),
    shutdown: mode => ending.begin(mode),
    reloading: isOver => (isOver ? systemd.ready(status) : systemd.reloading()),
  });
  const reload = () => {
    reopenLog?.();
    proxy.reload().catch((thrown: unknown) => logger.error(`reload changed nothing: ${errorText(thrown)}`));
  };
  if (hangup === 'reload') process.on('SIGHUP', reload);
  const started = proxy.start();
  const ending = new Ending(proxy, logger, systemd, started);
  ending.listen(hangup === 'end' ? ['SIGINT', 'SIGTERM', 'SIGHUP'] : ['SIGINT', 'SIGTERM']);
  const { port, addresses } = await started.catch((thrown: unknown) => {
    const hint = thrown instanceof ExporterError ? METRICS_HINT : port_hint;
    throw (thrown instanceof PortError && listenError(thrown, thrown.address, hint)) || thrown;
  });
  status = `Listening on ${addresses.join(', ')}`;
  systemd.ready(status);
  return { port, ended: ending.over };
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
