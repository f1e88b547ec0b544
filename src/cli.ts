#!/usr/bin/env node
/** The command line: pglynx [FILE], check, explain and demo. */
import { existsSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { demo } from './cli/demo.ts';
import { OperatorError } from './cli/error.ts';
import { createLog, LOG_FORMATS, LOG_LEVELS, type Log, type LogFormat, type LogLevel } from './cli/logger.ts';
import { serve } from './cli/serve.ts';
import { DemoError } from './demo/error.ts';
import { ConfigError, explainText, type LoadedConfig, loadConfig } from './index.ts';
import { VERSION } from './version.ts';

/** PgCat's own default. */
const DEFAULT_FILE = 'pgcat.toml';
/** Milliseconds that a process has to end by itself once everything is closed. */
const EXIT_MS = 3000;
const DEMO_PORT = 6432;
const DEMO_REPLICAS = 2;

interface LogFlags {
  readonly logLevel?: LogLevel;
  readonly logFormat?: LogFormat;
  readonly color: boolean;
  readonly logFile?: string;
}

interface ExplainFlags {
  readonly database?: string;
  readonly user?: string;
}

interface DemoFlags {
  readonly port: number;
  readonly replicas: number;
  readonly keep?: boolean;
}

const program = new Command('pglynx')
  .description("A PostgreSQL pooler and proxy that runs PgCat's pgcat.toml.")
  .version(VERSION, '-V, --version')
  .argument('[FILE]', `the configuration; else the variable CONFIG_FILE, else ./${DEFAULT_FILE}, else the demo runs`)
  .addOption(
    new Option('-l, --log-level <LEVEL>', `${LOG_LEVELS.join(', ')}; info, or warn in the demo, if not given`)
      .env('LOG_LEVEL')
      .argParser(oneOf(LOG_LEVELS)),
  )
  .addOption(
    new Option('-F, --log-format <FORMAT>', `${LOG_FORMATS.join(', ')}; text on a terminal, else structured (JSON)`)
      .env('LOG_FORMAT')
      .argParser(oneOf(LOG_FORMATS)),
  )
  .addOption(new Option('-n, --no-color', 'no colours in the log').env('NO_COLOR'))
  .addOption(
    new Option('--log-file <FILE>', 'where the log goes instead of standard output; opened anew on SIGHUP').env(
      'LOG_FILE',
    ),
  )
  .addHelpText(
    'after',
    `
Signals: SIGINT and SIGTERM let transactions end and then stop, a second one stops at once; SIGHUP reloads FILE and opens
the log's file anew.
Under systemd, sockets that it passes on are used, and it is told when the service is ready.`,
  )
  .action(run);

program
  .command('check')
  .description('Check a configuration: exit code 0 when it can be used, else 1 and every mistake with its place.')
  .argument('<FILE>', 'the configuration')
  .action(check);

program
  .command('explain')
  .description('Tell where a statement would go and why, without a server.')
  .argument('<FILE>', 'the configuration')
  .argument('<SQL>', 'the statement')
  .option('--database <NAME>', 'the pool; the first of FILE if not given')
  .option('--user <NAME>', 'its user; the first if not given')
  .action(explain);

program
  .command('demo')
  .description('Run PostgreSQL with streaming replicas in a temporary folder, and pglynx in front, until Ctrl-C.')
  .option('--port <PORT>', 'where pglynx listens', wholeNumber(1, 65_535), DEMO_PORT)
  .option('--replicas <NUMBER>', 'how many replicas', wholeNumber(0, 8), DEMO_REPLICAS)
  .option('--keep', 'keep data and logs at the end')
  .action((flags: DemoFlags) => runDemo(flags));

async function run(file: string | undefined): Promise<void> {
  const path = file ?? process.env.CONFIG_FILE ?? (existsSync(DEFAULT_FILE) ? DEFAULT_FILE : undefined);
  if (path === undefined) {
    await runDemo({ port: DEMO_PORT, replicas: DEMO_REPLICAS });
    return;
  }
  const loaded = loadConfig(path);
  const port_hint = `change general.port in ${path}`;
  const { env } = process;
  const { logger, reopen } = await log('info', loaded.config.general.log_file);
  const service = await serve(loaded, { logger, port_hint, hangup: 'reload', reopenLog: reopen, env });
  await service.ended;
  // Nothing should be left that keeps the process; if there is, it does so no longer.
  setTimeout(() => process.exit(), EXIT_MS).unref();
}

async function runDemo(flags: DemoFlags): Promise<void> {
  const { logger } = await log('warn', undefined);
  await demo({ ...flags, keep: flags.keep ?? false }, logger);
}

function check(path: string): void {
  const loaded = loadConfig(path);
  for (const warning of loaded.warnings) console.error(warning);
  console.log(`${path}: ok, ${summary(loaded)}`);
}

async function explain(path: string, sql: string, flags: ExplainFlags): Promise<void> {
  const loaded = loadConfig(path);
  const pools = poolsOf(loaded);
  const fits = (name: string, wanted: string | undefined) => wanted === undefined || name === wanted;
  const isListed = pools.some(({ database }) => database === flags.database);
  // What the file does not list may be what `*` stands for.
  const found =
    pools.find(({ database, user }) => fits(database, flags.database) && fits(user, flags.user)) ??
    pools.find(
      ({ database, user }) =>
        (isListed ? fits(database, flags.database) : isAny(database, flags.database)) && isAny(user, flags.user),
    );
  if (found === undefined) {
    const known = pools.map(({ database, user }) => `${database}/${user}`).join(', ');
    throw new OperatorError(`${path} has no pool ${flags.database ?? '*'}/${flags.user ?? '*'}; it has ${known}`);
  }
  const pool = { database: flags.database ?? found.database, user: flags.user ?? found.user };
  const rows = [['pool', `${pool.database}/${pool.user}`], ...(await explainText(loaded, sql, pool))];
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, answer] of rows) console.log(`${name.padEnd(width)}  ${answer}`);
}

