/** How a client is to prove who it is: what its user's settings, or a line of auth_hba_file, say for where it comes from. */
import { plainAddress } from '../config/addresses.ts';
import type { ClusterSettings } from '../config/cluster.ts';
import type { Hba, HbaLine } from '../config/hba.ts';
import { pgError } from '../errors.ts';
import type { LoginRequest } from './startup.ts';

/** What is left to be proved by an exchange; `trust` is nothing. */
export type LoginMethod = 'trust' | 'md5' | 'scram-sha-256';

/**
 * Proves what needs no exchange, and says which is needed.
 * @throws PgError the client may not come in from there, or its certificate or its user of the system is not the right one
 */
export async function methodFor(
  auth_type: ClusterSettings['auth_type'],
  request: LoginRequest,
  hba: Hba | undefined,
): Promise<LoginMethod> {
  if (auth_type === 'cert') return checkCertificate(request, 'verify-full');
  if (auth_type !== 'hba') return auth_type;
  const line = hba?.match({ ...request, encrypted: request.tls !== undefined });
  if (line === undefined) throw pgError('no_login_line', ...wordsOf(request));
  if (line.method === 'reject') throw pgError('login_rejected', ...wordsOf(request));
  return methodOf(line, line.method, request);
}

async function methodOf(
  { clientcert }: HbaLine,
  method: Exclude<HbaLine['method'], 'reject'>,
  request: LoginRequest,
): Promise<LoginMethod> {
  if (method === 'cert') return checkCertificate(request, 'verify-full');
  if (clientcert !== undefined) checkCertificate(request, clientcert);
  if (method !== 'peer') return method;
  if ((await request.peer()) !== request.user) throw pgError('peer_failed', request.user);
  return 'trust';
}

function checkCertificate({ tls, user }: LoginRequest, wanted: 'verify-ca' | 'verify-full'): 'trust' {
  const certificate = tls?.certificate;
  if (certificate === undefined) throw pgError('certificate_missing');
  if (wanted === 'verify-full' && certificate.cn !== user) throw pgError('certificate_failed', user);
  return 'trust';
}

/** For errors: where from, who, what, and whether it is encrypted. */
function wordsOf({ address, user, database, tls }: LoginRequest): string[] {
  const from = address === undefined ? 'a Unix socket' : plainAddress(address);
  return [from, user, database, tls === undefined ? 'no encryption' : 'SSL encryption'];
}
