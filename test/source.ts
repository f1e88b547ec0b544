/** The source files of the repository as the tidy test reads them: their code, their imports and their functions. */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder that holds package.json. */
export const ROOT = join(import.meta.dirname, '..');

export interface SourceFile {
  /** From the root, with slashes: `src/wire/framer.ts`. */
  readonly path: string;
  readonly text: string;
  /** The text with comments, strings and regular expressions blanked out; every line and column stays in place. */
  readonly code: string;
  /** The files of the repository that it imports, as paths like its own. */
  readonly imports: readonly string[];
  /** The packages and `node:` modules that it imports. */
  readonly packages: readonly string[];
}

export interface FunctionSpan {
  /** The line that names it, without its indentation. */
  readonly head: string;
  /** Line number of the head, from 1. */
  readonly line: number;
  readonly lines: number;
}

/** Every file that matches the pattern, from the root. */
export function sourceFiles(pattern: string): SourceFile[] {
  const paths = globSync(pattern, { cwd: ROOT }).map(path => path.replaceAll('\\', '/'));
  return paths.sort().map(path => sourceFile(path, readFileSync(join(ROOT, path), 'utf8')));
}

export function sourceFile(path: string, text: string): SourceFile {
  const named = importsOf(text);
  const isLocal = (name: string) => name.startsWith('.');
  const imports = named.filter(isLocal).map(name => join(dirname(path), name).replaceAll('\\', '/'));
  return { path, text, code: blank(text), imports, packages: named.filter(name => !isLocal(name)) };
}

/** Every function whose body has lines of its own, in code as the formatter leaves it: a body ends at its head's indent. */
export function functionsOf(code: string): FunctionSpan[] {
  const lines = code.split('\n');
  return lines.flatMap((line, index) => {
    if (!line.endsWith('{')) return [];
    const first = headOf(lines, index);
    const head = lines[first].trim();
    if (!isFunction(head, line)) return [];
    return [{ head, line: first + 1, lines: endOf(lines, index) - first + 1 }];
  });
}

/** The line that a body's opening line belongs to: itself, or the start of a parameter list that ends there. */
function headOf(lines: readonly string[], opening: number): number {
  if (!lines[opening].trimStart().startsWith(')')) return opening;
  const indent = indentOf(lines[opening]);
  let head = opening - 1;
  while (lines[head].trim() === '' || indentOf(lines[head]) > indent) head--;
  return head;
}

function endOf(lines: readonly string[], opening: number): number {
  const indent = indentOf(lines[opening]);
  let end = opening + 1;
  // A return type written over several lines ends in `} {`, and the body goes on.
  while (end < lines.length && !(lines[end].startsWith(`${indent}}`) && !lines[end].endsWith('{'))) end++;
  return end;
}

function isFunction(head: string, opening: string): boolean {
  if (opening.endsWith('=> {')) return true;
  if (/[(,[]\s*\{$/.test(opening)) return false;
  if (/^(\}\s*)?(if|for|while|switch|else|try|catch|finally|do|with|class|interface)\b/.test(head)) return false;
  return /^((export|async|static|override|get|set)\s+)*(function\b|\*?\s*#?\w+(<.*>)?\(|\*?\s*\[[\w.]+\]\()/.test(head);
}

function indentOf(line: string): string {
  return /^ */.exec(line)?.[0] ?? '';
}

function importsOf(text: string): string[] {
  const statements = /^(?:import|export)\b[^'"`;]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm;
  return [...text.matchAll(statements)].map(match => match[1] ?? match[2] ?? match[3]);
}

/** One token at a time: what is no code, or an identifier, or a single character. */
const TOKEN = /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|[\w$]+|\s+|[\s\S]/gy;
const REGEX = /\/(?![/*])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const TEMPLATE_TEXT = /(?:[^`\\$]|\\[\s\S]|\$(?!\{))*/y;

/** Blanks out comments, strings, regular expressions and the text of templates; the code inside `${}` stays. */
export function blank(text: string): string {
  let result = '';
  let at = 0;
  /** What stood before, spaces and comments left out: it tells a division from a regular expression. */
  let before = '';
  /** For each template whose `${` is open, the braces open inside it. */
  const templates: number[] = [];
  const read = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? '';
    at += found.length;
    return found;
  };
  const hide = (found: string) => {
    result += found.replace(/[^\n]/g, ' ');
  };
  const templateText = () => {
    hide(read(TEMPLATE_TEXT));
    const closed = text[at] === '`';
    at += closed ? 1 : 2;
    result += closed ? '`' : '${';
    if (!closed) templates.push(0);
  };

  while (at < text.length) {
    const regex = text[at] === '/' && startsRegex(before) ? read(REGEX) : '';
    const token = regex || read(TOKEN);
    const depth = templates.at(-1);
    if (token.startsWith('//') || token.startsWith('/*')) hide(token);
    else if (regex !== '' || /^['"]/.test(token)) hide(token);
    else result += token;
    if (token === '`') templateText();
    else if (token === '{' && depth !== undefined) templates.push((templates.pop() ?? 0) + 1);
    else if (token === '}' && depth === 0) {
      templates.pop();
      templateText();
    } else if (token === '}' && depth !== undefined) templates.push(depth - 1);
    if (!/^(\s|\/\/|\/\*)/.test(token) || regex !== '') before = token;
  }
  return result;
}

function startsRegex(before: string): boolean {
  return /^([(,=:[!&|?{};+>]|return|typeof|case|in|of|yield|await)?$/.test(before);
}
