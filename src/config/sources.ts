/** The files that a configuration is made of: itself, and what it names for passwords, keys and rules. */
import type { LoadedConfig } from './load.ts';
import { isTable } from './toml.ts';

/** Keys whose value is the name of a file that is read; `log_file` is written. */
const NAMES_FILE = /(password|hba)_file$|^(server_)?tls_(certificate|private_key|client_ca|ca)$/;

/** Their names as the configuration has them, itself first. */
export function sourceFiles({ path, config }: Pick<LoadedConfig, 'path' | 'config'>): string[] {
  const files = new Set([path]);
  const look = (value: unknown): void => {
    if (!isTable(value)) return;
    for (const [key, named] of Object.entries(value)) {
      if (typeof named === 'string' && NAMES_FILE.test(key)) files.add(named);
      else look(named);
    }
  };
  look(config);
  return [...files];
}
