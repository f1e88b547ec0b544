/** The text format of Prometheus, version 0.0.4: metrics with their help, type and samples. */
import { BOUNDS_US, Histogram } from '../stats/histogram.ts';

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

/** The samples of one metric; what is told twice of the same labels is added up. */
export class Samples {
  readonly #kind: MetricKind;
  /** By suffix and labels. */
  readonly #values = new Map<string, Map<string, number>>();
  readonly #histograms = new Map<string, Histogram>();

  constructor(kind: MetricKind) {
    this.#kind = kind;
  }

  add(labels: Labels, value: number): void {
    this.#add('', textOf(labels), value);
  }

  addHistogram(labels: Labels, histogram: Histogram): void {
    const text = textOf(labels);
    const known = this.#histograms.get(text);
    if (known === undefined) {
      this.#histograms.set(text, histogram);
      return;
    }
    const sum = new Histogram();
    sum.add(known);
    sum.add(histogram);
    this.#histograms.set(text, sum);
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
    if (this.#values.size === 0 && this.#histograms.size === 0) return '';
    const { name, type, help } = this.#kind;
    const lines = [`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${type}`];
    for (const [suffix, values] of this.#values) {
      for (const [text, value] of values) lines.push(`${name}${suffix}${inBraces(text)} ${numberText(value)}`);
    }
    for (const [text, histogram] of this.#histograms) lines.push(histogramText(name, text, histogram));
    return `${lines.join('\n')}\n`;
  }

  #add(suffix: string, text: string, value: number): void {
    let values = this.#values.get(suffix);
    if (values === undefined) {
      values = new Map();
      this.#values.set(suffix, values);
    }
    values.set(text, (values.get(text) ?? 0) + value);
  }
}

/** All lines of a histogram. */
function histogramText(name: string, text: string, { counts, sum_us }: Histogram): string {
  const front = `${name}_bucket{${text === '' ? '' : `${text},`}le="`;
  let lines = '';
  let below = 0;
  for (let at = 0; at < BOUNDS.length; at++) {
    below += counts[at];
    lines += `${front}${BOUNDS[at]}"} ${below}\n`;
  }
  const count = below + counts[BOUNDS.length];
  const labels = inBraces(text);
  return `${lines}${front}+Inf"} ${count}\n${name}_sum${labels} ${sum_us / US_PER_S}\n${name}_count${labels} ${count}`;
}

function inBraces(text: string): string {
  return text === '' ? '' : `{${text}}`;
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
