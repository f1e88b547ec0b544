/** Rules between several keys of the file, which no type can state: PgCat's, and those whose breach made PgCat panic. */
import { checkEncryption } from './encryption.ts';
import { SERVER_FIELDS } from './pool.ts';
import { isTable, type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

type Report = (path: KeyPath, message: string) => void;

/**
 * Every breach in `file`. Looks only at values of the right type, so that it works on a file with other mistakes and all
 * of them are reported together.
 */
export function checkRules(file: Table): Notice[] {
  const problems: Notice[] = [];
  const report: Report = (path, message) => problems.push({ path, message });
  const general = isTable(file.general) ? file.general : {};
  checkEncryption(general, file.pools, report);
  if (Array.isArray(general.host) && general.host.length === 0 && !('unix_socket_dir' in general)) {
    report(['general', 'host'], 'has no address, and there is no unix_socket_dir: nobody could connect');
  }
  checkExporter(general, report);
  for (const [name, pool] of tablesIn(file.pools)) checkPool(pool, name, report);
  return problems;
}

function checkExporter(
  { enable_prometheus_exporter, prometheus_exporter_port, port, host }: Table,
  report: Report,
): void {
  if (enable_prometheus_exporter !== true || prometheus_exporter_port !== port) return;
  const isAlone = Array.isArray(host) && host.length === 0;
  if (typeof port === 'number' && port !== 0 && !isAlone)
    report(['general', 'prometheus_exporter_port'], 'is the port of clients as well');
}

function checkPool(pool: Table, name: string, report: Report): void {
  const at = ['pools', name];
  checkParser(pool, at, report);
  checkActivity(pool, at, report);
  checkUsers(pool, at, report);
  checkShards(pool, at, report);
}

function checkParser(pool: Table, at: KeyPath, report: Report): void {
  if (pool.query_parser_enabled === true) return;
  for (const key of ['query_parser_read_write_splitting', 'plugins']) {
    if (pool[key] === true || isTable(pool[key])) report([...at, key], 'needs query_parser_enabled = true');
  }
}

function checkActivity(pool: Table, at: KeyPath, report: Report): void {
  if (pool.db_activity_based_routing !== true) return;
  for (const key of ['db_activity_init_delay', 'db_activity_ttl', 'table_mutation_cache_ms_ttl']) {
    if (pool[key] === 0) report([...at, key], 'must be at least 1 while db_activity_based_routing is on, not 0');
  }
}

function checkUsers(pool: Table, at: KeyPath, report: Report): void {
  for (const [index, user] of tablesIn(pool.users)) {
    const path = [...at, 'users', index];
    const { pool_size: most, min_pool_size: least } = user;
    if (typeof most === 'number' && typeof least === 'number' && least > most) {
      report([...path, 'min_pool_size'], `must not be more than pool_size (${most}), but is ${least}`);
    }
  }
}

function checkShards(pool: Table, at: KeyPath, report: Report): void {
  if (!isTable(pool.shards)) return;
  const names = Object.keys(pool.shards);
  if (names.length === 0) report([...at, 'shards'], 'needs at least one shard');
  const numbers = names.filter(name => /^(0|[1-9]\d*)$/.test(name)).sort((a, b) => Number(a) - Number(b));
  for (const name of names) {
    if (!numbers.includes(name)) report([...at, 'shards', name], 'is not a number: shards are named 0, 1, 2 and so on');
  }
  const gap = numbers.findIndex((name, index) => Number(name) !== index);
  if (gap >= 0) {
    report(
      [...at, 'shards', numbers[gap] ?? ''],
      `comes without a shard ${gap}: shards are numbered 0, 1, 2 and so on`,
    );
  }
  checkDefaultShard(pool, numbers.length, at, report);
  for (const [name, shard] of tablesIn(pool.shards)) checkServers(shard, [...at, 'shards', name], report);
}

function checkDefaultShard(pool: Table, shards: number, at: KeyPath, report: Report): void {
  const [, number] = typeof pool.default_shard === 'string' ? (/^shard_(\d+)$/.exec(pool.default_shard) ?? []) : [];
  if (number === undefined || Number(number) < shards) return;
  report([...at, 'default_shard'], `Invalid shard ${number}: the pool has ${shards}, and the first is 0`);
}

function checkServers(shard: Table, at: KeyPath, report: Report): void {
  if (!Array.isArray(shard.servers)) return;
  const seen = new Set<string>();
  let primaries = 0;
  let usable = 0;
  for (const [index, server] of shard.servers.entries()) {
    const path = [...at, 'servers', index];
    const [host, port, role] = fieldsOf(server);
    const kind = String(role).toLowerCase();
    const name = `${host}:${port} as ${kind}`;
    if (typeof role === 'string' && seen.has(name)) report(path, `is listed twice: ${name}`);
    seen.add(name);
    if (kind !== 'mirror') usable++;
    if (kind === 'primary' && ++primaries > 1) report(path, 'is a second primary; a shard has one at most');
  }
  if (shard.servers.length > 0 && usable === 0) report([...at, 'servers'], 'needs a primary or a replica');
}

function fieldsOf(server: unknown): readonly unknown[] {
  if (isTable(server)) return SERVER_FIELDS.map(field => server[field]);
  return Array.isArray(server) ? server : [];
}
