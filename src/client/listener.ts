/** Accepts clients: logs each in, within client_login_timeout, and hands it to a session, a console or the exit. */
import type { Socket } from 'node:net';
import { errorText, PgError, pgError } from '../errors.ts';
import { peerText } from '../net/address.ts';
import type { Network } from '../net/network.ts';
import { Outbox } from '../net/outbox.ts';
import { peerUser } from '../net/peer.ts';
import { type Bound, clientServer, type PortSettings, Ports, type PortsOwner } from '../net/ports.ts';
import type { TlsFacts } from '../net/tls.ts';
import type { Cluster } from '../pool/cluster.ts';
import { welcome } from '../pool/welcome.ts';
import { startupSettings } from '../server/parameters.ts';
import { AUTHENTICATION_OK, backendKeyData, errorResponse, parameterStatus, READY_IDLE } from '../wire/backend.ts';
import { Framer } from '../wire/framer.ts';
import { FRONTEND, LOGIN_MESSAGE_LENGTH_MAX, MESSAGE_LENGTH_MAX } from '../wire/protocol.ts';
import { type Cancelable, type CancelKey, CancelKeys } from './cancel.ts';
import type { SessionContext } from './context.ts';
import { Headcount, type Seat } from './headcount.ts';
import type { Admission } from './logins.ts';
import { Session } from './session.ts';
import { type EncryptionOffer, type LoginRequest, readStartup, StartupAborted, StartupChannel } from './startup.ts';

/** A client of the admin database, once logged in. */
export interface ConsoleClient {
  start(): void;
  drained?(): void;
}

/** A logged-in client of the admin database, before its console exists. */
export interface ConsoleLogin {
  readonly id: number;
  readonly user: string;
  readonly database: string;
  readonly application_name: string;
  readonly tls: TlsFacts | undefined;
  /** Whether it may look and change nothing. */
  readonly mayOnlyShow: boolean;
}

/** What the listener needs of the process. */
export interface ListenerContext extends Omit<SessionContext, 'ended'> {
  /** Milliseconds. */
  readonly client_login_timeout: () => number;
  readonly max_client_conn: () => number;
  /** Bytes. */
  readonly max_message_size: () => number;
  readonly network: Network;
  readonly encryption: () => EncryptionOffer;
  /**
   * Has a client prove who it is.
   * @throws PgError it did not, or may not come in
   */
  authenticate(channel: StartupChannel, request: LoginRequest): Promise<Admission>;
  isAdmin(database: string): boolean;
  /** ParameterStatus of the admin database. */
  adminParameters(application_name: string): ReadonlyMap<string, string>;
  openConsole(socket: Socket, framer: Framer, outbox: Outbox, login: ConsoleLogin, ended: () => void): ConsoleClient;
  /** Why a new client may not come in, if it may not. */
  refusal(isAdmin: boolean): PgError | undefined;
  connected(session: Session, address: string, tls: TlsFacts | undefined): void;
  disconnected(session: Session, address: string, cause: string): void;
  loginFailed(address: string, error: PgError): void;
  /** So many clients could not be let in at all since it was last told. */
  acceptFailed(error: Error, count: number): void;
}

/** A client that has proved who it is. */
interface Arrival {
  readonly socket: Socket;
  readonly framer: Framer;
  readonly channel: StartupChannel;
  readonly minor: number;
  readonly parameters: ReadonlyMap<string, string>;
  readonly user: string;
  readonly database: string;
  /** Its place among all clients; the admin database is exempt. */
  readonly seat: Seat | undefined;
}

export class Listener implements PortsOwner {
  readonly cancelKeys = new CancelKeys();
  readonly headcount = new Headcount();
  readonly #context: ListenerContext;
  readonly #ports = new Ports(this, () => clientServer(socket => void this.#accept(socket)));
  readonly #sockets = new Set<Socket>();
  /** Those who have not logged in yet. */
  readonly #strangers = new Set<StartupChannel>();
  #nextId = 1;
  /** Clients that could not be let in and that nobody was told of, and when somebody last was. */
  #unaccepted = 0;
  #unaccepted_told_at = Number.NEGATIVE_INFINITY;

