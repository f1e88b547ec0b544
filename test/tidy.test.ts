/** The rules of the house that no linter knows: layers, lengths, first lines, purity, and documents that keep up. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { SECTIONS } from '../src/config/schema.ts';
import { settingsOf } from '../src/config/setting.ts';
import { ERRORS } from '../src/errors.ts';
import { functionsOf, ROOT, type SourceFile, sourceFile, sourceFiles } from './source.ts';

/**
 * The folders and files directly under src, from the top down. A file imports from its own folder and from rows below
 * its own; what stands in one row knows nothing of each other.
 */
const LAYERS = [
  ['cli'],
  ['demo', 'workers'],
  ['index'],
  ['proxy'],
  ['http'],
  ['admin'],
  ['client'],
  ['pool'],
  ['routing'],
  ['server'],
  ['net'],
  ['sharding', 'sql', 'config', 'auth', 'wire'],
  ['stats'],
  ['errors', 'version'],
];

/** No socket, clock, randomness or log in these: bytes or values in, values out. */
const PURE = /^src\/(wire|sql|sharding|routing)\/|^src\/(auth\/scram|server\/exchange)\.ts$/;

/** It owns the grammar, which it reads from disk once. */
const NOT_PURE = ['src/sql/parser.ts'];

/** Generated tables, which are as long as what they list. */
const GENERATED = ['src/sql/builtins.ts'];

const FILE_LINES = 450;
const FUNCTION_LINES = 80;

/** What is wrong with one file, each complaint with its line where there is one (`12: ...`). */
type Rule = (file: SourceFile) => string[];

