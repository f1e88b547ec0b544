/** What a client is told of its session at login: the settings it asked for, tried on a server, as the server reports them. */
import { type SettingsProfile, settingsRefused, settingsSql } from '../server/parameters.ts';
import { ServerError } from '../server/silent.ts';
import { borrow } from './borrow.ts';
import type { Cluster } from './cluster.ts';

/** A client's settings once a server has accepted them. */
export interface Welcome {
  /** What differs from the server's defaults, in the server's spelling. */
  readonly profile: SettingsProfile;
  /** Every ParameterStatus for the client. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** An application_name that a server takes as it is. */
const ASCII = /^[ -~]*$/;

/** Sets of settings remembered as accepted, per cluster. */
const WELCOMES_MAX = 1000;
const accepted = new WeakMap<Cluster, Map<SettingsProfile, Welcome>>();

/**
 * Finds out what `wishes` come to on the cluster's servers; a set seen before costs nothing.
 * @throws PgError the server refuses a setting (its own SQLSTATE), or no server can be reached
 */
export async function welcome(cluster: Cluster, wishes: ReadonlyMap<string, string>): Promise<Welcome> {
  const application_name = wishes.get('application_name');
  const isSession = cluster.settings.pool_mode === 'session';
  if (isSession || application_name === undefined || !ASCII.test(application_name)) return accept(cluster, wishes);
  // Any is accepted, and many clients have one of their own: no server is asked.
  const others = new Map(wishes);
  others.delete('application_name');
  const { profile, parameters } = await accept(cluster, others);
  return {
    profile: cluster.context.profiles.with(profile, 'application_name', application_name),
    parameters: new Map(parameters).set('application_name', application_name),
  };
}

async function accept(cluster: Cluster, wishes: ReadonlyMap<string, string>): Promise<Welcome> {
  const { profiles } = cluster.context;
  const profile = profiles.intern(wishes);
  if (profile === cluster.defaults && cluster.baseline !== undefined) return { profile, parameters: cluster.baseline };
  const known = accepted.get(cluster) ?? new Map<SettingsProfile, Welcome>();
  accepted.set(cluster, known);
  let found = known.get(profile);
  if (found === undefined) {
    found = await tryOut(cluster, profile);
    if (known.size >= WELCOMES_MAX) known.clear();
    known.set(profile, found);
  }
  return found;
}

async function tryOut(cluster: Cluster, wished: SettingsProfile): Promise<Welcome> {
  const session = cluster.settings.pool_mode === 'session';
  const { connection, pool } = await borrow(cluster, session ? wished : cluster.defaults);
  try {
    if (session) return { profile: wished, parameters: new Map(connection.parameters) };
    const sql = settingsSql(connection.profile ?? cluster.defaults, wished);
    if (sql !== undefined) await connection.run(sql);
    connection.profile = canonical(cluster, wished, connection.parameters);
    return { profile: connection.profile, parameters: new Map(connection.parameters) };
  } catch (error) {
    throw error instanceof ServerError ? settingsRefused(error) : error;
  } finally {
    pool.release(connection);
  }
}

/** The wished values as the server spells them, without those that are its defaults anyway. */
function canonical(cluster: Cluster, wished: SettingsProfile, reported: ReadonlyMap<string, string>): SettingsProfile {
  const spelled = new Map<string, string>();
  for (const [name, value] of reported) spelled.set(name.toLowerCase(), value);
  const usual = new Map<string, string>();
  for (const [name, value] of cluster.baseline ?? []) usual.set(name.toLowerCase(), value);
  const values = new Map<string, string>();
  for (const [name, value] of wished.values) {
    const actual = spelled.get(name) ?? value;
    if (usual.get(name) !== actual) values.set(name, actual);
  }
  return cluster.context.profiles.intern(values);
}
