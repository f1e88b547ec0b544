/** Brings a connection to its client's settings, in front of what the client sends. */
import { type PgError, pgError } from '../errors.ts';
import { QUERY_CANCELED } from '../server/cancel.ts';
import type { ServerConnection } from '../server/connection.ts';
import { DIRTY } from '../server/dirty.ts';
import { type SettingsProfile, settingsRefused, settingsSql } from '../server/parameters.ts';
import { ServerError } from '../server/silent.ts';

/**
 * Applies `profile`, which a server has accepted before, to a connection. True when statements may follow at once, in
 * the same write; else `applied` says when they may, or why they never may, and the connection is closed.
 */
export function applyProfile(
  connection: ServerConnection,
  profile: SettingsProfile,
  defaults: SettingsProfile,
  applied: (refusal: PgError | undefined) => void,
): boolean {
  const sql = settingsSql(connection.profile ?? defaults, profile);
  const isNameOnly = (connection.profile ?? defaults).dialect === profile.dialect;
  connection.profile = profile;
  if (sql === undefined) return true;
  const isSafe = !profile.hasRights;
  connection.inject(sql, error => {
    if (error === undefined) {
      if (!isSafe) applied(undefined);
      return;
    }
    if (isNameOnly && error.get('C') === QUERY_CANCELED && connection.state === 'ready') {
      // A cancel for the statement in front came late. What is behind has run under another name, which matters little.
      connection.dirty |= DIRTY.settings;
      return;
    }
    const { host, port } = connection.options;
    const refusal = new ServerError(error);
    const isLost = connection.state === 'closed';
    if (!isSafe)
      applied(isLost ? pgError('server_lost', `${host}:${port}`, refusal.message) : settingsRefused(refusal));
    connection.close("the server refused this client's settings", error);
  });
  return isSafe;
}
