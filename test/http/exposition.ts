/** A strict reader of Prometheus's text format: what it does not know, or knows to be wrong, it refuses. */
import assert from 'node:assert/strict';

export interface Sample {
  /** With the suffix of histograms and summaries. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: Sample[];
}

/** The metrics of a scrape, by name. */
export class Scrape {
  readonly families: ReadonlyMap<string, Family>;

  constructor(text: string) {
    this.families = read(text);
    for (const family of this.families.values()) check(family);
  }

  /** The one sample of this name with these labels, whatever others it has. */
  value(name: string, labels: Readonly<Record<string, string>> = {}): number {
    const found = this.samples(name, labels);
    assert.equal(found.length, 1, `${name} ${JSON.stringify(labels)}: ${JSON.stringify(found)}`);
    return found[0].value;
  }

  /** The sum of all samples of this name with these labels. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.samples(name, labels).reduce((sum, { value }) => sum + value, 0);
  }

  samples(name: string, labels: Readonly<Record<string, string>> = {}): Sample[] {
    const all = [...this.families.values()].flatMap(({ samples }) => samples);
    const wanted = Object.entries(labels);
    return all.filter(sample => sample.name === name && wanted.every(([key, value]) => sample.labels[key] === value));
  }
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`);
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,(?=.)|$)/;
const NUMBER = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]Inf)$/;
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count'],
  counter: [''],
  gauge: [''],
};

function read(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  assert.ok(text.endsWith('\n'), 'the last line does not end');
  const lines = text.slice(0, -1).split('\n');
  let help: readonly string[] | undefined;
  let family: Family | undefined;
  for (const line of lines) {
    const [, word, name = '', rest = ''] = new RegExp(`^# (HELP|TYPE) (${NAME}) (.+)$`).exec(line) ?? [];
    if (word === 'HELP') {
      assert.equal(help, undefined, line);
      assert.doesNotMatch(rest.replaceAll(/\\[\\n]/g, ''), /\\/, line);
      help = [name, rest];
    } else if (word === 'TYPE') {
      assert.equal(help?.[0], name, line);
      assert.ok(!families.has(name), `twice: ${line}`);
      assert.ok(rest in SUFFIXES, line);
      family = { name, type: rest, help: help?.[1] ?? '', samples: [] };
      families.set(name, family);
      help = undefined;
    } else {
      assert.ok(family !== undefined && help === undefined, `out of place: ${line}`);
      family.samples.push(sampleOf(line, family));
    }
  }
  assert.equal(help, undefined);
  return families;
}

function sampleOf(line: string, { name: family, type }: Family): Sample {
  const [, name = '', text = '', number = ''] = SAMPLE.exec(line) ?? assert.fail(`no sample: ${line}`);
  assert.ok(
    SUFFIXES[type].some(suffix => name === family + suffix),
    `not of ${family}: ${line}`,
  );
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ''; ) {
    const [all, label, value] = LABEL.exec(rest) ?? assert.fail(`no label: ${rest}`);
    assert.ok(!(label in labels), `twice: ${label} in ${line}`);
    labels[label] = value.replaceAll(/\\(.)/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped));
    rest = rest.slice(all.length);
  }
  assert.match(number, NUMBER, line);
  return { name, labels, value: Number(number.replace('Inf', 'Infinity')) };
}

/** What types ask of samples. */
function check({ name, type, samples }: Family): void {
  assert.ok(samples.length > 0, `${name} has no sample`);
  const series = samples.map(sample => JSON.stringify([sample.name, Object.entries(sample.labels).sort()]));
  assert.equal(new Set(series).size, series.length, `${name} has a series twice`);
  if (type === 'counter') for (const { value } of samples) assert.ok(value >= 0, `${name} ${value}`);
  if (type === 'histogram') for (const group of groupsOf(samples)) checkHistogram(name, group);
}

/** Samples by their labels but for `le`. */
function groupsOf(samples: readonly Sample[]): Sample[][] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) {
    const { le: _, ...others } = sample.labels;
    const key = JSON.stringify(Object.entries(others).sort());
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  return [...groups.values()];
}

function checkHistogram(name: string, group: readonly Sample[]): void {
  const buckets = group.filter(sample => sample.name.endsWith('_bucket'));
  const bounds = buckets.map(({ labels }) => Number(labels.le.replace('Inf', 'Infinity')));
  const counts = buckets.map(({ value }) => value);
  assert.equal(bounds.at(-1), Number.POSITIVE_INFINITY, name);
  for (let at = 1; at < bounds.length; at++) {
    assert.ok(bounds[at] > bounds[at - 1] && counts[at] >= counts[at - 1], `${name} ${bounds} ${counts}`);
  }
  const [count, ...more] = group.filter(sample => sample.name === `${name}_count`);
  assert.equal(count?.value, counts.at(-1), name);
  assert.equal(more.length, 0, name);
  assert.equal(group.filter(sample => sample.name === `${name}_sum`).length, 1, name);
}
