/** Asks a server, in one round trip, for the rows that a Catalog is made of. */
import type { ServerConnection } from '../server/connection.ts';
import { Exchange, OWED } from '../server/exchange.ts';
import { fieldsOf } from '../server/fields.ts';
import { ServerError, SilentOwner } from '../server/silent.ts';
import type {
  BaseRow,
  CallRow,
  CatalogRows,
  ColumnsRow,
  FunctionRow,
  Named,
  RelationRow,
  UseRow,
} from '../sql/catalog.ts';
import { Framer, PART } from '../wire/framer.ts';
import { query } from '../wire/frontend.ts';
import { BACKEND } from '../wire/protocol.ts';

/** What is asked for. */
export interface CensusOptions {
  /** Whether the columns of tables are wanted. */
  readonly columns: boolean;
  /** Functions, `name` or `schema.name`, that views and policies are searched for although they may not be volatile. */
  readonly functions: readonly string[];
}

/** Objects of one kind that are read at most; functions beyond it stay unknown, and so count as writes. */
const ROWS_MAX = 100_000;

/** The longest row that is held: the columns of a table with as many as there can be. */
const ROW_LENGTH_MAX = 1024 * 1024;

/**
 * Settings of the client before must not change the meaning of what follows, nor should the planner take a large
 * catalog without statistics for a small one. They end with the implicit transaction that all statements of one query
 * make.
 */
const SETTINGS = `SELECT pg_catalog.set_config(name, value, true) FROM (VALUES ('search_path', 'pg_catalog'),
  ('client_encoding', 'UTF8'), ('jit', 'off'), ('enable_nestloop', 'off')) AS settings (name, value)`;

/** An ID from which on objects are not PostgreSQL's own: FirstNormalObjectId. */
const FIRST_OID = 16_384;

/** The ids, as text, of functions that an expression in a catalog calls: it is written as a tree of nodes. */
const called = (tree: string) => `unnest(string_to_array(${tree}::text, 'funcid ')) AS call (words)`;

/** Volatility as the caller meets it: of an aggregate's parts too, and of what defaults of parameters call. */
const FUNCTIONS = `
SELECT 'function', n.nspname, p.proname,
  max(CASE
    WHEN a.aggfnoid IS NOT NULL AND EXISTS (SELECT FROM pg_proc part WHERE part.provolatile = 'v'
      AND part.oid = ANY (ARRAY[a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn]::oid[])) THEN 'v'
    WHEN defaulted.oid IS NOT NULL THEN 'v'
    ELSE p.provolatile::text END COLLATE "C"),
  bool_or(p.pronargs = 1 AND argument.typtype = 'c' AND p.provolatile = 'v')
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_type argument ON argument.oid = p.proargtypes[0]
LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
LEFT JOIN (
  SELECT DISTINCT d.oid FROM (SELECT p.oid, split_part(words, ' ', 1) AS id FROM pg_proc p, ${called('p.proargdefaults')}
    WHERE p.oid >= ${FIRST_OID}) AS d
  JOIN pg_proc f ON f.oid::text = d.id AND f.provolatile = 'v'
) AS defaulted ON defaulted.oid = p.oid
WHERE p.oid >= ${FIRST_OID} AND NOT starts_with(n.nspname, 'pg_temp_')
GROUP BY n.nspname, p.proname
ORDER BY 4 DESC LIMIT ${ROWS_MAX}`;

const OPERATORS = `
SELECT 'operator', n.nspname, o.oprname, p.provolatile, pn.nspname, p.proname
FROM pg_operator o
JOIN pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_proc p ON p.oid = o.oprcode
JOIN pg_namespace pn ON pn.oid = p.pronamespace
WHERE o.oid >= ${FIRST_OID}
ORDER BY p.provolatile DESC LIMIT ${ROWS_MAX}`;

