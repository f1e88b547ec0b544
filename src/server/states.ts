/** The life of a server connection as a table of what may follow what. */

/** The states of a connection and what each may become; drawn in docs/STATES.md. */
export const CONNECTION_STATES = {
  login: ['ready', 'closed'],
  ready: ['closed'],
  closed: [],
} as const;
export type ConnectionState = keyof typeof CONNECTION_STATES;
