/** What SQL texts say by their first words that they are: a second opinion on the kinds of statements. */

/** Words that say what a statement is, and how they begin it. */
const KINDS: readonly (readonly [RegExp, string])[] = [
  [/^(SELECT|VALUES|TABLE|WITH)\b/, 'SELECT'],
  [/^(COMMIT|END)\b(?! PREPARED)/, 'COMMIT'],
  [/^(ROLLBACK|ABORT)\b(?! PREPARED)/, 'ROLLBACK'],
  [/^CREATE (TEMP |UNLOGGED )*TABLE \S+ (ON COMMIT DROP )?AS\b/, 'CREATE TABLE AS'],
  [/^(CREATE|ALTER|DROP) USER\b/, '$1 ROLE'],
  [
    /^(CREATE|ALTER|DROP) (MATERIALIZED VIEW|FOREIGN TABLE|EVENT TRIGGER|DEFAULT PRIVILEGES|TEXT SEARCH CONFIGURATION|OWNED)\b/,
    '$1 $2',
  ],
  [/^(CREATE|ALTER|DROP) (\w+)/, '$1 $2'],
  [/^(LOCK|TRUNCATE)\b/, '$1 TABLE'],
  [/^(GRANT|REVOKE) pg_\w+ /i, '$1 ROLE'],
  [/^CLOSE ALL/, 'CLOSE CURSOR ALL'],
  [/^CLOSE\b/, 'CLOSE CURSOR'],
  [/^DECLARE\b/, 'DECLARE CURSOR'],
  [/^DEALLOCATE ALL/, 'DEALLOCATE ALL'],
  [
    /^(PREPARE TRANSACTION|(COMMIT|ROLLBACK) PREPARED|SET CONSTRAINTS|START TRANSACTION|REFRESH MATERIALIZED VIEW)\b/,
    '$1',
  ],
  [/^(DISCARD|REASSIGN|SECURITY) (\w+)/, '$1 $2'],
  [/^IMPORT FOREIGN SCHEMA/, 'IMPORT FOREIGN SCHEMA'],
  [/^(\w+)/, '$1'],
];

/** What the first words of a text say that it is. */
export function saidKind(sql: string): string {
  const words = sql
    .replaceAll(/\/\*.*?\*\/|--.*$/gm, ' ')
    .replace(/^[\s(;]+/, '')
    .replaceAll(/\s+/g, ' ')
    .toUpperCase()
    .replace(/^CREATE (?:(?:OR REPLACE|LOCAL|TEMP|TEMPORARY|UNLOGGED|UNIQUE) )+/, 'CREATE ');
  for (const [pattern, kind] of KINDS) {
    const said = pattern.exec(words)?.[0];
    if (said !== undefined) return said.replace(pattern, kind);
  }
  return '';
}
