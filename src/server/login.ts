/** Logs in to a server: the startup packet, whatever password exchange it asks for, and its first ReadyForQuery. */
import {
  type ProvenKeys,
  SCRAM_SHA_256,
  SCRAM_SHA_256_PLUS,
  ScramClient,
  ScramError,
  type ScramKeys,
} from '../auth/scram.ts';
import { type KeyCache, md5Response, passwordKind, scramNonce } from '../auth/secret.ts';
import type { ServerAuthMethod } from '../config/encryption.ts';
import type { Message, MessageReader } from '../net/messages.ts';
import { errorFields } from '../wire/backend.ts';
import { message, password, saslInitial, startupMessage } from '../wire/frontend.ts';
import { AUTHENTICATION, BACKEND } from '../wire/protocol.ts';
import { methodRefusal, mustBind } from './methods.ts';

/** Who logs in where. */
export interface ServerIdentity {
  readonly user: string;
  readonly password: string | undefined;
  /** What a client has proved with a SCRAM verifier: logs in to servers that keep the same one. */
  readonly proven: ProvenKeys | undefined;
  readonly database: string;
  /** Settings for the startup packet: RESET returns to them. */
  readonly settings: ReadonlyMap<string, string>;
}

/** What a server says of itself when a login succeeds. */
export interface ServerWelcome {
  readonly pid: number;
  readonly secret: Buffer;
  readonly parameters: Map<string, string>;
  /** Transaction status of the first ReadyForQuery. */
  readonly status: number;
}

/** A server refused a login: its own message and SQLSTATE. */
export class ServerLoginError extends Error {
  readonly sqlstate: string;

  constructor(text: string, sqlstate: string) {
    super(text);
    this.name = 'ServerLoginError';
    this.sqlstate = sqlstate;
  }

  /** Whether the server objects to a value, a name or a setting, as in a startup packet, rather than to the login. */
  get concernsSettings(): boolean {
    return /^(22|42|55|0A)/.test(this.sqlstate);
  }
}

/** The login's way to the socket. */
export interface LoginChannel {
  readonly reader: MessageReader;
  send(bytes: Buffer): void;
  /** The hash of the server's certificate, on an encrypted connection that has one. */
  readonly binding: Buffer | undefined;
  /** Ways to log in that are allowed; undefined for all. */
  readonly require_auth: readonly ServerAuthMethod[] | undefined;
  readonly scram_iterations_max: number;
}

/**
 * Runs a login to its first ReadyForQuery. Notices are passed over.
 * @throws ServerLoginError the server's ErrorResponse, or a password exchange that cannot be done
 */
export async function logIn(channel: LoginChannel, identity: ServerIdentity, keys: KeyCache): Promise<ServerWelcome> {
  const { user, database, settings } = identity;
  channel.send(startupMessage([['user', user], ['database', database], ...settings]));
  const parameters = new Map<string, string>();
  let isAsked = false;
  let isIn = false;
  let pid = 0;
  let secret: Buffer = Buffer.alloc(4);
  for (;;) {
    const { type, body } = await channel.reader.next();
    switch (type) {
      case BACKEND.authentication:
        checkMethod(body.readInt32BE(0), channel, isAsked);
        isAsked = true;
        await authenticate(channel, body, identity, keys);
        isIn = body.readInt32BE(0) === AUTHENTICATION.ok;
        break;
      case BACKEND.parameterStatus: {
        const [name, value = ''] = body.toString().split('\0');
        parameters.set(name, value);
        break;
      }
      case BACKEND.backendKeyData:
        pid = body.readInt32BE(0);
        secret = body.subarray(4);
        break;
      case BACKEND.readyForQuery:
        // Whatever is asked of its authentication is asked when it says that this is over.
        if (!isIn) throw new ServerLoginError('the server was ready before it had let anybody in', '08P01');
        return { pid, secret, parameters, status: body[0] };
      case BACKEND.errorResponse:
        throw refusal(body);
      case BACKEND.noticeResponse:
      case BACKEND.negotiateProtocolVersion:
        break;
      default:
        throw new ServerLoginError(`unexpected message of type ${type} during login`, '08P01');
    }
  }
}

