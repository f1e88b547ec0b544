/** Writes docs/CONFIG.md, ERRORS.md, METRICS.md, ROUTING.md and STATES.md from the code: `npm run docs`; with `--check` it only says which are stale. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MISSPELT, UNREAD_IN_GENERAL, UNREAD_IN_POOLS } from '../src/config/legacy.ts';
import { SECTIONS, type Section } from '../src/config/schema.ts';
import { LONGEST_TIMER_MS, type Setting, settingsOf } from '../src/config/setting.ts';
import { UNBUILT } from '../src/config/unbuilt.ts';
import { ERRORS, type ErrorKind } from '../src/errors.ts';
import { LOGINS } from './logins.ts';
import { metricsPage } from './metrics.ts';
import { routingPage } from './routing.ts';
import { statesPage } from './states.ts';

const CONFIG_HEAD = `pglynx reads one TOML file, PgCat's \`pgcat.toml\`, and this page lists every key of it.

# Configuration

This page is generated from \`src/config\` by \`npm run docs\`.

- A mistake is reported as \`file:line:column: key: what is wrong\`, all mistakes of a file at once. A key that is not listed
  here is a mistake too, because it is most likely a typo.
- \`\${NAME}\` in any string is replaced by the environment variable NAME, which must exist. \`$\${\` stands for \`\${\` itself.
  (The \`result\` of an intercept plugin is left alone.)
- Beside \`password\`, \`server_password\`, \`admin_password\`, \`stats_password\` and \`auth_query_password\`, a key with \`_file\` at its end may
  stand instead: the password is the content of that file, without the line end after it.
- Names of files start from the working directory.
- Names such as \`session\` or \`primary\` may be written in capitals.
- Times longer than ${LONGEST_TIMER_MS} ms (24 days) count as that long.

The column *Reload* says when a changed value takes effect: \`restart\`, when the process starts again; \`live\`, from the next
event that reads it after a reload; \`pools\`, at a reload, for the pools whose own or inherited settings differ.

A key that is *not built yet* is accepted. If its value asks for something, pglynx logs a warning with its name and line.
`;

const INTROS: Readonly<Record<Section['name'], string>> = {
  general: 'Required. Where pglynx listens, and what every pool starts from.',
  pools:
    'One for each database that clients may connect to; NAME is the name of that database. `[pools."*"]` is for all that have none.',
  users: 'One for each user of the pool. N is free, and usually a number. Of two users with one name the last counts.',
  shards:
    'One for each shard of the pool. N is 0, 1, 2 and so on without a gap. A pool that is not sharded has shard 0.',
  plugins:
    'Optional. Holds for every pool that has no `[pools.NAME.plugins]`. A plugin that is present needs all its keys.',
};

const CONFIG_TAIL = `## What differs from PgCat

- Keys that PgCat does not know are ignored there and mistakes here, but for those in the table below.
- \`prepared_statements_cache_size\` is 500 by default and not 0: prepared statements work in transaction mode unless a file
  says otherwise.
- \`query_parser_enabled = true\` turns \`query_parser_read_write_splitting\` on unless that key is in the file, as it was before
  PgCat had it.
- Values that make PgCat panic are mistakes: a \`pool_size\`, \`connect_timeout\`, \`idle_timeout\`, \`server_lifetime\` or
  \`autoreload\` of 0, and shards that are not numbered 0, 1, 2 and so on.
- \`checkout_failure_limit = 0\` is off, as PgCat documents it.
- A user with \`auth_type = "trust"\` needs no password.
- \`auth_type\` and \`admin_auth_type\` may also be "scram-sha-256", "cert" and "hba".
- \`auth_query\` takes SCRAM verifiers too, and is asked when somebody logs in. A user who has a \`password\` in the file has that one only: in
  PgCat the server's is right as well.
- Changes of [general] reach the pools at a reload.
`;

function configPage(): string {
  return [CONFIG_HEAD, ...SECTIONS.map(sectionText), LOGINS, CONFIG_TAIL, legacyText()].join('\n');
}

function sectionText({ name, header, schema }: Section): string {
  const rows = settingsOf(schema).map(setting => [
    `\`${setting.key}\``,
    setting.type,
    defaultText(setting),
    setting.reload,
    setting.description,
    builtText(name, setting),
  ]);
  return `## ${header}\n\n${INTROS[name]}\n\n${table(['Key', 'Type', 'Default', 'Reload', 'What it does', 'Built'], rows)}`;
}

function defaultText(setting: Setting): string {
  if (setting.default !== undefined) return `\`${JSON.stringify(setting.default)}\``;
  return setting.required ? 'required' : (setting.unset ?? '');
}

function builtText(section: Section['name'], { key, type }: Setting): string {
  if (type === 'table' || type === 'tables') return 'see below';
  // A plugin is built or not as a whole: its row is the first word of its keys.
  const row = UNBUILT.get(`${section}.${section === 'plugins' ? key.replace(/\..*/, '') : key}`);
  if (row === undefined) return 'yes';
  return row.part === undefined ? 'accepted, not built yet' : `yes, but for ${row.part}`;
}

function legacyText(): string {
  const rows = [
    ...[...MISSPELT].map(([wrong, right]) => [
      `\`${wrong}\``,
      '[pools.NAME]',
      `is read as \`${right}\`, its right name`,
    ]),
    ['`prepared_statements_cache_size`', '[general]', 'is taken by every pool that has none of its own'],
    ...[...UNREAD_IN_GENERAL].map(([key, message]) => [`\`${key}\``, '[general]', message]),
    ...[...UNREAD_IN_POOLS].map(([key, message]) => [`\`${key}\``, '[pools.NAME]', message]),
    ['`plugins`', '[pool.NAME]', 'has no effect, as in PgCat; the section is [pools.NAME]'],
  ];
  return `## Names from PgCat's documents\n\nEach of these gives a warning.\n\n${table(['Key', 'Place', 'What it does'], rows)}`;
}

const ERRORS_HEAD = `This page lists every error that pglynx itself raises towards a client.

# Errors

This page is generated from \`src/errors.ts\` by \`npm run docs\`. Errors of PostgreSQL pass through unchanged. \`%s\` stands for a
value. ERROR ends the statement, FATAL the client's connection. The setting is the one whose change makes the error rarer.
`;

function errorsPage(): string {
  const rows = Object.entries<ErrorKind>(ERRORS).map(([name, { sqlstate, severity, message, hint, setting }]) => [
    `\`${name}\``,
    sqlstate,
    severity,
    message,
    hint ?? '',
    setting === undefined ? '' : `[\`${setting}\`](CONFIG.md)`,
  ]);
  return `${ERRORS_HEAD}\n${table(['Name', 'SQLSTATE', 'Severity', 'Message', 'Hint', 'Setting'], rows)}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}

const words = process.argv.slice(2);
const folder = words.find(word => !word.startsWith('-')) ?? import.meta.dirname;
for (const [name, page] of [
  ['CONFIG.md', configPage()],
  ['ERRORS.md', errorsPage()],
  ['METRICS.md', metricsPage()],
  ['ROUTING.md', routingPage()],
  ['STATES.md', statesPage()],
] as const) {
  const file = join(folder, name);
  if (!words.includes('--check')) {
    writeFileSync(file, page);
  } else if (!existsSync(file) || readFileSync(file, 'utf8') !== page) {
    console.error(`${file} is stale: npm run docs writes it anew`);
    process.exitCode = 1;
  }
}
