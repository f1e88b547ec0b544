/** Chooses among the servers that may serve a statement: by weight and chance, or by what they have to do. */
import type { Role } from './lease.ts';
import type { Pool } from './pool.ts';

/**
 * load_balancing_mode: PgCat's at random and least outstanding connections; of two at random the one with the least
 * expected wait.
 */
export type LoadBalancingMode = 'random' | 'loc' | 'p2c';

/** What the choice depends on. */
export interface Candidate {
  /** Its share of what several could serve; 0 is only when no other can. */
  readonly weight: number;
  /** Clients that are served or wait. */
  readonly load: number;
  /** Whether one more client could be served without waiting for another. */
  readonly hasCapacity: boolean;
  /** Milliseconds that one more client would wait for another, as far as can be told at `now`. */
  expected_wait_ms(now: number): number;
}

/** Whether a server of this role may serve a statement routed to `role`. */
export function serves(pool: Pool, role: Role): boolean {
  return role === 'any' || pool.address.role === role;
}

/**
 * The best of `candidates`, at least one. Weight 0 comes after any other, then one whose clients wait after one with
 * capacity; `mode` decides among the rest, and chance, by weight, among equals (`random` yields [0, 1)).
 */
export function choose<Server extends Candidate>(
  candidates: readonly Server[],
  mode: LoadBalancingMode,
  now: number,
  random: () => number,
): Server {
  if (candidates.length === 1) return candidates[0];
  const rank = candidates.reduce((best, candidate) => Math.min(best, rankOf(candidate)), WORST);
  if (mode === 'loc') return draw(candidates, rank, random, loadByWeight);
  const first = draw(candidates, rank, random, equally);
  if (mode === 'random') return first;
  const second = draw(candidates, rank, random, candidate => (candidate === first ? LAST : 0));
  const wait_ms = second.expected_wait_ms(now) - first.expected_wait_ms(now);
  return wait_ms < 0 || (wait_ms === 0 && loadByWeight(second) < loadByWeight(first)) ? second : first;
}

const WORST = 3;
const LAST = 1;

/** From 0, the best, to {@link WORST}. */
function rankOf({ weight, hasCapacity }: Candidate): number {
  return (weight > 0 ? 0 : 2) + (hasCapacity ? 0 : 1);
}

/** Those of weight 0 are equals among themselves. */
function weightOf({ weight }: Candidate): number {
  return weight || 1;
}

function equally(): number {
  return 0;
}

function loadByWeight(candidate: Candidate): number {
  return candidate.load / weightOf(candidate);
}

/** The candidate of this rank with the least score; several take the place by chance, in proportion to their weights. */
function draw<Server extends Candidate>(
  candidates: readonly Server[],
  rank: number,
  random: () => number,
  scoreOf: (candidate: Server) => number,
): Server {
  let drawn = candidates[0];
  let least = Number.POSITIVE_INFINITY;
  let weights = 0;
  for (const candidate of candidates) {
    if (rankOf(candidate) !== rank) continue;
    const score = scoreOf(candidate);
    if (score > least) continue;
    if (score < least) weights = 0;
    least = score;
    weights += weightOf(candidate);
    if (random() * weights < weightOf(candidate)) drawn = candidate;
  }
  return drawn;
}
