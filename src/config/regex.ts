/** Regular expressions as PgCat's files have them, in Rust's syntax, matched by RE2: in time that the text's length bounds. */
import { RE2JS, RE2JSException, RE2JSSyntaxException } from 're2js';

/** Rust's `\w` is of all scripts, RE2's of ASCII only: it would cut a key such as `café` short. */
const WORD = '\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}';

/** Escapes, named classes, the begin of a class with a bracket that it may hold there, Rust's operators on classes, and all else. */
const TOKEN = /\\b\{|\\[pPx]\{[^}]*\}|\\.|\[:\^?\w+:\]|\[\^?\]?|&&|--|~~|./gsu;

/** The expression, ready to match; throws a SyntaxError whose message follows "is not a valid regular expression: ". */
export function compileRegex(source: string): RE2JS {
  try {
    return RE2JS.compile(translate(source));
  } catch (thrown) {
    if (!(thrown instanceof RE2JSException)) throw thrown;
    if (!(thrown instanceof RE2JSSyntaxException)) throw new SyntaxError(thrown.message, { cause: thrown });
    const place = thrown.getPattern();
    throw new SyntaxError(thrown.getDescription() + (place ? ` in "${place}"` : ''), { cause: thrown });
  }
}

/** RE2's spelling of an expression; what RE2 would read otherwise than Rust is refused. */
function translate(source: string): string {
  let inClass = false;
  let translated = '';
  for (const [token] of source.matchAll(TOKEN)) {
    if (/^\\([<>]|b\{)$/.test(token)) throw unsupported(token);
    const [refused] = inClass ? (/^(\[(?!:)|&&|--|~~|\\W)/.exec(token) ?? []) : [];
    if (refused !== undefined) throw unsupported(refused, ' inside of []');
    if (token === '\\w') translated += inClass ? WORD : `[${WORD}]`;
    else if (token === '\\W') translated += `[^${WORD}]`;
    else translated += token;
    if (token === ']') inClass = false;
    else if (token.startsWith('[') && !token.endsWith(':]')) inClass = true;
  }
  return translated;
}

function unsupported(token: string, where = ''): SyntaxError {
  return new SyntaxError(`${token}${where} is not supported`);
}
