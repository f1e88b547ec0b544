/** What a client may leave behind on a server connection, to be cleaned before another uses it: bits of its `dirty`. */
export const DIRTY = {
  settings: 1,
  prepared: 2,
  listen: 4,
  temp: 8,
  cursors: 16,
  locks: 32,
  sequences: 64,
  /**
   * A simple query behind an Execute without a Sync in between: PostgreSQL (14 to 18) may then call the connection
   * idle although its transaction has not ended, and fail the next statement, whosever it is.
   */
  pipeline: 128,
} as const;
