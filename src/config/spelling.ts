/** The known word that a mistyped one was meant to be. */

/** ` (did you mean "x"?)` with the words nearest to `typed`, or nothing if none is near. */
export function didYouMean(typed: string, known: readonly string[]): string {
  const allowed = Math.max(1, Math.floor(typed.length / 3));
  const distances = known.map(word => [word, editDistance(typed.toLowerCase(), word.toLowerCase())] as const);
  const least = Math.min(allowed, ...distances.map(([, distance]) => distance));
  const nearest = distances.filter(([, distance]) => distance === least).map(([word]) => `"${word}"`);
  return nearest.length === 0 ? '' : ` (did you mean ${nearest.join(' or ')}?)`;
}

/** How many letters must be added, removed, replaced or swapped with their neighbour to make `b` of `a`. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let distance = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) distance = Math.min(distance, at(before, j - 2) + 1);
      row.push(distance);
    }
    before = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY;
}