/** A server that has asked for one thing may only be content with it. */
function checkMethod(code: number, { require_auth }: LoginChannel, isAsked: boolean): void {
  if (isAsked && code === AUTHENTICATION.ok) return;
  if (isAsked) throw impossible('the server asks for a second proof');
  const refusal = methodRefusal(code, require_auth);
  if (refusal !== undefined) throw impossible(refusal);
}

async function authenticate(channel: LoginChannel, body: Buffer, identity: ServerIdentity, keys: KeyCache) {
  const code = body.readInt32BE(0);
  if (code === AUTHENTICATION.ok) return;
  const secret = identity.password;
  const isPlain = secret !== undefined && passwordKind(secret) === 'plain';
  if (code === AUTHENTICATION.sasl && !isPlain && identity.proven !== undefined) {
    const { proven } = identity;
    return scram(channel, body.subarray(4), async (salt, iterations) => provenKeys(proven, salt, iterations));
  }
  if (secret === undefined) throw impossible('the server asks for a password, and none is configured');
  if (code !== AUTHENTICATION.md5 && !isPlain) {
    throw impossible('the server asks for the password itself, and only a hash of it is known');
  }
  if (code === AUTHENTICATION.cleartext) channel.send(password(Buffer.from(`${secret}\0`)));
  else if (code === AUTHENTICATION.md5) {
    const response = md5Response(identity.user, secret, body.subarray(4, 8));
    if (response === undefined)
      throw impossible('the server asks for md5, and the configured secret does not serve it');
    channel.send(password(Buffer.from(`${response}\0`)));
  } else if (code === AUTHENTICATION.sasl) {
    await scram(channel, body.subarray(4), (salt, iterations) => keys.keys(secret, salt, iterations));
  } else throw impossible(`the server asks for authentication method ${code}, which is not supported`);
}

/** Finds the keys for what the server has said. */
type Derive = (salt: Buffer, iterations: number) => Promise<ScramKeys>;

function provenKeys(proven: ProvenKeys, salt: Buffer, iterations: number): ScramKeys {
  if (proven.iterations === iterations && proven.salt.equals(salt)) return proven;
  throw impossible(
    "the server's SCRAM verifier has another salt or iteration count than the one that the client proved",
  );
}

async function scram(channel: LoginChannel, mechanisms: Buffer, derive: Derive): Promise<void> {
  const offered = mechanisms.toString().split('\0');
  const binding = {
    hash: channel.binding,
    isUsed: channel.binding !== undefined && offered.includes(SCRAM_SHA_256_PLUS),
  };
  const mechanism = binding.isUsed ? SCRAM_SHA_256_PLUS : SCRAM_SHA_256;
  if (!offered.includes(mechanism)) throw impossible('the server offers no SASL mechanism that is supported');
  if (!binding.isUsed && mustBind(channel.require_auth)) {
    throw impossible('server_require_auth asks for channel binding, and the server or its connection has none');
  }
  try {
    const client = new ScramClient(scramNonce(), binding, channel.scram_iterations_max);
    channel.send(password(saslInitial(mechanism, client.first())));
    const { salt, iterations } = client.serverFirst(await saslData(channel, AUTHENTICATION.saslContinue));
    channel.send(password(client.final(await derive(salt, iterations))));
    if (!client.verify(await saslData(channel, AUTHENTICATION.saslFinal))) {
      throw impossible("the server's SCRAM signature is wrong: it does not know the password");
    }
  } catch (error) {
    if (error instanceof ScramError) throw impossible(error.message);
    throw error;
  }
}

async function saslData(channel: LoginChannel, expected: number): Promise<Buffer> {
  for (;;) {
    const { type, body }: Message = await channel.reader.next();
    if (type === BACKEND.noticeResponse) continue;
    if (type === BACKEND.errorResponse) throw refusal(body);
    if (type !== BACKEND.authentication || body.length < 4 || body.readInt32BE(0) !== expected) {
      throw impossible('the server left the SASL exchange');
    }
    return body.subarray(4);
  }
}

function refusal(body: Buffer): ServerLoginError {
  const whole = message(BACKEND.errorResponse, body);
  const fields = errorFields(whole, 0, whole.length);
  return new ServerLoginError(fields.get('M') ?? 'the server refused the login', fields.get('C') ?? 'XX000');
}

function impossible(text: string): ServerLoginError {
  return new ServerLoginError(text, '28000');
}
