/** The life of a session as a table of what may follow what. */

/** The phases of a session and what each may become; drawn in docs/STATES.md. */
export const SESSION_PHASES = {
  /** Between exchanges; it holds a connection in a transaction and in session mode. */
  idle: ['waiting', 'active', 'closed'],
  /** A batch waits for a connection, or for a cancel to be settled. */
  waiting: ['idle', 'active', 'closed'],
  /** An exchange is under way. */
  active: ['idle', 'closed'],
  closed: [],
} as const;
export type SessionPhase = keyof typeof SESSION_PHASES;
