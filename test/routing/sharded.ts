/** Statements for pools of three shards: on which their rows are, or why they are refused. */
import type { RouteReason, ShardReason } from '../../src/routing/route.ts';
import type { ReasonCode } from '../../src/sql/statement.ts';
import { judged, type REFUSALS, type RouteCase } from './corpus.ts';

/** A pool of three shards with this key, and the statements it is asked about. */
export interface ShardedPool {
  readonly key: string;
  readonly cases: readonly RouteCase[];
}

/** The tables of the sharded pools, in each shard. */
export const SHARDED_SCHEMA: readonly string[] = [
  'CREATE TABLE data (id bigint, x int, name text)',
  'CREATE TABLE orders (id int, data_id bigint, x int)',
  'CREATE TABLE notes (id int, x int, note text)',
  'CREATE TABLE plain (x int, y int)',
  'CREATE TABLE warehouse (w_id int PRIMARY KEY, w_name text, w_tax numeric, w_ytd numeric)',
  'CREATE TABLE district (w_id int, d_id int, d_tax numeric, d_ytd numeric, d_next_o_id int)',
  'CREATE TABLE customer (w_id int, d_id int, c_id int, c_last text, c_credit text, c_balance numeric, c_data text)',
  'CREATE TABLE new_order (w_id int, d_id int, o_id int)',
  'CREATE TABLE orderr (w_id int, d_id int, o_id int, c_id int, o_entry_d timestamptz, o_carrier_id int)',
  'CREATE TABLE order_line (w_id int, d_id int, o_id int, i_id int, ol_amount numeric, ol_delivery_d timestamptz)',
  'CREATE TABLE stock (w_id int, i_id int, s_quantity int, s_ytd numeric)',
  'CREATE TABLE item (i_id int PRIMARY KEY, i_name text, i_price numeric)',
  'GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC',
];

/** Reads, or with a reason of its own something else, whose rows are all on one shard. */
function on(shard: number, rule: ShardReason, reason: ReasonCode, ...texts: string[]): RouteCase[] {
  return texts.map(sql => {
    const { class: kind } = judged(sql, reason);
    const role =
      kind === 'read' ? ({ role: 'replica', why: 'read' } as const) : ({ role: 'primary', why: 'write' } as const);
    return { sql, class: kind, reason, outcome: { ...role, shard, rule } };
  });
}

const refused = (refusal: keyof typeof REFUSALS, reason: ReasonCode, ...texts: string[]): RouteCase[] =>
  texts.map(sql => ({ ...judged(sql, reason), outcome: { refusal } }));

