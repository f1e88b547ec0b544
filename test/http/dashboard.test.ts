/** deploy/grafana: every metric and label that the dashboard asks for is one of docs/METRICS.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRICS } from '../../src/http/metrics.ts';

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly w: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}

const text = readFileSync(join(import.meta.dirname, '../../deploy/grafana/pglynx.json'), 'utf8');
const dashboard: {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
} = JSON.parse(text);

/** What a query may use beside a metric's own labels: Prometheus adds the first. */
const GIVEN = ['instance', 'le', 'quantile'];

/** The metrics of an expression with the labels that are asked of each. */
function selectors(expr: string): [string, string[]][] {
  const found = expr.matchAll(/\b((?:pglynx|pgcat)_\w+)(?:\{([^}]*)\})?/g);
  return [...found].map(([, name, labels = '']) => [
    name,
    [...labels.matchAll(/(\w+)\s*=~?"/g)].map(([, label]) => label),
  ]);
}

function metricOf(name: string) {
  return METRICS.find(metric => {
    const suffixes = {
      histogram: ['_bucket', '_sum', '_count'],
      summary: ['', '_sum', '_count'],
      counter: [''],
      gauge: [''],
    };
    return suffixes[metric.type].some(suffix => metric.name + suffix === name);
  });
}

const targets = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(target => ({ title, ...target })));

test('every metric of the dashboard exists, with the labels that are asked of it', () => {
  assert.ok(targets.length > 30);
  for (const { title, expr, legendFormat } of targets) {
    const asked = selectors(expr);
    assert.ok(asked.length > 0, `${title}: ${expr}`);
    const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names]) => names.split(', '));
    const shown = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label);
    for (const [name, labels] of asked) {
      const metric = metricOf(name);
      assert.ok(metric !== undefined, `${title}: there is no ${name}`);
      for (const label of [...labels, ...grouped, ...shown]) {
        assert.ok([...metric.labels, ...GIVEN].includes(label), `${title}: ${name} has no ${label}`);
      }
    }
  }
});

test('counters are asked for by their growth, and all else as it is', () => {
  for (const { title, expr } of targets) {
    for (const [name] of selectors(expr)) {
      const metric = metricOf(name);
      const isCounted = metric?.type === 'counter' || metric?.name !== name;
      const grows = new RegExp(`\\b(?:rate|increase)\\(${name}\\b`).test(expr);
      assert.equal(grows, isCounted, `${title}: ${name}`);
    }
  }
});

test('variables are filled from labels that exist, and every one that is used is there', () => {
  for (const { name, definition } of dashboard.templating.list) {
    if (definition === undefined) continue;
    const [, metric = '', label = ''] = /^label_values\((\w+), (\w+)\)$/.exec(definition) ?? [];
    assert.equal(label, name);
    assert.ok([...(metricOf(metric)?.labels ?? []), 'instance'].includes(label), definition);
  }
  const names = dashboard.templating.list.map(({ name }) => name);
  const used = [...text.matchAll(/\$\{?(\w+)/g)].map(([, name]) => name).filter(name => !name.startsWith('__'));
  for (const name of new Set(used)) assert.ok(names.includes(name), name);
  for (const name of names) assert.ok(used.includes(name), name);
});

test('panels have ids and titles of their own, and fit the width', () => {
  const ids = dashboard.panels.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const { title, gridPos } of dashboard.panels) {
    assert.notEqual(title, '');
    assert.ok(gridPos.x + gridPos.w <= 24, title);
  }
});
