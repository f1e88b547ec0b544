/** One row of the tables of metrics: what it is called, what it means, and its samples. */
import type { Labels, MetricKind, Samples } from './exposition.ts';
import type { Snapshot } from './snapshot.ts';

/** A metric that is sampled from `Source`. */
export interface Metric<Source> extends MetricKind {
  /** The names of its labels. */
  readonly labels: readonly string[];
  sample(source: Source, samples: Samples): void;
}

/** What is told about a metric with one number for each of several sources. */
export type Row<Source> = readonly [
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  value: (source: Source) => number,
];

/** The metrics that these rows stand for, each with a sample for every source. */
export function metricsOf<Source>(
  prefix: string,
  rows: readonly Row<Source>[],
  labels: readonly string[],
  sourcesOf: (snapshot: Snapshot) => readonly Source[],
  labelsOf: (source: Source) => Labels,
): Metric<Snapshot>[] {
  return rows.map(([name, type, help, value]) => ({
    name: `${prefix}_${name}`,
    type,
    help,
    labels,
    sample: (snapshot, samples) => {
      for (const source of sourcesOf(snapshot)) samples.add(labelsOf(source), value(source));
    },
  }));
}
