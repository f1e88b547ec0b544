/** What the benchmark makes of its runs: medians, ratios and verdicts. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { CASES } from '../../bench/dispatch/cases.ts';
import { figuresOf } from '../../bench/dispatch/duel.ts';
import { figureLines, judge } from '../../bench/dispatch/figure.ts';
import { parseDispatchOptions } from '../../bench/dispatch/options.ts';
import { ProgramError } from '../../bench/program.ts';
import { mediansOf, type Result, type Run, resultTable } from '../../bench/report.ts';
import { median, percentile } from '../../bench/statistics.ts';

function result(contender: string, runs: readonly Partial<Run>[]): Result {
  const rest = { transactions: 1, tps: 1, p50_ms: 1, p99_ms: 1, cpu_us: undefined };
  return { mode: 'simple', contender, ran: 'simple', runs: runs.map(run => ({ ...rest, ...run })) };
}

suite('figures', () => {
  const least = { what: 'tps', bound: 'at least', limit: 1.6, aim: 2 } as const;
  const most = { what: 'CPU', bound: 'at most', limit: 0.8 } as const;

  test('are held against target and aim', () => {
    const verdicts = [1.2, 1.6, 1.99, 2].map(value => judge(least, value).verdict);
    assert.deepEqual(verdicts, ['MISSED by 25 %', 'met', 'met', 'met, and the aim']);
    assert.deepEqual(
      [0.8, 0.84, 1.6].map(value => judge(most, value).verdict),
      ['met', 'MISSED by 5.0 %', 'MISSED by 100 %'],
    );
  });

  test('that are missing are no success', () => {
    for (const value of [undefined, Number.NaN]) assert.equal(judge(least, value).verdict, 'not measured');
    assert.match(figureLines([judge(least, undefined)]).join('\n'), /tps +- +at least 1.6, aim 2 +not measured/);
  });

  test('come from the ratios of each round', () => {
    const results = [
      result('PgBouncer', [{ tps: 100 }, { tps: 10 }, { tps: 50 }]),
      result('pglynx', [{ tps: 100 }, { tps: 40 }, { tps: 100 }]),
    ];
    const [figure] = figuresOf({ tps_ratio: { bound: 'at least', limit: 2 } }, results, 'PgBouncer');
    assert.equal(figure?.value, 2);
    assert.equal(figure.verdict, 'met');
    const [alone] = figuresOf({ tps_ratio: { bound: 'at least', limit: 2 } }, results.slice(1), 'PgBouncer');
    assert.equal(alone?.verdict, 'not measured');
  });
});

suite('results', () => {
  test('have ratios to the yardstick that is asked for', () => {
    const off = result('pglynx off', [{ p99_ms: 4, cpu_us: 10 }]);
    const own = result('pglynx', [{ p99_ms: 2, cpu_us: 5 }]);
    const { p99_ratio, cpu_ratio } = mediansOf(own, [off, own], 'pglynx off');
    assert.deepEqual([p99_ratio, cpu_ratio], [0.5, 0.5]);
    assert.equal(mediansOf(own, [off, own]).p99_ratio, undefined);
  });

  test('have a column for what was measured beside', () => {
    const [head, , second] = resultTable('mixed', [
      result('pglynx off', [{}]),
      result(
        'pglynx',
        [1, 2, 30].map(value => ({ beside: { 'sleeps/s': value } })),
      ),
    ]).split('\n');
    assert.match(head ?? '', /sleeps\/s$/);
    assert.match(second ?? '', / 2\.0$/);
  });
});

test('order statistics', () => {
  assert.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3])], [2, 2.5]);
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assert.deepEqual([percentile(hundred, 0.5), percentile(hundred, 0.99), percentile([7], 0.99)], [50, 99, 7]);
});

suite('the command line', () => {
  test('runs every case, or those that are named', () => {
    assert.deepEqual(parseDispatchOptions([]).cases, CASES);
    const { cases, rounds, seconds } = parseDispatchOptions(['idle', 'simple', '--seconds', '1']);
    assert.deepEqual([cases.map(({ name }) => name), rounds, seconds], [['idle', 'simple'], 5, 1]);
  });

  test('refuses what it does not know', () => {
    for (const args of [['nothing'], ['--rounds', '0'], ['--round', '1']])
      assert.throws(() => parseDispatchOptions(args), ProgramError);
  });
});