/** Types whose values are made by a volatile function: input, cast, or a domain's check, also of a domain under it. */
const TYPES = `
WITH RECURSIVE made (type, function) AS (
  SELECT oid, typinput::oid FROM pg_type WHERE oid >= ${FIRST_OID}
  UNION SELECT casttarget, castfunc FROM pg_cast WHERE oid >= ${FIRST_OID}
  UNION SELECT k.contypid, f.oid FROM pg_constraint k, ${called('k.conbin')}
    JOIN pg_proc f ON f.oid::text = split_part(words, ' ', 1) WHERE k.contypid <> 0 AND k.oid >= ${FIRST_OID}
  UNION SELECT t.oid, made.function FROM made JOIN pg_type t ON t.typtype = 'd' AND t.typbasetype = made.type
)
SELECT 'type', n.nspname, t.typname, p.provolatile, pn.nspname, p.proname
FROM made
JOIN pg_type t ON t.oid = made.type
JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN pg_proc p ON p.oid = made.function AND p.provolatile = 'v'
JOIN pg_namespace pn ON pn.oid = p.pronamespace
LIMIT ${ROWS_MAX}`;

/** What speaks against reading relations, and who reads these relations. Functions `listed` count as volatile. */
const relations = (listed: string) => `
WITH RECURSIVE function AS (
  SELECT p.oid, p.oid::text AS id, n.nspname, p.proname, p.provolatile
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE p.provolatile = 'v' OR p.proname = ANY (${listed})
), view AS (
  SELECT r.oid, r.ev_class AS relation, r.ev_action::text AS tree
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class AND c.relkind = 'v' AND c.oid >= ${FIRST_OID}
  WHERE r.ev_type = '1'
), policy AS (
  SELECT p.oid, p.polrelid AS relation, p.polqual::text AS tree
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid AND c.relrowsecurity WHERE p.polcmd IN ('r', '*')
), note (relation, reason, function) AS (
  SELECT relation, 'volatile_view', f.oid FROM view, ${called('view.tree')} JOIN function f ON f.id = split_part(words, ' ', 1)
  UNION SELECT relation, 'volatile_view', f.oid FROM view
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = view.oid AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_aggregate a ON a.aggfnoid = d.refobjid JOIN function f ON f.oid IN (a.aggtransfn, a.aggfinalfn)
  UNION SELECT relation, 'volatile_view', NULL FROM view WHERE strpos(tree, ':hasForUpdate true') > 0
  UNION SELECT relation, 'row_security', f.oid FROM policy, ${called('policy.tree')} JOIN function f ON f.id = split_part(words, ' ', 1)
  UNION SELECT oid, 'unlogged_table', NULL FROM pg_class WHERE relpersistence = 'u' AND relkind IN ('r', 'p', 'S', 'm')
  UNION SELECT t.ftrelid, 'foreign_table', NULL FROM pg_foreign_table t JOIN pg_foreign_server s ON s.oid = t.ftserver
    JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE w.fdwname <> 'postgres_fdw'
), use (relation, used, child) AS (
  SELECT view.relation, d.refobjid, false FROM pg_depend d JOIN view ON view.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> view.relation
  UNION SELECT policy.relation, d.refobjid, false FROM pg_depend d JOIN policy ON policy.oid = d.objid
    WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> policy.relation
  UNION SELECT inhparent, inhrelid, true FROM pg_inherits
), reached (relation) AS (
  SELECT relation FROM note UNION SELECT use.relation FROM reached JOIN use ON use.used = reached.relation
), named AS (
  SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
)
(SELECT 'relation', r.nspname, r.relname, p.provolatile::text, pn.nspname, p.proname, note.reason
FROM note JOIN named r ON r.oid = note.relation
LEFT JOIN pg_proc p ON p.oid = note.function LEFT JOIN pg_namespace pn ON pn.oid = p.pronamespace
LIMIT ${ROWS_MAX})
UNION ALL
(SELECT 'use', r.nspname, r.relname, use.child::text, u.nspname, u.relname, NULL
FROM reached JOIN use ON use.used = reached.relation JOIN named r ON r.oid = use.relation JOIN named u ON u.oid = use.used
LIMIT ${ROWS_MAX})`;

const COLUMNS = `
SELECT 'columns', n.nspname, c.relname, array_to_json(array_agg(a.attname::text ORDER BY a.attnum))::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= ${FIRST_OID} AND NOT starts_with(n.nspname, 'pg_temp_')
GROUP BY n.nspname, c.relname LIMIT ${ROWS_MAX}`;

