/** The one table of settings that are accepted and not built yet; to build one is to take its row out. */
import { type Config, SECTIONS, type Section } from './schema.ts';
import { settingsOf } from './setting.ts';
import { isTable, type KeyPath, type Notice, type Table, tablesIn } from './toml.ts';

/** What decides whether a value asks for anything. */
interface Context {
  /** The setting's default. */
  readonly standard: unknown;
  /** The section it is in, defaults filled in. */
  readonly section: Table;
}

/** A setting that is not built. */
interface Unbuilt {
  /** Whether this value asks for anything; the default and "off" do not. */
  readonly asks: (value: unknown, context: Context) => boolean;
  /** The part of the setting that is missing, if the rest of it is built. */
  readonly part?: string;
}

const isOn = (value: unknown) =>
  value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);

const switched: Unbuilt = { asks: isOn };

const plugin: Unbuilt = { asks: value => isTable(value) && value.enabled === true };

/** Asks once it differs from its default, while one of the settings that it refines is on. */
const changed = (...refined: string[]): Unbuilt => ({
  asks: (value, { standard, section }) =>
    value !== standard && (refined.length === 0 || refined.some(key => isOn(section[key]))),
});

const mirrorRole: Unbuilt = {
  asks: servers => Array.isArray(servers) && servers.some(server => isTable(server) && server.role === 'mirror'),
  part: 'the role "mirror"',
};

/** By section and key. */
export const UNBUILT: ReadonlyMap<string, Unbuilt> = new Map<string, Unbuilt>([
  ['general.worker_threads', changed()],
  ['shards.servers', mirrorRole],
  ['shards.mirrors', switched],
  ['plugins.intercept', plugin],
  ['plugins.table_access', plugin],
  ['plugins.query_logger', plugin],
  ['plugins.prewarmer', plugin],
]);

/** One notice for each key of `file` that asks for something that is not built; `config` is what `file` means. */
export function unbuiltKeys(file: Table, config: Config): Notice[] {
  const notices: Notice[] = [];
  const look = (name: Section['name'], written: unknown, section: Table | undefined, at: KeyPath): void => {
    if (!isTable(written) || section === undefined) return;
    for (const key of Object.keys(written)) {
      const row = UNBUILT.get(`${name}.${key}`);
      const standard = STANDARDS.get(`${name}.${key}`);
      if (!row?.asks(section[key], { standard, section })) continue;
      notices.push({ path: [...at, key], message: unbuiltText(row) });
    }
  };
  look('general', file.general, config.general, ['general']);
  look('plugins', file.plugins, config.plugins, ['plugins']);
  for (const [name, written] of tablesIn(file.pools)) {
    const pool = config.pools[name];
    const at = ['pools', name];
    look('pools', written, pool, at);
    look('plugins', written.plugins, pool?.plugins, [...at, 'plugins']);
    for (const [n, shard] of tablesIn(written.shards)) look('shards', shard, pool?.shards[n], [...at, 'shards', n]);
  }
  return notices;
}

const STANDARDS: ReadonlyMap<string, unknown> = new Map(
  SECTIONS.flatMap(({ name, schema }) =>
    settingsOf(schema).map(setting => [`${name}.${setting.key}`, setting.default] as const),
  ),
);

function unbuiltText({ part }: Unbuilt): string {
  return part === undefined ? 'is not built yet and has no effect' : `has a value that is not built yet: ${part}`;
}
