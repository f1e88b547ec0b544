/** Channel binding `tls-server-end-point` (RFC 5929 section 4): the hash of a server's certificate. */
import { createHash } from 'node:crypto';

/** DER tags. */
const SEQUENCE = 0x30;
const OBJECT = 0x06;
/** `[0]`, as RSASSA-PSS-params spells its hash. */
const FIRST = 0xa0;

/** Hashes by the object identifier of a signature algorithm, or of the hash itself, in hexadecimal. */
const HASHES: ReadonlyMap<string, string> = new Map([
  // pkcs-1: 1.2.840.113549.1.1
  ['2a864886f70d010104', 'md5'],
  ['2a864886f70d010105', 'sha1'],
  ['2a864886f70d01010e', 'sha224'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  // ecdsa-with-SHA: 1.2.840.10045.4
  ['2a8648ce3d0401', 'sha1'],
  ['2a8648ce3d040301', 'sha224'],
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  // The hashes themselves.
  ['2b0e03021a', 'sha1'],
  ['608648016503040204', 'sha224'],
  ['608648016503040201', 'sha256'],
  ['608648016503040202', 'sha384'],
  ['608648016503040203', 'sha512'],
]);

/** RSASSA-PSS, whose parameters name the hash: SHA-1 when they do not. */
const RSA_PSS = '2a864886f70d01010a';

/**
 * What both sides of a TLS connection know of the server's certificate, given in DER: its hash by the function of its
 * signature, or by SHA-256 where that is MD5 or SHA-1. Undefined where the signature has none, as Ed25519.
 */
export function endPointHash(certificate: Buffer): Buffer | undefined {
  const name = signatureHash(certificate);
  if (name === undefined) return undefined;
  return createHash(name === 'md5' || name === 'sha1' ? 'sha256' : name)
    .update(certificate)
    .digest();
}

function signatureHash(certificate: Buffer): string | undefined {
  const outer = element(certificate, 0);
  const signed = outer === undefined ? undefined : element(certificate, outer.start);
  const algorithm = signed === undefined ? undefined : element(certificate, signed.end);
  if (algorithm?.tag !== SEQUENCE) return undefined;
  const oid = objectAt(certificate, algorithm.start);
  if (oid?.hex !== RSA_PSS) return HASHES.get(oid?.hex ?? '');
  const parameters = element(certificate, oid.end);
  const first = parameters === undefined ? undefined : element(certificate, parameters.start);
  if (first?.tag !== FIRST) return 'sha1';
  const hash = element(certificate, first.start);
  return HASHES.get((hash === undefined ? undefined : objectAt(certificate, hash.start))?.hex ?? '');
}

function objectAt(bytes: Buffer, at: number): { readonly hex: string; readonly end: number } | undefined {
  const found = element(bytes, at);
  if (found?.tag !== OBJECT) return undefined;
  return { hex: bytes.toString('hex', found.start, found.end), end: found.end };
}

/** The element at `at`: its tag, and where its content starts and ends; undefined when it is not whole. */
function element(bytes: Buffer, at: number): { tag: number; start: number; end: number } | undefined {
  if (at + 2 > bytes.length) return undefined;
  const tag = bytes[at];
  const short = bytes[at + 1];
  const more = short < 0x80 ? 0 : short & 0x7f;
  if (more > 4 || short === 0x80 || at + 2 + more > bytes.length) return undefined;
  const length = more === 0 ? short : bytes.readUIntBE(at + 2, more);
  const start = at + 2 + more;
  return start + length > bytes.length ? undefined : { tag, start, end: start + length };
}
