/** The quick look at a text misses nothing that the grammar finds, stays calm on ordinary texts, and is never slow. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EFFECT } from '../../src/sql/statement.ts';
import { mayLeaveState } from '../../src/sql/suspicion.ts';
import { CORPUS } from './corpus.ts';

test('whatever leaves state is suspicious', () => {
  const kept = ~(EFFECT.set_local | EFFECT.unknown);
  const leaving = CORPUS.filter(({ effects, sql }) => (effects & kept) !== 0 || /^(do|call|execute)\b/i.test(sql));
  assert.ok(leaving.length > 70);
  for (const { sql } of leaving) assert.ok(mayLeaveState(sql), sql);
  const hidden = [
    'select 1;set work_mem = 1',
    '/**/ SET work_mem = 1',
    '/* /* */ select 1 */ SET work_mem = 1',
    '-- select\nSET work_mem = 1',
    'SELECT $$;$$; RESET ALL',
    "SELECT U&\"set\\005Fconfig\"('a', 'b', false)",
    "SELECT query_to_xml('select set_' || 'config(...)', true, true, '')",
    'explain analyze execute p',
    'SELECT 1 INTO/**/TEMP/**/x',
    'call p()',
  ];
  for (const sql of hidden) assert.ok(mayLeaveState(sql), sql);
});

test('ordinary texts are not', () => {
  const calm = [
    'SELECT abalance FROM pgbench_accounts WHERE aid = 1;',
    'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1;',
    '/* app:shop */ UPDATE t SET a = 1',
    'INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 2',
    'WITH x AS (SELECT 1) UPDATE t SET a = 1',
    'SELECT temperature, template, dataset, offset_at FROM readings OFFSET 10',
    'BEGIN',
    'commit;',
    '',
  ];
  for (const sql of calm) assert.equal(mayLeaveState(sql), false, sql);
});

test('no text takes longer than its length warrants', () => {
  const length = 1_000_000;
  const shapes = [' ', '/*', '/**/', '*', 'u&', ';', 'set', 'se t', 'select ', '\n--', 'ts_', 'pg_'];
  for (const shape of shapes) {
    const started = performance.now();
    for (const text of [shape.repeat(length / shape.length), `${shape.repeat(length / shape.length)}!;x`])
      mayLeaveState(text);
    // A quadratic pattern would take minutes.
    assert.ok(performance.now() - started < 2000, shape);
  }
});