  constructor(context: ListenerContext) {
    this.#context = context;
  }

  /**
   * Binds all addresses.
   * @throws PortError one is taken or not ours
   */
  listen(settings: PortSettings): Promise<Bound> {
    return this.#ports.listen(settings);
  }

  /** Whether nobody is connected. */
  get isEmpty(): boolean {
    return this.#sockets.size === 0;
  }

  /** Takes no more clients, and tells those why who have not logged in yet. */
  close(error: PgError): void {
    this.#ports.close();
    for (const channel of this.#strangers) channel.end(errorResponse(error));
  }

  /** Cuts off everybody. */
  destroy(): void {
    this.#ports.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  acceptFailed(error: Error): void {
    const now = performance.now();
    this.#unaccepted++;
    if (now - this.#unaccepted_told_at < UNACCEPTED_TOLD_MS) return;
    this.#unaccepted_told_at = now;
    this.#context.acceptFailed(error, this.#unaccepted);
    this.#unaccepted = 0;
  }

  async #accept(socket: Socket): Promise<void> {
    const { max_message_size, network, client_login_timeout } = this.#context;
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    network.settle(socket);
    const held = { types: [FRONTEND.parse], length_max: max_message_size() };
    const framer = new Framer({ eager: [FRONTEND.copyData], held });
    framer.length_max = LOGIN_MESSAGE_LENGTH_MAX;
    const channel = new StartupChannel(socket, framer);
    this.#strangers.add(channel);
    const timer = this.#limitLogin(channel, client_login_timeout());
    // What it waits for from then on is not its fault.
    const proved = () => clearTimeout(timer);
    try {
      await this.#logIn(framer, channel, proved);
    } catch (error) {
      channel.detach();
      this.#refuse(channel, error);
    } finally {
      clearTimeout(timer);
      this.#strangers.delete(channel);
    }
  }

  /** `proved` is called when the client has proved who it is. */
  async #logIn(framer: Framer, channel: StartupChannel, proved: () => void): Promise<void> {
    // What goes through a Unix socket stays on this machine.
    const isLocal = channel.socket.remoteAddress === undefined;
    const request = await readStartup(channel, isLocal ? NO_ENCRYPTION : this.#context.encryption());
    const { socket } = channel;
    if (request.kind === 'cancel') {
      this.cancelKeys.request(request.pid, request.secret);
      socket.destroySoon();
      return;
    }
    channel.startMessages();
    const { parameters, minor } = request;
    const user = parameters.get('user') ?? '';
    const database = parameters.get('database') || user;
    if (user === '') throw pgError('no_user_name');
    const isAdmin = this.#context.isAdmin(database);
    const refusal = this.#context.refusal(isAdmin);
    if (refusal !== undefined) throw refusal;
    const seat = isAdmin ? undefined : this.#admit(socket);
    const peer = () => peerUser(socket);
    const login = { database, user, address: channel.address, tls: channel.tls, peer };
    const { mayOnlyShow } = await this.#context.authenticate(channel, login);
    proved();
    this.#context.network.watch(socket);
    const arrival = { socket, framer, channel, minor, parameters, user, database, seat };
    if (isAdmin) this.#openConsole(arrival, mayOnlyShow);
    else await this.#openSession(arrival);
  }

  #limitLogin(channel: StartupChannel, limit_ms: number): NodeJS.Timeout | undefined {
    if (limit_ms === 0) return undefined;
    return setTimeout(() => {
      channel.detach();
      this.#refuse(channel, pgError('login_timeout', limit_ms));
    }, limit_ms);
  }

  #admit(socket: Socket): Seat {
    const seat = this.headcount.admit(this.#context.max_client_conn());
    socket.once('close', () => seat.leave());
    return seat;
  }

