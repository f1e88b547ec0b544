/** Activity routing: after what, for how long and for which tables reads go to the primary. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { Activity } from '../../src/pool/activity.ts';

const SETTINGS = { enabled: true, init_delay: 100, ttl: 900, mutation_ttl: 50 };

/** An activity that is not initializing any more at 1000, and stays active for a long while. */
function active(settings: Partial<typeof SETTINGS> = {}): Activity {
  const activity = new Activity({ ...SETTINGS, ...settings });
  activity.read([], 0);
  assert.equal(activity.read([], 1000), undefined);
  return activity;
}

suite('a database without activity', () => {
  test('has all reads on the primary for db_activity_init_delay from its first statement on', () => {
    const activity = new Activity(SETTINGS);
    for (const now of [5000, 5001, 5099]) assert.equal(activity.read(['t'], now), 'initializing');
    assert.equal(activity.readAnything(5099), 'initializing');
    for (const now of [5100, 6000]) assert.equal(activity.read(['t'], now), undefined);
  });

  test('is one that db_activity_ttl has passed over since its last statement, of any kind', () => {
    const kinds: readonly ((activity: Activity, now: number) => void)[] = [
      (activity, now) => activity.read(['t'], now),
      (activity, now) => activity.readAnything(now),
      (activity, now) => activity.wrote(['other'], now),
      (activity, now) => activity.wrote([], now),
      (activity, now) => activity.wroteAnything(now),
    ];
    for (const statement of kinds) {
      const activity = active();
      statement(activity, 800_000);
      assert.equal(activity.read(['t'], 1_699_999), undefined);
      assert.equal(activity.read(['t'], 2_599_999), 'initializing');
      assert.equal(activity.read(['t'], 2_600_099), undefined);
      statement(activity, 4_000_000);
      assert.equal(activity.read(['t'], 4_000_099), 'initializing');
    }
  });
});

suite('a table', () => {
  test('counts as written for table_mutation_cache_ms_ttl after each write', () => {
    const activity = active();
    assert.equal(activity.read(['t'], 1999), undefined);
    activity.wrote(['t'], 2000);
    assert.equal(activity.read(['t'], 2000), 'recently_written');
    assert.equal(activity.read(['t'], 2049), 'recently_written');
    activity.wrote(['t'], 2040);
    assert.equal(activity.read(['t'], 2089), 'recently_written');
    assert.equal(activity.read(['t'], 2090), undefined);
  });

  test('is no other table, and one among several is enough', () => {
    const activity = active();
    activity.wrote(['a', 'b'], 2000);
    assert.equal(activity.read(['c', 'd'], 2001), undefined);
    assert.equal(activity.read([], 2001), undefined);
    assert.equal(activity.read(['c', 'b'], 2001), 'recently_written');
    assert.equal(activity.readAnything(2001), 'recently_written');
    assert.equal(activity.readAnything(2050), undefined);
  });

  /** [written, read, whether that is the same table]. */
  const NAMES: readonly (readonly [string, string, boolean])[] = [
    ['t', 't', true],
    ['s.t', 's.t', true],
    ['s.t', 't', true],
    ['t', 's.t', true],
    ['s.t', 'r.t', false],
    ['s.t', 's', false],
    ['s.t', 's.u', false],
    ['s.t', 's.s', false],
    ['t', 't.u', false],
    ['t', 'T', false],
    ['constructor', 'toString', false],
    // Dots within quotes: too many matches are safe, too few are not.
    ['x.y', 's.x.y', true],
    ['s.x.y', 'x.y', true],
    ['s.x.y', 's.x.y', true],
    ['s.x.y', 'r.t', false],
  ];
  for (const [written, read, same] of NAMES) {
    test(`${read} is ${same ? '' : 'not '}read on the primary after a write to ${written}`, () => {
      const activity = active();
      activity.wrote([written], 2000);
      assert.equal(activity.read([read], 2001), same ? 'recently_written' : undefined);
      assert.equal(activity.read([read], 2050), undefined);
    });
  }

  test('is one of all after a write whose tables nobody knows', () => {
    const activity = active();
    activity.wroteAnything(2000);
    for (const tables of [['t'], ['s.t'], []]) assert.equal(activity.read(tables, 2049), 'recently_written');
    activity.wrote(['t'], 2030);
    assert.equal(activity.read(['u'], 2049), 'recently_written');
    assert.equal(activity.read(['u'], 2050), undefined);
    assert.equal(activity.read(['t'], 2079), 'recently_written');
  });

  test('is not forgotten for others: after too many, all count as written', () => {
    const activity = active({ mutation_ttl: 1000 });
    for (let number = 0; number < 100_000; number++) activity.wrote([`s.t${number}`], 2000 + number / 1000);
    for (const number of [0, 1, 5000, 50_000, 99_999]) {
      assert.equal(activity.read([`s.t${number}`], 2999), 'recently_written');
    }
    assert.equal(activity.read(['s.t0'], 3100), undefined);
  });
});

test('tables are forgotten when their time is over, so that even 100,000 are never too many', () => {
  const activity = active();
  for (let number = 0; number < 100_000; number++) {
    const now = 2000 + number;
    activity.wrote([`t${number}`], now);
    assert.equal(activity.read([`t${number - 49}`, 'u'], now), number < 49 ? undefined : 'recently_written');
    assert.equal(activity.read([`t${number - 50}`, 'u'], now), undefined);
  }
});

test('without db_activity_based_routing no read is kept from a replica', () => {
  const activity = new Activity({ ...SETTINGS, enabled: false });
  activity.wrote(['t'], 0);
  activity.wroteAnything(0);
  assert.equal(activity.read(['t'], 0), undefined);
  assert.equal(activity.readAnything(0), undefined);
});

test('says the same as a list of all writes', () => {
  const table = fc.constantFrom('t', 'u', 's.t', 's.u', 'r.t');
  const step = fc.record({
    wait_ms: fc.nat(60),
    kind: fc.constantFrom('read', 'read', 'wrote', 'wroteAnything'),
    tables: fc.array(table, { maxLength: 3 }),
  });
  const same = (a: string, b: string) => a === b || a.endsWith(`.${b}`) || b.endsWith(`.${a}`);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 50 }), steps => {
      const activity = active();
      const writes: { readonly at: number; readonly table: string | undefined }[] = [];
      let now = 1000;
      for (const { wait_ms, kind, tables } of steps) {
        now += wait_ms;
        if (kind === 'wrote') {
          activity.wrote(tables, now);
          writes.push(...tables.map(table => ({ at: now, table })));
        } else if (kind === 'wroteAnything') {
          activity.wroteAnything(now);
          writes.push({ at: now, table: undefined });
        } else {
          const fresh = writes.filter(({ at }) => now - at < SETTINGS.mutation_ttl);
          const hit = fresh.some(({ table }) => table === undefined || tables.some(read => same(read, table)));
          assert.equal(activity.read(tables, now), hit ? 'recently_written' : undefined);
        }
      }
    }),
  );
});