const RULES: Readonly<Record<string, Rule>> = {
  'the first line is a comment and a sentence': ({ text }) => {
    const [first, second] = text.split('\n');
    const line = first.startsWith('#!') ? second : first;
    return /^\/\*\* \S.*\. \*\/$/.test(line) ? [] : [`1: ${line}`];
  },

  [`a file has at most ${FILE_LINES} lines`]: ({ path, text }) => {
    const lines = text.split('\n').length - 1;
    return lines > FILE_LINES && !GENERATED.includes(path) ? [`it has ${lines}`] : [];
  },

  [`a function has at most ${FUNCTION_LINES} lines`]: ({ code }) =>
    functionsOf(code).flatMap(({ head, line, lines }) =>
      lines > FUNCTION_LINES ? [`${line}: ${lines} in ${head}`] : [],
    ),

  'imports point down the layers': ({ path, imports }) => {
    const own = layerOf(path);
    if (own.row === -1) return ['it belongs to no row of LAYERS'];
    return imports.flatMap(target => {
      if (target === 'package.json') return [];
      const other = layerOf(target);
      return other.name === own.name || other.row > own.row ? [] : [`it imports ${target}`];
    });
  },

  'no any': found(/(?<=[:<,|&(=]\s*|\bas\s+)any\b(?!\s*:)/),
  'no cast but `as const`': found(/^(?!import\b|export [{*]|\s+\w+ as \w+,$).*\bas\s+(?!const\b)/),
  'no default export': found(/^export default\b|\bas default\b/),
  'no enum and no namespace': found(/^\s*((export|declare|const)\s+)*(enum|namespace)\s+\w/),

  'pure layers see no socket, clock, randomness or log': file => {
    if (!PURE.test(file.path) || NOT_PURE.includes(file.path)) return [];
    const modules = file.packages.filter(name => name.startsWith('node:') && name !== 'node:crypto');
    const words =
      /\b(process\.|console\.|performance\.|Date\b|set(Timeout|Interval|Immediate)\b|Math\.random|random(Bytes|Int|UUID)\b)/;
    return [...modules.map(name => `it imports ${name}`), ...found(words)(file)];
  },
};

suite('every file of src', () => {
  const files = sourceFiles('src/**/*.ts');
  for (const [name, rule] of Object.entries(RULES)) {
    test(name, () =>
      complain(
        name,
        files.flatMap(file => rule(file).map(complaint => `${file.path}:${complaint.replace(/^\D/, ' $&')}`)),
      ),
    );
  }

  test('imports go round in no circle', () => {
    complain('an import leads back to its own file', circles(new Map(files.map(file => [file.path, file.imports]))));
  });
});

suite('documents', () => {
  const document = (name: string) => readFileSync(join(ROOT, 'docs', name), 'utf8').split('\n');

  test('the generated ones are up to date', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['docs/generate.ts', '--check'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    assert.equal(status, 0, `docs/generate.ts --check: ${stdout}${stderr}`);
  });

  test('docs/CONFIG.md has every setting', () => {
    const lines = document('CONFIG.md');
    const keys = SECTIONS.flatMap(({ schema }) => settingsOf(schema)).map(setting => setting.key);
    const missing = keys.filter(key => !lines.some(line => line.startsWith(`| \`${key}\` |`)));
    assert.ok(keys.length > 0);
    complain('docs/CONFIG.md has no row for', missing);
  });

  test('docs/ERRORS.md has every error with its SQLSTATE', () => {
    const lines = document('ERRORS.md');
    const rows = Object.entries(ERRORS).map(([name, { sqlstate }]) => `| \`${name}\` | ${sqlstate} |`);
    complain(
      'docs/ERRORS.md has no row for',
      rows.filter(row => !lines.some(line => line.startsWith(row))),
    );
  });
});

suite('the rules themselves', () => {
  const complaints = (text: string, path = 'src/wire/sample.ts') => {
    const file = sourceFile(path, `/** A sample. */\n${text}\n`);
    return Object.values(RULES).flatMap(rule => rule(file));
  };
  const body = (count: number) => '  run();\n'.repeat(count);

  test('see what is wrong', () => {
    const wrong: Readonly<Record<string, string>> = {
      'let x: any = 1;': '2: let x: any = 1;',
      'let x: Map<string, any>;': '2: let x: Map<string, any>;',
      'run(x as string);': '2: run(x as string);',
      'export const a = b as string;': '2: export const a = b as string;',
      'export default run;': '2: export default run;',
      'export const enum Kind {}': '2: export const enum Kind {}',
      'const now = Date.now();': '2: const now = Date.now();',
      "import { connect } from 'node:net';": 'it imports node:net',
      "import { Pool } from '../pool/pool.ts';": 'it imports src/pool/pool.ts',
      "import { Secret } from '../auth/secret.ts';": 'it imports src/auth/secret.ts',
      "import { RawClient } from '../../test/client/raw.ts';": 'it imports test/client/raw.ts',
      "const pool = await import('../pool/pool.ts');": 'it imports src/pool/pool.ts',
    };
    for (const [text, complaint] of Object.entries(wrong)) assert.deepEqual(complaints(text), [complaint]);
    assert.deepEqual(complaints('', 'src/new/sample.ts'), ['it belongs to no row of LAYERS']);
    assert.deepEqual(complaints('run();\n'.repeat(450)), ['it has 452']);
    assert.deepEqual(RULES['the first line is a comment and a sentence'](sourceFile('src/x.ts', 'run();\n')), [
      '1: run();',
    ]);
  });

  test('see no fault in words that only look like one', () => {
    const right = [
      'const mode = ["any", `as any`, 1] as const; // as any',
      "import * as wire from './wire.ts';",
      'export { a as b };',
      'const pattern = /as any[{"]/.test(text) || a / b / c;',
      `const text = \`as any \${run({ a: \`Date\` })} as any\`;`,
      "/* as any */ const it = 'it\\'s as any';",
    ];
    for (const text of right) assert.deepEqual(complaints(text), [], text);
  });

  test('measure functions of every kind', () => {
    const heads = [
      'export async function run(a: string) {\n',
      'function run(\n  a: string,\n  b: string,\n): Promise<void> {\n',
      'const run = async (a: string) => {\n',
      'const run = (\n  a: string,\n) => {\n',
      'function run(): {\n  a: string;\n} {\n',
    ];
    for (const head of heads) {
      const lines = head.split('\n').length - 1;
      const [found] = functionsOf(`${head}${body(10)}}\n`);
      assert.equal(found?.lines, lines + 11, head);
    }
    const methods = [
      '#run(): void {',
      'static async run() {',
      'get run(): string {',
      'constructor(a: string) {',
      '*run() {',
    ];
    for (const method of methods) {
      const [found] = functionsOf(`class Sample {\n  ${method}\n  ${body(10)}  }\n}\n`);
      assert.deepEqual(found, { head: method, line: 2, lines: 12 });
    }
    const none = [
      'if (a) {',
      'while (\n  a\n) {',
      'class Run extends make(a) {',
      'const a = {',
      'run({',
      'run(a, {',
      'switch (a) {',
      '} else if (a) {',
    ];
    for (const head of none) assert.deepEqual(functionsOf(`${head}\n${body(3)}}\n`), [], head);
    assert.match(complaints(`function run() {\n${body(79)}}`).join(), /2: 81 in function run/);
  });

  test('find the way round a circle', () => {
    const graph = new Map([
      ['a', ['b', 'd']],
      ['b', ['c']],
      ['c', ['b']],
      ['d', []],
    ]);
    assert.deepEqual(circles(graph), ['b > c > b']);
  });
});

function layerOf(path: string): { name: string | undefined; row: number } {
  const name = /^src\/([^/.]+)/.exec(path)?.[1];
  return { name, row: LAYERS.findIndex(row => name !== undefined && row.includes(name)) };
}

/** Complains about each line of code that the pattern matches. */
function found(pattern: RegExp): Rule {
  return ({ code, text }) => {
    const lines = text.split('\n');
    return code
      .split('\n')
      .flatMap((line, index) => (pattern.test(line) ? [`${index + 1}: ${lines[index].trim()}`] : []));
  };
}

/** Each circle once, as the way round it. */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const result: string[] = [];
  const done = new Set<string>();
  const visit = (node: string, way: readonly string[]) => {
    const start = way.indexOf(node);
    if (start !== -1) result.push([...way.slice(start), node].join(' > '));
    if (start !== -1 || done.has(node)) return;
    for (const next of graph.get(node) ?? []) visit(next, [...way, node]);
    done.add(node);
  };
  for (const node of graph.keys()) visit(node, []);
  return result;
}

function complain(rule: string, complaints: readonly string[]): void {
  assert.ok(complaints.length === 0, `${rule}\n  ${complaints.join('\n  ')}`);
}