const BY_DATA_ID: readonly RouteCase[] = [
  // What PgCat's own tests expect of it.
  ...on(2, 'key', 'select', 'SELECT * FROM data WHERE id = 5', 'SELECT * FROM data WHERE data.id = 5'),
  ...on(0, 'key', 'select', 'SELECT * FROM public.data WHERE id = 6', 'SELECT * FROM "public"."data" WHERE "id" = 6'),
  ...on(
    2,
    'key',
    'select',
    'SELECT * FROM data INNER JOIN orders ON data.id = 5 AND data.x = orders.x',
    'SELECT * FROM orders JOIN data ON data.id = 5',
    'SELECT * FROM "data" WHERE "data"."id" = 5',
  ),
  // PostgreSQL refuses an ambiguous name wherever it is.
  ...on(2, 'key', 'select', 'SELECT * FROM data JOIN orders ON data.x = orders.x WHERE id = 5'),
  // What it does not see.
  ...on(
    2,
    'key',
    'select',
    'SELECT * FROM data WHERE 5 = id',
    "SELECT * FROM data WHERE id = '5'",
    'SELECT * FROM data WHERE id = -1',
    'SELECT * FROM data WHERE id = 5::bigint',
    'SELECT * FROM data WHERE id IN (5, 1)',
    'SELECT * FROM data WHERE id = ANY (ARRAY[0, 1, 5, 9])',
    "SELECT * FROM data WHERE id = ANY ('{5,1}')",
    'SELECT * FROM data WHERE id BETWEEN 5 AND 5',
    'SELECT * FROM data WHERE id BETWEEN 0 AND 1',
    'SELECT * FROM data WHERE (((id = (5))))',
    'SELECT * FROM data d WHERE d.id = 5',
    'SELECT * FROM public.data WHERE public.data.id = 5',
    'SELECT * FROM data WHERE id = 4294967296',
    'SELECT * FROM data LEFT JOIN plain USING (x) WHERE id = 5',
    'SELECT * FROM plain RIGHT JOIN data ON plain.x = data.x WHERE data.id = 5',
    'SELECT * FROM data a JOIN data b USING (id) WHERE id = 5',
    'WITH d AS (SELECT * FROM data) SELECT * FROM d WHERE id = 5',
    'SELECT * FROM (SELECT * FROM data) d WHERE d.id = 5',
    'SELECT * FROM plain WHERE x IN (SELECT x FROM data WHERE id = 5)',
    'SELECT id FROM data WHERE id = 5 UNION SELECT id FROM data WHERE id = 1',
    'SELECT id, count(*) FROM data WHERE id = 5 GROUP BY id HAVING count(*) > 0',
    'SELECT * FROM data WHERE id = 5 AND (name = $$a$$ OR name = $$b$$)',
    'SELECT * FROM data WHERE id = 5 OR id = 1',
    'SELECT * FROM data WHERE id = 5; SELECT * FROM data WHERE id = 1',
  ),
  ...on(0, 'key', 'select', 'SELECT * FROM data WHERE id = 9223372036854775807', 'SELECT * FROM data WHERE id = 1234'),
  ...on(1, 'key', 'select', 'SELECT * FROM data WHERE id = -9223372036854775808', 'SELECT * FROM data WHERE id = -5'),
  ...on(
    1,
    'key',
    'explain',
    'EXPLAIN SELECT * FROM data WHERE id = 7',
    'EXPLAIN ANALYZE SELECT 1 FROM data WHERE id = 3',
  ),
  ...on(1, 'key', 'copy_to', 'COPY (SELECT * FROM data WHERE id = 7) TO STDOUT'),
  ...on(1, 'key', 'row_lock', 'SELECT * FROM data WHERE id = 7 FOR UPDATE'),
  ...on(1, 'key', 'modifying_cte', 'WITH w AS (DELETE FROM data WHERE id = 7 RETURNING *) SELECT * FROM w'),
  ...on(1, 'key', 'transaction', 'BEGIN; SELECT * FROM data WHERE id = 7; COMMIT'),
  ...on(1, 'key', 'begin_read_only', 'BEGIN READ ONLY; SELECT * FROM data WHERE id = 7; COMMIT'),
  ...on(
    2,
    'key',
    'writes',
    'INSERT INTO data (id, name) VALUES (5, $$a$$)',
    'INSERT INTO data (name, id) VALUES ($$a$$, 5), ($$b$$, 1)',
    'INSERT INTO data VALUES (5, 1, $$c$$)',
    'INSERT INTO data (id, x) SELECT id, x FROM data WHERE id = 5',
    'UPDATE data SET name = $$a$$ WHERE id = 5',
    'UPDATE data SET name = $$a$$ FROM plain WHERE plain.x = data.x AND data.id = 5',
    'DELETE FROM data WHERE id = 5',
    'DELETE FROM data USING plain WHERE plain.x = data.x AND id = 5',
    'MERGE INTO data d USING (VALUES (5::bigint)) v (id) ON d.id = v.id WHEN MATCHED THEN DELETE',
    'INSERT INTO data (id) VALUES (5) ON CONFLICT DO NOTHING RETURNING *',
  ),
  // Rows on several shards.
  ...refused(
    'several',
    'select',
    'SELECT * FROM data WHERE id = 5 OR id = 6',
    'SELECT * FROM data WHERE id IN (5, 6, 7)',
    'SELECT * FROM data WHERE id BETWEEN 5 AND 6',
    'SELECT * FROM data WHERE id = 5 UNION ALL SELECT * FROM data WHERE id = 6',
    'SELECT * FROM data a, data b WHERE a.id = 5 AND b.id = 6',
    'SELECT * FROM data WHERE id = 5; SELECT * FROM data WHERE id = 6',
  ),
  ...refused(
    'several',
    'writes',
    'INSERT INTO data (id) VALUES (5), (6)',
    'UPDATE data SET x = 1 WHERE id IN (5, 6)',
    'DELETE FROM data WHERE id = 5 OR id = 6',
  ),
  // Rows that may be on every shard.
  ...refused(
    'every',
    'select',
    'SELECT * FROM data',
    'SELECT * FROM data WHERE id = 5 OR name = $$x$$',
    'SELECT * FROM data WHERE id > 5',
    'SELECT * FROM data WHERE NOT id = 5',
    'SELECT * FROM data WHERE id + 0 = 5',
    'SELECT * FROM data WHERE x = 5',
    'SELECT * FROM data LEFT JOIN plain ON data.id = 5',
    'SELECT * FROM plain p JOIN data ON data.x = p.x',
    'SELECT count(*) FROM data GROUP BY x ORDER BY 1 LIMIT 3',
    'SELECT * FROM data WHERE id = 5 AND x IN (SELECT x FROM data)',
    'WITH d AS (SELECT * FROM data) SELECT * FROM d',
    'SELECT 1; TABLE data',
  ),
  ...refused(
    'every',
    'writes',
    'UPDATE data SET x = 1',
    'DELETE FROM data WHERE id < 5',
    'DELETE FROM data WHERE x = 5',
  ),
  ...refused('every', 'copy_to', 'COPY data TO STDOUT'),
  ...refused('every', 'utility', 'TRUNCATE data', 'LOCK TABLE data'),
  ...refused(
    'updated',
    'writes',
    'UPDATE data SET id = 6 WHERE id = 5',
    'INSERT INTO data (id) VALUES (5) ON CONFLICT (id) DO UPDATE SET id = 6',
  ),
  // Rows whose shard cannot be told.
  ...refused(
    'unknown',
    'writes',
    'INSERT INTO data (name) VALUES ($$a$$)',
    'INSERT INTO data (id) VALUES (DEFAULT)',
    'INSERT INTO data DEFAULT VALUES',
    'INSERT INTO data (id) SELECT x FROM plain',
  ),
  ...refused('unknown', 'copy', 'COPY data FROM STDIN', 'COPY data (id, x) FROM STDIN BINARY'),
  ...refused('unknown', 'utility', 'EXECUTE prepared_before'),
  ...refused('syntax', 'unparsed', 'SELEC 1', 'SELECT * FROM data WHERE id = 5 LIMIT'),
  // No row of a sharded table.
  ...on(0, 'default', 'select', 'SELECT 1', 'SELECT * FROM plain', 'SELECT * FROM orders WHERE id = 5'),
  ...on(
    0,
    'default',
    'select',
    'SELECT * FROM data WHERE id = NULL',
    'SELECT * FROM data WHERE id = 9223372036854775808',
  ),
  ...on(0, 'default', 'writes', 'INSERT INTO plain VALUES (1, 2)', 'UPDATE orders SET x = 1 WHERE id = 5'),
  ...on(0, 'default', 'transaction', 'BEGIN', 'COMMIT', 'ROLLBACK'),
  ...on(0, 'default', 'setting', 'SET work_mem = 1000'),
  ...on(0, 'default', 'utility', 'CREATE TABLE data3 (id int)', 'VACUUM plain'),
  // Comments.
  ...wished(
    'replica',
    'read',
    1,
    'select',
    '/* pglynx: shard=1 */ SELECT * FROM plain',
    'TABLE data -- pglynx: shard=1',
  ),
  ...wished(
    'replica',
    'read',
    0,
    'select',
    'SELECT * FROM data /* pglynx: key=6 */',
    '/* pglynx: shard=0 */ SELECT * FROM data WHERE id = 5',
  ),
  ...wished('primary', 'comment', 2, 'select', '/* pglynx: role=primary shard=2 */ SELECT 1'),
  ...wished('replica', 'comment', 2, 'writes', "/* pglynx: key='5', role=replica */ DELETE FROM data WHERE id = 5"),
  ...wished('primary', 'write', 1, 'copy', 'COPY data FROM STDIN /* pglynx: shard=1 */'),
  ...refused('elsewhere', 'writes', '/* pglynx: shard=1 */ INSERT INTO data (id) VALUES (5)'),
  ...refused('no_such_shard', 'select', '/* pglynx: shard=3 */ SELECT 1'),
  ...refused('wrong_comment', 'select', '/* pglynx: shrad=1 */ SELECT 1', 'SELECT 1 -- pglynx: key=five'),
  ...on(0, 'default', 'select', "SELECT '/* pglynx: shard=1 */'", 'SELECT 1 /* shard=1 */'),
];