  #openConsole({ socket, framer, channel, minor, parameters, user, database }: Arrival, mayOnlyShow: boolean): void {
    const application_name = parameters.get('application_name') ?? '';
    const relay = new Relay();
    const outbox = new Outbox(socket, relay, 'callback');
    const login = { id: this.#nextId++, user, database, application_name, tls: channel.tls, mayOnlyShow };
    const key = this.cancelKeys.issue(relay, minor);
    const console = this.#context.openConsole(socket, framer, outbox, login, () => this.cancelKeys.revoke(key));
    relay.client = console;
    greet(outbox, this.#context.adminParameters(application_name), key);
    channel.detach();
    framer.length_max = MESSAGE_LENGTH_MAX;
    console.start();
  }

  async #openSession({ socket, framer, channel, minor, parameters, user, database, seat }: Arrival): Promise<void> {
    let cluster = this.#clusterFor(database, user);
    if (asksForReplication(parameters)) throw pgError('replication_unsupported');
    seat?.take(database, user, cluster.settings.limits);
    await cluster.prepared();
    // A reload may have replaced it meanwhile.
    for (; cluster.retired; await cluster.prepared()) cluster = this.#clusterFor(database, user);
    const { profile, parameters: reported } = await welcome(cluster, startupSettings(parameters));
    if (socket.destroyed || socket.writableEnded) throw new StartupAborted('the client closed the connection');
    const application_name = parameters.get('application_name') ?? '';
    const relay = new Relay();
    const outbox = new Outbox(socket, relay, 'callback');
    const key = this.cancelKeys.issue(relay, minor);
    const address = peerText(socket);
    const login = { id: this.#nextId++, database, user, application_name, tls: channel.tls, cluster, profile };
    const session = new Session(socket, framer, outbox, login, {
      inspector: this.#context.inspector,
      clusterFor: this.#context.clusterFor,
      ended: cause => {
        this.cancelKeys.revoke(key);
        seat?.leave();
        this.#context.disconnected(session, address, cause);
      },
    });
    relay.client = session;
    greet(outbox, reported, key);
    channel.detach();
    framer.length_max = MESSAGE_LENGTH_MAX;
    this.#context.connected(session, address, channel.tls);
    session.start();
  }

  #clusterFor(database: string, user: string): Cluster {
    const cluster = this.#context.clusterFor(database, user);
    if (cluster === undefined) throw pgError('unknown_database', database, user);
    if (cluster.gate.disabled) throw pgError('database_disabled', database);
    return cluster;
  }

  #refuse(channel: StartupChannel, error: unknown): void {
    const { socket } = channel;
    // It was told that its time is over.
    if (channel.isRefused) return;
    channel.isRefused = true;
    if (error instanceof StartupAborted) {
      socket.destroy();
      return;
    }
    const refusal = error instanceof PgError ? error : pgError('internal', errorText(error));
    refusal.severity = 'FATAL';
    this.#context.loginFailed(peerText(socket), refusal);
    channel.end(errorResponse(refusal));
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }
}

/** Milliseconds between two words about clients that cannot be let in. */
const UNACCEPTED_TOLD_MS = 10_000;

/** What clients of a Unix socket are offered. */
const NO_ENCRYPTION: EncryptionOffer = { gate: undefined, isRequired: false };

/** Milliseconds for a refused client to read why. */
const LINGER_MS = 2000;

/** Stands in for a client that is being made: the outbox and the cancel key exist before it does. */
class Relay implements Cancelable {
  client: { cancel?(): void; drained?(): void } | undefined;

  cancel(): void {
    this.client?.cancel?.();
  }

  drained(): void {
    this.client?.drained?.();
  }
}

/** Everything between a passed login and the first ReadyForQuery. */
function greet(outbox: Outbox, parameters: ReadonlyMap<string, string>, key: CancelKey): void {
  outbox.push(AUTHENTICATION_OK);
  for (const [name, value] of parameters) outbox.push(parameterStatus(name, value));
  outbox.push(backendKeyData(key.pid, key.secret));
  outbox.push(READY_IDLE);
}

function asksForReplication(parameters: ReadonlyMap<string, string>): boolean {
  const value = parameters.get('replication')?.toLowerCase();
  return value !== undefined && !['false', 'off', 'no', '0', ''].includes(value);
}