function isAny(name: string, wanted: string | undefined): boolean {
  return name === '*' || wanted === undefined || name === wanted;
}

/** Each database with each of its users, in the order of the file. */
function poolsOf({ config }: LoadedConfig): { database: string; user: string }[] {
  return Object.entries(config.pools).flatMap(([database, { users }]) =>
    Object.values(users).map(({ username: user }) => ({ database, user })),
  );
}

function summary({ config, warnings }: LoadedConfig): string {
  const pools = Object.values(config.pools);
  const users = pools.flatMap(pool => Object.keys(pool.users));
  const shards = pools.flatMap(pool => Object.values(pool.shards));
  const servers = shards.flatMap(shard => shard.servers);
  const counts = Object.entries({ pool: pools, user: users, shard: shards, server: servers, warning: warnings });
  return counts
    .filter(([name, { length }]) => name !== 'warning' || length > 0)
    .map(([name, { length }]) => `${length} ${name}${length === 1 ? '' : 's'}`)
    .join(', ');
}

function log(usual: LogLevel, configured: string | undefined): Promise<Log> {
  const flags = program.opts<LogFlags>();
  const file = flags.logFile ?? configured;
  const isTerminal = file === undefined && process.stdout.isTTY;
  return createLog({
    level: flags.logLevel ?? usual,
    format: flags.logFormat ?? (isTerminal ? 'text' : 'structured'),
    color: flags.color && isTerminal,
    file,
  });
}

function oneOf<Word extends string>(words: readonly Word[]): (value: string) => Word {
  return value => {
    const found = words.find(word => word === value.toLowerCase());
    if (found === undefined) throw new InvalidArgumentError(`Use one of ${words.join(', ')}.`);
    return found;
  };
}

function wholeNumber(least: number, most: number): (value: string) => number {
  return value => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < least || number > most) {
      throw new InvalidArgumentError(`Use a whole number from ${least} to ${most}.`);
    }
    return number;
  };
}

try {
  await program.parseAsync();
} catch (thrown) {
  if (thrown instanceof ConfigError) console.error(thrown.message);
  else if (thrown instanceof OperatorError || thrown instanceof DemoError) console.error(`pglynx: ${thrown.message}`);
  else throw thrown;
  process.exitCode = 1;
}
