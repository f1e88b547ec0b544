/** The text format of Prometheus, version 0.0.4: metrics with their help, type and samples. */
import { BOUNDS_US, type Histogram } from '../stats/histogram.ts';

export const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** What is said of a metric beside its samples. */
export interface MetricKind {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary';
  readonly help: string;
}

export type Labels = Readonly<Record<string, string | number>>;

const US_PER_S = 1_000_000;
/** The bounds as labels, in seconds. */
const BOUNDS = Array.from(BOUNDS_US, bound_us => String(bound_us / US_PER_S));

/** The samples of one metric; values of equal labels are added up. */
export class Samples {
  readonly #kind: MetricKind;
  /** By what stands in front of the value. */
  readonly #values = new Map<string, number>();

  constructor(kind: MetricKind) {
    this.#kind = kind;
  }

  add(labels: Labels, value: number): void {
    this.#add('', textOf(labels), value);
  }

  /** All samples of a histogram. */
  addHistogram(labels: Labels, { counts, sum_us }: Histogram): void {
    const text = textOf(labels);
    let below = 0;
    for (const [at, bound] of BOUNDS.entries()) {
      below += counts[at];
      this.#add('_bucket', withLabel(text, `le="${bound}"`), below);
    }
    const count = below + counts[BOUNDS.length];
    this.#add('_bucket', withLabel(text, 'le="+Inf"'), count);
    this.#add('_sum', text, sum_us / US_PER_S);
    this.#add('_count', text, count);
  }

  /** All samples of a summary, with its values by quantile. */
  addSummary(labels: Labels, quantiles: ReadonlyMap<number, number>, sum: number, count: number): void {
    const text = textOf(labels);
    for (const [quantile, value] of quantiles) this.#add('', withLabel(text, `quantile="${quantile}"`), value);
    this.#add('_sum', text, sum);
    this.#add('_count', text, count);
  }

  /** The lines of the metric; none without samples. */
  toString(): string {
    if (this.#values.size === 0) return '';
    const { name, type, help } = this.#kind;
    const lines = [`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${type}`];
    for (const [front, value] of this.#values) lines.push(`${front} ${numberText(value)}`);
    return `${lines.join('\n')}\n`;
  }

  #add(suffix: string, labels: string, value: number): void {
    const front = `${this.#kind.name}${suffix}${labels === '' ? '' : `{${labels}}`}`;
    this.#values.set(front, (this.#values.get(front) ?? 0) + value);
  }
}

/** A scrape uses the same labels for many metrics. */
const TEXTS = new WeakMap<Labels, string>();

/** Labels in the order of their names, as PgCat writes them. */
function textOf(labels: Labels): string {
  const known = TEXTS.get(labels);
  if (known !== undefined) return known;
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = pairs.map(([name, value]) => `${name}="${escaped(String(value)).replaceAll('"', '\\"')}"`).join(',');
  TEXTS.set(labels, text);
  return text;
}

function withLabel(labels: string, label: string): string {
  return labels === '' ? label : `${labels},${label}`;
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value);
}
