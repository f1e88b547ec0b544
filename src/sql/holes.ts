/** Holes of a template: where literals were in the text, and where those that stand for them are. */

/** Grows as needed and is used again for every text. */
export class Holes {
  count = 0;
  #starts = new Int32Array(64);
  #ends = new Int32Array(64);
  #offsets = new Int32Array(64);
  #spellings = new Uint8Array(64);

  /** Adds a literal of this spelling, `[start, end)` in the text, whose stand-in begins at `offset`, after all others. */
  add(spelling: number, start: number, end: number, offset: number): void {
    const hole = this.count++;
    if (hole === this.#starts.length) this.#grow();
    this.#starts[hole] = start;
    this.#ends[hole] = end;
    this.#offsets[hole] = offset;
    this.#spellings[hole] = spelling;
  }

  startOf(hole: number): number {
    return this.#starts[hole];
  }

  endOf(hole: number): number {
    return this.#ends[hole];
  }

  spellingOf(hole: number): number {
    return this.#spellings[hole];
  }

  /** The hole whose stand-in begins at `offset`. */
  at(offset: number): number | undefined {
    let low = 0;
    let high = this.count - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = this.#offsets[middle];
      if (found === offset) return middle;
      if (found < offset) low = middle + 1;
      else high = middle - 1;
    }
    return undefined;
  }

  #grow(): void {
    const grown = (values: Int32Array) => {
      const result = new Int32Array(2 * values.length);
      result.set(values);
      return result;
    };
    this.#starts = grown(this.#starts);
    this.#ends = grown(this.#ends);
    this.#offsets = grown(this.#offsets);
    const spellings = new Uint8Array(this.#starts.length);
    spellings.set(this.#spellings);
    this.#spellings = spellings;
  }
}
