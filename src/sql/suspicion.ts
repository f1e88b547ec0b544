/** A quick look at a text, for pools that do not parse: whether it may leave something in its session. */

/**
 * Statements that leave nothing by themselves if no second one follows, whatever else they say: their SET is an
 * assignment, their DO a conflict's. A comment in front may hold no `*` or `/`, since comments nest.
 */
const PLAIN =
  /^(?:\s|\/\*[^*/]*\*\/)*(?:select|insert|update|delete|merge|values|table|with|copy|fetch|explain|show|begin|commit|end|rollback)\b/i;

/**
 * What leaves something inside any statement: functions (also those that run text, which may be put together from
 * pieces), temporary objects, and names that are spelled with escapes.
 */
const INSIDE =
  /set_config|setseed|nextval|setval|currval|lastval|advisory|_to_xml|ts_stat|ts_rewrite|backup_st|replication|\btemp\b|\btemporary\b|pg_temp|\bexecute\b|u&"/i;

/** The words that begin statements which leave something, wherever they stand. */
const STATEMENT = /\b(?:set|reset|discard|listen|prepare|deallocate|declare|load|do|call)\b/i;

/** Characters of the longest text that is looked at: a longer one would hold up everybody. */
export const LOOKED_AT_MAX = 1024 * 1024;

/**
 * False only for texts without any word that leaves a trace in a session; true says nothing. Functions that are not
 * PostgreSQL's own may do as they like, and are not seen.
 */
export function mayLeaveState(text: string): boolean {
  if (text.length > LOOKED_AT_MAX) return true;
  if (INSIDE.test(text)) return true;
  const end = text.indexOf(';');
  const alone = end === -1 || end === text.length - 1;
  return !(alone && PLAIN.test(text)) && STATEMENT.test(text);
}
