/** A number that came out of a case, beside what it should be. */
import { alignedLines, fixed } from '../table.ts';

/** What a number should be. */
export interface Target {
  readonly what: string;
  readonly bound: 'at least' | 'at most';
  readonly limit: number;
  /** What would be better still. */
  readonly aim?: number;
}

export interface Figure extends Target {
  /** Undefined when it could not be measured. */
  readonly value: number | undefined;
  readonly verdict: string;
}

export function judge(target: Target, value: number | undefined): Figure {
  return { ...target, value, verdict: verdict(target, value) };
}

/** A line for each. */
export function figureLines(figures: readonly Figure[]): string[] {
  const rows = figures.map(({ what, bound, limit, aim, value, verdict }) => {
    const wanted = aim === undefined ? '' : `, aim ${aim}`;
    return [what, fixed(value, 2), `${bound} ${limit}${wanted}`, verdict];
  });
  return alignedLines([['figure', 'measured', 'target', ''], ...rows]);
}

function verdict({ bound, limit, aim }: Target, value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return 'not measured';
  const meets = (bar: number) => (bound === 'at least' ? value >= bar : value <= bar);
  if (aim !== undefined && meets(aim)) return 'met, and the aim';
  if (meets(limit)) return 'met';
  const missing = bound === 'at least' ? 1 - value / limit : value / limit - 1;
  return `MISSED by ${(100 * missing).toFixed(missing < 0.1 ? 1 : 0)} %`;
}