function wished(
  role: 'primary' | 'replica',
  why: RouteReason,
  shard: number,
  reason: ReasonCode,
  ...texts: string[]
): RouteCase[] {
  return texts.map(sql => ({ ...judged(sql, reason), outcome: { role, why, shard, rule: 'comment' } }));
}

/** TPC-C with the warehouse's number, 5, in every table but item. */
const BY_WAREHOUSE: readonly RouteCase[] = [
  ...on(
    2,
    'key',
    'select',
    'SELECT w_tax FROM warehouse WHERE w_id = 5',
    'SELECT d_tax, d_next_o_id FROM district WHERE w_id = 5 AND d_id = 3',
    'SELECT c_last, c_credit, w_tax FROM customer JOIN warehouse USING (w_id) WHERE w_id = 5 AND c_id = 7',
    'SELECT c_last, w_tax FROM customer c, warehouse w WHERE c.w_id = w.w_id AND w.w_id = 5 AND c.d_id = 3 AND c.c_id = 7',
    'SELECT o_id FROM new_order WHERE d_id = 3 AND w_id = 5 AND o_id > -1 LIMIT 1',
    'SELECT c_id FROM orderr WHERE o_id = 8 AND d_id = 3 AND w_id = 5',
    'SELECT sum(ol_amount) FROM order_line WHERE o_id = 8 AND d_id = 3 AND w_id = 5',
    "SELECT c_id, c_balance FROM customer WHERE w_id = 5 AND d_id = 3 AND c_last = 'BARBARBAR' ORDER BY c_data",
    'SELECT count(DISTINCT ol.i_id) FROM order_line ol, stock s WHERE ol.w_id = 5 AND s.w_id = 5 AND ol.i_id = s.i_id AND s_quantity < 15',
    'SELECT s_quantity, i_price FROM stock JOIN item USING (i_id) WHERE w_id = 5 AND i_id = 2',
    'SELECT o_id FROM orderr o WHERE w_id = 5 AND o_id = (SELECT max(o_id) FROM new_order n WHERE n.w_id = o.w_id)',
  ),
  ...on(2, 'key', 'row_lock', 'SELECT s_quantity FROM stock WHERE w_id = 5 AND i_id = 2 FOR UPDATE'),
  ...on(
    2,
    'key',
    'writes',
    'UPDATE warehouse SET w_ytd = w_ytd + 12.5 WHERE w_id = 5',
    'UPDATE district SET d_next_o_id = 11 WHERE d_id = 3 AND w_id = 5',
    "UPDATE customer SET c_balance = c_balance - 12.5, c_data = 'x' WHERE w_id = 5 AND d_id = 3 AND c_id = 7",
    'UPDATE order_line SET ol_delivery_d = now() WHERE o_id = 8 AND d_id = 3 AND w_id = 5',
    'UPDATE stock SET s_quantity = 9, s_ytd = 1 WHERE i_id = 2 AND w_id = 5',
    'DELETE FROM new_order WHERE d_id = 3 AND w_id = 5 AND o_id = 8',
    'INSERT INTO new_order (o_id, d_id, w_id) VALUES (8, 3, 5)',
    'INSERT INTO orderr (o_id, d_id, w_id, c_id, o_entry_d) VALUES (8, 3, 5, 7, now())',
    'INSERT INTO order_line (o_id, d_id, w_id, i_id, ol_amount) VALUES (8, 3, 5, 1, 2.5), (8, 3, 5, 2, 3.5)',
    'INSERT INTO warehouse VALUES (5, $$five$$, 0.1, 0)',
  ),
  ...on(0, 'default', 'transaction', 'BEGIN', 'COMMIT', 'ROLLBACK'),
  ...on(0, 'default', 'select', 'SELECT i_name, i_price FROM item WHERE i_id = 2', 'SELECT 1'),
  ...on(0, 'default', 'writes', 'UPDATE item SET i_price = 5 WHERE i_id = 5'),
  ...on(1, 'key', 'select', 'SELECT * FROM warehouse WHERE w_id = 7'),
  ...refused(
    'several',
    'select',
    'SELECT * FROM warehouse w, district d WHERE w.w_id = 5 AND d.w_id = 6',
    'SELECT * FROM stock WHERE w_id IN (5, 6)',
  ),
  ...refused('several', 'writes', 'INSERT INTO stock (w_id, i_id) VALUES (5, 2), (6, 2)'),
  ...refused('every', 'select', 'SELECT * FROM district WHERE d_id = 5', 'SELECT max(w_id) FROM warehouse'),
  ...refused('every', 'writes', 'UPDATE warehouse SET w_tax = 0', 'DELETE FROM new_order'),
  ...refused('updated', 'writes', 'UPDATE warehouse SET w_id = 6 WHERE w_id = 5'),
  ...refused('unknown', 'writes', 'INSERT INTO stock (i_id) VALUES (2)'),
];

export const SHARDED: readonly ShardedPool[] = [
  { key: 'data.id', cases: BY_DATA_ID },
  { key: '*.w_id', cases: BY_WAREHOUSE },
];
