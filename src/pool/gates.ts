/** What operators have stopped, by database and user: clusters come and go with reloads, their gates stay. */
import type { Lease, LeaseHolder } from './lease.ts';

/** The cluster that a claim was made in. */
interface Gated {
  /** Whether a reload has put another in its place. */
  readonly retired: boolean;
  /** Places a claim that waited at the gate. */
  admit(lease: Lease): void;
}

/** Some clusters: all, those of a database, or one. */
export interface Scope {
  readonly database?: string | undefined;
  readonly user?: string | undefined;
}

/** The gate in front of the clusters that have one database and user, one after another. */
export class Gate implements LeaseHolder {
  readonly database: string;
  readonly user: string;
  readonly refusal = undefined;
  /** Whether claims wait here: from PAUSE or KILL to RESUME. */
  closed: boolean;
  readonly #gates: Gates;
  readonly #held = new Map<Lease, Gated>();

  constructor(database: string, user: string, gates: Gates) {
    this.database = database;
    this.user = user;
    this.closed = gates.closes(database);
    this.#gates = gates;
  }

  /** Whether new clients are refused: from DISABLE to ENABLE. */
  get disabled(): boolean {
    return this.#gates.disabled.has(this.database);
  }

  /** Keeps a claim until the gate opens; it waits without a limit of the pool's. */
  hold(lease: Lease, cluster: Gated): void {
    lease.pool = this;
    this.#held.set(lease, cluster);
  }

  /** Forgets a claim. */
  withdraw(lease: Lease): void {
    lease.pool = undefined;
    this.#held.delete(lease);
  }

  /** Lets everybody go on, first come first served. */
  open(): void {
    this.closed = false;
    for (const [lease, cluster] of [...this.#held]) {
      // Those before it may have ended it.
      if (!this.#held.has(lease)) continue;
      this.withdraw(lease);
      if (cluster.retired && lease.owner.outlived !== undefined) lease.owner.outlived();
      else cluster.admit(lease);
    }
  }
}

/** Every gate of a process. */
export class Gates {
  /** Databases that take no new clients. */
  readonly disabled = new Set<string>();
  readonly #gates = new Map<string, Gate>();
  /** What was last said of all databases, and since then of single ones: it holds for clusters to come. */
  #all = false;
  readonly #databases = new Map<string, boolean>();

  /** The gate of this database and user. */
  of(database: string, user: string): Gate {
    const name = key(database, user);
    const gate = this.#gates.get(name) ?? new Gate(database, user, this);
    this.#gates.set(name, gate);
    return gate;
  }

  /** Whether a new user of a database finds it closed. */
  closes(database: string): boolean {
    return this.#databases.get(database) ?? this.#all;
  }

  /** Whether all gates of a scope are closed; where there is none yet, whether one would be. */
  isClosed(scope: Scope): boolean {
    const gates = this.#within(scope);
    if (gates.length > 0) return gates.every(({ closed }) => closed);
    return scope.database === undefined ? this.#all : this.closes(scope.database);
  }

  /** Closes the gates of a scope; claims that come wait there. */
  close(scope: Scope): void {
    this.#remember(scope, true);
    for (const gate of this.#within(scope)) gate.closed = true;
  }

  /** Opens the gates of a scope. */
  open(scope: Scope): void {
    this.#remember(scope, false);
    for (const gate of this.#within(scope)) gate.open();
  }

  /** Forgets gates that belong to no cluster any more; who waits there is told so. */
  prune(isKnown: (database: string, user: string) => boolean): void {
    for (const [name, gate] of [...this.#gates]) {
      if (isKnown(gate.database, gate.user)) continue;
      this.#gates.delete(name);
      gate.open();
    }
  }

  #remember({ database, user }: Scope, closed: boolean): void {
    if (database === undefined) {
      this.#databases.clear();
      this.#all = closed;
    } else if (user === undefined) this.#databases.set(database, closed);
  }

  #within(scope: Scope): Gate[] {
    return [...this.#gates.values()].filter(gate => isWithin(gate.database, gate.user, scope));
  }
}

/** Whether a database and user belong to a scope. */
export function isWithin(database: string, user: string, scope: Scope): boolean {
  return (scope.database ?? database) === database && (scope.user ?? user) === user;
}

function key(database: string, user: string): string {
  return JSON.stringify([database, user]);
}
