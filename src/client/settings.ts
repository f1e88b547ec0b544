/** The settings one client wants: those of its startup packet, and those it has changed since. */
import type { Cluster } from '../pool/cluster.ts';
import type { TextReading } from '../routing/judge.ts';
import type { SettingsProfile } from '../server/parameters.ts';

/** How servers read texts under some settings. */
interface Reading {
  readonly profile: SettingsProfile;
  readonly baseline: ReadonlyMap<string, string> | undefined;
  /** Whether plain strings have backslash escapes: standard_conforming_strings is off. */
  readonly backslashes: boolean;
  /** Whether client and database use UTF8, so that servers store strings as they come. */
  readonly utf8: boolean;
  /** Whether a byte of a longer character may look like ASCII. */
  readonly shifted: boolean;
}

export class ClientSettings implements TextReading {
  /** What a connection must have before it serves this client. */
  profile: SettingsProfile;
  /** Whether a RESET ran: where it made a value the server's default, the client's own default is meant. */
  resetting = false;
  application_name: string;

  readonly #startup: SettingsProfile;
  #altered: string | undefined;
  #known: Reading | undefined;
  #before: { readonly profile: SettingsProfile; readonly application_name: string };
  #cluster: Cluster;
  /** What servers reported by default before a reload; right until one of the new cluster has. */
  #usualBefore: ReadonlyMap<string, string> | undefined;

  constructor(startup: SettingsProfile, application_name: string, cluster: Cluster) {
    this.#startup = startup;
    this.profile = startup;
    this.application_name = application_name;
    this.#before = { profile: startup, application_name };
    this.#cluster = cluster;
  }

  /** What servers report when nothing was asked of them. */
  get #usual(): ReadonlyMap<string, string> | undefined {
    return this.#cluster.baseline ?? this.#usualBefore;
  }

  /** A reload replaced the cluster. */
  configure(cluster: Cluster): void {
    this.#usualBefore = this.#usual;
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
    const isDefault = this.#usual?.get(name) === value;
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

  get backslashes(): boolean {
    return this.#reading().backslashes;
  }

  get utf8(): boolean {
    return this.#reading().utf8;
  }

  misleads(text: Buffer): boolean {
    return this.#reading().shifted || (this.#altered !== undefined && text.includes(BACKSLASH));
  }

  /** How servers read texts with the settings of now; found out once for each set of them. */
  #reading(): Reading {
    const baseline = this.#usual;
    let reading = this.#known;
    if (reading === undefined || reading.profile !== this.profile || reading.baseline !== baseline) {
      const encoding = this.#now('client_encoding');
      reading = {
        profile: this.profile,
        baseline,
        backslashes: this.#now('standard_conforming_strings') === 'off',
        utf8: encoding === 'UTF8' && this.#now('server_encoding') === 'UTF8',
        shifted: encoding !== 'UTF8' && encoding !== undefined && SHIFTED_ENCODINGS.test(encoding),
      };
      this.#known = reading;
    }
    return reading;
  }

  /** What a setting that servers report is now: the client's wish, or the server's own. */
  #now(name: string): string | undefined {
    return this.profile.values.get(name) ?? this.#usual?.get(name);
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
