/** All metrics, and one scrape of them; docs/METRICS.md is made of the table. */
import { setImmediate as turn } from 'node:timers/promises';
import type { ControlPlane } from '../admin/control.ts';
import { type MetricKind, Samples } from './exposition.ts';
import type { Metric } from './metric.ts';
import { PGCAT_METRICS } from './pgcat.ts';
import { PGLYNX_METRICS } from './pglynx.ts';
import { PROCESS_METRICS, type ProcessFigures } from './process.ts';
import { takeSnapshot } from './snapshot.ts';

/** Metrics of pglynx as a whole. */
const WHOLE_METRICS: readonly Metric<ControlPlane>[] = [
  {
    name: 'pglynx_build_info',
    type: 'gauge',
    help: 'Always 1: the labels tell the version of pglynx and of Node.',
    labels: ['node', 'version'],
    sample: ({ version }, samples) => samples.add({ version, node: process.versions.node }, 1),
  },
  {
    name: 'pglynx_draining',
    type: 'gauge',
    help: '1 while pglynx takes no new clients since it is about to end.',
    labels: [],
    sample: ({ draining }, samples) => samples.add({}, Number(draining)),
  },
  {
    name: 'pglynx_login_failures_total',
    type: 'counter',
    help: 'Logins of clients that failed, by SQLSTATE.',
    labels: ['sqlstate'],
    sample: ({ ledger }, samples) => {
      for (const [sqlstate, count] of ledger.login_failures) samples.add({ sqlstate }, count);
    },
  },
];

/** What is told of every metric, in the order of a scrape. */
export const METRICS: readonly (MetricKind & { readonly labels: readonly string[] })[] = [
  ...PGCAT_METRICS,
  ...PGLYNX_METRICS,
  ...WHOLE_METRICS,
  ...PROCESS_METRICS,
];

/** Milliseconds after which a scrape lets others have their turn. */
const TURN_MS = 5;

/** The text of one scrape. */
export async function scrape(control: ControlPlane, figures: ProcessFigures): Promise<string> {
  const snapshot = takeSnapshot(control);
  const texts = [
    ...textsOf(PGCAT_METRICS, snapshot),
    ...textsOf(PGLYNX_METRICS, snapshot),
    ...textsOf(WHOLE_METRICS, control),
    ...textsOf(PROCESS_METRICS, figures),
  ];
  let text = '';
  let began_at = performance.now();
  for (const textOf of texts) {
    text += textOf();
    if (performance.now() - began_at < TURN_MS) continue;
    await turn();
    began_at = performance.now();
  }
  return text;
}

function textsOf<Source>(metrics: readonly Metric<Source>[], source: Source): (() => string)[] {
  return metrics.map(metric => () => {
    const samples = new Samples(metric);
    metric.sample(source, samples);
    return samples.toString();
  });
}
