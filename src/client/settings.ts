/** The settings one client wants: those of its startup packet, and those it has changed since. */
import type { Cluster } from '../pool/cluster.ts';
import type { SettingsProfile } from '../server/parameters.ts';

export class ClientSettings {
  /** What a connection must have before it serves this client. */
  profile: SettingsProfile;
  /** Whether a RESET ran: reported values are the server's defaults, and the client wants its own. */
  resetting = false;
  application_name: string;

  readonly #startup: SettingsProfile;
  readonly #cluster: Cluster;

  constructor(startup: SettingsProfile, application_name: string, cluster: Cluster) {
    this.#startup = startup;
    this.profile = startup;
    this.application_name = application_name;
    this.#cluster = cluster;
  }

  /** The server reported that a followed setting has this value now. */
  reported(name: string, value: string): void {
    const key = name.toLowerCase();
    if (key === 'application_name') this.application_name = value;
    const wish = this.#startup.values.get(key);
    const values = new Map(this.profile.values);
    const isDefault = wish === undefined && this.#cluster.baseline?.get(name) === value;
    if (this.resetting && wish !== undefined) values.set(key, wish);
    else if (this.resetting || isDefault) values.delete(key);
    else values.set(key, value);
    this.profile = this.#cluster.context.profiles.intern(values);
  }

  /** DISCARD ALL: as at login. */
  restart(): void {
    this.profile = this.#startup;
  }
}
