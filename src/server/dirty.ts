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
   * A transaction may be open although the connection is called idle: behind a BEGIN that has not been answered, and
   * where a simple query followed an Execute without a Sync in between (PostgreSQL 14 to 18).
   */
  pipeline: 128,
} as const;
