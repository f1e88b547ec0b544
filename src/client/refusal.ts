/** How a replica refuses what only the primary can do. */

/** What a standby says of a write, and of a table that it does not have. */
export function isRefusal(error: ReadonlyMap<string, string>): boolean {
  const sqlstate = error.get('C');
  return sqlstate === '25006' || (sqlstate === '0A000' && error.get('R') === 'get_relation_info');
}
