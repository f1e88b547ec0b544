/** SQL texts with literals wherever PostgreSQL's grammar takes one, and every SQL text that the tests hold. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sourceFiles } from '../source.ts';
import { CORPUS } from './corpus.ts';

/** Every place of a literal in statements that have templates, and tokens that are easily misread. */
const OWN: readonly string[] = [
  ...['SELECT 1', "SELECT 'a'", 'SELECT 1.5, .5, 5., 1e10, 1.5e-3, .5e+3', "SELECT B'101', b'', X'1F', x''"],
  "SELECT E'a\\nb\\'c\\\\', U&'d\\0061t\\+000061', N'n', $$d$$, $tag$ $$ $x$ $tag$, $é$ü$é$",
  "SELECT 'a'\n'b', 'a' \t\n\n  'b'\n'c', E'a'\n'\\n', B'0'\n'1', N'a'\n'b', U&'\\0061'\n'\\0062'",
  "SELECT '', '''', 'it''s', ' -- no comment', '/* nor this */', '\\'",
  'SELECT 0x1F, 0X1f, 0o17, 0b101, 1_000, 0x_1F, 2147483647, 2147483648, 0x7FFFFFFF, 0x80000000, 00012',
  'SELECT -1, - 1, -(-(1)), +1, -1.5, -2147483648, -0x1F, - (3000000000), a - 1, a -1, a-1',
  'SELECT a[1], a[1:2], a[:2], (ARRAY[1, 2])[1], a[-1], b.c[0]',
  'SELECT 1::int, 1::numeric(10, 2), 1::float(24), 1::float(25), CAST(1 AS float ( 53 )), 1::"float", 1::float8',
  "SELECT 'x'::char(10), 'x'::varchar(5)[], 'x'::bit(3), '1'::timestamp(3), '1'::time(0) with time zone, 1::int[3]",
  "SELECT interval '1' day, interval '1' second(3), interval(3) '1', '1'::interval(2), interval '1' hour to second(0)",
  "SELECT date '2020-01-01', int '5', pg_catalog.int4 '7', numeric(4, 2) '1.5', timestamp(3) 'now', char(3) 'abc'",
  "SELECT current_timestamp(0), current_time(3), localtime(1), localtimestamp(2), extract('year' from now())",
  "SELECT * FROM t WHERE a = 1 AND b = 'x' OR c IN (1, 2, 3) AND d BETWEEN 1 AND 2 AND e LIKE 'a%' ESCAPE '!'",
  'SELECT * FROM t WHERE a = $1 AND b = $2::text AND c = ANY($3) LIMIT $4 OFFSET $5',
  'SELECT * FROM t ORDER BY 1, 2 DESC LIMIT 10 OFFSET 20',
  'SELECT * FROM t FETCH FIRST 5 ROWS ONLY',
  'SELECT * FROM t ORDER BY a FETCH FIRST -1 ROWS WITH TIES',
  'SELECT * FROM t GROUP BY 1, rollup(2) HAVING count(*) > 3',
  "SELECT a AT TIME ZONE 'UTC', b COLLATE \"C\", overlay('abc' placing 'x' from 1 for 2), trim(both 'x' from 'xax')",
  "SELECT substring('abc' from 1 for 2), substring('abc' similar 'a' escape '#'), position('a' in 'b')",
  "SELECT CASE 1 WHEN 2 THEN 'a' WHEN 3 THEN 'b' ELSE 'c' END, coalesce(1, 2), nullif('a', 'b'), greatest(1, 2.5)",
  "SELECT set_config('a.b', 'c', true), set_config('a.b', 'c', 'true'), nextval('s'), f(1, x => 2, y := 'z')",
  'SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING)',
  "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a), string_agg(b, ',' ORDER BY c), string_agg(DISTINCT b, ';')",
  'SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (42), generate_series(1, 10, 2) WITH ORDINALITY g',
  "SELECT * FROM json_to_recordset('[{}]') AS x(a int, b varchar(3)), ROWS FROM (f(1), g('x')) AS y",
  "SELECT * FROM xmltable('/a' passing '<a/>' columns b int path '@b' default 5 not null, c for ordinality) x",
  "SELECT * FROM xmltable(xmlnamespaces('urn:x' AS x, default 'urn:y'), '/a' passing d columns b text path 'b') x",
  "SELECT xmlroot('<a/>', version '1.0', standalone yes), xmlelement(name a, xmlattributes('b' as c), 'd'), xmlpi(name a, 'b')",
  `SELECT json_value('{}', '$.a' passing 1 as x returning int default 5 on empty error on error), json('{}')`,
  `SELECT json_object('a': 1, 'b' value 2 absent on null), json_array(1, 'b' null on null), '{}' IS JSON, json_exists(j, '$.a')`,
  "SELECT * FROM json_table('[]', '$[*]' as p passing 1 as x columns (a int path '$.a' default 1 on empty, nested path '$.b' as q columns (c int path '$'), nested '$.d' columns (e for ordinality)))",
  "WITH RECURSIVE r(a) AS (VALUES (1) UNION ALL SELECT a + 1 FROM r WHERE a < 5) CYCLE a SET c TO 'y' DEFAULT 'n' USING p SELECT * FROM r",
  "WITH w AS (INSERT INTO t VALUES (1, 'a') RETURNING 1) SELECT 2 FROM w",
  "INSERT INTO t (a, b[1], c.d) VALUES (1, 'x', DEFAULT), (-2, E'y', NULL), ($1, $2, 3) ON CONFLICT (a) WHERE b = 1 DO UPDATE SET b = excluded.b || 'z', c = 5 WHERE t.a > 3 RETURNING a + 1",
  "INSERT INTO t OVERRIDING SYSTEM VALUE SELECT 1, 'x' FROM u WHERE a = 2",
  "UPDATE t SET a = 1, (b, c) = (2, 'x'), (d) = ROW (3), e[1] = 4 FROM u WHERE t.id = 5 AND u.id = '6' RETURNING *",
  'UPDATE ONLY t x SET a = a + -1 WHERE CURRENT OF c',
  "DELETE FROM t USING u WHERE t.a = 1 AND u.b IN ('x', 'y')",
  "MERGE INTO t USING (VALUES (1, 'a')) v(i, j) ON t.a = v.i WHEN MATCHED AND t.b > 5 THEN UPDATE SET b = 6 WHEN NOT MATCHED THEN INSERT VALUES (7, 'x') WHEN NOT MATCHED BY SOURCE THEN DELETE",
  "VALUES (1, 'a'), (2, 'b') ORDER BY 1 LIMIT 1",
  'TABLE t ORDER BY 1 LIMIT 2',
  "EXECUTE p(1, 'a', -2)",
  "CALL p(1, x => 'a')",
  'EXPLAIN SELECT 1',
  'EXPLAIN ANALYZE VERBOSE UPDATE t SET a = 1',
  "EXPLAIN (ANALYZE 0, FORMAT 'json', BUFFERS on) SELECT 1",
  "EXPLAIN /* c */ (ANALYZE 'false') DELETE FROM t WHERE a = 5",
  'EXPLAIN CREATE TABLE x WITH (fillfactor = 70) AS SELECT 1',
  'EXPLAIN EXECUTE p(1)',
  '(SELECT 1) UNION ALL (SELECT 2 LIMIT 3)',
  "SELECT 1; SELECT 'a'; ; UPDATE t SET a = 2",
  'SELECT 1; SET x = 1',
  ...[
    "SET x = 'a'",
    'BEGIN',
    "COPY t FROM STDIN WITH (DELIMITER ',')",
    'DO $$ BEGIN END $$',
    'CREATE TABLE t (a int DEFAULT 5)',
  ],
  ...['', ' ', ';', ' ;; ', '-- c', '/* c */', '/* /* */ */ ; -- x'],
  'SELECT/**/1/**/,/* /* nested */ * */2--x\n,3',
  'SELECT a+-1, a*-1, a<-.5, a@-.5, a->-1, a=-1, a!=-1, a<>-1, a||-1, @-1, a%-1, a^-1, a~-1',
  'SELECT a-- b\n, a/*b*/, a*/*b*/c, a+--b\n c, a<--b\nc, a@/*b*/c, 1-/*c*/-1, a<=/*c*/1, a=>/*c*/1',
  'SELECT 1..2, 1...5, 1. .5, a.5, $1.5, 0x1..2, 0x1.a, 0x1., 0b1.5, 1.5.5, 1 . 5, 1..a',
  "SELECT a$1$b$, $1$a$x$a$, 1$$x$$, 'a'$$b$$, $$a$$$$b$$, $$a$$'b', E'a'E'b', B'1''2', \"a\"'b', \"a\".5, 'a'b",
  "SELECT u&$$a$$, u&E'a', u& 'a', xu&'a', a&'b', n 'a', b 'a', e 'a', x 'a', U& \"a\", U&\"\\0061\"",
  "SELECT U&'!0061' UESCAPE '!', U&\"!0061\" UESCAPE '!', uescape FROM t",
  ...[
    "SELECT U&'\\00e9\\d83d\\de00'",
    "SELECT U&'\\d83d'",
    "SELECT U&'\\0000'",
    "SELECT U&'\\00'",
    "SELECT U&'\\'",
    "SELECT U&'\\+110000'",
  ],
  ...[
    "SELECT E'\\u00e9\\U0001F600\\ud83d\\ude00'",
    "SELECT E'\\ud83d'",
    "SELECT E'\\u0000'",
    "SELECT E'\\u12'",
    "SELECT E'\\'",
    "SELECT E'\\ude00'",
  ],
  ...[
    "SELECT E'\\x41\\101\\x4\\1'",
    "SELECT E'\\xe9'",
    "SELECT E'\\xc3\\xa9'",
    "SELECT E'\\0'",
    "SELECT E'\\400'",
    "SELECT E'\\xg\\é'",
    "SELECT E'\\b\\f\\n\\r\\t\\v\\q'",
  ],
  ...[
    'SELECT 1a',
    'SELECT 1_',
    'SELECT 1__0',
    'SELECT 0x',
    'SELECT 0xg',
    'SELECT 0b12',
    'SELECT 0o8',
    'SELECT 1e',
    'SELECT 1e+',
    'SELECT 1.5a',
    'SELECT 1e5e',
  ],
  ...[
    'SELECT $1a',
    'SELECT $1_0',
    'SELECT $99999999999',
    'SELECT $',
    'SELECT $a',
    'SELECT $a$b',
    'SELECT $$',
    'SELECT a$$b',
    'SELECT 1._5',
    'SELECT 0x1_',
    'SELECT 0x1$',
  ],
  ...[
    "SELECT 'a",
    'SELECT "a',
    'SELECT /* a',
    "SELECT B'1",
    "SELECT E'a\\'",
    'SELECT ""',
    'SELECT {',
    'SELECT \\',
    'SELECT a \\ b',
    'SELECT ~~~ 1',
  ],
  ...[
    'sElEcT 1',
    'selects 1',
    'SELECT1',
    '"select" 1',
    '1',
    "'a'",
    '$1',
    '- 1',
    'é',
    'SELECT é, Éa, a\u00a0b, 日本 FROM 表 WHERE 列 = 5',
  ],
  'SELECT a NOT IN (1), b NOT BETWEEN 1 AND 2, c::timestamp with time zone, d IS NOT DISTINCT FROM 1 ORDER BY e NULLS FIRST',
];

