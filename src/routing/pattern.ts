/** A regular expression of the configuration that is searched for in the texts of clients: none of them can stall it. */
import type { RE2JS } from 're2js';
import { compileRegex } from '../config/regex.ts';

/** Bytes of a text. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

export class Pattern {
  readonly #regex: RE2JS;

  constructor(source: string) {
    this.#regex = compileRegex(source);
  }

  /** Where the first group of the first match is in these bytes; undefined when there is none. */
  find(bytes: Buffer): Range | undefined {
    const matcher = this.#regex.matcher(bytes);
    if (!matcher.find()) return undefined;
    const from = matcher.start(1);
    return from === -1 ? undefined : { from, to: matcher.end(1) };
  }
}
