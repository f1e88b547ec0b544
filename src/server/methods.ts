/** Which ways of logging in a server may ask for: `server_require_auth`. */
import type { ServerAuthMethod } from '../config/encryption.ts';
import { AUTHENTICATION } from '../wire/protocol.ts';

const METHODS: ReadonlyMap<number, ServerAuthMethod> = new Map([
  [AUTHENTICATION.ok, 'none'],
  [AUTHENTICATION.cleartext, 'password'],
  [AUTHENTICATION.md5, 'md5'],
  [AUTHENTICATION.sasl, 'scram-sha-256'],
]);

/** Why what the server asks for is not done, if it is not; `allowed` is undefined for all ways. */
export function methodRefusal(code: number, allowed: readonly ServerAuthMethod[] | undefined): string | undefined {
  const method = METHODS.get(code);
  // What is not known is refused by whoever would have to do it; which SCRAM it is depends on what is offered.
  if (allowed === undefined || method === undefined || allowed.includes(method)) return undefined;
  if (method === 'scram-sha-256' && allowed.includes('scram-sha-256-plus')) return undefined;
  const asks = method === 'none' ? 'nothing' : method;
  return `server_require_auth allows ${allowed.join(', ')}, and the server asks for ${asks}`;
}

/** Whether SCRAM without channel binding will not do. */
export function mustBind(allowed: readonly ServerAuthMethod[] | undefined): boolean {
  return allowed?.includes('scram-sha-256-plus') === true && !allowed.includes('scram-sha-256');
}
