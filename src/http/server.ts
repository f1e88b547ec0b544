/** The HTTP server: metrics, health and the tables of the admin database, for GET and HEAD alone. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ControlPlane } from '../admin/control.ts';
import { errorText } from '../errors.ts';
import { type Bound, Ports, type PortsOwner } from '../net/ports.ts';
import { apiNames, apiRows, apiTable } from './api.ts';
import { CONTENT_TYPE } from './exposition.ts';
import { unreadiness } from './health.ts';
import { scrape } from './metrics.ts';
import { ProcessMonitor } from './process.ts';
import { Turnstile } from './turnstile.ts';

/** Where something is served, and what goes wrong is told. */
export interface HttpLog {
  error(text: string): void;
}

/** What clients may take of the process; times in milliseconds. */
export interface HttpLimits {
  /** Connections at once; more are cut off. */
  readonly connections_max: number;
  /** Bytes of a request's head. */
  readonly head_length_max: number;
  /** For a request's head, for all of a request, for its answer to be read, and between two requests. */
  readonly head_timeout: number;
  readonly request_timeout: number;
  readonly answer_timeout: number;
  readonly idle_timeout: number;
}

const LIMITS: HttpLimits = {
  connections_max: 100,
  head_length_max: 8192,
  head_timeout: 5_000,
  request_timeout: 10_000,
  answer_timeout: 20_000,
  idle_timeout: 30_000,
};

/** Requests of one connection, after which it is closed: they may come without waiting for answers. */
const REQUESTS_MAX = 100;
/** How often the times of requests are looked at. */
const CHECK_MS = 500;

const METHODS = 'GET, HEAD';
const TEXT = 'text/plain; charset=utf-8';
const JSON_TYPE = 'application/json; charset=utf-8';

/** What is sent back. */
interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** What is at a path; undefined when nothing is. Its answer may be undefined for whoever `isGone`. */
type Page = (isGone: () => boolean) => Answer | Promise<Answer | undefined>;

export class HttpServer implements PortsOwner {
  readonly #control: ControlPlane;
  readonly #log: HttpLog;
  readonly #monitor = new ProcessMonitor();
  readonly #turnstile = new Turnstile();
  readonly #ports: Ports;
  /** One for each address. */
  readonly #servers: Server[] = [];
  readonly #answer_timeout: number;

  constructor(control: ControlPlane, log: HttpLog, limits = LIMITS) {
    this.#control = control;
    this.#log = log;
    this.#answer_timeout = limits.answer_timeout;
    const options = {
      maxHeaderSize: limits.head_length_max,
      headersTimeout: limits.head_timeout,
      requestTimeout: limits.request_timeout,
      keepAliveTimeout: limits.idle_timeout,
      connectionsCheckingInterval: CHECK_MS,
    };
    this.#ports = new Ports(this, () => {
      const server = createServer(options, (request, response) => void this.#serve(request, response));
      server.maxConnections = limits.connections_max;
      server.maxRequestsPerSocket = REQUESTS_MAX;
      this.#servers.push(server);
      return server;
    });
  }

  /**
   * Binds all addresses.
   * @throws PortError one is taken or not ours
   */
  listen(hosts: readonly string[], port: number): Promise<Bound> {
    return this.#ports.listen({ hosts, port, unix_socket_dir: undefined, unix_socket_mode: '' });
  }

  /** Cuts off everybody. */
  destroy(): void {
    this.#ports.close();
    for (const server of this.#servers) server.closeAllConnections();
    this.#monitor.stop();
  }

  acceptFailed(error: Error): void {
    this.#log.error(`HTTP: ${error.message}`);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const timer = setTimeout(() => request.socket.destroy(), this.#answer_timeout).unref();
    response.once('close', () => clearTimeout(timer));
    const answer = await this.#answer(request);
    if (answer === undefined) return;
    const { status, type, body } = answer;
    const bytes = Buffer.from(body);
    const headers: Record<string, string | number> = {
      'Content-Type': type,
      'Content-Length': bytes.length,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    };
    if (status === 405) headers.Allow = METHODS;
    // What else comes with it is not read.
    if (hasBody(request)) {
      headers.Connection = 'close';
      response.once('finish', () => request.socket.destroySoon());
    }
    response.writeHead(status, headers);
    response.end(bytes);
  }

  async #answer(request: IncomingMessage): Promise<Answer | undefined> {
    const [path = ''] = (request.url ?? '').split('?');
    const page = this.#page(path);
    if (page === undefined) return plain(404, `${path.slice(0, 100)}: there is nothing here; ${PATHS}`);
    if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, `only ${METHODS}`);
    if (hasBody(request)) return plain(413, 'a request must have no body');
    try {
      return await page(() => request.socket.destroyed);
    } catch (thrown) {
      this.#log.error(`HTTP ${path}: ${errorText(thrown)}`);
      return plain(500, 'internal error; the log of pglynx says more');
    }
  }

  #page(path: string): Page | undefined {
    switch (path) {
      case '/metrics':
        return isGone => this.#turnstile.pass(isGone, () => this.#metrics());
      case '/livez':
        return () => plain(200, 'ok');
      case '/readyz':
        return () => this.#readiness();
      case '/api':
        return () => json(200, { tables: apiNames().map(name => `/api/${name}`) });
    }
    const table = path.startsWith('/api/') ? apiTable(path.slice('/api/'.length)) : undefined;
    if (table === undefined) return undefined;
    return isGone => this.#turnstile.pass(isGone, async () => json(200, apiRows(table, this.#control)));
  }

  async #metrics(): Promise<Answer> {
    const body = await scrape(this.#control, await this.#monitor.figures());
    return { status: 200, type: CONTENT_TYPE, body };
  }

  #readiness(): Answer {
    const reasons = unreadiness(this.#control);
    return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
  }
}

const PATHS = 'there are /metrics, /livez, /readyz and /api';

function plain(status: number, text: string): Answer {
  return { status, type: TEXT, body: `${text}\n` };
}

function json(status: number, value: unknown): Answer {
  return { status, type: JSON_TYPE, body: `${JSON.stringify(value, undefined, 2)}\n` };
}

function hasBody({ headers }: IncomingMessage): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}
