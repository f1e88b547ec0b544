/** Runs the HTTP server as the settings ask for it, also when a reload changes them. */
import type { ControlPlane } from '../admin/control.ts';
import { PortError } from '../net/ports.ts';
import { type HttpLog, HttpServer } from './server.ts';

/** The settings, as [general] has them. */
export interface ExporterSettings {
  readonly enable_prometheus_exporter?: boolean | undefined;
  readonly prometheus_exporter_port: number;
}

export interface ExporterLog extends HttpLog {
  info(text: string): void;
}

/** The port cannot be listened on. */
export class ExporterError extends PortError {
  constructor({ address, code, message }: PortError) {
    super(`${address} for metrics`, code, `metrics cannot be served on ${address}: ${message}`);
  }
}

interface Running {
  readonly server: HttpServer;
  readonly wanted: number;
  readonly port: number;
}

/** Where metrics are served by a pglynx that listens on a Unix socket alone. */
const LOCAL = ['127.0.0.1'];

export class Exporter {
  readonly #control: ControlPlane;
  readonly #log: ExporterLog;
  readonly #hosts: readonly string[];
  #running: Running | undefined;
  /** What listens already and has taken no place yet. */
  #next: Running | undefined;

  constructor(control: ControlPlane, hosts: readonly string[], log: ExporterLog) {
    this.#control = control;
    this.#hosts = hosts.length === 0 ? LOCAL : hosts;
    this.#log = log;
  }

  /** Where it listens now; undefined when it does not. */
  get port(): number | undefined {
    return this.#running?.port;
  }

  /**
   * Listens where `settings` say, beside where it listens already; the answer puts the one in the place of the other.
   * @throws ExporterError the port is taken, or not for this user; nothing has changed then
   */
  async prepare(settings: ExporterSettings): Promise<() => void> {
    const before = this.#running;
    const wanted = settings.enable_prometheus_exporter === true ? settings.prometheus_exporter_port : undefined;
    // The reload that it was for came to nothing.
    this.#next?.server.destroy();
    this.#next = undefined;
    if (before?.wanted === wanted) return () => {};
    const next = wanted === undefined ? undefined : await this.#listen(wanted);
    this.#next = next;
    return () => {
      this.#running = next;
      this.#next = undefined;
      before?.server.destroy();
      if (next === undefined) this.#log.info('Metrics are not exposed any more.');
    };
  }

  stop(): void {
    for (const running of [this.#running, this.#next]) running?.server.destroy();
    this.#running = undefined;
    this.#next = undefined;
  }

  async #listen(wanted: number): Promise<Running> {
    const server = new HttpServer(this.#control, this.#log);
    try {
      const { port, addresses } = await server.listen(this.#hosts, wanted);
      for (const address of addresses) this.#log.info(`Exposing prometheus metrics on http://${address}/metrics.`);
      return { server, wanted, port };
    } catch (thrown) {
      server.destroy();
      throw thrown instanceof PortError ? new ExporterError(thrown) : thrown;
    }
  }
}
