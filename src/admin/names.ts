/** Names of databases, users and hosts in a command: `db`, `db,user`, `"my db", user`. */

const NAME = /\s*(?:"((?:[^"]|"")*)"|'((?:[^']|'')*)'|([^\s,"']+))\s*(,|$)/y;

/** The names in these words, quotes taken off; undefined when they are anything else than names with commas between. */
export function namesIn(words: readonly string[]): string[] | undefined {
  const text = words.join(' ');
  const names: string[] = [];
  let isOpen = text !== '';
  for (NAME.lastIndex = 0; isOpen; ) {
    const found = NAME.exec(text);
    if (found === null) return undefined;
    const [, double, single, bare, comma] = found;
    names.push(double?.replaceAll('""', '"') ?? single?.replaceAll("''", "'") ?? bare);
    isOpen = comma === ',';
  }
  return names;
}
