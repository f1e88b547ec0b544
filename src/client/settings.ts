/** The settings one client wants: those of its startup packet, and those it has changed since. */
import type { Cluster } from '../pool/cluster.ts';
import type { SettingsProfile } from '../server/parameters.ts';

export class ClientSettings {
  /** What a connection must have before it serves this client. */
  profile: SettingsProfile;
  /** Whether a RESET ran: where it made a value the server's default, the client's own default is meant. */
  resetting = false;
  application_name: string;

  readonly #startup: SettingsProfile;
  #altered: string | undefined;
  #before: { readonly profile: SettingsProfile; readonly application_name: string };
  readonly #cluster: Cluster;

  constructor(startup: SettingsProfile, application_name: string, cluster: Cluster) {
    this.#startup = startup;
    this.profile = startup;
    this.application_name = application_name;
    this.#before = { profile: startup, application_name };
    this.#cluster = cluster;
  }

  /** {@link SettingsProfile.dialect} of what is prepared now: behind a change that is not yet reported, nobody else's. */
  get dialect(): string {
    return this.#altered ?? this.profile.dialect;
  }

  /** A text that changes settings is about to run, and what follows it in its exchange means what nobody knows. */
  alter(): void {
    this.#altered ??= `altered ${nextAltered++}`;
  }

  /** The exchange is over: the server has reported what changed. */
  settle(): void {
    this.resetting = false;
    this.#altered = undefined;
  }

  /** The server reported that a followed setting has this value now. */
  reported(name: string, value: string): void {
    const key = name.toLowerCase();
    const wish = this.#startup.values.get(key);
    const values = new Map(this.profile.values);
    const isDefault = this.#cluster.baseline?.get(name) === value;
    if (!isDefault || (wish !== undefined && !this.resetting)) values.set(key, value);
    else if (wish === undefined) values.delete(key);
    else values.set(key, wish);
    if (key === 'application_name') this.application_name = values.get(key) ?? value;
    this.profile = this.#cluster.context.profiles.intern(values);
  }

  /** A transaction begins, whose changes {@link rollBack} may have to take back. */
  begin(): void {
    const { profile, application_name } = this;
    this.#before = { profile, application_name };
  }

  /** The transaction was rolled back without the client. */
  rollBack(): void {
    this.profile = this.#before.profile;
    this.application_name = this.#before.application_name;
  }

  /** Whether plain strings have backslash escapes: standard_conforming_strings is off. */
  get backslashes(): boolean {
    return this.#now('standard_conforming_strings') === 'off';
  }

  /** Whether client and database use UTF8, so that servers store strings as they come. */
  get utf8(): boolean {
    return this.#now('client_encoding') === 'UTF8' && this.#now('server_encoding') === 'UTF8';
  }

  /** Whether the server may read `text` otherwise than the grammar does: shifted encodings, escapes in doubt. */
  misleads(text: Buffer): boolean {
    const encoding = this.#now('client_encoding');
    if (encoding !== 'UTF8' && encoding !== undefined && SHIFTED_ENCODINGS.test(encoding)) return true;
    return this.#altered !== undefined && text.includes(BACKSLASH);
  }

  /** What a setting that servers report is now: the client's wish, or the server's own. */
  #now(name: string): string | undefined {
    return this.profile.values.get(name) ?? this.#cluster.baseline?.get(name);
  }

  /** DISCARD ALL: as at login. */
  restart(): void {
    this.profile = this.#startup;
    this.resetting = true;
  }
}

const BACKSLASH = 0x5c;

/** Counts exchanges that change settings. */
let nextAltered = 0;

/** Client encodings in which a byte of a longer character can look like ASCII. */
const SHIFTED_ENCODINGS =
  /^(sjis|shift_?jis.*|mskanji|win932|windows932|big5|win950|windows950|gbk|win936|windows936|gb18030|uhc|win949|windows949|johab)$/i;
