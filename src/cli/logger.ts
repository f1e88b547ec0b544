/** The log: pino in PgCat's three formats. */
import { type DestinationStream, destination, type Logger, pino } from 'pino';

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
}

/** Makes the log, which goes to standard output. */
export async function createLogger({ level, format, color }: LogOptions): Promise<Logger> {
  const stream = format === 'structured' ? jsonLines() : await prettyLines(format, color);
  const formatters = { level: (label: string) => ({ level: label }) };
  return pino({ level, base: null, formatters, timestamp: pino.stdTimeFunctions.isoTime }, stream);
}

/** Written in the background, so that a slow reader of the log stops nobody; what is left goes out at the exit. */
function jsonLines(): DestinationStream {
  const stream = destination({ dest: 1, sync: false });
  process.once('exit', () => stream.flushSync());
  return stream;
}

async function prettyLines(format: LogFormat, colorize: boolean): Promise<DestinationStream> {
  const { build } = await import('pino-pretty');
  const singleLine = format === 'text';
  return build({ destination: 1, sync: true, colorize, singleLine, translateTime: 'UTC:yyyy-mm-dd HH:MM:ss.l' });
}