/** What views are made of. */
const BASES = `
SELECT DISTINCT 'base', n.nspname, c.relname, '', un.nspname, u.relname
FROM pg_rewrite r
JOIN pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm') AND c.oid >= ${FIRST_OID}
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
  AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
JOIN pg_class u ON u.oid = d.refobjid
JOIN pg_namespace un ON un.oid = u.relnamespace
WHERE r.ev_type = '1' AND NOT starts_with(n.nspname, 'pg_temp_') LIMIT ${ROWS_MAX}`;

/** The SQL of a census. It holds no backslash, as the client before may have made that an escape. */
export function censusSql({ columns, functions }: CensusOptions): string {
  const names = functions.map(name => name.slice(name.lastIndexOf('.') + 1)).filter(name => !/[\\\0]/.test(name));
  const listed = `ARRAY[${names.map(name => `'${name.replaceAll("'", "''")}'`).join(', ')}]::name[]`;
  return [SETTINGS, FUNCTIONS, OPERATORS, TYPES, relations(listed), ...(columns ? [COLUMNS, BASES] : [])].join(';\n');
}

/**
 * Reads the rows on a connection that nobody uses.
 * @throws ServerError the server's error, or the end of the connection
 */
export function takeCensus(connection: ServerConnection, options: CensusOptions): Promise<CatalogRows> {
  return new Promise((resolve, reject) => {
    const answer = new Answer(error => (error === undefined ? resolve(answer) : reject(new ServerError(error))));
    const exchange = new Exchange(answer, false);
    connection.enqueue(exchange);
    exchange.owe(OWED.query);
    connection.statements.unnamed = undefined;
    connection.write(query(censusSql(options)));
  });
}

/** Sorts the rows of all results by their first column as they come, so that many make no long stop. */
class Answer extends SilentOwner implements CatalogRows {
  readonly functions = new Map<string, FunctionRow[]>();
  readonly operators = new Map<string, CallRow[]>();
  readonly types = new Map<string, CallRow[]>();
  readonly relations = new Map<string, RelationRow[]>();
  readonly uses = new Map<string, UseRow[]>();
  readonly columns = new Map<string, ColumnsRow[]>();
  readonly bases = new Map<string, BaseRow[]>();

  readonly #framer = new Framer({ eager: [], held: { types: [BACKEND.dataRow], length_max: ROW_LENGTH_MAX } });

  override reply(bytes?: Buffer): void {
    if (bytes === undefined) return;
    const framer = this.#framer;
    framer.feed(bytes);
    for (let part = framer.next(); part !== PART.none && part !== PART.bad; part = framer.next()) {
      if (part === PART.whole && framer.type === BACKEND.dataRow) this.#row(fieldsOf(framer.buffer, framer.start));
    }
  }

  #row([what, schema = '', name = '', word = '', owner = '', called = '', reason]: readonly (
    | string
    | undefined
  )[]): void {
    const calls = { schema: owner, name: called, volatility: word };
    switch (what) {
      case 'function':
        return add(this.functions, { schema, name, volatility: word, of_row: owner === 't' });
      case 'operator':
        return add(this.operators, { schema, name, calls });
      case 'type':
        return add(this.types, { schema, name, calls });
      case 'relation':
        if (isReason(reason)) add(this.relations, { schema, name, reason, calls: called === '' ? undefined : calls });
        return;
      case 'use':
        return add(this.uses, { schema, name, uses: { schema: owner, name: called }, child: word === 'true' });
      case 'base':
        return add(this.bases, { schema, name, base: { schema: owner, name: called } });
      case 'columns':
        return add(this.columns, { schema, name, columns: JSON.parse(word) });
    }
  }
}

function add<Row extends Named>(rows: Map<string, Row[]>, row: Row): void {
  const same = rows.get(row.name);
  if (same === undefined) rows.set(row.name, [row]);
  else same.push(row);
}

function isReason(reason: string | undefined): reason is RelationRow['reason'] {
  return (
    reason === 'volatile_view' || reason === 'row_security' || reason === 'unlogged_table' || reason === 'foreign_table'
  );
}
