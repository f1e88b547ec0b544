/** What statements leave on a server connection that the next client must not find. */
import { ALL_DIRTY } from '../pool/cleanup.ts';
import { DIRTY } from '../server/dirty.ts';
import { EFFECT } from '../sql/statement.ts';

const CLEANED: readonly (readonly [number, number])[] = [
  [EFFECT.set, DIRTY.settings],
  [EFFECT.prepare, DIRTY.prepared],
  [EFFECT.listen, DIRTY.listen],
  [EFFECT.temp, DIRTY.temp],
  [EFFECT.hold_cursor, DIRTY.cursors],
  [EFFECT.advisory_lock, DIRTY.locks],
];

/** The {@link DIRTY} bits that statements with these {@link EFFECT} bits make necessary. */
export function leftovers(effects: number): number {
  if (effects === 0) return 0;
  let dirty = 0;
  for (const [effect, bit] of CLEANED) if ((effects & effect) !== 0) dirty |= bit;
  return dirty;
}

/** The same for a whole session: statements whose effects nobody can know may have left anything. */
export function sessionLeftovers(effects: number): number {
  if ((effects & (EFFECT.unknown | EFFECT.load)) !== 0) return ALL_DIRTY;
  return leftovers(effects) | ((effects & EFFECT.sequence) === 0 ? 0 : DIRTY.sequences);
}
