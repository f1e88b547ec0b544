/** Processor time that a process and its descendants have used, from Linux's /proc. */
import { readFileSync } from 'node:fs';

/** Linux counts in hundredths of a second towards programs, whatever the kernel's own clock. */
const TICK_US = 10_000;

/**
 * User and system time of all threads of `pid`, of its living descendants and of its ended children, in microseconds;
 * undefined where there is no /proc.
 */
export function cpuTime(pid: number): number | undefined {
  try {
    const own = processTime(pid);
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    return children.reduce((sum, child) => sum + (cpuTime(Number(child)) ?? 0), own);
  } catch {
    return undefined;
  }
}

function processTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is the program's name in parentheses, which may hold spaces; proc(5) counts fields from 1.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number);
  return ((utime ?? 0) + (stime ?? 0) + (cutime ?? 0) + (cstime ?? 0)) * TICK_US;
}
