/** Puts the servers that may serve a statement in the order in which they are tried. */
import type { Role } from './lease.ts';
import type { Pool } from './pool.ts';

/** load_balancing_mode: PgCat's at random and least outstanding connections first; the better of two at random. */
export type LoadBalancingMode = 'random' | 'loc' | 'p2c';

/** Whether a server of this role may serve a statement routed to `role`. */
export function serves(pool: Pool, role: Role): boolean {
  return role === 'any' || pool.address.role === role;
}

/**
 * The pools of `candidates` in the order of trial. Among equals chance decides (`random` yields [0, 1));
 * a pool with capacity comes before one whose clients wait.
 */
export function inOrder(candidates: readonly Pool[], mode: LoadBalancingMode, random: () => number): readonly Pool[] {
  if (candidates.length < 2) return candidates;
  const order = [...candidates];
  for (let at = order.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  if (mode === 'loc') order.sort((a, b) => a.load - b.load);
  if (!order[0].hasCapacity) order.sort((a, b) => Number(b.hasCapacity) - Number(a.hasCapacity));
  return order;
}
