/** Cuts a text for the admin database into statements and those into words; comments are left out. */

/** Each alternative either ends or runs to the end of the text, so that no text takes longer than its length. */
const TOKEN = /\s+|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|;|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|[^\s;'"]+/g;

/** The statements of `sql`, each as its words; one without words stands only where semicolons are all there is. */
export function statementsOf(sql: string): string[][] {
  const statements: string[][] = [[]];
  for (const [token] of sql.matchAll(TOKEN)) {
    if (token === ';') statements.push([]);
    else if (!/^(\s|--|\/\*)/.test(token)) statements.at(-1)?.push(token);
  }
  const written = statements.filter(words => words.length > 0);
  return written.length === 0 && statements.length > 1 ? [[]] : written;
}