const FIRST = /^\s*(select|insert|update|delete|merge|with|values|table|explain|execute|call|\()/i;

/** Every string of the tests that looks like a statement, as its source has it: some are patterns, and no SQL at all. */
function fromTests(): string[] {
  const strings = /'((?:\\.|[^'\\\n])*)'|"((?:\\.|[^"\\\n])*)"|`((?:\\.|[^`\\])*)`/g;
  const found = sourceFiles('test/**/*.ts').flatMap(({ text }) =>
    [...text.matchAll(strings)].map(([, single, double, backtick]) => single ?? double ?? backtick ?? ''),
  );
  return found.filter(text => FIRST.test(text)).map(text => text.replaceAll('\\n', '\n').replaceAll(/\\(.)/g, '$1'));
}

/** All of them, each once. */
export const TEXTS: readonly string[] = [...new Set([...OWN, ...CORPUS.map(({ sql }) => sql), ...fromTests()])].filter(
  text => !hasCommentedGap(text) && !text.includes('\0') && text.isWellFormed() && !text.includes('\ufffd'),
);

/**
 * Whether a comment stands between the parts of a string: PostgreSQL passes over it, libpg-query does not.
 */
export function hasCommentedGap(text: string): boolean {
  return /'\s*--[^\n\r]*[\n\r](\s|--[^\n\r]*([\n\r]|$))*'/.test(text);
}

/** The statements of psql scripts below a folder, PostgreSQL's regression suite say, cut roughly. */
export function textsBelow(folder: string): Buffer[] {
  const scripts = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.sql'));
  const texts = new Set<string>();
  for (const name of scripts) {
    const lines = readFileSync(join(folder, name), 'latin1').replaceAll(/^\s*\\.*\n/gm, '');
    for (const part of lines.split(/;[ \t]*(?:--.*)?\n/)) texts.add(part).add(part.replace(/^(\s|--.*\n)+/, ''));
  }
  return [...texts].map(text => Buffer.from(text, 'latin1'));
}
