/** Runs every test file of this folder with node:test: `npm test`, or `npm test -- sql/ wire/framer` for some of them. */
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';

const wanted = process.argv.slice(2);
const options = wanted.filter(word => word.startsWith('-'));
const names = wanted.filter(word => !word.startsWith('-'));
const files = globSync('test/**/*.test.ts')
  .filter(file => names.length === 0 || names.some(name => file.includes(name)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${names.join(' ')}`);
  process.exit(1);
}
const concurrency = Math.max(1, Math.min(4, availableParallelism()));
// Hundreds of processes load the same modules: each compiles them once only.
const env = { NODE_COMPILE_CACHE: resolve('.tmp/modules'), ...process.env };
const result = spawnSync(
  process.execPath,
  ['--test', `--test-concurrency=${concurrency}`, '--test-timeout=180000', ...options, ...files],
  { stdio: 'inherit', env },
);
process.exit(result.status ?? 1);
