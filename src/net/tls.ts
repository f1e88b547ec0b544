/** What is known of an encrypted connection, for those who decide and for those who show. */

import { errorText } from '../errors.ts';

/** The protocol that both sides name in ALPN, which direct TLS needs. */
export const ALPN = 'postgresql';

/** The certificate that a client has shown, which one of `tls_client_ca` has signed. */
export interface ClientCertificate {
  /** The subject's common name. */
  readonly cn: string | undefined;
  /** The whole subject, `CN=alice,O=Example` as in RFC 2253. */
  readonly dn: string;
}

/** One encrypted connection; of one that is not there is none. */
export interface TlsFacts {
  /** `TLSv1.3`, say. */
  readonly version: string;
  readonly cipher: string;
  /** Of a client only. */
  readonly certificate: ClientCertificate | undefined;
}

/** Why a handshake failed, without OpenSSL's numbers and the line of its source. */
export function handshakeText(error: unknown): string {
  const isOpenSsl = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_SSL_');
  return isOpenSsl && 'reason' in error && typeof error.reason === 'string' ? error.reason : errorText(error);
}
