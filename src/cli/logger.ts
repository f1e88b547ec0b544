/** The log: pino in PgCat's three formats, to standard output or to a file that can be opened anew. */
import { closeSync, openSync } from 'node:fs';
import { type DestinationStream, destination, type Logger, pino } from 'pino';
import { errorText } from '../errors.ts';
import { OperatorError } from './error.ts';

/** PgCat's levels, the least talkative first. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** One line an event for people, JSON lines for programs, or one line a value for a close look. */
export const LOG_FORMATS = ['text', 'structured', 'debug'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly color: boolean;
  /** Standard output when it is not given. */
  readonly file: string | undefined;
}

/** A log that is being written. */
export interface Log {
  readonly logger: Logger;
  /** Goes on in a new file of the same name, after the old one was moved away; does nothing on standard output. */
  reopen(): void;
}

type Destination = ReturnType<typeof destination>;

const STDOUT = 1;
/** Others than the operator and his group read no log. */
const FILE_MODE = 0o640;
/** Characters that may wait for a slow reader or disk; what comes then is lost. */
const WAITING_LENGTH_MAX = 16 * 2 ** 20;
/** Milliseconds between two complaints about a log that cannot be written. */
const COMPLAINT_MS = 60_000;

/**
 * Makes the log.
 * @throws OperatorError its file cannot be written
 */
export async function createLog({ level, format, color, file }: LogOptions): Promise<Log> {
  const sink = makeSink(file, format !== 'structured');
  const stream = format === 'structured' ? sink : await pretty(sink, format, color);
  const formatters = { level: (label: string) => ({ level: label }) };
  const logger = pino({ level, base: null, formatters, timestamp: pino.stdTimeFunctions.isoTime }, stream);
  return { logger, reopen: () => reopen(sink, file) };
}

/** Unless `sync` is set it is written in the background, so that a slow reader stops nobody; the rest goes out at the exit. */
function makeSink(file: string | undefined, sync: boolean): Destination {
  if (file !== undefined) checkFile(file);
  const sink = destination({ dest: file ?? STDOUT, sync, mode: FILE_MODE, maxLength: WAITING_LENGTH_MAX });
  let complained_at = Number.NEGATIVE_INFINITY;
  const complain = (cause: string) => {
    const now = performance.now();
    if (now - complained_at < COMPLAINT_MS) return;
    complained_at = now;
    process.stderr.write(`pglynx: the log cannot be written: ${cause}\n`);
  };
  // A disk that is full must not end the process; what waits is written when there is room again.
  sink.on('error', error => complain(errorText(error)));
  sink.on('drop', () => complain(`${WAITING_LENGTH_MAX} characters wait already, and what comes now is lost`));
  if (!sync) sink.once('ready', () => process.once('exit', () => sink.flushSync()));
  return sink;
}

function checkFile(file: string): void {
  try {
    closeSync(openSync(file, 'a', FILE_MODE));
  } catch (thrown) {
    throw new OperatorError(`the log cannot be written: ${errorText(thrown)}`);
  }
}

function reopen(sink: Destination, file: string | undefined): void {
  if (file === undefined) return;
  try {
    // The old file goes on when there can be no new one.
    checkFile(file);
    sink.reopen(file);
  } catch (thrown) {
    process.stderr.write(`pglynx: ${errorText(thrown)}\n`);
  }
}

async function pretty(sink: Destination, format: LogFormat, colorize: boolean): Promise<DestinationStream> {
  const { build } = await import('pino-pretty');
  return build({
    destination: sink,
    colorize,
    singleLine: format === 'text',
    translateTime: 'UTC:yyyy-mm-dd HH:MM:ss.l',
    messageFormat: (log, key) => visible(String(log[key] ?? '')),
  });
}

/** Names and messages of others stand in the text: none of them may make a line, or move the cursor. */
function visible(text: string): string {
  return text.replace(/\p{Cc}/gu, character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
