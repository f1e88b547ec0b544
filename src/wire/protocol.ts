/** The message types, request codes and limits of PostgreSQL's frontend/backend protocol 3.0. */

/** Type bytes of messages that clients send (protocol page "Message Formats"). */
export const FRONTEND = {
  bind: 0x42, // B
  close: 0x43, // C
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyFail: 0x66, // f
  describe: 0x44, // D
  execute: 0x45, // E
  flush: 0x48, // H
  functionCall: 0x46, // F
  parse: 0x50, // P
  password: 0x70, // p
  query: 0x51, // Q
  sync: 0x53, // S
  terminate: 0x58, // X
} as const;

/** Type bytes of messages that servers send. */
export const BACKEND = {
  authentication: 0x52, // R
  backendKeyData: 0x4b, // K
  bindComplete: 0x32, // 2
  closeComplete: 0x33, // 3
  commandComplete: 0x43, // C
  copyBothResponse: 0x57, // W
  copyData: 0x64, // d
  copyDone: 0x63, // c
  copyInResponse: 0x47, // G
  copyOutResponse: 0x48, // H
  dataRow: 0x44, // D
  emptyQueryResponse: 0x49, // I
  errorResponse: 0x45, // E
  functionCallResponse: 0x56, // V
  negotiateProtocolVersion: 0x76, // v
  noData: 0x6e, // n
  noticeResponse: 0x4e, // N
  notificationResponse: 0x41, // A
  parameterDescription: 0x74, // t
  parameterStatus: 0x53, // S
  parseComplete: 0x31, // 1
  portalSuspended: 0x73, // s
  readyForQuery: 0x5a, // Z
  rowDescription: 0x54, // T
} as const;

/** Codes in the first four bytes of a packet without a type byte. */
export const REQUEST = {
  cancel: 80877102,
  ssl: 80877103,
  gss: 80877104,
} as const;

/** Protocol 3.0 as the startup packet spells it: major in the upper half, minor in the lower. */
export const PROTOCOL_3_0 = 196608;

/** The newest minor version that is spoken with clients: from 3.2 on cancel keys are long. */
export const NEWEST_MINOR = 2;

/** Authentication request codes inside an `R` message. */
export const AUTHENTICATION = {
  ok: 0,
  cleartext: 3,
  md5: 5,
  sasl: 10,
  saslContinue: 11,
  saslFinal: 12,
} as const;

/** Transaction status bytes of ReadyForQuery. */
export const STATUS = {
  idle: 0x49, // I
  transaction: 0x54, // T
  failed: 0x45, // E
} as const;

/** Bytes a startup packet may have; PostgreSQL's MAX_STARTUP_PACKET_LENGTH. */
export const STARTUP_LENGTH_MAX = 10_000;

/** Bytes a message may have before login is complete; PostgreSQL's limit for password messages. */
export const LOGIN_MESSAGE_LENGTH_MAX = 65_535;

/** Bytes a server may send before it is ready: settings, notices, a message of the day. */
export const SERVER_LOGIN_BYTES_MAX = 2 ** 20;

/** Settings a server may report; PostgreSQL reports about 15. */
export const REPORTED_MAX = 200;

/** Bytes a message without a value may have; PostgreSQL's PQ_SMALL_MESSAGE_LIMIT, with the type byte. */
export const SHORT_LENGTH_MAX = 10_001;

/** Messages longer than this many bytes pass through in parts instead of being held whole. */
export const INSPECT_LENGTH_MAX = 65_536;

/** Bytes the longest legal message has; PostgreSQL's MaxAllocSize with the header. */
export const MESSAGE_LENGTH_MAX = 0x3fffffff + 1;

/** Type byte and length word. */
export const HEADER_LENGTH = 5;
